package compare

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"banyan/proxy/event"
	"banyan/shadow/ledger"

	"pgregory.net/rapid"
)

var dialect = Dialect{Placeholder: func(n int) string { return "$" + strconv.Itoa(n) }, Binary: func(x string) string { return x + ` collate "C"` }}

// answer plays a database: it takes the shapes of our own statements over "select … from units".
func answerSQL(rows map[string]event.Values, sql string, args []any) Rows {
	ids := make([]int, 0, len(rows))
	for id := range rows {
		n, _ := strconv.Atoi(id)
		ids = append(ids, n)
	}
	slices.Sort(ids)
	if i := strings.Index(sql, " in ("); i >= 0 {
		n := strings.Count(sql[i:strings.Index(sql[i:], ")")+i], "$")
		ids = slices.DeleteFunc(ids, func(id int) bool { return !slices.Contains(args[:n], any(int64(id))) })
		args = args[n:]
	}
	if strings.Contains(sql, " > ") {
		ids = slices.DeleteFunc(ids, func(id int) bool { return int64(id) <= args[0].(int64) })
		args = args[1:]
	}
	if strings.Contains(sql, " <= ") {
		ids = slices.DeleteFunc(ids, func(id int) bool { return int64(id) > args[0].(int64) })
	}
	if _, limit, ok := strings.Cut(sql, " limit "); ok {
		n, _ := strconv.Atoi(limit)
		ids = ids[:min(n, len(ids))]
	}
	m := &memory{columns: []string{"id", "hp", "to", "secret"}}
	for _, id := range ids {
		r := rows[strconv.Itoa(id)]
		m.rows = append(m.rows, []any{r["id"], r["hp"], r["to"], r["secret"]})
	}
	return m
}

// sides of the world as databases.
type legacySide struct{ w *stateWorld }
type modelSide struct{ w *stateWorld }

type stateWorld struct {
	*world
	state    *State
	lag      func() int                                    // positions that the model is behind
	during   func()                                        // what happens between legacy's snapshot and the model's
	seenAt   func(low, high event.Position) event.Position // of each legacy row
	heldFrom func() event.Position                         // the model's progress holds the key from here; 0: it does not
	held     bool
	holds    int
	noHold   error
	open     int // snapshots
	modelGap error
}

type legacyShot struct {
	w         *stateWorld
	low, high event.Position
}

func (l legacySide) Dialect() Dialect { return dialect }
func (l legacySide) Snapshot(context.Context) (LegacySnapshot, error) {
	w := l.w
	w.open++
	s := &legacyShot{w, w.head, w.head}
	if w.seenAt != nil && !w.held {
		w.during()
		s.high = w.head
	}
	return s, nil
}
func (s *legacyShot) Low() event.Position  { return s.low }
func (s *legacyShot) High() event.Position { return s.high }
func (s *legacyShot) Close() error         { s.w.open--; return nil }
func (s *legacyShot) Query(_ context.Context, sql string, args ...any) (Rows, error) {
	rows := s.w.world.state(s.low, false)
	if s.w.seenAt != nil {
		rows = map[string]event.Values{}
		for id := range 10 {
			name := strconv.Itoa(id)
			if r := s.w.world.state(s.w.seenAt(s.low, s.high), false)[name]; r != nil {
				rows[name] = r
			}
		}
	}
	return answerSQL(rows, sql, args), nil
}

type modelShot struct {
	w  *stateWorld
	at event.Position
}

func (m modelSide) Dialect() Dialect { return dialect }
func (m modelSide) Wait(context.Context, event.Position) error {
	if m.w.modelGap != nil {
		return m.w.modelGap
	}
	if m.w.during != nil && !m.w.held {
		m.w.during()
	}
	m.w.mark()
	m.w.handle()
	return nil
}
func (m modelSide) Snapshot(context.Context) (ModelSnapshot, error) {
	m.w.open++
	at := m.w.head
	if m.w.lag != nil && !m.w.held {
		at -= event.Position(m.w.lag())
	}
	return &modelShot{m.w, at}, nil
}
func (s *modelShot) Close() error { s.w.open--; return nil }
func (s *modelShot) Progress(context.Context, int32) (*event.Progress, error) {
	p := &event.Progress{V: 1, Migration: migration, Position: s.at, Applied: s.at}
	if from := s.w.from(); from > 0 && from <= s.at {
		p.Held = []event.Held{{Migration: migration, Key: match, From: from}}
	}
	return p, nil
}

func (w *stateWorld) from() event.Position {
	if w.heldFrom == nil || w.held {
		return 0
	}
	return w.heldFrom()
}
func (s *modelShot) Query(_ context.Context, sql string, args ...any) (Rows, error) {
	at := s.at
	if from := s.w.from(); from > 0 && from <= at {
		at = from - 1
	}
	return answerSQL(s.w.world.state(at, true), sql, args), nil
}

func (w *stateWorld) Hold(ctx context.Context, _ int32, at func(context.Context) (event.Position, error)) (func(), error) {
	if w.noHold != nil {
		return nil, w.noHold
	}
	w.held = true
	if _, err := at(ctx); err != nil {
		return nil, err
	}
	w.holds++
	return func() { w.held = false }, nil
}

func newStateWorld(t tester, change func(*StateConfig)) *stateWorld {
	w := &stateWorld{}
	cfg := StateConfig{Migration: migration, Fingerprint: "fp", Name: "unit", LegacySQL: "select id, hp, to from units;", ModelSQL: "select id, hp, to from units",
		Entity: func(v event.Values) (event.Entity, bool) { return entityOf("units", v) }, Key: func(event.Values) (event.OrderingKey, bool) { return match, true },
		ID: func(e event.Entity) (any, bool) {
			n, ok := strings.CutPrefix(string(e), "unit/")
			id, err := strconv.ParseInt(n, 10, 64)
			return id, ok && err == nil
		}, Tables: []string{"units"}, Partitions: 1, Legacy: legacySide{w}, Model: modelSide{w}, ChunkRows: 3, Every: time.Hour}
	var err error
	w.world = newWorld(t, nil)
	cfg.Ledger, cfg.Now = w.books, func() time.Time { return w.now }
	if change != nil {
		change(&cfg)
	}
	if w.state, err = NewState(cfg, w.c.Index); err != nil {
		t.Fatal(err)
	}
	w.c.cfg.States = []*State{w.state}
	return w
}

func (w *stateWorld) step() {
	w.t.Helper()
	w.tick(10 * time.Second)
	if _, err := w.state.Step(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	if w.open != 0 {
		w.t.Fatalf("%d snapshots are open", w.open)
	}
}

func (w *stateWorld) last() ledger.Sweep { return w.books.sweeps[len(w.books.sweeps)-1] }

func TestSweepVerifiesEveryKey(t *testing.T) {
	w := newStateWorld(t, nil)
	w.units(8)
	w.state.queue = map[event.Entity]*waiting{} // the sweep alone
	for range 3 {
		w.step()
	}
	if s := w.last(); !s.Complete() || s.Verified != 8 || s.From == 0 {
		t.Fatalf("%+v", s)
	}
	if w.books.counts["equal"] != 8 {
		t.Fatalf("%+v", w.books.counts)
	}
	n := len(w.books.sweeps)
	w.step()
	if len(w.books.sweeps) != n {
		t.Fatal("the next sweep began before its time")
	}
	w.tick(time.Hour)
	w.step()
	if s := w.last(); s.Done || s.Verified != 3 {
		t.Fatalf("%+v", s)
	}
}

func TestSweepFindsWhatTheModelLacksAndHas(t *testing.T) {
	w := newStateWorld(t, nil)
	w.wrong = func(n int, r event.RowChange) (event.RowChange, bool) { return r, n != 3 && n != 9 && n != 10 }
	w.units(8)
	w.change(event.Effect, 7, nil)                         // 9: the model keeps it
	w.change(event.Effect, 5, event.Values{"hp": num(61)}) // 10: and this old value
	w.quiet()
	for range 4 {
		w.step()
	}
	got := map[string]bool{}
	for _, f := range w.books.found {
		got[fmt.Sprint(f.Example.Entity, " ", f.Class, " ", f.Place, " ", f.Cause)] = true
	}
	want := []string{"unit/3 missing missing  missing write", "unit/7 extra extra  missing write", "unit/5 value value /hp missing write"}
	for _, x := range want {
		if !got[x] {
			t.Errorf("not found: %s", x)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%v", got)
	}
}

func TestSettledEntriesAreLookedAtSoon(t *testing.T) {
	w := newStateWorld(t, nil)
	w.units(3)
	for range 2 {
		w.step()
	}
	w.wrong = func(int, event.RowChange) (event.RowChange, bool) { return event.RowChange{}, false }
	w.change(event.Effect, 2, event.Values{"hp": num(1)})
	w.quiet()
	if w.state.Waiting() != 1 {
		t.Fatal(w.state.Waiting())
	}
	w.step()
	if len(w.books.found) != 1 || w.books.found[0].Example.Entity != "unit/2" || w.state.Waiting() != 0 {
		t.Fatalf("%+v", w.books.found)
	}
	w.wrong = nil
	w.change(event.Effect, 2, event.Values{"hp": num(5)})
	w.quiet()
	w.step()
	if len(w.books.open) != 0 {
		t.Fatalf("equal now: %+v", w.books.open)
	}
}

// The place is looked at again although nothing changes in legacy: somebody rebuilt the model.
func TestOpenFindingsAreLookedAtAgain(t *testing.T) {
	w := newStateWorld(t, nil)
	w.wrong = func(n int, r event.RowChange) (event.RowChange, bool) { return r, n != 2 }
	w.units(3)
	w.step()
	w.step()
	if len(w.books.open) != 1 {
		t.Fatalf("%+v", w.books.open)
	}
	for i := range w.commits {
		w.commits[i].model = &w.commits[i].row
	}
	w.tick(time.Minute)
	w.step()
	if len(w.books.open) != 0 {
		t.Fatalf("%+v", w.books.open)
	}
}

func TestADeletedEntityIsVerified(t *testing.T) {
	w := newStateWorld(t, nil)
	w.wrong = func(n int, r event.RowChange) (event.RowChange, bool) { return r, n != 2 }
	w.units(3)
	w.step()
	w.change(event.Effect, 2, nil) // gone from both sides
	w.quiet()
	w.step()
	if len(w.books.open) != 0 {
		t.Fatalf("%+v", w.books.open)
	}
}

func TestABusyKeyIsHeldOrUndecided(t *testing.T) {
	for _, hold := range []bool{false, true} {
		t.Run(fmt.Sprint("hold ", hold), func(t *testing.T) {
			w := newStateWorld(t, func(c *StateConfig) { c.MaxAttempts = 3 })
			if hold {
				w.state.cfg.Holder = w
			}
			w.wrong = func(n int, r event.RowChange) (event.RowChange, bool) {
				return r, fmt.Sprint(r.Image()["id"]) != "2" || n < 4
			}
			w.units(3)
			n := 0
			w.during = func() { n++; w.change(event.Effect, 2, event.Values{"hp": num(n)}) }
			for range 6 {
				w.step()
			}
			if hold && (w.holds == 0 || len(w.books.found) == 0 || w.books.undecided() != 0) {
				t.Fatalf("%d holds, %+v", w.holds, w.books.found)
			}
			if !hold && (len(w.books.found) != 0 || w.books.counts["undecided changed in between"] == 0) {
				t.Fatalf("%+v, %+v", w.books.counts, w.books.found)
			}
			if !hold {
				if s := w.last(); !s.Done || s.Complete() || len(s.Keys) != 1 || !strings.Contains(s.Keys[0], "unit/2") {
					t.Fatalf("a key was never verified: %+v", s)
				}
			}
		})
	}
}

// A held key is behind its partition by what changed since it is held, and by nothing else: those rows are asked again,
// all others of the key are compared for good.
func TestRowsOfAHeldKeyAreCompared(t *testing.T) {
	w := newStateWorld(t, nil)
	w.wrong = func(n int, r event.RowChange) (event.RowChange, bool) {
		if n == 1 {
			r.After = event.Values{"id": num(1), "hp": num(7), "to": num(0)}
		}
		return r, true
	}
	w.units(3)
	w.change(event.Effect, 2, event.Values{"hp": num(50)})
	from := w.head
	w.quiet()
	w.heldFrom = func() event.Position { return from }
	w.state.queue = map[event.Entity]*waiting{} // the sweep alone
	w.step()
	w.step()
	if len(w.books.found) != 1 || w.books.found[0].Example.Entity != "unit/1" || w.books.counts["equal"] != 1 {
		t.Fatalf("a defect in a row that did not change is found, lag is not: %+v, %+v", w.books.found, w.books.counts)
	}
	if s := w.last(); s.Done || s.Verified != 2 {
		t.Fatalf("%+v", s)
	}
	w.heldFrom = nil
	w.step()
	w.step()
	if s := w.last(); !s.Complete() || s.Verified != 3 || slices.ContainsFunc(w.books.found, func(f ledger.Found) bool { return f.Example.Entity != "unit/1" }) {
		t.Fatalf("%+v, %+v", s, w.books.found)
	}
}

func TestARoundWaitsUntilAKeyIsFree(t *testing.T) {
	x := NewIndex(IndexConfig{Migration: migration})
	held := func(from event.Position) *event.SettledMark {
		return &event.SettledMark{V: 1, Position: 100, Held: []event.Held{{Migration: migration, Key: match, From: from}}}
	}
	x.Mark(held(50), time.Time{})
	if ks, err := x.awaitFree(t.Context(), 49, 0); err != nil || len(ks) != 0 {
		t.Fatal(ks, err, "it is complete up to there")
	}
	if ks, err := x.awaitFree(t.Context(), 50, time.Millisecond); err != nil || len(ks) != 1 || ks[0] != match {
		t.Fatal(ks, err)
	}
	done := make(chan []event.OrderingKey)
	go func() {
		ks, _ := x.awaitFree(t.Context(), 50, time.Minute)
		done <- ks
	}()
	x.Mark(held(50), time.Time{})
	x.Mark(held(70), time.Time{}) // held again, by something later
	if ks := <-done; len(ks) != 0 {
		t.Fatal(ks)
	}
}

// A projector that cannot be held is no reason to stop; what was never compared so is listed, with what it was tried with.
func TestAHoldThatFailsIsTriedAgainAndListed(t *testing.T) {
	w := newStateWorld(t, func(c *StateConfig) { c.MaxAttempts = 2 })
	w.state.cfg.Holder, w.noHold = w, errors.New("no")
	w.units(3)
	n := 0
	w.during = func() { n++; w.change(event.Effect, 2, event.Values{"hp": num(n)}) }
	w.state.queue = map[event.Entity]*waiting{}
	for range 2 + holds {
		w.step()
	}
	if s := w.last(); !s.Done || s.Complete() || len(s.Keys) != 1 || !strings.Contains(s.Keys[0], "unit/2 (the projector was not held; ") || !strings.Contains(s.Keys[0], "attempts since 12:00:") {
		t.Fatalf("%+v", s)
	}
	w.noHold = nil
	w.state.Queue("unit/2")
	for range 2 {
		w.step()
	}
	if w.holds == 0 || w.books.counts["equal"] < 3 {
		t.Fatalf("%d holds, %+v", w.holds, w.books.counts)
	}
}

func TestIdenticalRowsThatMovedAreNotVerified(t *testing.T) {
	w := newStateWorld(t, func(c *StateConfig) { c.MaxAttempts = 1 })
	w.units(3)
	n := 0
	w.during = func() {
		if n++; n < 3 {
			w.change(event.Effect, 2, event.Values{"hp": num(500)})
			w.change(event.Effect, 2, event.Values{"hp": num(101)}) // and back
		}
	}
	w.state.queue = map[event.Entity]*waiting{} // the sweep alone
	w.step()
	if n := w.books.counts["equal"]; n != 2 {
		t.Fatalf("%+v", w.books.counts)
	}
}

// What a rule mutes was not compared: its findings stay.
func TestAMutedColumnVerifiesNothing(t *testing.T) {
	w := newStateWorld(t, nil)
	w.wrong = func(n int, r event.RowChange) (event.RowChange, bool) { return r, n != 4 }
	w.units(3)
	w.change(event.Effect, 2, event.Values{"hp": num(1)})
	w.quiet()
	w.step()
	if len(w.books.open) != 1 {
		t.Fatalf("%+v", w.books.open)
	}
	cfg := w.state.cfg
	cfg.Rules = rules(t, "hp ignore why noise")
	w.state, _ = NewState(cfg, w.c.Index)
	w.step()
	if len(w.books.open) != 1 || w.books.counts["values_muted"] == 0 {
		t.Fatalf("%+v %+v", w.books.open, w.books.counts)
	}
}

// What changed while a round was under way is looked at in the next one.
func TestAskedForAgainMeanwhile(t *testing.T) {
	w := newStateWorld(t, nil)
	w.units(3)
	w.step()
	w.change(event.Effect, 2, event.Values{"hp": num(1)})
	w.quiet()
	soFar := w.state.soFar()
	w.state.Queue("unit/2")
	w.state.done("unit/2", soFar)
	if w.state.Waiting() != 1 {
		t.Fatal("forgotten")
	}
	w.step()
	if w.state.Waiting() != 0 {
		t.Fatal("looked at for ever")
	}
}

func TestSweepGoesOnAfterARestart(t *testing.T) {
	w := newStateWorld(t, nil)
	w.units(8)
	w.step()
	at := w.last()
	if at.Done || at.Verified != 3 {
		t.Fatalf("%+v", at)
	}
	again, err := NewState(w.state.cfg, w.c.Index)
	if err != nil {
		t.Fatal(err)
	}
	w.state = again
	for range 2 {
		w.step()
	}
	if s := w.last(); !s.Complete() || s.Verified != 8 || !s.Started.Equal(at.Started) {
		t.Fatalf("%+v", s)
	}
}

// Busy entities of a sweep that was cut off are verified by its successor, or not verified at all.
func TestBusyEntitiesSurviveARestart(t *testing.T) {
	w := newStateWorld(t, nil)
	w.units(3)
	on := true
	w.during = func() {
		if on {
			w.change(event.Effect, 2, event.Values{"hp": num(int(w.head))})
		}
	}
	w.step()
	w.step()
	if s := w.last(); s.Done {
		t.Fatalf("%+v", s)
	}
	w.state, _ = NewState(w.state.cfg, w.c.Index)
	on = false
	w.wrong = func(n int, r event.RowChange) (event.RowChange, bool) { return r, true }
	for range 4 {
		w.step()
	}
	if s := w.last(); !s.Complete() || s.Verified != 3 {
		t.Fatalf("%+v", s)
	}
}

func TestAQueueThatIsFullIsCounted(t *testing.T) {
	w := newStateWorld(t, func(c *StateConfig) { c.MaxQueue = 2 })
	for i := range 5 {
		w.state.Queue(event.Entity(fmt.Sprint("unit/", i)))
		w.state.Queue("unit/0")
	}
	w.state.Queue("player/1")
	w.step()
	if n := w.books.counts["dropped too many entities wait"]; n != 3 {
		t.Fatalf("%+v", w.books.counts)
	}
}

func TestAReadModelThatIsAwayIsAnError(t *testing.T) {
	w := newStateWorld(t, nil)
	w.units(2)
	w.modelGap = errors.New("no progress")
	if _, err := w.state.Step(t.Context()); err == nil || !strings.Contains(err.Error(), "no progress") || w.open != 0 {
		t.Fatal(err, w.open)
	}
	if len(w.books.found) != 0 {
		t.Fatal("a finding of an absent read model")
	}
}

// However legacy's snapshot is taken, whatever commits meanwhile, and however far the model is: no finding; and a planted
// defect is found.
func TestSimulatedState(t *testing.T) {
	for _, d := range defects {
		t.Run(d.name, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) { simulateState(rt, d) })
		})
	}
}

func simulateState(rt *rapid.T, d defect) {
	w := newStateWorld(rt, func(c *StateConfig) { c.MaxAttempts = 4 })
	spoilAt, spoiled := rapid.IntRange(4, 15).Draw(rt, "spoil at"), ""
	w.wrong = func(n int, r event.RowChange) (event.RowChange, bool) {
		if d.spoil == nil || spoiled != "" || n < spoilAt {
			return r, true
		}
		image, applied, ok := d.spoil(r)
		if ok {
			spoiled = fmt.Sprint("unit/", r.Image()["id"])
		}
		return image, !ok || applied
	}
	commit := func() {
		cause, column := event.Effect, "hp"
		if rapid.Bool().Draw(rt, "dark") {
			cause = event.Dark
		}
		if d.dark && rapid.Bool().Draw(rt, "unmapped") {
			cause, column = event.Dark, "secret"
		}
		if id := rapid.IntRange(1, 7).Draw(rt, "unit"); fmt.Sprint("unit/", id) != spoiled {
			if rapid.IntRange(0, 9).Draw(rt, "delete") == 9 {
				w.change(event.Effect, id, nil)
			} else {
				w.change(cause, id, event.Values{column: num(rapid.IntRange(2, 1000).Draw(rt, "value"))})
			}
		}
	}
	w.during = func() {
		for range rapid.IntRange(0, 2).Draw(rt, "meanwhile") {
			commit()
		}
	}
	if rapid.Bool().Draw(rt, "uncertain snapshot") {
		w.seenAt = func(low, high event.Position) event.Position {
			return low + 10*event.Position(rapid.IntRange(0, int(high-low)/10).Draw(rt, "row seen"))
		}
	}
	if rapid.Bool().Draw(rt, "can hold") && w.seenAt == nil {
		w.state.cfg.Holder = w
	}
	for i := range 5 {
		w.change(event.Effect, i+1, event.Values{"hp": num(100)})
	}
	w.quiet()
	for range rapid.IntRange(3, 12).Draw(rt, "rounds") {
		commit()
		w.quiet()
		w.step()
	}
	w.during = func() {}
	for range 8 {
		w.quiet()
		w.step()
	}
	for _, f := range w.books.found {
		if string(f.Example.Entity) != spoiled || f.Cause != d.cause {
			rt.Fatalf("%s: a finding of %s that is none: %s: %s: legacy %s, candidate %s, in (%s, %s]", f.Cause, f.Example.Entity, f.Place, f.Example.Why,
				f.Example.Legacy, f.Example.Candidate, f.Example.Low, f.Example.High)
		}
	}
	if spoiled != "" && w.world.state(w.head, false)[spoiled[5:]] != nil && len(w.books.found) == 0 {
		rt.Fatalf("the defect of %s was not found: %+v", spoiled, w.books.counts)
	}
}

// rowsOf makes a sorted side of n rows of six columns.
func rowsOf(n int, spoil func(i int, row []any)) *memory {
	m := &memory{columns: []string{"id", "match_id", "province", "hp", "stock", "name"}}
	r := rand.New(rand.NewSource(1))
	for i := range n {
		row := []any{num(i), num(i / 500), num(r.Intn(5000)), num(r.Intn(100)), json.Number(strconv.FormatFloat(r.Float64()*1000, 'f', 4, 64)), "unit of match " + strconv.Itoa(i)}
		if spoil != nil {
			spoil(i, row)
		}
		m.rows = append(m.rows, row)
	}
	return m
}

// again reads a copy from the start.
func again(m *memory) *memory { return &memory{columns: m.columns, rows: m.rows} }

const benchRows = 100_000

// BenchmarkMerge is the streaming merge of two sorted sides.
func BenchmarkMerge(b *testing.B) {
	left, right := rowsOf(benchRows, nil), rowsOf(benchRows, func(i int, row []any) {
		if i%10_000 == 0 {
			row[3] = num(1000)
		}
	})
	r := rules(b, "stock within 0.01")
	b.ReportAllocs()
	for b.Loop() {
		m, err := newMerger(again(left), again(right), r)
		if err != nil {
			b.Fatal(err)
		}
		different := 0
		for {
			s, same, ok, err := m.next()
			if err != nil {
				b.Fatal(err)
			}
			if !ok {
				break
			}
			if !same {
				if _, _, report, err := m.compare(s); err != nil || report.Total > 0 {
					different++
				}
			}
			if err := m.step(s); err != nil {
				b.Fatal(err)
			}
		}
		if different != 10 {
			b.Fatal(different)
		}
	}
	b.ReportMetric(float64(benchRows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkNaive holds the candidate in a map and compares column by column as text.
func BenchmarkNaive(b *testing.B) {
	left, right := rowsOf(benchRows, nil), rowsOf(benchRows, nil)
	b.ReportAllocs()
	for b.Loop() {
		have := make(map[string]map[string]any, benchRows)
		for l := again(right); l.Next(); {
			have[fmt.Sprint(l.Values()[0])] = valuesOf(l)
		}
		for l := again(left); l.Next(); {
			other := have[fmt.Sprint(l.Values()[0])]
			for c, v := range valuesOf(l) {
				if fmt.Sprint(v) != fmt.Sprint(other[c]) {
					b.Fatal(c)
				}
			}
		}
	}
	b.ReportMetric(float64(benchRows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}

func TestMergeRefusesWhatItCannotOrder(t *testing.T) {
	side := func(ids ...any) *memory {
		m := &memory{columns: []string{"id"}}
		for _, id := range ids {
			m.rows = append(m.rows, []any{id})
		}
		return m
	}
	for name, c := range map[string]struct {
		a, b *memory
		says string
	}{
		"descending":        {side(num(2), num(1)), side(), "after"},
		"twice":             {side(), side("a", "a"), "unique"},
		"two kinds":         {side(num(1)), side("1"), "cast it"},
		"null":              {side(nil), side(), "number or text"},
		"a fraction":        {side(json.Number("1.5")), side(), "whole number"},
		"too large":         {side(json.Number("18446744073709551615")), side(), "64 bits"},
		"a column too many": {&memory{columns: []string{"id", "x"}}, side(), "column x"},
		"a column too few":  {side(), &memory{columns: []string{"id", "x"}}, "same names"},
		"id is not first":   {&memory{columns: []string{"id", "x"}}, &memory{columns: []string{"x", "id"}}, "id first"},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := newMerger(c.a, c.b, nil)
			for ok := true; err == nil && ok; {
				var s rowSide
				if s, _, ok, err = m.next(); err == nil && ok {
					err = m.step(s)
				}
			}
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Fatal(err)
			}
		})
	}
}

type rowSide = side
