package upstream

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"banyan/proxy/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConfig(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  Config
		want string
	}{
		"good":     {Config{Name: "a", URL: "http://legacy"}, ""},
		"socket":   {Config{Name: "a", URL: "unix:/run/a.sock"}, ""},
		"IPv6":     {Config{Name: "a", URL: "http://[::1]:8080/"}, ""},
		"nameless": {Config{URL: "http://legacy"}, "name: missing"},
		"https":    {Config{Name: "a", URL: "https://legacy"}, `url: "https://legacy" is neither`},
		"path":     {Config{Name: "a", URL: "http://legacy/app"}, "has a path"},
		"relative": {Config{Name: "a", URL: "unix:a.sock"}, "is not unix:/path"},
		"conns":    {Config{Name: "a", URL: "http://legacy", MaxConns: -1}, "max_conns: -1"},
		"idle":     {Config{Name: "a", URL: "http://legacy", MaxConns: 2, MaxIdle: 3}, "max_idle: 3"},
		"head":     {Config{Name: "a", URL: "http://legacy", Bounds: Bounds{MaxHead: 10}}, "max_head: 10"},
		"idle for": {Config{Name: "a", URL: "http://legacy", Bounds: Bounds{IdleTimeout: 25 * time.Hour}}, "idle_timeout: 25h0m0s"},
		"negative": {Config{Name: "a", URL: "http://legacy", Bounds: Bounds{Timeouts: Timeouts{Dial: -1}}}, "timeouts.dial: -1ns"},
		"timeout":  {Config{Name: "a", URL: "http://legacy", Bounds: Bounds{Timeouts: Timeouts{FirstByte: time.Microsecond}}}, "timeouts.first_byte: 1µs"},
	} {
		err := c.cfg.Validate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// echo listens on network and gives each connection's every read the answer.
func echo(t *testing.T, network, addr, answer string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 64<<10)
				for {
					if _, err := c.Read(buf); err != nil {
						return
					}
					io.WriteString(c, answer)
				}
			}()
		}
	}()
	return l
}

// ask carries one small request over c and reads the answer.
func ask(c Conn) error {
	var resp wire.Response
	var in Inbox
	if err := c.Send(&Message{Head: []byte("GET / HTTP/1.1\r\nHost: t\r\n\r\n")}); err != nil {
		return err
	}
	if err := c.Receive(&resp, &in); err != nil {
		return err
	}
	for buf := make([]byte, 100); ; {
		if _, end, err := c.Body(buf); end || err != nil {
			return err
		}
	}
}

func get(t *testing.T, p *Pool) Conn {
	t.Helper()
	c, err := p.Get(Timeouts{}, false)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"

func TestReuseOverUnixSocket(t *testing.T) {
	path := t.TempDir() + "/s"
	echo(t, "unix", path, answer)
	p, err := New(Config{Name: "a", URL: "unix:" + path})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for i := range 3 {
		c := get(t, p)
		if c.Reused() != (i > 0) {
			t.Errorf("%d: reused %v", i, c.Reused())
		}
		if err := ask(c); err != nil {
			t.Fatal(err)
		}
		c.Release()
	}
	if s := p.Stats(); s.Open != 1 || s.Idle != 1 {
		t.Errorf("%+v", s)
	}
}

// A connection is kept no longer than its backend says, or than IdleTimeout; idle ones are bounded and reaped.
func TestIdleConnections(t *testing.T) {
	said := echo(t, "tcp", "127.0.0.1:0", "HTTP/1.1 200 OK\r\nKeep-Alive: max=5, timeout=1\r\nContent-Length: 2\r\n\r\nhi")
	p, _ := New(Config{Name: "a", URL: "http://" + said.Addr().String()})
	defer p.Close()
	c := get(t, p)
	if err := ask(c); err != nil {
		t.Fatal(err)
	}
	c.Release()
	if c := get(t, p); c.Reused() {
		t.Error("a connection was used that its backend may be closing")
	} else {
		c.Abort()
	}

	l := echo(t, "tcp", "127.0.0.1:0", answer)
	q, _ := New(Config{Name: "a", URL: "http://" + l.Addr().String(), MaxIdle: 2, Bounds: Bounds{IdleTimeout: 20 * time.Millisecond}})
	defer q.Close()
	var conns []Conn
	for range 3 {
		conns = append(conns, get(t, q))
	}
	for _, c := range conns {
		if err := ask(c); err != nil {
			t.Fatal(err)
		}
		c.Release()
	}
	if s := q.Stats(); s.Idle > 2 {
		t.Errorf("%+v", s)
	}
	for end := time.Now().Add(time.Minute); q.Stats().Open > 0; time.Sleep(time.Millisecond) { // the reaper's timer
		if time.Now().After(end) {
			t.Fatalf("not reaped: %+v", q.Stats())
		}
	}
}

// A connection whose request or answer is not complete is never kept.
func TestIncompleteIsNotKept(t *testing.T) {
	l := echo(t, "tcp", "127.0.0.1:0", answer)
	p, _ := New(Config{Name: "a", URL: "http://" + l.Addr().String()})
	defer p.Close()
	var resp wire.Response
	var in Inbox
	unread := get(t, p)
	unread.Send(&Message{Head: []byte("GET / HTTP/1.1\r\n\r\n")})
	if err := unread.Receive(&resp, &in); err != nil {
		t.Fatal(err)
	}
	unread.Release()
	half := get(t, p)
	half.Send(&Message{Head: []byte("POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n"), More: true})
	if err := half.Receive(&resp, &in); err != nil {
		t.Fatal(err)
	}
	half.Body(make([]byte, 10))
	half.Release()
	if s := p.Stats(); s.Open != 0 {
		t.Errorf("%+v", s)
	}
}

func TestClosedPool(t *testing.T) {
	l := echo(t, "tcp", "127.0.0.1:0", answer)
	p, _ := New(Config{Name: "a", URL: "http://" + l.Addr().String(), MaxConns: 1})
	c := get(t, p)
	waiting := make(chan error)
	go func() {
		_, err := p.Get(Timeouts{}, false)
		waiting <- err
	}()
	for p.Stats().Waiting == 0 {
		time.Sleep(time.Millisecond) // until it stands in the queue, which no event tells
	}
	p.Close()
	p.Close()
	if err := <-waiting; !Unsent(err) || !errors.Is(err, errClosed) {
		t.Errorf("%v", err)
	}
	c.Abort()
	if _, err := p.Get(Timeouts{}, false); !Unsent(err) {
		t.Errorf("%v", err)
	}
	if s := p.Stats(); s != (Stats{}) {
		t.Errorf("%+v", s)
	}
}

func TestDeadlineIsSetSeldom(t *testing.T) {
	var d Deadline
	n := 0
	set := func(time.Time) error { n++; return nil }
	for now := int64(0); now < int64(10*time.Second); now += int64(10 * time.Millisecond) {
		d.Extend(set, now, 8*time.Second)
	}
	if n != 10 {
		t.Errorf("set %d times for 1000 waits, want once per eighth of the timeout", n)
	}
	d.Extend(set, int64(10*time.Second), time.Second)
	if n != 11 {
		t.Error("a shorter timeout was not set")
	}
}

func TestErrorText(t *testing.T) {
	e := &Error{Upstream: "legacy", Doing: "receive the answer", Class: Timeout, Sent: true, Err: errors.New("i/o timeout")}
	if got := e.Error(); got != "upstream legacy: receive the answer: i/o timeout (timeout; the request may have been received)" {
		t.Error(got)
	}
	if Unsent(e) || !Unanswered(e) || ClassOf(e) != Timeout || ClassOf(io.EOF) != OK || Unsent(nil) {
		t.Error("wrong answers about the error")
	}
}

// A request's own timeouts stand before the upstream's, field by field.
func TestTimeoutsOr(t *testing.T) {
	d := Bounds{}.WithDefaults().Timeouts
	if d != (Timeouts{5 * time.Second, time.Minute, time.Minute}) {
		t.Error(d)
	}
	if got := (Timeouts{FirstByte: time.Second}).Or(d); got != (Timeouts{5 * time.Second, time.Second, time.Minute}) {
		t.Error(got)
	}
	if got := (Timeouts{1, 2, 3}).Or(d); got != (Timeouts{1, 2, 3}) {
		t.Error(got)
	}
}
