package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"banyan/proxy/capture"
	"banyan/proxy/event"
	"banyan/shadow/explain"
	"banyan/testdata/lab"

	"github.com/jackc/pgx/v5"
)

// clock is set by the test.
type clock struct{ t time.Time }

func (c *clock) now() time.Time              { return c.t }
func (c *clock) tick(d time.Duration) *clock { c.t = c.t.Add(d); return c }

func open(t *testing.T, cfg Config) (*Ledger, *clock) {
	t.Helper()
	c := &clock{time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	if cfg.URL == "" {
		cfg.URL = lab.Postgres(t).Database(t)
	}
	cfg.Now = c.now
	l, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	if _, err := l.SetFingerprint(t.Context(), "units", "fp1"); err != nil {
		t.Fatal(err)
	}
	return l, c
}

func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func (l *Ledger) mustCommit(t *testing.T, b Batch) {
	t.Helper()
	if b.Migration == "" {
		b.Migration = "units"
	}
	if b.Fingerprint == "" {
		b.Fingerprint = "fp1"
	}
	if err := l.Commit(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
}

func sighting(cause explain.Cause, entity event.Entity) Found {
	return Found{Comparison: State("unit"), Cause: cause, Class: "value", Place: "/hp",
		Example: Example{Key: "match/7", Entity: entity, Path: "/hp", Legacy: json.RawMessage(`97`), Candidate: json.RawMessage(`100`),
			Why: "write a.1.5 set hp to 97, the model lacks it", Writes: []event.WriteID{{Replica: "a", Epoch: 1, Seq: 5}}, Low: 10, High: 12}}
}

func (l *Ledger) openKeys(t *testing.T) []OpenKey {
	t.Helper()
	return must(l.OpenKeys(t.Context(), "units", State("unit"), 100))(t)
}

func (l *Ledger) finding(t *testing.T, id string) *Finding {
	t.Helper()
	return must(l.Finding(t.Context(), id))(t)
}

func TestFindingLives(t *testing.T) {
	l, c := open(t, Config{})
	l.mustCommit(t, Batch{Found: []Found{sighting(explain.MissingWrite, "unit/1"), sighting(explain.MissingWrite, "unit/2")}})
	f := l.finding(t, "f-1")
	if f.State != StateOpen || f.Count != 2 || f.Differ != 2 || len(f.Examples) != 2 || f.Examples[0].Writes[0].Seq != 5 || string(f.Examples[0].Legacy) != "97" {
		t.Fatalf("%+v", f)
	}
	keys := l.openKeys(t)
	c.tick(time.Second)
	l.mustCommit(t, Batch{Verified: keys[:1]})
	if f = l.finding(t, "f-1"); f.State != StateOpen || f.Differ != 1 {
		t.Fatalf("one of two places was verified: %+v", f)
	}
	l.mustCommit(t, Batch{Verified: keys[1:]})
	if f = l.finding(t, "f-1"); f.State != StateFixed || f.FixedAt == nil {
		t.Fatalf("both places were verified: %+v", f)
	}
	c.tick(time.Second)
	l.mustCommit(t, Batch{Found: []Found{sighting(explain.MissingWrite, "unit/2")}})
	if f = l.finding(t, "f-1"); f.State != StateReopened || f.Differ != 1 || f.Count != 3 {
		t.Fatalf("it came back: %+v", f)
	}
}

func TestSeenAgainIsNotVerifiedByAnOlderLook(t *testing.T) {
	l, c := open(t, Config{})
	l.mustCommit(t, Batch{Found: []Found{sighting(explain.MissingWrite, "unit/1")}})
	old := l.openKeys(t)
	c.tick(time.Second)
	l.mustCommit(t, Batch{Found: []Found{sighting(explain.MissingWrite, "unit/1")}})
	l.mustCommit(t, Batch{Verified: old})
	if f := l.finding(t, "f-1"); f.State != StateOpen {
		t.Fatalf("%+v", f)
	}
}

func TestAcceptanceExpires(t *testing.T) {
	l, c := open(t, Config{})
	l.mustCommit(t, Batch{Found: []Found{sighting(explain.LostUpdate, "unit/1")}})
	a := Acceptance{Reason: "legacy's own race", Owner: "squad units", Expires: c.now().Add(time.Hour)}
	for _, bad := range []Acceptance{{}, {Reason: "r", Owner: "o", Expires: c.now()}, {Owner: "o", Expires: a.Expires}, {Reason: "r", Expires: a.Expires}} {
		if l.Accept(t.Context(), "f-1", bad) == nil {
			t.Errorf("accepted %+v", bad)
		}
	}
	if err := l.Accept(t.Context(), "f-1", a); err != nil {
		t.Fatal(err)
	}
	seen := Batch{Found: []Found{sighting(explain.LostUpdate, "unit/1")}, Seen: []Seen{{State("unit"), []byte("s"), 5, []int{0}}}}
	l.mustCommit(t, seen)
	if f := l.finding(t, "f-1"); f.State != StateAccepted || f.Acceptance.Owner != "squad units" {
		t.Fatalf("%+v", f)
	}
	if e := must(l.Evidence(t.Context(), "units"))(t); e.Comparisons[0].DistinctAccepted != 1 || e.Comparisons[0].DistinctDifferent != 0 {
		t.Fatalf("%+v", e.Comparisons)
	}
	c.tick(2 * time.Hour)
	if f := l.finding(t, "f-1"); f.State != StateOpen {
		t.Fatalf("an expired acceptance still holds: %+v", f)
	}
	if !errors.Is(l.Accept(t.Context(), "f-99", Acceptance{Reason: "r", Owner: "o", Expires: c.now().Add(1)}), ErrNotFound) || !errors.Is(l.Accept(t.Context(), "x", a), ErrNotFound) {
		t.Error("accepted what is not there")
	}
}

func TestUnknownDoesNotDisplaceAKnownCause(t *testing.T) {
	l, _ := open(t, Config{})
	l.mustCommit(t, Batch{Found: []Found{sighting(explain.DarkWrite, "unit/1")}})
	l.mustCommit(t, Batch{Found: []Found{sighting(explain.Unknown, "unit/1")}})
	fs := must(l.Findings(t.Context(), "units"))(t)
	if len(fs) != 1 || fs[0].Count != 2 || fs[0].Cause != explain.DarkWrite {
		t.Fatalf("%+v", fs)
	}
	l.mustCommit(t, Batch{Found: []Found{sighting(explain.Unknown, "unit/2")}})
	if fs = must(l.Findings(t.Context(), "units", StateOpen))(t); len(fs) != 2 {
		t.Fatalf("another place has a finding of its own: %+v", fs)
	}
}

func TestExamplesAreTheFirstAndTheNewest(t *testing.T) {
	l, c := open(t, Config{Examples: 3})
	for i := range 10 {
		f := sighting(explain.MissingWrite, event.Entity(fmt.Sprint("unit/", i)))
		f.Example.Candidate = json.RawMessage(`"\u0000\ud800` + strings.Repeat("x", 40<<10) + `"`)
		l.mustCommit(t, Batch{At: c.tick(time.Second).now(), Found: []Found{f}})
	}
	var got []string
	for _, e := range l.finding(t, "f-1").Examples {
		got = append(got, string(e.Entity))
		if len(e.Candidate) > maxValue {
			t.Errorf("an example of %d bytes", len(e.Candidate))
		}
	}
	if fmt.Sprint(got) != "[unit/0 unit/7 unit/8 unit/9]" {
		t.Fatal(got)
	}
}

func TestOverflowNeedsASweep(t *testing.T) {
	l, c := open(t, Config{MaxKeys: 1})
	l.mustCommit(t, Batch{Found: []Found{sighting(explain.MissingWrite, "unit/1"), sighting(explain.MissingWrite, "unit/2")}})
	before := c.now().Add(-time.Second)
	c.tick(time.Second)
	l.mustCommit(t, Batch{Verified: l.openKeys(t)})
	if f := l.finding(t, "f-1"); f.State != StateOpen || !f.More || f.Differ != 0 {
		t.Fatalf("%+v", f)
	}
	sweep := Sweep{Comparison: State("unit"), Started: before, Done: true}
	l.mustCommit(t, Batch{Sweeps: []Sweep{sweep}})
	if f := l.finding(t, "f-1"); f.State != StateOpen {
		t.Fatalf("a sweep that began before the sighting closed it: %+v", f)
	}
	sweep.Started = c.now()
	l.mustCommit(t, Batch{Sweeps: []Sweep{sweep}})
	if f := l.finding(t, "f-1"); f.State != StateFixed {
		t.Fatalf("%+v", f)
	}
}

func TestCommitIsAllOrNothing(t *testing.T) {
	l, _ := open(t, Config{})
	count := []Count{{Route("map"), Judged, "", 1}, {Route("map"), Undecided, "lag", 2}, {Route("map"), Judged, "", 3}}
	l.mustCommit(t, Batch{Counts: count, Checkpoint: &Checkpoint{"compare/0", []byte("one"), 0}})
	stale := Batch{Migration: "units", Fingerprint: "fp1", Counts: count, Found: []Found{sighting(explain.MissingWrite, "unit/1")},
		Checkpoint: &Checkpoint{"compare/0", []byte("two"), 0}}
	if err := l.Commit(t.Context(), &stale); !errors.Is(err, ErrFenced) {
		t.Fatal(err)
	}
	state, revision, err := l.Checkpoint(t.Context(), "compare/0")
	if string(state) != "one" || revision != 1 || err != nil {
		t.Fatalf("%s %d %v", state, revision, err)
	}
	e := must(l.Evidence(t.Context(), "units"))(t)
	if c := e.Comparisons[0]; c.Judged != 4 || c.Undecided["lag"] != 2 || len(e.Findings) != 0 {
		t.Fatalf("%+v", e)
	}
	for _, expect := range []int64{2, -1} {
		stale.Checkpoint.Expect = expect
		if err := l.Commit(t.Context(), &stale); !errors.Is(err, ErrFenced) {
			t.Fatal(expect, err)
		}
	}
	stale.Checkpoint.Expect = 1
	if err := l.Commit(t.Context(), &stale); err != nil {
		t.Fatal(err)
	}
}

func TestCheckpoints(t *testing.T) {
	l, _ := open(t, Config{})
	if b, err := l.Load(t.Context(), "x"); b != nil || err != nil {
		t.Fatal(b, err)
	}
	for _, s := range []string{"a", "b"} {
		if err := l.Save(t.Context(), "x", []byte(s)); err != nil {
			t.Fatal(err)
		}
		if b, err := l.Load(t.Context(), "x"); string(b) != s || err != nil {
			t.Fatal(b, err)
		}
	}
}

func TestDistinctPairs(t *testing.T) {
	l, _ := open(t, Config{})
	see := func(want string, seen ...Seen) {
		t.Helper()
		l.mustCommit(t, Batch{Seen: seen, Found: []Found{sighting(explain.Unknown, "unit/1")}})
		c := must(l.Evidence(t.Context(), "units"))(t).Comparisons[0]
		if got := fmt.Sprint(c.DistinctDifferent, " of ", c.Distinct); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
	a := []byte("match=7")
	see("0 of 1", Seen{Route("map"), a, 5, nil}, Seen{Route("map"), a, 5, nil})
	see("0 of 1", Seen{Route("map"), a, 5, nil})
	see("0 of 2", Seen{Route("map"), []byte("match=8"), 5, nil})
	see("1 of 2", Seen{Route("map"), a, 5, []int{0}})
	see("1 of 2", Seen{Route("map"), a, 5, nil}, Seen{Route("map"), a, 5, []int{0}}, Seen{Route("map"), a, 4, []int{0}})
	see("1 of 3", Seen{Route("map"), a, 6, nil})
	see("2 of 4", Seen{Route("map"), a, 7, []int{0}})
}

func TestFingerprintRestartsEvidence(t *testing.T) {
	l, _ := open(t, Config{})
	l.mustCommit(t, Batch{Counts: []Count{{Route("map"), Judged, "", 5}}, Found: []Found{sighting(explain.Translation, "unit/1")},
		Sweeps: []Sweep{{Comparison: State("unit"), Done: true, Verified: 9}}})
	if again := must(l.SetFingerprint(t.Context(), "units", "fp1"))(t); again {
		t.Fatal("the same fingerprint restarted it")
	}
	if e := must(l.Evidence(t.Context(), "units"))(t); len(e.Comparisons) != 2 || e.Comparisons[1].Sweep.Verified != 9 {
		t.Fatalf("%+v", e.Comparisons)
	}
	if again := must(l.SetFingerprint(t.Context(), "units", "fp2"))(t); !again {
		t.Fatal("another fingerprint did not restart it")
	}
	e := must(l.Evidence(t.Context(), "units"))(t)
	if len(e.Comparisons) != 0 || len(e.Findings) != 1 {
		t.Fatalf("%+v", e)
	}
	l.mustCommit(t, Batch{Fingerprint: "fp2", Sweeps: []Sweep{{Comparison: State("unit"), Started: e.Since, Verified: 1}}})
	if e := must(l.Evidence(t.Context(), "units"))(t); e.Comparisons[0].Sweep != nil {
		t.Fatalf("a sweep of another fingerprint counts: %+v", e.Comparisons[0].Sweep)
	}
}

func TestTalliesCountOnce(t *testing.T) {
	l, c := open(t, Config{})
	tally := func(n, asked, equal uint64, fingerprint string, buckets ...uint64) *capture.Tally {
		return &capture.Tally{V: 1, N: n, Replica: "a", Epoch: 1, Migration: "units", Route: "map", Asked: asked, Equal: equal, Sent: asked - equal - 1,
			Dropped: map[string]uint64{"busy": 1}, Fingerprint: fingerprint, At: c.now(),
			Latency: []capture.Latency{{Served: capture.Legacy, Bounds: []int64{1000, 2000}, Buckets: buckets}}}
	}
	l.mustCommit(t, Batch{Tallies: []*capture.Tally{tally(1, 10, 4, "fp1", 1, 2, 3), tally(3, 20, 8, "fp1", 2, 4, 6), tally(2, 15, 6, "fp1", 1, 2, 3)}})
	if a := must(l.Evidence(t.Context(), "units"))(t).Comparisons[0].Asked; a.Asked != 20 {
		t.Fatalf("an older tally won: %+v", a)
	}
	l.mustCommit(t, Batch{Tallies: []*capture.Tally{tally(3, 20, 8, "fp1", 2, 4, 6)}})
	a := must(l.Evidence(t.Context(), "units"))(t).Comparisons[0].Asked
	if a.Asked != 20 || a.ByteEqual != 8 || a.Dropped["busy"] != 1 || a.Latency[capture.Legacy].N() != 12 {
		t.Fatalf("%+v", a)
	}
	must(l.SetFingerprint(t.Context(), "units", "fp2"))(t)
	l.mustCommit(t, Batch{Tallies: []*capture.Tally{tally(4, 23, 9, "fp2", 3, 4, 6)}})
	l.mustCommit(t, Batch{Tallies: []*capture.Tally{tally(5, 24, 9, "fp2", 4, 4, 6)}})
	a = must(l.Evidence(t.Context(), "units"))(t).Comparisons[0].Asked
	if a.Asked != 4 || a.ByteEqual != 1 || a.Dropped["busy"] != 0 || a.Latency[capture.Legacy].N() != 2 {
		t.Fatalf("what was counted under the old fingerprint counts again: %+v", a)
	}
}

// A proxy that is reloaded to another config, and back, counts each by itself; a generation's number is taken off within
// its config alone.
func TestTalliesOfReloadedConfigs(t *testing.T) {
	l, c := open(t, Config{})
	tally := func(n, asked uint64, config, generation string) Batch {
		return Batch{Tallies: []*capture.Tally{{V: 1, N: n, Replica: "a", Epoch: 1, Migration: "units", Route: "map", Asked: asked, Equal: asked,
			Fingerprint: config + generation, Config: config, At: c.now()}}}
	}
	l.mustCommit(t, tally(1, 10, "fp1", ""))
	l.mustCommit(t, tally(2, 7, "fp2", "")) // the first that arrives
	l.mustCommit(t, tally(3, 15, "fp1", ""))
	l.mustCommit(t, tally(9, 12, "fp2", "-g2"))
	for fingerprint, want := range map[string]uint64{"fp1": 15, "fp2": 7, "fp2-g2": 5} {
		must(l.SetFingerprint(t.Context(), "units", fingerprint))(t)
		if a := must(l.Evidence(t.Context(), "units"))(t).Comparisons[0].Asked; a.Asked != want {
			t.Errorf("%s: asked %d, want %d", fingerprint, a.Asked, want)
		}
	}
}

func TestSourcesGapsProjections(t *testing.T) {
	l, c := open(t, Config{})
	l.mustCommit(t, Batch{Sources: []Source{{"units", "hp", 1, 0, 5}, {"units", "hp", 2, 1, 9}, {"players", "views", 7, 0, 8}}})
	if err := l.Declare(t.Context(), "units", []Declared{{"players", "", OutOfScope}}); err != nil {
		t.Fatal(err)
	}
	ss := must(l.Sources(t.Context(), "units"))(t)
	if len(ss) != 2 || ss[0].Naming != OutOfScope || ss[1].Dark != 3 || ss[1].Unattributed != 1 || ss[1].Position != 9 || ss[1].Naming != "" {
		t.Fatalf("%+v", ss)
	}
	g := Gap{ID: "a.1", Replica: "a", Reason: "quota", Opened: c.now(), Writes: 3}
	for range 2 {
		if err := l.PutGap(t.Context(), "units", g); err != nil {
			t.Fatal(err)
		}
	}
	g.Repaired = new(c.now())
	if err := l.PutGap(t.Context(), "units", g); err != nil {
		t.Fatal(err)
	}
	if gs := must(l.Gaps(t.Context(), "units"))(t); len(gs) != 1 || gs[0].Repaired == nil || gs[0].Writes != 3 {
		t.Fatalf("%+v", gs)
	}
	ps := []Projection{{Generation: 1, Partition: 0, State: "running", Position: 7, At: c.now()}}
	if err := l.PutProjections(t.Context(), "units", ps); err != nil {
		t.Fatal(err)
	}
	if got := must(l.Projections(t.Context(), "units"))(t); len(got) != 1 || got[0].Position != 7 {
		t.Fatalf("%+v", got)
	}
}

func TestSweepGoesOn(t *testing.T) {
	l, c := open(t, Config{})
	s := Sweep{Comparison: State("unit"), Started: c.now(), From: 3, Position: 5, Cursor: []byte("42"), Verified: 10, Keys: []string{"unit/9"}, Unverified: 1}
	l.mustCommit(t, Batch{Sweeps: []Sweep{s}})
	got := must(l.Sweep(t.Context(), "units", State("unit"), "fp1"))(t)
	if got.Done || string(got.Cursor) != "42" || got.Verified != 10 || got.From != 3 || got.Keys[0] != "unit/9" {
		t.Fatalf("%+v", got)
	}
	s.Done = true
	l.mustCommit(t, Batch{At: c.tick(time.Second).now(), Sweeps: []Sweep{s}})
	if got := must(l.Sweep(t.Context(), "units", State("unit"), "fp1"))(t); !got.Done || got.Complete() {
		t.Fatalf("%+v", got)
	}
	next := Sweep{Comparison: State("unit"), Started: c.tick(time.Minute).now()}
	l.mustCommit(t, Batch{Sweeps: []Sweep{next}})
	if got := must(l.Sweep(t.Context(), "units", State("unit"), "fp1"))(t); got.Done {
		t.Fatalf("the next sweep is not done: %+v", got)
	}
	if e := must(l.Evidence(t.Context(), "units"))(t); e.Comparisons[0].Sweep.Verified != 10 {
		t.Fatalf("the finished sweep is evidence while the next runs: %+v", e.Comparisons[0].Sweep)
	}
}

func TestSchemaOpensTwiceAndRefusesANewerOne(t *testing.T) {
	url := lab.Postgres(t).Database(t)
	l, _ := open(t, Config{URL: url})
	open(t, Config{URL: url})
	if _, err := l.pool.Exec(t.Context(), `insert into meta values (3, 2)`); err != nil {
		t.Fatal(err)
	}
	if l, err := Open(t.Context(), Config{URL: url}); err == nil || !strings.Contains(err.Error(), "update this one") {
		if l != nil {
			l.Close()
		}
		t.Fatal(err)
	}
	conn := must(pgx.Connect(t.Context(), url))(t)
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), `update banyan_ledger.meta set reads = 1`); err != nil {
		t.Fatal(err)
	}
	open(t, Config{URL: url}) // a newer schema that says this build may use it
}
