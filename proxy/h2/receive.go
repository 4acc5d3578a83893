package h2

import (
	"slices"
	"sync"
	"time"
)

const (
	leastGrant = freeWindow / 4         // smaller ones cost more than they bring
	askAgain   = 100 * time.Millisecond // for memory that was refused
)

// body is a queue of bytes. It takes memory for what it holds, in pieces, and keeps one of them.
type body struct {
	pieces []*piece
	from   int // of the first piece
	to     int // of the last piece
	size   int
}

type piece [frameMax]byte

var pieces = sync.Pool{New: func() any { return new(piece) }}

// add appends p.
func (b *body) add(p []byte) {
	for b.size += len(p); len(p) > 0; {
		if len(b.pieces) == 0 || b.to == frameMax {
			b.pieces, b.to = append(b.pieces, pieces.Get().(*piece)), 0
		}
		n := copy(b.pieces[len(b.pieces)-1][b.to:], p)
		b.to += n
		p = p[n:]
	}
}

// take moves bytes to p.
func (b *body) take(p []byte) (n int) {
	used := 0
	for n < len(p) && b.size > 0 {
		end := frameMax
		if used == len(b.pieces)-1 {
			end = b.to
		}
		k := copy(p[n:], b.pieces[used][b.from:end])
		n, b.from, b.size = n+k, b.from+k, b.size-k
		if b.size == 0 {
			b.from, b.to = 0, 0
		} else if b.from == end {
			pieces.Put(b.pieces[used])
			used, b.from = used+1, 0
		}
	}
	b.pieces = slices.Delete(b.pieces, 0, used)
	return n
}

// drop forgets all.
func (b *body) drop() {
	for _, p := range b.pieces {
		pieces.Put(p)
	}
	clear(b.pieces)
	*b = body{pieces: b.pieces[:0]}
}

// hold asks Config.Hold.
func (c *Conn) hold(n int64) bool { return c.cfg.Hold == nil || c.cfg.Hold(n) }

// readLocked notes that n bytes of a body were read. Whose bodies are read as fast as they come may send more ahead.
func (c *Conn) readLocked(n int64) {
	c.held -= n
	if c.recvWindow <= c.credit/2 && c.held <= c.credit/2 {
		c.credit = max(c.credit, min(2*c.credit, connWindow, int64(len(c.streams)+1)*streamWindow))
	}
	c.grantLocked(c.credit / 2)
}

// grantLocked fills the connection's receive window up, if no more than low is left of it. What a client can make the
// connection hold, the window and what was received and not read, is paid for before it is granted, but for the window
// that the protocol gives. Refused is more window, never what fits into one that was granted.
func (c *Conn) grantLocked(low int64) {
	all := c.recvWindow + c.held
	if c.recvWindow <= low && c.err == nil {
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
