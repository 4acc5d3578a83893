package balance_test

import (
	"bufio"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"banyan/proxy/balance"
	"banyan/proxy/upstream"
)

// deaf takes requests and dies at a stage of each: it closes the connection, with a part of an answer or none.
type deaf struct {
	net.Listener
	wg   sync.WaitGroup
	mu   sync.Mutex
	sent map[string]int // requests by target, of which a byte came
}

func newDeaf(t *testing.T) *deaf {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &deaf{Listener: l, sent: map[string]int{}}
	d.wg.Go(func() { // ends when the listener is closed
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			d.wg.Go(func() { d.serve(c) })
		}
	})
	t.Cleanup(func() { l.Close(); d.wg.Wait() })
	return d
}

func (d *deaf) serve(c net.Conn) {
	defer c.Close()
	for r := bufio.NewReader(c); ; {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		target := strings.Split(line, " ")[1]
		d.mu.Lock()
		d.sent[target]++
		d.mu.Unlock()
		if target == "/line" {
			return
		}
		for line != "\r\n" {
			if line, err = r.ReadString('\n'); err != nil {
				return
			}
		}
		if target == "/head" {
			return
		}
		io.CopyN(io.Discard, r, 5)
		switch target {
		case "/body":
			return
		case "/answered":
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi")
			return
		}
		if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"); err != nil {
			return
		}
	}
}

// A write of which anything was written goes to no second instance; one of which nothing was, goes to the next.
func TestNeverSentToASecond(t *testing.T) {
	one, two := newDeaf(t), newDeaf(t)
	var closed net.Listener = newDeaf(t)
	closed.Close()
	cfg := balance.Config{Name: "legacy", Eject: balance.Eject{Failures: 1000}}
	for _, l := range []net.Listener{one, two, closed} {
		pool, err := upstream.New(upstream.Config{Name: "legacy", URL: "http://" + l.Addr().String()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(pool.Close)
		cfg.Instances = append(cfg.Instances, balance.Instance{Name: "http://" + l.Addr().String(), Upstream: pool})
	}
	addr := serve(t, cfg)
	want := map[string]int{}
	for _, target := range []string{"/fine", "/line", "/head", "/body", "/answered", "/fine", "/fine", "/line", "/head", "/body", "/answered", "/fine", "/fine", "/fine"} {
		want[target]++
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, "POST "+target+" HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello")
		got, _ := io.ReadAll(c) // a cut answer is one too
		c.Close()
		if fine := strings.HasSuffix(string(got), "\r\n\r\nhi"); fine != (target == "/fine") && target != "/answered" {
			t.Errorf("%s: %q", target, got)
		}
	}
	one.mu.Lock()
	defer one.mu.Unlock()
	two.mu.Lock()
	defer two.mu.Unlock()
	for target, n := range want {
		if got := one.sent[target] + two.sent[target]; got != n {
			t.Errorf("%s: sent %d times for %d requests", target, got, n)
		}
	}
	if one.sent["/fine"] == 0 || two.sent["/fine"] == 0 {
		t.Error("one instance got nothing: the test shows little")
	}
}
