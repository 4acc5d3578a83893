package settle

import (
	"fmt"
	"slices"
	"testing"

	"banyan/proxy/event"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// check holds .settled against the truth.
func (h *history) check(t *rapid.T, log []any) {
	byPos := map[event.Position]*truthChange{}
	for _, c := range h.changes {
		byPos[c.c.Position] = c
	}
	byID := map[event.WriteID]*truth{}
	for _, x := range h.writes {
		byID[x.w.ID] = x
	}
	emitted := map[event.Position]event.Cause{}
	settled := map[event.WriteID]event.SettledWrite{}
	lastTo := map[event.OrderingKey]event.Position{}
	lastChange := map[event.OrderingKey]event.Position{}
	var failed bool
	bad := func(format string, a ...any) {
		failed = true
		t.Errorf(format, a...)
	}
	for _, x := range log {
		switch x := x.(type) {
		case *event.Entry:
			if x.From < lastTo[x.Key] || x.To < x.From || len(x.Changes) > 0 && x.From <= lastTo[x.Key] && lastChange[x.Key] == lastTo[x.Key] && x.From <= lastChange[x.Key] {
				bad("entry %s after %d", show(x), lastTo[x.Key])
			}
			lastTo[x.Key] = x.To
			for _, c := range x.Changes {
				h.checkChange(bad, x, c, byPos[c.Position])
				if c.Position <= lastChange[x.Key] || emitted[c.Position] != "" {
					bad("change %d is out of order or comes twice: %s", c.Position, show(x))
				}
				lastChange[x.Key], emitted[c.Position] = c.Position, c.Cause
			}
			for _, w := range x.Writes {
				if _, twice := settled[w.Write.ID]; twice {
					bad("write %s settles twice", w.Write.ID)
				}
				settled[w.Write.ID] = w
				h.checkWrite(bad, w, byID[w.Write.ID], byPos)
			}
		case *event.SettledMark:
			h.checkMark(bad, x, emitted, settled)
		}
	}
	for _, c := range h.changes {
		if emitted[c.c.Position] == "" {
			bad("change %d was never emitted", c.c.Position)
		}
	}
	for _, x := range h.writes {
		if _, ok := settled[x.w.ID]; !ok {
			bad("write %s never settled", x.w.ID)
		}
	}
	if failed {
		t.Log(h.script())
		for _, x := range log {
			if e, ok := x.(*event.Entry); ok {
				t.Log(show(e))
			}
		}
		t.FailNow()
	}
}

type complain = func(format string, a ...any)

func (h *history) checkChange(bad complain, e *event.Entry, c event.SettledChange, truth *truthChange) {
	if truth == nil || truth.c.Key != e.Key {
		bad("change %d is not the key's", c.Position)
		return
	}
	switch {
	case h.annotated && truth.by != nil:
		if c.Cause != event.Effect || c.Write != truth.by.w.ID || !c.Annotated {
			bad("change %d is %s's by annotation: %s", c.Position, truth.by.w.ID, show(e))
		}
	case h.annotated:
		if c.Cause != event.Dark && c.Cause != event.Unattributed {
			bad("change %d is dark: %s", c.Position, show(e))
		}
	case c.Cause == event.Dark:
		if ids := h.candidates(truth); len(ids) > 0 {
			bad("change %d is called dark, candidates %v", c.Position, ids)
		}
	case c.Cause == event.Effect:
		if ids := h.candidates(truth); !slices.Equal(ids, []event.WriteID{c.Write}) {
			bad("change %d is called an effect of %s, candidates %v", c.Position, c.Write, ids)
		}
		if truth.by != nil && truth.by.w.ID != c.Write {
			bad("change %d is called an effect of %s, it was %s", c.Position, c.Write, truth.by.w.ID)
		}
	}
}

func (h *history) checkWrite(bad complain, s event.SettledWrite, x *truth, byPos map[event.Position]*truthChange) {
	var own []event.Position
	for _, c := range x.changes {
		if c.c.Key == x.w.Key {
			own = append(own, c.c.Position)
		}
	}
	slices.Sort(own)
	if h.annotated && !slices.Equal(own, s.Effects) {
		bad("write %s has effects %d, told %d", x.w.ID, own, s.Effects)
	}
	for _, p := range s.Effects {
		if c := byPos[p]; !h.annotated && !slices.Equal(h.candidates(c), []event.WriteID{x.w.ID}) {
			bad("write %s has no right to claim %d: candidates %v", x.w.ID, p, h.candidates(c))
		}
	}
	switch x.w.Result.Outcome {
	case event.Applied, event.Rejected:
		if string(s.Verdict) != string(x.w.Result.Outcome) {
			bad("write %s is %s, verdict %s", x.w.ID, x.w.Result.Outcome, s.Verdict)
		}
	default:
		if s.Verdict == event.VerdictNotApplied && len(own) > 0 {
			bad("write %s: not applied, but it did %d", x.w.ID, own)
		}
		if h.annotated && (s.Verdict == event.VerdictApplied) != (len(own) > 0) {
			bad("write %s: %s, it did %d", x.w.ID, s.Verdict, own)
		}
	}
}

// checkMark: nothing is missing below the position but what is held, and nothing of a write that the mark holds.
func (h *history) checkMark(bad complain, m *event.SettledMark, emitted map[event.Position]event.Cause, settled map[event.WriteID]event.SettledWrite) {
	held := map[event.OrderingKey]event.Position{}
	for _, x := range m.Held {
		held[x.Key] = x.From
	}
	for _, c := range h.changes {
		from, isHeld := held[c.c.Key]
		if c.c.Position <= m.Position && emitted[c.c.Position] == "" && !(isHeld && c.c.Position >= from) {
			bad("mark at %d, held %v: change %d is missing", m.Position, m.Held, c.c.Position)
		}
	}
	p := event.Progress{Migration: "units", Replicas: m.Replicas, Unsettled: m.Unsettled, Held: m.Held}
	for _, x := range h.writes {
		if !p.Holds(x.w.ID, x.w.Key) {
			continue
		}
		if _, ok := settled[x.w.ID]; !ok {
			bad("mark at %d holds write %s, which has not settled", m.Position, x.w.ID)
		}
		for _, c := range x.changes {
			if c.c.Key == x.w.Key && emitted[c.c.Position] == "" {
				bad("mark at %d holds write %s, but not its effect %d", m.Position, x.w.ID, c.c.Position)
			}
		}
	}
}

func TestEveryHistory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := genHistory(t)
		delay := rapid.SampledFrom([]int{0, 20, 400}).Draw(t, "max delay")
		h.check(t, h.run(t, delay, false))
	})
}

func TestEveryHistoryWithKills(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := genHistory(t)
		h.check(t, h.run(t, rapid.SampledFrom([]int{20, 400}).Draw(t, "max delay"), true))
	})
}

// sequence is what a key's readers see: changes with cause and write; writes by their effects.
func sequence(log []any) (changes map[event.OrderingKey][]string, writes map[event.WriteID]string) {
	changes, writes = map[event.OrderingKey][]string{}, map[event.WriteID]string{}
	for _, x := range log {
		e, ok := x.(*event.Entry)
		if !ok {
			continue
		}
		for _, c := range e.Changes {
			s := fmt.Sprint(c.Position)
			if c.Cause == event.Effect {
				s += " " + c.Write.String()
			}
			changes[e.Key] = append(changes[e.Key], s)
		}
		for _, w := range e.Writes {
			writes[w.Write.ID] = fmt.Sprint(w.Verdict, w.Effects)
		}
	}
	return changes, writes
}

// The annotated case does not depend on how the streams interleave, where batches are cut, or on kills.
func TestInterleavingsAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := genHistory(t)
		if !h.annotated {
			return
		}
		c1, w1 := sequence(h.run(t, 0, false))
		c2, w2 := sequence(h.run(t, 400, true))
		if d := cmp.Diff(c1, c2) + cmp.Diff(w1, w2); d != "" {
			t.Fatalf("%s%s", d, h.script())
		}
	})
}
