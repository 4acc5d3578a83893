package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"banyan/cmd/internal/role"
	"banyan/proxy/admin"
	"banyan/proxy/event"
	"banyan/proxy/stage"

	"github.com/google/go-cmp/cmp"
)

const secret = "operator-token-0123456789"

// system is what is behind the admin API, in memory.
type system struct {
	state    stage.State
	gates    []admin.Gate
	between  func(*system) // happens after a plan was shown
	late     []event.Replica
	flips    []admin.Flip
	finding  admin.Finding
	backfill []admin.BackfillStatus // one after the other
	made     []admin.RetranslateStatus
	lost     error // of a retranslation
}

func (s *system) Retranslate(_ context.Context, r admin.RetranslateRequest) (admin.RetranslateStatus, error) {
	if s.lost != nil {
		return admin.RetranslateStatus{}, s.lost
	}
	return s.made[0], nil
}

func (s *system) Retranslations(context.Context) ([]admin.RetranslateStatus, error) {
	if len(s.made) > 1 {
		s.made = s.made[1:]
	}
	return s.made[:1], nil
}

func (s *system) Stages(context.Context) ([]admin.StageInfo, error) {
	return []admin.StageInfo{
		{Migration: "economy", State: stage.State{Stage: stage.Off}},
		{Migration: "units", State: s.state, Since: time.Date(2026, 11, 20, 14, 3, 11, 0, time.UTC), Who: "ada@ops", Reason: "clean", Forced: true,
			Proxies: []admin.Proxy{{Replica: "a", Version: 3}, {Replica: "b", Version: 2}}},
	}, nil
}

func (s *system) History(context.Context, event.Migration) ([]stage.Entry, error) {
	at := time.Date(2026, 11, 20, 14, 3, 11, 0, time.UTC)
	return []stage.Entry{
		{Flip: stage.Flip{From: stage.State{Stage: stage.Off}, To: stage.State{Version: 1, Stage: stage.DualWrite}, Who: "ada", Reason: "start", At: at}},
		{Flip: stage.Flip{From: stage.State{Stage: stage.Off}, To: stage.State{Version: 1, Stage: stage.DualWrite}, Who: "bob", Reason: "me too", At: at}, Void: "another flip came first"},
		{Flip: stage.Flip{Step: stage.Build, From: stage.State{Version: 1, Stage: stage.DualWrite},
			To: stage.State{Version: 2, Stage: stage.DualWrite, Generations: stage.Generations{Building: 2, Last: 2}}, Who: "ada", Reason: "mended", At: at}},
		{Flip: stage.Flip{Step: stage.Swap, From: stage.State{Version: 2, Stage: stage.DualWrite, Generations: stage.Generations{Building: 2, Last: 2}},
			To: stage.State{Version: 3, Stage: stage.DualWrite, Generations: stage.Generations{Generation: 2, Retiring: 1}}, Who: "ada", Reason: "mended", At: at, Forced: true}},
	}, nil
}

func (s *system) Plan(_ context.Context, m event.Migration, to stage.State) (admin.Plan, error) {
	if m != "units" {
		return admin.Plan{}, fmt.Errorf("no migration is named %q: %w", m, admin.ErrNotFound)
	}
	if err := stage.Allowed(s.state, to); err != nil {
		return admin.Plan{}, fmt.Errorf("%w: %w", admin.ErrInvalid, err)
	}
	p := admin.Plan{Migration: m, From: s.state, To: to, Forward: stage.Forward(s.state, to)}
	if p.Forward {
		p.Gates = s.gates
	}
	if s.between != nil {
		defer s.between(s)
	}
	return p, nil
}

func (s *system) Flip(_ context.Context, f admin.Flip) (admin.Flipped, error) {
	s.flips = append(s.flips, f)
	return admin.Flipped{Obeyed: []admin.Proxy{{Replica: "a"}, {Replica: "b"}}, Late: s.late, TookMS: 140}, nil
}

func (s *system) Findings(_ context.Context, _ event.Migration, states []string) ([]admin.Finding, error) {
	if len(states) > 0 && states[0] == "fixed" {
		return nil, nil
	}
	return []admin.Finding{s.finding}, nil
}

func (s *system) Finding(_ context.Context, id string) (*admin.Finding, error) {
	if id != s.finding.ID {
		return nil, fmt.Errorf("finding %s: %w", id, admin.ErrNotFound)
	}
	return &s.finding, nil
}

func (s *system) Accept(_ context.Context, _ string, a admin.Acceptance) error {
	s.finding.Acceptance = &a
	return nil
}

func (s *system) Backfill(context.Context, admin.BackfillRequest) (admin.BackfillStatus, error) {
	return s.backfill[0], nil
}

func (s *system) Backfills(context.Context) ([]admin.BackfillStatus, error) {
	if len(s.backfill) > 1 {
		s.backfill = s.backfill[1:]
	}
	return s.backfill[:1], nil
}

// console runs commands against a system.
type console struct {
	*system
	url, tokens string
}

func newConsole(t *testing.T) *console {
	t.Helper()
	at := time.Date(2026, 11, 20, 14, 3, 11, 0, time.UTC)
	s := &system{state: stage.State{Version: 3, Stage: stage.Shadow}, backfill: []admin.BackfillStatus{{Migration: "units", State: admin.Done, Rows: 4711}},
		gates: []admin.Gate{{Name: "backfilled", Result: admin.Pass, Have: "yes", Want: "yes"}, {Name: "pairs", Result: admin.Pass, Have: "21000", Want: "20000"}},
		finding: admin.Finding{ID: "f-12", Migration: "units", Comparison: "route/map", Cause: "translation", Class: "value", Place: "/units/*/hp", Why: "hp is divided twice",
			State: "open", Count: 1204, FirstSeen: at, LastSeen: at.Add(time.Hour), Differ: 2, More: true,
			Keys: []admin.DifferingKey{{Key: "match/7", Entity: "unit/42", Path: "/units/3/hp"}},
			Examples: []admin.Example{{At: at, Key: "match/7", Entity: "unit/42", Path: "/units/3/hp", Legacy: json.RawMessage(`97`), Candidate: json.RawMessage("\"4\u009b31m8\""),
				Target: "/api.php?action=map&match=7", Writes: []event.WriteID{{Replica: "a", Epoch: 1, Seq: 7}}}, {At: at, Key: "match/7", Candidate: json.RawMessage(`1`)}}}}
	srv, err := admin.New(admin.Config{Tokens: admin.Tokens{Operator: secret}, Stages: s, Flips: s, Findings: s, Backfill: s, Retranslate: s,
		Status: []admin.Part{{Name: "journal", Read: func(context.Context) (any, error) { return map[string]int{"backlog": 7}, nil }}}})
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(srv.Handler())
	t.Cleanup(web.Close)
	c := &console{s, web.URL, filepath.Join(t.TempDir(), "token")}
	if err := os.WriteFile(c.tokens, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return c
}

// run gives the exit status and what was printed.
func (c *console) run(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	args = append(args, "--admin", c.url, "--token-file", c.tokens)
	status = Report(&errs, Run(t.Context(), args, strings.NewReader(""), &out, &errs))
	return status, out.String(), errs.String()
}

// TestScreens: what people see is reviewed as text.
func TestScreens(t *testing.T) {
	failing := []admin.Gate{{Name: "backfilled", Result: admin.Pass, Have: "yes", Want: "yes"},
		{Name: "pairs", Result: admin.Inconclusive, Have: "12", Want: "20000 or more", Why: "route map was compared 12 times"},
		{Name: "findings", Result: admin.Fail, Have: "1 open", Want: "none", Why: "f-12"}}
	at := time.Date(2026, 11, 20, 14, 3, 11, 0, time.UTC)
	var screens strings.Builder
	for _, s := range []struct {
		name string
		set  func(*system)
		args []string
	}{
		{"stage show", nil, []string{"stage", "show"}},
		{"stage show one", nil, []string{"stage", "show", "economy"}},
		{"stage show of nothing", nil, []string{"stage", "show", "unit"}},
		{"stage history", nil, []string{"stage", "history", "units"}},
		{"flip", nil, []string{"stage", "flip", "units", "live", "--share", "10%", "--include", "match/7", "--reason", "go", "--who", "ada"}},
		{"flip refused by gates", func(s *system) { s.gates = failing }, []string{"stage", "flip", "units", "live", "--share", "10", "--reason", "go"}},
		{"flip refused, as JSON", func(s *system) { s.gates = failing[1:2] }, []string{"stage", "flip", "units", "live", "--share", "10", "--reason", "go", "-o", "json"}},
		{"flip without evidence", func(s *system) { s.gates = nil }, []string{"stage", "flip", "units", "live", "--share", "10", "--reason", "go"}},
		{"flip forced", func(s *system) { s.gates = failing }, []string{"stage", "flip", "units", "live", "--share", "10", "--reason", "go", "--force"}},
		{"flip back", func(s *system) { s.gates = failing }, []string{"stage", "flip", "units", "off", "--reason", "p99 went up"}},
		{"flip by two steps", func(s *system) { s.state.Stage = stage.Off }, []string{"stage", "flip", "units", "shadow", "--reason", "go"}},
		{"flip of nothing", nil, []string{"stage", "flip", "unit", "off", "--reason", "go"}},
		{"flip that one proxy is late for", func(s *system) { s.late = []event.Replica{"b"} }, []string{"stage", "flip", "units", "off", "--reason", "go"}},
		{"dry run", func(s *system) { s.gates = failing }, []string{"stage", "flip", "units", "live", "--share", "10", "--dry-run"}},
		{"flip without a share", nil, []string{"stage", "flip", "units", "live", "--reason", "go"}},
		{"flip with a share that it cannot have", nil, []string{"stage", "flip", "units", "off", "--share", "10", "--reason", "go"}},
		{"flip without a reason", nil, []string{"stage", "flip", "units", "off"}},
		{"flip to a word", nil, []string{"stage", "flip", "units", "lve", "--reason", "go"}},
		{"findings list", nil, []string{"findings", "list"}},
		{"findings list of none", nil, []string{"findings", "list", "--state", "fixed"}},
		{"findings show", nil, []string{"findings", "show", "f-12"}},
		{"findings show of none", nil, []string{"findings", "show", "f-13"}},
		{"findings accept", nil, []string{"findings", "accept", "f-12", "--reason", "known", "--owner", "core", "--expires", "2999-01-31"}},
		{"findings accept for how long", nil, []string{"findings", "accept", "f-12", "--reason", "known", "--owner", "core", "--expires", "soon"}},
		{"findings accept whose", nil, []string{"findings", "accept", "f-12", "--reason", "known", "--expires", "30d"}},
		{"backfill", nil, []string{"backfill", "units"}},
		{"backfill that fails", func(s *system) {
			s.backfill = []admin.BackfillStatus{{Migration: "units", State: admin.Running}, {Migration: "units", State: admin.Failed, Error: "the database is gone"}}
		}, []string{"backfill", "units"}},
		{"retranslate", func(s *system) {
			s.made = []admin.RetranslateStatus{{Migration: "units", State: admin.Running, Phase: "building", From: 1, To: 2}, {Migration: "units", State: admin.Done, Phase: "done", From: 1, To: 2,
				Comparisons: 2, Compared: 2182, Verified: true, Swapped: true, Started: at, Ended: at.Add(3800 * time.Millisecond)}}
		}, []string{"retranslate", "units", "--reason", "mended"}},
		{"retranslate of a mapping that is still wrong", func(s *system) {
			s.made = []admin.RetranslateStatus{{Migration: "units", State: admin.Refused, Phase: "swapping", From: 1, To: 2, Comparisons: 2, Compared: 2182, Different: 84, Unverified: 1,
				Examples: []admin.Example{{Key: "match/7", Entity: "unit/42", Path: "/hp", Legacy: json.RawMessage(`56`), Candidate: json.RawMessage("\"6\u009b31m7\""), Why: "a mapping"}, {Key: "match/7", Entity: "unit/43", Candidate: json.RawMessage(`{}`)}},
				Error:    "generation 2 does not take over: 84 of 2182 rows differ from legacy"}}
		}, []string{"retranslate", "units", "--reason", "mended"}},
		{"retranslate with a key that is parked, as JSON", func(s *system) {
			s.made = []admin.RetranslateStatus{{Migration: "units", State: admin.Refused, Phase: "swapping", From: 1, To: 2, Parked: []admin.ParkedKey{{Key: "match/7", Stage: "project", Reason: "no statement"}}, Error: "1 keys are parked"}}
		}, []string{"retranslate", "units", "--reason", "mended", "-o", "json"}},
		{"retranslate by force", func(s *system) {
			s.made = []admin.RetranslateStatus{{Migration: "units", State: admin.Done, From: 2, To: 4, Comparisons: 2, Compared: 2182, Different: 1, Swapped: true, Forced: true}}
		}, []string{"retranslate", "units", "--reason", "we know", "--force"}},
		{"retranslate without a swap", func(s *system) {
			s.made = []admin.RetranslateStatus{{Migration: "units", State: admin.Done, From: 1, To: 2, Comparisons: 2, Compared: 2182, Verified: true}}
		}, []string{"retranslate", "units", "--reason", "look", "--no-swap"}},
		{"retranslate that one proxy is late for", func(s *system) {
			s.made = []admin.RetranslateStatus{{Migration: "units", State: admin.Done, From: 1, To: 2, Comparisons: 2, Compared: 2182, Verified: true, Swapped: true, Late: "not every proxy has said that it obeys: waiting for b"}}
		}, []string{"retranslate", "units", "--reason", "mended"}},
		{"retranslate abandoned", func(s *system) {
			s.made = []admin.RetranslateStatus{{Migration: "units", State: admin.Done, Phase: "abandoned", From: 1, To: 2}}
		}, []string{"retranslate", "units", "--reason", "another mistake", "--abandon"}},
		{"retranslate of too little", func(s *system) {
			s.made = []admin.RetranslateStatus{{Migration: "units", State: admin.Refused, From: 1, Error: "the recorded stream does not reach back to the last complete import"}}
		}, []string{"retranslate", "units", "--reason", "mended"}},
		{"retranslate without a database", func(s *system) {
			s.made = []admin.RetranslateStatus{{Migration: "units", State: admin.Failed, From: 1, To: 2, Error: "legacy's database is away"}}
		}, []string{"retranslate", "units", "--reason", "mended"}},
		{"retranslate that comes second", func(s *system) { s.lost = fmt.Errorf("%w: somebody else was first", admin.ErrConflict) }, []string{"retranslate", "units", "--reason", "mended"}},
		{"retranslate without a reason", nil, []string{"retranslate", "units"}},
		{"retranslate that cannot decide", nil, []string{"retranslate", "units", "--reason", "x", "--no-swap", "--force"}},
		{"stage show of a build", func(s *system) { s.state.Generations = stage.Generations{Building: 2, Last: 2} }, []string{"stage", "show", "units"}},
		{"stage show after a swap", func(s *system) { s.state.Generations = stage.Generations{Generation: 2, Retiring: 1} }, []string{"stage", "show", "units"}},
		{"status", nil, []string{"status"}},
	} {
		c := newConsole(t)
		if s.set != nil {
			s.set(c.system)
		}
		status, stdout, stderr := c.run(t, s.args...)
		fmt.Fprintf(&screens, "# %s\n$ banyan %s\n%s", s.name, strings.Join(s.args, " "), stdout)
		for line := range strings.Lines(stderr) {
			screens.WriteString("! " + line)
		}
		fmt.Fprintf(&screens, "exit status %d\n\n", status)
	}
	golden(t, "screens.txt", screens.String())
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Fatalf("run with -update if this is meant, and read the diff (-want +got):\n%s", d)
	}
}

func TestFlipIsBoundToWhatWasShown(t *testing.T) {
	c := newConsole(t)
	c.between = func(s *system) { s.state.Version++ }
	status, _, stderr := c.run(t, "stage", "flip", "units", "live", "--share", "10", "--reason", "go")
	if status != 1 || !strings.Contains(stderr, "in between") || len(c.flips) != 0 {
		t.Fatalf("status %d, %q, %d flips", status, stderr, len(c.flips))
	}
}

func TestFlipSaysWhoAndWhy(t *testing.T) {
	c := newConsole(t)
	if status, _, stderr := c.run(t, "stage", "flip", "units", "live", "--share", "12.5", "--exclude", "match/9", "--reason", " first ", "--who", "ada"); status != 0 {
		t.Fatal(stderr)
	}
	f := c.flips[0]
	want := stage.State{Stage: stage.Live, Share: stage.Share{Percent: 12.5, Exclude: []event.OrderingKey{"match/9"}}}
	if f.Who != "ada" || f.Reason != "first" || f.Forced || !cmp.Equal(f.To, want) {
		t.Fatalf("%+v", f)
	}
}

func TestAnswersOfOthers(t *testing.T) {
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		status int
		want   string
	}{
		"another token":    {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) }, 2, "does not know this token"},
		"another server":   {func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("<html>")) }, 3, "does not speak like"},
		"a page of errors": {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", http.StatusBadGateway) }, 3, "is that banyan's admin API?"},
		"not found at all": {http.NotFound, 2, "is that banyan's admin API?"},
		"a redirect": {func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/elsewhere" {
				panic("the token went elsewhere")
			}
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		}, 2, "is that banyan's admin API?"},
		"another role": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(501)
			w.Write([]byte(`{"error": "stages are served by the proxy role"}`))
		}, 2, "by the proxy role"},
		"Kafka is down": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(503)
			w.Write([]byte(`{"error": "Kafka does not answer"}`))
		}, 3, "Kafka does not answer"},
	} {
		t.Run(name, func(t *testing.T) {
			web := httptest.NewServer(c.answer)
			defer web.Close()
			con := newConsole(t)
			con.url = web.URL
			status, stdout, stderr := con.run(t, "stage", "show")
			if status != c.status || stdout != "" || !strings.Contains(stderr, c.want) {
				t.Fatalf("status %d, stdout %q, stderr %q; want %d, %q", status, stdout, stderr, c.status, c.want)
			}
		})
	}
}

// TestAccessFromTheConfiguration: on the proxy's machine `-c` is all that is needed, and none of the other secrets.
func TestAccessFromTheConfiguration(t *testing.T) {
	c := newConsole(t)
	addr := strings.TrimPrefix(c.url, "http://")
	dir := t.TempDir()
	file := filepath.Join(dir, "banyan.yaml")
	write := func(proxy string) {
		t.Helper()
		if err := os.WriteFile(file, []byte("version: 1\nproxy: "+proxy+"\nupstreams: { legacy: { http: \"${NOT_SET}\" } }\nledger: { postgres: \"${file:/not/there}\" }\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	show := func() (int, string) {
		var out, errs bytes.Buffer
		status := Report(&errs, Run(t.Context(), []string{"stage", "show", "-c", file}, strings.NewReader(""), &out, &errs))
		return status, errs.String()
	}
	t.Setenv("BANYAN_ADMIN", "")
	t.Setenv("BANYAN_TOKEN", "")
	t.Setenv("ADMIN_TOKEN", secret)
	write(fmt.Sprintf("{ admin: %q, token: \"${ADMIN_TOKEN}\" }", addr))
	if status, stderr := show(); status != 0 {
		t.Errorf("token in the configuration: %d %s", status, stderr)
	}
	write(fmt.Sprintf("{ admin: %q, token: \"${NO_SUCH_TOKEN}\" }", addr))
	if status, stderr := show(); status != 2 || !strings.Contains(stderr, "NO_SUCH_TOKEN is not set; or give --admin and --token-file") {
		t.Errorf("token that is not there: %d %s", status, stderr)
	}
	write(fmt.Sprintf("{ admin: %q, journal: { dir: state } }", addr))
	if status, stderr := show(); status != 2 || !strings.Contains(stderr, "makes it at its first start") {
		t.Errorf("token file that is not there: %d %s", status, stderr)
	}
	f, err := partOf(file, []byte("proxy: { journal: { dir: state } }"), false, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(role.TokenDir(f), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(role.TokenDir(f), admin.OperatorFile), []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, stderr := show(); status != 0 {
		t.Errorf("token file beside the journal: %d %s", status, stderr)
	}
	t.Setenv("BANYAN_TOKEN", secret)
	t.Setenv("BANYAN_ADMIN", c.url)
	write("{ admin: \"127.0.0.1:1\" }")
	if status, stderr := show(); status != 0 {
		t.Errorf("both from the environment: %d %s", status, stderr)
	}
}

func TestBaseURL(t *testing.T) {
	for in, want := range map[string]string{"127.0.0.1:9901": "http://127.0.0.1:9901", ":9901": "http://127.0.0.1:9901", "0.0.0.0:9901": "http://127.0.0.1:9901",
		"[::]:9901": "http://127.0.0.1:9901", "https://ops.test/": "https://ops.test", "ops:9901": "http://ops:9901", "9901": "", "ftp://a:1": ""} {
		if got, err := baseURL(in); got != want || (err != nil) != (want == "") {
			t.Errorf("%s: %q %v; want %q", in, got, err, want)
		}
	}
}

func TestExpiry(t *testing.T) {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	for in, want := range map[string]time.Time{"30d": now.Add(30 * 24 * time.Hour), "12h": now.Add(12 * time.Hour), "2027-01-31": time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC),
		"2026-01-31": {}, "0d": {}, "-1h": {}, "": {}, "d": {}, "99999999d": {}} {
		if got, err := expiry(in, now); (err != nil) != want.IsZero() || err == nil && !got.Equal(want) {
			t.Errorf("%q: %v %v; want %v", in, got, err, want)
		}
	}
}

func TestCheck(t *testing.T) {
	file := filepath.Join(t.TempDir(), "banyan.yaml")
	if err := os.WriteFile(file, []byte("version: 1\nupstreams: { legacy: { http: \"http://127.0.0.1:80\" } }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	if status := Report(&errs, Run(t.Context(), []string{"check", "-c", file}, nil, &out, &errs)); status != 0 || !strings.Contains(out.String(), "is fine: 0 migrations") {
		t.Fatalf("%d %s%s", status, &out, &errs)
	}
}
