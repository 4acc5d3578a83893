package upstream

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"
)

// Link is what Links asks of a connection.
type Link interface {
	comparable
	// Close closes the connection.
	Close() error
	// Expires is the time (Now) from which it must not be used again.
	Expires() int64
	// Again says that it is about to carry another request.
	Again()
}

// LinksConfig bounds Links. All fields are required.
type LinksConfig struct {
	Name              string
	Network, Addr     string
	MaxConns, MaxIdle int
	IdleTimeout, Dial time.Duration
	MaxConnsName      string // what an operator calls MaxConns
}

// Links are the connections to one backend, whatever they carry: bounded in all, kept while idle, waited for in order.
type Links[C Link] struct {
	cfg    LinksConfig
	wrap   func(net.Conn) (C, error)
	dialer net.Dialer

	mu      sync.Mutex // guards all below
	idle    []C        // the youngest last, and used first
	open    int        // connections, idle ones and those being dialled included
	waiting []chan C
	closed  bool
	reaper  *time.Timer
	reaping bool // the timer runs
}

// NewLinks makes a pool whose connections wrap makes; nothing is dialled before the first Get.
func NewLinks[C Link](cfg LinksConfig, wrap func(net.Conn) (C, error)) *Links[C] {
	p := &Links[C]{cfg: cfg, wrap: wrap}
	p.reaper = time.AfterFunc(time.Hour, p.reap)
	p.reaper.Stop()
	return p
}

// Close closes idle connections, and the others as they are put back. Get fails from then on.
func (p *Links[C]) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.reaper.Stop()
	for _, c := range p.idle {
		c.Close()
	}
	p.open -= len(p.idle)
	p.idle = nil
	for _, w := range p.waiting {
		close(w)
	}
	p.waiting = nil
}

// Stats are a pool's numbers at one moment.
type Stats struct{ Open, Idle, Waiting int }

// Stats tells how many connections there are.
func (p *Links[C]) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Stats{p.open, len(p.idle), len(p.waiting)}
}

// Get gives a connection, an idle one unless fresh is set. It waits up to dial for one, or as configured when that is 0.
func (p *Links[C]) Get(dial time.Duration, fresh bool) (c C, err error) {
	now := Now()
	wait := p.cfg.Dial
	if dial > 0 {
		wait = dial
	}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return c, p.fail("connect", Dial, errClosed)
	}
	var none C
	for n := len(p.idle); n > 0; n = len(p.idle) {
		c := p.idle[n-1]
		if fresh && p.open < p.cfg.MaxConns {
			break
		}
		p.idle[n-1] = none
		p.idle = p.idle[:n-1]
		if !fresh && c.Expires() > now {
			p.mu.Unlock()
			c.Again()
			return c, nil
		}
		p.open--
		c.Close()
	}
	if p.open >= p.cfg.MaxConns {
		c, err := p.waitLocked(wait)
		if c != none && fresh {
			c.Close() // and dial in its place
		} else if c != none || err != nil {
			return c, err
		}
	} else {
		p.open++
		p.mu.Unlock()
	}
	return p.dial(wait)
}

// waitLocked queues for a connection (FIFO) and unlocks. The zero connection is the permission to dial one.
func (p *Links[C]) waitLocked(wait time.Duration) (c C, err error) {
	w := make(chan C, 1)
	p.waiting = append(p.waiting, w)
	p.mu.Unlock()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case c, ok := <-w:
		return p.handed(c, ok)
	case <-timer.C:
	}
	p.mu.Lock()
	for i, x := range p.waiting {
		if x == w {
			p.waiting = append(p.waiting[:i], p.waiting[i+1:]...)
			p.mu.Unlock()
			return c, p.fail("wait for a connection", Busy, fmt.Errorf("%w; check the backend's latency, or raise %s", errBusy, p.cfg.MaxConnsName))
		}
	}
	p.mu.Unlock()
	c, ok := <-w // it was handed over while the time ran out
	return p.handed(c, ok)
}

func (p *Links[C]) handed(c C, ok bool) (C, error) {
	var none C
	if !ok {
		return none, p.fail("connect", Dial, errClosed)
	}
	if c != none {
		c.Again()
	}
	return c, nil
}

// dial makes a connection for a place already counted in open.
func (p *Links[C]) dial(wait time.Duration) (c C, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	nc, err := p.dialer.DialContext(ctx, p.cfg.Network, p.cfg.Addr)
	if err != nil {
		p.Free()
		class := Dial
		if ctx.Err() != nil {
			class = Timeout
		}
		return c, p.fail("connect", class, err)
	}
	if c, err = p.wrap(nc); err != nil {
		nc.Close()
		p.Free()
		return c, p.fail("connect", Dial, err)
	}
	return c, nil
}

func (p *Links[C]) fail(doing string, class Class, err error) *Error {
	return &Error{Upstream: p.cfg.Name, Doing: doing, Class: class, Err: err}
}

// Free gives the place of a connection that the caller has closed to the next in the queue.
func (p *Links[C]) Free() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w := p.nextLocked(); w != nil {
		var none C
		w <- none
		return
	}
	p.open--
}

func (p *Links[C]) nextLocked() chan C {
	if len(p.waiting) == 0 {
		return nil
	}
	w := p.waiting[0]
	p.waiting = append(p.waiting[:0], p.waiting[1:]...)
	return w
}

// Put takes a connection back that may carry another request.
func (p *Links[C]) Put(c C) {
	p.mu.Lock()
	if p.closed || len(p.waiting) == 0 && len(p.idle) >= p.cfg.MaxIdle {
		p.mu.Unlock()
		c.Close()
		p.Free()
		return
	}
	if w := p.nextLocked(); w != nil {
		p.mu.Unlock()
		w <- c
		return
	}
	if !p.reaping {
		p.reaping = true
		p.reaper.Reset(p.cfg.IdleTimeout)
	}
	p.idle = append(p.idle, c)
	p.mu.Unlock()
}

// reap closes idle connections that expired. It runs once per IdleTimeout while there are any.
func (p *Links[C]) reap() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, kept := Now(), p.idle[:0]
	for _, c := range p.idle {
		if c.Expires() > now {
			kept = append(kept, c)
			continue
		}
		p.open--
		c.Close()
	}
	clear(p.idle[len(kept):])
	p.idle = kept
	if p.reaping = len(kept) > 0 && !p.closed; p.reaping {
		p.reaper.Reset(p.cfg.IdleTimeout)
	}
}

// Pool is an Upstream of HTTP/1.1 connections over TCP or a unix socket.
type Pool struct {
	cfg   Config
	links *Links[*conn]
}

var _ Upstream = (*Pool)(nil)

// New makes a pool; nothing is dialled before the first request.
func New(cfg Config) (*Pool, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	network, addr, _ := cfg.address()
	p := &Pool{cfg: cfg}
	p.links = NewLinks(LinksConfig{Name: cfg.Name, Network: network, Addr: addr, MaxConns: cfg.MaxConns, MaxIdle: cfg.MaxIdle,
		IdleTimeout: cfg.IdleTimeout, Dial: cfg.Timeouts.Dial, MaxConnsName: "max_conns"},
		func(nc net.Conn) (*conn, error) { return newConn(p, nc) })
	return p, nil
}

// Name is the configured name.
func (p *Pool) Name() string { return p.cfg.Name }

// Get implements Upstream.
func (p *Pool) Get(t Timeouts, fresh bool) (Conn, error) {
	c, err := p.links.Get(t.Dial, fresh)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Stats tells how many connections there are.
func (p *Pool) Stats() Stats { return p.links.Stats() }

// Close closes idle connections, and the others as they are released. Get fails from then on.
func (p *Pool) Close() { p.links.Close() }
