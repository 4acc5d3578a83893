package proxy

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"

	"banyan/proxy/h2"
	"banyan/proxy/upstream"
)

// conn is a client's connection. While it is idle it holds no exchange and no buffer.
type conn struct {
	srv       *Server
	cfg       *Config // in force when it was accepted
	nc        net.Conn
	rc        syscall.RawConn // nil when nc is not a plain socket
	firstFn   func(fd uintptr) bool
	x         *Exchange
	small     []byte // waits for bytes when nc is not a plain socket
	readErr   error
	readBy    upstream.Deadline
	writeBy   upstream.Deadline
	h2        atomic.Pointer[h2.Conn]
	tunnel    atomic.Bool  // it has switched protocols
	idleSince atomic.Int64 // upstream.Now when the connection became idle, 0 while it is not, woken or resting
	grown     atomic.Bool  // an exchange has passed on this goroutine: its stack holds what that needed
	since     int64        // idleSince of the goroutine before this one, 0 once it is used
	peer      netip.AddrPort
	local     netip.AddrPort // that the client connected to
	client    netip.Addr     // whose connections are counted; not valid: nobody's
	headed    bool           // a PROXY header is to come
	begun     bool           // the first request came, and it is HTTP/1.1
	served    bool           // a request of HTTP/1.1 was answered, and the connection kept
	secure    bool
	trusted   bool
	forwarded []byte // the X-Forwarded-… lines for this peer, up to the host
}

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{srv: s, cfg: s.cfg.Load(), nc: nc}
	peer, ok := address(nc.RemoteAddr())
	c.local, _ = address(nc.LocalAddr())
	c.headed = ok && within(c.cfg.ProxyProtocol, peer.Addr())
	_, c.secure = nc.(*tls.Conn)
	if sc, ok := nc.(syscall.Conn); ok && !c.secure {
		c.rc, _ = sc.SyscallConn()
	}
	c.firstFn = c.first
	c.identify(peer, !ok || c.cfg.trusts(peer.Addr()))
	if ok && !c.headed && !c.trusted {
		c.client = clientOf(peer.Addr())
	}
	c.idleSince.Store(upstream.Now())
	return c
}

func address(a net.Addr) (ap netip.AddrPort, ok bool) {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return ap, false
	}
	ap = t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), true
}

// clientOf is whom an address belongs to: a household or a machine with IPv6 has a /64 of them.
func clientOf(a netip.Addr) netip.Addr {
	if a.Is6() {
		p, _ := a.WithZone("").Prefix(64) // of an IPv6 address there is one
		return p.Addr()
	}
	return a
}

// identify says who the peer is.
func (c *conn) identify(peer netip.AddrPort, trusted bool) {
	c.peer, c.trusted = peer, trusted
	c.forwarded = append(c.forwarded[:0], "X-Forwarded-For: "...)
	if c.peer.IsValid() {
		c.forwarded = c.peer.Addr().AppendTo(c.forwarded)
	}
	c.forwarded = append(append(append(c.forwarded, "\r\nX-Forwarded-Proto: "...), c.proto()...), "\r\nX-Forwarded-Host: "...)
}

func (c *conn) proto() string {
	if c.secure {
		return "https"
	}
	return "http"
}

// serve is the connection's goroutine, the first or one that takes over.
func (c *conn) serve() {
	rests := false
	defer func() {
		if rests {
			return
		}
		if p := recover(); p != nil {
			c.srv.log.Error("panic in a handler, connection closed", "panic", p, "stack", string(debug.Stack()))
		} else {
			c.release() // after a panic an upstream may still use the buffers
		}
		c.nc.Close()
		c.srv.forget(c)
	}()
	if !c.begun && (c.headed && !c.introduced() || !c.handshake()) {
		return
	}
	for c.next() {
		if !c.begun {
			if c.speaksHTTP2() {
				c.serveHTTP2()
				return
			}
			c.begun = true
		}
		if c.rc != nil && !c.grown.Load() {
			c.grown.Store(true)
		}
		if !c.exchange() {
			return
		}
	}
	if c.since != 0 { // from here on, c is the next goroutine's
		rests = true
		go c.serve()
	}
}

// handshake agrees on TLS, if the listener speaks it. Who fails gets TLS's own alert.
func (c *conn) handshake() bool {
	t, ok := c.nc.(*tls.Conn)
	if !ok {
		return true
	}
	t.SetDeadline(time.Now().Add(c.cfg.HeaderTimeout))
	if err := t.Handshake(); err != nil {
		c.srv.log.Debug("TLS handshake", "peer", c.peer, "error", err)
		return false
	}
	t.SetDeadline(time.Time{})
	return true
}

func (c *conn) acquire() {
	if c.x == nil {
		c.x = c.srv.exchanges.Get().(*Exchange)
		c.x.conn, c.x.client = c, c
	}
}

func (c *conn) release() {
	if x := c.x; x != nil {
		c.x, x.conn, x.client = nil, nil, nil
		x.shrink()
		c.srv.exchanges.Put(x)
	}
}

// next waits for the first bytes of a request; false ends the connection, or this goroutine if since is set.
func (c *conn) next() bool {
	if c.x != nil && c.x.n > 0 { // pipelined
		return true
	}
	since := upstream.Now()
	if c.since != 0 {
		since, c.since = c.since, 0
	}
	c.readBy.Extend(c.nc.SetReadDeadline, since, c.cfg.IdleTimeout)
	c.idleSince.Store(since) // not before: a deadline that is set for who is idle must not be replaced here
	err := c.await()
	late, was := errors.Is(err, os.ErrDeadlineExceeded), c.idleSince.Swap(0)
	gaveUp := late && was != resting && c.srv.draining.Load()
	if was == woken || was == resting || gaveUp {
		c.readBy.Forget()
		c.srv.mu.Lock() // drain or Rest, which set a deadline in the past, has this lock until it did
		c.nc.SetReadDeadline(time.Time{})
		c.srv.mu.Unlock()
	}
	if gaveUp {
		err = c.lastLook()
	}
	if late && was == resting {
		c.since = since
		c.grown.Store(false)
	}
	return err == nil
}

// What stands in idleSince once an idle connection was woken: drain gives it up, Rest wants another goroutine for it.
const (
	woken   = -1
	resting = -2
)

// smallSize holds most heads: what is larger costs one more read, of what TLS has decrypted already.
const smallSize = 1 << 10

// await reads the first bytes. The buffers are given back while nothing comes.
func (c *conn) await() error {
	if c.rc == nil {
		if c.small == nil {
			c.small = make([]byte, smallSize)
		}
		c.release()
		n, err := c.nc.Read(c.small)
		if n == 0 {
			return err
		}
		c.acquire()
		c.x.n = copy(c.x.in, c.small[:n])
		return nil
	}
	c.readErr = nil
	if err := c.rc.Read(c.firstFn); err != nil {
		return err
	}
	return c.readErr
}

// first is called with the socket, again each time it becomes readable.
func (c *conn) first(fd uintptr) bool {
	c.acquire()
	n, err := syscall.Read(int(fd), c.x.in)
	if err == syscall.EAGAIN || err == syscall.EINTR {
		c.release()
		return false
	}
	if err == nil && n == 0 {
		err = io.EOF
	}
	c.x.n, c.readErr = max(n, 0), err
	return true
}

// lastLook takes a request that came just when a draining server gave the connection up.
func (c *conn) lastLook() error {
	if c.rc == nil {
		return os.ErrDeadlineExceeded
	}
	if err := c.rc.Read(func(fd uintptr) bool {
		if !c.first(fd) {
			c.readErr = os.ErrDeadlineExceeded
		}
		return true
	}); err != nil {
		return err
	}
	return c.readErr
}

// exchange serves one request; false ends the connection.
func (c *conn) exchange() bool {
	x := c.x
	x.begin()
	if err := x.readHead(); err != nil {
		x.Fail(err)
		x.observe()
		if x.status != 0 {
			c.linger()
		}
		return false
	}
	defer x.unreserve()
	c.srv.handler.Serve(x)
	if x.status == 0 {
		if x.err == nil {
			x.err = errNoAnswer
		}
		x.Fail(x.err)
	}
	x.observe()
	if x.hijacked {
		if x.lingers && !x.clientGone {
			c.linger()
		}
		return false
	}
	if x.status == 0 || x.broken || x.clientGone || x.closes || !x.req.KeepAlive() || !x.bodyDone {
		if x.status != 0 && !x.broken && !x.clientGone && (!x.bodyDone || x.r < x.n || c.unread()) {
			c.linger()
		}
		return false
	}
	x.next()
	c.served = true
	return true
}

// send implements client for HTTP/1.1: what an exchange writes is what goes out.
func (c *conn) send(_ *Exchange, b []byte, _ int, _ bool) error {
	c.writeBy.Extend(c.nc.SetWriteDeadline, upstream.Now(), c.cfg.WriteTimeout)
	_, err := c.nc.Write(b)
	return err
}

// unread tells whether the socket holds bytes that nobody will read. What TLS holds is not looked into.
func (c *conn) unread() bool {
	n, err := 0, syscall.Errno(0)
	if c.rc != nil {
		_ = c.rc.Control(func(fd uintptr) { n, err = peek(fd) }) // an error says that it is closed here
	}
	return err == 0 && n > 0
}

// linger closes the sending side and reads on for a while: bytes that a socket holds unread when it is closed would
// make the kernel reset the connection, and the client lose the answer.
func (c *conn) linger() {
	type halfCloser interface{ CloseWrite() error }
	h, ok := c.nc.(halfCloser)
	if !ok || h.CloseWrite() != nil {
		return
	}
	c.nc.SetReadDeadline(time.Now().Add(2 * time.Second))
	for total := 0; total < 1<<20; {
		n, err := c.nc.Read(c.x.in)
		if err != nil {
			return
		}
		total += n
	}
}
