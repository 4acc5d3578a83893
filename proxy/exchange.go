package proxy

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"time"

	"banyan/proxy/upstream"
	"banyan/proxy/wire"
)

const (
	inSize    = 16 << 10
	outSize   = 20 << 10 // an answer's first 16 KiB and a head that grew
	keepSize  = 64 << 10 // larger buffers are not kept for the next request
	copySize  = 60 << 10 // the kernel makes one packet of it on its way to a network card, or over loopback: of 64 KiB a small rest goes alone
	inlineMax = 32 << 10 // a body up to this size is read before the upstream is bothered with the request
)

// Exchange is one request and its answer. It belongs to the goroutine of its connection or stream, and all that it gives
// out (fields, body, captured bytes) is valid until Handler.Serve returns.
type Exchange struct {
	Request *wire.Request

	// For handlers, reset before each request:
	Route   string   // what metrics call this request's route
	ID      [16]byte // of the exchange
	TraceID [16]byte
	SpanID  [8]byte
	Slot    any // what a handler keeps for its callbacks; a pointer costs no allocation

	client  client // nil while the exchange waits in the pool
	h2      streamClient
	conn    *conn // whose facts (peer, trust, limits) hold for this exchange
	req     wire.Request
	resp    wire.Response
	inbox   upstream.Inbox
	message upstream.Message
	obs     Observation
	opts    ForwardOptions // of the Forward under way; here, so that calling back costs no allocation
	res     Result         // likewise
	demand  upstream.Demand
	goneFn  func() bool // gone, kept so that it is made once

	in   []byte // the client's bytes: in[:n] were read, in[:r] used
	r, n int
	out  []byte // what is written next

	body     []byte // the decoded body as far as it is buffered
	store    []byte // where body is kept when it does not stand in in
	left     int64  // of a body framed by length, not yet taken
	chunks   wire.Chunks
	taken    int64 // decoded bytes taken off the connection
	bodyDone bool
	reserved int64 // of Server.buffered
	waited   int64 // nanoseconds for the client's body, since its rate was last looked at
	came     int64 // bytes of it in that time
	streamed bool  // bytes of the body went past the buffer: it cannot be sent twice
	asked    bool  // 100 Continue was said

	captured   []byte
	started    time.Time
	firstByte  time.Time
	status     int // sent to the client
	sentBytes  int64
	upstream   string
	err        error
	broken     bool // an answer was cut, or its framing is undefined: close
	clientGone bool
	closes     bool // the client was told that the connection ends: decided once, or a drain that begins now would cut it untold
	hijacked   bool
	offered    []byte    // the protocols that the upstream may switch to, as they were sent
	switchedAt time.Time // when the 101 was handed over
	lingers    bool      // a tunnel ended before its client did

	multiplexed bool // the client is a stream: it frames bodies itself, and x.in holds nothing
}

var (
	errNoAnswer  = errors.New("handler gave no answer")
	errAnswered  = errors.New("the exchange has been answered")
	errBodyGone  = errors.New("the request's body was streamed and cannot be sent again: call Body first")
	errClient    = errors.New("the client closed the connection")
	errHeadCut   = errors.New("head ends before its last line")
	errHeadSize  = &wire.Error{Status: 431, Reason: "head is too large"}
	errBodySize  = &wire.Error{Status: 413, Reason: "body is too large"}
	errSlow      = &wire.Error{Status: 408, Reason: "the client took too long"}
	errCrowded   = &wire.Error{Status: 503, Reason: "too many bodies are being received"}
	errNotStatus = errors.New("not a final status code")
	errReplyHead = errors.New("field cannot stand in a head")
)

func newExchange() *Exchange {
	x := &Exchange{in: make([]byte, inSize), out: make([]byte, 0, outSize)}
	x.Request, x.goneFn = &x.req, x.gone
	return x
}

// shrink drops buffers that one large message made grow.
func (x *Exchange) shrink() {
	x.r, x.n = 0, 0
	if len(x.in) > keepSize || len(x.in) < inSize { // after a tunnel it is small
		x.in = make([]byte, inSize)
	}
	if cap(x.out) > keepSize || cap(x.out) < outSize {
		x.out = make([]byte, 0, outSize)
	}
	if cap(x.store) > keepSize {
		x.store = nil
	}
	if cap(x.captured) > keepSize {
		x.captured = nil
	}
	if len(x.inbox.Buf) > keepSize {
		x.inbox.Buf = nil
	}
	x.Slot, x.err, x.body = nil, nil, nil
	x.opts, x.message, x.obs, x.demand = ForwardOptions{}, upstream.Message{}, Observation{}, upstream.Demand{}
}

// begin prepares for the request whose first bytes are in in[:n].
func (x *Exchange) begin() {
	x.req.Reset()
	x.Route, x.ID, x.TraceID, x.SpanID, x.Slot = "", [16]byte{}, [16]byte{}, [8]byte{}, nil
	x.body, x.store, x.left, x.taken = nil, x.store[:0], 0, 0
	x.bodyDone, x.streamed, x.asked = false, false, false
	x.waited, x.came = 0, 0
	x.started = time.Time{}
	x.captured, x.firstByte, x.status, x.sentBytes, x.upstream, x.err = x.captured[:0], time.Time{}, 0, 0, "", nil
	x.broken, x.clientGone, x.closes, x.hijacked = false, false, false, false
	x.offered, x.switchedAt, x.lingers = x.offered[:0], time.Time{}, false
}

// next moves what the client sent beyond this request to the front.
func (x *Exchange) next() {
	x.n = copy(x.in, x.in[x.r:x.n])
	x.r = 0
}

// Client is the address of the client: the peer's, or what trusted proxies say of whom they serve (then without port).
func (x *Exchange) Client() netip.AddrPort {
	if !x.conn.trusted {
		return x.conn.peer
	}
	client := x.conn.peer
	for i := x.req.Len() - 1; i >= 0; i-- {
		if x.req.Kind(i) != wire.ForwardedFor {
			continue
		}
		list := x.req.Value(i)
		for len(list) > 0 {
			var last []byte
			list, last = cutLast(list)
			a, err := netip.ParseAddr(string(last))
			if err != nil {
				return client
			}
			client = netip.AddrPortFrom(a.Unmap(), 0)
			if !x.conn.cfg.trusts(client.Addr()) {
				return client
			}
		}
	}
	return client
}

// cutLast cuts the last element off a comma-separated list.
func cutLast(list []byte) (rest, last []byte) {
	i := len(list)
	for i > 0 && list[i-1] != ',' {
		i--
	}
	for last = list[i:]; len(last) > 0 && last[0] == ' '; {
		last = last[1:]
	}
	for len(last) > 0 && last[len(last)-1] == ' ' {
		last = last[:len(last)-1]
	}
	return list[:max(0, i-1)], last
}

// Peer is the other end of the connection, or whom its PROXY header names; not valid for a unix socket.
func (x *Exchange) Peer() netip.AddrPort { return x.conn.peer }

// Trusted tells whether the peer's forwarded fields are believed.
func (x *Exchange) Trusted() bool { return x.conn.trusted }

// TLS tells whether the client's connection is encrypted.
func (x *Exchange) TLS() bool { return x.conn.secure }

var _ upstream.Origin = (*Exchange)(nil)

// Local implements upstream.Origin.
func (x *Exchange) Local() netip.AddrPort { return x.conn.local }

// Protocol implements upstream.Origin.
func (x *Exchange) Protocol() string {
	if x.req.Minor() == 0 {
		return "HTTP/1.0"
	}
	return "HTTP/1.1"
}

// IDs implements upstream.Origin.
func (x *Exchange) IDs() (exchange, trace [16]byte) { return x.ID, x.TraceID }

// Started is when the request's head was complete.
func (x *Exchange) Started() time.Time { return x.started }

// Response is the head of the answer that Forward is passing on, for callbacks.
func (x *Exchange) Response() *wire.Response { return &x.resp }

// Answered tells whether bytes of an answer went to the client.
func (x *Exchange) Answered() bool { return x.status != 0 }

// keep tells whether the connection stays open after this answer, as far as is known.
func (x *Exchange) keep() bool {
	return x.multiplexed || x.req.KeepAlive() && !x.conn.srv.draining.Load()
}

// readHead reads until the request's head is complete.
func (x *Exchange) readHead() error {
	for waited := false; ; waited = true {
		done, err := x.req.Parse(x.in[:x.n])
		if err != nil {
			return err
		}
		if size := x.req.Size(); done && size <= x.conn.cfg.MaxHead {
			break
		} else if done || x.n >= x.conn.cfg.MaxHead {
			return errHeadSize
		}
		if x.n == len(x.in) {
			x.growIn(min(2*len(x.in), x.conn.cfg.MaxHead))
		}
		if !waited { // one deadline for the whole head
			x.conn.readBy.Forget()
			x.conn.readBy.Extend(x.conn.nc.SetReadDeadline, upstream.Now(), x.conn.cfg.HeaderTimeout)
		}
		if err := x.fill(); err != nil {
			return clientError(err)
		}
	}
	x.started = time.Now()
	x.r = x.req.Size()
	return x.beginBody()
}

func (x *Exchange) growIn(size int) {
	b := make([]byte, size)
	copy(b, x.in[:x.n])
	x.in = b
	x.req.Moved(b)
}

// fill reads more of the client's bytes behind those that are there.
func (x *Exchange) fill() error {
	n, err := x.conn.nc.Read(x.in[x.n:])
	x.n += n
	if n > 0 {
		return nil
	}
	return err
}

func clientError(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errSlow
	}
	if err == io.EOF {
		return errClient
	}
	return fmt.Errorf("%w: %w", errClient, err)
}

// send hands b to the client. Its first head bytes are the lines of a head; end says that nothing follows.
func (x *Exchange) send(b []byte, head int, end bool) error {
	if err := x.client.send(x, b, head, end); err != nil {
		x.clientGone, x.broken = true, true
		return clientError(err)
	}
	return nil
}

// Reply answers from here. The connection is closed after it if the request's body was not read to its end.
func (x *Exchange) Reply(status int, fields []wire.Pair, body []byte) error {
	if x.status != 0 {
		return errAnswered
	}
	if status < 200 || status > 999 {
		return fmt.Errorf("reply %d: %w", status, errNotStatus)
	}
	out := append(strconv.AppendInt(append(x.out[:0], "HTTP/1.1 "...), int64(status), 10), ' ')
	out = append(append(out, http.StatusText(status)...), "\r\nDate: "...)
	out = append(time.Now().UTC().AppendFormat(out, http.TimeFormat), "\r\n"...)
	for _, f := range fields {
		var ok bool
		if out, ok = wire.AppendField(out, f.Name, f.Value); !ok {
			return fmt.Errorf("reply %d: %q: %w", status, f.Name, errReplyHead)
		}
	}
	if status != 204 && status != 304 {
		out = append(strconv.AppendInt(append(out, "Content-Length: "...), int64(len(body)), 10), "\r\n"...)
	}
	if !x.keep() || !x.bodyDone {
		x.closes = true
		out = append(out, "Connection: close\r\n"...)
	}
	out = append(out, "\r\n"...)
	if status == 204 || status == 304 || x.req.IsHead() {
		body = nil
	}
	x.status, x.sentBytes = status, int64(len(body))
	head := len(out)
	out = append(out, body...)
	x.out = out[:0]
	return x.send(out, head, true)
}

var plain = []wire.Pair{{Name: "Content-Type", Value: []byte("text/plain; charset=utf-8")}}
var plainRetry = append(plain[:1:1], wire.Pair{Name: "Retry-After", Value: []byte("1")})

// Fail answers an error of Body or Forward, if nothing was answered yet and the client is there to hear it. One error
// has no answer, and ends the client's connection: see passesOn.
func (x *Exchange) Fail(err error) {
	x.err = err
	if x.status != 0 || x.clientGone || errors.Is(err, errClient) {
		x.clientGone = x.clientGone || errors.Is(err, errClient)
		return
	}
	status, text, fields := 500, "the proxy could not answer", plain
	var up *upstream.Error
	var own *wire.Error
	switch {
	case errors.As(err, &up):
		if x.passesOn(up) {
			return
		}
		status, text = 502, "the upstream gave no usable answer"
		switch up.Class {
		case upstream.Timeout:
			status, text = 504, "the upstream did not answer in time"
		case upstream.Busy:
			status, text, fields = 503, "the upstream is busy", plainRetry
		}
	case errors.As(err, &own):
		status, text = own.Status, own.Reason
		if own == errCrowded {
			fields = plainRetry
		}
		x.bodyDone = false // whatever follows on the connection is not a request
	}
	x.Reply(status, fields, append([]byte(text), '\n'))
}

// passesOn tells whether the end of an upstream's connection becomes the end of the client's. A web server that reloads
// closes kept connections, at times while a request is on its way. Only the client may then ask again (RFC 9110 9.2.2),
// and browsers do, if nothing came on a connection that had served them before: a 502 would take that from them.
func (x *Exchange) passesOn(e *upstream.Error) bool {
	return e.Reused && e.Class == upstream.Cut && !e.Answered && x.conn.served && x.req.IsRead()
}

// observe reports the exchange.
func (x *Exchange) observe() {
	if x.conn.srv.observer == nil || x.status == 0 && x.started.IsZero() {
		return
	}
	x.obs = Observation{Method: x.req.Method(), Route: x.Route, Upstream: x.upstream, Status: x.status, Started: x.started,
		RequestBytes: x.taken, ResponseBytes: x.sentBytes, ClientGone: x.clientGone, Err: x.err}
	if !x.started.IsZero() {
		x.obs.Duration = time.Since(x.started)
	}
	if !x.switchedAt.IsZero() {
		x.obs.Duration, x.obs.Tunnel = x.switchedAt.Sub(x.started), time.Since(x.switchedAt)
	}
	if !x.firstByte.IsZero() {
		x.obs.FirstByte = x.firstByte.Sub(x.started)
	}
	x.conn.srv.observer.Done(&x.obs)
}
