package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"banyan/proxy"
)

// Bodies that a handler wants to see share a bound: beyond it they are refused, at once, and others stream.
func TestBufferedBodiesAreBounded(t *testing.T) {
	o := newOrigin(t, countBodies)
	p := pool(t, o)
	held, release := make(chan struct{}, 8), make(chan struct{})
	s := serve(t, proxy.Config{MaxBuffered: 2 << 20}, handler(func(x *proxy.Exchange) {
		switch string(x.Request.Target()) {
		case "/stream":
			if _, err := x.Forward(p, proxy.ForwardOptions{}); err != nil {
				x.Fail(err)
			}
			return
		}
		b, _, err := x.Body(1 << 20)
		if err != nil {
			x.Fail(err)
			return
		}
		held <- struct{}{}
		<-release
		x.Reply(200, nil, fmt.Append(nil, len(b)))
	}))
	send := func(path string, n int) io.Reader {
		c := s.dial(t)
		go io.WriteString(c, fmt.Sprintf("POST %s HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", path, n, strings.Repeat("a", n)))
		return c
	}
	announced := make([]io.Reader, 40) // and do not come: nothing is held for them
	for i := range announced {
		c := s.dial(t)
		io.WriteString(c, "POST /hold HTTP/1.1\r\nHost: t\r\nContent-Length: 1000000\r\n\r\nabc")
		announced[i] = c
	}
	first, second := send("/hold", 1<<20-(100<<10)), send("/hold", 1<<20-(300<<10))
	within(t, held, "the first body")
	within(t, held, "the second body")
	for _, c := range []struct{ name, raw string }{
		{"length", fmt.Sprintf("POST /hold HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n%s", 600<<10, strings.Repeat("a", 600<<10))},
		{"chunks", fmt.Sprintf("POST /hold HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", 600<<10, strings.Repeat("a", 600<<10))},
	} {
		if got := s.talk(t, c.raw); !strings.HasPrefix(got, "HTTP/1.1 503 ") || !strings.Contains(got, "Retry-After: 1\r\n") {
			t.Errorf("%s beyond the bound: %q", c.name, got)
		}
	}
	if got := s.Stats(); got.Overflow != 2 || got.Buffered > 2<<20 || got.Buffered < 1<<20 {
		t.Errorf("%+v", got)
	}
	if b, _ := io.ReadAll(send("/stream", 600<<10)); !strings.HasSuffix(string(b), "\r\n\r\n614400") {
		t.Errorf("streamed: %q", b)
	}
	close(release)
	for i, want := range map[io.Reader]string{first: "946176", second: "741376"} {
		if b, _ := io.ReadAll(i); !strings.HasSuffix(string(b), "\r\n\r\n"+want) {
			t.Errorf("held: %q, want %s", b, want)
		}
	}
	for _, c := range announced {
		c.(io.Closer).Close()
	}
	for deadline := time.Now().Add(wait); s.Stats().Buffered > 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond) // the server sees the end of a connection in its own time
	}
	if got := s.Stats().Buffered; got != 0 {
		t.Errorf("%d bytes are still counted", got)
	}
}

// When nothing may be buffered any more, what needs no buffer is served all the same, small bodies too.
func TestSmallBodiesStreamWhenCrowded(t *testing.T) {
	o := newOrigin(t, countBodies)
	p := pool(t, o)
	held, release := make(chan struct{}, 2), make(chan struct{})
	s := serve(t, proxy.Config{MaxBuffered: 1 << 20}, handler(func(x *proxy.Exchange) {
		if string(x.Request.Target()) == "/hold" {
			x.Body(1 << 20)
			held <- struct{}{}
			<-release
			x.Reply(200, nil, nil)
			return
		}
		if _, err := x.Forward(p, proxy.ForwardOptions{}); err != nil {
			x.Fail(err)
		}
	}))
	c := s.dial(t)
	go fmt.Fprintf(c, "POST /hold HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n%s", 1<<20, strings.Repeat("a", 1<<20))
	within(t, held, "the body that takes all")
	small := strings.Repeat("b", 20<<10)
	for name, raw := range map[string]string{
		"length": fmt.Sprintf("POST / HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(small), small),
		"chunks": fmt.Sprintf("POST / HTTP/1.1\r\nHost: t\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(small), small),
	} {
		if got := s.talk(t, raw); !strings.HasSuffix(got, "20480") {
			t.Errorf("%s: %q", name, got)
		}
	}
	if s.Stats().Overflow == 0 {
		t.Error("the bound was not met: the test shows nothing")
	}
	close(release)
}

// A body that keeps BodyTimeout with a byte at a time meets the floor; one that is fast enough does not.
func TestBodyRate(t *testing.T) {
	o := newOrigin(t, countBodies)
	s := serve(t, proxy.Config{BodyTimeout: 60 * time.Millisecond, MinBodyRate: 1000}, &proxy.Passthrough{Upstream: pool(t, o)})
	drip := func(c io.Writer, piece string) {
		for range 2000 {
			if _, err := io.WriteString(c, piece); err != nil {
				return
			}
			time.Sleep(10 * time.Millisecond) // what is tested is slowness
		}
	}
	for name, start := range map[string]struct{ head, piece string }{
		"small":  {"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 5000\r\n\r\n", "a"},
		"large":  {"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 5000000\r\n\r\n", "a"},
		"chunks": {"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\na\r\n"},
	} {
		c := s.dial(t)
		io.WriteString(c, start.head)
		go drip(c, start.piece) // ends when the connection is closed
		line, _ := bufio.NewReader(c).ReadString('\n')
		if !strings.HasPrefix(line, "HTTP/1.1 408 ") {
			t.Errorf("%s: %q", name, line)
		}
		c.Close()
	}
	f := s.prior(t)
	f.ask(1, false, post("/")...)
	done := make(chan struct{})
	go func() { // ends when the stream does
		defer close(done)
		for range 2000 {
			if f.WriteData(1, false, []byte("a")) != nil {
				return
			}
			time.Sleep(10 * time.Millisecond) // what is tested is slowness
		}
	}()
	if got := f.answer(1); got.status != 408 {
		t.Errorf("HTTP/2: %v", got)
	}
	f.nc.Close()
	<-done
	s = serve(t, proxy.Config{BodyTimeout: wait, MinBodyRate: 1}, &proxy.Passthrough{Upstream: pool(t, o)})
	if got := s.talk(t, "POST / HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello"); !strings.HasSuffix(got, "\r\n\r\n5") {
		t.Errorf("fast enough: %q", got)
	}
}

func TestFieldsAreCounted(t *testing.T) {
	s := serve(t, proxy.Config{}, whoIs)
	for _, c := range []struct {
		n    int
		want string
	}{{254, "200"}, {255, "431"}} { // and Host and Connection
		raw := "GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n" + strings.Repeat("A: b\r\n", c.n) + "\r\n"
		if got := s.talk(t, raw); !strings.HasPrefix(got, "HTTP/1.1 "+c.want+" ") {
			t.Errorf("%d fields: %.40q", c.n, got)
		}
	}
}

// countBodies answers each request with the length of its body.
func countBodies(c net.Conn, r *bufio.Reader) {
	for {
		q, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		n, err := io.Copy(io.Discard, q.Body)
		if err != nil {
			return
		}
		body := fmt.Sprint(n)
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}
}
