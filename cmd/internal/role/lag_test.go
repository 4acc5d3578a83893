package role

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"banyan/cmd/internal/play"
	"banyan/proxy/stage"
	"banyan/testdata/game"
)

// lagging is a world at stage shadow whose read models lag as long as they are told to.
type lagging struct {
	*world
	p     *Process
	by    atomic.Int64
	plant int // the unit that is spoilt next
	known []string
}

func newLagging(t *testing.T, size game.Size, sweepEvery time.Duration) *lagging {
	l := &lagging{world: newWorld(t, size)}
	for i := range l.f.Migrations["units"].State {
		l.f.Migrations["units"].State[i].Sweep.Every = sweepEvery
	}
	l.lag = func() time.Duration { return time.Duration(l.by.Load()) }
	l.p = l.process()
	l.startService()
	l.flipTo(l.p, "units", stage.State{Stage: stage.DualWrite})
	if err := l.shadow.Backfill(t.Context(), "units", false, nil); err != nil {
		t.Fatal(err)
	}
	l.flipTo(l.p, "units", stage.State{Stage: stage.Shadow})
	return l
}

// proves lets players play beside cron while the read model lags. Nobody notices anything, lag and races are no finding,
// few pairs are undecided, every row is verified, and a defect that is planted meanwhile is found.
func (l *lagging) proves(lag time.Duration, c play.Config, within time.Duration) {
	t := l.t
	t.Helper()
	l.by.Store(int64(lag))
	before, since := l.sums(), time.Now()
	got := l.play(c).Totals()
	if got.Errors != 0 || got.Missed != 0 {
		t.Fatalf("lag %s: players noticed %d errors, %d missed writes: %v", lag, got.Errors, got.Missed, got.Examples)
	}
	s := l.evidence(before.judged+20, since, within)
	share := s.share(before)
	t.Logf("lag %s: %d requests, %d writes done; %.1f %% of the pairs undecided", lag, got.Requests, got.Done, 100*share)
	if share > 0.2 {
		t.Errorf("lag %s: %.1f %% of the pairs are undecided", lag, 100*share)
	}
	l.noFinding(l.p, l.known...)
	l.plant++
	var unit int
	if err := l.legacy.QueryRowContext(t.Context(), "SELECT id FROM units ORDER BY id LIMIT 1 OFFSET ?", l.plant).Scan(&unit); err != nil {
		t.Fatal(err)
	}
	l.inModel(fmt.Sprintf("units set strength = strength + 1000 where id = %d", unit))
	l.known = append(l.known, fmt.Sprintf("unit/%d /strength", unit))
	l.found(l.p, unitOf(unit), "/strength", within)
	l.noFinding(l.p, l.known...)
}

func TestLagIsNoFindingAndADefectIs(t *testing.T) {
	l := newLagging(t, game.Size{Matches: 2, Players: 8, Provinces: 16, Units: 40}, 5*time.Second)
	l.proves(time.Second, play.Config{Players: 16, Matches: 2, Rate: 20, Requests: 200, Seed: 7, Timeout: time.Minute}, 3*time.Minute)
}
