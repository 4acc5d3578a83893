package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"banyan/proxy/upstream"
)

// Handler answers requests. Serve is called once per request, on the goroutine of its connection or stream; the exchange
// and all that it gave out is reused when Serve has returned.
type Handler interface {
	Serve(x *Exchange)
}

// ErrServerClosed is what Serve returns after Shutdown.
var ErrServerClosed = errors.New("server is shut down")

// Server accepts connections and serves them, one goroutine each.
type Server struct {
	cfg       atomic.Pointer[Config]
	handler   Handler
	observer  Observer
	log       *slog.Logger
	exchanges sync.Pool
	draining  atomic.Bool
	refused   atomic.Int64
	turned    atomic.Int64 // refused because their client had too many
	strangers atomic.Int64 // closed because of their PROXY header
	warned    atomic.Int64 // upstream.Now when that was last logged
	buffered  atomic.Int64 // of Config.MaxBuffered: bodies, and windows of HTTP/2
	overflow  atomic.Int64
	tunnels   tunnels
	turns     *turns

	mu        sync.Mutex // guards listeners, conns, clients and the order of draining against them
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
	clients   map[netip.Addr]int // connections by client, where MaxConnsPerClient bounds them
}

// NewServer makes a server. observer may be nil; log may be nil.
func NewServer(cfg Config, h Handler, observer Observer, log *slog.Logger) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Server{handler: h, observer: observer, log: log, turns: newTurns(),
		listeners: map[net.Listener]struct{}{}, conns: map[*conn]struct{}{}, clients: map[netip.Addr]int{}}
	cfg = cfg.withDefaults()
	s.cfg.Store(&cfg)
	s.exchanges.New = func() any { return newExchange() }
	return s, nil
}

// Configure replaces the config for connections that are accepted from now on; one that is open keeps what it began
// with. A bad config leaves the old one.
func (s *Server) Configure(cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	cfg = cfg.withDefaults()
	s.cfg.Store(&cfg)
	return nil
}

// Listen opens host:port or unix:/path/to/socket. A socket file without a listener behind it is replaced.
func Listen(addr string) (net.Listener, error) {
	path, ok := strings.CutPrefix(addr, "unix:")
	if !ok {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return nil, fmt.Errorf("listen on %q (want host:port or unix:/path): %w", addr, err)
		}
		return l, nil
	}
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return nil, fmt.Errorf("listen on %q: another process listens there", addr)
	}
	if fi, err := os.Lstat(path); err == nil && fi.Mode()&os.ModeSocket != 0 {
		os.Remove(path)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on %q: %w", addr, err)
	}
	return l, nil
}

// Serve accepts connections of l until Shutdown, and then returns ErrServerClosed.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	if s.draining.Load() {
		s.mu.Unlock()
		l.Close()
		return ErrServerClosed
	}
	s.listeners[l] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.listeners, l)
		s.mu.Unlock()
		l.Close()
	}()
	for delay := time.Duration(0); ; {
		nc, err := l.Accept()
		if err == nil {
			delay = 0
			s.start(nc)
			continue
		}
		if s.draining.Load() {
			return ErrServerClosed
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("accept on %s: %w", l.Addr(), err)
		}
		// Out of descriptors, most likely: connections that end give some back.
		delay = min(max(5*time.Millisecond, 2*delay), time.Second)
		s.log.Warn("accept: trying again", "err", err, "in", delay)
		time.Sleep(delay)
	}
}

const full = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"

// start serves a new connection, or refuses it when there are too many.
func (s *Server) start(nc net.Conn) {
	c := newConn(s, nc)
	s.mu.Lock()
	if len(s.conns) >= c.cfg.MaxConns { // one that came while the server began to drain is served, and told that it ends
		s.mu.Unlock()
		s.refused.Add(1)
		c.refuse()
		return
	}
	if !s.admitLocked(c) {
		s.mu.Unlock()
		s.turned.Add(1)
		c.refuse()
		return
	}
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	go c.serve()
}

// admitLocked counts the connection as its client's, if he may have one more.
func (s *Server) admitLocked(c *conn) bool {
	if c.cfg.MaxConnsPerClient == 0 {
		c.client = netip.Addr{} // it is not counted, also if there is a bound when it ends
	}
	if !c.client.IsValid() {
		return true
	}
	if s.clients[c.client] >= c.cfg.MaxConnsPerClient {
		c.client = netip.Addr{}
		return false
	}
	s.clients[c.client]++
	return true
}

// refuse closes a connection that is one too many.
func (c *conn) refuse() {
	if !c.secure { // over TLS, a word would take a handshake first
		c.nc.SetWriteDeadline(time.Now().Add(time.Millisecond))
		c.nc.Write([]byte(full))
	}
	c.nc.Close()
}

func (s *Server) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if n, ok := s.clients[c.client]; ok && n > 1 {
		s.clients[c.client] = n - 1
	} else {
		delete(s.clients, c.client)
	}
}

// Stats are a server's numbers at one moment.
type Stats struct {
	Conns   int   // open connections
	Refused int64 // connections answered with 503, since the start
	// Turned is connections answered with 503 because their client had Config.MaxConnsPerClient, since the start.
	Turned int64
	// Strangers is connections closed because no PROXY header came where one must, since the start.
	Strangers int64
	// Buffered is the memory of buffered bodies, and what HTTP/2 connections may send beyond 65,535 bytes each, of
	// Config.MaxBuffered.
	Buffered int64
	// Overflow is how many bodies were not buffered because of that bound, or waited for room until their time was over,
	// since the start.
	Overflow int64
	// Tunnels tell of connections that have switched protocols.
	Tunnels TunnelStats
}

// TunnelStats are the numbers of connections that have switched protocols. All but Open are since the start, and only grow.
type TunnelStats struct {
	Open     int64         // at the moment
	Ended    int64         // tunnels
	Received int64         // bytes of clients that upstreams have taken
	Sent     int64         // bytes of upstreams that clients have taken
	Time     time.Duration // for which those that ended were open, in all
}

// Stats tells how many connections there are.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{len(s.conns), s.refused.Load(), s.turned.Load(), s.strangers.Load(), s.buffered.Load(), s.overflow.Load(),
		TunnelStats{s.tunnels.open.Load(), s.tunnels.ended.Load(), s.tunnels.received.Load(), s.tunnels.sent.Load(), time.Duration(s.tunnels.time.Load())}}
}

// Shutdown drains: no connection is accepted any more, exchanges under way end, their answers say Connection: close,
// idle connections are closed after Config.DrainIdle. When ctx ends first, the rest is cut and ctx's cause returned. A
// connection that has switched protocols has no end that could be waited for: it has until ctx ends, then both its sides
// are closed, which is no error.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.draining.Store(true)
	for l := range s.listeners {
		l.Close()
	}
	s.mu.Unlock()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if n, _ := s.drain(false); n == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			n, tunnels := s.drain(true)
			if tunnels > 0 {
				s.log.Info("connections that had switched protocols are closed: the drain's time is over", "connections", tunnels)
				s.awaitTunnels(tick.C)
			}
			if n == tunnels {
				return nil
			}
			return fmt.Errorf("shutdown: %d connections cut: %w", n-tunnels, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// awaitTunnels waits until those that were cut have closed their upstream's side as well, for a second at most.
func (s *Server) awaitTunnels(tick <-chan time.Time) {
	for until := time.Now().Add(time.Second); s.tunnels.open.Load() > 0 && time.Now().Before(until); {
		<-tick
	}
}

// drain wakes connections that were idle long enough (cut: closes all), and tells how many are left, and how many of
// them have switched protocols.
func (s *Server) drain(cut bool) (n, tunnels int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := upstream.Now()
	for c := range s.conns {
		if c.tunnel.Load() {
			tunnels++
		}
		if cut {
			c.nc.Close()
		} else if h := c.h2.Load(); h != nil {
			h.Drain()
		} else if since := c.idleSince.Load(); since > 0 && now-since > int64(c.cfg.DrainIdle) && c.idleSince.CompareAndSwap(since, woken) {
			c.nc.SetReadDeadline(time.Unix(1, 0))
		}
	}
	if cut {
		return len(s.conns), tunnels
	}
	return len(s.conns) + len(s.listeners), tunnels // who was accepted last is not among the connections yet
}
