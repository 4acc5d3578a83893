package settle

import (
	"banyan/proxy/event"
)

// restored is what a predecessor published: its last mark, and the entries from the mark's ResumeSettled on, before
// and after the mark. What it decided stays decided.
type restored struct {
	position event.Position
	held     map[heldKey]event.Position
	changes  map[changeID]*event.SettledChange
	lastTo   map[heldKey]event.Position
}

type heldKey struct {
	m event.Migration
	k event.OrderingKey
}

type changeID struct {
	m        event.Migration
	position event.Position
	part     partID
}

// Restore tells a new core what its predecessor published. mark is the last one, nil if there is none; entries are
// all that stand at or above its ResumeSettled. It comes before everything else.
func (c *Core) Restore(mark *event.SettledMark, entries func(yield func(*event.Entry) bool)) {
	r := &restored{held: map[heldKey]event.Position{}, changes: map[changeID]*event.SettledChange{}, lastTo: map[heldKey]event.Position{}}
	from := int64(0)
	if mark != nil {
		from = mark.ResumeWrites
	}
	for e := range entries {
		k := heldKey{e.Migration, e.Key}
		for i := range e.Changes {
			s := &e.Changes[i]
			r.changes[changeID{e.Migration, s.Position, partOf(e.Key, s.Rows)}] = s
			r.lastTo[k] = max(r.lastTo[k], s.Position)
		}
		s := c.key(e.Migration, e.Key)
		s.lastTo = max(s.lastTo, e.To)
		c.highest = max(c.highest, e.To)
		for i := range e.Writes {
			w := &e.Writes[i].Write
			x := c.replica(w.ID.Replica)
			x.done[w.ID] = append(x.done[w.ID], settledAt{w.Address, from, e.Clock})
			s.done = append(s.done, c.interval(w))
		}
	}
	if mark != nil {
		r.position = mark.Position
		c.nextWrites, c.nextChanges = mark.ResumeWrites, mark.ResumeChanges
		for _, h := range mark.Held {
			r.held[heldKey{h.Migration, h.Key}] = h.From
		}
		for _, f := range mark.Fences {
			c.passed = f.Sent
		}
		c.restoreReplicas(mark)
	}
	c.restored = r
}

func (c *Core) restoreReplicas(mark *event.SettledMark) {
	waiting := map[event.Replica][]event.InFlight{}
	above := map[event.WriteID][]event.Address{}
	for _, u := range mark.Unsettled {
		above[u.ID] = u.Addresses
		waiting[u.ID.Replica] = append(waiting[u.ID.Replica], event.InFlight{Seq: u.ID.Seq, Epoch: u.ID.Epoch, Addresses: u.Addresses})
	}
	for name, x := range mark.Replicas {
		r := c.replica(name)
		r.epoch, r.seq, r.ended = x.Epoch, x.Seq, x.Ended
		r.floor, r.above = x, above
		r.list(waiting[name])
	}
}

// change says whether a change was emitted by the predecessor, and how, if that is still known.
func (r *restored) change(k *key, x *event.Change) (*event.SettledChange, bool) {
	if r == nil {
		return nil, false
	}
	if s := r.changes[changeID{k.m.name, x.Position, partOf(x.Key, x.Rows)}]; s != nil {
		return s, true
	}
	if len(x.Rows) > 0 && x.Rows[0].Op == event.Import {
		return nil, false // may stand at a position that a mark has passed
	}
	id := heldKey{k.m.name, k.name}
	if x.Position < r.lastTo[id] {
		return nil, true
	}
	from, held := r.held[id]
	return nil, x.Position <= r.position && !(held && x.Position >= from)
}
