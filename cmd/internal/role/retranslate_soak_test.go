//go:build soak

package role

import (
	"testing"
	"time"

	"banyan/cmd/internal/play"
	"banyan/proxy/admin"
	"banyan/proxy/event"
	"banyan/proxy/stage"
	"banyan/testdata/game"
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
	w.evidence(p, 50)
	w.noFinding(p)
}
