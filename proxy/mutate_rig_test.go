package proxy_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"banyan/proxy"
	"banyan/proxy/upstream"
)

// mutationLimits are what the rig's proxy is configured with, legacyLimits what its legacy takes: the proxy adds to heads.
var (
	mutationLimits = refLimits{head: 4 << 10, fields: 256, body: 64 << 10}
	legacyLimits   = refLimits{head: 8 << 10, fields: 300, body: 64 << 10}
)

// deliveries are how a stream reaches the proxy: in one write, in a few writes, read byte by byte, read in odd pieces.
var deliveries = []string{"whole", "split", "drip", "cut"}

// handlings are what the proxy's handler does before and while it forwards.
var handlings = []string{"pass", "upgrade", "look", "buffer"}

// rig is a proxy between a client that sends what it likes and a legacy that reads by the strict reference. It carries
// one client's stream at a time, so that all that happens belongs to that stream.
type rig struct {
	legacy  *recorder
	pool    *dialCount
	servers map[string]*running // by delivery
	handle  atomic.Value        // of handlings
	script  *answerScript       // for the answer side; nil: legacy answers well
}

// dialCount counts the connections that a pool has dialled.
type dialCount struct {
	*upstream.Pool
	mu sync.Mutex
	n  int
}

func (d *dialCount) Get(t upstream.Timeouts, fresh bool) (upstream.Conn, error) {
	c, err := d.Pool.Get(t, fresh)
	if err == nil && !c.Reused() {
		d.mu.Lock()
		d.n++
		d.mu.Unlock()
	}
	return c, err
}

func (d *dialCount) dialled() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.n
}

// recorder is the legacy: it takes nothing but whole, strict requests, and notes the rest.
type recorder struct {
	mu       sync.Mutex
	changed  *sync.Cond // accepted or open did
	accepted int
	open     int
	got      []refMessage
	torn     []string // what was left on connections that ended
	wrong    []string // what cannot be read
	answer   func(i int, q *refMessage) (writes []string, after then)
}

func (l *recorder) serve(c net.Conn, r *bufio.Reader) {
	l.note(func() { l.accepted++; l.open++ })
	defer l.note(func() { l.open-- })
	after := goOn
	for buf, p := "", make([]byte, 32<<10); ; {
		n, err := r.Read(p)
		if buf += string(p[:n]); buf != "" && after == neverUse {
			l.note(func() { l.wrong = append(l.wrong, fmt.Sprintf("on a connection that is out of step: %.300q", buf)) })
			return
		}
		for buf != "" {
			q, size, fault := refRequest(buf, legacyLimits)
			if fault != nil && fault.kind == refUnfinished {
				break
			}
			if fault != nil {
				l.note(func() { l.wrong = append(l.wrong, fmt.Sprintf("%s in %.300q", fault.why, buf)) })
				return
			}
			buf = buf[size:]
			var writes []string
			l.note(func() {
				writes, after = l.answer(len(l.got), &q)
				l.got = append(l.got, q)
			})
			for _, w := range writes {
				if _, err := io.WriteString(c, w); err != nil {
					return
				}
			}
			if after == closeIt {
				return
			}
		}
		if err != nil {
			if buf != "" {
				l.note(func() { l.torn = append(l.torn, buf) })
			}
			return
		}
	}
}

func (l *recorder) note(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
	l.changed.Broadcast()
}

// goodAnswer is one that names the request, framed in one of three ways.
func goodAnswer(i int, q *refMessage) string {
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nX-Seq: %d\r\n", i)
	body := fmt.Sprintf("%d %s %s %d", i, q.method, q.target, len(q.body))
	if i%3 == 2 {
		head = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + head
	}
	if i%2 == 1 {
		head += "Transfer-Encoding: chunked\r\n\r\n"
		body = fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body)
	} else {
		head += fmt.Sprintf("Content-Length: %d\r\n\r\n", len(body))
	}
	if q.method == "HEAD" {
		body = ""
	}
	return head + body
}

func newRig(t testing.TB) *rig {
	g := &rig{legacy: &recorder{}, servers: map[string]*running{}}
	g.legacy.changed = sync.NewCond(&g.legacy.mu)
	g.legacy.answer = func(i int, q *refMessage) ([]string, then) {
		if g.script != nil {
			return g.script.answer(i, q)
		}
		return []string{goodAnswer(i, q)}, goOn
	}
	g.pool = &dialCount{Pool: pool(t, newOrigin(t, g.legacy.serve))}
	cfg := proxy.Config{MaxHead: mutationLimits.head, MaxBody: int64(mutationLimits.body)}
	g.servers["whole"] = serve(t, cfg, handler(g.serve))
	g.servers["split"] = g.servers["whole"]
	g.servers["drip"] = serve(t, cfg, handler(g.serve), func(l net.Listener) net.Listener { return inPieces{l, false} })
	g.servers["cut"] = serve(t, cfg, handler(g.serve), func(l net.Listener) net.Listener { return inOddPieces{l} })
	return g
}

// serve is the handler.
func (g *rig) serve(x *proxy.Exchange) {
	limit := map[string]int{"look": 1 << 10, "buffer": 1 << 20}[g.handle.Load().(string)]
	if limit > 0 {
		if _, _, err := x.Body(limit); err != nil {
			x.Fail(err)
			return
		}
	}
	var o proxy.ForwardOptions
	if g.handle.Load() == "upgrade" {
		o.Upgrade = []string{"websocket"}
	}
	if _, err := x.Forward(g.pool, o); err != nil {
		x.Fail(err)
	}
}

// inOddPieces makes a server read its connections in pieces of 1 to 61 bytes.
type inOddPieces struct{ net.Listener }

func (l inOddPieces) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &oddPieces{Conn: c, r: bufio.NewReaderSize(c, 64<<10)}, nil
}

type oddPieces struct {
	net.Conn
	r *bufio.Reader
	n int
}

func (p *oddPieces) CloseWrite() error { return p.Conn.(*net.TCPConn).CloseWrite() }

func (p *oddPieces) Read(b []byte) (int, error) {
	p.n = (p.n*7 + 3) % 61
	return p.r.Read(b[:min(len(b), 1+p.n)])
}

// talk sends a stream, ends the client's side, and reads until the proxy has closed.
func (g *rig) talk(stream, delivery string) (data string, err error) {
	nc, err := net.Dial("tcp", g.servers[delivery].addr)
	if err != nil {
		return "", err
	}
	c := nc.(*net.TCPConn)
	defer c.Close()
	c.SetDeadline(time.Now().Add(wait))
	send := func() { // the proxy may refuse before it has read everything
		pieces := 1
		if delivery == "split" {
			pieces = 3
		}
		for ; pieces > 0; pieces-- {
			n := len(stream) / pieces
			if _, err := io.WriteString(c, stream[:n]); err != nil {
				return
			}
			stream = stream[n:]
		}
		c.CloseWrite()
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	if len(stream) < 16<<10 {
		send()
	} else {
		wg.Go(send)
	}
	b, err := io.ReadAll(c)
	return string(b), err
}

// settle waits until legacy has seen the end of every connection that the proxy has given up, and takes what it got.
func (g *rig) settle() (got []refMessage, torn, wrong []string, err error) {
	l := g.legacy
	late := time.AfterFunc(wait, func() { l.note(func() { err = fmt.Errorf("connections did not end") }) })
	defer late.Stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	for err == nil && (l.accepted != g.pool.dialled() || l.open != g.pool.Stats().Open) {
		l.changed.Wait()
	}
	got, torn, wrong = l.got, l.torn, l.wrong
	l.got, l.torn, l.wrong = nil, nil, nil
	return got, torn, wrong, err
}

// run sends a stream and says what is wrong with what became of it; "" when nothing is.
func (g *rig) run(stream, delivery, handling string) string {
	g.handle.Store(handling)
	data, err := g.talk(stream, delivery)
	want := refRead(stream, mutationLimits)
	if errors.Is(err, syscall.ECONNRESET) && want.fault == nil && want.at < len(stream) {
		err = nil // the client goes on though it, or HTTP/1.0, said that the connection ends
	}
	if err != nil {
		return fmt.Sprintf("the client, who had %.300q, got no end: %v", data, err)
	}
	got, torn, wrong, err := g.settle()
	if err != nil {
		return err.Error()
	}
	if why := judgeLegacy(&want, got, torn, wrong, handling == "upgrade"); why != "" {
		return why
	}
	return judgeClient(&want, stream, data)
}

// judgeLegacy compares what legacy got with the requests that the stream holds.
func judgeLegacy(want *refReading, got []refMessage, torn, wrong []string, upgrade bool) string {
	if wrong != nil {
		return "legacy cannot read " + wrong[0]
	}
	for i := range want.requests {
		q := &want.requests[i]
		if i == len(got) {
			return fmt.Sprintf("legacy did not get request %d, %.200q", i, q.start)
		}
		if head := q.forwarded(upgrade); got[i].head != head || got[i].body != q.body {
			return fmt.Sprintf("legacy got as request %d\n%.600q %d, want\n%.600q %d", i, got[i].head, len(got[i].body), head, len(q.body))
		}
	}
	if len(got) > len(want.requests) {
		return fmt.Sprintf("legacy got a request that the stream does not hold: %.600q", got[len(want.requests)].head)
	}
	switch {
	case torn == nil:
		return ""
	case len(torn) > 1 || want.torn == nil:
		return fmt.Sprintf("legacy got pieces of requests: %.300q", torn)
	}
	head := want.torn.forwarded(upgrade)
	if strings.HasPrefix(head, torn[0]) {
		return ""
	}
	piece, fault, ok := refMessage{length: 1 << 30, chunked: want.torn.chunked}, (*refFault)(nil), strings.HasPrefix(torn[0], head)
	if ok {
		_, fault = piece.readBody(torn[0][len(head):], 1<<30)
	}
	if !ok || fault == nil || fault.kind != refUnfinished || !strings.HasPrefix(want.torn.body, piece.body) {
		return fmt.Sprintf("legacy got a piece that is not the beginning of the request that the stream holds: %.600q", torn[0])
	}
	return ""
}

// judgeAnswers cuts the good answers to requests off what the client got; the first is legacy's number-th.
func judgeAnswers(want *refReading, number int, rest string) (after, why string) {
	for i := range want.requests {
		q, i := &want.requests[i], i+number
		if rest = withoutContinue(rest, q); i%3 == 2 && q.minor == 1 {
			rest = strings.TrimPrefix(rest, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
		}
		interim, a, after, fault := refAnswer(rest, q.method == "HEAD", legacyLimits.fields)
		if fault != nil || interim != nil {
			return "", fmt.Sprintf("the client got no answer to request %d, %.200q, but %.300q", i, q.start, rest)
		}
		_, w, _, _ := refAnswer(goodAnswer(i, q), q.method == "HEAD", legacyLimits.fields)
		if q.minor == 0 && w.chunked && q.method != "HEAD" { // its end is that of the connection
			after = ""
		}
		if head := w.passed(q); a.head != head || a.body != w.body {
			return "", fmt.Sprintf("the client got as answer %d\n%.300q %q, want\n%.300q %q", i, a.head, a.body, head, w.body)
		}
		rest = after
	}
	return rest, ""
}

// judgeClient compares what the client got with what it should have got for its requests, and for what follows them.
func judgeClient(want *refReading, stream, data string) string {
	rest, why := judgeAnswers(want, 0, data)
	if why != "" {
		return why
	}
	if want.torn != nil {
		rest = withoutContinue(rest, want.torn)
	}
	fault := want.fault
	if rest == "" && (fault == nil || fault.kind == refUnfinished) {
		return ""
	}
	if fault == nil || fault.kind == refUnfinished && !fault.midLine {
		return fmt.Sprintf("the client got an answer to nothing: %.300q", rest)
	}
	method, _, _ := strings.Cut(strings.TrimPrefix(stream[want.at:], "\r\n"), " ")
	_, a, after, bad := refAnswer(rest, method == "HEAD" && strings.HasSuffix(rest, "\r\n\r\n"), legacyLimits.fields)
	if bad != nil || after != "" || !slices.Contains(a.listed(), "close") || a.length < 0 {
		return fmt.Sprintf("the client got no refusal that ends the connection, but %.300q", rest)
	}
	if fault.kind == refMalformed && !slices.Contains(fault.statuses, a.status) || a.status < 400 || a.status == 500 {
		return fmt.Sprintf("refused with %d, want %v for %s", a.status, fault.statuses, fault.why)
	}
	return ""
}

// withoutContinue leaves out what the proxy says to a client that waits.
func withoutContinue(data string, q *refMessage) string {
	if !q.expects || !q.chunked && q.length < 1 {
		return data
	}
	return strings.TrimPrefix(data, "HTTP/1.1 100 Continue\r\n\r\n")
}
