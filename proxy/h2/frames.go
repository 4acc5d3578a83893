package h2

import (
	"encoding/binary"
	"errors"

	"golang.org/x/net/http2/hpack"

	"banyan/proxy/upstream"
)

// handle takes one frame.
func (c *Conn) handle(f *frame) error {
	if !c.greeted {
		if f.kind != settings || f.has(flagAck) {
			return fatal(ProtocolError, "first frame is not SETTINGS")
		}
		c.greeted = true
	}
	if c.block.stream != 0 && (f.kind != continuation || f.stream != c.block.stream) {
		return fatal(ProtocolError, "header block is interrupted")
	}
	var err error
	switch f.kind {
	case data:
		err = c.onData(f)
	case headers:
		err = c.onHeaders(f)
	case continuation:
		err = c.onContinuation(f)
	case priority:
		err = c.onPriority(f)
	case rstStream:
		err = c.onReset(f)
	case settings:
		err = c.onSettings(f)
	case ping:
		err = c.onPing(f)
	case goAway:
		err = c.onGoAway(f)
	case windowUpdate:
		err = c.onWindow(f)
	case pushPromise:
		err = fatal(ProtocolError, "PUSH_PROMISE from a client")
	default: // to be ignored, but not for ever
		err = c.spend(1)
	}
	if err != nil {
		var fault *streamError
		if errors.As(err, &fault) {
			return c.refuse(f.stream, fault.code)
		}
	}
	return err
}

func (c *Conn) spend(n int) error {
	if !c.calm.spend(n) {
		return fatal(EnhanceYourCalm, "client costs more than it asks for")
	}
	return nil
}

// refuse resets a stream for a fault of the client's.
func (c *Conn) refuse(id uint32, code Code) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.streams[id]; s != nil {
		c.resetLocked(s, code) // also if the client has: this is said about what came behind
		c.dropLocked(s, ErrMalformed)
	} else {
		c.closed.add(id, true)
		c.out = appendNumber(c.room(), rstStream, id, uint32(code))
	}
	return c.spend(4)
}

// find gives the stream a frame belongs to, nil when it is gone. A stream that was never opened is a fault.
func (c *Conn) findLocked(id uint32) (*Stream, error) {
	if id == 0 {
		return nil, fatal(ProtocolError, "frame of a stream on stream 0")
	}
	if id > c.lastID || id%2 == 0 {
		return nil, fatal(ProtocolError, "frame on an idle stream")
	}
	return c.streams[id], nil
}

func (c *Conn) onData(f *frame) error {
	size := int64(len(f.payload))
	if f.stream == 0 {
		return fatal(ProtocolError, "DATA on stream 0")
	}
	if err := f.unpad(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s, err := c.findLocked(f.stream)
	if err != nil {
		return err
	}
	if c.recvWindow -= size; c.recvWindow < 0 {
		return fatal(FlowControl, "more DATA than the connection's window")
	}
	defer func() { c.grantLocked(c.credit / 4) }() // a reader who keeps up has done it before
	if s == nil || s.over || s.received {
		return c.lateLocked(f, s)
	}
	if s.recvWindow -= size; s.recvWindow < 0 {
		return &streamError{FlowControl, "more DATA than the stream's window"}
	}
	n := int64(len(f.payload))
	s.total += n
	end := f.has(flagEndStream)
	if s.length >= 0 && (s.total > s.length || end && s.total < s.length) {
		return errMismatch
	}
	s.owed += size - n
	if !s.unread {
		s.body.add(f.payload)
		c.held += n
	}
	if end {
		c.receivedLocked(s)
	}
	s.cond.Signal()
	if n == 0 && !end {
		return c.spend(2)
	}
	c.calm.earn(int(n))
	return nil
}

// lateLocked judges DATA or HEADERS on a stream that takes none. What we reset may have been under way.
func (c *Conn) lateLocked(f *frame, s *Stream) error {
	if s == nil {
		known, ours := c.closed.find(f.stream)
		if ours || !known && f.kind == data {
			return c.spend(1)
		}
		if !known {
			return fatal(ProtocolError, "stream was passed over")
		}
		if f.kind == headers {
			return fatal(StreamClosed, "HEADERS on a closed stream")
		}
	} else if s.over && s.ours {
		return c.spend(1)
	} else if s.over && s.err == nil && f.kind == headers { // it is closed, though its handler has not returned yet
		return fatal(StreamClosed, "HEADERS on a closed stream")
	}
	return &streamError{StreamClosed, "frame on a stream that the client ended"}
}

func (c *Conn) onHeaders(f *frame) error {
	if f.stream%2 == 0 {
		return fatal(ProtocolError, "HEADERS on a stream that no client opens")
	}
	if err := f.unpad(); err != nil {
		return err
	}
	b := &c.block
	*b = block{stream: f.stream, end: f.has(flagEndStream), fields: b.fields[:0]}
	if f.has(flagPriority) {
		if len(f.payload) < 5 {
			return fatal(FrameSize, "HEADERS without its priority")
		}
		b.self = binary.BigEndian.Uint32(f.payload)&maxID == f.stream
		f.payload = f.payload[5:]
	}
	c.mu.Lock()
	b.trailers = f.stream <= c.lastID
	c.lastID = max(c.lastID, f.stream)
	c.mu.Unlock()
	return c.fragment(f)
}

func (c *Conn) onContinuation(f *frame) error {
	if c.block.stream == 0 {
		return fatal(ProtocolError, "CONTINUATION without HEADERS")
	}
	if len(f.payload) == 0 && !f.has(flagEndHeaders) {
		if err := c.spend(20); err != nil {
			return err
		}
	}
	return c.fragment(f)
}

// fragment decodes a piece of a header block as it comes, so that none has to be kept.
func (c *Conn) fragment(f *frame) error {
	b := &c.block
	if b.size += len(f.payload) + frameHead; b.size > 2*c.cfg.MaxHead {
		return fatal(EnhanceYourCalm, "header block is too long")
	}
	if _, err := c.dec.Write(f.payload); err != nil {
		return fatal(Compression, "header block cannot be decoded")
	}
	if !f.has(flagEndHeaders) {
		return c.spend(4)
	}
	if err := c.dec.Close(); err != nil {
		return fatal(Compression, "header block ends within a field")
	}
	id := b.stream
	b.stream = 0
	c.dec.SetEmitEnabled(true)
	if b.excess {
		b.fields = b.fields[:0]
	}
	return c.complete(id, f)
}

// field takes a decoded field.
func (c *Conn) field(h hpack.HeaderField) {
	b := &c.block
	if b.list += int(h.Size()); b.list > c.cfg.MaxHead || len(b.fields) == maxFields {
		b.excess = true
		c.dec.SetEmitEnabled(false)
		return
	}
	b.fields = append(b.fields, h)
}

// complete acts on a whole header block.
func (c *Conn) complete(id uint32, f *frame) error {
	b := &c.block
	if b.trailers {
		return c.onTrailers(id, f)
	}
	if b.self {
		return &streamError{ProtocolError, "stream depends on itself"}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.drained >= 2 { // the client was told that this stream is not served
		c.closed.add(id, true)
		return nil
	}
	if c.open >= c.cfg.MaxStreams || len(c.streams) >= 2*c.cfg.MaxStreams {
		return &streamError{RefusedStream, "too many streams"}
	}
	s := streams.Get().(*Stream)
	s.begin(c, id)
	if b.excess {
		s.head = s.head[:0]
	} else {
		var err error
		if s.head, s.length, err = appendRequest(s.head[:0], b.fields, b.end); err != nil {
			s.c = nil
			streams.Put(s)
			return err
		}
	}
	c.calm.earn(pieceMin)
	s.received, s.bodiless = b.end, b.end
	c.streams[id] = s
	c.open++
	c.handlers.Add(1)
	go s.runFn() // ends with the handler
	return nil
}

func (c *Conn) onTrailers(id uint32, f *frame) error {
	b := &c.block
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.streams[id]
	if s == nil || s.over || s.received {
		f.kind = headers
		return c.lateLocked(f, s)
	}
	switch err := checkTrailers(b.fields); {
	case b.self:
		return &streamError{ProtocolError, "stream depends on itself"}
	case !b.end:
		return &streamError{ProtocolError, "second HEADERS does not end its stream"}
	case b.excess:
		return &streamError{EnhanceYourCalm, "trailers are too long"}
	case err != nil:
		return err
	case s.length >= 0 && s.total < s.length:
		return errMismatch
	}
	c.receivedLocked(s)
	s.cond.Signal()
	return nil
}

func (c *Conn) onPriority(f *frame) error {
	switch {
	case f.stream == 0:
		return fatal(ProtocolError, "PRIORITY on stream 0")
	case len(f.payload) != 5:
		return c.faultOf(f.stream, FrameSize, "PRIORITY is not 5 bytes long")
	case binary.BigEndian.Uint32(f.payload)&maxID == f.stream:
		return c.faultOf(f.stream, ProtocolError, "stream depends on itself")
	}
	return c.spend(1)
}

// faultOf is a fault of one stream, or of the connection if that stream is idle and so cannot be reset.
func (c *Conn) faultOf(id uint32, code Code, reason string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id > c.lastID || id%2 == 0 {
		return &connError{code, reason}
	}
	return &streamError{code, reason}
}

func (c *Conn) onReset(f *frame) error {
	if len(f.payload) != 4 {
		return fatal(FrameSize, "RST_STREAM is not 4 bytes long")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s, err := c.findLocked(f.stream)
	if err != nil {
		return err
	}
	if s == nil {
		return c.spend(1)
	}
	cost := 1
	if !s.over {
		c.dropLocked(s, ErrGone)
		cost = resetCost // its handler still runs
	}
	return c.spend(cost)
}

func (c *Conn) onSettings(f *frame) error {
	switch {
	case f.stream != 0:
		return fatal(ProtocolError, "SETTINGS on a stream")
	case f.has(flagAck) && len(f.payload) != 0, len(f.payload)%6 != 0:
		return fatal(FrameSize, "SETTINGS of a wrong length")
	case f.has(flagAck):
		return c.spend(1)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for p := f.payload; len(p) > 0; p = p[6:] {
		v := binary.BigEndian.Uint32(p[2:])
		switch binary.BigEndian.Uint16(p) {
		case settingPush:
			if v > 1 {
				return fatal(ProtocolError, "SETTINGS_ENABLE_PUSH is neither 0 nor 1")
			}
		case settingFrame:
			if v < frameMax || v >= 1<<24 {
				return fatal(ProtocolError, "SETTINGS_MAX_FRAME_SIZE is out of bounds")
			}
		case settingWindow:
			if err := c.initialLocked(v); err != nil {
				return err
			}
		}
	}
	c.out = appendFrameHead(c.room(), 0, settings, flagAck, 0)
	return c.spend(4 + len(f.payload)/6)
}

// initialLocked changes all streams' send windows.
func (c *Conn) initialLocked(v uint32) error {
	if v > maxWindow {
		return fatal(FlowControl, "SETTINGS_INITIAL_WINDOW_SIZE is too large")
	}
	change := int64(v) - c.initial
	c.initial = int64(v)
	for _, s := range c.streams {
		if s.sendWindow += change; s.sendWindow > maxWindow {
			return fatal(FlowControl, "SETTINGS_INITIAL_WINDOW_SIZE makes a window too large")
		}
		s.cond.Signal()
	}
	return nil
}

func (c *Conn) onPing(f *frame) error {
	switch {
	case f.stream != 0:
		return fatal(ProtocolError, "PING on a stream")
	case len(f.payload) != 8:
		return fatal(FrameSize, "PING is not 8 bytes long")
	case f.has(flagAck):
		return c.spend(1)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out = append(appendFrameHead(c.room(), 8, ping, flagAck, 0), f.payload...)
	return c.spend(4)
}

func (c *Conn) onGoAway(f *frame) error {
	if f.stream != 0 {
		return fatal(ProtocolError, "GOAWAY on a stream")
	}
	if len(f.payload) < 8 {
		return fatal(FrameSize, "GOAWAY is shorter than 8 bytes")
	}
	return c.spend(4) // the client opens no more streams, and closes
}

func (c *Conn) onWindow(f *frame) error {
	if len(f.payload) != 4 {
		return fatal(FrameSize, "WINDOW_UPDATE is not 4 bytes long")
	}
	n := int64(binary.BigEndian.Uint32(f.payload) & maxID)
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.stream == 0 {
		if n == 0 {
			return fatal(ProtocolError, "WINDOW_UPDATE by 0")
		}
		if c.sendWindow += n; c.sendWindow > maxWindow {
			return fatal(FlowControl, "the connection's window overflows")
		}
		c.needLocked(0)
		c.wakeLocked()
		return c.windowCostLocked()
	}
	s, err := c.findLocked(f.stream)
	if err != nil || s == nil || s.over {
		if err == nil {
			err = c.spend(1)
		}
		return err
	}
	if n == 0 {
		return &streamError{ProtocolError, "WINDOW_UPDATE by 0"}
	}
	if s.sendWindow += n; s.sendWindow > maxWindow {
		return &streamError{FlowControl, "the stream's window overflows"}
	}
	s.cond.Signal()
	return c.windowCostLocked()
}

// windowCostLocked is the cost of a WINDOW_UPDATE: none while what was sent pays for it.
func (c *Conn) windowCostLocked() error {
	if c.paid > 0 {
		c.paid--
		return nil
	}
	return c.spend(1)
}

// calm is how much a client may cost beyond what it asks for: a bucket that time and requests fill.
type calm struct {
	left int
	at   int64
}

const (
	calmMax    = 2000 // what a client may cost at once
	calmRate   = 200  // and per second
	resetCost  = 18   // of a stream reset while its handler runs
	calmPerReq = 8    // what a request, or a piece of its body worth the name, gives back
	pieceMin   = 256  // is worth the name
	creditMax  = 4096 // window updates that were paid for
	creditPer  = 8    // that a frame of a body pays for
)

func (l *calm) reset() { *l = calm{calmMax, upstream.Now()} }

func (l *calm) earn(n int) {
	if n >= pieceMin {
		l.left = min(calmMax, l.left+calmPerReq)
	}
}

func (l *calm) spend(n int) bool {
	if l.left -= n; l.left < calmMax/2 {
		now := upstream.Now()
		if refill := (now - l.at) / (1e9 / calmRate); refill > 0 {
			l.left, l.at = int(min(calmMax, int64(l.left)+refill)), now
		}
	}
	return l.left >= 0
}

// ring remembers streams that ended lately, to tell what may still be under way from what may not.
type ring struct {
	ids  [256]uint32
	ours [256]bool // reset by us
	n    uint8
}

func (r *ring) add(id uint32, ours bool) {
	r.ids[r.n], r.ours[r.n] = id, ours
	r.n++
}

func (r *ring) find(id uint32) (known, ours bool) {
	for i, k := range r.ids {
		if k == id {
			return true, r.ours[i]
		}
	}
	return false, false
}
