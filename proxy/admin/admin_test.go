package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"banyan/proxy/event"
	"banyan/proxy/stage"
)

const (
	operator = "operator-token-0123456789"
	viewer   = "viewer-token-0123456789"
)

// parts are the whole system behind the API.
type parts struct {
	state   stage.State
	gates   []Gate
	flipped []Flip
	lost    error
	found   map[string]*Finding
	asked   []BackfillRequest
}

var (
	_ Stages     = (*parts)(nil)
	_ Flipper    = (*parts)(nil)
	_ Ledger     = (*parts)(nil)
	_ Backfiller = (*parts)(nil)
)

func (p *parts) Stages(context.Context) ([]StageInfo, error) {
	return []StageInfo{{Migration: "units", State: p.state}}, nil
}

func (p *parts) History(_ context.Context, m event.Migration) ([]stage.Entry, error) {
	if m != "units" {
		return nil, fmt.Errorf("migration %s: %w", m, ErrNotFound)
	}
	return nil, nil
}

func (p *parts) Plan(_ context.Context, m event.Migration, to stage.State) (Plan, error) {
	if m != "units" {
		return Plan{}, fmt.Errorf("migration %s: %w", m, ErrNotFound)
	}
	if err := stage.Allowed(p.state, to); err != nil {
		return Plan{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return Plan{Migration: m, From: p.state, To: to, Forward: stage.Forward(p.state, to), Gates: p.gates}, nil
}

func (p *parts) Flip(_ context.Context, f Flip) (Flipped, error) {
	if p.lost != nil {
		return Flipped{}, p.lost
	}
	p.flipped = append(p.flipped, f)
	return Flipped{Obeyed: []Proxy{{Replica: "a", Version: f.From.Version + 1}}, TookMS: 12}, nil
}

func (p *parts) Findings(_ context.Context, m event.Migration, states []string) ([]Finding, error) {
	if len(states) > 0 && states[0] == "broken" {
		return nil, fmt.Errorf("ledger: %w", ErrMissing)
	}
	return nil, nil
}

func (p *parts) Finding(_ context.Context, id string) (*Finding, error) {
	if f := p.found[id]; f != nil {
		return f, nil
	}
	return nil, fmt.Errorf("finding %s: %w", id, ErrNotFound)
}

func (p *parts) Accept(_ context.Context, id string, a Acceptance) error {
	p.found[id].Acceptance = &a
	return nil
}

func (p *parts) Backfill(_ context.Context, r BackfillRequest) (BackfillStatus, error) {
	p.asked = append(p.asked, r)
	return BackfillStatus{Migration: r.Migration, State: Running}, nil
}

func (p *parts) Backfills(context.Context) ([]BackfillStatus, error) { return nil, errors.New("odd") }

func (p *parts) Retranslate(_ context.Context, r RetranslateRequest) (RetranslateStatus, error) {
	if p.lost != nil {
		return RetranslateStatus{}, p.lost
	}
	return RetranslateStatus{Migration: r.Migration, State: Running, Phase: r.Who + " " + r.Reason}, nil
}

func (p *parts) Retranslations(context.Context) ([]RetranslateStatus, error) { return nil, nil }

func whole(t *testing.T) (*parts, *Server) {
	t.Helper()
	p := &parts{state: stage.State{Version: 3, Stage: stage.Shadow}, found: map[string]*Finding{"f-1": {ID: "f-1"}}}
	s, err := New(Config{Tokens: Tokens{operator, viewer}, Stages: p, Flips: p, Findings: p, Backfill: p, Retranslate: p,
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "banyan_up 1\n") }),
		Status: []Part{
			{"journal", func(context.Context) (any, error) { return map[string]int{"backlog": 7}, nil }},
			{"mirror", func(context.Context) (any, error) { return nil, errors.New("Kafka does not acknowledge") }},
		}})
	if err != nil {
		t.Fatal(err)
	}
	return p, s
}

// ask sends one request; token "" sends none.
func ask(s *Server, method, path, token, kind, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	r.RemoteAddr = "127.0.0.1:1234"
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w
}

func TestAPI(t *testing.T) {
	const js = "application/json"
	accept := `{"reason": "clock", "owner": "core", "expires": "2999-01-01T00:00:00Z"}`
	for name, c := range map[string]struct {
		method, path, token, kind, body string
		status                          int
		want                            string
	}{
		"health needs no token":           {"GET", "/healthz", "", "", "", 200, `"ok"`},
		"readiness needs no token":        {"GET", "/readyz", "", "", "", 200, `"ready": true`},
		"loopback is no exemption":        {"GET", "/api/v1/stages", "", "", "", 401, "a token is needed"},
		"metrics too":                     {"GET", "/metrics", "", "", "", 401, "a token is needed"},
		"what is not there needs one too": {"GET", "/nothing", "", "", "", 401, "a token is needed"},
		"another token":                   {"GET", "/api/v1/stages", operator + "x", "", "", 401, "a token is needed"},
		"half of it":                      {"GET", "/api/v1/stages", operator[:10], "", "", 401, "a token is needed"},
		"a viewer reads":                  {"GET", "/api/v1/stages", viewer, "", "", 200, `"stage": "shadow"`},
		"a viewer scrapes":                {"GET", "/metrics", viewer, "", "", 200, "banyan_up 1"},
		"an operator reads":               {"GET", "/api/v1/stages/units/history", operator, "", "", 200, `"entries": []`},
		"a viewer changes nothing":        {"POST", "/api/v1/findings/f-1/accept", viewer, js, accept, 403, "operator's"},
		"unknown migration":               {"GET", "/api/v1/stages/unit/history", viewer, "", "", 404, "unit: not found"},
		"unknown finding":                 {"GET", "/api/v1/findings/f-9", viewer, "", "", 404, "f-9"},
		"no findings are a list":          {"GET", "/api/v1/findings?migration=units&state=open", viewer, "", "", 200, `"findings": []`},
		"the ledger is down":              {"GET", "/api/v1/findings?state=broken", viewer, "", "", 503, "missing"},
		"an error of ours":                {"GET", "/api/v1/backfill", viewer, "", "", 500, "odd"},
		"a part's error hides no other":   {"GET", "/api/v1/status", viewer, "", "", 200, `"backlog": 7`},
		"a part's error is told":          {"GET", "/api/v1/status", viewer, "", "", 200, "Kafka does not acknowledge"},
		"a form":                          {"POST", "/api/v1/findings/f-1/accept", operator, "application/x-www-form-urlencoded", accept, 415, "application/json"},
		"text that a page may send":       {"POST", "/api/v1/findings/f-1/accept", operator, "text/plain", accept, 415, "application/json"},
		"no type":                         {"POST", "/api/v1/findings/f-1/accept", operator, "", accept, 415, "application/json"},
		"too large":                       {"POST", "/api/v1/findings/f-1/accept", operator, js, `{"reason": "` + strings.Repeat("x", maxBody) + `"}`, 413, "larger than"},
		"too large behind the object":     {"POST", "/api/v1/findings/f-1/accept", operator, js, accept + strings.Repeat(" ", maxBody), 413, "larger than"},
		"not JSON":                        {"POST", "/api/v1/findings/f-1/accept", operator, js, "reason=clock", 400, "not what this takes"},
		"unknown member":                  {"POST", "/api/v1/findings/f-1/accept", operator, js, `{"reasons": "x"}`, 400, "unknown field"},
		"two objects":                     {"POST", "/api/v1/findings/f-1/accept", operator, js, accept + accept, 400, "something follows"},
		"accepted without a reason":       {"POST", "/api/v1/findings/f-1/accept", operator, js, `{"owner": "core", "expires": "2999-01-01T00:00:00Z"}`, 400, "reason"},
		"accepted by nobody":              {"POST", "/api/v1/findings/f-1/accept", operator, js, `{"reason": "clock", "expires": "2999-01-01T00:00:00Z"}`, 400, "owner"},
		"accepted until yesterday":        {"POST", "/api/v1/findings/f-1/accept", operator, js, `{"reason": "clock", "owner": "core", "expires": "1999-01-01T00:00:00Z"}`, 400, "future"},
		"accepted":                        {"POST", "/api/v1/findings/f-1/accept", operator, js + "; charset=utf-8", accept, 200, `"owner": "core"`},
		"backfill of nothing":             {"POST", "/api/v1/backfill", operator, js, `{}`, 400, "migration"},
		"backfill":                        {"POST", "/api/v1/backfill", operator, js, `{"migration": "units"}`, 202, `"running"`},
		"backfill of single keys":         {"POST", "/api/v1/backfill", operator, js, `{"migration": "units", "keys": ["match/7"]}`, 400, `unknown field`},
		"retranslate":                     {"POST", "/api/v1/retranslate", operator, js, `{"migration": "units", "reason": "mended", "who": "ada"}`, 202, `"ada mended"`},
		"retranslate of nothing":          {"POST", "/api/v1/retranslate", operator, js, `{"reason": "mended", "who": "ada"}`, 400, "migration"},
		"retranslate without a reason":    {"POST", "/api/v1/retranslate", operator, js, `{"migration": "units", "who": "ada"}`, 400, "reason and who"},
		"retranslate by nobody":           {"POST", "/api/v1/retranslate", operator, js, `{"migration": "units", "reason": "mended"}`, 400, "reason and who"},
		"abandon by force":                {"POST", "/api/v1/retranslate", operator, js, `{"migration": "units", "reason": "x", "who": "ada", "abandon": true, "force": true}`, 400, "abandon"},
		"a viewer makes no generation":    {"POST", "/api/v1/retranslate", viewer, js, `{"migration": "units", "reason": "mended", "who": "ada"}`, 403, "operator's"},
		"no retranslations are a list":    {"GET", "/api/v1/retranslate", viewer, "", "", 200, `"retranslations": []`},
		"a write by GET":                  {"GET", "/api/v1/stages/units/flip", operator, "", "", 405, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, s := whole(t)
			w := ask(s, c.method, c.path, c.token, c.kind, c.body)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.want) {
				t.Fatalf("%d %s; want %d with %q", w.Code, w.Body, c.status, c.want)
			}
			if w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("Set-Cookie") != "" {
				t.Fatalf("head: %v", w.Header())
			}
		})
	}
}

func TestFlip(t *testing.T) {
	pass, fail := Gate{Name: "backfilled", Result: Pass}, Gate{Name: "pairs", Result: Inconclusive, Have: "12", Want: "20000"}
	for name, c := range map[string]struct {
		body    string
		gates   []Gate
		lost    error
		status  int
		want    string
		flipped bool
		forced  bool
	}{
		"gates pass":                  {`{"stage": "live", "share": {"percent": 10}, "reason": "go", "who": "ada", "expect": 3}`, []Gate{pass}, nil, 200, `"took_ms": 12`, true, false},
		"a gate is inconclusive":      {`{"stage": "live", "share": {"percent": 10}, "reason": "go", "who": "ada"}`, []Gate{pass, fail}, nil, 409, "gates do not pass", false, false},
		"no gate at all":              {`{"stage": "live", "share": {"percent": 10}, "reason": "go", "who": "ada"}`, nil, nil, 409, "gates do not pass", false, false},
		"forced":                      {`{"stage": "live", "share": {"percent": 10}, "reason": "go", "who": "ada", "force": true}`, []Gate{fail}, nil, 200, `"flipped"`, true, true},
		"force that was not needed":   {`{"stage": "live", "share": {"percent": 10}, "reason": "go", "who": "ada", "force": true}`, []Gate{pass}, nil, 200, `"flipped"`, true, false},
		"back needs no gates":         {`{"stage": "off", "reason": "trouble", "who": "ada"}`, []Gate{fail}, nil, 200, `"flipped"`, true, false},
		"a dry run":                   {`{"stage": "live", "dry_run": true}`, []Gate{fail}, nil, 200, `"passed": false`, false, false},
		"somebody was faster":         {`{"stage": "off", "reason": "x", "who": "ada", "expect": 2}`, nil, nil, 409, "in between", false, false},
		"somebody was faster, forced": {`{"stage": "live", "reason": "x", "who": "ada", "expect": 2, "force": true}`, nil, nil, 409, "in between", false, false},
		"lost in the log":             {`{"stage": "off", "reason": "x", "who": "ada", "expect": 3}`, nil, fmt.Errorf("flip: %w", ErrConflict), 409, "another change", false, false},
		"two steps":                   {`{"stage": "complete", "reason": "x", "who": "ada"}`, nil, nil, 400, "not built", false, false},
		"no stage":                    {`{"reason": "x", "who": "ada"}`, nil, nil, 400, "is not a stage", false, false},
		"no reason":                   {`{"stage": "off", "who": "ada"}`, nil, nil, 400, "reason", false, false},
		"nobody":                      {`{"stage": "off", "reason": "x"}`, nil, nil, 400, "who", false, false},
		"a share of more than all":    {`{"stage": "live", "share": {"percent": 101}, "reason": "x", "who": "ada"}`, nil, nil, 400, "0 to 100", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			p, s := whole(t)
			p.gates, p.lost = c.gates, c.lost
			w := ask(s, "POST", "/api/v1/stages/units/flip", operator, "application/json", c.body)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.want) {
				t.Fatalf("%d %s; want %d with %q", w.Code, w.Body, c.status, c.want)
			}
			if (len(p.flipped) > 0) != c.flipped || c.flipped && p.flipped[0].Forced != c.forced {
				t.Fatalf("flipped: %+v", p.flipped)
			}
		})
	}
}

func TestNotServedHereSaysWhere(t *testing.T) {
	s, err := New(Config{Tokens: Tokens{Operator: operator}})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"/api/v1/stages": "proxy role", "/api/v1/findings": "shadow", "/api/v1/backfill": "shadow", "/api/v1/status": "no part", "/metrics": "not kept"} {
		if w := ask(s, "GET", path, operator, "", ""); w.Code != 501 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	if w := ask(s, "GET", "/api/v1/stages", "", "", ""); w.Code != 401 {
		t.Errorf("an empty token where no viewer is configured: %d", w.Code)
	}
	r := httptest.NewRequest("GET", "/api/v1/stages", nil)
	r.Header.Set("Authorization", "Bearer ")
	w := httptest.NewRecorder()
	if s.Handler().ServeHTTP(w, r); w.Code != 401 {
		t.Errorf("Bearer and nothing, where no viewer is configured: %d", w.Code)
	}
}

func TestReadinessTellsEveryReason(t *testing.T) {
	s, err := New(Config{Tokens: Tokens{Operator: operator}, Ready: []Check{
		{"journal", func(context.Context) error { return errors.New("the disk is full") }},
		{"legacy", func(context.Context) error { return nil }},
	}})
	if err != nil {
		t.Fatal(err)
	}
	s.Drain()
	w := ask(s, "GET", "/readyz", "", "", "")
	var got struct {
		Ready   bool
		Reasons []reason
	}
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if w.Code != 503 || got.Ready || len(got.Reasons) != 2 || got.Reasons[1] != (reason{"journal", "the disk is full"}) {
		t.Fatalf("%d %+v", w.Code, got)
	}
	if w := ask(s, "GET", "/healthz", "", "", ""); w.Code != 200 {
		t.Fatalf("health while draining: %d", w.Code)
	}
}

func TestStopEndsGracefully(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	s, err := New(Config{Listen: "127.0.0.1:0", Tokens: Tokens{Operator: operator}, Mounts: map[string]http.Handler{
		"GET /slow": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			close(arrived)
			<-release
			io.WriteString(w, "done")
		})}})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	got := make(chan string, 1)
	go func() {
		r, _ := http.NewRequest("GET", "http://"+s.Addr().String()+"/slow", nil)
		r.Header.Set("Authorization", "Bearer "+operator)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			got <- err.Error()
			return
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		got <- string(b)
	}()
	<-arrived
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop(context.Background()) }()
	close(release)
	if g := <-got; g != "done" {
		t.Errorf("the request under way: %q", g)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if err := s.Stop(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestTokens(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	first, made, err := EnsureTokens(dir)
	if err != nil || len(made) != 2 || first.Operator == first.Viewer || len(first.Operator) < 40 {
		t.Fatalf("%v %v %v", first, made, err)
	}
	again, made, err := EnsureTokens(dir)
	if err != nil || len(made) != 0 || again != first {
		t.Fatalf("a second start: %v %v %v", again, made, err)
	}
	path := filepath.Join(dir, OperatorFile)
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v; want mode 0600", fi.Mode(), err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := EnsureTokens(dir); err == nil || !strings.Contains(err.Error(), "others may read it") {
		t.Fatalf("a file that others may read: %v", err)
	}
	if err := makeToken(filepath.Join(dir, ViewerFile)); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("a file that is there: %v", err)
	}
	for name, bad := range map[string]Tokens{"none": {}, "short": {Operator: "secret"}, "the same": {Operator: operator, Viewer: operator}, "spaces": {Operator: "a token of several words"}} {
		if _, err := New(Config{Tokens: bad}); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestExpiryIsJudgedByTheServersClock(t *testing.T) {
	_, s := whole(t)
	s.now = func() time.Time { return time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC) }
	w := ask(s, "POST", "/api/v1/findings/f-1/accept", operator, "application/json", `{"reason": "clock", "owner": "core", "expires": "2999-01-01T00:00:00Z"}`)
	if w.Code != 400 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
}
