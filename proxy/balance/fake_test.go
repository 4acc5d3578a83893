package balance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"banyan/proxy/upstream"
	"banyan/proxy/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is an instance without a network.
type fake struct {
	mu     sync.Mutex
	down   bool
	gets   int
	status int // 0: 200
}

var errRefused = errors.New("connection refused")

func (f *fake) Name() string { return "fake" }

func (f *fake) Get(upstream.Timeouts, bool) (upstream.Conn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gets++
	if f.down {
		return nil, &upstream.Error{Upstream: "fake", Doing: "connect", Class: upstream.Dial, Err: errRefused}
	}
	return &fakeConn{f: f}, nil
}

func (f *fake) set(down bool) { f.mu.Lock(); f.down = down; f.mu.Unlock() }

// fakeConn answers with what the test says: more is the head's further lines.
type fakeConn struct {
	f    *fake
	more string
	cut  bool
	buf  []byte
}

func (c *fakeConn) Reused() bool                 { return false }
func (c *fakeConn) Send(*upstream.Message) error { return nil }
func (c *fakeConn) SendBody([]byte, bool) error  { return nil }
func (c *fakeConn) Receive(r *wire.Response, _ *upstream.Inbox) error {
	if c.cut {
		return &upstream.Error{Upstream: "fake", Doing: "receive the answer", Class: upstream.Cut, Sent: true, Err: errors.New("cut")}
	}
	status := c.f.status
	if status == 0 {
		status = 200
	}
	r.Reset()
	c.buf = fmt.Appendf(nil, "HTTP/1.1 %d X\r\n%sContent-Length: 0\r\n\r\n", status, c.more)
	_, err := r.Parse(c.buf)
	return err
}
func (c *fakeConn) Buffered() bool                    { return true }
func (c *fakeConn) Body([]byte) (int, bool, error)    { return 0, true, nil }
func (c *fakeConn) Hijack() (net.Conn, []byte)        { return nil, nil }
func (c *fakeConn) Release()                          {}
func (c *fakeConn) Abort()                            {}
func (c *fakeConn) answer(setCookie string) *fakeConn { c.more = setCookie; return c }

// world is a balancer over fakes, and a clock.
type world struct {
	*Balancer
	fakes []*fake
	now   int64
	log   *lines
}

// lines is a log that can be looked at.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) { l.mu.Lock(); defer l.mu.Unlock(); return l.b.Write(p) }
func (l *lines) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), what)
}
func (l *lines) String() string { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

func newWorld(t testing.TB, n int, change func(*Config)) *world {
	t.Helper()
	w := &world{log: &lines{}}
	cfg := Config{Name: "legacy", Sticky: &Sticky{Cookie: "PHPSESSID"}, Now: func() int64 { return w.now }, Log: slog.New(slog.NewTextHandler(w.log, nil))}
	for i := range n {
		w.fakes = append(w.fakes, &fake{})
		cfg.Instances = append(cfg.Instances, Instance{Name: fmt.Sprintf("http://10.0.0.%d:80", i+1), Upstream: w.fakes[i]})
	}
	if change != nil {
		change(&cfg)
	}
	b, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.Balancer = b
	return w
}

// request parses a head with these cookies.
func request(t testing.TB, cookie string) *wire.Request {
	t.Helper()
	head := "GET / HTTP/1.1\r\nHost: t\r\n"
	if cookie != "" {
		head += "Cookie: " + cookie + "\r\n"
	}
	r := &wire.Request{}
	r.Reset()
	if done, err := r.Parse([]byte(head + "\r\n")); !done || err != nil {
		t.Fatal(done, err)
	}
	return r
}

// ask routes a request and gives its lease.
func (w *world) ask(t testing.TB, cookie string) *lease {
	t.Helper()
	c, err := w.Route(&upstream.Demand{Request: request(t, cookie)})
	if err != nil {
		t.Fatal(err)
	}
	return c.(*lease)
}

// end answers the lease, setting a cookie if one is given, and tells where it was.
func end(t testing.TB, l *lease, set string) int {
	t.Helper()
	if set != "" {
		l.Conn.(*fakeConn).answer("Set-Cookie: " + set + "; path=/; HttpOnly\r\n")
	}
	i := l.i
	var r wire.Response
	if err := l.Receive(&r, nil); err != nil {
		l.Abort()
		return i
	}
	l.Release()
	return i
}

func (w *world) at(t testing.TB, cookie string) int { return end(t, w.ask(t, cookie), "") }

func (w *world) advance(d time.Duration) { w.now += int64(d) }

// check is one instance's check with this result.
func (w *world) check(i int, err error) {
	w.checked(context.Background(), w.ins[i], *w.cfg().Health, err)
}
