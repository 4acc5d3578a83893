package fastcgi

import (
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"banyan/proxy/upstream"
	"banyan/proxy/wire"
)

const (
	inlineBody = 32 << 10 // up to this size a body leaves with its parameters, in one write
	readSize   = 16 << 10
	keepSize   = 128 << 10 // larger buffers are not kept for the next request
	maxDrain   = 1 << 20   // of a body that no client sees
)

// conn carries one request: to php-fpm over a link, or to a file, or to the Static upstream.
//
// Not obvious: a link that died while idle is found before anything was written, and another one is taken at once, since
// a link is only asked for when the request is known to run a script.
type conn struct {
	up       *Upstream
	l        *link
	req      wire.Request
	at       place
	call     call
	fresh    bool
	timeouts upstream.Timeouts
	noBody   bool
	chunked  bool

	out      []byte // what is written
	deferred bool
	complete bool // the request was sent to its end
	sent     bool
	answered bool

	spool  *spool // the body is stored before anything is sent
	own    local
	chosen int           // the status of a script that named a file
	next   upstream.Conn // Static's

	rec     records
	head    []byte
	framing wire.Framing
	left    int64
	done    bool
	excess  bool
}

var (
	_ upstream.Conn  = (*conn)(nil)
	_ upstream.Stead = (*conn)(nil)
)

func newConn(u *Upstream) *conn {
	c := &conn{up: u}
	c.rec.buf = make([]byte, readSize)
	return c
}

// Reused implements upstream.Conn.
func (c *conn) Reused() bool {
	if c.next != nil {
		return c.next.Reused()
	}
	return c.l != nil && c.l.reused
}

func (c *conn) fail(doing string, class upstream.Class, err error) error {
	return &upstream.Error{Upstream: c.up.cfg.Name, Doing: doing, Class: class, Sent: c.sent, Answered: c.answered, Err: err}
}

func classify(err error) upstream.Class {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return upstream.Timeout
	}
	return upstream.Cut
}

// Send implements upstream.Conn.
func (c *conn) Send(m *upstream.Message) error {
	c.timeouts = m.Timeouts.Or(c.up.cfg.Timeouts)
	c.noBody, c.chunked = m.NoBody, m.Chunked
	c.req.Reset()
	if done, err := c.req.Parse(m.Head); err != nil || !done {
		return c.fail("read the request's head", upstream.Malformed, errors.Join(err, errHead))
	}
	c.at = c.up.resolve(c.req.Target())
	switch c.at.what {
	case refused:
		c.say(http.StatusBadRequest, "the request target is ambiguous")
	case missing:
		c.say(http.StatusNotFound, "not found")
	case moved:
		c.redirect(&c.at)
	case file:
		c.serve(&c.at)
	case elsewhere:
		return c.handOn(m)
	case runs:
		return c.run(m)
	}
	if m.More {
		return upstream.ErrAnswered
	}
	return nil
}

var errHead = errors.New("the proxy made a head that is none")

func (c *conn) handOn(m *upstream.Message) error {
	next, err := c.up.cfg.Static.Get(m.Timeouts, c.fresh)
	if err != nil {
		return err
	}
	c.next = next
	return next.Send(m)
}

// run begins a request that runs a script.
func (c *conn) run(m *upstream.Message) error {
	c.call = call{req: &c.req, query: c.at.query, script: c.at.path, info: c.at.info, length: c.req.Length(), origin: m.Origin}
	if m.More && (m.Chunked || c.up.cfg.Spool) {
		s, err := newSpool(c.up.cfg.SpoolDir)
		if err == nil {
			err = s.write(m.Body)
		}
		if err != nil {
			return c.fail("store the request's body", upstream.Cut, err)
		}
		c.spool = s
		return nil
	}
	if m.Chunked {
		c.call.length = int64(len(m.Body))
	}
	if err := c.begin(); err != nil {
		return err
	}
	body := m.Body
	if len(body) <= inlineBody {
		c.out = appendStdin(c.out, body, !m.More)
		body = nil
	}
	if len(body) == 0 && !m.More {
		c.deferred, c.complete = true, true
		return nil
	}
	if err := c.flush(); err != nil || len(body) == 0 {
		return err
	}
	return c.SendBody(body, !m.More)
}

// begin makes the records before the body.
func (c *conn) begin() (err error) {
	keep := c.up.cfg.RequestsPerConn != 1
	if c.out, err = c.up.appendParams(appendBegin(c.out[:0], keep), &c.call); err != nil {
		return c.fail("make the parameters", upstream.Malformed, err)
	}
	return nil
}

// connect takes a link; another, if there is one that turned out to be stale.
func (c *conn) connect() (err error) {
	if c.l != nil {
		c.drop()
		c.fresh = true
	}
	c.l, err = c.up.links.Get(c.timeouts.Dial, c.fresh)
	return err
}

func (c *conn) drop() {
	c.l.Close()
	c.l = nil
	c.up.links.Free()
}

// flush writes out without waiting for an answer.
func (c *conn) flush() error {
	for {
		if err := c.connect(); err != nil {
			return err
		}
		if err := c.l.sock.Stale(); err == nil {
			break
		} else if !c.l.reused {
			return c.fail("use a new connection", upstream.Cut, err)
		}
	}
	return c.write(c.out)
}

// write sends b. The wait for a slow script is cut into slices, between which an early answer is looked for.
func (c *conn) write(b []byte) error {
	const slice = time.Second
	started := upstream.Now()
	for {
		now := upstream.Now()
		c.l.writeBy.Forget()
		if err := c.l.writeBy.Extend(c.l.nc.SetWriteDeadline, now, min(slice, c.timeouts.BetweenBytes)); err != nil {
			return c.fail("send the request", upstream.Cut, err)
		}
		n, err := c.l.nc.Write(b)
		if n > 0 {
			c.sent = true
			started = upstream.Now()
		}
		b = b[n:]
		if err == nil {
			return nil
		}
		slow := classify(err) == upstream.Timeout
		switch pending := c.sent && c.l.pending(); {
		case pending && slow: // it may only have complained, and read on
			if err := c.early(); err != nil {
				return err
			}
		case pending:
			return upstream.ErrAnswered
		case !slow || upstream.Now()-started > int64(c.timeouts.BetweenBytes):
			return c.fail("send the request", classify(err), err)
		}
	}
}

// SendBody implements upstream.Conn. A script that answers while it still reads gets the rest: only one that has ended
// does not.
func (c *conn) SendBody(p []byte, last bool) error {
	switch {
	case c.next != nil:
		return c.next.SendBody(p, last)
	case c.spool != nil:
		if err := c.spool.write(p); err != nil {
			return c.fail("store the request's body", upstream.Cut, err)
		}
		if !last {
			return nil
		}
		return c.sendSpool()
	}
	return c.sendPiece(p, last)
}

func (c *conn) sendPiece(p []byte, last bool) error {
	if c.l.pending() {
		if err := c.early(); err != nil {
			return err
		}
	}
	c.out = appendStdin(c.out[:0], p, last)
	if err := c.write(c.out); err != nil {
		return err
	}
	c.complete = c.complete || last
	return nil
}

// early takes what the script says while its body is still being sent.
func (c *conn) early() error {
	room := c.rec.room()
	if len(room) == 0 {
		return upstream.ErrAnswered // it says more than can be kept
	}
	if err := c.read(room, c.timeouts.BetweenBytes, "receive the answer"); err != nil {
		return err
	}
	if c.rec.endAhead() {
		return upstream.ErrAnswered
	}
	return nil
}

// sendSpool sends the stored body, whose length is known now.
func (c *conn) sendSpool() error {
	c.call.length = c.spool.size
	if err := c.begin(); err != nil {
		return err
	}
	if err := c.flush(); err != nil {
		return err
	}
	return c.spool.each(c.sendPiece)
}

// exchange writes the deferred request and reads the first bytes of the answer.
func (c *conn) exchange() error {
	c.deferred = false
	for {
		if err := c.connect(); err != nil {
			return err
		}
		if err := c.l.wait(c.timeouts.FirstByte); err != nil {
			return c.fail("send the request", upstream.Cut, err)
		}
		written, n, err := c.l.sock.Exchange(c.out, c.rec.buf[c.rec.n:])
		c.sent = written > 0
		c.rec.n += n
		switch {
		case upstream.IsStale(err):
			if c.l.reused {
				continue
			}
			return c.fail("use a new connection", upstream.Cut, err)
		case err == nil && n == 0:
			if err := c.write(c.out[written:]); err != nil && err != upstream.ErrAnswered {
				return err
			}
			return nil
		}
		return c.check("receive the answer", err)
	}
}

// check makes an error of what a read met.
func (c *conn) check(doing string, err error) error {
	if c.rec.n > 0 {
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

// read reads behind what stands in the records' buffer; a wait of 0 keeps the deadline that is set.
func (c *conn) read(room []byte, wait time.Duration, doing string) error {
	if wait > 0 {
		if err := c.l.wait(wait); err != nil {
			return c.fail(doing, upstream.Cut, err)
		}
	}
	n, err := c.l.nc.Read(room)
	c.rec.n += n
	if n > 0 {
		err = nil
	}
	return c.check(doing, err)
}

// Receive implements upstream.Conn.
func (c *conn) Receive(resp *wire.Response, in *upstream.Inbox) error {
	if c.next != nil {
		return c.next.Receive(resp, in)
	}
	resp.Reset()
	if c.own.head != nil {
		return c.receiveOwn(resp, in)
	}
	if c.deferred {
		if err := c.exchange(); err != nil {
			return err
		}
	} else if err := c.l.wait(c.timeouts.FirstByte); err != nil {
		return c.fail("receive the answer", upstream.Cut, err)
	}
	head, err := c.readHead()
	if err != nil {
		return err
	}
	out, names, err := appendAnswer(in.Buf[:0], head)
	in.Buf = out[:cap(out)]
	if err == nil {
		var done bool
		if done, err = resp.Parse(out); err == nil && !done {
			err = errLine
		}
	}
	if err != nil {
		return c.fail("read the answer's head", upstream.Malformed, err)
	}
	if names {
		return c.fetch(resp, in)
	}
	c.framing, c.left = resp.Framing(c.noBody), resp.Length()
	if c.framing == wire.NoBody {
		return c.drain()
	}
	c.done = c.framing == wire.ByLength && c.left == 0
	return nil
}

// receiveOwn gives the head that was made here.
func (c *conn) receiveOwn(resp *wire.Response, in *upstream.Inbox) error {
	resp.Reset()
	in.Buf = append(in.Buf[:0], c.own.head...)
	done, err := resp.Parse(in.Buf)
	in.Buf = in.Buf[:cap(in.Buf)]
	if err != nil || !done {
		return c.fail("make the answer's head", upstream.Malformed, errors.Join(err, errHead))
	}
	if resp.Framing(c.noBody) == wire.NoBody {
		c.own.body, c.own.left = nil, 0
	}
	c.done = len(c.own.body) == 0 && c.own.left == 0
	return nil
}

// readHead gives the CGI head; what follows it stays where it is.
func (c *conn) readHead() ([]byte, error) {
	d := &c.rec
	c.head = c.head[:0]
	for {
		if err := d.parse(); err != nil {
			return nil, c.fail("read the answer", upstream.Malformed, err)
		}
		if b := d.content(); len(b) > 0 {
			from := len(c.head)
			head := b
			if from > 0 {
				c.head = append(c.head, b...)
				head = c.head
			}
			if end := headEnd(head, from); end > 0 {
				if end > c.up.cfg.MaxHead {
					return nil, c.fail("read the answer's head", upstream.Malformed, errHeadSize)
				}
				d.r += end - from
				d.took(end - from)
				return head[:end], nil
			}
			if from == 0 {
				c.head = append(c.head, b...)
			}
			if d.r += len(b); len(c.head) > c.up.cfg.MaxHead {
				return nil, c.fail("read the answer's head", upstream.Malformed, errHeadSize)
			}
			d.took(len(b))
			continue
		}
		if d.ended {
			return nil, c.fail("read the answer's head", upstream.Malformed, errHeadShort)
		}
		if err := c.read(d.room(), 0, "receive the answer"); err != nil {
			return nil, err
		}
	}
}

// drain reads an answer without a body to its end, so that it is known to be over, and the link may be kept.
func (c *conn) drain() error {
	for total := 0; ; {
		if err := c.rec.parse(); err != nil {
			return c.fail("read the answer", upstream.Malformed, err)
		}
		if n := len(c.rec.content()); n > 0 {
			c.rec.r += n
			c.rec.took(n)
			if total += n; total > maxDrain {
				c.done = true
				return nil
			}
			continue
		}
		if c.rec.ended {
			c.done = true
			return nil
		}
		if err := c.read(c.rec.room(), c.timeouts.BetweenBytes, "receive the answer"); err != nil {
			return err
		}
	}
}

// Buffered implements upstream.Conn.
func (c *conn) Buffered() bool {
	if c.next != nil {
		return c.next.Buffered()
	}
	if c.done || c.own.head != nil {
		return true
	}
	return c.rec.parse() != nil || c.rec.ended || len(c.rec.content()) > 0
}

// Body implements upstream.Conn.
func (c *conn) Body(p []byte) (n int, end bool, err error) {
	if c.next != nil {
		return c.next.Body(p)
	}
	if c.done {
		return 0, true, nil
	}
	if c.own.head != nil {
		return c.ownBody(p)
	}
	d := &c.rec
	for n == 0 && !c.done {
		if err := d.parse(); err != nil {
			return 0, false, c.fail("read the answer's body", upstream.Malformed, err)
		}
		switch {
		case d.out > 0:
			n, err = c.take(p)
		case d.ended:
			if c.done = true; c.framing == wire.ByLength && c.left > 0 {
				c.done = false
				return 0, false, c.fail("read the answer's body", upstream.Malformed, errShort)
			}
		default:
			err = c.read(d.room(), c.timeouts.BetweenBytes, "receive the answer's body")
		}
		if err != nil {
			return 0, false, err
		}
	}
	if !c.done && d.parse() == nil && d.ended { // an error comes with the next piece
		c.done = c.framing != wire.ByLength || c.left == 0
	}
	return n, c.done, nil
}

var errShort = errors.New("body is shorter than its Content-Length")

// take takes content of STDOUT, from the buffer or straight off the socket.
func (c *conn) take(p []byte) (n int, err error) {
	d := &c.rec
	if c.framing == wire.ByLength && int64(len(p)) > c.left {
		p = p[:c.left]
	}
	if b := d.content(); len(b) > 0 {
		n = copy(p, b)
		d.r += n
	} else {
		if err := c.l.wait(c.timeouts.BetweenBytes); err != nil {
			return 0, c.fail("receive the answer's body", upstream.Cut, err)
		}
		n, err = c.l.nc.Read(p[:min(len(p), d.out)])
		if n == 0 {
			return 0, c.check("receive the answer's body", err)
		}
	}
	d.took(n)
	if c.framing == wire.ByLength {
		c.left -= int64(n)
		c.done = c.left == 0
	}
	return n, nil
}

func (c *conn) ownBody(p []byte) (n int, end bool, err error) {
	if c.own.file == nil {
		n = copy(p, c.own.body)
		c.own.body = c.own.body[n:]
		c.done = len(c.own.body) == 0
		return n, c.done, nil
	}
	n, err = c.own.file.Read(p[:min(int64(len(p)), c.own.left)])
	c.own.left -= int64(n)
	c.done = c.own.left == 0
	if err != nil && !c.done {
		c.answered = true
		return n, false, c.fail("read the file", upstream.Cut, err)
	}
	return n, c.done, nil
}

// Chosen implements upstream.Stead.
func (c *conn) Chosen() int { return c.chosen }

// Hijack implements upstream.Conn. Nobody asks a Front to switch, and no answer of a script is a 101: it could be Static's.
func (c *conn) Hijack() (net.Conn, []byte) { return c.next.Hijack() }

// Release implements upstream.Conn.
func (c *conn) Release() {
	if c.next != nil {
		c.next.Release()
		c.next = nil
	} else if c.l != nil {
		c.settle()
		c.giveBack()
	}
	c.back()
}

// giveBack ends the use of the link, which is kept if the answer is over.
func (c *conn) giveBack() {
	c.report()
	if !c.reusable() {
		c.drop()
		return
	}
	l := c.l
	c.l = nil
	l.expires = upstream.Now() + int64(c.up.cfg.IdleTimeout)
	c.up.links.Put(l)
}

// settle waits a moment for the record that ends an answer whose length was known: php-fpm sends it at once, unless the
// script goes on for itself.
func (c *conn) settle() {
	for c.done && c.complete && !c.rec.ended && c.framing != wire.NoBody {
		if c.rec.parse() != nil || c.rec.ended {
			return
		}
		if n := len(c.rec.content()); n > 0 {
			c.excess = true
			return
		}
		if c.read(c.rec.room(), 50*time.Millisecond, "end the answer") != nil {
			return
		}
	}
}

func (c *conn) reusable() bool {
	c.l.requests++
	limit := c.up.cfg.RequestsPerConn
	return c.done && c.complete && c.rec.ended && c.rec.skip == 0 && c.rec.r == c.rec.n && (limit == 0 || c.l.requests < limit)
}

// Abort implements upstream.Conn.
func (c *conn) Abort() {
	if c.next != nil {
		c.next.Abort()
		c.next = nil
	} else if c.l != nil {
		c.report()
	}
	c.back()
}

// report logs what the script wrote to STDERR, and an answer that was too long.
func (c *conn) report() {
	if c.rec.stderrN == 0 && !c.excess {
		return
	}
	attrs := c.attrs()
	if c.rec.stderrN > 0 {
		attrs = append(attrs, slog.String("stderr", string(c.rec.stderr)), slog.Int("bytes", c.rec.stderrN))
	}
	if c.excess {
		attrs = append(attrs, "answer", "has more than its head announces; the rest was dropped")
	}
	c.up.cfg.Log.Warn("script complains", attrs...)
}

// attrs say in a log whose request it was, and which script's.
func (c *conn) attrs() []any {
	attrs := []any{"upstream", c.up.cfg.Name, "script", c.at.path}
	if o := c.call.origin; o != nil {
		id, trace := o.IDs()
		if id != [16]byte{} {
			attrs = append(attrs, "exchange", hex.EncodeToString(id[:]))
		}
		if trace != [16]byte{} {
			attrs = append(attrs, "trace_id", hex.EncodeToString(trace[:]))
		}
	}
	return attrs
}

// back ends the use of c, whose link, if it still has one, is closed.
func (c *conn) back() {
	if c.l != nil {
		c.drop()
	}
	if c.own.file != nil {
		c.own.file.Close()
	}
	if c.spool != nil {
		c.spool.close()
	}
	c.req.Reset()
	c.rec.reset()
	if cap(c.out) > keepSize {
		c.out = nil
	}
	if cap(c.head) > keepSize {
		c.head = nil
	}
	*c = conn{up: c.up, req: c.req, out: c.out[:0], head: c.head[:0], rec: c.rec}
	c.up.conns.Put(c)
}
