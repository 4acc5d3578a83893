package proxy

import (
	"bytes"
	"strings"
	"time"

	"banyan/proxy/upstream"
	"banyan/proxy/wire"
)

// Verdict is what OnHead says of an answer's head.
type Verdict uint8

const (
	Pass   Verdict = iota // to the client
	Refuse                // nowhere: Forward returns with nothing written, and may be called again
)

// ForwardOptions say how Forward departs from passing everything on. The zero value does not depart.
type ForwardOptions struct {
	// Target replaces the request target.
	Target []byte
	// Add is fields to add; the client's own of these names are dropped first.
	Add []wire.Pair
	// Drop is names (lower case) of fields to leave out.
	Drop []string
	// DropCookie is the name of a cookie to leave out of Cookie; with * at its end, what the names begin with.
	DropCookie string
	// Repeatable allows a second send when a reused connection failed after bytes of the request were written and
	// before a byte of the answer came. A request of which nothing was written is always sent on another connection, one
	// that asks for another protocol never twice.
	Repeatable bool
	// Upgrade is the protocols (RFC 9110 7.8, "websocket") to which client and upstream may switch the connection, after
	// which it carries whatever they say. Others, and all that a request with a body, of HTTP/1.0 or over HTTP/2 asks for,
	// are left out: the request is then a plain one. So it is at a Front, whose scripts cannot switch.
	Upgrade []string
	// Timeouts replaces the upstream's, where not zero.
	Timeouts upstream.Timeouts
	// OnHead is called with the final head before a byte goes to the client. It may Add and Drop fields of r.
	OnHead func(x *Exchange, r *wire.Response) Verdict
	// Capture is how many bytes of the decoded answer's body to copy for the Result.
	Capture int
	// BeforeEnd is called when the whole answer was read, before its last bytes are released to the client. It is not
	// called for an answer that was cut or refused.
	BeforeEnd func(x *Exchange, r *Result)
	// IgnoreClientGone reads the answer to its end though the client has left.
	IgnoreClientGone bool
}

// Result is what became of a Forward. Captured is valid until the handler returns or forwards again.
type Result struct {
	Status    int   // of the answer, 0 when no head came
	Chosen    int   // the status that the backend chose: Status, unless a file is served in its stead (upstream.Stead)
	Refused   bool  // by OnHead
	BodyBytes int64 // decoded, as read from the upstream
	Captured  []byte
	Truncated bool           // the body was longer than Captured
	Forwarded time.Time      // when the request was about to be sent
	FirstByte time.Time      // when the answer's head was complete
	LastByte  time.Time      // when the answer had been read to its end
	Sent      bool           // some of the request may have reached the upstream
	Class     upstream.Class // what went wrong at the upstream
	// ClientGone tells that the client left before it had everything.
	ClientGone bool
}

// Forward sends the request to u and passes the answer on. When it returns an error, Answered tells whether an answer
// had begun (then the connection will be closed, so that the cut is seen); if not, Fail, Reply or another Forward may
// follow. A client that left is an error only if it kept the answer from being read to its end.
func (x *Exchange) Forward(u upstream.Upstream, o ForwardOptions) (Result, error) {
	x.opts, x.res = o, Result{}
	res := &x.res
	err := x.forward(u, &x.opts, res)
	res.ClientGone = x.clientGone
	if err != nil {
		x.err = err
		if x.status != 0 {
			x.broken = true
		}
	} else {
		x.err = nil
	}
	return *res, err
}

func (x *Exchange) forward(u upstream.Upstream, o *ForwardOptions, res *Result) error {
	switch {
	case x.status != 0:
		return errAnswered
	case x.streamed:
		return errBodyGone
	}
	if !x.bodyDone {
		if err := x.inlineBody(); err != nil {
			return err
		}
	}
	x.upstream, x.captured = u.Name(), x.captured[:0]
	m := &x.message
	_, front := u.(upstream.Front)
	if x.offered = x.offered[:0]; !front {
		x.offered = x.offer(x.offered, o.Upgrade)
	}
	*m = upstream.Message{Head: x.appendRequest(x.out[:0], o, front), Body: x.body, More: !x.bodyDone,
		Chunked: x.req.Chunked(), NoBody: x.req.IsHead(), Timeouts: o.Timeouts, Origin: x}
	res.Forwarded = time.Now()
	c, err := x.ask(u, o, m, res)
	if err != nil {
		res.Sent, res.Class = !upstream.Unsent(err), upstream.ClassOf(err)
		return err
	}
	res.Sent = true
	return x.answer(c, o, res)
}

// inlineBody completes a small body whose length is known, so that a slow client holds none of the upstream's workers;
// of others it takes what has come already.
func (x *Exchange) inlineBody() error {
	limit := 0
	if !x.req.Chunked() {
		if x.left+int64(len(x.body)) <= inlineMax {
			limit = inlineMax
		}
	} else if x.r < x.n {
		return x.bufferedChunks()
	} else if x.multiplexed {
		if n, complete := x.h2.s.Buffered(); complete && n <= inlineMax {
			limit = len(x.body) + n + 1 // and its end
		}
	}
	_, _, err := x.Body(limit)
	if err == errCrowded {
		return nil // it streams
	}
	return err
}

// bufferedChunks decodes the part of a chunked body that came with the head.
func (x *Exchange) bufferedChunks() error {
	need := len(x.store) + x.n - x.r
	if !x.reserve(max(need, cap(x.store))) {
		return nil // it streams
	}
	if cap(x.store) < need {
		x.store = append(make([]byte, 0, need), x.store...)
	}
	n, _, err := x.readBody(x.store[len(x.store):cap(x.store)])
	x.store = x.store[:len(x.store)+n]
	x.body = x.store
	return err
}

// ask sends the request and reads the final head of the answer.
func (x *Exchange) ask(u upstream.Upstream, o *ForwardOptions, m *upstream.Message, res *Result) (upstream.Conn, error) {
	for fresh := false; ; fresh = true {
		c, err := x.connect(u, o, m, fresh)
		if err != nil {
			return nil, err
		}
		err = x.converse(c, o, m)
		x.out = m.Head[:0]
		if err == nil {
			res.FirstByte = time.Now()
			x.firstByte = res.FirstByte
			return c, nil
		}
		again := c.Reused() && !x.streamed && (upstream.Unsent(err) || o.Repeatable && len(x.offered) == 0 && upstream.Unanswered(err))
		c.Abort()
		if !again {
			return nil, err
		}
	}
}

func (x *Exchange) converse(c upstream.Conn, o *ForwardOptions, m *upstream.Message) error {
	err := c.Send(m)
	if err == nil && m.More {
		err = x.stream(c)
	}
	if err != nil && err != upstream.ErrAnswered {
		return err
	}
	for {
		if err := c.Receive(&x.resp, &x.inbox); err != nil {
			return err
		}
		if !x.resp.Interim() {
			return nil
		}
		if x.resp.Status() != 100 && x.req.Minor() == 1 && o.OnHead == nil {
			head := append(x.appendFields(x.appendStatus(x.scratch(m)), wire.NoBody), "\r\n"...)
			x.send(head, len(head), false) // clientGone tells
		}
	}
}

// scratch is room for an interim head behind the request, which may have to be sent again.
func (x *Exchange) scratch(m *upstream.Message) []byte { return m.Head[len(m.Head):] }

// stream sends the body that was not buffered.
func (x *Exchange) stream(c upstream.Conn) error {
	buf := copyBuffers.Get().(*[copySize]byte)
	defer copyBuffers.Put(buf)
	turns := fair{turns: x.conn.srv.turns}
	for {
		n, end, err := x.readBody(buf[:])
		x.streamed = x.streamed || n > 0
		if err != nil {
			return err
		}
		if n == 0 && !end {
			continue
		}
		turns.pass(n)
		if err := c.SendBody(buf[:n], end); err != nil || end {
			return err
		}
	}
}

// appendRequest makes the head for the upstream. A front is told by other means whom the proxy serves.
func (x *Exchange) appendRequest(dst []byte, o *ForwardOptions, front bool) []byte {
	r, target := &x.req, o.Target
	if target == nil {
		target = r.Target()
	}
	dst = append(append(append(append(dst, r.Method()...), ' '), target...), " HTTP/1.1\r\n"...)
	plain := o.Drop == nil && o.Add == nil
	raw, from, to := r.Raw(), 0, 0
	lastFor, seen := -1, seenForwarded{}
	if !front {
		lastFor, seen = x.lastForwarded()
	}
	for i := range r.Len() {
		kind := r.Kind(i)
		keep := kind <= wire.TransferEncoding && (plain || kind != wire.Other || x.passes(r.Name(i), o))
		if kind > wire.TransferEncoding && (kind >= wire.Cookie && kind < wire.Unsafe) {
			keep = (kind == wire.Cookie || x.conn.trusted) && (plain || x.passes(r.Name(i), o))
			if keep && (kind == wire.Cookie && o.DropCookie != "" || i == lastFor) {
				dst = append(dst, raw[from:to]...)
				from, to = 0, 0
				dst = x.appendEdited(dst, i, kind, o)
				continue
			}
		}
		if !keep {
			continue
		}
		start, end := r.Span(i)
		if start != to {
			dst = append(dst, raw[from:to]...)
			from = start
		}
		to = end
	}
	dst = append(dst, raw[from:to]...)
	if r.Host() == nil {
		dst = append(dst, "Host: \r\n"...)
	}
	if !front {
		dst = x.appendForwarded(dst, seen)
	}
	for _, f := range o.Add {
		dst, _ = wire.AppendField(dst, f.Name, f.Value)
	}
	if len(x.offered) > 0 {
		dst = append(append(append(dst, "Connection: Upgrade\r\nUpgrade: "...), x.offered...), "\r\n"...)
	}
	return append(dst, "\r\n"...)
}

func (x *Exchange) passes(name []byte, o *ForwardOptions) bool {
	for _, d := range o.Drop {
		if wire.Is(name, d) {
			return false
		}
	}
	for _, f := range o.Add {
		if wire.Same(name, f.Name) {
			return false
		}
	}
	return true
}

// appendEdited appends a field that is passed on with another value.
func (x *Exchange) appendEdited(dst []byte, i int, kind wire.Kind, o *ForwardOptions) []byte {
	line := x.req.Line(i)
	if kind == wire.Cookie {
		return appendWithoutCookie(dst, x.req.Name(i), x.req.Value(i), line, o.DropCookie)
	}
	dst = append(dst, line[:len(line)-2]...)
	if x.conn.peer.IsValid() {
		dst = x.conn.peer.Addr().AppendTo(append(dst, ", "...))
	}
	return append(dst, "\r\n"...)
}

// appendWithoutCookie appends a Cookie line without the pairs called drop; the line as it came if it has none, nothing
// if it has no others.
func appendWithoutCookie(dst, name, value, line []byte, drop string) []byte {
	if !bytes.Contains(value, []byte(strings.TrimSuffix(drop, "*"))) {
		return append(dst, line...)
	}
	start, found, kept := len(dst), false, 0
	dst = append(append(dst, name...), ':')
	for rest := value; len(rest) > 0; {
		end := 0
		for end < len(rest) && rest[end] != ';' {
			end++
		}
		pair := rest[:end]
		for len(pair) > 0 && (pair[0] == ' ' || pair[0] == '\t') {
			pair = pair[1:]
		}
		if drops(pair, drop) {
			found = true
		} else if len(pair) > 0 {
			if kept > 0 {
				dst = append(dst, ';')
			}
			dst = append(append(dst, ' '), pair...)
			kept++
		}
		rest = rest[min(end+1, len(rest)):]
	}
	switch {
	case !found:
		return append(dst[:start], line...)
	case kept == 0:
		return dst[:start]
	}
	return append(dst, "\r\n"...)
}

func drops(pair []byte, drop string) bool {
	prefix, many := drop, false
	if n := len(drop) - 1; n >= 0 && drop[n] == '*' {
		prefix, many = drop[:n], true
	}
	if len(pair) <= len(prefix) || string(pair[:len(prefix)]) != prefix {
		return false
	}
	return many || pair[len(prefix)] == '='
}

// seenForwarded tells which of the fields a trusted peer has sent.
type seenForwarded struct{ client, proto, host bool }

// lastForwarded finds the X-Forwarded-For line to extend: the last, if the peer is trusted.
func (x *Exchange) lastForwarded() (last int, seen seenForwarded) {
	last = -1
	if !x.conn.trusted {
		return
	}
	for i := range x.req.Len() {
		switch x.req.Kind(i) {
		case wire.ForwardedFor:
			last, seen.client = i, true
		case wire.ForwardedProto:
			seen.proto = true
		case wire.ForwardedHost:
			seen.host = true
		}
	}
	return
}

// appendForwarded appends the X-Forwarded fields that are not there.
func (x *Exchange) appendForwarded(dst []byte, seen seenForwarded) []byte {
	c, host := x.conn, x.req.Host()
	if !c.trusted {
		if len(host) == 0 {
			host = []byte{}
		}
		return append(append(append(dst, c.forwarded...), host...), "\r\n"...)
	}
	if !seen.client && c.peer.IsValid() {
		dst = append(c.peer.Addr().AppendTo(append(dst, "X-Forwarded-For: "...)), "\r\n"...)
	}
	if !seen.proto {
		dst = append(append(append(dst, "X-Forwarded-Proto: "...), c.proto()...), "\r\n"...)
	}
	if !seen.host {
		dst = append(append(append(dst, "X-Forwarded-Host: "...), host...), "\r\n"...)
	}
	return dst
}
