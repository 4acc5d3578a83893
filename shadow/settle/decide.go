package settle

import (
	"slices"
	"sort"
	"time"

	"banyan/proxy/event"
)

// decision is the cause of one change.
type decision struct {
	cause      event.Cause
	write      event.WriteID
	annotated  bool
	candidates []event.WriteID
}

// decide tells the cause of a change as far as it is known now, and whether that is final. If it is not, the decision
// is what to say when the wait has run out.
func (c *Core) decide(k *key, ch *change) (d decision, final bool) {
	switch {
	case ch.imported():
		return decision{cause: event.Imported}, true
	case !ch.Write.IsZero() || len(ch.Other) > 0:
		return c.decideAnnotated(ch)
	}
	ids, open, silent := c.candidates(k, ch)
	if open && !c.expired(ch) {
		return d, false // the rest would be thrown away
	}
	switch {
	case open || silent || len(ids) > 1 || k.name == "": // a change without a key may be any partition's write's
		return decision{cause: event.Unattributed, candidates: ids}, !open
	case len(ids) == 1:
		return decision{cause: event.Effect, write: ids[0]}, true
	}
	return decision{cause: event.Dark}, true
}

// decideAnnotated: the cause is known, the question is only whether all effects of the write are.
func (c *Core) decideAnnotated(ch *change) (decision, bool) {
	ids := ch.Other
	if !ch.Write.IsZero() {
		ids = append([]event.WriteID{ch.Write}, ids...)
	}
	final := true
	for _, id := range ids {
		final = final && c.over(ch, id)
	}
	if len(ids) > 1 {
		return decision{cause: event.Unattributed, annotated: true, candidates: ids}, final
	}
	return decision{cause: event.Effect, write: ids[0], annotated: true}, final
}

// over says that all effects of an annotated write are known here: a fence was sent after its end.
func (c *Core) over(ch *change, id event.WriteID) bool {
	if ws := c.writes[id]; len(ws) > 0 {
		return c.complete(ws[0])
	}
	r := c.replicas[id.Replica]
	if r == nil {
		return false
	}
	if len(r.done[id]) > 0 {
		return true
	}
	if !r.covers(id) || r.clock.IsZero() {
		return false
	}
	// Its record is another partition's. It ended before the mark was made.
	if ch.covered.IsZero() {
		ch.covered = r.clock
	}
	return c.fencedAfter(ch.covered)
}

// candidates are the writes that can have made an unannotated change. open: there may be more, or some are not over
// yet; silent: a replica that says nothing may have made it.
func (c *Core) candidates(k *key, ch *change) (ids []event.WriteID, open, silent bool) {
	past := ch.Received.Add(c.cfg.MaxClockError)
	if len(c.replicas) == 0 { // nobody has spoken yet: that proves nothing
		silent, open = true, c.now.Sub(c.begun) < c.cfg.ReplicaWait
	}
	for _, r := range c.replicas {
		switch {
		case r.silent:
			silent = true
		case !r.ended && r.clock.Before(past) && !c.leftOut(r, ch):
			open = true
		}
	}
	if open && !c.expired(ch) {
		return nil, true, silent
	}
	from := c.fenceBelow(ch.Position)
	for w := range c.writesOf(k) {
		if c.touches(w, ch, from) {
			ids = append(ids, w.id)
			open = open || !c.complete(w)
		}
	}
	for _, r := range c.replicas {
		for i := range r.inFlight {
			f := &r.inFlight[i]
			id := r.id(f)
			if !f.Start.After(past) && concerns(f, k) && !c.known(r, id, f) {
				ids = append(ids, id)
				open = true
			}
		}
	}
	sortIDs(ids)
	return ids, open, silent
}

// leftOut says that a change need not wait for the next mark of a replica: it records nothing. Had it begun before the
// change was made, it would have said so first, and that would be here by now; unless the marks that are being read are
// old ones.
func (c *Core) leftOut(r *replica, ch *change) bool {
	return r.idle && c.now.Sub(ch.arrived) >= c.cfg.AttributeWait/2 && c.now.Sub(r.clock) < c.cfg.ReplicaWait/2
}

// known says that a write in flight at the last mark has come since.
func (c *Core) known(r *replica, id event.WriteID, f *event.InFlight) bool {
	_, missing := r.missing(f)
	return len(c.writes[id]) > 0 || !missing
}

func concerns(f *event.InFlight, k *key) bool {
	if len(f.Addresses) == 0 {
		return true
	}
	return slices.ContainsFunc(f.Addresses, func(a event.Address) bool {
		return a.Migration == k.m.name && (a.Key == k.name || a.Key == "" || k.name == "")
	})
}

// writesOf are the writes that wait and may concern a key.
func (c *Core) writesOf(k *key) func(yield func(*write) bool) {
	return func(yield func(*write) bool) {
		for _, w := range k.writes {
			if !yield(w) {
				return
			}
		}
		if k.name != "" {
			if k.m.keyless == nil {
				return
			}
			for _, w := range k.m.keyless.writes {
				if !yield(w) {
					return
				}
			}
			return
		}
		for _, o := range c.busy {
			if o.m != k.m || o == k {
				continue
			}
			for _, w := range o.writes {
				if !yield(w) {
					return
				}
			}
		}
	}
}

// touches says whether a write can have made an unannotated change that was committed after from.
func (c *Core) touches(w *write, ch *change, from time.Time) bool {
	if !c.meets(&w.interval, ch, from) {
		return false
	}
	return c.cfg.Claims == nil || c.cfg.Claims(w.Write, ch.Change)
}

func (c *Core) meets(i *interval, ch *change, from time.Time) bool {
	e := c.cfg.MaxClockError
	return !i.start.Add(-e).After(ch.Received) && !i.end.Add(e).Before(from)
}

// complete says that the log was read past everything that the write did.
func (c *Core) complete(w *write) bool { return c.fencedAfter(w.end) }

func (c *Core) fencedAfter(t time.Time) bool {
	n := len(c.fences)
	return n > 0 && c.fences[n-1].Sent.After(t.Add(c.cfg.MaxClockError))
}

// fenceBelow is when the last fence below a position was sent: what is above it was committed later.
func (c *Core) fenceBelow(p event.Position) time.Time {
	i := sort.Search(len(c.fences), func(i int) bool { return c.fences[i].Position >= p })
	if i == 0 {
		return time.Time{}
	}
	return c.fences[i-1].Sent
}

// bound is a position above which a complete write has no effects.
func (c *Core) bound(w *write) event.Position {
	t := w.end.Add(c.cfg.MaxClockError)
	i := sort.Search(len(c.fences), func(i int) bool { return c.fences[i].Sent.After(t) })
	if i == len(c.fences) {
		return ^event.Position(0)
	}
	return c.fences[i].Position
}

// may says whether a waiting change can be an effect of a write.
func (c *Core) may(w *write, ch *change) bool {
	switch {
	case ch.imported():
		return false
	case !ch.Write.IsZero() || len(ch.Other) > 0:
		return ch.Write == w.id || slices.Contains(ch.Other, w.id)
	}
	return c.touches(w, ch, c.fenceBelow(ch.Position))
}

// expired says that a change has waited long enough. While this worker is behind, and marks of a live proxy are on
// their way, it waits longer: a backlog of changes would else be read before the writes that made them.
func (c *Core) expired(ch *change) bool {
	if ch.imported() || c.queued > c.cfg.MaxPending {
		return true
	}
	wait := c.now.Sub(ch.arrived)
	if wait < c.cfg.AttributeWait+c.cfg.MaxClockError {
		return false
	}
	if wait >= c.cfg.ReplicaWait {
		return true
	}
	for _, r := range c.replicas {
		behind := r.marked && !r.ended && c.now.Sub(r.clock) > c.cfg.ReplicaWait/2 && r.clock.Before(ch.Received.Add(c.cfg.MaxClockError))
		if behind && c.now.Sub(r.seen) < c.cfg.AttributeWait {
			return false
		}
	}
	return true
}

func sortIDs(ids []event.WriteID) {
	slices.SortFunc(ids, func(a, b event.WriteID) int {
		switch {
		case a.Replica != b.Replica:
			if a.Replica < b.Replica {
				return -1
			}
			return 1
		case a.Epoch != b.Epoch:
			if a.Epoch < b.Epoch {
				return -1
			}
			return 1
		case a.Seq < b.Seq:
			return -1
		case a.Seq > b.Seq:
			return 1
		}
		return 0
	})
}
