package settle

import (
	"slices"

	"banyan/proxy/event"
)

// mark publishes how far this partition is.
func (c *Core) mark() {
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
	c.passOn, c.moved, c.lastMark = nil, false, c.now
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
			if _, there := byID[id]; there || r.settledAll(f) {
				continue
			}
			ids, byID[id] = append(ids, id), f.Addresses
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
	if len(c.fences) > 0 {
		changes = min(changes, c.fenceOffset)
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
			c.eachPast(w, func(p *past) { changes = min(changes, p.offset, p.fences) })
		}
	}
	return writes, changes
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
