//go:build soak

package role

import (
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"banyan/cmd/internal/play"
	"banyan/proxy/admin"
	"banyan/proxy/event"
	"banyan/proxy/stage"
	"banyan/shadow/readmodel"
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
		// Each is given a third more time than the one before, so that the last ones die in the middle of the build however
		// fast the machine is, and in the end one comes through.
		alive := time.Duration(150*math.Pow(1.35, float64(kills))*(0.85+0.3*rng.Float64())) * time.Millisecond
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

// A mapping is wrong, rows differ; it is mended, and a new generation is made under continuing writes, across a restart in
// the middle of the build. It is equal to legacy, and only then it is swapped; readers, proxies and comparison follow.
func TestSoakRetranslateMendsWhatAWrongMappingLeft(t *testing.T) {
	w := newWorld(t, game.Size{Matches: 2, Players: 8, Provinces: 16, Units: 60})
	mapHealth(w.f, "before.hp")
	w.start()
	w.to("units", stage.State{Stage: stage.DualWrite})
	if err := w.shadow.Backfill(t.Context(), "units", false, nil); err != nil {
		t.Fatal(err)
	}
	w.wound("id % 3 = 0")
	w.caughtUp("units")
	if cmp.Equal(w.legacyRows(legacyUnits), w.modelRows("units", modelUnits)) {
		t.Fatal("the wrong mapping did no harm")
	}
	w.shadow.Stop() // it may be stopped twice

	// As long as the mapping is wrong, a new generation is as wrong, and does not take over.
	p := w.startShadowOf("before.hp", "")
	st := p.retranslate(admin.RetranslateRequest{})
	if st.State != admin.Refused || st.Swapped || st.Different == 0 || len(st.Examples) == 0 || !strings.Contains(st.Error, "differ from legacy") {
		t.Fatalf("%+v", st)
	}
	if e := st.Examples[0]; e.Path != "/hp" || len(e.Legacy) == 0 || len(e.Candidate) == 0 {
		t.Errorf("an example shows both values: %+v", e)
	}
	if s := p.until("refused", func(s stage.State) bool { return s.Building == 2 }); s.Current() != 1 {
		t.Fatalf("%+v", s)
	}
	if _, err := p.ops.Retranslate(t.Context(), admin.RetranslateRequest{Migration: "units", Who: "test", Reason: "mend it", Abandon: true}); err != nil {
		t.Fatal(err)
	}
	p.until("abandoned", func(s stage.State) bool { return s.Building == 0 })
	if _, err := p.ops.Retranslate(t.Context(), admin.RetranslateRequest{Migration: "units", Who: "test", Reason: "again", Abandon: true}); !errors.Is(err, admin.ErrConflict) {
		t.Fatal("abandoned twice:", err)
	}
	p.stop()

	// Mended. Players and cron play on all the while.
	played := make(chan struct{})
	ended := make(chan struct{})
	go func() { // ends with ended
		defer close(played)
		for seed := uint64(1); ; seed++ {
			select {
			case <-ended:
				return
			default:
			}
			if got := w.play(play.Config{Players: 6, Matches: 2, Requests: 60, Rate: 40, Seed: seed, Timeout: time.Minute}).Totals(); got.Errors != 0 || got.Missed != 0 {
				t.Errorf("players noticed: %+v", got)
			}
		}
	}()
	quiesce := sync.OnceFunc(func() { close(ended); <-played })
	defer quiesce()
	p = w.startShadowOf("row.hp", "")
	p.ask(admin.RetranslateRequest{})
	p.until("begun", func(s stage.State) bool { return s.Building == 3 })
	p.stop() // in the middle of the build

	// What was begun under another configuration is not gone on with by accident.
	p = w.startShadowOf("row.hp", "another build")
	if st := p.retranslate(admin.RetranslateRequest{}); st.State != admin.Refused || !strings.Contains(st.Error, "another configuration") || !strings.Contains(st.Error, "--abandon") {
		t.Fatalf("%+v", st)
	}
	p.stop()

	// Two processes go on, and both are asked: one swaps.
	p, q := w.startShadowOf("row.hp", ""), w.startShadowOf("row.hp", "")
	p.ask(admin.RetranslateRequest{NoSwap: true})
	if st := p.await(); st.State != admin.Done || st.Swapped || !st.Verified || st.Compared < 120 || st.To != 3 {
		t.Fatalf("%+v", st)
	}
	if s := p.ops.follow.State("units"); s.Building != 3 || s.Current() != 1 {
		t.Fatalf("--no-swap swapped: %+v", s)
	}
	p.ask(admin.RetranslateRequest{})
	q.ask(admin.RetranslateRequest{})
	a, b := p.await(), q.await()
	if a.Swapped == b.Swapped || a.Swapped && !a.Verified || b.Swapped && !b.Verified {
		t.Fatalf("one of two swaps: %+v\n%+v", a, b)
	}
	// Both end before the swap is followed through: whoever comes next tells the readers, and retires the one before.
	p.stop()
	q.stop()
	p = w.startShadowOf("row.hp", "")
	p.until("retired", func(s stage.State) bool { return s.Current() == 3 && s.Retiring == 0 })
	ptr, err := readmodel.OpenPointer(t.Context(), readmodel.PointerConfig{Postgres: w.model, Migration: "units"})
	if err != nil {
		t.Fatal(err)
	}
	defer ptr.Close()
	if g, err := ptr.Get(t.Context()); g != 3 || err != nil {
		t.Fatal("readers are told of generation", g, err)
	}
	if got := w.schemas("units"); got != "banyan_units_g1 banyan_units_g3" {
		t.Error("what was abandoned is dropped by the next build, what was retired stays until then:", got)
	}
	if e := p.ops.follow.History("units"); describe(e) != "dualwrite, build generation 2, generation 2 abandoned, build generation 3, generation 3 is current, generation 1 retired" {
		t.Error(describe(e))
	}
	quiesce()
	w.passed("units", 3)
	if d := cmp.Diff(w.legacyRows(legacyUnits), w.generationRows("units", 3, modelUnits)); d != "" {
		t.Fatalf("the new generation differs from legacy (- legacy, + read model):\n%s", d)
	}
	for p.shadow.feedOf("units").generation(1) != nil {
		time.Sleep(20 * time.Millisecond) // its stop tells nobody
	}
	if m := p.shadow.Model("units"); m == nil || m.Generation != 3 {
		t.Fatalf("%+v", m)
	}
}
