package migrate

import (
	"context"
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
	"testing"
	"time"

	"banyan/legacyadapter/php"
	"banyan/proxy"
	"banyan/proxy/capture"
	"banyan/proxy/event"
	"banyan/proxy/expr"
	"banyan/proxy/journal"
	"banyan/proxy/pending"
	"banyan/proxy/redact"
	"banyan/proxy/route"
	"banyan/proxy/session"
	"banyan/proxy/stage"
	"banyan/proxy/upstream"
)

// bench is a proxy between a client and two backends, with everything else under the test's hand.
type bench struct {
	t         testing.TB
	url       string
	h         *Handler
	cfg       *Config
	j         *journal.Journal
	legacy    http.HandlerFunc
	candidate http.HandlerFunc
	model     fakeModel
	copies    fakeCopies

	served chan struct{} // one for each exchange that is over, what follows the answer included

	mu     sync.Mutex // guards state and leased
	state  stage.State
	leased bool
}

type fakeModel struct {
	holds, serves bool
	behind        time.Duration // how much younger than now is what it lacks
	asked         []time.Time   // by Passed
	expect        time.Duration // what Expect says
	waited        []time.Duration
}

func (m *fakeModel) Wait(_ context.Context, _ event.Migration, _ event.OrderingKey, _ []event.WriteID, d time.Duration) bool {
	m.waited = append(m.waited, d)
	return m.holds
}
func (m *fakeModel) Expect(event.Migration, event.OrderingKey, time.Time) time.Duration {
	return m.expect
}
func (m *fakeModel) Passed(_ context.Context, _ event.Migration, _ event.OrderingKey, at time.Time, _ time.Duration) bool {
	m.asked = append(m.asked, at)
	return at.Before(time.Now().Add(-m.behind))
}
func (m *fakeModel) Serves(event.Migration, event.OrderingKey) bool { return m.serves }

type fakeCopies struct {
	mu       sync.Mutex
	reads    []Read
	served   []capture.Side
	fellBack []string
}

func (c *fakeCopies) Room(event.Migration, string, int64) bool { return true }
func (c *fakeCopies) Offer(r Read)                             { c.mu.Lock(); c.reads = append(c.reads, r); c.mu.Unlock() }
func (c *fakeCopies) Served(_ event.Migration, _ string, by capture.Side, _ time.Duration) {
	c.mu.Lock()
	c.served = append(c.served, by)
	c.mu.Unlock()
}
func (c *fakeCopies) FellBack(_ event.Migration, _, why string) {
	c.mu.Lock()
	c.fellBack = append(c.fellBack, why)
	c.mu.Unlock()
}

func template(t testing.TB, s string) *expr.Template {
	t.Helper()
	tpl, err := expr.ParseTemplate(s)
	if err != nil {
		t.Fatal(err)
	}
	return tpl
}

func pool(t testing.TB, name, url string) upstream.Upstream {
	t.Helper()
	p, err := upstream.New(upstream.Config{Name: name, URL: url, Bounds: upstream.Bounds{Timeouts: upstream.Timeouts{FirstByte: 300 * time.Millisecond}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func newBench(t testing.TB, s stage.State, mutate ...func(*Config)) *bench {
	t.Helper()
	b := &bench{t: t, state: s, leased: true, model: fakeModel{holds: true, serves: true}}
	b.legacy = func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "legacy %s", r.URL) }
	b.candidate = func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Banyan-Position", "1/2-1/3")
		fmt.Fprintf(w, "candidate %s", r.URL)
	}
	serve := func(h *http.HandlerFunc) string {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*h)(w, r) }))
		t.Cleanup(srv.Close)
		return srv.URL
	}
	var err error
	b.j, err = journal.Open(journal.Config{Dir: t.TempDir(), SegmentSize: 32 << 20, Quota: 64 << 20, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.j.Close() })
	red, err := redact.New(nil, []byte("k"))
	if err != nil {
		t.Fatal(err)
	}
	applied, err := expr.CompileBool(`status == 302 && header("Location") contains "msg=moved"`, map[string]any{"status": 0, "header": func(string) string { return "" }})
	if err != nil {
		t.Fatal(err)
	}
	table, err := route.Compile([]route.Route{
		{Name: "move", Kind: route.Write, Migration: "units", Match: route.Match{Method: "POST", Path: "/index.php", Query: map[string]string{"action": "move"}},
			Params: map[string]string{"match": "form.match", "unit": "form.unit"}},
		{Name: "save", Kind: route.Write, Migration: "units", Match: route.Match{Method: "POST", Path: "/save.php", Form: map[string]string{"do": "save"}},
			Params: map[string]string{"match": "form.match"}},
		{Name: "map", Kind: route.Read, Migration: "units", Match: route.Match{Path: "/api.php", Query: map[string]string{"action": "map"}}, Params: map[string]string{"match": "query.match"}},
	}, php.Params{}, php.Nginx{})
	if err != nil {
		t.Fatal(err)
	}
	b.cfg = &Config{Table: table, Legacy: pool(t, "legacy", serve(&b.legacy)), Journal: b.j, Replica: "a", Redact: red, Inline: 1 << 10, Log: slog.New(slog.DiscardHandler),
		Model: &b.model, Copies: &b.copies, Leased: func() bool { b.mu.Lock(); defer b.mu.Unlock(); return b.leased },
		States:   func(event.Migration) stage.State { b.mu.Lock(); defer b.mu.Unlock(); return b.state },
		Sessions: Sessions{Cookie: "PHPSESSID", Player: "game_uid", Players: session.NewPlayers(10)},
		Migrations: map[event.Migration]*Migration{"units": {Name: "units", Candidate: pool(t, "units", serve(&b.candidate)), Key: template(t, "match/{match}"),
			Writes: map[string]*WriteRoute{"move": {Applied: applied}, "save": {Applied: applied}},
			Reads:  map[string]*ReadRoute{"map": {CandidateTarget: template(t, "/matches/{match}/map"), Wait: time.Millisecond}}}}}
	for _, m := range mutate {
		m(b.cfg)
	}
	if b.h, err = New(b.cfg); err != nil {
		t.Fatal(err)
	}
	b.served = make(chan struct{}, 100)
	srv, err := proxy.NewServer(proxy.Config{}, b, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.listen(srv)
	return b
}

// listen gives the clients this server.
func (b *bench) listen(srv *proxy.Server) {
	b.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.t.Fatal(err)
	}
	go srv.Serve(l)
	b.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = srv.Shutdown(ctx)
	})
	b.url = "http://" + l.Addr().String()
}

func (b *bench) Serve(x *proxy.Exchange) {
	b.h.Serve(x)
	b.served <- struct{}{}
}

func (b *bench) do(method, target, body string, cookies ...string) (*http.Response, string) {
	b.t.Helper()
	req, err := http.NewRequest(method, b.url+target, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if len(cookies) > 0 {
		req.Header.Set("Cookie", strings.Join(cookies, "; "))
	}
	tr := &http.Transport{DisableKeepAlives: true, DisableCompression: true}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	<-b.served
	return resp, string(out)
}

// recorded reads the next write from the journal.
func (b *bench) recorded() (event.Intent, event.Result) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 5*time.Second)
	defer cancel()
	var it journal.Item
	for {
		if err := b.j.Cursor().Next(ctx, &it); err != nil {
			b.t.Fatal(err)
		}
		if it.Kind != journal.ItemWrite {
			continue
		}
		in, err := event.DecodeIntent(it.Intent)
		if err != nil {
			b.t.Fatal(err)
		}
		r, err := event.DecodeResult(it.Outcome)
		if err != nil {
			b.t.Fatal(err)
		}
		return in, r
	}
}

var dual, shadow, live = stage.State{Version: 1, Stage: stage.DualWrite}, stage.State{Version: 2, Stage: stage.Shadow},
	stage.State{Version: 3, Stage: stage.Live, Share: stage.Share{Percent: 100}}

func moved(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Location", "index.php?page=unit&msg=moved")
	w.WriteHeader(302)
}

// hang never answers; it sees that the client is gone only once the body has been read.
func hang(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

const moveTarget, moveBody = "/index.php?page=unit&action=move&token=s3cret", "match=7&unit=42&token=s3cret"

func TestAWriteIsInTheJournalBeforeLegacySeesIt(t *testing.T) {
	b := newBench(t, dual)
	b.legacy = func(w http.ResponseWriter, r *http.Request) {
		var m journal.Mark
		b.j.Mark(&m)
		if len(m.InFlight) != 1 || r.Header.Get("Banyan-Write") != fmt.Sprintf("a.%d.%d", m.Epoch, m.InFlight[0].Seq) {
			t.Errorf("legacy was asked with %q while the journal held %+v", r.Header.Get("Banyan-Write"), m.InFlight)
		}
		if body, _ := io.ReadAll(r.Body); string(body) != moveBody {
			t.Errorf("legacy got %q", body)
		}
		moved(w, r)
	}
	if resp, _ := b.do("POST", moveTarget, moveBody, "PHPSESSID=abc"); resp.StatusCode != 302 {
		t.Fatal(resp.Status)
	}
	in, r := b.recorded()
	if r.Outcome != event.Applied || r.Status != 302 || r.Location != "index.php?page=unit&msg=moved" || r.End.Before(r.Forwarded) {
		t.Errorf("%+v", r)
	}
	if len(in.Addresses) != 1 || in.Addresses[0] != (event.Address{Migration: "units", Key: "match/7", Primary: true}) || in.Params["unit"] != "42" || in.Route != "move" {
		t.Errorf("%+v", in)
	}
	if strings.Contains(in.Target+string(in.Body)+in.Session, "s3cret") || strings.Contains(in.Session, "abc") || in.Session == "" {
		t.Errorf("a secret is in the journal: %+v", in)
	}
}

// stead is an upstream that answers in the backend's stead.
type stead struct {
	upstream.Upstream
	chosen int
}

type steadConn struct {
	upstream.Conn
	chosen int
}

func (s stead) Get(t upstream.Timeouts, fresh bool) (upstream.Conn, error) {
	c, err := s.Upstream.Get(t, fresh)
	return steadConn{c, s.chosen}, err
}

func (c steadConn) Chosen() int { return c.chosen }

// The outcome is what the backend chose, whatever file the client gets in its stead, or misses.
func TestOutcomeOfAWriteThatNamesAFile(t *testing.T) {
	for _, c := range []struct {
		chosen, client int
		outcome        event.Outcome
	}{{302, 404, event.Applied}, {302, 206, event.Applied}, {403, 302, event.Rejected}} {
		b := newBench(t, dual, func(cfg *Config) { cfg.Legacy = stead{cfg.Legacy, c.chosen} })
		b.legacy = func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "index.php?page=unit&msg=moved")
			w.WriteHeader(c.client)
		}
		resp, _ := b.do("POST", moveTarget, moveBody, "PHPSESSID=abc")
		if _, r := b.recorded(); resp.StatusCode != c.client || r.Outcome != c.outcome || r.Status != c.chosen {
			t.Errorf("%+v: the client has %d, the record %+v", c, resp.StatusCode, r)
		}
	}
}

func TestOutcomes(t *testing.T) {
	for name, c := range map[string]struct {
		legacy  http.HandlerFunc
		outcome event.Outcome
		reason  string
	}{
		"refused":  {func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "<div class=error>") }, event.Rejected, "rule"},
		"timeout":  {hang, event.Unknown, "timeout"},
		"cut":      {func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }, event.Unknown, "cut"},
		"cut late": {func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Content-Length", "9"); moved(w, r) }, event.Unknown, "cut"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, dual)
			b.legacy = c.legacy
			req, _ := http.NewRequest("POST", b.url+moveTarget, strings.NewReader(moveBody))
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			if resp, err := http.DefaultTransport.RoundTrip(req); err == nil {
				_, _ = io.Copy(io.Discard, resp.Body) // a cut answer is cut for the client too
				resp.Body.Close()
			}
			if _, r := b.recorded(); r.Outcome != c.outcome || r.Reason != c.reason {
				t.Errorf("%+v; want %s, %s", r, c.outcome, c.reason)
			}
		})
	}
	t.Run("unsent", func(t *testing.T) {
		b := newBench(t, dual, func(c *Config) {
			l, _ := net.Listen("tcp", "127.0.0.1:0")
			l.Close()
			c.Legacy = pool(t, "legacy", "http://"+l.Addr().String())
		})
		if resp, _ := b.do("POST", moveTarget, moveBody); resp.StatusCode != 502 {
			t.Error(resp.Status)
		}
		if _, r := b.recorded(); r.Outcome != event.Rejected || r.Reason != "unsent: dial" {
			t.Errorf("legacy cannot have seen it, yet: %+v", r)
		}
	})
}

func TestStageOffRecordsNothing(t *testing.T) {
	b := newBench(t, stage.State{Stage: stage.Off})
	b.legacy = func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Banyan-Write") != "" {
			t.Error("legacy got an id")
		}
		moved(w, r)
	}
	if resp, _ := b.do("POST", moveTarget, moveBody); resp.StatusCode != 302 || len(resp.Header["Set-Cookie"]) != 0 {
		t.Fatal(resp)
	}
	if s := b.j.Status(); s.InFlight != 0 || s.Backlog != 0 {
		t.Fatalf("%+v", s)
	}
}

func TestFlipDoesNotSplitARequest(t *testing.T) {
	b := newBench(t, dual)
	b.legacy = func(w http.ResponseWriter, r *http.Request) {
		b.mu.Lock()
		b.state = stage.State{Version: 9, Stage: stage.Off}
		b.mu.Unlock()
		moved(w, r)
	}
	b.do("POST", moveTarget, moveBody)
	if _, r := b.recorded(); r.Outcome != event.Applied {
		t.Fatal("the outcome was lost with the flip", r)
	}
}

func TestUnmatchedGoesToLegacyAsItCame(t *testing.T) {
	b := newBench(t, live)
	if _, body := b.do("GET", "/other.php?x=a[]&b;c", ""); body != "legacy /other.php?x=a[]&b;c" {
		t.Fatal(body)
	}
	if resp, _ := b.do("GET", "/api.php/%00?action=map", ""); resp.StatusCode != 400 {
		t.Fatal("an ambiguous target was guessed:", resp.Status)
	}
}

func TestReadsByStage(t *testing.T) {
	const target = "/api.php?action=map&match=7"
	for name, c := range map[string]struct {
		state  stage.State
		server string
		copied int
	}{
		"off": {stage.State{Stage: stage.Off}, "legacy", 0}, "dualwrite": {dual, "legacy", 0}, "shadow": {shadow, "legacy", 1},
		"live": {live, "candidate", 0}, "live, outside the share": {stage.State{Stage: stage.Live, Share: stage.Share{Percent: 100, Exclude: []event.OrderingKey{"match/7"}}}, "legacy", 1},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, c.state)
			resp, body := b.do("GET", target, "")
			if !strings.HasPrefix(body, c.server) || len(b.copies.reads) != c.copied {
				t.Fatalf("%s, %d copies; want %s, %d", body, len(b.copies.reads), c.server, c.copied)
			}
			if by := resp.Header.Get("Banyan-Served-By"); c.state.Stage == stage.Live && by != c.server || c.state.Stage != stage.Live && by != "" {
				t.Error("served by", by)
			}
			if c.copied == 1 {
				p := b.copies.reads[0]
				if p.Key != "match/7" || p.Candidate.Target != "/matches/7/map" || string(p.Legacy.Body) != body || p.Repeatable || p.Served != capture.Legacy {
					t.Errorf("%+v", p)
				}
			}
		})
	}
}

func TestCandidateTroubleIsNeverTheClients(t *testing.T) {
	for name, candidate := range map[string]http.HandlerFunc{
		"5xx":     func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(503) },
		"cut":     func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) },
		"timeout": hang,
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, live)
			asked := 0
			b.legacy = func(w http.ResponseWriter, r *http.Request) { asked++; io.WriteString(w, "legacy") }
			b.candidate = candidate
			resp, body := b.do("GET", "/api.php?action=map&match=7", "")
			if resp.StatusCode != 200 || body != "legacy" || asked != 1 || len(b.copies.fellBack) != 1 {
				t.Fatal(resp.Status, body, asked, b.copies.fellBack)
			}
		})
	}
}

func TestLegacyAnswersWhenTheModelCannot(t *testing.T) {
	own := pending.Tokens{}.Add(pending.Token{Migration: "units", Key: "match/7", Write: event.WriteID{Replica: "a", Epoch: 1, Seq: 1}}).String()
	for name, c := range map[string]struct {
		set    func(*bench)
		cookie string
		why    string
	}{
		"no lease":           {func(b *bench) { b.leased = false }, "", "lease"},
		"parked":             {func(b *bench) { b.model.serves = false }, "", "model"},
		"own write not yet":  {func(b *bench) { b.model.holds = false }, own, "own_writes"},
		"more writes than 8": {func(b *bench) {}, "more", "own_writes_unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, live)
			c.set(b)
			_, body := b.do("GET", "/api.php?action=map&match=7", "", "a=b", pending.Cookie+"="+c.cookie)
			if !strings.HasPrefix(body, "legacy") || len(b.copies.fellBack) != 1 || b.copies.fellBack[0] != c.why {
				t.Fatal(body, b.copies.fellBack)
			}
		})
	}
}

// A read waits for its own write for as long as legacy would take, and not at all if that is expected to be in vain.
func TestPatience(t *testing.T) {
	cookie := func(at time.Time) string {
		return pending.Cookie + "=" + pending.Tokens{}.Add(pending.Token{Migration: "units", Key: "match/7", Write: event.WriteID{Replica: "a", Epoch: 1, Seq: 1}, At: at}).String()
	}
	for name, c := range map[string]struct {
		wait, took, expect time.Duration
		at                 time.Time
		want               []time.Duration
	}{
		"nothing is known of legacy":  {want: []time.Duration{0, mostPatience}, at: time.Now()},
		"legacy is quick":             {took: 7 * time.Millisecond, want: []time.Duration{0, 7 * time.Millisecond}, at: time.Now()},
		"legacy is quicker than that": {took: time.Microsecond, want: []time.Duration{0, leastPatience}, at: time.Now()},
		"legacy is slow":              {took: time.Minute, want: []time.Duration{0, mostPatience}, at: time.Now()},
		"the file says":               {took: time.Millisecond, wait: time.Second, want: []time.Duration{0, time.Second}, at: time.Now()},
		"it would be in vain":         {wait: time.Second, expect: 2 * time.Second, want: []time.Duration{0}, at: time.Now()},
		"an older build's cookie":     {wait: time.Second, expect: 2 * time.Second, want: []time.Duration{0, time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, live, func(cfg *Config) {
				r := cfg.Migrations["units"].Reads["map"]
				r.Wait = c.wait
				r.took.Store(int64(c.took))
			})
			b.model.holds, b.model.expect = false, c.expect
			b.do("GET", "/api.php?action=map&match=7", "", cookie(c.at))
			if !slices.Equal(b.model.waited, c.want) {
				t.Errorf("waited %v, want %v", b.model.waited, c.want)
			}
			if fmt.Sprint(b.copies.fellBack) != "[own_writes]" {
				t.Error(b.copies.fellBack)
			}
		})
	}
}

func TestLegacysTimeIsLearned(t *testing.T) {
	b := newBench(t, live, func(c *Config) { c.Migrations["units"].Reads["map"].Wait = 0 })
	r := b.cfg.Migrations["units"].Reads["map"]
	if r.took.Load() != 0 || r.patience() != mostPatience {
		t.Fatal(r.took.Load())
	}
	b.do("GET", "/api.php?action=map&match=7", "", pending.Cookie+"=more")
	if took := time.Duration(r.took.Load()); took <= 0 || took > time.Minute {
		t.Fatal(took)
	}
}

func TestOwnWritesCookie(t *testing.T) {
	b := newBench(t, live)
	b.legacy = func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.Header.Get("Cookie"), "banyan") {
			t.Error("legacy got our cookie:", r.Header.Get("Cookie"))
		}
		w.Header().Add("Set-Cookie", "x=1")
		w.Header().Add("Set-Cookie", "y=2")
		moved(w, r)
	}
	resp, _ := b.do("POST", moveTarget, moveBody, "PHPSESSID=abc", pending.Cookie+"=units~match%2F9~a.1.3", "z=1")
	set := resp.Header["Set-Cookie"]
	if len(set) != 3 || set[0] != "x=1" || set[1] != "y=2" {
		t.Fatal(set)
	}
	value, _, _ := strings.Cut(strings.TrimPrefix(set[2], pending.Cookie+"="), ";")
	ts := pending.ParseTokens(value)
	if len(ts.List) != 2 || ts.List[0].Key != "match/7" || ts.List[1].Key != "match/9" {
		t.Fatalf("%q: %+v", value, ts)
	}
}

func TestFullJournalFailsOpen(t *testing.T) {
	b := newBench(t, dual)
	b.legacy = moved
	big := moveBody + "&pad=" + strings.Repeat("x", 900)
	for range 200_000 {
		if resp, _ := b.do("POST", moveTarget, big); resp.StatusCode != 302 {
			t.Fatal("legacy serves on when the journal is full:", resp.Status)
		}
		if b.h.Counters.Unrecorded.Load() > 0 {
			break
		}
		for range 2000 { // fill it faster than HTTP can
			if _, err := b.j.AppendIntent(journal.Intent{Payload: make([]byte, 16<<10), Ack: journal.AckMemory}); err != nil {
				break
			}
		}
	}
	if b.h.Counters.Unrecorded.Load() != 1 || b.j.Status().OpenGaps != 1 {
		t.Fatalf("%d unrecorded, %+v", b.h.Counters.Unrecorded.Load(), b.j.Status())
	}
	b.cfg.Migrations["units"].FailClosed = true
	if resp, _ := b.do("POST", moveTarget, big); resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Fatal("fail_closed asks for a refusal:", resp.Status)
	}
}

func TestBodyTooLargeToClassifyIsAGap(t *testing.T) {
	b := newBench(t, dual)
	got := 0
	b.legacy = func(w http.ResponseWriter, r *http.Request) { n, _ := io.Copy(io.Discard, r.Body); got = int(n) }
	body := "pad=" + strings.Repeat("x", 1<<20) + "&do=save"
	if resp, _ := b.do("POST", "/save.php", body); resp.StatusCode != 200 || got != len(body) {
		t.Fatal(resp.Status, got)
	}
	if b.h.Counters.Unclassified.Load() != 1 || b.j.Status().OpenGaps != 1 {
		t.Fatal("an unclassified write must leave a gap")
	}
	got = 0
	if b.do("POST", "/upload.php", body); got != len(body) || b.h.Counters.Unclassified.Load() != 1 {
		t.Fatal("a large body on a path without routes is nobody's gap")
	}
}

// An upload of 60 MiB on a path whose routes need the body is read up to the inline limit and streams from there on.
func TestUploadsStreamInFlatMemory(t *testing.T) {
	b := newBench(t, dual, func(c *Config) { c.Inline = 1 << 20 })
	const size = 60 << 20
	got := int64(0)
	b.legacy = func(w http.ResponseWriter, r *http.Request) { got, _ = io.Copy(io.Discard, r.Body) }
	head := "--b\r\nContent-Disposition: form-data; name=\"do\"\r\n\r\nsave\r\n--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"f\"\r\n\r\n"
	for _, target := range []string{"/index.php?action=move", "/save.php"} {
		req, err := http.NewRequest("POST", b.url+target, io.MultiReader(strings.NewReader(head), io.LimitReader(zeros{}, size-int64(len(head)))))
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = size
		req.Header.Set("Content-Type", "multipart/form-data; boundary=b")
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		<-b.served
		runtime.ReadMemStats(&after)
		if resp.StatusCode != 200 || got != size {
			t.Fatalf("%s: %s, legacy got %d bytes", target, resp.Status, got)
		}
		t.Logf("%s: %d KiB allocated", target, (after.TotalAlloc-before.TotalAlloc)>>10)
		if n := after.TotalAlloc - before.TotalAlloc; n > 8<<20 { // both ends and the proxy; the inline megabyte grows by doubling
			t.Errorf("%s: %d bytes were allocated for an upload of %d", target, n, size)
		}
	}
	if c := &b.h.Counters; c.Unclassified.Load() != 1 || c.Writes.Load() != 1 || b.j.Status().OpenGaps != 1 {
		t.Errorf("%d unclassified, %d writes, %+v: the path alone tells nothing of save, the query all of move", c.Unclassified.Load(), c.Writes.Load(), b.j.Status())
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestPlayerIsLearnedFromLegacyOnly(t *testing.T) {
	b := newBench(t, shadow)
	b.cfg.Migrations["units"].Reads["map"].CandidateTarget = template(t, "/matches/{match}/players/{player}/map")
	const read = "/api.php?action=map&match=7&player=666"
	b.do("GET", read, "", "PHPSESSID=abc", "game_uid=666")
	if len(b.copies.reads) != 0 {
		t.Fatal("a client named its player itself")
	}
	b.legacy = func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Set-Cookie", "PHPSESSID=abc; path=/")
		w.Header().Add("Set-Cookie", "game_uid=3; path=/")
	}
	b.do("POST", "/index.php?page=login", "name=a&password=b")
	b.do("GET", read, "", "PHPSESSID=abc", "game_uid=666")
	if len(b.copies.reads) != 1 || b.copies.reads[0].Candidate.Target != "/matches/7/players/3/map" {
		t.Fatalf("%+v", b.copies.reads)
	}
}

func TestParametersCannotLeaveTheirPlaceInTheCandidatesTarget(t *testing.T) {
	b := newBench(t, shadow)
	for in, want := range map[string]string{"7%2F..%2Fadmin": "/matches/7%2F..%2Fadmin/map", "7%3Fa%3Db%26c": "/matches/7%3Fa%3Db%26c/map", "a+b": "/matches/a%20b/map", "..": ""} {
		b.copies.reads = nil
		b.do("GET", "/api.php?action=map&match="+in, "")
		got := ""
		if len(b.copies.reads) == 1 {
			got = b.copies.reads[0].Candidate.Target
		}
		if got != want {
			t.Errorf("%s -> %q, want %q", in, got, want)
		}
	}
}

// A read that names no path at the candidate is legacy's at every stage.
func TestReadsThatTheCandidateDoesNotHave(t *testing.T) {
	for _, s := range []stage.Stage{stage.Off, stage.DualWrite, stage.Shadow, stage.Live} {
		b := newBench(t, stage.State{Stage: s, Share: stage.Share{Percent: 100}}, func(c *Config) { delete(c.Migrations["units"].Reads, "map") })
		if resp, body := b.do("GET", "/api.php?action=map&match=7", ""); resp.StatusCode != 200 || !strings.HasPrefix(body, "legacy ") {
			t.Errorf("%s: %d %q", s, resp.StatusCode, body)
		}
		if len(b.copies.reads) > 0 {
			t.Errorf("%s: compared", s)
		}
	}
}
