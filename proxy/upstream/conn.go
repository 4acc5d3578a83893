package upstream

import (
	"io"
	"net"
	"strconv"
	"time"

	"banyan/proxy/wire"
)

const (
	inlineBody = 32 << 10 // up to this size a body is copied behind its head, to leave in one write
	minInbox   = 16 << 10
	maxInterim = 64
)

// conn is one HTTP/1.1 connection. A request without more body is written inside the wait for its answer.
type conn struct {
	pool    *Pool
	nc      net.Conn
	sock    *Socket
	reused  bool
	expires int64
	readBy  Deadline
	writeBy Deadline

	out      []byte
	deferred bool // out waits for Receive

	in       *Inbox
	first    time.Duration
	between  time.Duration
	chunked  bool // the request's body
	complete bool // the request was sent to its end
	sent     bool
	answered bool

	noBody  bool
	interim int
	framing wire.Framing
	left    int64
	chunks  wire.Chunks
	keep    bool // the backend keeps the connection
	done    bool // the answer was read to its end
}

func newConn(p *Pool, nc net.Conn) (*conn, error) {
	c := &conn{pool: p, nc: nc}
	var err error
	if c.sock, err = NewSocket(nc); err != nil {
		return nil, err
	}
	return c, nil
}

// Close implements Link.
func (c *conn) Close() error { return c.nc.Close() }

// Expires implements Link.
func (c *conn) Expires() int64 { return c.expires }

// Again implements Link.
func (c *conn) Again() { c.reused = true }

// Reused implements Conn.
func (c *conn) Reused() bool { return c.reused }

func (c *conn) fail(doing string, class Class, err error) error {
	return &Error{Upstream: c.pool.cfg.Name, Doing: doing, Class: class, Reused: c.reused, Sent: c.sent, Answered: c.answered, Err: err}
}

// Send implements Conn.
func (c *conn) Send(m *Message) error {
	t := m.Timeouts.Or(c.pool.cfg.Timeouts)
	c.first, c.between = t.FirstByte, t.BetweenBytes
	c.chunked, c.noBody, c.complete = m.Chunked, m.NoBody, !m.More
	c.sent, c.answered, c.done, c.keep, c.interim = false, false, false, false, 0

	size, rest := len(m.Head), m.Body
	out := m.Head
	if len(rest) <= inlineBody {
		out = appendBody(out, rest, m.Chunked, !m.More)
		rest = nil
	}
	c.out, m.Head = out, out[:size:cap(out)]
	if len(rest) == 0 && !m.More {
		c.deferred = true
		return nil
	}
	if err := c.flush(); err != nil {
		return err
	}
	if len(rest) > 0 {
		return c.SendBody(rest, !m.More)
	}
	return nil
}

// appendBody appends body as it is framed.
func appendBody(out, body []byte, chunked, last bool) []byte {
	if !chunked {
		return append(out, body...)
	}
	if len(body) > 0 {
		out = strconv.AppendInt(out, int64(len(body)), 16)
		out = append(append(append(out, "\r\n"...), body...), "\r\n"...)
	}
	if last {
		out = append(out, wire.LastChunk...)
	}
	return out
}

// flush writes out without waiting for an answer.
func (c *conn) flush() error {
	if err := c.sock.Stale(); err != nil {
		return c.fail("use an idle connection", Cut, err)
	}
	return c.write(c.out)
}

// write sends b. The wait for a slow backend is cut into slices, between which an early answer is looked for.
func (c *conn) write(b []byte) error {
	const slice = time.Second
	started := Now()
	for {
		now := Now()
		c.writeBy.Forget()
		if err := c.writeBy.Extend(c.nc.SetWriteDeadline, now, min(slice, c.between)); err != nil {
			return c.fail("send the request", Cut, err)
		}
		n, err := c.nc.Write(b)
		if n > 0 {
			c.sent = true
			started = Now()
		}
		b = b[n:]
		if err == nil {
			return nil
		}
		if c.sent && c.pending() {
			return ErrAnswered
		}
		if classify(err) != Timeout || Now()-started > int64(c.between) {
			return c.fail("send the request", classify(err), err)
		}
	}
}

// pending tells whether the backend has sent something.
func (c *conn) pending() bool {
	n, _ := c.sock.Look()
	return n > 0
}

// SendBody implements Conn.
func (c *conn) SendBody(p []byte, last bool) error {
	if c.pending() {
		return ErrAnswered
	}
	if c.chunked {
		var line [wire.ChunkRoom]byte
		if len(p) > 0 {
			at := wire.ChunkHead(line[:], len(p))
			if err := c.write(line[at:]); err != nil {
				return err
			}
		}
	}
	if len(p) > 0 {
		if err := c.write(p); err != nil {
			return err
		}
	}
	if c.chunked {
		end := "\r\n"
		if len(p) == 0 {
			end = ""
		}
		if last {
			end += wire.LastChunk
		}
		if err := c.write([]byte(end)); err != nil {
			return err
		}
	}
	c.complete = c.complete || last
	return nil
}

// exchange writes the deferred request and reads the first bytes of the answer.
func (c *conn) exchange() error {
	c.deferred = false
	if err := c.readBy.Extend(c.nc.SetReadDeadline, Now(), c.first); err != nil {
		return c.fail("send the request", Cut, err)
	}
	written, n, err := c.sock.Exchange(c.out, c.in.Buf[c.in.n:])
	c.sent = written > 0
	c.in.n += n
	switch {
	case IsStale(err):
		return c.fail("use an idle connection", Cut, err)
	case err == nil && n == 0:
		if err := c.write(c.out[written:]); err != nil && err != ErrAnswered {
			return err
		}
		return c.read()
	}
	return c.check("receive the answer", err)
}

// check makes an error of what a read met.
func (c *conn) check(doing string, err error) error {
	if c.in.n > 0 {
		c.answered = true
	}
	if err == nil {
		return nil
	}
	if err == io.EOF {
		err = errCut
	}
	return c.fail(doing, classify(err), err)
}

// read reads more of the head.
func (c *conn) read() error {
	n, err := c.nc.Read(c.in.Buf[c.in.n:])
	c.in.n += n
	if n > 0 {
		err = nil
	}
	return c.check("receive the answer", err)
}

// Receive implements Conn.
func (c *conn) Receive(resp *wire.Response, in *Inbox) error {
	resp.Reset()
	if c.in != in {
		c.in = in
		in.r, in.n = 0, 0
		if len(in.Buf) < minInbox {
			in.Buf = make([]byte, minInbox)
		}
	}
	if c.deferred {
		if err := c.exchange(); err != nil {
			return err
		}
	} else if err := c.readBy.Extend(c.nc.SetReadDeadline, Now(), c.first); err != nil {
		return c.fail("receive the answer", Cut, err)
	}
	for {
		done, err := resp.Parse(in.Buf[in.r:in.n])
		if err != nil {
			return c.fail("read the answer's head", Malformed, err)
		}
		if done {
			break
		}
		if err := c.grow(); err != nil {
			return err
		}
		if err := c.read(); err != nil {
			return err
		}
	}
	in.r += resp.Size()
	return c.begin(resp)
}

// grow makes room for more of a head.
func (c *conn) grow() error {
	in := c.in
	if in.n < len(in.Buf) {
		return nil
	}
	if in.n-in.r >= c.pool.cfg.MaxHead {
		return c.fail("read the answer's head", Malformed, errHeadSize)
	}
	b := make([]byte, min(2*len(in.Buf), in.r+c.pool.cfg.MaxHead+minInbox))
	copy(b, in.Buf[:in.n])
	in.Buf = b
	return nil
}

// begin prepares for the body of the answer whose head was read.
func (c *conn) begin(resp *wire.Response) error {
	if resp.Interim() {
		if c.interim++; c.interim > maxInterim {
			return c.fail("read the answer's head", Malformed, errInterim)
		}
		return nil
	}
	c.framing, c.left = resp.Framing(c.noBody), resp.Length()
	c.keep = resp.KeepAlive() && c.framing != wire.ByClosing && resp.Status() != 101
	c.expires = int64(c.pool.cfg.IdleTimeout)
	if v := resp.Field("keep-alive"); v != nil {
		c.hint(v)
	}
	switch c.framing {
	case wire.NoBody:
		c.done = true
	case wire.ByLength:
		c.done = c.left == 0
	case wire.ByChunks:
		c.chunks.Reset()
	}
	return nil
}

// hint lowers the idle time to what the backend says it keeps, less a second.
func (c *conn) hint(v []byte) {
	wire.EachToken(v, func(t []byte) bool {
		if len(t) > 8 && wire.Is(t[:7], "timeout") && t[7] == '=' {
			if n, err := strconv.Atoi(string(t[8:])); err == nil && n >= 0 && n < 1<<20 {
				c.expires = min(c.expires, int64(n)*int64(time.Second)-int64(time.Second))
			}
			return false
		}
		return true
	})
}

// Buffered implements Conn. Backends often write a head and its body one after the other: so a small body that has come
// since the head is taken too, and both leave together.
func (c *conn) Buffered() bool {
	if !c.done && c.in.n == c.in.r && c.framing == wire.ByLength && c.left <= int64(len(c.in.Buf)-c.in.n) {
		c.in.n += c.sock.Take(c.in.Buf[c.in.n:])
	}
	return c.done || c.in.n > c.in.r
}

// Body implements Conn.
func (c *conn) Body(p []byte) (n int, end bool, err error) {
	if c.done {
		return 0, true, nil
	}
	fresh := c.in.n == c.in.r
	if fresh {
		if err := c.readBy.Extend(c.nc.SetReadDeadline, Now(), c.between); err != nil {
			return 0, false, c.fail("receive the answer's body", Cut, err)
		}
	}
	switch c.framing {
	case wire.ByLength:
		if int64(len(p)) > c.left {
			p = p[:c.left]
		}
		n, err = c.take(p, fresh)
		c.left -= int64(n)
		c.done = c.left == 0
	case wire.ByClosing:
		if n, err = c.take(p, fresh); err == io.EOF {
			c.done, err = true, nil
		}
	default:
		n, err = c.takeChunks(p, fresh)
		c.done = err == nil && c.chunks.Done()
	}
	if err != nil && !c.done {
		if wire.IsMalformed(err) {
			return n, false, c.fail("read the answer's body", Malformed, err)
		}
		return n, false, c.check("receive the answer's body", err)
	}
	return n, c.done, nil
}

func (c *conn) take(p []byte, fresh bool) (int, error) {
	if fresh {
		n, err := c.nc.Read(p)
		if n > 0 {
			err = nil
		}
		return n, err
	}
	n := copy(p, c.in.Buf[c.in.r:c.in.n])
	c.in.r += n
	return n, nil
}

// takeChunks decodes from the inbox, or reads into p and decodes there.
func (c *conn) takeChunks(p []byte, fresh bool) (int, error) {
	if !fresh {
		w, r, err := c.chunks.Decode(p, c.in.Buf[c.in.r:c.in.n])
		c.in.r += r
		return w, err
	}
	n, err := c.nc.Read(p)
	if n == 0 {
		return 0, err
	}
	w, r, err := c.chunks.Decode(p, p[:n])
	if err == nil && r < n { // bytes behind the last chunk: never to be taken for an answer
		c.keep = false
	}
	return w, err
}

// Hijack implements Conn.
func (c *conn) Hijack() (net.Conn, []byte) {
	c.nc.SetDeadline(time.Time{})
	read := c.in.Buf[c.in.r:c.in.n]
	c.out, c.in = nil, nil
	return c.nc, read
}

// Release implements Conn.
func (c *conn) Release() {
	if !c.done || !c.keep || !c.complete || c.in.n > c.in.r {
		c.Abort()
		return
	}
	c.out, c.in = nil, nil
	c.expires += Now()
	c.pool.links.Put(c)
}

// Abort implements Conn.
func (c *conn) Abort() {
	c.out, c.in = nil, nil
	c.nc.Close()
	c.pool.links.Free()
}
