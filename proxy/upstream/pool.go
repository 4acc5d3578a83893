package upstream

import (
	"context"
	"net"
	"sync"
	"time"
)

// Pool is an Upstream of HTTP/1.1 connections over TCP or a unix socket.
type Pool struct {
	cfg           Config
	network, addr string
	dialer        net.Dialer

	mu      sync.Mutex // guards all below
	idle    []*conn    // the youngest last, and used first
	open    int        // connections, idle ones and those being dialled included
	waiting []chan *conn
	closed  bool
	reaper  *time.Timer
	reaping bool // the timer runs
}

var _ Upstream = (*Pool)(nil)

// New makes a pool; nothing is dialled before the first request.
func New(cfg Config) (*Pool, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	p := &Pool{cfg: cfg}
	p.network, p.addr, _ = cfg.address()
	p.reaper = time.AfterFunc(time.Hour, p.reap)
	p.reaper.Stop()
	return p, nil
}

// Name is the configured name.
func (p *Pool) Name() string { return p.cfg.Name }

// Close closes idle connections, and the others as they are released. Get fails from then on.
func (p *Pool) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.reaper.Stop()
	for _, c := range p.idle {
		c.nc.Close()
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
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Stats{p.open, len(p.idle), len(p.waiting)}
}

// Get implements Upstream.
func (p *Pool) Get(t Timeouts, fresh bool) (Conn, error) {
	c, err := p.get(t, fresh)
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (p *Pool) get(t Timeouts, fresh bool) (*conn, error) {
	now := Now()
	wait := p.cfg.Timeouts.Dial
	if t.Dial > 0 {
		wait = t.Dial
	}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, p.fail("connect", Dial, errClosed)
	}
	for n := len(p.idle); n > 0; n = len(p.idle) {
		c := p.idle[n-1]
		if fresh && p.open < p.cfg.MaxConns {
			break
		}
		p.idle[n-1] = nil
		p.idle = p.idle[:n-1]
		if !fresh && c.expires > now {
			p.mu.Unlock()
			c.reused = true
			return c, nil
		}
		p.open--
		c.nc.Close()
	}
	if p.open >= p.cfg.MaxConns {
		c, err := p.waitLocked(wait)
		if c != nil && fresh {
			c.nc.Close() // and dial in its place
		} else if c != nil || err != nil {
			return c, err
		}
	} else {
		p.open++
		p.mu.Unlock()
	}
	return p.dial(wait)
}

// waitLocked queues for a connection (FIFO) and unlocks. A nil connection is the permission to dial one.
func (p *Pool) waitLocked(wait time.Duration) (*conn, error) {
	w := make(chan *conn, 1)
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
			return nil, p.fail("wait for a connection", Busy, errBusy)
		}
	}
	p.mu.Unlock()
	c, ok := <-w // it was handed over while the time ran out
	return p.handed(c, ok)
}

func (p *Pool) handed(c *conn, ok bool) (*conn, error) {
	if !ok {
		return nil, p.fail("connect", Dial, errClosed)
	}
	if c != nil {
		c.reused = true
	}
	return c, nil
}

// dial makes a connection for a place already counted in open.
func (p *Pool) dial(wait time.Duration) (*conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	nc, err := p.dialer.DialContext(ctx, p.network, p.addr)
	if err != nil {
		p.free()
		class := Dial
		if ctx.Err() != nil {
			class = Timeout
		}
		return nil, p.fail("connect", class, err)
	}
	c, err := newConn(p, nc)
	if err != nil {
		nc.Close()
		p.free()
		return nil, p.fail("connect", Dial, err)
	}
	return c, nil
}

func (p *Pool) fail(doing string, class Class, err error) *Error {
	return &Error{Upstream: p.cfg.Name, Doing: doing, Class: class, Err: err}
}

// free gives the place of a closed connection to the next in the queue.
func (p *Pool) free() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w := p.nextLocked(); w != nil {
		w <- nil
		return
	}
	p.open--
}

func (p *Pool) nextLocked() chan *conn {
	if len(p.waiting) == 0 {
		return nil
	}
	w := p.waiting[0]
	p.waiting = append(p.waiting[:0], p.waiting[1:]...)
	return w
}

// put takes a connection back that may carry another request.
func (p *Pool) put(c *conn) {
	p.mu.Lock()
	if p.closed || len(p.waiting) == 0 && len(p.idle) >= p.cfg.MaxIdle {
		p.mu.Unlock()
		c.nc.Close()
		p.free()
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
func (p *Pool) reap() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, kept := Now(), p.idle[:0]
	for _, c := range p.idle {
		if c.expires > now {
			kept = append(kept, c)
			continue
		}
		p.open--
		c.nc.Close()
	}
	clear(p.idle[len(kept):])
	p.idle = kept
	if p.reaping = len(kept) > 0 && !p.closed; p.reaping {
		p.reaper.Reset(p.cfg.IdleTimeout)
	}
}
