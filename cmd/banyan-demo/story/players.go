package story

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"

	"banyan/cmd/banyan-demo/scene"
	"banyan/cmd/internal/play"
)

// crowd is everybody who plays, and the load balancer in front: where new connections go can be changed while they play.
type crowd struct {
	size      scene.Size
	rate      float64
	transport *http.Transport

	mu   sync.Mutex // guards the fields below
	to   string
	open map[string]int // connections by address

	shift *shift
	gone  play.Totals // of the shifts that have ended
}

// shift is players who logged in at about the same time.
type shift struct {
	*play.Driver
	cancel context.CancelFunc
	done   chan error
	others sync.WaitGroup

	mu     sync.Mutex // guards what follows
	failed []error    // of those who watch
}

func newCrowd(size scene.Size, rate float64) *crowd {
	c := &crowd{size: size, rate: rate, open: map[string]int{}}
	c.transport = &http.Transport{MaxIdleConnsPerHost: size.Matches * size.Players, DisableCompression: true, DialContext: c.dial}
	return c
}

func (c *crowd) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	c.mu.Lock()
	to := c.to
	c.mu.Unlock()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", to)
	if err != nil {
		return nil, err
	}
	c.count(to, 1)
	return &counted{Conn: conn, closed: func() { c.count(to, -1) }}, nil
}

func (c *crowd) count(to string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open[to] += n
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

// switchTo sends new connections to addr, and waits until none is left elsewhere: what is under way ends where it began.
func (c *crowd) switchTo(ctx context.Context, addr string) error {
	c.mu.Lock()
	c.to = addr
	c.mu.Unlock()
	for {
		c.transport.CloseIdleConnections()
		left := 0
		c.mu.Lock()
		for to, n := range c.open {
			if to != addr {
				left += n
			}
		}
		c.mu.Unlock()
		if left == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d connections did not leave: %w", left, ctx.Err())
		case <-time.After(10 * time.Millisecond): // answers under way have no common signal
		}
	}
}

// begin has everybody log in and play, in the place of those who played before.
func (c *crowd) begin(ctx context.Context) error {
	d, err := play.New(play.Config{BaseURL: "http://game.example", Players: c.size.Matches * c.size.Players, Matches: c.size.Matches, Rate: c.rate, Seed: 1, Transport: c.transport})
	if err != nil {
		return err
	}
	if err := c.end(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &shift{Driver: d, cancel: cancel, done: make(chan error, 1)}
	go func() { s.done <- d.Run(ctx) }()    // ends with the shift
	s.others.Go(func() { c.watch(ctx, s) }) // and so does this
	c.shift = s
	return nil
}

// watch is a browser in each match that has nothing but the list of its own units open, which the players of package play
// never ask for without saying whose: a route of its own.
func (c *crowd) watch(ctx context.Context, s *shift) {
	var open []*play.Session
	for ctx.Err() == nil {
		if m := len(open); m < c.size.Matches {
			b, err := play.NewSession("http://game.example", "", c.transport, nil)
			if err == nil {
				err = b.Login(ctx, fmt.Sprintf("p%d_1", m+1), "secret")
			}
			s.note(ctx, err)
			open = append(open, b)
		} else {
			var units struct{ Units []struct{ ID int } }
			s.note(ctx, open[rand.IntN(m)].Poll(ctx, "units", nil, &units))
		}
		select {
		case <-ctx.Done():
		case <-time.After(80 * time.Millisecond): // its pace
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
	s.failed = append(s.failed, err)
}

// end sends the players home once they have their answers.
func (c *crowd) end() error {
	if c.shift == nil {
		return nil
	}
	c.shift.cancel()
	err := <-c.shift.done
	c.shift.others.Wait()
	t := c.shift.Totals()
	c.gone.Requests += t.Requests
	c.gone.Errors += t.Errors
	c.gone.Done += t.Done
	c.gone.Missed += t.Missed
	c.gone.Examples = append(c.gone.Examples, t.Examples...)
	for _, e := range c.shift.failed {
		c.gone.Errors++
		c.gone.Examples = append(c.gone.Examples, "error: "+e.Error())
	}
	c.shift = nil
	return err
}

// totals is what happened to everybody so far.
func (c *crowd) totals() play.Totals {
	t := c.gone
	if c.shift != nil {
		now := c.shift.Totals()
		t.Requests += now.Requests
		t.Errors += now.Errors
		t.Done += now.Done
		t.Missed += now.Missed
		t.Examples = append(t.Examples[:len(t.Examples):len(t.Examples)], now.Examples...)
	}
	return t
}
