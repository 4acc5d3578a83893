package proxy_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"banyan/proxy"
)

// tap records what passes between proxy and legacy.
type tap struct {
	*origin
	mu       sync.Mutex
	up, down bytes.Buffer
}

func newTap(t testing.TB, legacy net.Listener) *tap {
	tp := &tap{}
	tp.origin = newOrigin(t, func(c net.Conn, r *bufio.Reader) {
		l, err := net.Dial("tcp", legacy.Addr().String())
		if err != nil {
			return
		}
		defer l.Close()
		done := make(chan struct{})
		go func() {
			defer close(done)
			io.Copy(io.MultiWriter(locked{tp, &tp.up}, l), r) // noted before legacy can answer
			l.(*net.TCPConn).CloseWrite()
		}()
		io.Copy(io.MultiWriter(locked{tp, &tp.down}, c), l)
		c.Close()
		<-done
	})
	return tp
}

type locked struct {
	t *tap
	b *bytes.Buffer
}

func (l locked) Write(p []byte) (int, error) {
	l.t.mu.Lock()
	defer l.t.mu.Unlock()
	return l.b.Write(p)
}

// take gives what passed since the last call.
func (t *tap) take() (up, down string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	up, down = t.up.String(), t.down.String()
	t.up.Reset()
	t.down.Reset()
	return
}

// oddities are field lines that some library would reorder, fold, trim, re-case or drop.
var oddities = []string{
	"Cookie: a=b; c=d;;e", "cookie:a=b", "COOKIE:   x=\"y;z\"", "Accept:\t*/*  ", "X-Empty:", "X-Empty: ", "x-eMPTY:\t", "User-Agent: caf\xc3\xa9 \xff",
	"X-A: 1", "X-A: 2", "x-a: 3, 4", "If-None-Match: W/\"x\"", "If-Modified-Since: Thu, 19 Nov 1981 08:52:00 GMT", "Range: bytes=0-1,-5", "Authorization: Basic YTpi",
	"Accept-Encoding: gzip;q=0, br", "Referer: http://t/a?b#c", "Origin: null", "X-Requested-With: XMLHttpRequest", "X-Quote: \"a\\\"b", "X-Comma: ,,a,,", "!#$%&'*+-^`|~: token", "Cache-Control: no-cache",
	"Via: 1.0 fred", "Date: not a date", "Content-Type: multipart/form-data; boundary=x", "Content-Language: de", "Sec-Fetch-Mode: cors", "1: 2", "DNT:1",
}

var answerOddities = append([]string{
	"Set-Cookie: PHPSESSID=1; path=/; HttpOnly", "Set-Cookie: PHPSESSID=2", "set-cookie: a=b, c=d", "Server: Apache/2.4 (Debian)", "X-Powered-By: PHP/8.2.30", "Location: ?page=x&y", "Expires: 0",
	"X_Under_Score: kept", "X.Dot: kept", "Proxy: kept", "WWW-Authenticate: Basic realm=\"x\"", "WWW-Authenticate: Negotiate", "Vary: *", "ETag: W/\"x\"", "X-Control: \x01\x02", "Refresh: 5;url=/", "X-Forwarded-For: kept", "Banyan-Position: kept",
}, oddities...)

func pick(r *rand.Rand, from []string) (lines string) {
	for range r.IntN(12) {
		lines += from[r.IntN(len(from))] + "\r\n"
	}
	return lines
}

func randomBody(r *rand.Rand) string {
	b := make([]byte, r.IntN(3)*r.IntN(40000))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return string(b)
}

// chunked frames body in odd pieces.
func chunked(r *rand.Rand, body string) (out string) {
	for len(body) > 0 {
		n := min(len(body), 1+r.IntN(9000))
		out += fmt.Sprintf("%x\r\n%s\r\n", n, body[:n])
		body = body[n:]
	}
	return out + "0\r\n\r\n"
}

// TestTransparent sends odd but valid requests and answers through the proxy, with a tap between it and legacy. What
// legacy got, and what the client got, must be the bytes that were sent, but for the fields that the package names.
func TestTransparent(t *testing.T) {
	answer := make(chan string, 1)
	legacy := newOrigin(t, func(c net.Conn, r *bufio.Reader) {
		for {
			h, err := head(r)
			if err != nil {
				return
			}
			if _, err := readBody(r, h); err != nil {
				return
			}
			if _, err := io.WriteString(c, <-answer); err != nil {
				return
			}
		}
	})
	tp := newTap(t, legacy)
	s := serve(t, proxy.Config{}, &proxy.Passthrough{Upstream: pool(t, tp)})
	c := s.dial(t)
	in := bufio.NewReader(c)
	r := rand.New(rand.NewPCG(1, 2))
	targets := []string{"/", "/index.php?page=a&b[]=1&b[]=2", "//x//y", "/a/../b", "/%2e%2e/%zz", "/a;b=c?d;e", "/x?", "/caf\xc3\xa9", "/a%00b", "/\"<>\\^`{|}", "/*"}
	for i := range 1000 {
		c.SetDeadline(time.Now().Add(wait)) // for each pair
		method := []string{"GET", "POST", "PUT", "DELETE", "OPTIONS", "FOO", "get"}[r.IntN(7)]
		target, fields, host := targets[r.IntN(len(targets))], pick(r, oddities), []string{"t.local", "T.local:8080", "[::1]:80"}[r.IntN(3)]
		framing, body, sent := "", randomBody(r), ""
		switch r.IntN(3) {
		case 0:
			body = ""
		case 1:
			framing, sent = fmt.Sprintf("content-LENGTH:%d \r\n", len(body)), body
		case 2:
			framing, sent = "Transfer-encoding: Chunked\r\n", chunked(r, body)
		}
		request := method + " " + target + " HTTP/1.1\r\n" + fields + "hOst:" + host + "\r\n" + framing
		back := pick(r, answerOddities)
		status := []string{" 200 OK", " 404 ", " 302", " 500 caf\xc3\xa9  x", " 999 Odd"}[r.IntN(5)]
		abody := randomBody(r)
		aframing, asent := fmt.Sprintf("Content-length: %d\r\n", len(abody)), abody
		if r.IntN(2) == 0 {
			aframing, asent = "transfer-encoding:chunked\r\n", chunked(r, abody)
		}
		answer <- "HTTP/1.1" + status + "\r\n" + back + aframing + "Keep-Alive: timeout=60\r\nConnection: Keep-Alive\r\n\r\n" + asent
		go io.WriteString(c, request+"Connection: keep-alive\r\nKeep-Alive: 300\r\n\r\n"+sent)

		got, err := head(in)
		if err != nil {
			t.Fatalf("%d: %v after %q", i, err, got)
		}
		gotBody, err := readBody(in, got)
		if err != nil {
			t.Fatalf("%d: body: %v", i, err)
		}
		if want := "HTTP/1.1" + status + "\r\n" + back + aframing + "\r\n"; got != want || gotBody != abody {
			t.Fatalf("%d: client got\n%q\nwant\n%q\nbody equal: %v", i, got, want, gotBody == abody)
		}
		up, _ := tp.take()
		ur := bufio.NewReader(strings.NewReader(up))
		uh, _ := head(ur)
		ub, err := readBody(ur, uh)
		want := request + "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: " + host + "\r\n\r\n"
		if uh != want || ub != body || err != nil || ur.Buffered() > 0 {
			t.Fatalf("%d: legacy got\n%q\nwant\n%q\nbody equal: %v, %v", i, uh, want, ub == body, err)
		}
	}
	if n := legacy.accepted(); n != 1 {
		t.Errorf("%d connections to legacy, want 1", n)
	}
}

// readBody reads the body that a head announces.
func readBody(r *bufio.Reader, h string) (string, error) {
	length := 0
	for _, l := range strings.Split(h, "\r\n") {
		n, v, _ := strings.Cut(l, ":")
		switch strings.ToLower(n) {
		case "content-length":
			fmt.Sscan(v, &length)
		case "transfer-encoding":
			b, err := strictChunks(r)
			return string(b), err
		}
	}
	b := make([]byte, length)
	_, err := io.ReadFull(r, b)
	return string(b), err
}

// one sends a request through a new connection and gives what legacy and the client got.
func one(t *testing.T, cfg proxy.Config, o proxy.ForwardOptions, request, answer string) (legacy, client string) {
	t.Helper()
	l, heads := answers(t, answer)
	s := serve(t, cfg, &proxy.Passthrough{Upstream: pool(t, l), Options: o})
	client = s.talk(t, request)
	if h := heads(); len(h) > 0 {
		legacy = h[0]
	}
	return legacy, client
}

const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"

func TestAnswerForms(t *testing.T) {
	for _, c := range []struct{ name, request, answer, want string }{
		{"1.0 client, chunked", "GET / HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n2\r\nhi\r\n1\r\n!\r\n0\r\nX-T: z\r\n\r\n", "HTTP/1.1 200 OK\r\nX: y\r\nConnection: close\r\n\r\nhi!"},
		{"1.0 client, length", "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", ok, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"},
		{"HEAD", "HEAD / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 99\r\nConnection: close\r\n\r\n"},
		{"304", "GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n", "HTTP/1.1 304 NM\r\nContent-Length: 99\r\nETag: x\r\n\r\n", "HTTP/1.1 304 NM\r\nContent-Length: 99\r\nETag: x\r\nConnection: close\r\n\r\n"},
		{"204", "GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n", "HTTP/1.1 204 NC\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 204 NC\r\nConnection: close\r\n\r\n"},
		{"interim", "GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\nConnection: y\r\n\r\n" + ok, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"},
		{"origin of 1.0 and its listed fields", "GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: x-secret\r\nX-Secret: 1\r\nTrailer: x\r\nUpgrade: h2\r\n\r\nhi", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"},
		{"empty", "GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"},
		{"empty chunks", "GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n"},
	} {
		if _, got := one(t, proxy.Config{}, proxy.ForwardOptions{}, c.request, c.answer); got != c.want {
			t.Errorf("%s:\ngot  %q\nwant %q", c.name, got, c.want)
		}
		drip := newOrigin(t, func(nc net.Conn, r *bufio.Reader) {
			if _, err := head(r); err != nil {
				return
			}
			for i := range len(c.answer) {
				io.WriteString(nc, c.answer[i:i+1])
			}
			head(r)
		})
		s := serve(t, proxy.Config{}, &proxy.Passthrough{Upstream: pool(t, drip)})
		got, want := parseReplies([]byte(s.talk(t, c.request)), strings.Fields(c.request)[:1]), parseReplies([]byte(c.want), strings.Fields(c.request)[:1])
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s, byte by byte:\ngot  %v\nwant %v", c.name, got, want)
		}
	}
}

// An answer that ends with its connection is chunked towards a client of today, so that a cut connection to the client
// is seen; and sent as it is to one of HTTP/1.0.
func TestAnswerUntilClose(t *testing.T) {
	o := newOrigin(t, func(c net.Conn, r *bufio.Reader) {
		if _, err := head(r); err == nil {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nX: y\r\n\r\nhello")
		}
	})
	s := serve(t, proxy.Config{}, &proxy.Passthrough{Upstream: pool(t, o)})
	got := s.talk(t, "GET / HTTP/1.1\r\nHost: t\r\n\r\n")
	p := parseReplies([]byte(got), nil)
	if len(p) != 1 || p[0].body != "hello" || !p[0].whole || p[0].fields["transfer-encoding"] != "chunked" {
		t.Errorf("1.1: %q", got)
	}
	if got := s.talk(t, "GET / HTTP/1.0\r\nHost: t\r\n\r\n"); got != "HTTP/1.1 200 OK\r\nX: y\r\nConnection: close\r\n\r\nhello" {
		t.Errorf("1.0: %q", got)
	}
}
