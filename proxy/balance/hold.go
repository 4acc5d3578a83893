package balance

import (
	"time"

	"banyan/proxy/session"
)

// hold keeps a session at its instance for as long as a connection to it that has switched protocols is open: nothing
// that goes through it is a request that would show that the session is used.
type hold struct {
	b     *Balancer
	i     int
	key   session.Key
	timer *time.Timer // nil once it has ended; guarded by b.mu
}

// holdLocked begins a hold of the session that a request has; nil if it has none.
func (b *Balancer) holdLocked(i int, t *ticket) *hold {
	s := b.cfg().Sticky
	if s == nil || t.n == 0 {
		return nil
	}
	h := &hold{b: b, i: i, key: t.keys[t.use]}
	h.timer = time.AfterFunc(s.Idle/2, h.again)
	return h
}

func (h *hold) again() {
	h.b.mu.Lock()
	defer h.b.unlock()
	if h.timer == nil {
		return
	}
	h.useLocked()
	if s := h.b.cfg().Sticky; s != nil {
		h.timer.Reset(s.Idle / 2)
	}
}

// end lets the session's idle time begin.
func (h *hold) end() {
	if h == nil {
		return
	}
	h.b.mu.Lock()
	defer h.b.unlock()
	h.timer.Stop()
	h.timer = nil
	h.useLocked()
}

// useLocked notes that the session is used. One that was ended, or moved, meanwhile stays as it is.
func (h *hold) useLocked() {
	now := h.b.cfg().Now() / int64(time.Second)
	if at, ok := h.b.sessions.Find(h.key, now); ok && at == h.i {
		h.b.sessions.Bind(h.key, h.i, now)
	}
}
