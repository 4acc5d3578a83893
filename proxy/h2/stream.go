package h2

import (
	"errors"
	"slices"
	"sync"
	"time"

	"banyan/proxy/upstream"
)

// What ends a stream before its time.
var (
	ErrGone      = errors.New("the client reset the stream, or the connection ended")
	ErrMalformed = errors.New("the client broke a rule of HTTP/2, and the stream was reset")
	ErrSlow      = errors.New("the client took too long")
	ErrCrowded   = errors.New("the connection was given no room for more of a body")
)

// Stream is one request and its answer. Its methods are for the goroutine of Config.Serve.
type Stream struct {
	c     *Conn
	id    uint32
	runFn func() // run; kept, so that starting it costs no allocation
	head  []byte
	block []byte // the answer's header block

	// Guarded by the connection's mutex.
	cond       sync.Cond
	body       body  // received and not read
	bodiless   bool  // END_STREAM came with the head
	length     int64 // content-length, -1 without
	total      int64 // of the body, received
	recvWindow int64
	owed       int64 // read, and not yet given back
	sendWindow int64
	received   bool // END_STREAM came
	sent       bool // END_STREAM went
	unread     bool // nobody will read the body
	over       bool // reset, by either side
	ours       bool // reset by us
	err        error
	until      int64 // when the wait ends, 0 while there is none
	starved    int64 // nanoseconds without a window of its own, since its rate was last looked at
	given      int64 // bytes of the answer's body in that time
	sated      int64 // when it had all that there was to send
	queued     bool  // in waiting
	needs      bool  // a window of the connection
	called     bool  // taken out of waiting: it is this stream's turn, or its task to pass it on
}

var streams = sync.Pool{New: func() any { return new(Stream) }}

func (s *Stream) begin(c *Conn, id uint32) {
	if s.runFn == nil {
		s.runFn = s.run
	}
	*s = Stream{c: c, id: id, runFn: s.runFn, head: s.head[:0], block: s.block[:0], body: body{pieces: s.body.pieces[:0]}, length: -1, recvWindow: streamWindow, sendWindow: c.initial}
	s.cond.L = &c.mu
}

// run is the stream's goroutine.
func (s *Stream) run() {
	c := s.c
	defer c.handlers.Done()
	c.cfg.Serve(s)
}

// Head is the head of the request as HTTP/1.1 has it, to be parsed before anything is believed; empty when the header
// list was larger than allowed.
func (s *Stream) Head() []byte { return s.head }

// Bodiless tells that the request ended with its head.
func (s *Stream) Bodiless() bool { return s.bodiless }

// Buffered tells how many bytes of the body Receive gives without waiting, and whether they complete it.
func (s *Stream) Buffered() (n int, complete bool) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.body.size, s.received
}

// Receive waits for bytes of the body; end says that it is complete.
func (s *Stream) Receive(p []byte) (n int, end bool, err error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for s.body.size == 0 && !s.received && s.err == nil {
		if !c.waitLocked(s, c.cfg.BodyTimeout) {
			if c.crowdedLocked() {
				return 0, false, ErrCrowded
			}
			return 0, false, ErrSlow
		}
	}
	if s.err != nil {
		return 0, false, s.err
	}
	n = s.body.take(p)
	c.readLocked(int64(n))
	if s.owed += int64(n); s.owed >= streamWindow/2 && !s.received {
		s.recvWindow += s.owed
		c.out = appendNumber(c.room(), windowUpdate, s.id, uint32(s.owed))
		s.owed = 0
	}
	c.kickLocked()
	return n, s.received && s.body.size == 0, nil
}

// Send takes b, whose first head bytes are the lines of a head; end says that nothing follows. It waits until the client
// has made room for all of b.
func (s *Stream) Send(b []byte, head int, end bool) error {
	if head > 0 {
		s.block = appendAnswer(s.block[:0], b[:head])
		b = b[head:]
	}
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.starved > 0 {
		s.starved = max(0, s.starved-now()+s.sated)
	}
	for first := head > 0; first || len(b) > 0 || end && !s.sent; first = false {
		if err := c.turnLocked(s, !first && len(b) > 0); err != nil {
			c.leaveLocked(s)
			s.called = false
			c.wakeLocked() // whose turn it is now
			c.kickLocked()
			return err
		}
		if first {
			s.sent = end && len(b) == 0
			c.out = appendBlock(c.room(), s.block, s.id, s.sent)
			continue
		}
		n := int(min(int64(len(b)), frameMax, s.sendWindow, c.sendWindow))
		if len(b) == 0 {
			n = 0
		}
		flags := uint8(0)
		if end && n == len(b) {
			flags, s.sent = flagEndStream, true
		}
		c.out = append(appendFrameHead(c.room(), n, data, flags, s.id), b[:n]...)
		b = b[n:]
		s.sendWindow -= int64(n)
		if c.sendWindow -= int64(n); c.sendWindow <= 0 {
			c.needLocked(0)
		}
		s.given += int64(n)
		c.dry.sent += int64(n)
		if n >= pieceMin {
			c.paid = min(creditMax, c.paid+creditPer)
		}
	}
	if s.sent && s.received && !s.over {
		s.over = true
		c.open--
	}
	if s.starved > 0 {
		s.sated = now()
	}
	c.kickLocked()
	c.wakeLocked()
	return nil
}

// turnLocked waits until a frame may be queued: one of a body needs windows too.
func (c *Conn) turnLocked(s *Stream, body bool) error {
	for {
		own := body && s.sendWindow <= 0 // what it lacks is its own
		switch {
		case s.err != nil:
			return s.err
		case c.err != nil:
			return c.err
		case !own && len(c.out) < queueMax && (!body || c.sendWindow > 0):
			c.leaveLocked(s)
			s.called = false
			return nil
		case own:
			c.leaveLocked(s)
		case !s.queued:
			at := len(c.waiting)
			if s.called { // somebody was quicker
				at = 0
			}
			s.queued, s.needs = true, body
			c.waiting = slices.Insert(c.waiting, at, s)
			if body {
				c.needLocked(1)
			}
		}
		if s.called { // in vain: without this, whoever waits behind would wait for a turn that was used up
			s.called = false
			c.wakeLocked()
		}
		if !own {
			c.kickLocked()
			s.cond.Wait() // ends by what moves, or by what a patrol does when nothing does
		} else if !c.starveLocked(s) {
			c.resetLocked(s, EnhanceYourCalm)
			c.dropLocked(s, ErrSlow)
		}
	}
}

// leaveLocked takes a stream out of those that wait for their turn.
func (c *Conn) leaveLocked(s *Stream) {
	if s.queued {
		c.removeLocked(slices.Index(c.waiting, s))
	}
}

func (c *Conn) removeLocked(i int) {
	s := c.waiting[i]
	c.waiting = slices.Delete(c.waiting, i, i+1)
	if s.queued = false; s.needs {
		c.needLocked(-1)
	}
}

// wakeLocked lets the next stream look whether there is room. It wakes the one behind it in turn.
func (c *Conn) wakeLocked() {
	if len(c.out) >= queueMax {
		return
	}
	for i, s := range c.waiting {
		if !s.needs || c.sendWindow > 0 {
			c.removeLocked(i)
			s.called = true
			s.cond.Signal()
			return
		}
	}
}

// waitLocked waits for a signal; false says that the time is over.
func (c *Conn) waitLocked(s *Stream, d time.Duration) bool {
	c.kickLocked()
	now := upstream.Now()
	if s.until == 0 {
		s.until = now + int64(d)
	}
	c.armLocked(s.until)
	until := s.until
	s.cond.Wait()
	if upstream.Now() < until {
		s.until = 0
		return true
	}
	s.until = 0
	return false
}

// receivedLocked notes that the request is complete.
func (c *Conn) receivedLocked(s *Stream) {
	s.received = true
	if s.sent && !s.over {
		s.over = true
		c.open--
	}
}

// dropLocked ends a stream with err for its handler.
func (c *Conn) dropLocked(s *Stream, err error) {
	if s.err == nil {
		s.err = err
	}
	if !s.over {
		s.over = true
		c.open--
	}
	c.unreadLocked(s)
	s.cond.Signal()
}

// unreadLocked gives back what of the body nobody will read.
func (c *Conn) unreadLocked(s *Stream) {
	c.held -= int64(s.body.size)
	s.body.drop()
	s.unread = true
	c.grantLocked(c.credit / 2)
}

// resetLocked sends RST_STREAM.
func (c *Conn) resetLocked(s *Stream, code Code) {
	s.ours = true
	c.out = appendNumber(c.room(), rstStream, s.id, uint32(code))
}

// Reset ends the stream with RST_STREAM: an answer that cannot be completed must look so.
func (s *Stream) Reset(code Code) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if !s.over {
		c.resetLocked(s, code)
		c.dropLocked(s, ErrGone)
		c.kickLocked()
	}
}

// Finish is the handler's last call. A stream without a complete answer is reset; a request of which not all came is
// given up.
func (s *Stream) Finish() {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if !s.over {
		code := InternalError
		if s.sent {
			code = NoError // RFC 9113 8.1: the answer did not need the rest
		}
		c.resetLocked(s, code)
		c.dropLocked(s, ErrGone)
	}
	c.unreadLocked(s)
	if s.queued || s.called {
		c.leaveLocked(s)
		s.called = false
		c.wakeLocked()
	}
	delete(c.streams, s.id)
	c.closed.add(s.id, s.ours)
	if len(c.streams) == 0 {
		c.idleSince = upstream.Now()
		c.credit = freeWindow
	}
	c.kickLocked()
	if cap(s.head) <= 64<<10 && cap(s.block) <= 64<<10 {
		s.c, s.cond.L = nil, nil
		streams.Put(s)
	}
}
