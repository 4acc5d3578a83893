//go:build soak

package role

import (
	"testing"
	"time"

	"banyan/cmd/internal/play"
	"banyan/proxy/event"
	"banyan/proxy/stage"
	"banyan/testdata/game"
)

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
	for i := range w.f.Migrations["units"].Reads { // on a busy machine the read model is further behind than a game would wait for
		w.f.Migrations["units"].Reads[i].Wait = 2 * time.Second
	}
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
	w.evidence(100, time.Time{}, time.Minute)
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
	byCandidate, fell, why := 0, uint64(0), map[string]uint64{}
	for _, r := range got.Rows {
		if r.ServedBy == "candidate" {
			byCandidate += r.Count
		}
	}
	for _, ty := range w.proxy.Pairs.Tallies() {
		fell += ty.ByLegacy
		for reason, n := range ty.FellBack {
			why[reason] += n
		}
	}
	t.Logf("live for half of the matches: %d reads by the candidate, %d in the share that legacy had to answer %v; %d went back in time %v", byCandidate, fell, why, got.Back, got.Examples)
	if got.Back != 0 {
		t.Errorf("%d reads went back in what others did: %v", got.Back, got.Examples)
	}
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
