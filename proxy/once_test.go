package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"banyan/proxy"
	"banyan/proxy/upstream"
)

// dying is an origin that serves requests to /ok, and dies at a stage of those to /die/<stage>. It counts, by target,
// the connections on which a byte of a request to it came.
type dying struct {
	*origin
	mu   sync.Mutex
	sent map[string]int
}

var stages = []string{"line", "head", "body", "answered-line", "answered-head", "answered-body", "reset"}

func newDying(t testing.TB) *dying {
	d := &dying{sent: map[string]int{}}
	d.origin = newOrigin(t, func(c net.Conn, r *bufio.Reader) {
		for d.one(c, r) {
		}
	})
	return d
}

func (d *dying) one(c net.Conn, r *bufio.Reader) bool {
	line, err := r.ReadString('\n')
	if line == "" {
		return false
	}
	target := strings.Split(line+" ?", " ")[1]
	d.mu.Lock()
	d.sent[target]++
	d.mu.Unlock()
	stage, _ := strings.CutPrefix(target, "/die/")
	if err != nil || stage == "line" {
		return false
	}
	if stage == "silent" {
		io.Copy(io.Discard, r)
		return false
	}
	h, err := head(r)
	if err != nil || stage == "head" {
		return false
	}
	if _, err := readBody(r, h); err != nil || stage == "body" {
		return false
	}
	switch stage {
	case "answered-line":
		io.WriteString(c, "HTTP/1.1 200 O")
		return false
	case "answered-head":
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
		return false
	case "answered-body":
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel")
		return false
	case "reset":
		c.(*net.TCPConn).SetLinger(0)
		return false
	}
	_, err = io.WriteString(c, ok)
	return err == nil
}

func (d *dying) times(target string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sent[target]
}

// reports is a pass-through that tells what came of each Forward.
type reports struct {
	u   upstream.Upstream
	o   proxy.ForwardOptions
	out chan outcome
}

type outcome struct {
	res proxy.Result
	err error
}

func reporting(u upstream.Upstream, o proxy.ForwardOptions) *reports {
	return &reports{u, o, make(chan outcome, 100)}
}

func (r *reports) Serve(x *proxy.Exchange) {
	res, err := x.Forward(r.u, r.o)
	if err != nil {
		x.Fail(err)
	}
	r.out <- outcome{res, err}
}

// next waits for the next outcome.
func (r *reports) next(t testing.TB) (proxy.Result, error) {
	t.Helper()
	o := within(t, r.out, "the exchange's end")
	return o.res, o.err
}

// A request is sent once, whatever becomes of its connection, new or used; a second time only if it is declared
// repeatable, on a used connection, and no byte of an answer came.
func TestNeverSentTwice(t *testing.T) {
	for _, repeatable := range []bool{false, true} {
		for _, used := range []bool{false, true} {
			for _, stage := range stages {
				t.Run(fmt.Sprintf("repeatable=%v,used=%v,%s", repeatable, used, stage), func(t *testing.T) {
					d := newDying(t)
					h := reporting(pool(t, d), proxy.ForwardOptions{Repeatable: repeatable})
					s := serve(t, proxy.Config{}, h)
					if used {
						if got := s.talk(t, "GET /ok HTTP/1.1\r\nHost: t\r\n\r\n"); !strings.HasSuffix(got, "hi") {
							t.Fatalf("%q", got)
						}
						h.next(t)
					}
					got := s.talk(t, "POST /die/"+stage+" HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello")
					res, ferr := h.next(t)
					want := 1
					answered := strings.HasPrefix(stage, "answered")
					if repeatable && used && !answered {
						want = 2
					}
					if n := d.times("/die/" + stage); n != want {
						t.Errorf("sent %d times, want %d", n, want)
					}
					if ferr == nil || !res.Sent || upstream.Unsent(ferr) || upstream.Unanswered(ferr) == answered || res.Class != upstream.Cut {
						t.Errorf("result %+v, error %v", res, ferr)
					}
					begun := stage == "answered-head" || stage == "answered-body"
					if !begun && !strings.HasPrefix(got, "HTTP/1.1 502 ") || begun && (!strings.HasPrefix(got, "HTTP/1.1 200 ") || strings.HasSuffix(got, "hello")) {
						t.Errorf("client got %q", got)
					}
				})
			}
		}
	}
}

// When a kept connection of the backend ends under a read, before a byte of an answer, so does the client's, if it was
// kept, too: it may ask again. Whoever could not know gets a 502.
func TestEndOfKeptConnectionIsPassedOn(t *testing.T) {
	for _, c := range []struct {
		name, method, stage string
		used, kept          bool   // the backend's connection carried a request before, the client's did
		status              string // that is wanted; "" is the end of the connection
	}{
		{"read", "GET", "head", true, true, ""},
		{"reset", "GET", "reset", true, true, ""},
		{"head", "HEAD", "head", true, true, ""},
		{"write", "POST", "head", true, true, "502"},
		{"new at the client", "GET", "head", true, false, "502"},
		{"new at the backend", "GET", "head", false, true, "502"},
		{"answer begun", "GET", "answered-line", true, true, "502"},
		{"too late", "GET", "silent", true, true, "504"},
	} {
		t.Run(c.name, func(t *testing.T) {
			patience := wait
			if c.stage == "silent" {
				patience = 30 * time.Millisecond
			}
			d := newDying(t)
			used, fresh := pool(t, d), pool(t, d)
			s := serve(t, proxy.Config{}, handler(func(x *proxy.Exchange) {
				u := used
				if !c.used && strings.HasPrefix(string(x.Request.Target()), "/die") {
					u = fresh
				}
				if _, err := x.Forward(u, proxy.ForwardOptions{Timeouts: upstream.Timeouts{FirstByte: patience}}); err != nil {
					x.Fail(err)
				}
			}))
			first := "GET /ok HTTP/1.1\r\nHost: t\r\n\r\n"
			s.talk(t, first)
			if !c.kept {
				first = ""
			}
			got := s.talk(t, first+c.method+" /die/"+c.stage+" HTTP/1.1\r\nHost: t\r\n\r\n")
			if c.kept {
				var done bool
				if _, got, done = strings.Cut(got, "\r\n\r\nhi"); !done {
					t.Fatal("no answer to the request before")
				}
			}
			if c.status == "" && got != "" || c.status != "" && !strings.HasPrefix(got, "HTTP/1.1 "+c.status+" ") {
				t.Errorf("%q is wanted: %q", c.status, got)
			}
			if n := d.times("/die/" + c.stage); n != 1 {
				t.Errorf("sent %d times", n)
			}
		})
	}
}

// A connection that the backend closed while it was idle is found before the request is written: no error, one send.
func TestClosedIdleConnection(t *testing.T) {
	closed := make(chan struct{}, 1)
	d := &dying{sent: map[string]int{}}
	var first sync.Once
	d.origin = newOrigin(t, func(c net.Conn, r *bufio.Reader) {
		first.Do(func() {
			d.one(c, r)
			c.Close()
			closed <- struct{}{}
		})
		for d.one(c, r) {
		}
	})
	p := pool(t, d)
	s := serve(t, proxy.Config{}, &proxy.Passthrough{Upstream: p})
	c := s.dial(t)
	r := bufio.NewReader(c)
	ask := func(target string) string {
		io.WriteString(c, "POST "+target+" HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello")
		h, _ := head(r)
		readBody(r, h)
		return h
	}
	ask("/first")
	within(t, closed, "the close")
	if h := ask("/second"); !strings.HasPrefix(h, "HTTP/1.1 200 ") || d.times("/second") != 1 {
		t.Errorf("%q, sent %d times", h, d.times("/second"))
	}
}

// A backend that speaks while nobody has asked loses that connection, and nobody gets its words; nor what stands behind
// an answer.
func TestUnaskedBytes(t *testing.T) {
	const poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON"
	for _, late := range []bool{false, true} {
		speak, spoke := make(chan struct{}), make(chan struct{}, 1)
		var n atomic.Int32
		o := newOrigin(t, func(c net.Conn, r *bufio.Reader) {
			first := n.Add(1) == 1
			for {
				if _, err := head(r); err != nil {
					return
				}
				switch {
				case !first:
					io.WriteString(c, ok)
				case late:
					io.WriteString(c, ok)
					<-speak
					io.WriteString(c, poison)
					spoke <- struct{}{}
				default:
					io.WriteString(c, ok+poison)
				}
			}
		})
		s := serve(t, proxy.Config{}, &proxy.Passthrough{Upstream: pool(t, o)})
		for i := range 3 {
			if got := s.talk(t, "GET / HTTP/1.1\r\nHost: t\r\n\r\n"); !strings.HasSuffix(got, "hi") {
				t.Errorf("late %v: %q", late, got)
			}
			if late && i == 0 {
				close(speak)
				within(t, spoke, "the unasked bytes")
			}
		}
		if o.accepted() != 2 {
			t.Errorf("late %v: %d connections, want 2", late, o.accepted())
		}
	}
}

func TestUpstreamTrouble(t *testing.T) {
	silent := newOrigin(t, func(c net.Conn, r *bufio.Reader) { io.Copy(io.Discard, r) })
	stalls := newOrigin(t, func(c net.Conn, r *bufio.Reader) {
		head(r)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe")
		io.Copy(io.Discard, r)
	})
	garbage, _ := answers(t, "HTTP/1.1 200 OK\nContent-Length: 0\n\n")
	gone := newOrigin(t, func(c net.Conn, r *bufio.Reader) {})
	gone.Close()
	short := upstream.Timeouts{FirstByte: 30 * time.Millisecond, BetweenBytes: 30 * time.Millisecond, Dial: 50 * time.Millisecond}
	for name, c := range map[string]struct {
		o      net.Listener
		status string
		class  upstream.Class
		sent   bool
	}{
		"silent":  {silent, "504", upstream.Timeout, true},
		"stalls":  {stalls, "200", upstream.Timeout, true},
		"garbage": {garbage, "502", upstream.Malformed, true},
		"gone":    {gone, "502", upstream.Dial, false},
	} {
		h := reporting(pool(t, c.o), proxy.ForwardOptions{Timeouts: short})
		s := serve(t, proxy.Config{}, h)
		got := s.talk(t, "GET / HTTP/1.1\r\nHost: t\r\n\r\n")
		res, ferr := h.next(t)
		if !strings.HasPrefix(got, "HTTP/1.1 "+c.status+" ") || res.Class != c.class || res.Sent != c.sent || upstream.ClassOf(ferr) != c.class {
			t.Errorf("%s: %q, %+v, %v", name, got, res, ferr)
		}
	}
}

// With all connections in use a request waits its turn, and is told so when that takes too long.
func TestMaxConns(t *testing.T) {
	release, arrived := make(chan struct{}), make(chan struct{}, 8)
	o := newOrigin(t, func(c net.Conn, r *bufio.Reader) {
		for {
			if _, err := head(r); err != nil {
				return
			}
			arrived <- struct{}{}
			<-release
			io.WriteString(c, ok)
		}
	})
	p := pool(t, o, func(c *upstream.Config) { c.MaxConns = 1 })
	s := serve(t, proxy.Config{}, handler(func(x *proxy.Exchange) {
		var patience upstream.Timeouts
		if string(x.Request.Target()) == "/hasty" {
			patience.Dial = 20 * time.Millisecond
		}
		if _, err := x.Forward(p, proxy.ForwardOptions{Timeouts: patience}); err != nil {
			x.Fail(err)
		}
	}))
	got := make(chan string, 2)
	ask := func(target string) { got <- s.talk(t, "GET "+target+" HTTP/1.1\r\nHost: t\r\n\r\n") }
	go ask("/")
	within(t, arrived, "the first request")
	go ask("/hasty")
	if g := within(t, got, "a refusal"); !strings.HasPrefix(g, "HTTP/1.1 503 ") || !strings.Contains(g, "Retry-After: 1\r\n") {
		t.Errorf("%q", g)
	}
	go ask("/")
	for p.Stats().Waiting == 0 {
		time.Sleep(time.Millisecond) // until it stands in the queue, which no event tells
	}
	close(release)
	for range 2 {
		if g := within(t, got, "an answer"); !strings.HasSuffix(g, "hi") {
			t.Errorf("%q", g)
		}
	}
	if n := o.accepted(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}
