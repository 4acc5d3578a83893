package proxy_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	number "math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"banyan/proxy"
	"banyan/proxy/wire"
)

// selfSigned is a configuration for a listener that offers both protocols.
func selfSigned(t testing.TB) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: number.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"t"}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, NextProtos: []string{"h2", "http/1.1"}}
}

func overTLS(t testing.TB) func(net.Listener) net.Listener {
	c := selfSigned(t)
	return func(l net.Listener) net.Listener { return tls.NewListener(l, c) }
}

// secure connects over TLS.
func (s *running) secure(t testing.TB, protocols ...string) *tls.Conn {
	t.Helper()
	c := tls.Client(s.dial(t), &tls.Config{InsecureSkipVerify: true, NextProtos: protocols})
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	return c
}

// httpOrigin is a backend of net/http.
func httpOrigin(t testing.TB, h http.HandlerFunc) net.Listener {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener
}

// readAll is what h2spec is run against: it wants an answer with a body, and bodies read.
func readAll(w http.ResponseWriter, r *http.Request) {
	n, _ := io.Copy(io.Discard, r.Body)
	fmt.Fprintf(w, "%s %s %s %d", r.Method, r.RequestURI, r.Header.Get("X-Forwarded-Proto"), n)
}

// TestH2Spec runs the 146 cases of h2spec, strictly. In clear there is one that a port for both protocols cannot meet:
// what does not start with the preface is an HTTP/1.1 request, and answered as such.
func TestH2Spec(t *testing.T) {
	p := pool(t, httpOrigin(t, readAll))
	for _, c := range []struct {
		name, passed string
		args         []string
		wrap         []func(net.Listener) net.Listener
	}{
		{"tls", "146 passed", []string{"-t", "-k"}, []func(net.Listener) net.Listener{overTLS(t)}},
		{"clear", "145 passed", nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serve(t, proxy.Config{}, &proxy.Passthrough{Upstream: p}, c.wrap...)
			host, port, _ := net.SplitHostPort(s.addr)
			out, err := exec.Command("go", append([]string{"tool", "h2spec", "-h", host, "-p", port, "-S", "-o", "10"}, c.args...)...).CombinedOutput()
			if !strings.Contains(string(out), "146 tests, "+c.passed) {
				_, failures, _ := strings.Cut(string(out), "Failures:")
				t.Errorf("%v\n%s\n%.200s", err, failures, out)
			}
		})
	}
}

// TestTLS: both protocols over TLS, and what the origin is told.
func TestTLS(t *testing.T) {
	s := serve(t, proxy.Config{}, &proxy.Passthrough{Upstream: pool(t, httpOrigin(t, readAll))}, overTLS(t))
	c := s.secure(t, "http/1.1")
	r := bufio.NewReader(c)
	for range 2 { // the connection is kept
		io.WriteString(c, "POST /a HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
		a, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := io.ReadAll(a.Body); string(b) != "POST /a https 3" {
			t.Errorf("over HTTP/1.1: %q", b)
		}
	}
	f := over(t, s.secure(t, "h2"))
	f.ask(1, true, get("/b")...)
	if g := f.answer(1); string(g.body) != "GET /b https 0" {
		t.Errorf("over HTTP/2: %v", g)
	}
	if c := s.secure(t); c.ConnectionState().NegotiatedProtocol != "" {
		t.Error("a client that offers nothing got a protocol")
	} else if _, err := io.WriteString(c, "GET /c HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"); err != nil {
		t.Error(err)
	} else if b, _ := io.ReadAll(c); !strings.Contains(string(b), "GET /c https 0") {
		t.Errorf("without ALPN: %q", b)
	}
}

// TestHTTP2Answers: every form of answer, as the client gets it.
func TestHTTP2Answers(t *testing.T) {
	for _, c := range []struct{ name, method, raw, want string }{
		{"length", "GET", "HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a:  2 \r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 2\r\n\r\nhi", "answer 200 hi; content-length=2 set-cookie=a=1|b=2 x-a=1|2"},
		{"chunks", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Trailer: 1\r\n\r\n", "answer 200 hi; "},
		{"until close", "GET", "HTTP/1.0 200 OK\r\n\r\nhi", "answer 200 hi; "},
		{"of the connection", "GET", "HTTP/1.1 200 OK\r\nConnection: X-B, close\r\nX-B: 1\r\nKeep-Alive: timeout=5\r\nUpgrade: h2\r\nProxy-Connection: x\r\nContent-Length: 0\r\n\r\n", "answer 200; content-length=0"},
		{"head", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", "answer 200; content-length=1000"},
		{"not modified", "GET", "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 1000\r\n\r\n", "answer 304; content-length=1000 etag=\"x\""},
		{"no content", "GET", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", "answer 204; "},
		{"interim", "GET", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "interim [103] answer 200 hi; content-length=2"},
		{"other status", "GET", "HTTP/1.1 418 I'm a teapot\r\nContent-Length: 0\r\n\r\n", "answer 418; content-length=0"},
		{"empty value", "GET", "HTTP/1.1 200 OK\r\nX-Empty:\r\nContent-Length: 0\r\n\r\n", "answer 200; content-length=0 x-empty="},
		{"cut", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi", "reset INTERNAL_ERROR"},
		{"cut chunks", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhi", "reset INTERNAL_ERROR"},
		{"malformed", "GET", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nhi", "answer 502 the upstream gave no usable answer; content-length=35 content-type=text/plain; charset=utf-8"},
		{"switch that nobody asked for", "GET", "HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "answer 502 the upstream gave no usable answer; content-length=35 content-type=text/plain; charset=utf-8"},
		{"long head", "GET", "HTTP/1.1 200 OK\r\nX-Long: " + strings.Repeat("a", 40<<10) + "\r\nContent-Length: 0\r\n\r\n", "answer 200; content-length=0 x-long=" + strings.Repeat("a", 40<<10)},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := newOrigin(t, func(nc net.Conn, r *bufio.Reader) {
				if _, err := head(r); err == nil {
					io.WriteString(nc, c.raw)
				}
			})
			s := serve(t, proxy.Config{}, &proxy.Passthrough{Upstream: pool(t, o), Options: proxy.ForwardOptions{Upgrade: []string{"websocket"}}})
			f := s.prior(t)
			f.ask(1, true, ":method: "+c.method, ":scheme: http", ":authority: t", ":path: /")
			g := f.answer(1)
			delete(g.fields, "date")
			got := g.String()
			if g.ended {
				got += "; " + sorted(g.fields)
			}
			if g.interim != nil {
				got = fmt.Sprintf("interim %v %s", g.interim, got)
			}
			if got != c.want {
				t.Errorf("got  %.300s\nwant %.300s", got, c.want)
			}
		})
	}
}

// sorted is fields as one line.
func sorted(fields map[string][]string) string {
	var out []string
	for n, v := range fields {
		out = append(out, n+"="+strings.Join(v, "|"))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// TestHTTP2Upgrade: the preface as a request of a kept connection is none, and Upgrade: h2c is not answered by a switch.
func TestHTTP2Upgrade(t *testing.T) {
	s := serve(t, proxy.Config{}, &proxy.Passthrough{Upstream: pool(t, httpOrigin(t, readAll)), Options: proxy.ForwardOptions{}})
	got := s.talk(t, "GET /a HTTP/1.1\r\nHost: t\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 200 ") || !strings.Contains(got, "HTTP/1.1 505 ") {
		t.Errorf("got %q", got)
	}
}

// TestHTTP2LargeBodies: 64 MiB each way, with flat memory.
func TestHTTP2LargeBodies(t *testing.T) {
	const size = 64 << 20
	p := pool(t, httpOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if n, _ := io.Copy(io.Discard, r.Body); r.Method == "POST" {
			fmt.Fprint(w, n)
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(size))
		zeros(w, size)
	}))
	s := serve(t, proxy.Config{}, &proxy.Passthrough{Upstream: p})
	for _, length := range []string{"content-length: " + strconv.Itoa(size), "x-length: none"} {
		f := s.prior(t)
		room := make(chan int, 1<<16)
		answer := make(chan got, 1)
		go func() { answer <- f.watch(1, room) }()
		f.ask(1, false, post("/up", length)...)
		piece := make([]byte, 16<<10)
		used := allocated(func() {
			stream, conn := 65535, 65535
			for sent := 0; sent < size; {
				for stream < len(piece) || conn < len(piece) {
					if n := within(t, room, "a window"); n > 0 {
						stream += n
					} else {
						conn -= n
					}
				}
				f.do(f.WriteData(1, sent+len(piece) == size, piece))
				sent, stream, conn = sent+len(piece), stream-len(piece), conn-len(piece)
			}
			if g := within(t, answer, "an answer"); g.String() != "answer 200 "+strconv.Itoa(size) {
				t.Errorf("%s: %v", length, g)
			}
		})
		if used > 60<<20 { // of all in this process; nearly none, but for what pools throw away under the race detector
			t.Errorf("%s: %d bytes allocated for an upload of %d", length, used, size)
		}
	}
	f := s.prior(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
	f.do(f.WriteWindowUpdate(0, 1<<20))
	f.SetReuseFrames()
	f.ask(1, true, get("/down")...)
	total, owed := 0, 0
	used := allocated(func() {
		for ended := false; !ended; {
			fr, err := f.ReadFrame()
			f.do(err)
			if d, ok := fr.(*http2.DataFrame); ok {
				total, owed, ended = total+len(d.Data()), owed+len(d.Data()), d.StreamEnded()
			}
			if owed > 1<<19 {
				f.do(f.WriteWindowUpdate(0, uint32(owed)))
				f.do(f.WriteWindowUpdate(1, uint32(owed)))
				owed = 0
			}
		}
	})
	if total != size || used > 48<<20 {
		t.Errorf("download: %d bytes came, %d were allocated", total, used)
	}
}

// watch reads an answer, and reports windows: of the stream as positive numbers, of the connection as negative ones.
func (f *frames) watch(id uint32, room chan<- int) (g got) {
	for {
		fr, err := f.ReadFrame()
		if err != nil {
			g.closed = true
			return g
		}
		switch fr := fr.(type) {
		case *http2.WindowUpdateFrame:
			if fr.StreamID == 0 {
				room <- -int(fr.Increment)
			} else if fr.StreamID == id {
				room <- int(fr.Increment)
			}
		case *http2.SettingsFrame:
			if v, ok := fr.Value(http2.SettingInitialWindowSize); ok {
				room <- int(v) - 65535
			}
		case *http2.MetaHeadersFrame:
			g.status, _ = strconv.Atoi(fr.PseudoValue("status"))
			g.ended = fr.StreamEnded()
		case *http2.DataFrame:
			g.body = append(g.body, fr.Data()...)
			g.ended = fr.StreamEnded()
		case *http2.RSTStreamFrame:
			g.reset = fr.ErrCode.String()
			return g
		}
		if g.ended {
			return g
		}
	}
}

// TestSlowStream: a stream whose client takes nothing stalls itself alone, and holds little.
func TestSlowStream(t *testing.T) {
	const size = 8 << 20
	var written atomic.Int64
	p := pool(t, httpOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			for range size / 4096 {
				n, err := w.Write(make([]byte, 4096))
				if written.Add(int64(n)); err != nil {
					return
				}
			}
			return
		}
		io.WriteString(w, "quick")
	}))
	s := serve(t, proxy.Config{}, &proxy.Passthrough{Upstream: p})
	f := s.prior(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1000})
	f.do(f.WriteWindowUpdate(0, 1<<24))
	f.ask(1, true, get("/slow")...)
	for id := uint32(3); id < 200; id += 2 {
		f.ask(id, true, get("/quick")...)
		if g := f.answer(id); g.String() != "answer 200 quick" {
			t.Fatalf("beside a slow stream: %v", g)
		}
	}
	if n := written.Load(); n == size {
		t.Errorf("all %d bytes of an answer that nobody reads were taken from the origin", n)
	}
	f.do(f.WriteWindowUpdate(1, size))
	f.nc.SetReadDeadline(time.Now().Add(wait))
	if g := f.answer(1); g.status != 0 && !g.ended || len(g.body) == 0 {
		t.Errorf("once there is room: %d bytes, %v", len(g.body), g.ended)
	}
}

// TestHTTP2ExpectContinue: the client is told to go on only when somebody wants the body.
func TestHTTP2ExpectContinue(t *testing.T) {
	s := serve(t, proxy.Config{}, handler(func(x *proxy.Exchange) {
		if string(x.Request.Target()) == "/unread" {
			x.Reply(403, nil, nil)
			return
		}
		b, _, err := x.Body(100)
		x.Reply(200, nil, b)
		if err != nil {
			t.Error(err)
		}
	}))
	f := s.prior(t)
	f.ask(1, false, post("/read", "expect: 100-continue", "content-length: 2")...)
	fr := f.until(func(fr http2.Frame) bool {
		h, ok := fr.(*http2.MetaHeadersFrame)
		return ok && h.PseudoValue("status") == "100"
	})
	if fr.Header().StreamID != 1 {
		t.Errorf("100 for stream %d", fr.Header().StreamID)
	}
	f.do(f.WriteData(1, true, []byte("hi")))
	if g := f.answer(1); g.String() != "answer 200 hi" {
		t.Errorf("%v", g)
	}
	f.ask(3, false, post("/unread", "expect: 100-continue", "content-length: 2")...)
	if g := f.answer(3); g.String() != "answer 403" || g.interim != nil {
		t.Errorf("%v, interim %v", g, g.interim)
	}
	r := f.until(func(fr http2.Frame) bool { _, ok := fr.(*http2.RSTStreamFrame); return ok }).(*http2.RSTStreamFrame)
	if r.StreamID != 3 || r.ErrCode != http2.ErrCodeNo {
		t.Errorf("%v: want stream 3 reset with NO_ERROR: the answer did not need the body", r)
	}
}

// until reads frames up to one.
func (f *frames) until(ok func(http2.Frame) bool) http2.Frame {
	f.t.Helper()
	f.nc.SetReadDeadline(time.Now().Add(wait))
	for {
		fr, err := f.ReadFrame()
		f.do(err)
		if ok(fr) {
			return fr
		}
	}
}

func isData(fr http2.Frame) bool { _, ok := fr.(*http2.DataFrame); return ok }

// TestHTTP2EventsAreFlushed: each piece of an answer leaves as it comes.
func TestHTTP2EventsAreFlushed(t *testing.T) {
	next := make(chan string)
	p := pool(t, httpOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		for e := range next {
			io.WriteString(w, e)
			w.(http.Flusher).Flush()
		}
	}))
	s := serve(t, proxy.Config{}, &proxy.Passthrough{Upstream: p})
	f := s.prior(t)
	f.ask(1, true, get("/")...)
	for i := range 3 {
		next <- fmt.Sprintf("data: %d\n\n", i)
		if d := f.until(isData).(*http2.DataFrame); string(d.Data()) != fmt.Sprintf("data: %d\n\n", i) || d.StreamEnded() {
			t.Errorf("%q", d.Data())
		}
	}
	close(next)
	if g := f.answer(1); !g.ended {
		t.Errorf("%v", g)
	}
}

// TestHTTP2BeforeEnd: the stream's end is held back until BeforeEnd has returned.
func TestHTTP2BeforeEnd(t *testing.T) {
	for _, length := range []string{"Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"} {
		o, _ := answers(t, "HTTP/1.1 200 OK\r\n"+length+"\r\n"+map[bool]string{true: "hello", false: "5\r\nhello\r\n0\r\n\r\n"}[strings.HasPrefix(length, "Content")])
		release, called := make(chan struct{}), make(chan struct{})
		s := serve(t, proxy.Config{}, &proxy.Passthrough{Upstream: pool(t, o), Options: proxy.ForwardOptions{BeforeEnd: func(*proxy.Exchange, *proxy.Result) {
			close(called)
			<-release
		}}})
		f := s.prior(t)
		f.ask(1, true, get("/")...)
		within(t, called, "BeforeEnd")
		f.do(f.WritePing(false, [8]byte{1}))
		f.until(func(fr http2.Frame) bool {
			if fr.Header().StreamID == 1 && fr.Header().Flags.Has(http2.FlagDataEndStream) && fr.Header().Type <= http2.FrameHeaders {
				t.Error("the end came before BeforeEnd returned")
			}
			_, ok := fr.(*http2.PingFrame)
			return ok
		})
		close(release)
		if g := f.answer(1); g.String() != "answer 200 hello" {
			t.Errorf("%v", g)
		}
	}
}

// TestHTTP2BeforeEndLater: likewise when the end comes by itself.
func TestHTTP2BeforeEndLater(t *testing.T) {
	finish := make(chan struct{})
	o := newOrigin(t, func(nc net.Conn, r *bufio.Reader) {
		if _, err := head(r); err == nil {
			io.WriteString(nc, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
			<-finish
			io.WriteString(nc, "3\r\nbye\r\n0\r\n\r\n")
		}
	})
	release, called := make(chan struct{}), make(chan struct{})
	s := serve(t, proxy.Config{}, &proxy.Passthrough{Upstream: pool(t, o), Options: proxy.ForwardOptions{BeforeEnd: func(*proxy.Exchange, *proxy.Result) {
		close(called)
		<-release
	}}})
	f := s.prior(t)
	f.ask(1, true, get("/")...)
	f.until(isData)
	close(finish)
	within(t, called, "BeforeEnd")
	f.do(f.WritePing(false, [8]byte{1}))
	f.until(func(fr http2.Frame) bool {
		if d, ok := fr.(*http2.DataFrame); ok && d.StreamEnded() {
			t.Error("the end came before BeforeEnd returned")
		}
		_, ok := fr.(*http2.PingFrame)
		return ok
	})
	close(release)
	if g := f.answer(1); !g.ended {
		t.Errorf("%v", g)
	}
}

// TestHTTP2ClientGone: a reset, or the loss of the connection, is the client's leaving; a write is read to its end.
func TestHTTP2ClientGone(t *testing.T) {
	for _, c := range []struct {
		name string
		go_  func(f *frames)
	}{
		{"reset", func(f *frames) { f.do(f.WriteRSTStream(1, http2.ErrCodeCancel)) }},
		{"connection", func(f *frames) { f.nc.Close() }},
	} {
		for _, ignore := range []bool{true, false} {
			asked, answer := make(chan struct{}), make(chan struct{})
			p := pool(t, httpOrigin(t, func(w http.ResponseWriter, r *http.Request) {
				asked <- struct{}{}
				<-answer
				io.WriteString(w, strings.Repeat("a", 100<<10))
			}))
			h := reporting(p, proxy.ForwardOptions{IgnoreClientGone: ignore})
			s := serve(t, proxy.Config{}, h)
			f := s.prior(t)
			f.ask(1, true, get("/")...)
			within(t, asked, "the request")
			c.go_(f)
			if c.name == "reset" { // seen, when what follows it is answered
				f.do(f.WritePing(false, [8]byte{1}))
				f.until(func(fr http2.Frame) bool { _, ok := fr.(*http2.PingFrame); return ok })
			}
			close(answer)
			res, err := h.next(t)
			if !res.ClientGone && c.name == "reset" || ignore && (err != nil || res.BodyBytes != 100<<10) || c.name == "reset" && !ignore && err == nil {
				t.Errorf("%s, ignored %v: %+v, %v", c.name, ignore, res, err)
			}
		}
	}
}

// TestHTTP2Fallback: an answer refused by OnHead, and a second Forward.
func TestHTTP2Fallback(t *testing.T) {
	bad, _ := answers(t, "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
	good, heads := answers(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
	candidate, legacy := pool(t, bad), pool(t, good)
	s := serve(t, proxy.Config{}, handler(func(x *proxy.Exchange) {
		x.Body(1 << 10)
		res, err := x.Forward(candidate, proxy.ForwardOptions{OnHead: func(*proxy.Exchange, *wire.Response) proxy.Verdict { return proxy.Refuse }})
		if err != nil || !res.Refused {
			t.Errorf("%+v, %v", res, err)
		}
		if _, err := x.Forward(legacy, proxy.ForwardOptions{}); err != nil {
			x.Fail(err)
		}
	}))
	f := s.prior(t)
	f.ask(1, false, post("/", "content-length: 3")...)
	f.do(f.WriteData(1, true, []byte("abc")))
	if g := f.answer(1); g.String() != "answer 200 hi" || len(heads()) != 1 {
		t.Errorf("%v, %q", g, heads())
	}
}

// TestHTTP2Panic: a panic costs its stream, and no other.
func TestHTTP2Panic(t *testing.T) {
	s := serve(t, proxy.Config{}, handler(func(x *proxy.Exchange) {
		switch string(x.Request.Target()) {
		case "/panic":
			panic("planted")
		case "/silent":
		default:
			x.Reply(200, nil, []byte("hi"))
		}
	}))
	f := s.prior(t)
	for i, c := range [][2]string{{"/panic", "reset INTERNAL_ERROR"}, {"/silent", "answer 500 the proxy could not answer"}, {"/", "answer 200 hi"}} {
		id := uint32(2*i + 1)
		f.ask(id, true, get(c[0])...)
		if g := f.answer(id); g.String() != c[1] {
			t.Errorf("%s: %v", c[0], g)
		}
	}
}

// TestHTTP2Drain: the client is told, what is under way ends, and then the connection does.
func TestHTTP2Drain(t *testing.T) {
	release, asked := make(chan struct{}), make(chan struct{})
	s := serve(t, proxy.Config{DrainIdle: 20 * time.Millisecond}, handler(func(x *proxy.Exchange) {
		asked <- struct{}{}
		<-release
		x.Reply(200, nil, []byte("hi"))
	}))
	f, idle := s.prior(t), s.prior(t)
	idle.until(func(fr http2.Frame) bool { _, ok := fr.(*http2.SettingsFrame); return ok })
	f.ask(1, true, get("/")...)
	within(t, asked, "the request")
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(context.Background()) }()
	var last []uint32
	for len(last) < 2 {
		last = append(last, f.until(func(fr http2.Frame) bool { _, ok := fr.(*http2.GoAwayFrame); return ok }).(*http2.GoAwayFrame).LastStreamID)
	}
	if last[0] != 1<<31-1 || last[1] != 1 {
		t.Errorf("GOAWAY with last streams %d, want all and then 1", last)
	}
	f.ask(3, true, get("/late")...) // not served: the client knows that it can send it elsewhere
	if code := idle.last(); code != "NO_ERROR" {
		t.Errorf("idle connection: %s", code)
	}
	select {
	case err := <-done:
		t.Fatalf("shut down with a request under way: %v", err)
	default:
	}
	close(release)
	if g := f.answer(1); g.String() != "answer 200 hi" {
		t.Errorf("%v", g)
	}
	f.last()
	if err := within(t, done, "the drain"); err != nil {
		t.Error(err)
	}
}

// TestHTTP2Timeouts: each wait for a client ends.
func TestHTTP2Timeouts(t *testing.T) {
	const short = 30 * time.Millisecond
	large, _ := answers(t, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"+strings.Repeat("a", 100000))
	p := pool(t, large)
	for _, c := range []struct {
		name, want string
		cfg        proxy.Config
		talk       func(f *frames) string
	}{
		{"idle", "NO_ERROR", proxy.Config{IdleTimeout: short}, func(f *frames) string { return f.last() }},
		{"half a header block", "ENHANCE_YOUR_CALM", proxy.Config{HeaderTimeout: short}, func(f *frames) string {
			f.do(f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.encode(get("/")...)}))
			return f.last()
		}},
		{"half a frame", "ENHANCE_YOUR_CALM", proxy.Config{HeaderTimeout: short}, func(f *frames) string {
			f.must(f.nc.Write([]byte{0, 0, 8, 6}))
			return f.last()
		}},
		{"body", "answer 408 the client took too long", proxy.Config{BodyTimeout: short}, func(f *frames) string {
			f.ask(1, false, post("/", "content-length: 5")...)
			return f.answer(1).String()
		}},
		{"no window", "reset ENHANCE_YOUR_CALM", proxy.Config{WriteTimeout: short}, func(f *frames) string {
			f.ask(1, true, get("/")...)
			return f.answer(1).String()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serve(t, c.cfg, &proxy.Passthrough{Upstream: p})
			if got := c.talk(s.prior(t)); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
	t.Run("half a preface", func(t *testing.T) {
		s := serve(t, proxy.Config{HeaderTimeout: short}, &proxy.Passthrough{Upstream: p}, overTLS(t))
		c := s.secure(t, "h2")
		io.WriteString(c, "PRI * HTTP")
		if b, err := io.ReadAll(c); err != nil || len(b) == 0 {
			t.Errorf("%x, %v", b, err)
		}
	})
}

// TestHTTP2Observer: streams are counted as requests are.
func TestHTTP2Observer(t *testing.T) {
	seen := make(chan proxy.Observation, 1)
	o, _ := answers(t, ok)
	s := serveObserved(t, proxy.Config{}, &proxy.Passthrough{Upstream: pool(t, o)}, observer(seen))
	f := s.prior(t)
	f.ask(1, false, post("/", "content-length: 3")...)
	f.do(f.WriteData(1, true, []byte("abc")))
	f.answer(1)
	if b := within(t, seen, "an observation"); b.Status != 200 || b.RequestBytes != 3 || b.ResponseBytes != 2 || b.Upstream != "legacy" || b.Err != nil {
		t.Errorf("%+v", b)
	}
}

// TestIdleTLSHoldsNoBuffers: an idle connection over TLS holds no exchange, whatever it has carried.
func TestIdleTLSHoldsNoBuffers(t *testing.T) {
	s := serve(t, proxy.Config{}, handler(func(x *proxy.Exchange) { x.Reply(200, nil, x.Request.Field("x-long")) }), overTLS(t))
	long := strings.Repeat("a", 30<<10)
	c := s.secure(t, "http/1.1")
	r := bufio.NewReader(c)
	for range 3 {
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: t\r\nX-Long: "+long+"\r\n\r\n")
		a, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(a.Body); string(b) != long {
			t.Errorf("%d bytes, %v", len(b), err)
		}
	}
	var conns []*tls.Conn
	before := heap()
	for range 100 {
		c := s.secure(t, "http/1.1")
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: t\r\n\r\n")
		io.ReadFull(c, make([]byte, 10))
		conns = append(conns, c)
	}
	if used := (heap() - before) / 100; used > 45<<10 { // both ends' TLS takes most of it; an exchange would be 52 KiB more
		t.Errorf("%d bytes for an idle connection, both ends", used)
	}
	runtime.KeepAlive(conns)
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // empties what pools hold
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestMaxConnsTLS: one too many is closed at once; the listener does not wait for a handshake.
func TestMaxConnsTLS(t *testing.T) {
	s := serve(t, proxy.Config{MaxConns: 1}, handler(func(x *proxy.Exchange) { x.Reply(200, nil, nil) }), overTLS(t))
	s.secure(t, "h2")
	for range 2 {
		c := s.dial(t) // says nothing
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("%v, want it closed", err)
		}
	}
}
