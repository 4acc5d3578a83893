package balance

import (
	"net"
	"slices"
	"sync"
	"time"

	"banyan/proxy/session"
	"banyan/proxy/upstream"
	"banyan/proxy/wire"
)

// verdict is what a request says of its instance.
type verdict uint8

const (
	neutral verdict = iota // nothing: it was not sent, or its client left
	good
	bad
)

// lease is an instance's connection on its way through one request. It watches what becomes of it, and counts the
// request out at its end.
type lease struct {
	upstream.Conn
	b       *Balancer
	i       int
	t       ticket
	verdict verdict
	err     error // why it is bad
	status  int
	hold    *hold // of its session, once the connection has switched protocols
}

// leases are reused: a request costs no allocation.
var leases = sync.Pool{New: func() any { return new(lease) }}

var _ upstream.Conn = (*lease)(nil)

// failed notes an error. A kept connection that was closed before anything was written says nothing of the instance.
func (l *lease) failed(err error) error {
	if err != nil && upstream.ClassOf(err) != upstream.OK && !(upstream.Unsent(err) && l.Reused()) {
		l.verdict, l.err = bad, err
	}
	return err
}

// Send implements upstream.Conn.
func (l *lease) Send(m *upstream.Message) error { return l.failed(l.Conn.Send(m)) }

// SendBody implements upstream.Conn.
func (l *lease) SendBody(p []byte, last bool) error { return l.failed(l.Conn.SendBody(p, last)) }

// Receive implements upstream.Conn.
func (l *lease) Receive(resp *wire.Response, in *upstream.Inbox) error {
	if err := l.Conn.Receive(resp, in); err != nil {
		return l.failed(err)
	}
	if resp.Interim() {
		return nil
	}
	l.verdict, l.status = good, resp.Status()
	if l.status >= 500 && slices.Contains(l.b.cfg().Eject.Statuses, l.status) {
		l.verdict = bad
	}
	if s := l.b.cfg().Sticky; s != nil {
		l.learn(s, resp)
	}
	return nil
}

// learn binds the session that an answer begins, before its client can come back with it.
func (l *lease) learn(s *Sticky, resp *wire.Response) {
	var ids [maxCookies]session.Key
	n, ended := 0, false
	for i := range resp.Len() {
		if !wire.Is(resp.Name(i), "set-cookie") {
			continue
		}
		id, ends, ok := setCookie(resp.Value(i), s.Cookie)
		ended = ended || ends
		if ok && !ends && n < maxCookies {
			ids[n] = l.b.sessions.Key(id)
			n++
		}
	}
	if s.Remember != "" && (n > 0 || l.t.n > 0 && !ended) && l.t.claim != l.i+1 {
		resp.Add("Set-Cookie", []byte(s.Remember+"="+l.b.ins[l.i].tag+"; Path=/; HttpOnly; SameSite=Lax"))
	}
	if n == 0 && !ended {
		return
	}
	l.b.mu.Lock()
	defer l.b.unlock()
	if ended && l.t.n > 0 {
		l.b.sessions.Unbind(l.t.keys[l.t.use])
	}
	for _, k := range ids[:n] {
		l.b.sessions.Bind(k, l.i, l.b.cfg().Now()/int64(time.Second))
	}
}

// Body implements upstream.Conn.
func (l *lease) Body(p []byte) (n int, end bool, err error) {
	if n, end, err = l.Conn.Body(p); err != nil {
		l.failed(err)
	}
	return
}

// Hijack implements upstream.Conn. The request stays under way and its session at its instance until Abort, which may be
// days away: so that the instance has answered counts now.
func (l *lease) Hijack() (net.Conn, []byte) {
	c, read := l.Conn.Hijack()
	l.b.mu.Lock()
	defer l.b.unlock()
	if l.verdict == good {
		l.b.succeededLocked(l.i)
	}
	l.verdict, l.hold = neutral, l.b.holdLocked(l.i, &l.t)
	return c, read
}

// Release implements upstream.Conn. The place is free once the connection is.
func (l *lease) Release() { l.Conn.Release(); l.end() }

// Abort implements upstream.Conn.
func (l *lease) Abort() { l.Conn.Abort(); l.end() }

func (l *lease) end() {
	l.hold.end()
	b, i, v, err, status := l.b, l.i, l.verdict, l.err, l.status
	*l = lease{}
	leases.Put(l)
	b.done(i, v, err, status)
}
