package play

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// Config says who plays, where and how fast.
type Config struct {
	// BaseURL is where the game is, for example http://127.0.0.1:8080. Required.
	BaseURL string
	// Host replaces the Host field. Empty: that of BaseURL.
	Host string
	// Players is how many play at once, spread evenly over the matches. 0 means 10.
	Players int
	// Matches is how many matches are played, from 1 on. 0 means 1. Match m needs
	// players named p<m>_1, p<m>_2 and so on.
	Matches int
	// Password is everybody's. Empty means "secret".
	Password string
	// Rate is how many things all players together do per second, at random (Poisson)
	// intervals. A thing is one request, or an order and the look at what became of it at
	// once: one to three. 0: everybody goes on at once.
	Rate float64
	// Requests ends the run after so many, give or take what is under way. 0: the
	// context does.
	Requests int
	// Seed makes players decide the same given the same answers.
	Seed uint64
	// Run begins every client_ref, so that two runs on one database can be told
	// apart. Empty: made from the time. At most 16 of [A-Za-z0-9._-].
	Run string
	// Timeout bounds one request. 0 means 10 s.
	Timeout time.Duration
	// Transport carries the requests. Nil: one of the driver's own, which keeps a
	// connection for each player.
	Transport http.RoundTripper
	// Wrote, if not nil, hears of every write once its outcome is known, from many
	// goroutines at once.
	Wrote func(Write)
}

// Outcome is what a player knows about a write.
type Outcome string

// What a player may know.
const (
	Done    Outcome = "done"
	Refused Outcome = "refused"
	Unknown Outcome = "unknown" // the answer never came, or made no sense
)

// Write is one write.
type Write struct {
	Match, Player int
	Action        string
	Ref           string // the client_ref
	Outcome       Outcome
}

// Validate names the first field that makes no sense.
func (c Config) Validate() error {
	switch {
	case c.BaseURL == "":
		return errors.New("play: BaseURL is empty")
	case c.Players < 0, c.Matches < 0, c.Rate < 0, c.Requests < 0, c.Timeout < 0:
		return fmt.Errorf("play: Players %d, Matches %d, Rate %g, Requests %d and Timeout %s must not be negative", c.Players, c.Matches, c.Rate, c.Requests, c.Timeout)
	case len(c.Run) > 16:
		return fmt.Errorf("play: Run %q has more than 16 characters, and a client_ref holds 40", c.Run)
	}
	return nil
}

// Driver plays.
type Driver struct {
	cfg  Config
	pace *pacer

	mu     sync.Mutex // guards the fields below
	all    *tally
	window *tally
	enough func() // ends the run
}

// New checks the configuration and asks nothing of the server.
func New(cfg Config) (*Driver, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.Players = cmp.Or(cfg.Players, 10)
	cfg.Matches = cmp.Or(cfg.Matches, 1)
	cfg.Password = cmp.Or(cfg.Password, "secret")
	cfg.Timeout = cmp.Or(cfg.Timeout, 10*time.Second)
	cfg.Run = cmp.Or(cfg.Run, fmt.Sprintf("%x", time.Now().UnixNano()))
	return &Driver{
		cfg:    cfg,
		pace:   newPacer(cfg.Rate, rand.New(rand.NewPCG(cfg.Seed, 0))),
		all:    &tally{},
		window: &tally{},
		enough: func() {},
	}, nil
}

// Run plays until the context ends or the requests are done, and then until the requests under way have been
// answered. It fails only if a player cannot be made.
func (d *Driver) Run(ctx context.Context) error {
	transport := d.cfg.Transport
	if transport == nil {
		own := &http.Transport{MaxIdleConnsPerHost: d.cfg.Players, DisableCompression: true}
		defer own.CloseIdleConnections()
		transport = own
	}
	players := make([]*player, d.cfg.Players)
	for i := range players {
		p, err := d.newPlayer(i, transport)
		if err != nil {
			return err
		}
		players[i] = p
	}
	ctx, enough := context.WithCancel(ctx)
	defer enough()
	d.setEnough(enough)
	var all sync.WaitGroup
	for _, p := range players {
		all.Go(func() { p.play(ctx) })
	}
	all.Wait()
	return nil
}

// Totals is what happened since New.
func (d *Driver) Totals() Totals {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.all.totals()
}

// Window is what happened since the last call of Window, or New.
func (d *Driver) Window() Totals {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := d.window
	d.window = &tally{}
	return w.totals()
}

// count tells both tallies. Window swaps under the same lock, so nothing is counted
// into a window that was already read.
func (d *Driver) count(f func(*tally)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f(d.all)
	f(d.window)
	if d.cfg.Requests > 0 && d.all.requests >= d.cfg.Requests {
		d.enough()
	}
}

func (d *Driver) setEnough(enough func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.enough = enough
}

// pacer gives turns: at random intervals whose mean is that of the rate.
type pacer struct {
	mean time.Duration // 0: no waiting

	mu   sync.Mutex // guards the fields below
	rng  *rand.Rand
	next time.Time
}

// arrears is how much unused time a pacer makes up for after a stall.
const arrears = time.Second

func newPacer(rate float64, rng *rand.Rand) *pacer {
	p := &pacer{rng: rng}
	if rate > 0 {
		p.mean = time.Duration(float64(time.Second) / rate)
	}
	return p
}

// turn waits for the caller's turn, or for the end of the context.
func (p *pacer) turn(ctx context.Context) error {
	if p.mean == 0 {
		return ctx.Err()
	}
	p.mu.Lock()
	now := time.Now()
	switch {
	case p.next.IsZero():
		p.next = now
	case now.Sub(p.next) > arrears:
		p.next = now.Add(-arrears)
	}
	p.next = p.next.Add(time.Duration(p.rng.ExpFloat64() * float64(p.mean)))
	wait := p.next.Sub(now)
	p.mu.Unlock()
	return pause(ctx, wait)
}

func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
