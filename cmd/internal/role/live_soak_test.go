//go:build soak

package role

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"banyan/cmd/internal/play"
	"banyan/proxy/admin"
	"banyan/proxy/event"
	"banyan/proxy/stage"
	"banyan/testdata/game"
)

// startService runs the example service as a process of its own.
func (w *world) startService(more ...string) {
	w.t.Helper()
	<-w.shadow.topics
	bin := filepath.Join(w.t.TempDir(), "gameservice")
	if out, err := exec.Command("go", "build", "-o", bin, "banyan/cmd/gameservice").CombinedOutput(); err != nil {
		w.t.Fatalf("build gameservice: %v\n%s", err, out)
	}
	addr := w.env["GAMESERVICE_HTTP"][len("http://"):]
	cmd := exec.Command(bin, append([]string{"-listen", addr, "-kafka", w.env["KAFKA"], "-kafka-prefix", w.env["KAFKA_PREFIX"], "-kafka-partitions", "6",
		"-read-model", w.env["READ_DSN"], "-sql", filepath.Join(game.Dir(), "sql"), "-redis", w.env["REDIS_URL"]}, more...)...)
	log := &lastLines{t: w.t}
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
}

type lastLines struct{ t *testing.T }

func (l *lastLines) Write(b []byte) (int, error) {
	if testing.Verbose() {
		l.t.Logf("gameservice: %s", b)
	}
	return len(b), nil
}

// process starts the world as `banyan serve` does, admin listener and all.
func (w *world) process() *Process {
	w.t.Helper()
	p, err := Start(w.t.Context(), w.f, Roles{Proxy: true, Shadow: true}, Options{Log: quiet(w.t)}, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := p.Stop(ctx); err != nil {
			w.t.Error(err)
		}
	})
	w.proxy, w.shadow = p.Proxy, p.Shadow
	return p
}

// flipTo asks as an operator does; forced, because a test's evidence is seconds old.
func (w *world) flipTo(p *Process, m event.Migration, to stage.State) admin.Flipped {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	plan, err := p.Ops.Plan(ctx, m, to)
	if err != nil {
		w.t.Fatal(err)
	}
	f, err := p.Ops.Flip(ctx, admin.Flip{Plan: plan, Who: "test", Reason: "test", Forced: true})
	if err != nil {
		w.t.Fatal(err)
	}
	return f
}

// With players, cron and a correct mapping, shadow finds nothing; at live the candidate answers, nobody misses an own
// move, and a rollback gives all reads back to legacy.
func TestSoakShadowThenLiveThenBack(t *testing.T) {
	shadowThenLiveThenBack(t, newWorld(t, game.Size{Matches: 4, Players: 8, Provinces: 16, Units: 60}))
}

// The same with no web server before php-fpm: recorded writes, reads, and the copies of reads that legacy gets at live.
func TestSoakShadowThenLiveThenBackOverFastCGI(t *testing.T) {
	w := newWorld(t, game.Size{Matches: 4, Players: 8, Provinces: 16, Units: 60})
	w.withoutWebServer()
	shadowThenLiveThenBack(t, w)
}

func shadowThenLiveThenBack(t *testing.T, w *world) {
	t.Helper()
	p := w.process()
	w.startService()
	w.flipTo(p, "units", stage.State{Stage: stage.DualWrite})
	if err := w.shadow.Backfill(t.Context(), "units", false, nil); err != nil {
		t.Fatal(err)
	}
	w.flipTo(p, "units", stage.State{Stage: stage.Shadow})
	c := play.Config{Players: 16, Matches: 4, Requests: 2500, Seed: 2}
	if got := w.play(c).Totals(); got.Errors != 0 || got.Missed != 0 {
		t.Fatalf("players noticed: %+v", got)
	}
	w.caughtUp("units")
	w.evidence(p, 100)
	w.noFinding(p)

	f := w.flipTo(p, "units", stage.State{Stage: stage.Live, Share: stage.Share{Percent: 100, Exclude: []event.OrderingKey{"match/2", "match/3"}}})
	if len(f.Obeyed) != 1 || len(f.Late) != 0 || f.TookMS > 1000 {
		t.Errorf("obeyed by %v, late %v, after %d ms; want one proxy within a second", f.Obeyed, f.Late, f.TookMS)
	}
	c.Requests, c.Seed = 4000, 3
	got := w.play(c).Totals()
	if got.Errors != 0 || got.Missed != 0 {
		t.Fatalf("players noticed: %d errors, %d missed own writes: %v", got.Errors, got.Missed, got.Examples)
	}
	byCandidate, fell := 0, uint64(0)
	for _, r := range got.Rows {
		if r.ServedBy == "candidate" {
			byCandidate += r.Count
		}
	}
	for _, ty := range w.proxy.Pairs.Tallies() {
		fell += ty.ByLegacy
	}
	t.Logf("live for half of the matches: %d reads by the candidate, %d in the share that legacy had to answer; %d went back in time", byCandidate, fell, got.Back)
	if byCandidate == 0 {
		t.Error("the candidate answered nothing")
	}
	w.flipTo(p, "units", stage.State{Stage: stage.Off})
	c.Requests = 300
	for _, r := range w.play(c).Totals().Rows {
		if r.ServedBy == "candidate" {
			t.Errorf("after the rollback the candidate answered %d %s", r.Count, r.Endpoint)
		}
	}
}

func (w *world) noFinding(p *Process) {
	w.t.Helper()
	findings, err := p.Ops.Findings(w.t.Context(), "units", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range findings {
		full, err := p.Ops.Finding(w.t.Context(), f.ID)
		if err != nil {
			w.t.Fatal(err)
		}
		w.t.Errorf("finding %s (%s) %s %s %s: %s", f.ID, f.State, f.Comparison, f.Cause, f.Place, f.Why)
		for _, e := range full.Examples {
			w.t.Logf("  %s %s %s: legacy %s, candidate %s, %s to %s, writes %v, pair %s", e.Key, e.Entity, e.Path, e.Legacy, e.Candidate, e.Low, e.High, e.Writes, e.Pair)
		}
	}
}

// evidence waits until so many pairs were judged and every row was swept once.
func (w *world) evidence(p *Process, pairs int64) {
	w.t.Helper()
	deadline := time.Now().Add(40 * time.Second)
	for {
		e, err := w.shadow.Ledger().Evidence(w.t.Context(), "units")
		if err != nil {
			w.t.Fatal(err)
		}
		var judged, swept, undecided int64
		state := ""
		for _, c := range e.Comparisons {
			if c.Comparison.IsRoute() {
				judged += c.Judged
				for _, n := range c.Undecided {
					undecided += n
				}
			} else if c.Sweep != nil {
				swept++
			}
			state += fmt.Sprintf("%s: judged %d, equal %d, tolerated %d, different %d, undecided %v, dropped %v, swept %v\n", c.Comparison, c.Judged, c.Equal, c.Tolerated, c.Different, c.Undecided, c.Dropped, c.Sweep != nil)
		}
		if judged >= pairs && swept == 2 {
			w.t.Logf("%d pairs judged, %d undecided\n%s", judged, undecided, state)
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("after 60 s %d pairs judged (want %d), %d of 2 sweeps done\n%s\n%s", judged, pairs, swept, state, w.state("units"))
		}
		time.Sleep(time.Second) // the ledger has no signal; this is the operator's own way to look
	}
}
