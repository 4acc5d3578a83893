package compare

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"banyan/proxy/capture"
	"banyan/proxy/event"
	"banyan/shadow/explain"
	"banyan/shadow/ledger"
	"banyan/shadow/stream"
)

func (w *world) expect(want string) {
	w.t.Helper()
	var got []string
	for _, k := range []string{"judged", "equal", "tolerated", "different"} {
		if n := w.books.counts[k]; n > 0 {
			got = append(got, fmt.Sprint(k, " ", n))
		}
	}
	for k, n := range w.books.counts {
		if strings.HasPrefix(k, "undecided ") || strings.HasPrefix(k, "dropped ") {
			got = append(got, fmt.Sprint(k, ": ", n))
		}
	}
	if g := strings.Join(got, ", "); g != want {
		w.t.Fatalf("got  %s\nwant %s\n%+v", g, want, w.books.found)
	}
}

func (w *world) units(n int) {
	for i := range n {
		w.change(event.Effect, i+1, event.Values{"hp": num(100 + i)})
	}
	w.quiet()
}

func TestEqualPairIsJudgedOnceTheLogIsRead(t *testing.T) {
	w := newWorld(t, nil)
	w.units(3)
	w.send(w.read(w.head))
	w.handle()
	w.expect("") // no fence was sent after legacy's answer yet
	w.quiet()
	w.expect("judged 1, equal 1")
	if s := w.books.seen; len(s) != 1 || s[0].Version != w.head {
		t.Fatalf("%+v", s)
	}
}

func TestAPlantedDefectIsADifference(t *testing.T) {
	w := newWorld(t, nil)
	w.wrong = func(n int, r event.RowChange) (event.RowChange, bool) { return r, n != 4 }
	w.units(3)
	w.change(event.Effect, 2, event.Values{"hp": num(55)}) // the model loses this
	w.quiet()
	w.send(w.read(w.head))
	w.quiet()
	w.expect("judged 1, different 1")
	f := w.books.found[0]
	if f.Cause != explain.MissingWrite || f.Example.Entity != "unit/2" || string(f.Example.Legacy) != "55" || string(f.Example.Candidate) != "101" ||
		len(f.Example.Writes) != 1 || f.Example.Writes[0] != writeID(4) || f.Place != "value /units/*/hp" || f.Subject != "match=7" {
		t.Fatalf("%+v", f)
	}
}

func TestWhatChangedInBetweenIsUndecidedTheRestIsJudged(t *testing.T) {
	w := newWorld(t, nil)
	w.wrong = func(n int, r event.RowChange) (event.RowChange, bool) { return r, n != 3 }
	w.units(3) // unit 3 is lost by the model
	p := w.read(w.head)
	old := w.head
	w.change(event.Effect, 1, event.Values{"hp": num(1)})
	p.Candidate.Body, p.Candidate.Before, p.Candidate.After = w.body(fixed(w.head), true), old, w.head
	p.Candidate.Length = int64(len(p.Candidate.Body))
	w.send(p)
	w.quiet()
	w.expect("judged 1, different 1")
	if len(w.books.found) != 1 || w.books.found[0].Example.Entity != "unit/3" || w.books.counts["values_undecided"] == 0 {
		t.Fatalf("%+v %+v", w.books.found, w.books.counts)
	}
}

// A path without an entity depends on the whole key.
func TestCountsOfTheWholeKeyAreUndecidedWhenAnythingChanged(t *testing.T) {
	w := newWorld(t, nil)
	w.units(2)
	p := w.read(w.head)
	old := w.head
	w.change(event.Effect, 1, event.Values{"hp": num(1)})
	p.Legacy.Body, p.Candidate.Body = []byte(`{"units":[],"sum":201}`), []byte(`{"units":[],"sum":102}`)
	p.Legacy.Length, p.Candidate.Length = int64(len(p.Legacy.Body)), int64(len(p.Candidate.Body))
	p.Candidate.Before, p.Candidate.After = old, w.head
	w.send(p)
	w.quiet()
	w.expect("undecided changed in between: 1")
}

// An element that goes shifts all behind it, unless they are found by name.
func TestAListByPlaceIsUndecidedWhenOneOfItsEntitiesChanged(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Routes[0].Rules = rules(t, "/units entity unit/{id}") })
	w.units(3)
	p := w.read(w.head)
	old := w.head
	w.change(event.Effect, 2, nil)
	p.Legacy.Body, p.Candidate.Body = []byte(`{"units":[{"id":1},{"id":2},{"id":3},{"id":4}]}`), []byte(`{"units":[{"id":1},{"id":4},{"id":3}]}`)
	p.Legacy.Length, p.Candidate.Length = int64(len(p.Legacy.Body)), int64(len(p.Candidate.Body))
	p.Candidate.Before, p.Candidate.After = old, w.head
	w.send(p)
	w.quiet()
	w.expect("undecided changed in between: 1")
}

func TestOnlyTablesOfTheRouteMatter(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Routes[0].Tables = []string{"units.hp"} })
	w.wrong = func(n int, r event.RowChange) (event.RowChange, bool) { return r, n != 2 }
	w.units(2)
	p := w.read(w.head)
	old := w.head
	w.change(event.Effect, 1, event.Values{"to": num(9)}) // not shown
	p.Candidate.Before, p.Candidate.After = old, w.head
	w.send(p)
	w.quiet()
	w.expect("judged 1, different 1")
}

func TestALaggingCandidateIsAskedAgain(t *testing.T) {
	w := newWorld(t, nil)
	w.units(2)
	w.c.cfg.Asker = w
	asked := make(chan struct{}, 10)
	ready := false
	w.asks = func(p *capture.Pair) (capture.Answer, error) {
		defer func() { asked <- struct{}{} }()
		if !ready {
			return p.Candidate, nil
		}
		a := p.Candidate
		a.Body = w.body(fixed(w.head), true)
		a.Length, a.Before, a.After = int64(len(a.Body)), w.head, w.head
		return a, nil
	}
	old := w.head
	w.change(event.Effect, 1, event.Values{"hp": num(1)})
	w.quiet()
	w.send(w.read(old))
	w.quiet()
	w.expect("") // to be asked a little later
	w.tick(time.Second)
	w.handle()
	<-asked // it still lags
	ready = true
	w.c.cfg.Patience = time.Hour
	waitFor(t, func() bool { w.tick(time.Second); w.handle(); return w.books.counts["judged"] > 0 })
	w.expect("judged 1, equal 1")
}

// waitFor is for what another goroutine does.
func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(end) {
			t.Fatal("did not happen")
		}
		time.Sleep(time.Millisecond) // the answer comes from the asker's goroutine, which has no signal for its receipt
	}
}

func TestACandidateThatGoesOnLaggingIsUndecided(t *testing.T) {
	w := newWorld(t, nil)
	w.units(2)
	w.c.cfg.Asker = w
	tries := 0
	w.asks = func(p *capture.Pair) (capture.Answer, error) { tries++; return p.Candidate, nil }
	old := w.head
	w.change(event.Effect, 1, event.Values{"hp": num(1)})
	w.quiet()
	p := w.read(old)
	p.Legacy.Body = []byte(`{"ok":false}`) // no entity: nothing is left to judge
	p.Legacy.Length = int64(len(p.Legacy.Body))
	w.send(p)
	w.quiet()
	waitFor(t, func() bool { w.tick(time.Second); w.handle(); return w.books.undecided() > 0 })
	w.expect("undecided candidate lags: 1")
	if tries != 3 {
		t.Fatalf("asked %d times again", tries)
	}
}

// While its read model is seconds behind, asking the candidate would only use up the tries.
func TestTheCandidateIsAskedAgainOnceItsReadModelIsThere(t *testing.T) {
	w := newWorld(t, nil)
	w.units(2)
	w.c.cfg.Asker = w
	var tries atomic.Int64
	w.asks = func(p *capture.Pair) (capture.Answer, error) {
		tries.Add(1)
		a := p.Candidate
		a.Body = w.body(fixed(w.head), true)
		a.Length, a.Before, a.After = int64(len(a.Body)), w.head, w.head
		return a, nil
	}
	old := w.head
	complete := old
	w.c.cfg.Complete = func(event.OrderingKey) event.Position { return complete }
	w.change(event.Effect, 1, event.Values{"hp": num(1)})
	w.quiet()
	w.send(w.read(old))
	w.quiet()
	for range 20 {
		w.tick(time.Second)
		w.handle()
	}
	w.expect("")
	if n := tries.Load(); n != 0 {
		t.Fatalf("asked %d times in vain", n)
	}
	complete = w.head
	w.c.cfg.Patience = time.Hour
	waitFor(t, func() bool { w.tick(time.Second); w.handle(); return w.books.counts["judged"] > 0 })
	w.expect("judged 1, equal 1")
	complete = old // and it is no reason to wait for ever
	w.c.cfg.Patience = time.Minute
	w.change(event.Effect, 1, event.Values{"hp": num(2)})
	w.quiet()
	p := w.read(old)
	p.Legacy.Body, p.Legacy.Length = []byte(`{"ok":false}`), 12
	w.send(p)
	w.quiet()
	w.tick(time.Hour)
	w.handle()
	w.expect("judged 1, equal 1, undecided candidate lags: 1")
}

func TestAnAskerThatFails(t *testing.T) {
	w := newWorld(t, nil)
	w.units(2)
	w.c.cfg.Asker = w
	w.asks = func(*capture.Pair) (capture.Answer, error) { return capture.Answer{}, errors.New("refused") }
	old := w.head
	w.change(event.Effect, 1, event.Values{"hp": num(1)})
	w.quiet()
	w.send(w.read(old))
	w.quiet()
	waitFor(t, func() bool { w.tick(time.Second); w.handle(); return w.books.undecided() > 0 })
	w.expect("undecided candidate did not answer: 1")
}

func TestUnfitPairsAreUndecided(t *testing.T) {
	for reason, spoil := range map[string]func(w *world, p *capture.Pair){
		"other config":                      func(_ *world, p *capture.Pair) { p.Fingerprint = "fp0" },
		"no ordering key":                   func(_ *world, p *capture.Pair) { p.Key = "" },
		"legacy did not answer":             func(_ *world, p *capture.Pair) { p.Legacy.Status = 0 },
		"candidate did not answer":          func(_ *world, p *capture.Pair) { p.Candidate.Status = 0 },
		"answer cut off":                    func(_ *world, p *capture.Pair) { p.Legacy.Length++ },
		"candidate gave no position":        func(_ *world, p *capture.Pair) { p.Candidate.After = 0 },
		"too old to judge":                  func(w *world, p *capture.Pair) { p.Legacy.Start = w.start.Add(-time.Hour) },
		"body: content coding is not known": func(_ *world, p *capture.Pair) { p.Legacy.Encoding = "br" },
		"body: not gzip":                    func(_ *world, p *capture.Pair) { p.Legacy.Encoding = "gzip" },
		"html is not compared": func(_ *world, p *capture.Pair) {
			p.Legacy.ContentType, p.Candidate.ContentType = "text/html; charset=utf-8", "text/html"
			p.Legacy.Body = []byte("<html>")
			p.Legacy.Length = 6
		},
	} {
		t.Run(reason, func(t *testing.T) {
			w := newWorld(t, nil)
			w.units(1)
			p := w.read(w.head)
			spoil(w, p)
			w.send(p)
			w.quiet()
			w.expect("undecided " + reason + ": 1")
		})
	}
}

func TestStatusAndContentTypeAreDifferences(t *testing.T) {
	w := newWorld(t, nil)
	w.units(1)
	p := w.read(w.head)
	p.Candidate.Status = 500
	w.send(p)
	q := w.read(w.head)
	q.Candidate.ContentType = "text/plain"
	w.send(q)
	w.quiet()
	w.expect("judged 2, different 2")
	if a, b := w.books.found[0].Place, w.books.found[1].Place; a != "value /#status" || b != "value /#content-type" {
		t.Fatal(a, b)
	}
	w.send(w.read(w.head))
	w.quiet()
	if len(w.books.open) != 0 {
		t.Fatalf("an equal pair verifies both: %+v", w.books.open)
	}
}

func TestGzipIsDecodedWithABound(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.MaxBody = 1 << 10 })
	w.units(1)
	zip := func(b []byte) []byte {
		var z bytes.Buffer
		g := gzip.NewWriter(&z)
		g.Write(b)
		g.Close()
		return z.Bytes()
	}
	p := w.read(w.head)
	p.Legacy.Encoding, p.Legacy.Body = "gzip", zip(p.Legacy.Body)
	p.Legacy.Length = int64(len(p.Legacy.Body))
	w.send(p)
	q := w.read(w.head)
	q.Legacy.Encoding, q.Legacy.Body = "gzip", zip(make([]byte, 1<<20))
	q.Legacy.Length = int64(len(q.Legacy.Body))
	w.send(q)
	w.quiet()
	w.expect("judged 1, equal 1, undecided body: longer than the bound: 1")
}

func TestToleranceIsCounted(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		c.Routes[0].Rules = rules(t, "/units unordered_by id entity unit/{id}", "/server_time clock 2s", "/noise ignore why x")
	})
	w.units(1)
	p := w.read(w.head)
	p.Legacy.Body, p.Candidate.Body = []byte(`{"units":[],"server_time":1700000000,"noise":1}`), []byte(`{"units":[],"server_time":1700000001,"noise":2}`)
	p.Legacy.Length, p.Candidate.Length = int64(len(p.Legacy.Body)), int64(len(p.Candidate.Body))
	w.send(p)
	w.quiet()
	w.expect("judged 1, tolerated 1")
	if w.books.counts["values_muted"] != 1 || w.books.counts["rule clock: /server_time clock 2s"] != 1 {
		t.Fatalf("%+v", w.books.counts)
	}
}

func TestHeldKeyWaits(t *testing.T) {
	w := newWorld(t, nil)
	w.units(1)
	w.send(w.read(w.head))
	w.tick(20 * time.Millisecond)
	w.fence()
	w.mark(match)
	w.handle()
	w.expect("")
	w.quiet()
	w.expect("judged 1, equal 1")
}

func TestAPairThatTheLogNeverReaches(t *testing.T) {
	w := newWorld(t, nil)
	w.units(1)
	w.send(w.read(w.head))
	w.handle()
	w.tick(2 * time.Minute)
	w.handle()
	w.expect("undecided the change log is not read so far: 1")
}

func TestTooManyPairsAreDroppedAndCounted(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.MaxPending = 2 })
	w.units(1)
	for range 5 {
		w.send(w.read(w.head))
	}
	w.quiet()
	w.expect("judged 2, equal 2, dropped too many pairs wait: 3")
}

func TestWhatAgedIsUndecided(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Index.Retain = time.Second })
	w.units(2)
	p := w.read(w.head)
	old := w.head
	w.change(event.Effect, 1, event.Values{"hp": num(7)})
	w.quiet()
	w.tick(10 * time.Second)
	w.mark()
	w.handle() // the change's record goes
	p.Candidate.Before, p.Candidate.After = old, old
	w.send(p)
	w.quiet()
	w.expect("undecided too old to judge: 1")
}

func TestRestartJudgesEachPairOnce(t *testing.T) {
	w := newWorld(t, nil)
	w.units(2)
	old := w.head
	w.change(event.Effect, 1, event.Values{"hp": num(7)})
	w.quiet()
	w.c.cfg.Asker = w
	w.asks = func(p *capture.Pair) (capture.Answer, error) { return p.Candidate, nil }
	lagging := w.read(old)
	w.send(w.read(w.head))
	w.send(lagging) // waits to be asked
	w.send(w.read(w.head))
	records := w.records
	w.quiet()
	w.expect("judged 2, equal 2")
	w.worker.Close(t.Context())
	w.c.cfg.Asker = nil
	start := w.reopen()
	if start[topics.Pairs()] != 1 {
		t.Fatalf("%+v", start)
	}
	// The successor reads the settled stream again as far as its index needs it, and the pairs from the one that waited.
	w.records = nil
	w.replay(records, start)
	w.quiet()
	if j, u := w.books.counts["judged"], w.books.undecided(); j+u != 3 {
		t.Fatalf("%d judged, %d undecided of 3: %+v", j, u, w.books.counts)
	}
}

// A swap goes on where the comparison of the generation before was: no pair is judged twice, none is left out, and whoever
// still compares the one before changes nothing any more.
func TestASwapJudgesEachPairOnce(t *testing.T) {
	w := newWorld(t, nil)
	w.units(2)
	w.send(w.read(w.head))
	w.quiet()
	w.expect("judged 1, equal 1")
	old := w.worker
	next, err := New(w.c.cfg)
	if err != nil {
		t.Fatal(err)
	}
	next.cfg.Generation = 2
	w.c, w.generation = next, 2
	start := w.reopen()
	if start[topics.Pairs()] != 1 || start[topics.Events(migration, 2)] != stream.Earliest {
		t.Fatalf("%+v", start)
	}
	w.quiet()
	p := w.read(w.head)
	p.Candidate.Generation = 1 // of a reader that has not followed yet
	w.send(p)
	q := w.read(w.head)
	q.Candidate.Generation = 2
	w.send(q)
	w.quiet()
	w.expect("judged 2, equal 2, undecided other generation: 1")
	last := stream.Record{Topic: topics.Settled(), Offset: w.offsets[topics.Settled()], Kind: event.KindSettledMark, Value: event.Encode(&event.SettledMark{V: 1, Position: w.head, Clock: w.now})}
	if err := old.Handle(t.Context(), []stream.Record{last}); !errors.Is(err, ledger.ErrFenced) {
		t.Fatal("the generation before went on:", err)
	}
}

func TestFencedWorkerChangesNothing(t *testing.T) {
	w := newWorld(t, nil)
	w.units(1)
	w.send(w.read(w.head))
	w.books.revision[(&worker{cfg: &w.c.cfg}).name()]++
	w.tick(20 * time.Millisecond)
	w.fence()
	w.mark()
	if err := w.worker.Handle(context.Background(), w.records); !errors.Is(err, ledger.ErrFenced) {
		t.Fatal(err)
	}
	w.expect("")
}

func TestDarkSourcesAreCountedOnceAndWithdrawn(t *testing.T) {
	w := newWorld(t, nil)
	w.units(1)
	w.change(event.Dark, 1, event.Values{"hp": num(3)})
	at := w.head
	w.change(event.Unattributed, 9, event.Values{"hp": num(3)})
	w.change(event.Dark, 1, nil)
	records := w.records
	w.quiet()
	if s := w.books.sources; s["units.hp"] != 1 || s["units.(insert)"] != 1 || s["units.(delete)"] != 1 || len(s) != 3 {
		t.Fatalf("%+v", s)
	}
	w.records = records // repeats by a predecessor of settle that is still alive
	w.handle()
	if s := w.books.sources; s["units.hp"] != 1 {
		t.Fatalf("%+v", s)
	}
	w.head += 10
	late := event.Entry{V: 1, Migration: migration, Key: match, From: w.head, To: w.head, Writes: []event.SettledWrite{{
		Write: event.Write{V: 1, ID: writeID(99)}, Verdict: event.VerdictApplied, Late: true, Effects: []event.Position{at}}}}
	w.put(topics.Settled(), event.KindEntry, nil, event.Encode(&late))
	w.quiet()
	if s := w.books.sources; s["units.hp"] != 0 {
		t.Fatalf("a late write explains it: %+v", s)
	}
	c := w.c.Index(0).Case(match, "unit/1", w.head)
	if len(c.Changes) == 0 || c.Changes[1].Write != writeID(99) {
		t.Fatalf("%+v", c.Changes)
	}
}

// A successor reads old entries again for its index, and counts them no second time.
func TestSourcesCountOnceOverARestart(t *testing.T) {
	w := newWorld(t, nil)
	w.units(1)
	w.change(event.Dark, 1, event.Values{"hp": num(3)})
	records := w.records
	w.quiet()
	w.worker.Close(t.Context())
	w.replay(records, w.reopen())
	w.quiet()
	if s := w.books.sources; s["units.hp"] != 1 {
		t.Fatalf("%+v", s)
	}
}

func TestAMutedPathVerifiesNothing(t *testing.T) {
	w := newWorld(t, nil)
	w.wrong = func(n int, r event.RowChange) (event.RowChange, bool) { return r, n != 3 }
	w.units(2)
	w.change(event.Effect, 2, event.Values{"hp": num(1)})
	w.quiet()
	w.send(w.read(w.head))
	w.quiet()
	if len(w.books.open) != 1 {
		t.Fatalf("%+v", w.books.open)
	}
	w.c.routes["map"] = newRoute(Route{Name: "map", Rules: rules(t, "/units unordered_by id entity unit/{id}", "/units/*/hp ignore why noise")})
	w.send(w.read(w.head))
	w.quiet()
	if len(w.books.open) != 1 || w.books.counts["judged"] != 2 {
		t.Fatalf("%+v %+v", w.books.open, w.books.counts)
	}
}

func TestTalliesGoToTheLedger(t *testing.T) {
	w := newWorld(t, nil)
	w.put(topics.Pairs(), event.KindTally, nil, event.Encode(&capture.Tally{V: 1, N: 1, Migration: migration, Route: "map"}))
	w.put(topics.Pairs(), event.KindTally, nil, event.Encode(&capture.Tally{V: 1, N: 1, Migration: "other", Route: "map"}))
	w.handle()
	if w.books.tallies != 1 {
		t.Fatal(w.books.tallies)
	}
}

func TestAFindingIsVerifiedByALaterPair(t *testing.T) {
	w := newWorld(t, nil)
	broken := true
	w.wrong = func(n int, r event.RowChange) (event.RowChange, bool) { return r, n != 2 || !broken }
	w.units(2)
	w.send(w.read(w.head))
	w.quiet()
	if len(w.books.open) != 1 {
		t.Fatalf("%+v", w.books.open)
	}
	p := w.read(w.head)
	p.Params["match"] = "8" // another question verifies nothing
	p.Candidate.Body, p.Candidate.Length = p.Legacy.Body, p.Legacy.Length
	w.send(p)
	w.quiet()
	if len(w.books.open) != 1 {
		t.Fatal("verified by another question")
	}
	p = w.read(w.head)
	p.Candidate.Body, p.Candidate.Length = p.Legacy.Body, p.Legacy.Length
	w.send(p)
	w.quiet()
	if len(w.books.open) != 0 {
		t.Fatalf("%+v", w.books.open)
	}
}

// The proxy's clock is late: what legacy showed at the start of the read is older than the fence that seems to be before it.
func TestTheClockErrorWidensTheWindow(t *testing.T) {
	w := newWorld(t, nil)
	w.units(2)
	legacy := w.body(fixed(w.head), false)
	w.change(event.Effect, 1, event.Values{"hp": num(1)})
	w.fence()
	w.tick(time.Millisecond)
	w.send(w.pair(w.now, w.now.Add(time.Millisecond), legacy, w.body(fixed(w.head), true), w.head, w.head))
	w.quiet()
	w.expect("judged 1, equal 1")
	if w.books.counts["values_undecided"] == 0 {
		t.Fatalf("%+v", w.books.counts)
	}
}
