package settle

import (
	"slices"

	"banyan/proxy/event"
)

// advance publishes what can be published of one key.
func (c *Core) advance(k *key) (moved bool) {
	for len(k.queue) > 0 {
		run := c.run(k)
		if len(run) == 0 {
			break
		}
		c.emitRun(k, run)
		moved = true
	}
	return c.settleAlone(k) || moved
}

// run gives the decisions of the next entry: the fewest changes from the head on that are closed under their writes.
// When the head's wait has run out it is not closed, but as long as it is decided or run out, too. Empty: wait.
func (c *Core) run(k *key) (run []decision) {
	rows, bytes, expired := 0, 0, 0
	for i, end := 0, 0; i <= end; i++ {
		ch := k.queue[i]
		if c.barred(k, ch) {
			return run
		}
		if rows += len(ch.Rows); i > 0 && (rows > c.cfg.MaxRows || bytes+ch.size > c.cfg.MaxBytes) {
			break
		}
		bytes += ch.size
		d, final := c.decide(k, ch)
		if !final {
			if !c.expired(ch) {
				if i > 0 && c.expired(k.queue[0]) {
					break
				}
				return nil
			}
			expired++
		}
		run = append(run, d)
		if final && d.cause == event.Effect {
			end = max(end, c.lastEffect(k, i, d.write))
		}
	}
	c.stats.Expired += expired
	return run
}

// barred says that a change must wait for others of its migration: one without a key stands between them.
func (c *Core) barred(k *key, ch *change) bool {
	if c.barriers == 0 || k.m.keyless == nil {
		return false
	}
	if k.name != "" {
		q := k.m.keyless.queue
		return len(q) > 0 && q[0].Position < ch.Position
	}
	return slices.ContainsFunc(c.busy, func(o *key) bool {
		return o.m == k.m && o != k && len(o.queue) > 0 && o.queue[0].Position <= ch.Position
	})
}

// lastEffect is the index of the last waiting change that can be an effect of the write.
func (c *Core) lastEffect(k *key, from int, id event.WriteID) int {
	last := from
	var w *write
	for x := range c.writesOf(k) {
		if x.id == id {
			w = x
			break
		}
	}
	if w == nil { // its record is another key's, or settled: annotations tell
		for i := from + 1; i < len(k.queue) && i-from < maxPast; i++ {
			if k.queue[i].Write == id {
				last = i
			}
		}
		return last
	}
	for i, bound := from+1, c.bound(w); i < len(k.queue) && k.queue[i].Position <= bound; i++ {
		if c.may(w, k.queue[i]) {
			last = i
		}
	}
	return last
}

func (c *Core) emitRun(k *key, run []decision) {
	n := len(run)
	e := &event.Entry{V: event.EntryVersion, Migration: k.m.name, Key: k.name, From: k.queue[0].Position, To: k.queue[n-1].Position,
		Changes: make([]event.SettledChange, n), Clock: c.now}
	size := 0
	for i, d := range run {
		ch := k.queue[i]
		size += ch.size
		e.Changes[i] = event.SettledChange{Position: ch.Position, Rows: ch.Rows, Cause: d.cause, Write: d.write, Annotated: d.annotated,
			Candidates: d.candidates, Received: ch.Received}
		c.count(d.cause)
		if !c.give(k, ch, d.write) && d.cause != event.Imported {
			c.rememberPast(k, &past{change: ch, cause: d.cause, write: d.write, candidates: d.candidates, at: c.now})
		}
	}
	clear(k.queue[:n])
	if k.queue = k.queue[n:]; len(k.queue) == 0 {
		k.queue = nil
	}
	c.queued -= n
	if k.name == "" {
		c.barriers -= n
	}
	k.lastTo = max(k.lastTo, e.To)
	c.highest = max(c.highest, e.To)
	for _, w := range slices.Clone(k.writes) {
		if len(w.effects) > 0 && w.effects[len(w.effects)-1] >= e.From && c.complete(w) && !c.waitsFor(w) && size+w.size <= c.cfg.MaxBytes {
			size += w.size
			e.Writes = append(e.Writes, c.settle(w, e.From))
		}
	}
	c.sink.Entry(e)
}

// give notes an effect at its write, if the record is here.
func (c *Core) give(k *key, ch *change, id event.WriteID) bool {
	if id.IsZero() {
		return false
	}
	given := false
	for _, w := range c.writes[id] {
		if w.key == k || w.key.name == "" && w.key.m == k.m {
			if n := len(w.effects); n == 0 || w.effects[n-1] != ch.Position {
				w.effects = append(w.effects, ch.Position)
			}
			if w.needs < 0 {
				w.needs = min(ch.offset, ch.fences)
			}
			given = true
		}
	}
	return given
}

func (c *Core) count(cause event.Cause) {
	switch cause {
	case event.Effect:
		c.stats.Effects++
	case event.Dark:
		c.stats.Dark++
	case event.Unattributed:
		c.stats.Unattributed++
	case event.Imported:
		c.stats.Imported++
	}
}

func (c *Core) rememberPast(k *key, p *past) {
	if len(k.past) >= maxPast {
		k.past = slices.Delete(k.past, 0, maxPast/4)
	}
	p.key = k
	k.past = append(k.past, p)
	if c.isOrphan(p) {
		c.orphans = append(c.orphans, p)
	}
}

// waitsFor says that a change which the write may have made waits.
func (c *Core) waitsFor(w *write) bool {
	bound := c.bound(w)
	in := func(k *key) bool {
		for _, ch := range k.queue {
			if ch.Position > bound {
				return false
			}
			if c.may(w, ch) {
				return true
			}
		}
		return false
	}
	if w.key.name != "" {
		return in(w.key) || w.key.m.keyless != nil && in(w.key.m.keyless)
	}
	return slices.ContainsFunc(c.busy, func(k *key) bool { return k.m == w.key.m && in(k) })
}

// settleAlone publishes the writes that are over and have nothing in the entries to come.
func (c *Core) settleAlone(k *key) (moved bool) {
	var over []*write
	for _, w := range k.writes {
		if !c.complete(w) || c.waitsFor(w) {
			continue
		}
		if f := c.effects(w); f.open && c.now.Sub(w.arrived) < c.cfg.AttributeWait+c.cfg.MaxClockError {
			continue // a mark may tell in a moment
		}
		over = append(over, w)
	}
	slices.SortStableFunc(over, func(a, b *write) int { return a.end.Compare(b.end) })
	for _, w := range over {
		at := c.position
		if c.restored != nil {
			at = max(at, c.restored.position) // the key may have been there
		}
		if len(k.queue) > 0 {
			at = min(at, k.queue[0].Position-1)
		}
		at = max(at, k.lastTo)
		e := &event.Entry{V: event.EntryVersion, Migration: k.m.name, Key: k.name, From: at, To: at, Clock: c.now}
		e.Writes = []event.SettledWrite{c.settle(w, ^event.Position(0))}
		k.lastTo = at
		c.highest = max(c.highest, at)
		c.sink.Entry(e)
	}
	return len(over) > 0
}

// settle gives the verdict on a write and forgets it. from is where the changes of its entry begin.
func (c *Core) settle(w *write, from event.Position) event.SettledWrite {
	f := c.effects(w)
	for _, p := range f.claimed {
		p.claimed = true
	}
	s := event.SettledWrite{Write: *w.Write, Effects: f.positions, Overlaps: c.overlaps(w)}
	s.Late = len(f.positions) > 0 && f.positions[0] < from
	switch {
	case w.Result.Outcome == event.Applied:
		s.Verdict = event.VerdictApplied
	case w.Result.Outcome == event.Rejected:
		s.Verdict = event.VerdictRejected
	case len(f.positions) > 0:
		s.Verdict = event.VerdictApplied
	case f.open || f.shared:
		s.Verdict = event.VerdictUnresolved
	default:
		s.Verdict = event.VerdictNotApplied
	}
	k := w.key
	k.writes = slices.DeleteFunc(k.writes, func(x *write) bool { return x == w })
	left := slices.DeleteFunc(c.writes[w.id], func(x *write) bool { return x == w })
	if c.writes[w.id] = left; len(left) == 0 {
		delete(c.writes, w.id)
	}
	if len(k.done) >= maxPast {
		k.done = slices.Delete(k.done, 0, maxPast/4)
	}
	k.done = append(k.done, w.interval)
	if r := c.replica(w.id.Replica); !r.covers(w.id) {
		r.done[w.id] = append(r.done[w.id], settledAt{w.Address, w.offset, c.now})
	}
	c.stats.Writes++
	return s
}

// found are the effects of a write.
type found struct {
	positions []event.Position
	claimed   []*past // emitted with another cause
	shared    bool    // there is a change that it or another write may have made
	open      bool    // there is a change that only it may have made, but a mark must still say so
}

// effects gives what was emitted as the write's, and what was emitted without a cause, or as dark, that only it can
// have made after all.
func (c *Core) effects(w *write) (f found) {
	f.positions = slices.Clone(w.effects)
	if w.key.name == "" {
		for _, k := range w.key.m.keys {
			c.look(w, k, &f)
		}
	} else {
		c.look(w, w.key, &f)
		if w.key.m.keyless != nil {
			for _, p := range w.key.m.keyless.past {
				f.shared = f.shared || c.mayHave(w, p)
			}
		}
	}
	slices.Sort(f.positions)
	f.positions = slices.Compact(f.positions)
	return f
}

func (c *Core) look(w *write, k *key, f *found) {
	for _, p := range k.past {
		switch {
		case p.cause == event.Effect:
			if p.write == w.id {
				f.positions = append(f.positions, p.Position)
			}
		case c.mayHave(w, p):
			shared, open := c.contested(w, k, p)
			if !shared && !open {
				f.positions, f.claimed = append(f.positions, p.Position), append(f.claimed, p)
			}
			f.shared, f.open = f.shared || shared, f.open || open && !shared
		}
	}
}

// mayHave says that an emitted change without a known cause may be the write's.
func (c *Core) mayHave(w *write, p *past) bool {
	return !p.claimed && p.cause != event.Effect && p.cause != event.Imported && c.may(w, p.change)
}

// contested says whether such a change may be another's: of a write that is known or of a silent replica (shared), or
// of one that a mark may still tell of (open).
func (c *Core) contested(w *write, k *key, p *past) (shared, open bool) {
	if len(p.Other) > 0 || slices.ContainsFunc(p.candidates, func(id event.WriteID) bool { return id != w.id }) {
		return true, false
	}
	from := c.fenceBelow(p.Position)
	if slices.ContainsFunc(k.done, func(i interval) bool { return c.meets(&i, p.change, from) }) {
		return true, false // it came after the change was emitted
	}
	ids, open, silent := c.candidates(k, p.change)
	return silent || len(ids) > 1, open
}

func (c *Core) overlaps(w *write) (ids []event.WriteID) {
	add := func(o interval) {
		e := c.cfg.MaxClockError
		if o.id.Replica == w.id.Replica {
			e = 0
		}
		if o.id != w.id && !o.start.Add(-e).After(w.end) && !w.start.Add(-e).After(o.end) {
			ids = append(ids, o.id)
		}
	}
	for o := range c.writesOf(w.key) {
		add(o.interval)
	}
	for _, o := range w.key.done {
		add(o)
	}
	sortIDs(ids)
	return slices.Compact(ids)
}
