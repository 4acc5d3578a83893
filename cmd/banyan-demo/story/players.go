package story

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"banyan/cmd/banyan-demo/scene"
	"banyan/cmd/internal/play"
)

// crowd is everybody who plays, and the load balancer in front: where new connections go can be changed while they play.
type crowd struct {
	size  scene.Size
	rate  float64
	meter *meter

	mu   sync.Mutex // guards the field below, and what a line counts
	line *line      // of new requests

	shift *shift
	gone  play.Totals // of the shifts that have ended
}

// shift is players who logged in at about the same time.
type shift struct {
	*play.Driver
	closers []func()
	done    chan error
	others  sync.WaitGroup

	mu     sync.Mutex // guards what follows
	failed []string   // what went wrong for those who watch and trade
	traded int        // iron sold and bought by the traders
}

// traders are the last players of a match, whom package play leaves alone.
const traders = 2

func newCrowd(size scene.Size, rate float64) *crowd {
	c := &crowd{size: size, rate: rate}
	c.meter = &meter{next: c}
	return c
}

// players is how many play.
func (c *crowd) players() int { return c.size.Matches * (c.size.Players - traders) }

// line carries requests to one address.
type line struct {
	*http.Transport
	asking int // requests without an answer
	open   int // connections
}

func (c *crowd) newLine(addr string) *line {
	l := &line{Transport: &http.Transport{MaxIdleConnsPerHost: c.size.Matches * c.size.Players, DisableCompression: true}}
	l.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", addr)
		if err != nil {
			return nil, err
		}
		c.count(&l.open, 1)
		return &counted{Conn: conn, closed: func() { c.count(&l.open, -1) }}, nil
	}
	return l
}

func (c *crowd) count(what *int, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*what += n
}

// RoundTrip asks where requests go now.
func (c *crowd) RoundTrip(r *http.Request) (*http.Response, error) {
	c.mu.Lock()
	l := c.line
	l.asking++
	c.mu.Unlock()
	defer c.count(&l.asking, -1)
	return l.Transport.RoundTrip(r)
}

// counted tells of its end once.
type counted struct {
	net.Conn
	once   sync.Once
	closed func()
}

// Close ends the connection.
func (c *counted) Close() error {
	c.once.Do(c.closed)
	return c.Conn.Close()
}

// switchTo sends new requests to addr, and waits until no connection is left elsewhere: what is under way ends where it
// began.
func (c *crowd) switchTo(ctx context.Context, addr string) error {
	l := c.newLine(addr)
	c.mu.Lock()
	old := c.line
	c.line = l
	c.mu.Unlock()
	for old != nil {
		c.mu.Lock()
		asking, open := old.asking, old.open
		c.mu.Unlock()
		if asking == 0 {
			// Not before: net/http keeps a connection as idle a moment before it hands over an answer without a body,
			// and would then close it under that answer.
			old.CloseIdleConnections()
			if open == 0 {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d connections did not leave: %w", open, ctx.Err())
		case <-time.After(10 * time.Millisecond): // answers under way have no common signal
		}
	}
	return nil
}

// begin has everybody log in and play, in the place of those who played before.
func (c *crowd) begin(ctx context.Context) error {
	d, err := play.New(play.Config{BaseURL: "http://game.example", Players: c.players(), Matches: c.size.Matches, Rate: c.rate, Seed: 1, Transport: c.meter})
	if err != nil {
		return err
	}
	if err := c.end(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &shift{Driver: d, closers: []func(){cancel}, done: make(chan error, 1)}
	go func() { s.done <- d.Run(ctx) }()    // ends with the shift
	s.others.Go(func() { c.watch(ctx, s) }) // so does this
	c.shift = s
	return nil
}

// watch is a browser in each match whose page polls by itself: the map, and the list of its own units without saying
// whose, which is a route of its own and which the players of package play never ask for.
func (c *crowd) watch(ctx context.Context, s *shift) {
	var open []*play.Session
	pace(ctx, 40*time.Millisecond, func() {
		if m := len(open); m < c.size.Matches {
			b, err := c.login(ctx, m+1, 1)
			if s.note(ctx, err); err == nil {
				open = append(open, b)
			}
			return
		}
		var out struct{ Units []struct{} }
		s.note(ctx, open[rand.IntN(len(open))].Poll(ctx, []string{"map", "units"}[rand.IntN(2)], nil, &out))
	})
}

// trade opens the market for the rest of the shift: in one match after the other the last two players, who never did
// anything before, sell and buy iron.
func (c *crowd) trade(ctx context.Context) {
	s := c.shift
	ctx, cancel := context.WithCancel(ctx)
	s.closers = append(s.closers, cancel)
	match := 0
	s.others.Go(func() {
		pace(ctx, 500*time.Millisecond, func() {
			match = match%c.size.Matches + 1
			s.note(ctx, c.sell(ctx, s, match))
		})
	})
}

// sell is one trade.
func (c *crowd) sell(ctx context.Context, s *shift, match int) error {
	seller, err := c.login(ctx, match, c.size.Players)
	if err != nil {
		return err
	}
	buyer, err := c.login(ctx, match, c.size.Players-1)
	if err != nil {
		return err
	}
	offer, err := seller.JSON(ctx, "offer", map[string]any{"give_type": "iron", "give_amount": 2, "want_type": "gold", "want_amount": 12})
	if err != nil || offer.Refusal != "" { // the purse may be empty, or five offers open
		return err
	}
	bought, err := buyer.JSON(ctx, "accept", map[string]any{"trade": offer.ID})
	if err == nil && bought.Refusal == "" {
		s.mu.Lock()
		s.traded++
		s.mu.Unlock()
	}
	return err
}

func (c *crowd) login(ctx context.Context, match, n int) (*play.Session, error) {
	b, err := play.NewSession("http://game.example", "", c.meter, nil)
	if err != nil {
		return nil, err
	}
	return b, b.Login(ctx, fmt.Sprintf("p%d_%d", match, n), "secret")
}

// pace does something again and again until ctx ends. What is under way is ended, so that no outcome is unknown.
func pace(ctx context.Context, pause time.Duration, do func()) {
	for ctx.Err() == nil {
		do()
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause): // a player's pace
		}
	}
}

// note remembers what a watcher saw go wrong, if it was not its own end.
func (s *shift) note(ctx context.Context, err error) {
	if err == nil || ctx.Err() != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = append(s.failed, "error: "+err.Error())
}

// end sends the players home once they have their answers.
func (c *crowd) end() error {
	if c.shift == nil {
		return nil
	}
	for _, end := range c.shift.closers {
		end()
	}
	err := <-c.shift.done
	c.shift.others.Wait()
	c.gone = c.totals()
	c.shift = nil
	return err
}

// totals is what happened to everybody so far.
func (c *crowd) totals() play.Totals {
	t := c.gone
	if c.shift == nil {
		return t
	}
	now := c.shift.Totals()
	c.shift.mu.Lock()
	failed := slices.Clone(c.shift.failed)
	c.shift.mu.Unlock()
	t.Requests += now.Requests
	t.Errors += now.Errors + len(failed)
	t.Done += now.Done
	t.Missed += now.Missed
	t.Examples = slices.Concat(t.Examples, now.Examples, failed)
	return t
}

// traded is how much iron the traders of this shift have sold.
func (c *crowd) traded() int {
	c.shift.mu.Lock()
	defer c.shift.mu.Unlock()
	return c.shift.traded
}
