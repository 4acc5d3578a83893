package migrate

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"banyan/proxy/balance"
	"banyan/proxy/event"
	"banyan/proxy/upstream"
)

// balanced puts a balancer of one place in front of legacy.
func balanced(t *testing.T, q balance.Queue) (func(*Config), func() *balance.Balancer) {
	var b *balance.Balancer
	return func(c *Config) {
		var err error
		b, err = balance.New(balance.Config{Name: "legacy", Limit: 1, Queue: q, Instances: []balance.Instance{{Name: "http://legacy", Upstream: c.Legacy}}})
		if err != nil {
			t.Fatal(err)
		}
		c.Legacy = b
	}, func() *balance.Balancer { return b }
}

// occupied lets legacy hold a request to /slow until it is released.
func occupied(b *bench, then http.HandlerFunc) (came chan struct{}, release func()) {
	came = make(chan struct{}, 1)
	free := make(chan struct{})
	release = sync.OnceFunc(func() { close(free) })
	b.t.Cleanup(release)
	b.legacy = func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			came <- struct{}{}
			<-free
			return
		}
		then(w, r)
	}
	return came, release
}

// raw sends a request and leaves the connection to the test.
func (b *bench) raw(head, body string, fields ...string) net.Conn {
	b.t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(b.url, "http://"))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	fmt.Fprintf(c, "%s HTTP/1.1\r\nHost: t\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n%s\r\n%s", head, len(body), strings.Join(append(fields, ""), "\r\n"), body)
	return c
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(time.Millisecond) { // no event tells
		if time.Now().After(end) {
			t.Fatal("waited in vain for " + what)
		}
	}
}

// A write that the queue turns away was not sent: it is rejected, never unknown, and the client may come again.
func TestAWriteThatIsTurnedAwayIsRejected(t *testing.T) {
	mutate, lb := balanced(t, balance.Queue{Length: 1, Wait: time.Minute})
	b := newBench(t, dual, mutate)
	came, release := occupied(b, moved)
	b.raw("GET /slow", "")
	<-came
	waits := b.raw("POST "+moveTarget, moveBody)
	eventually(t, "the queue", func() bool { return lb().Stats().Waiting == 1 })
	full := b.raw("POST "+moveTarget, moveBody)
	answer := make([]byte, 4096)
	n, err := io.ReadAtLeast(full, answer, 100)
	if err != nil || !strings.HasPrefix(string(answer[:n]), "HTTP/1.1 503 ") || !strings.Contains(string(answer[:n]), "Retry-After: 1\r\n") {
		t.Fatalf("%q %v", answer[:n], err)
	}
	release()
	if n, err := io.ReadAtLeast(waits, answer, 20); err != nil || !strings.HasPrefix(string(answer[:n]), "HTTP/1.1 302 ") {
		t.Fatalf("%q %v", answer[:n], err)
	}
	got := map[event.Outcome]string{}
	for range 2 {
		_, r := b.recorded()
		got[r.Outcome] = r.Reason
	}
	if got[event.Rejected] != "unsent: busy" || len(got) != 2 {
		t.Error(got)
	}
}

// A client that leaves takes its read out of the queue. Its write goes on: the intent stands.
func TestAClientLeavesTheQueue(t *testing.T) {
	mutate, lb := balanced(t, balance.Queue{})
	b := newBench(t, dual, mutate)
	seen := make(chan string, 9)
	came, release := occupied(b, func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Method
		moved(w, r)
	})
	b.raw("GET /slow", "")
	<-came
	write := b.raw("POST "+moveTarget, moveBody) // the first, so that it looks for its client before the read does
	eventually(t, "the write in the queue", func() bool { return lb().Stats().Waiting == 1 })
	read := b.raw("GET /page", "")
	eventually(t, "both in the queue", func() bool { return lb().Stats().Waiting == 2 })
	write.Close()
	read.Close()
	eventually(t, "the read to leave", func() bool { return lb().Stats().Turned.Gone == 1 })
	if n := lb().Stats().Waiting; n != 1 {
		t.Fatalf("%d wait", n)
	}
	release()
	if got := <-seen; got != "POST" {
		t.Error(got)
	}
	if _, r := b.recorded(); r.Outcome != event.Applied {
		t.Errorf("%+v", r)
	}
	if len(seen) > 0 {
		t.Error("the read was asked for a client that had left")
	}
}

// While the candidate's breaker is open legacy answers, counted, and the candidate is not asked.
func TestOpenBreaker(t *testing.T) {
	asked := 0
	var lb *balance.Balancer
	b := newBench(t, live, func(c *Config) {
		m := c.Migrations["units"]
		var err error
		lb, err = balance.New(balance.Config{Name: "units", Breaker: &balance.Breaker{Failures: 2, Open: time.Hour, AtMost: time.Hour},
			Instances: []balance.Instance{{Name: "http://units", Upstream: m.Candidate}}})
		if err != nil {
			t.Fatal(err)
		}
		m.Candidate, m.Allow = lb, lb.Allow
	})
	b.candidate = func(w http.ResponseWriter, r *http.Request) {
		asked++
		w.WriteHeader(503)
	}
	for k := range 6 {
		resp, body := b.do("GET", "/api.php?action=map&match=7", "")
		if resp.StatusCode != 200 || !strings.HasPrefix(body, "legacy ") {
			t.Fatalf("%d: %s %s", k, resp.Status, body)
		}
	}
	want := []string{"candidate_error", "candidate_error", "breaker", "breaker", "breaker", "breaker"}
	if asked != 2 || fmt.Sprint(b.copies.fellBack) != fmt.Sprint(want) || !lb.Stats().Open {
		t.Errorf("asked %d times, %v, %+v", asked, b.copies.fellBack, lb.Stats())
	}
	c, err := lb.Get(upstream.Timeouts{}, false) // what has no other answer comes all the same
	if err != nil {
		t.Fatal(err)
	}
	c.Abort()
}
