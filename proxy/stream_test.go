package proxy_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"banyan/proxy"
	"banyan/proxy/wire"
)

const big = 64 << 20

// zeros writes n zero bytes.
func zeros(w io.Writer, n int) error {
	buf := make([]byte, 64<<10)
	for n > 0 {
		m, err := w.Write(buf[:min(n, len(buf))])
		if n -= m; err != nil {
			return err
		}
	}
	return nil
}

// allocated tells how many bytes f made the process allocate.
func allocated(f func()) uint64 {
	var a, b runtime.MemStats
	runtime.ReadMemStats(&a)
	f()
	runtime.ReadMemStats(&b)
	return b.TotalAlloc - a.TotalAlloc
}

func TestLargeBodies(t *testing.T) {
	o := newOrigin(t, func(c net.Conn, r *bufio.Reader) {
		for {
			h, err := head(r)
			if err != nil {
				return
			}
			switch {
			case strings.Contains(h, "/down-chunked"):
				io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
				for range big >> 20 {
					fmt.Fprintf(c, "%x\r\n", 1<<20)
					zeros(c, 1<<20)
					io.WriteString(c, "\r\n")
				}
				io.WriteString(c, "0\r\n\r\n")
			case strings.Contains(h, "/down"):
				fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", big)
				zeros(c, big)
			case strings.Contains(h, "chunked"):
				n := int64(0)
				for {
					var size int64
					l, err := strictLine(r)
					if err != nil {
						return
					}
					fmt.Sscanf(l, "%x", &size)
					io.CopyN(io.Discard, r, size+2)
					if n += size; size == 0 {
						break
					}
				}
				io.WriteString(c, fmt.Sprintf("HTTP/1.1 200 OK\r\nX-Got: %d\r\nContent-Length: 0\r\n\r\n", n))
			default:
				n, _ := io.CopyN(io.Discard, r, big)
				io.WriteString(c, fmt.Sprintf("HTTP/1.1 200 OK\r\nX-Got: %d\r\nContent-Length: 0\r\n\r\n", n))
			}
		}
	})
	s := serve(t, proxy.Config{}, &proxy.Passthrough{Upstream: pool(t, o)})
	c := s.dial(t)
	r := bufio.NewReaderSize(c, 64<<10)
	for _, path := range []string{"/up", "/up-chunked", "/down", "/down-chunked"} {
		c.SetDeadline(time.Now().Add(wait))
		var got int64
		n := allocated(func() {
			go func() {
				switch path {
				case "/up":
					fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n", path, big)
					zeros(c, big)
				case "/up-chunked":
					fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n", path)
					for range big >> 20 {
						fmt.Fprintf(c, "%x\r\n", 1<<20)
						zeros(c, 1<<20)
						io.WriteString(c, "\r\n")
					}
					io.WriteString(c, "0\r\n\r\n")
				default:
					fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: t\r\n\r\n", path)
				}
			}()
			h, err := head(r)
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			switch path {
			case "/down":
				got, _ = io.CopyN(io.Discard, r, big)
			case "/down-chunked":
				for {
					var size int64
					l, err := strictLine(r)
					if err != nil {
						t.Fatal(err)
					}
					fmt.Sscanf(l, "%x", &size)
					io.CopyN(io.Discard, r, size+2)
					if got += size; size == 0 {
						break
					}
				}
			default:
				_, v, _ := strings.Cut(h, "X-Got: ")
				fmt.Sscan(v, &got)
			}
		})
		if got != big {
			t.Errorf("%s: %d bytes, want %d", path, got, big)
		}
		if n > 16<<20 {
			t.Errorf("%s: %d MiB were allocated for a body of 64", path, n>>20)
		}
	}
}

// Each event reaches the client before the next is sent.
func TestEventsAreFlushed(t *testing.T) {
	for framing, event := range map[string]string{"Transfer-Encoding: chunked\r\n": "9\r\ndata: x\n\n\r\n", "": "data: x\n\n"} {
		next := make(chan struct{})
		o := newOrigin(t, func(c net.Conn, r *bufio.Reader) {
			if _, err := head(r); err != nil {
				return
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"+framing+"\r\n")
			for range next {
				io.WriteString(c, event)
			}
		})
		t.Cleanup(func() { close(next) })
		s := serve(t, proxy.Config{}, &proxy.Passthrough{Upstream: pool(t, o)})
		c := s.dial(t)
		r := bufio.NewReader(c)
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: t\r\n\r\n")
		if _, err := head(r); err != nil { // before any event
			t.Fatal(err)
		}
		const want = "9\r\ndata: x\n\n\r\n"
		for i := range 5 {
			next <- struct{}{}
			got := make([]byte, len(want))
			if _, err := io.ReadFull(r, got); err != nil || string(got) != want {
				t.Fatalf("%q, event %d: %q, %v", framing, i, got, err)
			}
		}
	}
}

// A client that ends its side after the request still gets its answer; one that is gone costs the upstream's
// connection, unless its write is to be read to the end.
func TestClientGone(t *testing.T) {
	for _, ignore := range []bool{false, true} {
		started, finish := make(chan struct{}), make(chan struct{})
		o := newOrigin(t, func(c net.Conn, r *bufio.Reader) {
			if _, err := head(r); err != nil {
				return
			}
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", 8<<20)
			close(started)
			<-finish
			zeros(c, 8<<20)
			head(r)
		})
		p := pool(t, o)
		var ended bool // read after the outcome came
		h := reporting(p, proxy.ForwardOptions{IgnoreClientGone: ignore, BeforeEnd: func(*proxy.Exchange, *proxy.Result) { ended = true }})
		s := serve(t, proxy.Config{}, h)
		c := s.dial(t)
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n")
		<-started
		c.SetLinger(0)
		c.Close()
		close(finish)
		res, err := h.next(t)
		if !res.ClientGone || ended != ignore || (err == nil) != ignore || ignore && res.BodyBytes != 8<<20 {
			t.Errorf("ignore %v: %+v, %v, ended %v", ignore, res, err, ended)
		}
		if ignore != (p.Stats().Idle == 1) {
			t.Errorf("ignore %v: %+v", ignore, p.Stats())
		}
	}
}

// A reader that takes nothing is cut off after WriteTimeout, and holds the backend back rather than fill memory.
func TestSlowReader(t *testing.T) {
	o := newOrigin(t, func(c net.Conn, r *bufio.Reader) {
		if _, err := head(r); err != nil {
			return
		}
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", big)
		zeros(c, big)
	})
	h := reporting(pool(t, o), proxy.ForwardOptions{})
	s := serve(t, proxy.Config{WriteTimeout: 50 * time.Millisecond}, h)
	c := s.dial(t)
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: t\r\n\r\n")
	if res, _ := h.next(t); !res.ClientGone || res.BodyBytes >= big {
		t.Errorf("%+v", res)
	}
}

// A body that stops coming is answered with 408, and the upstream is not bothered with it if it is small.
func TestSlowBody(t *testing.T) {
	o, heads := answers(t, ok)
	s := serve(t, proxy.Config{BodyTimeout: 30 * time.Millisecond, HeaderTimeout: 30 * time.Millisecond}, &proxy.Passthrough{Upstream: pool(t, o)})
	for _, raw := range []string{"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nhel", "GET / HTTP/1.1\r\nHo"} {
		c := s.dial(t)
		io.WriteString(c, raw)
		b, _ := io.ReadAll(c)
		if !strings.HasPrefix(string(b), "HTTP/1.1 408 ") {
			t.Errorf("%q: %q", raw, b)
		}
	}
	if len(heads()) > 0 {
		t.Error("a cut request was forwarded")
	}
}

func TestExpectContinue(t *testing.T) {
	o := newOrigin(t, func(c net.Conn, r *bufio.Reader) {
		for {
			h, err := head(r)
			if err != nil || strings.Contains(strings.ToLower(h), "expect") {
				return
			}
			b, err := readBody(r, h)
			if err != nil {
				return
			}
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(b))
			zeros(c, len(b))
		}
	})
	s := serve(t, proxy.Config{}, &proxy.Passthrough{Upstream: pool(t, o)})
	for _, size := range []int{5, 100 << 10} {
		c := s.dial(t)
		r := bufio.NewReader(c)
		fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: t\r\nExpect: 100-Continue\r\nContent-Length: %d\r\n\r\n", size)
		if h, err := head(r); h != "HTTP/1.1 100 Continue\r\n\r\n" {
			t.Fatalf("%d: %q, %v", size, h, err)
		}
		zeros(c, size)
		if h, _ := head(r); !strings.HasPrefix(h, "HTTP/1.1 200 ") {
			t.Errorf("%d: %q", size, h)
		}
	}
}

// A backend that answers before it has taken the whole body is heard; the rest is not sent.
func TestEarlyAnswer(t *testing.T) {
	o := newOrigin(t, func(c net.Conn, r *bufio.Reader) {
		if _, err := head(r); err == nil {
			io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
			c.(*net.TCPConn).CloseWrite()
			io.CopyN(io.Discard, r, 1<<20)
		}
	})
	s := serve(t, proxy.Config{}, &proxy.Passthrough{Upstream: pool(t, o)})
	c := s.dial(t)
	go func() {
		fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n", big)
		zeros(c, big)
	}()
	h, err := head(bufio.NewReader(c))
	if !strings.HasPrefix(h, "HTTP/1.1 413 ") || !strings.Contains(h, "Connection: close\r\n") {
		t.Errorf("%q, %v", h, err)
	}
}

// A client that sends more than its connection's last request gets the whole answer, and an end that is no reset.
func TestBytesBehindTheLastRequest(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan struct{})
	o := newOrigin(t, func(c net.Conn, r *bufio.Reader) {
		if _, err := head(r); err == nil {
			close(asked)
			<-answer
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	s := serve(t, proxy.Config{}, &proxy.Passthrough{Upstream: pool(t, o)})
	c := s.dial(t)
	io.WriteString(c, "GET / HTTP/1.0\r\nHost: t\r\n\r\n")
	within(t, asked, "the request")
	io.WriteString(c, "\r\n")
	close(answer)
	b, err := io.ReadAll(c)
	if err != nil || !strings.HasSuffix(string(b), "\r\n\r\nok") {
		t.Errorf("%q, %v", b, err)
	}
}

func TestUpgrade(t *testing.T) {
	o := newOrigin(t, func(c net.Conn, r *bufio.Reader) {
		h, err := head(r)
		if err != nil {
			return
		}
		if !strings.Contains(h, "Connection: Upgrade\r\nUpgrade: websocket\r\n") {
			io.WriteString(c, ok)
			return
		}
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\nfirst")
		io.Copy(c, r)
	})
	p := pool(t, o)
	const request = "GET / HTTP/1.1\r\nHost: t\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\r\n"
	plain := serve(t, proxy.Config{}, &proxy.Passthrough{Upstream: p})
	if got := plain.talk(t, request); !strings.HasSuffix(got, "hi") {
		t.Errorf("not allowed: %q", got)
	}
	s := serve(t, proxy.Config{}, &proxy.Passthrough{Upstream: p, Options: proxy.ForwardOptions{Upgrade: []string{"websocket"}}})
	got := s.talk(t, request+"echo")
	if want := "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nfirstecho"; got != want {
		t.Errorf("%q\nwant\n%q", got, want)
	}
	waitFor(t, "the upstream's connection to be given up", func() bool { return p.Stats().Open == 0 })
}

// BeforeEnd runs when the answer was read and before the client can know that it has ended.
func TestBeforeEnd(t *testing.T) {
	for name, answer := range map[string]string{
		"length": ok, "empty": "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "no content": "HTTP/1.1 204 NC\r\n\r\n",
		"chunks": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", "closing": "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhi",
	} {
		o := newOrigin(t, func(c net.Conn, r *bufio.Reader) {
			if _, err := head(r); err == nil {
				io.WriteString(c, answer)
			}
		})
		p := pool(t, o)
		at, goOn := make(chan proxy.Result), make(chan struct{})
		s := serve(t, proxy.Config{}, handler(func(x *proxy.Exchange) {
			x.Forward(p, proxy.ForwardOptions{Capture: 1, BeforeEnd: func(_ *proxy.Exchange, r *proxy.Result) { at <- *r; <-goOn }})
		}))
		c := s.dial(t)
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: t\r\n\r\n")
		res := within(t, at, name)
		c.SetReadDeadline(time.Now().Add(20 * time.Millisecond)) // time for what must not come
		before, _ := io.ReadAll(c)
		c.SetReadDeadline(time.Now().Add(wait))
		if rs := parseReplies(before, nil); len(rs) > 0 && rs[0].whole && name != "closing" {
			t.Errorf("%s: the client had the whole answer: %q", name, before)
		}
		if res.Status == 0 || res.LastByte.Before(res.FirstByte) || res.FirstByte.Before(res.Forwarded) || res.BodyBytes == 2 && (string(res.Captured) != "h" || !res.Truncated) {
			t.Errorf("%s: %+v", name, res)
		}
		close(goOn)
		c.CloseWrite()
		after, _ := io.ReadAll(c)
		if rs := parseReplies(append(before, after...), nil); len(rs) != 1 || !rs[0].whole {
			t.Errorf("%s: %q then %q", name, before, after)
		}
	}
}

// A refused answer leaves no trace at the client, and the request, body included, goes to another upstream.
func TestFallBack(t *testing.T) {
	// Both read a request to its end: what is left of one would be taken for another and be answered, too.
	origin := func(answer string, bodies chan<- string) *origin {
		return newOrigin(t, func(c net.Conn, r *bufio.Reader) {
			for {
				h, err := head(r)
				if err != nil {
					return
				}
				b, err := readBody(r, h)
				if err != nil {
					return
				}
				bodies <- b
				io.WriteString(c, answer)
			}
		})
	}
	refused, bodies := make(chan string, 9), make(chan string, 9)
	candidate, legacy := origin("HTTP/1.1 500 Oops\r\nContent-Length: 3\r\n\r\nbad", refused), origin(ok, bodies)
	cp, lp := pool(t, candidate), pool(t, legacy)
	s := serve(t, proxy.Config{}, handler(func(x *proxy.Exchange) {
		if _, complete, err := x.Body(1 << 20); err != nil || !complete {
			t.Errorf("body: %v %v", complete, err)
		}
		res, err := x.Forward(cp, proxy.ForwardOptions{OnHead: func(_ *proxy.Exchange, r *wire.Response) proxy.Verdict {
			if r.Status() >= 500 {
				return proxy.Refuse
			}
			return proxy.Pass
		}})
		if err != nil || !res.Refused || x.Answered() {
			t.Errorf("%+v, %v", res, err)
		}
		x.Forward(lp, proxy.ForwardOptions{})
	}))
	for _, size := range []int{5, 30 << 10, 500 << 10} {
		for _, framing := range []string{fmt.Sprintf("Content-Length: %d\r\n\r\n%s", size, strings.Repeat("a", size)), fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", size, strings.Repeat("a", size))} {
			if got := s.talk(t, "POST / HTTP/1.1\r\nHost: t\r\n"+framing); !strings.HasSuffix(got, "hi") || strings.Contains(got, "bad") {
				t.Errorf("%d: %.200q", size, got)
			}
			for name, bodies := range map[string]chan string{"candidate": refused, "legacy": bodies} {
				if b := within(t, bodies, "the body"); len(b) != size {
					t.Errorf("%s got %d bytes, want %d", name, len(b), size)
				}
			}
		}
	}
	if st := cp.Stats(); st.Idle != 1 {
		t.Errorf("candidate: %+v, want its connection kept", st)
	}
}

// A body larger than was asked for is still sent whole.
func TestBodyBeyondLimit(t *testing.T) {
	got := make(chan string, 1)
	o := newOrigin(t, func(c net.Conn, r *bufio.Reader) {
		for { // closing an answered connection unasked would race with the next request on it
			h, err := head(r)
			if err != nil {
				return
			}
			b, _ := readBody(r, h)
			got <- b
			io.WriteString(c, ok)
		}
	})
	p := pool(t, o)
	s := serve(t, proxy.Config{}, handler(func(x *proxy.Exchange) {
		if b, complete, err := x.Body(1000); len(b) != 1000 || complete || err != nil {
			t.Errorf("%d bytes, complete %v, %v", len(b), complete, err)
		}
		if _, err := x.Forward(p, proxy.ForwardOptions{}); err != nil {
			t.Error(err)
		}
	}))
	body := strings.Repeat("0123456789", 20000)
	for _, framing := range []string{fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body), fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(body), body)} {
		s.talk(t, "POST / HTTP/1.1\r\nHost: t\r\n"+framing)
		if b := within(t, got, "the body"); b != body {
			t.Errorf("legacy got %d bytes", len(b))
		}
	}
}

func TestReply(t *testing.T) {
	s := serve(t, proxy.Config{}, handler(func(x *proxy.Exchange) {
		if err := x.Reply(200, []wire.Pair{{Name: "X", Value: []byte("a\r\nb")}}, nil); err == nil || x.Answered() {
			t.Error("a field with a line break was taken")
		}
		x.Reply(201, []wire.Pair{{Name: "X", Value: []byte("y")}}, []byte("made"))
	}))
	for request, want := range map[string]struct {
		body  string
		close bool
	}{
		"GET / HTTP/1.1\r\nHost: t\r\n\r\n":                            {"made", false},
		"HEAD / HTTP/1.1\r\nHost: t\r\n\r\n":                           {"", false},
		"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello": {"made", true},
		"GET / HTTP/1.0\r\n\r\n":                                       {"made", true},
	} {
		got := s.talk(t, request)
		if !strings.HasPrefix(got, "HTTP/1.1 201 Created\r\nDate: ") || !strings.HasSuffix(got, "\r\n\r\n"+want.body) || strings.Contains(got, "Connection: close") != want.close {
			t.Errorf("%q: %q", request, got)
		}
	}
}

func TestPanicAndSilence(t *testing.T) {
	o := newOrigin(t, func(c net.Conn, r *bufio.Reader) { head(r) })
	p := pool(t, o)
	s := serve(t, proxy.Config{}, handler(func(x *proxy.Exchange) {
		switch string(x.Request.Target()) {
		case "/panic":
			panic("bug")
		case "/ignored":
			x.Forward(p, proxy.ForwardOptions{})
		}
	}))
	if got := s.talk(t, "GET /ignored HTTP/1.1\r\nHost: t\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 502 ") {
		t.Errorf("%q", got)
	}
	if got := s.talk(t, "GET /panic HTTP/1.1\r\nHost: t\r\n\r\n"); got != "" {
		t.Errorf("%q", got)
	}
	if got := s.talk(t, "GET / HTTP/1.1\r\nHost: t\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 500 ") {
		t.Errorf("%q", got)
	}
}

func TestMaxClientConns(t *testing.T) {
	s := serve(t, proxy.Config{MaxConns: 1}, handler(func(x *proxy.Exchange) { x.Reply(200, nil, nil) }))
	c := s.dial(t)
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: t\r\n\r\n")
	if _, err := head(bufio.NewReader(c)); err != nil {
		t.Fatal(err)
	}
	d := s.dial(t)
	if b, _ := io.ReadAll(d); !strings.HasPrefix(string(b), "HTTP/1.1 503 ") || s.Stats().Refused != 1 {
		t.Errorf("%q, %+v", b, s.Stats())
	}
}

type observer chan proxy.Observation

func (o observer) Done(b *proxy.Observation) {
	c := *b
	c.Method = append([]byte(nil), b.Method...)
	o <- c
}

func TestObserver(t *testing.T) {
	o, _ := answers(t, ok)
	p := pool(t, o)
	ob := make(observer, 9)
	s := serveObserved(t, proxy.Config{}, handler(func(x *proxy.Exchange) {
		x.Route = "all"
		x.Forward(p, proxy.ForwardOptions{})
	}), ob)
	s.talk(t, "PUT / HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\n\r\n")
	b := within(t, ob, "the exchange")
	if string(b.Method) != "PUT" || b.Route != "all" || b.Upstream != "legacy" || b.Status != 200 || b.RequestBytes != 5 || b.ResponseBytes != 2 || b.FirstByte <= 0 || b.Duration < b.FirstByte || b.Err != nil {
		t.Errorf("%+v", b)
	}
	if b = within(t, ob, "the refusal"); b.Status != 400 || b.Err == nil || b.Route != "" {
		t.Errorf("%+v", b)
	}
}

// Draining under load: no request fails, answers say that the connection ends, Shutdown returns when all have.
func TestDrain(t *testing.T) {
	o, _ := answers(t, ok)
	// A client that is not run for as long as this would look idle, and its next request would meet the end.
	s := serve(t, proxy.Config{DrainIdle: time.Second}, &proxy.Passthrough{Upstream: pool(t, o)})
	const clients = 32
	errs, started := make(chan error, clients), make(chan struct{}, clients)
	for range clients {
		c := s.dial(t)
		go func() {
			r := bufio.NewReader(c)
			for i := 0; ; i++ {
				if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: t\r\n\r\n"); err != nil {
					errs <- err
					return
				}
				h, err := head(r)
				if err == nil {
					_, err = readBody(r, h)
				}
				if err != nil || !strings.HasPrefix(h, "HTTP/1.1 200 ") {
					errs <- fmt.Errorf("request %d: %q, %v", i, h, err)
					return
				}
				if i == 10 {
					started <- struct{}{}
				}
				if strings.Contains(h, "Connection: close\r\n") {
					errs <- nil
					return
				}
			}
		}()
	}
	idle := s.dial(t)
	for range clients {
		within(t, started, "load")
	}
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	for range clients {
		if err := within(t, errs, "a client"); err != nil {
			t.Error(err)
		}
	}
	if b, err := io.ReadAll(idle); len(b) > 0 || err != nil {
		t.Errorf("idle connection: %q, %v", b, err)
	}
	if _, err := net.Dial("tcp", s.addr); err == nil {
		t.Error("still accepting")
	}
}

// A drain that begins when an answer has said that the connection stays cuts nobody: the next request is answered, and told.
func TestADrainThatBeginsBehindAnAnswer(t *testing.T) {
	var s *running
	var once sync.Once
	down := make(chan error, 1)
	s = serve(t, proxy.Config{}, handler(func(x *proxy.Exchange) {
		x.Reply(200, nil, []byte("ok"))
		once.Do(func() {
			go func() { down <- s.Shutdown(context.Background()) }() // ends when the client below is told
			for {
				c, err := net.Dial("tcp", s.addr)
				if err != nil {
					return // nobody listens any more: the drain has begun
				}
				c.Close()
			}
		})
	}))
	c := s.dial(t)
	r := bufio.NewReader(c)
	for _, want := range []bool{false, true} {
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: t\r\n\r\n")
		h, err := head(r)
		if err == nil {
			_, err = readBody(r, h)
		}
		if err != nil || !strings.HasPrefix(h, "HTTP/1.1 200 ") || strings.Contains(h, "Connection: close\r\n") != want {
			t.Fatalf("%q, %v; want it to say that the connection ends: %v", h, err, want)
		}
	}
	if err := within(t, down, "the drain"); err != nil {
		t.Error(err)
	}
}

func TestDrainCuts(t *testing.T) {
	arrived := make(chan struct{})
	o := newOrigin(t, func(c net.Conn, r *bufio.Reader) {
		head(r)
		close(arrived)
		io.Copy(io.Discard, r)
	})
	p := pool(t, o)
	s := serve(t, proxy.Config{}, &proxy.Passthrough{Upstream: p, Options: proxy.ForwardOptions{}})
	c := s.dial(t)
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: t\r\n\r\n")
	within(t, arrived, "the request")
	ctx, cancel := context.WithCancelCause(context.Background())
	cause := errors.New("no time left")
	cancel(cause)
	if err := s.Shutdown(ctx); !errors.Is(err, cause) {
		t.Errorf("%v", err)
	}
	if b, _ := io.ReadAll(c); len(b) > 0 {
		t.Errorf("%q", b)
	}
}
