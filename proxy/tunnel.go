package proxy

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"banyan/proxy/upstream"
	"banyan/proxy/wire"
)

var (
	errUpgrade      = errors.New("upstream switched protocols, which nobody had asked for")
	errUpgradeOld   = errors.New("upstream switched protocols in an answer of HTTP/1.0")
	errUpgradeOther = errors.New("upstream switched to a protocol that nobody had asked for, or named none")
)

// offer appends those of the protocols that the client asks for which may pass, as it spells them and in its order. A
// request with a body asks for nothing: where the body ends and the other protocol begins would be the upstream's guess
// as well as ours.
func (x *Exchange) offer(dst []byte, allowed []string) []byte {
	if len(allowed) == 0 || x.multiplexed || !x.req.Upgrades() || x.req.HasBody() {
		return dst
	}
	start := len(dst)
	if !x.req.EachProtocol(func(p []byte) bool {
		for _, a := range allowed {
			if wire.Same(p, a) {
				dst = appendListed(dst, start, p)
				break
			}
		}
		return true
	}) {
		return dst[:start]
	}
	return dst
}

// appendListed appends an element to the list that begins at start.
func appendListed(dst []byte, start int, element []byte) []byte {
	if len(dst) > start {
		dst = append(dst, ", "...)
	}
	return append(dst, element...)
}

// switched says whether the 101 that came answers what was offered.
func (x *Exchange) switched() error {
	switch {
	case len(x.offered) == 0:
		return errUpgrade
	case x.resp.Minor() == 0:
		return errUpgradeOld
	}
	named := 0
	if !x.resp.EachProtocol(func(p []byte) bool {
		named++
		return !wire.EachToken(x.offered, func(o []byte) bool { return !wire.Same(o, string(p)) })
	}) || named == 0 {
		return errUpgradeOther
	}
	return nil
}

// switchProtocols passes a 101 on and joins the connections.
func (x *Exchange) switchProtocols(c upstream.Conn, o *ForwardOptions, res *Result) error {
	if err := x.switched(); err != nil {
		c.Abort()
		res.Class = upstream.Malformed
		return &upstream.Error{Upstream: x.upstream, Doing: "read the answer's head", Class: upstream.Malformed, Sent: true, Answered: true, Err: err}
	}
	if o.OnHead != nil && o.OnHead(x, &x.resp) == Refuse {
		res.Refused = true
		c.Abort()
		return nil
	}
	out := append(x.appendFields(x.appendStatus(x.out[:0]), 0), "Connection: Upgrade\r\nUpgrade: "...)
	start := len(out)
	x.resp.EachProtocol(func(p []byte) bool { out = appendListed(out, start, p); return true })
	out = append(out, "\r\n\r\n"...)
	x.status, x.hijacked, x.broken = 101, true, true
	x.conn.tunnel.Store(true)
	open := &x.conn.srv.tunnels.open
	open.Add(1) // before the client knows
	defer open.Add(-1)
	nc, first := c.Hijack()
	defer c.Abort()
	if err := x.send(append(out, first...), len(out), false); err != nil {
		return err
	}
	x.tunnel(nc, int64(len(first)), res)
	if o.BeforeEnd != nil {
		o.BeforeEnd(x, res)
	}
	return nil
}

// tunnel passes bytes both ways until both sides have ended.
func (x *Exchange) tunnel(nc net.Conn, first int64, res *Result) {
	c, s := x.conn, x.conn.srv
	x.switchedAt = time.Now()
	early := append([]byte(nil), x.in[x.r:x.n]...) // what the client sent behind its head
	x.slim()
	s.tunnels.sent.Add(first)
	t := tunnel{client: c.nc, upstream: nc, idle: c.cfg.UpgradeTimeout, turns: s.turns}
	t.last.Store(upstream.Now())
	up, ended := int64(0), false
	done := make(chan struct{})
	go func() { // ends with the other direction, or by itself: a direction that breaks bounds the other
		defer close(done)
		up, ended = t.pipe(nc, c.nc, early, &s.tunnels.received)
	}()
	down, _ := t.pipe(c.nc, nc, nil, &s.tunnels.sent)
	<-done
	x.taken, res.BodyBytes, res.LastByte = up, down+first, time.Now()
	x.sentBytes = res.BodyBytes
	x.lingers = !ended
	s.tunnels.ended.Add(1)
	s.tunnels.time.Add(int64(res.LastByte.Sub(x.switchedAt)))
}

// slim gives the buffers of an exchange up that may stay open for days, but for copies of the two heads.
func (x *Exchange) slim() {
	x.in = append([]byte(nil), x.req.Raw()...)
	x.req.Moved(x.in)
	x.r, x.n = len(x.in), len(x.in)
	x.resp.Moved(append([]byte(nil), x.resp.Raw()...))
	x.inbox, x.message, x.out, x.store, x.captured = upstream.Inbox{}, upstream.Message{}, nil, nil, nil
}

// tunnels are the numbers of a server's tunnels.
type tunnels struct {
	open                        atomic.Int64
	ended, received, sent, time atomic.Int64
}

// tunnel joins a client and an upstream. It ends when both have ended their side, when one breaks, or when neither has
// sent anything for idle.
type tunnel struct {
	client, upstream net.Conn
	idle             time.Duration
	turns            *turns
	last             atomic.Int64 // upstream.Now when bytes last moved
	limit            atomic.Int64 // upstream.Now at which both directions end whatever comes; 0: none
}

// lastWords is how long one direction goes on after the other broke at its receiving end: what the receiver had said
// before may still stand in its socket.
const lastWords = 2 * time.Second

// within makes both directions end in d at the latest.
func (t *tunnel) within(d time.Duration) {
	now := upstream.Now()
	t.limit.CompareAndSwap(0, now+int64(d))
	if d == 0 {
		t.limit.Store(now)
	}
	at := time.Now().Add(d)
	t.client.SetReadDeadline(at) // after limit: who sets a later one looks at limit once more
	t.upstream.SetReadDeadline(at)
}

// left is how long a direction may wait.
func (t *tunnel) left(limit int64) time.Duration {
	now := upstream.Now()
	left := int64(t.idle) - (now - t.last.Load())
	if limit != 0 {
		left = min(left, limit-now)
	}
	return time.Duration(left)
}

// pipe passes first and then all that src sends on to dst. ended says that src ended its side and dst was told.
func (t *tunnel) pipe(dst, src net.Conn, first []byte, count *atomic.Int64) (moved int64, ended bool) {
	r := newReader(src)
	defer r.free()
	var readBy, writeBy upstream.Deadline
	turns := fair{turns: t.turns}
	write := func(b []byte) bool {
		t.last.Store(upstream.Now())
		writeBy.Extend(dst.SetWriteDeadline, upstream.Now(), t.idle)
		n, err := dst.Write(b)
		t.last.Store(upstream.Now())
		moved += int64(n)
		count.Add(int64(n))
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.within(0)
		} else if err != nil {
			t.within(lastWords)
		}
		return err == nil
	}
	if len(first) > 0 && !write(first) {
		return moved, false
	}
	for {
		limit := t.limit.Load()
		left := t.left(limit)
		if left <= 0 {
			t.within(0)
			return moved, false
		}
		readBy.Extend(src.SetReadDeadline, upstream.Now(), left)
		if t.limit.Load() != limit {
			readBy.Forget()
			continue
		}
		b, err := r.read()
		switch {
		case len(b) > 0:
			turns.pass(len(b))
			ok := write(b)
			r.free()
			if !ok {
				return moved, false
			}
		case errors.Is(err, os.ErrDeadlineExceeded):
			readBy.Forget() // a wait that began before the other direction moved bytes
		case err == io.EOF:
			if h, ok := dst.(interface{ CloseWrite() error }); !ok || h.CloseWrite() != nil {
				t.within(lastWords)
			}
			return moved, true
		default:
			t.within(0)
			return moved, false
		}
	}
}

// reader reads a connection. Of a plain socket it holds a buffer only while there are bytes.
type reader struct {
	nc     net.Conn
	rc     syscall.RawConn // nil when nc is not a plain socket
	someFn func(fd uintptr) bool
	buf    *[copySize]byte
	own    []byte // when nc is not a plain socket
	n      int
	err    error
}

// ownSize is read at once of what TLS has decrypted; twice as much when that was not enough, up to ownMost.
const (
	ownSize = 2 << 10
	ownMost = 16 << 10
)

func newReader(nc net.Conn) *reader {
	r := &reader{nc: nc}
	if sc, ok := nc.(syscall.Conn); ok {
		r.rc, _ = sc.SyscallConn()
	}
	if r.rc == nil {
		r.own = make([]byte, ownSize)
	}
	r.someFn = r.some
	return r
}

// read gives what comes next, valid until free.
func (r *reader) read() ([]byte, error) {
	if r.rc == nil {
		if r.n == len(r.own) && r.n < ownMost {
			r.own = make([]byte, 2*len(r.own))
		}
		var err error
		r.n, err = r.nc.Read(r.own)
		return r.own[:r.n], err
	}
	r.n, r.err = 0, nil
	if err := r.rc.Read(r.someFn); err != nil {
		return nil, err
	}
	return r.buf[:r.n], r.err
}

// some is called with the socket, again each time it becomes readable.
func (r *reader) some(fd uintptr) bool {
	r.buf = copyBuffers.Get().(*[copySize]byte)
	n, err := syscall.Read(int(fd), r.buf[:])
	for err == syscall.EINTR {
		n, err = syscall.Read(int(fd), r.buf[:])
	}
	if err == syscall.EAGAIN {
		r.free()
		return false
	}
	if err == nil && n == 0 {
		err = io.EOF
	}
	r.n, r.err = max(n, 0), err
	return true
}

func (r *reader) free() {
	if r.buf != nil {
		copyBuffers.Put(r.buf)
		r.buf = nil
	}
}
