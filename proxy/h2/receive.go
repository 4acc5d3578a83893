package h2

import (
	"sync"
	"time"
)

const (
	bodyKeep   = 32 << 10               // a stream's own buffer; it borrows larger ones
	leastGrant = freeWindow / 4         // smaller ones cost more than they bring
	askAgain   = 100 * time.Millisecond // for memory that was refused
)

// Buffers that streams borrow: what is held takes no more than twice its size.
var (
	halfBodies  = sync.Pool{New: func() any { return new([streamWindow / 2]byte) }}
	wholeBodies = sync.Pool{New: func() any { return new([streamWindow]byte) }}
)

// keep appends to the body, over what was read of it where that spares memory.
func (s *Stream) keep(p []byte) {
	size := len(s.body) - s.read + len(p)
	if len(s.body)+len(p) > cap(s.body) {
		old, from := s.body, s.read
		to := old
		switch {
		case size <= cap(old):
		case size <= bodyKeep:
			to = make([]byte, min(bodyKeep, max(size, 2*cap(old))))
		case size <= streamWindow/2:
			to = halfBodies.Get().(*[streamWindow / 2]byte)[:]
		default:
			to = wholeBodies.Get().(*[streamWindow]byte)[:]
		}
		s.body, s.read = to[:copy(to[:size], old[from:])], 0
		if size > cap(old) {
			lend(old)
		}
	}
	s.body = append(s.body, p...)
}

// empty forgets the body.
func (s *Stream) empty() {
	b := s.body
	if s.body, s.read = b[:0], 0; lend(b) {
		s.body = nil
	}
}

// lend keeps a borrowed buffer for whoever needs one next.
func lend(b []byte) bool {
	switch cap(b) {
	case streamWindow / 2:
		halfBodies.Put((*[streamWindow / 2]byte)(b[:cap(b)]))
	case streamWindow:
		wholeBodies.Put((*[streamWindow]byte)(b[:cap(b)]))
	default:
		return false
	}
	return true
}

// hold asks Config.Hold.
func (c *Conn) hold(n int64) bool { return c.cfg.Hold == nil || c.cfg.Hold(n) }

// readLocked notes that n bytes of a body were read. Whose bodies are read as fast as they come may send more ahead.
func (c *Conn) readLocked(n int64) {
	c.held -= n
	if c.recvWindow <= c.credit/2 && c.held <= c.credit/2 {
		c.credit = max(c.credit, min(2*c.credit, connWindow, int64(len(c.streams))*streamWindow))
	}
	c.grantLocked()
}

// grantLocked fills the connection's receive window up. What a client can make the connection hold, the window and what
// was received and not read, is paid for before it is granted, but for the window that the protocol gives. Refused is
// more window, never what fits into one that was granted.
func (c *Conn) grantLocked() {
	all := c.recvWindow + c.held
	if c.recvWindow <= c.credit/2 && c.err == nil {
		n := c.credit - c.recvWindow
		if more := all + n - freeWindow - c.reserved; more > 0 {
			if c.hold(more) {
				c.reserved += more
			} else {
				c.credit = freeWindow
				n = freeWindow + c.reserved - all
			}
		}
		if c.short = n < leastGrant; !c.short {
			c.out = appendNumber(c.room(), windowUpdate, 0, uint32(n))
			c.recvWindow += n
			all += n
		} else {
			c.armLocked(now() + int64(askAgain))
		}
	}
	need := max(0, all-freeWindow)
	if spare := c.reserved - need; spare >= leastGrant || need == 0 && spare > 0 {
		c.hold(-spare)
		c.reserved = need
	}
}

// settle gives all memory back: the connection has ended, and so have its handlers.
func (c *Conn) settle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hold(-c.reserved)
	c.reserved = 0
}

// crowdedLocked tells whether bodies do not come because the connection was given no room for them.
func (c *Conn) crowdedLocked() bool { return c.short && c.recvWindow < leastGrant }

// Crowded tells whether the rest of the body may be missing because there was no memory to receive it.
func (s *Stream) Crowded() bool {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.c.crowdedLocked()
}
