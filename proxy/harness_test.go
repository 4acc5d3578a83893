package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"banyan/proxy"
	"banyan/proxy/upstream"
)

// No test leaves a goroutine behind: connections, tunnels, pools and servers all end.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const wait = time.Minute

// origin is a backend whose every byte a test decides. serve gets each connection; it is closed after it.
type origin struct {
	net.Listener
	wg    sync.WaitGroup
	mu    sync.Mutex
	conns map[net.Conn]struct{}
	n     int
}

func newOrigin(t testing.TB, serve func(c net.Conn, r *bufio.Reader)) *origin {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &origin{Listener: l, conns: map[net.Conn]struct{}{}}
	o.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			o.mu.Lock()
			o.conns[c] = struct{}{}
			o.n++
			o.mu.Unlock()
			o.wg.Go(func() {
				serve(c, bufio.NewReader(c))
				c.Close()
				o.mu.Lock()
				delete(o.conns, c)
				o.mu.Unlock()
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		o.mu.Lock()
		for c := range o.conns {
			c.Close()
		}
		o.mu.Unlock()
		o.wg.Wait()
	})
	return o
}

func (o *origin) accepted() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.n
}

// head reads one head, as it came.
func head(r *bufio.Reader) (string, error) {
	var b strings.Builder
	for {
		l, err := r.ReadString('\n')
		b.WriteString(l)
		if err != nil || l == "\r\n" {
			return b.String(), err
		}
	}
}

// answers is an origin that gives each request the same raw answer, and records the heads.
func answers(t testing.TB, raw string) (*origin, func() []string) {
	var mu sync.Mutex
	var heads []string
	o := newOrigin(t, func(c net.Conn, r *bufio.Reader) {
		for {
			h, err := head(r)
			if err != nil {
				return
			}
			mu.Lock()
			heads = append(heads, h)
			mu.Unlock()
			if _, err := io.WriteString(c, raw); err != nil {
				return
			}
		}
	})
	return o, func() []string { mu.Lock(); defer mu.Unlock(); return heads }
}

func pool(t testing.TB, o net.Listener, change ...func(*upstream.Config)) *upstream.Pool {
	t.Helper()
	cfg := upstream.Config{Name: "legacy", URL: "http://" + o.Addr().String()}
	for _, f := range change {
		f(&cfg)
	}
	p, err := upstream.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// running is a server under test.
type running struct {
	*proxy.Server
	addr string
}

func serve(t testing.TB, cfg proxy.Config, h proxy.Handler, wrap ...func(net.Listener) net.Listener) *running {
	t.Helper()
	return serveObserved(t, cfg, h, nil, wrap...)
}

func serveObserved(t testing.TB, cfg proxy.Config, h proxy.Handler, ob proxy.Observer, wrap ...func(net.Listener) net.Listener) *running {
	t.Helper()
	if cfg.DrainIdle == 0 {
		cfg.DrainIdle = time.Millisecond
	}
	s, err := proxy.NewServer(cfg, h, ob, nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := proxy.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	for _, w := range wrap {
		l = w(l)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		s.Shutdown(ctx)
		if err := <-done; err != proxy.ErrServerClosed {
			t.Errorf("Serve returned %v", err)
		}
	})
	return &running{s, addr}
}

func (s *running) dial(t testing.TB) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(wait))
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

// talk sends raw, ends its side, and reads all that comes.
func (s *running) talk(t testing.TB, raw string) string {
	t.Helper()
	c := s.dial(t)
	defer c.Close()
	go func() { // a refusal may come before all of raw is written
		io.WriteString(c, raw)
		c.CloseWrite()
	}()
	b, _ := io.ReadAll(c)
	return string(b)
}

// handler makes a Handler of a function.
type handler func(x *proxy.Exchange)

func (h handler) Serve(x *proxy.Exchange) { h(x) }

// within fails the test if what is waited for does not come.
func within[T any](t testing.TB, c <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(wait):
		t.Fatalf("waited in vain for %s", what)
	}
	return v
}

// inPieces makes a server read its connections in pieces: of one byte, or of one line.
type inPieces struct {
	net.Listener
	lines bool
}

func (l inPieces) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &pieces{Conn: c, lines: l.lines, r: bufio.NewReaderSize(c, 64<<10)}, nil
}

type pieces struct {
	net.Conn
	r     *bufio.Reader
	lines bool
}

func (p *pieces) CloseWrite() error { return p.Conn.(*net.TCPConn).CloseWrite() }

func (p *pieces) Read(b []byte) (int, error) {
	if !p.lines {
		return p.r.Read(b[:1])
	}
	if _, err := p.r.Peek(1); err != nil {
		return 0, err
	}
	got, _ := p.r.Peek(min(p.r.Buffered(), len(b)))
	if i := bytes.IndexByte(got, '\n'); i >= 0 {
		got = got[:i+1]
	}
	return p.r.Read(b[:len(got)])
}
