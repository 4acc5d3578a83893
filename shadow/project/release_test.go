package project

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"banyan/proxy/event"
	"banyan/shadow/stream"
)

// release tells the worker what an operator would.
func (b *bench) release(w *worker, key event.OrderingKey) {
	b.t.Helper()
	var p *event.Parked
	for i := range b.parked {
		if b.parked[i].Key == key && !b.parked[i].Released {
			p = &b.parked[i]
		}
	}
	b.parked = append(b.parked, *p.Release("ada", "mended", time.Unix(1700000001, 0)))
	b.obey(w)
}

// obey gives the worker all that stands in `.parked`: its own records come back too.
func (b *bench) obey(w *worker) {
	b.t.Helper()
	var recs []stream.Record
	for i := range b.parked {
		recs = append(recs, stream.Record{Topic: w.p.cfg.Kafka.Topics().Parked(), Kind: event.KindParked, Value: event.Encode(&b.parked[i])})
	}
	if err := w.Handle(b.t.Context(), recs); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) catchUp(w *worker) {
	b.t.Helper()
	for range 1000 {
		if err := w.Handle(b.t.Context(), nil); err != nil {
			b.t.Fatal(err)
		}
		if _, ok := w.standing.Behind(w.next); !ok {
			break
		}
	}
	if err := w.shownUp(b.t.Context(), true); err != nil {
		b.t.Fatal(err)
	}
}

const dropCheck = "alter table banyan_units_g1.units drop constraint units_hp_check"

// stopped is a key that stopped at a hit that its table refuses, with more behind it, a repeat too.
func stopped(t *testing.T, waiting int) (*bench, *worker) {
	cfg := withDocuments(config(t))
	cfg.Batch, cfg.DedupWindow = 200, 400
	b := newBench(t, cfg)
	_, w := b.open()
	b.imported(7, 1)
	b.imported(8, 2)
	early := b.moved(7, 1, 2)
	b.hit(7, 1, 500)
	b.again(early) // a repeat that waits: its first is applied
	for i := range waiting {
		b.moved(7, 1, i)
		if i == waiting/2 {
			b.event("match/7", "match/7", "match.stormed", `{"match":7}`)
		}
		b.moved(8, 2, i)
	}
	b.mark(10000)
	b.handle(w, 200)
	b.want(fmt.Sprintf("1: province 2 hp 100 moves 1\n2: province %d hp 100 moves %d\n", waiting-1, waiting))
	return b, w
}

func TestAReleasedKeyCatchesUp(t *testing.T) {
	const n = 2000 // several pieces, and far beyond the window
	b, w := stopped(t, n)
	b.exec(dropCheck)
	pieces, told := 0, len(b.told)
	b.release(w, "match/7")
	for w.standing.Len() > 0 {
		if pieces++; pieces > 50 {
			t.Fatalf("%+v", w.standing.All()[0])
		}
		b.mu.Lock()
		since := slices.Clone(b.told[told:])
		b.mu.Unlock()
		for _, p := range since {
			if len(p.Parked) != 1 {
				t.Fatalf("after %d pieces it says that it holds everything: %+v", pieces, p)
			}
		}
		b.moved(8, 2, 9000+pieces) // others go on, and the key's own wait
		b.moved(7, 1, n+pieces)
		b.handle(w, 200)
	}
	b.want(fmt.Sprintf("1: province %d hp -400 moves %d\n2: province %d hp 100 moves %d\n", n+pieces, 1+n+pieces, 9000+pieces, n+pieces))
	if pieces < 1 || len(w.progress.Parked) != 0 || len(w.parked) != 0 || w.stats().Repeats.Load() != 2 {
		t.Fatal(pieces, w.progress.Parked, w.parked, w.stats().Repeats.Load())
	}
	if doc, err := b.redis.Get(t.Context(), "unit:1"); err != nil || len(doc) == 0 {
		t.Fatal(string(doc), err)
	}
	last := b.parked[len(b.parked)-1]
	if !last.Done || last.Key != "match/7" {
		t.Fatalf("%+v", last)
	}
	// It goes with the others, also after a restart, and what repeats is known.
	e := b.moved(7, 1, 1)
	b.handle(w, 200)
	b.again(e)
	b.handle(w, 200)
	_, w = b.open()
	b.obey(w)
	b.again(e)
	b.handle(w, 200)
	b.want(fmt.Sprintf("1: province 1 hp -400 moves %d\n2: province %d hp 100 moves %d\n", 2+n+pieces, 9000+pieces, n+pieces))
}

func (w *worker) stats() *Stats { return &w.p.stats }

// What was caught up a moment ago is remembered as what came live.
func TestARepeatBehindACatchUpIsKnown(t *testing.T) {
	b, w := stopped(t, 3)
	b.exec(dropCheck)
	e := b.moved(7, 1, 40)
	b.handle(w, 200)
	b.release(w, "match/7")
	b.catchUp(w)
	b.again(e)
	b.handle(w, 200)
	b.want("1: province 40 hp -400 moves 5\n2: province 2 hp 100 moves 3\n")
}

func TestReleasedWhileStillBroken(t *testing.T) {
	b, w := stopped(t, 10)
	first := w.parked["match/7"]
	b.release(w, "match/7")
	b.catchUp(w)
	again := w.parked["match/7"]
	if again == nil || again.At.Equal(first.At) || again.FirstOffset != first.FirstOffset || again.Waiting != first.Waiting || len(w.progress.Parked) != 1 {
		t.Fatalf("%+v, before %+v", again, first)
	}
	// The old release frees nothing more, here or in another process.
	b.exec(dropCheck)
	b.obey(w)
	_, w = b.open()
	b.obey(w)
	b.catchUp(w)
	b.want("1: province 2 hp 100 moves 1\n2: province 9 hp 100 moves 10\n")
	b.release(w, "match/7")
	b.catchUp(w)
	b.want("1: province 9 hp -400 moves 11\n2: province 9 hp 100 moves 10\n")
}

// A release that leads to another bad event stops there: what stands between is applied once.
func TestAReleasedKeyStopsAtTheNextBadEvent(t *testing.T) {
	b, w := stopped(t, 10)
	b.event("match/7", "unit/1", "unit.flown", `{}`)
	b.moved(7, 1, 77)
	b.handle(w, 200)
	b.exec(dropCheck)
	b.release(w, "match/7")
	b.catchUp(w)
	b.want("1: province 9 hp -400 moves 11\n2: province 9 hp 100 moves 10\n")
	if k := w.parked["match/7"]; k == nil || k.EventType != "unit.flown@1" || k.Waiting != 2 {
		t.Fatalf("%+v", k)
	}
	_, w = b.open()
	if k := w.parked["match/7"]; k == nil || k.EventType != "unit.flown@1" || k.Waiting != 2 || w.standing.Len() != 1 {
		t.Fatalf("%+v", k)
	}
}

// The process ends between each two steps of a release; its successor goes on from there.
func TestKilledInTheMiddleOfARelease(t *testing.T) {
	const n = 700
	b, w := stopped(t, n)
	b.exec(dropCheck)
	b.release(w, "match/7")
	for range 20 {
		_, w = b.open() // the one before is gone, at any piece
		if w.standing.Len() == 0 {
			break
		}
		if err := w.Handle(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	b.want(fmt.Sprintf("1: province %d hp -400 moves %d\n2: province %d hp 100 moves %d\n", n-1, n+1, n-1, n))
	if w.standing.Len() != 0 || len(w.progress.Parked) != 0 {
		t.Fatal(w.standing.All())
	}
}

// The last transaction is done and `.parked` does not say so: the next owner says it.
func TestKilledBeforeTheKeyIsToldToGoOn(t *testing.T) {
	b, w := stopped(t, 3)
	b.exec(dropCheck)
	b.release(w, "match/7")
	b.catchUp(w)
	b.parked = b.parked[:len(b.parked)-1] // the word was lost
	_, w = b.open()
	if last := b.parked[len(b.parked)-1]; !last.Done || w.standing.Len() != 0 {
		t.Fatalf("%+v", last)
	}
}

// A stale owner's piece commits nothing.
func TestAStaleOwnersCatchUpIsFenced(t *testing.T) {
	b, w := stopped(t, 600)
	b.exec(dropCheck)
	b.obey(w)
	_, other := b.open()
	p := b.parked[0]
	if _, err := w.standing.Take(&stream.Record{Kind: event.KindParked, Value: event.Encode(p.Release("ada", "mended", time.Now()))}); err != nil {
		t.Fatal(err)
	}
	w.released(w.standing.Get("match/7"))
	err := w.Handle(t.Context(), nil)
	if err == nil || errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	b.release(other, "match/7")
	b.catchUp(other)
	b.want("1: province 599 hp -400 moves 601\n2: province 599 hp 100 moves 600\n")
}
