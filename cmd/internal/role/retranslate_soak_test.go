//go:build soak

package role

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"banyan/cmd/internal/play"
	"banyan/proxy/admin"
	"banyan/proxy/event"
	"banyan/proxy/stage"
	"banyan/testdata/game"

	"github.com/google/go-cmp/cmp"
)

// At stage live, with all reads answered by the candidate, both migrations are made anew and swapped under players who look
// at once for what they did. Nobody misses an own write, no difference is found before, during or after, and evidence of
// the new generation is gathered from nothing.
func TestSoakRetranslateAtLive(t *testing.T) {
	w := newWorld(t, game.Size{Matches: 4, Players: 8, Provinces: 16, Units: 60})
	p := w.process()
	w.startService()
	for _, m := range w.f.Names() {
		w.flipTo(p, m, stage.State{Stage: stage.DualWrite})
		if err := w.shadow.Backfill(t.Context(), m, false, nil); err != nil {
			t.Fatal(err)
		}
		w.flipTo(p, m, stage.State{Stage: stage.Shadow})
	}
	w.play(play.Config{Players: 16, Matches: 4, Requests: 400, Rate: 100, Seed: 4})
	w.flipTo(p, "units", stage.State{Stage: stage.Live, Share: stage.Share{Percent: 100}})

	done := make(chan map[event.Migration]admin.RetranslateStatus, 1)
	go func() { // ends with both
		out := map[event.Migration]admin.RetranslateStatus{}
		for _, m := range w.f.Names() {
			if _, err := p.Ops.Retranslate(t.Context(), admin.RetranslateRequest{Migration: m, Who: "test", Reason: "test"}); err != nil {
				t.Error(err)
			}
		}
		for {
			running := false
			list, err := p.Ops.Retranslations(t.Context())
			if err != nil {
				t.Error(err)
			}
			for _, st := range list {
				out[st.Migration] = st
				running = running || st.State == admin.Running
			}
			if !running || t.Context().Err() != nil {
				done <- out
				return
			}
			time.Sleep(50 * time.Millisecond) // as the command does: the status tells nobody
		}
	}()
	var made map[event.Migration]admin.RetranslateStatus
	reads, missed, errors := 0, 0, 0
	played := func(c play.Config) {
		got := w.play(c).Totals()
		missed, errors = missed+int(got.Missed), errors+int(got.Errors)
		if got.Missed+got.Errors > 0 {
			t.Error(got.Examples)
		}
		for _, r := range got.Rows {
			if r.ServedBy == "candidate" {
				reads += r.Count
			}
		}
	}
	for seed := uint64(5); made == nil; seed++ {
		played(play.Config{Players: 16, Matches: 4, Requests: 500, Rate: 100, Seed: seed})
		select {
		case made = <-done:
		default:
		}
	}
	// Readers follow, and the generation before is retired, while they play on.
	for seed := uint64(1000); ; seed++ {
		played(play.Config{Players: 16, Matches: 4, Requests: 500, Rate: 100, Seed: seed})
		ready := true
		for _, m := range w.f.Names() {
			s := p.Ops.follow.State(m)
			ready = ready && s.Current() == 2 && s.Retiring == 0
		}
		if ready || seed > 1030 {
			break
		}
	}
	before := reads
	played(play.Config{Players: 16, Matches: 4, Requests: 500, Rate: 100, Seed: 2000})
	for m, st := range made {
		t.Logf("%s: %d rows compared, %d differ, %d not compared, in %s", m, st.Compared, st.Different, st.Unverified, st.Ended.Sub(st.Started).Round(time.Millisecond))
		if !st.Swapped || !st.Verified {
			t.Errorf("%s: %+v", m, st)
		}
	}
	t.Logf("%d reads by the candidate, %d of them of the new generation alone; %d own writes missed, %d errors; dropped: %v", reads, reads-before, missed, errors, w.proxy.Pairs.Tallies())
	if reads == 0 || reads == before || missed != 0 || errors != 0 {
		t.Error("players noticed, or the candidate answered nothing")
	}
	w.evidence(50, time.Time{}, time.Minute)
	w.noFinding(p)
}

// The only shadow process is killed again and again while it makes a new generation, under continuing writes; whoever is
// started next goes on. What is swapped in the end equals legacy: nothing is lost, and nothing is told twice.
func TestSoakRetranslateSurvivesKills(t *testing.T) {
	w := newWorld(t, game.Size{Matches: 2, Players: 8, Provinces: 16, Units: 60})
	w.start()
	w.to("units", stage.State{Stage: stage.DualWrite})
	if err := w.shadow.Backfill(t.Context(), "units", false, nil); err != nil {
		t.Fatal(err)
	}
	w.play(play.Config{Players: 8, Matches: 2, Requests: 600, Rate: 200, Seed: 1})
	w.wound("id % 3 = 0")
	w.caughtUp("units")
	w.shadow.Stop()
	ended, played := make(chan struct{}), make(chan struct{})
	go func() { // ends with ended
		defer close(played)
		for seed := uint64(2); ; seed++ {
			select {
			case <-ended:
				return
			default:
				w.play(play.Config{Players: 6, Matches: 2, Requests: 60, Rate: 40, Seed: seed})
			}
		}
	}()
	quiesce := sync.OnceFunc(func() { close(ended); <-played })
	defer quiesce()
	rng, kills := rand.New(rand.NewPCG(1, 1)), 0
	var child *victim
	for deadline := time.Now().Add(5 * time.Minute); ; kills++ {
		child = startChild(t, shadowEnv, w.env)
		// The later ones are given more time, above all for the group sessions of those before to run out: in the end one comes through.
		alive := time.Duration(300+rng.IntN(1500)+kills*kills*150) * time.Millisecond
		for died := time.After(alive); died != nil; {
			changed := w.proxy.Follower.Changed()
			if w.proxy.Follower.State("units").Current() == 2 {
				break
			}
			select {
			case <-changed:
			case <-died:
				died = nil
			}
		}
		if w.proxy.Follower.State("units").Current() == 2 {
			break
		}
		child.kill()
		if time.Now().After(deadline) {
			t.Fatalf("not swapped after %d kills: %+v", kills, w.proxy.Follower.State("units"))
		}
	}
	defer child.kill()
	quiesce()
	w.passed("units", 2)
	t.Logf("%d kills", kills)
	if d := cmp.Diff(w.legacyRows(legacyUnits), w.generationRows("units", 2, modelUnits)); d != "" {
		t.Fatalf("the new generation differs from legacy (- legacy, + read model):\n%s", d)
	}
	if kills < 3 {
		t.Error("the build was over before it was disturbed")
	}
}
