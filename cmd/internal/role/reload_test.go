package role

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"banyan/cmd/internal/config"
)

func parse(t *testing.T, text string) *config.File {
	t.Helper()
	f, err := config.Parse("banyan.yaml", []byte(text), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	return f
}

const migrated = `version: 1
proxy: { listen: "127.0.0.1:0", admin: "127.0.0.1:0", replica: a, token: abcdefghijklmnopqrstuvwxyz0123456789, limits: { inline: 1MiB }, journal: { dir: /j } }
upstreams: { legacy: { http: "http://127.0.0.1:1" }, new: { http: "http://127.0.0.1:2" } }
kafka: { brokers: ["127.0.0.1:1"], prefix: g }
ledger: { postgres: "postgres://x" }
routes: [{ name: plain, match: { path: /new }, to: new }]
migrations:
  units:
    candidate: new
    order_by: "match/{match}"
    writes: [{ name: move, match: { path: /move }, params: { match: form.match } }]
    reads: [{ name: map, match: { path: /map }, params: { match: query.match }, candidate_path: "/m/{match}" }]
    gates: { shadow: { pairs: 1 } }
`

// What a process takes over, by its roles; the rest is refused, each field by its name.
func TestWhatARunningProcessTakesOver(t *testing.T) {
	const both, proxies, none = "both", "proxies", "none" // of a proxy alone, and one with the shadow role
	for _, c := range []struct{ from, to, want string }{
		{`admin: "127.0.0.1:0"`, `admin: "127.0.0.1:9"`, none},
		{`listen: "127.0.0.1:0"`, `listen: "127.0.0.1:9"`, none},
		{"replica: a", "replica: b", none},
		{"dir: /j", "dir: /k", none},
		{"token: abc", "token: bcd", none},
		{"prefix: g", "prefix: h", none},
		{"postgres://x", "postgres://y", none},
		{"routes:", "legacy_db: { annotated: true }\nroutes:", none},
		{"routes:", "settle: { max_clock_error: 9ms }\nroutes:", none},
		{"inline: 1MiB", "inline: 2MiB", none},
		{"limits: {", "limits: { body: 9MiB,", both},
		{"replica: a", "replica: a, trusted_proxies: [10.0.0.0/8], proxy_protocol: [10.1.0.0/16], redact: [form.pin]", both},
		{"127.0.0.1:1\" }, new", "127.0.0.1:1\", max_execution: 9s }, new", none},
		{"127.0.0.1:1\" }, new", "127.0.0.1:3\" }, new", both},
		{"127.0.0.1:2\" }", "127.0.0.1:2\", timeout: 9s }, more: { http: \"http://127.0.0.1:3\" }", both},
		{"127.0.0.1:2\"", "127.0.0.1:3\"", proxies}, // whom the comparers ask
		{"path: /new", "path: /newer", proxies},     // evidence is bound to it
		{"path: /new }", "path: /new }, upgrade: websocket", proxies},
		{"limits: {", "limits: { upgrade_timeout: 9s,", both},
		{"order_by: \"match", "order_by: \"game", none},
		{"path: /move", "path: /go", proxies},
		{"candidate_path: \"/m/", "wait: 9ms, candidate_path: \"/n/", proxies},
		{"pairs: 1", "pairs: 2", proxies},
		{"candidate: new", "candidate: new\n    when_full: fail_closed", both},
		{"candidate: new", "candidate: new\n    out_of_scope: [t]", proxies},
		{"migrations:", "migrations:\n  other: { order_by: \"x/{y}\" }", none},
	} {
		if !strings.Contains(migrated, c.from) {
			t.Fatalf("%q is not there", c.from)
		}
		was, err := config.Parse("banyan.yaml", []byte(migrated), nil)
		if err != nil {
			t.Fatal(err)
		}
		is, err := config.Parse("banyan.yaml", []byte(strings.Replace(migrated, c.from, c.to, 1)), nil)
		if err != nil {
			t.Fatalf("%q: %v", c.to, err)
		}
		changed := config.Changes(was, is)
		if len(changed) == 0 {
			t.Errorf("%q: no change is seen", c.to)
		}
		got := none
		if (&Process{}).refuse(was, changed) == nil {
			got = proxies
			if (&Process{Shadow: &Shadow{}}).refuse(was, changed) == nil {
				got = both
			}
		}
		if got != c.want {
			t.Errorf("%q -> %q (%v): taken over by %s, want %s", c.from, c.to, changed, got, c.want)
		}
	}
}

// site is a backend that counts its connections; a path /wait is answered when the test says so.
type site struct {
	*httptest.Server
	conns     atomic.Int64
	in, going chan struct{}
}

func newSite(t *testing.T, name string) *site {
	t.Helper()
	s := &site{in: make(chan struct{}, 1), going: make(chan struct{})}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			s.in <- struct{}{}
			<-s.going
		}
		if _, err := r.Cookie("PHPSESSID"); err != nil && r.URL.Path == "/login" {
			http.SetCookie(w, &http.Cookie{Name: "PHPSESSID", Value: name + r.URL.RawQuery})
		}
		io.WriteString(w, name)
	}))
	s.Config.ConnState = func(_ net.Conn, to http.ConnState) {
		switch to {
		case http.StateNew:
			s.conns.Add(1)
		case http.StateClosed, http.StateHijacked:
			s.conns.Add(-1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// reloading is a process whose file the test writes.
type reloading struct {
	*Process
	t    *testing.T
	text string
}

func newReloading(t *testing.T, text string) *reloading {
	t.Helper()
	r := &reloading{t: t, text: text}
	var err error
	load := func() (*config.File, error) {
		return config.Parse("banyan.yaml", []byte(r.text), func(string) (string, bool) { return "", false })
	}
	r.Process, err = Start(t.Context(), parse(t, text), Roles{Proxy: true}, Options{Log: slog.New(slog.DiscardHandler), Load: load}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := r.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *reloading) to(text string) {
	r.t.Helper()
	r.text = text
	if got, err := r.Reload(); err != nil || got.Outcome != Applied {
		r.t.Fatalf("%+v %v", got, err)
	}
}

func (r *reloading) get(path, cookie string) (body, session string) {
	r.t.Helper()
	req, err := http.NewRequest("GET", "http://"+r.Proxy.Addr().String()+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	if cookie != "" {
		req.AddCookie(&http.Cookie{Name: "PHPSESSID", Value: cookie})
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		r.t.Fatalf("%d %q %v", resp.StatusCode, b, err)
	}
	for _, c := range resp.Cookies() {
		session = c.Value
	}
	return string(b), session
}

func file(t *testing.T, upstreams, routes string) string {
	return fmt.Sprintf("version: 1\nproxy: { listen: \"127.0.0.1:0\", admin: \"127.0.0.1:0\", token: abcdefghijklmnopqrstuvwxyz0123456789 }\nupstreams: { %s }\nroutes: [%s]\n", upstreams, routes)
}

// settled waits for what ends on goroutines of others.
func settled(t *testing.T, what string, done func() bool) {
	t.Helper()
	for range 500 {
		if done() {
			return
		}
		time.Sleep(10 * time.Millisecond) // connections close in the kernel's time
	}
	t.Fatal(what)
}

// A request under way ends at the upstream that the file no longer has, whose connections end with it.
func TestAGoneUpstreamEndsWithItsLastRequest(t *testing.T) {
	a, b := newSite(t, "a"), newSite(t, "b")
	upstreams := fmt.Sprintf("legacy: { http: %q }", a.URL)
	r := newReloading(t, file(t, upstreams+fmt.Sprintf(", new: { http: %q }", b.URL), "{ match: { path: /wait }, to: new }"))
	var wg sync.WaitGroup
	wg.Go(func() {
		if got, _ := r.get("/wait", ""); got != "b" {
			t.Errorf("%q answers what was under way", got)
		}
	})
	<-b.in
	pool := r.Proxy.serving()["new"].pools[0]
	r.to(file(t, upstreams, ""))
	r.to(file(t, strings.Replace(upstreams, "}", ", timeout: 9s }", 1), ""))
	if got, _ := r.get("/", ""); got != "a" {
		t.Fatalf("%q answers", got)
	}
	held := func() bool {
		r.Proxy.mu.Lock()
		defer r.Proxy.mu.Unlock()
		return r.Proxy.held[pool] > 0
	}
	if !held() || b.conns.Load() == 0 {
		t.Fatal("the upstream ended before its last request")
	}
	close(b.going)
	wg.Wait()
	settled(t, "the upstream did not end with its last request", func() bool { return !held() && b.conns.Load() == 0 })
}

// An upstream whose instances change keeps the sessions of those that stay, its pools, and what an operator drained.
func TestSessionsOfInstancesThatStay(t *testing.T) {
	a, b, c := newSite(t, "a"), newSite(t, "b"), newSite(t, "c")
	of := func(more string, sites ...*site) string {
		var urls []string
		for _, s := range sites {
			urls = append(urls, fmt.Sprintf("%q", s.URL))
		}
		return file(t, fmt.Sprintf("legacy: { http: [%s], sticky: { cookie: PHPSESSID }%s }", strings.Join(urls, ", "), more), "")
	}
	r := newReloading(t, of("", a, b))
	at := map[string]string{}
	for i := range 20 {
		name, session := r.get(fmt.Sprintf("/login?%d", i), "")
		at[session] = name
	}
	pool := r.Proxy.serving()["legacy"].pools[1]
	check := func(when string) {
		t.Helper()
		for session, name := range at {
			if got, _ := r.get("/", session); got != name && name != "a" {
				t.Fatalf("%s: session of %s went to %s", when, name, got)
			}
		}
	}
	if err := r.Proxy.serving()["legacy"].balancer.Drain(b.URL, true); err != nil {
		t.Fatal(err)
	}
	r.to(of("", c, b))
	if now := r.Proxy.serving()["legacy"].pools; now[1] != pool || now[0] == pool {
		t.Fatal("the pool of an instance that stays was not kept")
	}
	stats := r.Proxy.Balancers()["legacy"].Instances
	if len(stats) != 2 || stats[1].Name != b.URL && stats[0].Name != b.URL {
		t.Fatalf("%+v", stats)
	}
	for _, s := range stats {
		if s.Name == b.URL && s.State != "draining" {
			t.Fatalf("what an operator said is forgotten: %+v", s)
		}
	}
	check("an instance is another")
	r.to(of(fmt.Sprintf(", drain: [%q], max_connections: 9, eject: { failures: 9 }", c.URL), b, c))
	check("other bounds")
	for i := range 10 {
		if got, _ := r.get(fmt.Sprintf("/login?new%d", i), ""); got == "a" {
			t.Fatalf("a new session at %s", got)
		}
	}
}

// Nothing is left of 100 reloads: neither goroutines nor connections nor pools.
func TestReloadsLeaveNothingBehind(t *testing.T) {
	a, b := newSite(t, "a"), newSite(t, "b")
	health := "health: { path: /, every: 1h }"
	texts := []string{
		file(t, fmt.Sprintf("legacy: { http: [%q, %q], %s }, x: { http: %q }", a.URL, b.URL, health, b.URL), "{ match: { path: /x }, to: x }"),
		file(t, fmt.Sprintf("legacy: { http: %q }, y: { http: [%q, %q], %s, timeout: 7s }", a.URL, b.URL, a.URL, health), "{ match: { path: /x }, to: y }"),
	}
	r := newReloading(t, texts[0])
	r.get("/x", "")
	r.get("/", "")
	before := runtime.NumGoroutine()
	for i := range 100 {
		r.to(texts[(i+1)%2])
		r.get("/x", "")
		r.get("/", "")
	}
	settled(t, "pools are left", func() bool {
		r.Proxy.mu.Lock()
		defer r.Proxy.mu.Unlock()
		return len(r.Proxy.held) == len(connectionsOf(r.Proxy.backends))
	})
	settled(t, "connections are left", func() bool { return a.conns.Load()+b.conns.Load() <= 6 })
	settled(t, "goroutines are left", func() bool { return runtime.NumGoroutine() <= before+10 })
	if got := r.Reloads(); got.Revision != 101 || got.Outcomes[Applied] != 100 || !got.LastGood {
		t.Fatalf("%+v", got)
	}
}

// A migration's routes are swapped, and its copies are counted under the new fingerprint. Kafka need not be there.
func TestAMigrationIsReloaded(t *testing.T) {
	a := newSite(t, "a")
	text := strings.NewReplacer("http://127.0.0.1:1", a.URL, "dir: /j", "dir: "+t.TempDir(), "kafka: { brokers: [\"127.0.0.1:1\"]", "kafka: { brokers: [\""+unusedAddr(t)+"\"]").Replace(migrated)
	r := &reloading{t: t, text: text}
	load := func() (*config.File, error) { return config.Parse("banyan.yaml", []byte(r.text), nil) }
	var err error
	r.Process, err = Start(t.Context(), parse(t, text), Roles{Proxy: true}, Options{Log: slog.New(slog.DiscardHandler), Load: load}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // Kafka is not there: nothing is shipped
		_ = r.Stop(ctx)
	}()
	reads := func() int64 { return r.Proxy.Handler.Counters.Reads.Load() }
	r.get("/map?match=7", "")
	if reads() != 1 {
		t.Fatal("no read")
	}
	r.to(strings.Replace(text, "path: /map", "path: /chart", 1))
	r.get("/map?match=7", "")
	r.get("/chart?match=7", "")
	if reads() != 2 {
		t.Fatalf("%d reads: the routes are not the new file's", reads())
	}
	r.text = strings.Replace(text, "order_by: \"match", "order_by: \"game", 1)
	var refused *RefusedError
	if got, err := r.Reload(); !errors.As(err, &refused) || got.Outcome != Refused || got.Revision != 2 || !slices.Equal(refused.Fields, []string{"migrations.units.order_by"}) {
		t.Fatalf("%+v %v", got, err)
	}
	r.get("/chart?match=7", "")
	if reads() != 3 {
		t.Fatal("a refused file was taken over, or half of it")
	}
	if got := r.Reloads(); got.LastGood || got.Outcomes[Refused] != 1 {
		t.Fatalf("%+v", got)
	}
}
