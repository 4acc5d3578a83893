package settle

import (
	"slices"

	"banyan/proxy/event"
)

// mark publishes how far this partition is. A successor says nothing before it has read again as far as its
// predecessor was: it does not know what is held.
func (c *Core) mark() {
	if c.restored != nil && c.position < c.restored.position {
		return
	}
	m := &event.SettledMark{V: event.MarkVersion, Position: c.position, Fences: c.passOn, Clock: c.now, Replicas: map[event.Replica]event.Reached{}}
	for name, r := range c.replicas {
		if r.epoch > 0 {
			m.Replicas[name] = event.Reached{Epoch: r.epoch, Seq: r.seq, Ended: r.ended}
		}
	}
	m.Held = c.held()
	m.Unsettled = c.unsettled()
	m.ResumeWrites, m.ResumeChanges = c.resume()
	c.stats.Held, c.stats.Unsettled = len(m.Held), len(m.Unsettled)
	if !c.reader.IsZero() {
		c.stats.Lag = c.now.Sub(c.reader)
	}
	c.passOn, c.moved, c.urgent, c.lastMark = nil, false, false, c.now
	c.sink.Mark(m)
}

// Stats gives the counts since the last call.
func (c *Core) Stats() Stats {
	s := c.stats
	c.stats = Stats{Held: s.Held, Unsettled: s.Unsettled, Silent: s.Silent, Lag: s.Lag}
	return s
}

func (c *Core) held() (held []event.Held) {
	for _, k := range c.busy {
		if len(k.queue) > 0 && k.queue[0].Position <= c.position {
			held = append(held, event.Held{Migration: k.m.name, Key: k.name, From: k.queue[0].Position})
		}
	}
	return held
}

// unsettled are the writes with a record that wait, and those that a mark listed in flight and that have not come.
func (c *Core) unsettled() []event.Unsettled {
	byID := map[event.WriteID][]event.Address{}
	var ids []event.WriteID
	for id, ws := range c.writes {
		ids = append(ids, id)
		for _, w := range ws {
			byID[id] = append(byID[id], w.Address)
		}
	}
	for _, r := range c.replicas {
		for i := range r.inFlight {
			f := &r.inFlight[i]
			id := r.id(f)
			missing, ok := r.missing(f)
			if !ok {
				continue
			}
			have, there := byID[id]
			if !there {
				ids = append(ids, id)
			}
			for _, a := range missing {
				if !slices.ContainsFunc(have, sameAddress(a)) {
					have = append(have, a)
				}
			}
			if byID[id] = have; missing == nil {
				byID[id] = nil
			}
		}
	}
	sortIDs(ids)
	out := make([]event.Unsettled, len(ids))
	for i, id := range ids {
		out[i] = event.Unsettled{ID: id, Addresses: byID[id]}
	}
	return out
}

// resume gives the lowest offsets that a successor must read again.
func (c *Core) resume() (writes, changes int64) {
	writes, changes = c.nextWrites, c.nextChanges
	if c.fenceOffset >= 0 {
		changes = min(changes, c.fenceOffset)
	}
	for _, r := range c.replicas { // what no mark covers can come again, and only .settled tells that it has settled
		for _, ds := range r.done {
			for _, d := range ds {
				if c.now.Sub(d.at) <= remember {
					writes = min(writes, d.offset)
				}
			}
		}
	}
	for _, k := range c.busy {
		for _, w := range k.writes {
			writes = min(writes, w.offset)
		}
		if len(k.queue) > 0 {
			changes = min(changes, k.queue[0].offset, k.queue[0].fences)
		}
	}
	for _, ws := range c.writes {
		for _, w := range ws {
			if w.needs >= 0 {
				changes = min(changes, w.needs)
			}
			c.eachPast(w, func(p *past) { changes = min(changes, p.offset, p.fences) })
		}
	}
	c.orphans = slices.DeleteFunc(c.orphans, func(p *past) bool { return !c.isOrphan(p) })
	for _, p := range c.orphans {
		changes = min(changes, p.offset, p.fences)
	}
	return writes, changes
}

// isOrphan says that an emitted change may be made by a write whose record may still come.
func (c *Core) isOrphan(p *past) bool {
	if c.now.Sub(p.at) > remember {
		return false
	}
	switch p.cause {
	case event.Effect:
		r := c.replicas[p.write.Replica]
		return len(c.writes[p.write]) == 0 && (r == nil || !r.covers(p.write) && len(r.done[p.write]) == 0)
	case event.Unattributed:
		return c.mayCome(p)
	}
	return false
}

// mayCome says that a write which made the change may be one that nobody has told of, or that is in flight.
func (c *Core) mayCome(p *past) bool {
	until := p.Received.Add(c.cfg.MaxClockError)
	for _, r := range c.replicas {
		if !r.ended && (r.silent || r.clock.Before(until)) {
			return true
		}
		if slices.ContainsFunc(r.inFlight, func(f event.InFlight) bool {
			return !f.Start.After(until) && concerns(&f, p.key) && !c.known(r, r.id(&f), &f)
		}) {
			return true
		}
	}
	return len(c.replicas) == 0
}

// eachPast gives the emitted changes that matter to the verdict on a write.
func (c *Core) eachPast(w *write, do func(*past)) {
	for _, k := range []*key{w.key, w.key.m.keyless} {
		if k == nil {
			continue
		}
		for _, p := range k.past {
			if p.write == w.id || slices.Contains(p.candidates, w.id) || c.mayHave(w, p) {
				do(p)
			}
		}
	}
}

// trail remembers where in .settled the entries stand that a successor must read back: those that hold records which
// it reads again.
type trail []batch

// batch is an offset in .settled: the entries from there to the next batch hold records below two offsets, and
// positions up to a third.
type batch struct {
	at, writes, changes int64
	to                  event.Position
}

// resume gives ResumeSettled for a mark. next is the offset at which this batch of entries, if there are any, and the
// mark will stand at the earliest.
func (t *trail) resume(next int64, entries bool, c *Core, m *event.SettledMark) int64 {
	if n := len(*t); entries && (n == 0 || (*t)[n-1].writes != c.nextWrites || (*t)[n-1].changes != c.nextChanges) {
		*t = append(*t, batch{next, c.nextWrites, c.nextChanges, c.highest})
	}
	for len(*t) > 0 && (*t)[0].writes <= m.ResumeWrites && (*t)[0].changes <= m.ResumeChanges && (*t)[0].to <= m.Position {
		*t = (*t)[1:]
	}
	if len(*t) > 0 {
		return (*t)[0].at
	}
	return next
}
