package dispatch

import (
	"cmp"
	"slices"

	"banyan/proxy/event"
	"banyan/shadow/translate"
)

// step is one thing to do for a key: publish events, or deliver a command.
type step struct {
	at      event.Position
	events  []event.Event
	command *Command
}

// plan is what one entry asks for, in legacy's order.
type plan struct {
	steps    []step
	byRows   int // applied writes whose changes are told by rows
	unmapped int // row changes for which no mapping is declared
}

// planOf decides which changes are the service's to tell. told says whether a write may have been told by rows before.
func planOf(rules *translate.Rules, e *event.Entry, generation int, told func(event.OrderingKey, event.WriteID) bool) (plan, error) {
	var p plan
	its := map[event.WriteID]bool{} // writes whose changes the service tells
	for i := range e.Writes {
		w := &e.Writes[i]
		switch {
		case w.Verdict != event.VerdictApplied:
		case w.Late || told(e.Key, w.Write.ID) || !whole(e, w):
			p.byRows++
			continue
		default:
			its[w.Write.ID] = true
		}
		c := command(e, w, generation)
		p.steps = append(p.steps, step{at: c.Position, command: c})
	}
	rest := *e
	rest.Writes, rest.Changes = nil, nil
	for i := range e.Changes {
		if x := &e.Changes[i]; x.Cause != event.Effect || !its[x.Write] {
			rest.Changes = append(rest.Changes, *x)
		}
	}
	res, err := rules.Translate(&rest)
	if err != nil {
		return plan{}, err
	}
	p.unmapped = len(res.Unmapped)
	steps := make([]step, 0, len(res.Events)+len(p.steps))
	for _, ev := range res.Events {
		steps = append(steps, step{at: ev.Position, events: []event.Event{ev}})
	}
	// At one position rows come first: a command may look at all that legacy did up to there.
	steps = append(steps, p.steps...)
	slices.SortStableFunc(steps, func(a, b step) int { return cmp.Compare(a.at, b.at) })
	p.steps = joined(steps)
	return p, nil
}

// rowsOf are the events of one write's changes by rows.
func rowsOf(rules *translate.Rules, e *event.Entry, id event.WriteID) ([]event.Event, error) {
	rest := *e
	rest.Writes, rest.Changes = nil, nil
	for i := range e.Changes {
		if x := &e.Changes[i]; x.Cause == event.Effect && x.Write == id {
			rest.Changes = append(rest.Changes, *x)
		}
	}
	res, err := rules.Translate(&rest)
	return res.Events, err
}

// whole says that all effects of the write stand in this entry and none of its changes is unattributed.
func whole(e *event.Entry, w *event.SettledWrite) bool {
	here := map[event.Position]bool{}
	for i := range e.Changes {
		x := &e.Changes[i]
		if x.Cause == event.Effect && x.Write == w.Write.ID {
			here[x.Position] = true
		}
		if slices.Contains(x.Candidates, w.Write.ID) {
			return false
		}
	}
	for _, p := range w.Effects {
		if !here[p] {
			return false
		}
	}
	return true
}

// joined puts events that follow each other into one step.
func joined(in []step) []step {
	var out []step
	for _, s := range in {
		if n := len(out); n > 0 && s.command == nil && out[n-1].command == nil {
			out[n-1].events = append(out[n-1].events, s.events...)
			continue
		}
		out = append(out, s)
	}
	return out
}

// suspect is a write that may have made a change of a key, among others.
type suspect struct {
	key event.OrderingKey
	id  event.WriteID
}

// recent remembers the last suspects: bounded, the oldest is forgotten.
type recent struct {
	ring []suspect
	at   int
	ids  map[suspect]bool
}

func newRecent(n int) *recent {
	return &recent{ring: make([]suspect, n), ids: map[suspect]bool{}}
}

func (r *recent) add(s suspect) {
	if r.ids[s] {
		return
	}
	delete(r.ids, r.ring[r.at])
	r.ring[r.at], r.ids[s] = s, true
	r.at = (r.at + 1) % len(r.ring)
}
