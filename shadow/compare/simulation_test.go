package compare

import (
	"fmt"
	"testing"
	"time"

	"banyan/proxy/event"
	"banyan/shadow/explain"
	"banyan/shadow/ledger"

	"pgregory.net/rapid"
)

// defect is planted in the model, once, in the n-th change that it can spoil.
type defect struct {
	name  string
	cause explain.Cause
	// spoil gives the model's image of a change; ok is false if it cannot spoil this one.
	spoil func(r event.RowChange) (image event.RowChange, applied, ok bool)
	dark  bool // the change it spoils is dark, and of a column without a mapping
}

var defects = []defect{
	{"none", "", nil, false},
	{"a lost write", explain.MissingWrite, func(r event.RowChange) (event.RowChange, bool, bool) {
		return r, false, r.Op == event.Update && r.Changed("hp")
	}, false},
	{"a mapping that takes another value", explain.Translation, func(r event.RowChange) (event.RowChange, bool, bool) {
		if r.Op != event.Update || !r.Changed("hp") {
			return r, true, false
		}
		m := r
		m.After = event.Values{}
		for k, v := range r.After {
			m.After[k] = v
		}
		m.After["hp"] = num(987654)
		return m, true, true
	}, false},
	{"a dark change without a mapping", explain.DarkWrite, func(r event.RowChange) (event.RowChange, bool, bool) {
		return r, false, r.Op == event.Update && r.Changed("secret")
	}, true},
}

// drawn picks entities so that the spoiled one is left alone afterwards: the defect stays to be seen.
func TestSimulatedPairs(t *testing.T) {
	for _, d := range defects {
		t.Run(d.name, func(t *testing.T) {
			total, undecided := int64(0), int64(0)
			rapid.Check(t, func(rt *rapid.T) {
				j, u := simulatePairs(rt, t, d)
				total, undecided = total+j, undecided+u
			})
			if total == 0 || undecided == 0 {
				t.Errorf("%d judged, %d undecided: the simulation shows nothing", total, undecided)
			}
			t.Logf("%d judged, %d undecided", total, undecided)
		})
	}
}

// simulatePairs plays a history with reads at any moment. Legacy's read sees each unit at some moment of its interval, the
// candidate's at some position between its two progress reports, which lags as it likes.
func simulatePairs(rt *rapid.T, t *testing.T, d defect) (judged, undecided int64) {
	spoilAt := rapid.IntRange(1, 15).Draw(rt, "spoil at")
	spoiled := ""
	w := newWorld(rt, nil)
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
	// A read is legacy's, and then, at once or later, the candidate's.
	type reading struct {
		start, end time.Time
		from       event.Position
		legacy     []byte
		progress   event.Position
	}
	var under *reading
	var looking *event.Fence
	pairs := int64(0)
	between := func(low, high event.Position, what string) event.Position {
		return low + 10*event.Position(rapid.IntRange(0, int(high-low)/10).Draw(rt, what))
	}
	// What committed up to the end of the read may be seen, and must if it was there at the start.
	answered := func() {
		upto := w.head
		under.end = w.now
		under.legacy = w.body(func(id string) event.Position { return between(under.from, upto, "legacy sees "+id) }, false)
		under.progress = w.head - event.Position(min(10*rapid.IntRange(0, 8).Draw(rt, "lag"), int(w.head)-100))
	}
	finish := func() {
		after := between(under.progress, w.head, "progress after")
		candidate := w.body(func(id string) event.Position { return between(under.progress, after, "candidate sees "+id) }, true)
		// The clock of the proxy is off by up to the error, either way.
		skew := time.Duration(rapid.IntRange(-5, 5).Draw(rt, "skew")) * time.Millisecond
		w.send(w.pair(under.start.Add(skew), under.end.Add(skew), under.legacy, candidate, under.progress, after))
		pairs++
		under = nil
	}
	for i := range 3 {
		w.change(event.Effect, i+1, event.Values{"hp": num(100)})
	}
	commit := func() {
		cause, column := event.Effect, "hp"
		if rapid.Bool().Draw(rt, "dark") {
			cause = event.Dark
			if d.dark && rapid.Bool().Draw(rt, "secret") {
				column = "secret"
			}
		}
		if id := rapid.IntRange(1, 4).Draw(rt, "unit"); fmt.Sprint("unit/", id) != spoiled {
			w.change(cause, id, event.Values{column: num(rapid.IntRange(2, 1000).Draw(rt, "value"))})
		}
	}
	for range rapid.IntRange(20, 80).Draw(rt, "steps") {
		w.tick(time.Duration(rapid.IntRange(1, 4).Draw(rt, "ms")) * time.Millisecond)
		switch rapid.SampledFrom([]string{"commit", "commit", "delete", "fence", "fence", "fence", "fence", "mark", "hold", "handle"}).Draw(rt, "do") {
		case "commit":
			commit()
		case "delete":
			if id := rapid.IntRange(1, 4).Draw(rt, "unit"); fmt.Sprint("unit/", id) != spoiled {
				w.change(event.Effect, id, nil)
			}
		case "fence": // in three steps: reads and commits fall in between
			switch {
			case looking == nil:
				looking = &event.Fence{Sent: w.now}
			case looking.Position == 0:
				looking.Position = w.head
			default:
				looking.Answered = w.now
				w.fences = append(w.fences, *looking)
				looking = nil
			}
		case "mark":
			w.mark()
		case "hold":
			w.mark(match)
		case "handle":
			w.handle()
		}
		switch {
		case !rapid.Bool().Draw(rt, "turn"):
		case under == nil:
			under = &reading{start: w.now, from: w.head}
		case under.legacy == nil:
			answered()
		default:
			finish()
		}
	}
	if under != nil && under.legacy != nil {
		finish()
	}
	w.quiet()
	found := w.books.found
	if spoiled != "" && w.state(w.head, false)[spoiled[5:]] != nil {
		w.send(w.read(w.head))
		pairs++
		w.quiet()
		if len(w.books.found) == len(found) {
			rt.Fatalf("the defect of %s was not found; %+v", spoiled, w.books.counts)
		}
	}
	for _, f := range w.books.found {
		if string(f.Example.Entity) != spoiled || f.Cause != d.cause {
			rt.Fatalf("%s: a finding of %s that is none: %s, %s: legacy %s, candidate %s, in (%s, %s]", f.Cause, f.Example.Entity, f.Place, f.Example.Why,
				f.Example.Legacy, f.Example.Candidate, f.Example.Low, f.Example.High)
		}
	}
	b := w.books
	if got := b.counts["judged"] + b.undecided(); got != pairs {
		rt.Fatalf("%d of %d pairs are accounted for: %+v", got, pairs, b.counts)
	}
	return b.counts[string(ledger.Judged)], b.undecided()
}
