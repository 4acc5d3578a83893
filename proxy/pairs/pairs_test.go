package pairs

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"banyan/proxy/capture"
	"banyan/proxy/event"
	"banyan/proxy/migrate"
	"banyan/proxy/upstream"
)

type model struct {
	mu     sync.Mutex
	passed []time.Time
	behind map[event.OrderingKey]chan struct{} // closed when the key is there; others are
}

func (m *model) Passed(ctx context.Context, _ event.Migration, k event.OrderingKey, at time.Time, _ time.Duration) bool {
	m.mu.Lock()
	m.passed = append(m.passed, at)
	behind := m.behind[k]
	m.mu.Unlock()
	if behind != nil {
		select {
		case <-behind:
		case <-ctx.Done():
		}
	}
	return true
}

type sink struct {
	mu    sync.Mutex
	pairs []capture.Pair
	got   chan struct{}
	full  bool
}

func (s *sink) publish(k event.Kind, _ event.OrderingKey, v []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k != event.KindPair {
		return true
	}
	defer func() { s.got <- struct{}{} }()
	if s.full {
		return false
	}
	p, err := capture.DecodePair(v)
	if err != nil {
		panic(err)
	}
	s.pairs = append(s.pairs, *p)
	return true
}

func start(t *testing.T, c Config, candidate http.HandlerFunc) (*Pairs, *sink, *model) {
	t.Helper()
	srv := httptest.NewServer(candidate)
	t.Cleanup(srv.Close)
	s, m := &sink{got: make(chan struct{}, 100)}, &model{}
	c.Replica, c.Epoch, c.Model, c.Publish = "a", 1, m, s.publish
	at := func(string) string { return srv.URL }
	if c.Sides == nil {
		c.Sides = map[event.Migration]Sides{"units": {Legacy: at, Candidate: at}}
	}
	p := New(c)
	return p, s, m
}

func read(body string) migrate.Read {
	return migrate.Read{Pair: capture.Pair{V: 1, ID: "x", Migration: "units", Route: "map", Key: "match/7", Served: capture.Legacy,
		Legacy:    capture.Answer{Target: "/api.php", Status: 200, Body: []byte(body), Length: int64(len(body)), End: time.Unix(100, 0)},
		Candidate: capture.Answer{Target: "/matches/7/map"}}}
}

func TestTheCandidateIsAskedOnceItHasCaughtUp(t *testing.T) {
	asked := make(chan string, 1)
	p, s, m := start(t, Config{}, func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.String()
		w.Header().Set("Banyan-Position", "1/2-1/5")
		io.WriteString(w, "candidate")
	})
	p.Start(t.Context())
	p.Offer(read("legacy"))
	<-s.got
	p.Stop()
	if len(m.passed) != 1 || !m.passed[0].After(time.Unix(100, 0)) {
		t.Fatal("not waited for legacy's answer to be passed, clock error included:", m.passed)
	}
	pair := s.pairs[0]
	if <-asked != "/matches/7/map" || string(pair.Candidate.Body) != "candidate" || pair.Candidate.Before != event.MakePosition(1, 2) || pair.Candidate.After != event.MakePosition(1, 5) {
		t.Fatalf("%+v", pair)
	}
}

func TestReadsThatWaitKeepNoWorker(t *testing.T) {
	p, s, m := start(t, Config{Workers: 1}, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "candidate") })
	late := make(chan struct{})
	m.behind = map[event.OrderingKey]chan struct{}{"match/8": late}
	p.Start(t.Context())
	slow := read("late")
	slow.Key = "match/8"
	for range 3 {
		p.Offer(slow)
	}
	p.Offer(read("legacy"))
	<-s.got
	if s.pairs[0].Key != "match/7" {
		t.Fatalf("%+v", s.pairs)
	}
	close(late)
	for range 3 {
		<-s.got
	}
	p.Stop()
	if ty := p.Tallies()[0]; ty.Sent != 4 {
		t.Fatalf("%+v", ty)
	}
}

func TestTalliesAddUp(t *testing.T) {
	p, s, _ := start(t, Config{Queue: 4, Workers: 1}, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "same") })
	big := read("cut")
	big.Legacy.Length = 1 << 30
	p.Offer(big)
	for range 6 { // four fit
		p.Offer(read("same"))
	}
	if p.Room("units", "map", 1) {
		t.Fatal("there is no room")
	}
	p.Start(t.Context())
	for p.Tallies()[0].Equal < 4 {
		time.Sleep(time.Millisecond) // nothing tells of an equal pair but its count
	}
	p.Offer(read("other"))
	<-s.got
	s.mu.Lock()
	s.full = true
	s.mu.Unlock()
	p.Offer(read("other"))
	<-s.got
	p.Stop()
	ty := p.Tallies()[0]
	sum := ty.Equal + ty.Sent
	for _, n := range ty.Dropped {
		sum += n
	}
	if ty.Asked != 10 || sum != ty.Asked || ty.Equal != 4 || ty.Sent != 1 || ty.Dropped[QueueFull] != 3 || ty.Dropped[TooLarge] != 1 || ty.Dropped[Undeliver] != 1 {
		t.Fatalf("%+v", ty)
	}
}

func TestStopCountsWhatItGivesUp(t *testing.T) {
	p, _, _ := start(t, Config{}, func(http.ResponseWriter, *http.Request) {})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p.Start(ctx)
	p.Offer(read("x"))
	p.Stop()
	if ty := p.Tallies()[0]; ty.Asked != 1 || ty.Dropped[ShuttingDown]+ty.Equal+ty.Sent != 1 {
		t.Fatalf("%+v", ty)
	}
}

func TestLatencyBuckets(t *testing.T) {
	p, _, _ := start(t, Config{}, func(http.ResponseWriter, *http.Request) {})
	for _, d := range []time.Duration{time.Microsecond, 150 * time.Microsecond, time.Hour} {
		p.Served("units", "map", capture.Candidate, d)
	}
	l := p.Tallies()[0].Latency[0]
	if l.Buckets[0] != 1 || l.Buckets[2] != 1 || l.Buckets[len(l.Bounds)] != 1 {
		t.Fatalf("%v %v", l.Bounds[:4], l.Buckets)
	}
}

func TestATroubledCandidateIsAPairToo(t *testing.T) {
	p, s, _ := start(t, Config{}, func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) })
	p.Start(t.Context())
	p.Offer(read("legacy"))
	<-s.got
	p.Stop()
	if c := s.pairs[0].Candidate; c.Status != 0 || c.Error == "" {
		t.Fatalf("%+v", c)
	}
}

// Legacy answers nobody that it does not know: its copy is asked with the client's session and host.
func TestLegacyIsAskedAsTheClientAsked(t *testing.T) {
	asked := make(chan string, 1)
	p, s, _ := start(t, Config{}, func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Host + " " + r.Header.Get("Cookie") + " " + r.URL.Path
		io.WriteString(w, "legacy")
	})
	r := read("")
	r.Served, r.Candidate.Status, r.Cookie, r.Host = capture.Candidate, 200, "PHPSESSID=abc", "game.example"
	p.Start(t.Context())
	p.Offer(r)
	<-s.got
	p.Stop()
	if got := <-asked; got != "game.example PHPSESSID=abc /api.php" {
		t.Fatal(got)
	}
}

// Of several instances the one is asked that holds the client's session: at another one it would be a stranger's.
func TestLegacyIsAskedWhereTheSessionIs(t *testing.T) {
	asked := make(chan string, 1)
	holds := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Header.Get("Cookie")
		io.WriteString(w, "legacy")
	}))
	t.Cleanup(holds.Close)
	at := func(cookie string) string {
		if cookie == "PHPSESSID=abc" {
			return holds.URL
		}
		return "http://127.0.0.1:1"
	}
	p, s, _ := start(t, Config{Sides: map[event.Migration]Sides{"units": {Legacy: at, Candidate: at}}}, nil)
	r := read("")
	r.Served, r.Candidate.Status, r.Cookie = capture.Candidate, 200, "PHPSESSID=abc"
	p.Start(t.Context())
	p.Offer(r)
	<-s.got
	p.Stop()
	if s.pairs[0].Legacy.Status != 200 || len(asked) != 1 {
		t.Errorf("%+v", s.pairs[0].Legacy)
	}
}

// Around a swap some readers answer from another generation than this proxy takes for the current one: such an answer
// proves nothing about that one, equal or not. Evidence of each generation has a fingerprint of its own.
func TestAnAnswerOfAnotherGenerationIsNoPair(t *testing.T) {
	var reported, current atomic.Int64
	current.Store(2)
	p, s, _ := start(t, Config{Fingerprint: "fp", Workers: 1, Generation: func(event.Migration) int { return int(current.Load()) }}, func(w http.ResponseWriter, r *http.Request) {
		if n := reported.Load(); n > 0 {
			w.Header().Set("Banyan-Generation", strconv.FormatInt(n, 10))
		}
		io.WriteString(w, "candidate")
	})
	p.Start(t.Context())
	await := func(n int) {
		for {
			if ty := p.Tallies(); len(ty) == 1 && int(ty[0].Equal+ty[0].Sent+ty[0].Dropped[OtherGeneration]) == n {
				return
			}
			time.Sleep(time.Millisecond) // nothing tells of an equal pair but its count
		}
	}
	for i, c := range []struct {
		reported int64
		body     string
	}{{1, "candidate"}, {1, "legacy"}, {3, "legacy"}, {2, "candidate"}, {2, "legacy"}, {0, "legacy"}} {
		reported.Store(c.reported)
		p.Offer(read(c.body))
		await(i + 1)
	}
	p.Stop()
	ty := p.Tallies()[0]
	if ty.Asked != 6 || ty.Dropped[OtherGeneration] != 3 || ty.Equal != 1 || ty.Sent != 2 || ty.Fingerprint != "fp-g2" {
		t.Fatalf("%+v", ty)
	}
	for _, x := range s.pairs {
		if x.Fingerprint != "fp-g2" || x.Candidate.Generation == 1 {
			t.Errorf("%+v", x)
		}
	}
	current.Store(3)
	p.publishTallies() // what was counted until now
	if got := p.Tallies()[0].Fingerprint; got != "fp-g3" {
		t.Error(got)
	}
}

// A legacy that speaks no HTTP is asked through its upstream, as the client asked.
func TestLegacyIsAskedThroughItsUpstream(t *testing.T) {
	type asked struct{ target, host, cookie, copied string }
	got := make(chan asked, 1)
	legacy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got <- asked{r.RequestURI, r.Host, r.Header.Get("Cookie"), r.Header.Get("Banyan-Copy")}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Banyan-Position", "1/2-1/5")
		w.WriteHeader(418)
		io.WriteString(w, "legacy's")
	}))
	defer legacy.Close()
	u, err := upstream.New(upstream.Config{Name: "legacy", URL: legacy.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	p, s, _ := start(t, Config{}, func(http.ResponseWriter, *http.Request) { t.Error("the URL was asked") })
	p.cfg.Sides["units"] = Sides{LegacyVia: u}
	p.Start(t.Context())
	r := read("")
	r.Served, r.Cookie, r.Host = capture.Candidate, "PHPSESSID=x", "game.test"
	r.Candidate = capture.Answer{Target: "/matches/7/map", Status: 200, Body: []byte("other"), Length: 5}
	r.Legacy = capture.Answer{Target: "/api.php?a[]=1"}
	p.Offer(r)
	<-s.got
	p.Stop()
	if a := <-got; a != (asked{"/api.php?a[]=1", "game.test", "PHPSESSID=x", "1"}) {
		t.Errorf("asked %+v", a)
	}
	if a := s.pairs[0].Legacy; a.Status != 418 || string(a.Body) != "legacy's" || a.Length != 8 || a.ContentType != "application/json" || a.After != event.MakePosition(1, 5) || a.Error != "" {
		t.Errorf("%+v", a)
	}
}

func TestAnUpstreamThatFailsIsTold(t *testing.T) {
	u, err := upstream.New(upstream.Config{Name: "legacy", URL: "unix:" + t.TempDir() + "/nobody"})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	if a := askVia(u, "/x", "", "h"); a.Status != 0 || !strings.Contains(a.Error, "ask legacy for /x") || a.End.IsZero() {
		t.Errorf("%+v", a)
	}
	if a := askVia(u, "/x", "a\r\nb", "h"); !strings.Contains(a.Error, "cookie cannot stand in a head") {
		t.Errorf("%+v", a)
	}
}
