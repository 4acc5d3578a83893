package settle

import (
	"slices"
	"time"

	"banyan/proxy/event"
)

// replica is one proxy, as its marks show it to this partition.
type replica struct {
	name     event.Replica
	epoch    event.Epoch
	seq      event.Seq
	clock    time.Time
	inFlight []event.InFlight // Epoch is always set
	listed   map[event.WriteID]bool
	ended    bool
	idle     bool // it records nothing
	came     bool // a mark, since the last Tick
	seen     time.Time
	silent   bool
	marked   bool                          // by itself; false: only a record or the last settled mark told of it
	done     map[event.WriteID][]settledAt // not covered by a mark yet

	// What the predecessor's last mark said: up to the floor all is settled, but for these, at these addresses.
	floor event.Reached
	above map[event.WriteID][]event.Address
}

// settledAt is where and when a write settled.
type settledAt struct {
	event.Address
	offset int64 // of the record, or one below it
	at     time.Time
}

// replica gives the replica, which a write record may be the first to tell of.
func (c *Core) replica(name event.Replica) *replica {
	r := c.replicas[name]
	if r == nil {
		r = &replica{name: name, came: true, done: map[event.WriteID][]settledAt{}}
		c.replicas[name] = r
	}
	return r
}

// ReplicaMark takes a proxy's mark.
func (c *Core) ReplicaMark(m *event.ReplicaMark, offset int64) {
	c.nextWrites = offset + 1
	r := c.replica(m.Replica)
	r.came = true
	if m.Epoch < r.epoch || m.Epoch == r.epoch && m.Seq < r.seq {
		return // read again
	}
	c.urgent = c.urgent || m.Epoch != r.epoch || m.Seq != r.seq || m.Ended != r.ended || len(m.InFlight) != len(r.inFlight)
	r.epoch, r.seq, r.ended, r.idle, r.marked = m.Epoch, m.Seq, m.Ended, m.Idle, true
	if m.Clock.After(r.clock) {
		r.clock = m.Clock
	}
	r.list(m.InFlight)
	for id := range r.done {
		if r.covers(id) {
			delete(r.done, id) // from now on the mark itself tells that it is a repeat
		}
	}
	c.all = true
}

func (r *replica) list(fs []event.InFlight) {
	r.inFlight, r.listed = slices.Clone(fs), make(map[event.WriteID]bool, len(fs))
	for i := range r.inFlight {
		f := &r.inFlight[i]
		if f.Epoch == 0 {
			f.Epoch = r.epoch
		}
	}
	// After a restart marks are read again that list what has settled since.
	r.inFlight = slices.DeleteFunc(r.inFlight, func(f event.InFlight) bool { return r.underFloor(r.id(&f)) })
	for i := range r.inFlight {
		r.listed[r.id(&r.inFlight[i])] = true
	}
}

func (r *replica) underFloor(id event.WriteID) bool {
	if id.Epoch > r.floor.Epoch || id.Epoch == r.floor.Epoch && id.Seq > r.floor.Seq {
		return false
	}
	_, above := r.above[id]
	return !above
}

func (r *replica) id(f *event.InFlight) event.WriteID {
	return event.WriteID{Replica: r.name, Epoch: f.Epoch, Seq: f.Seq}
}

// covers says that nothing more comes of a write: the mark is past it and does not list it.
func (r *replica) covers(id event.WriteID) bool {
	return (id.Epoch < r.epoch || id.Epoch == r.epoch && id.Seq <= r.seq) && !r.listed[id]
}

// has says that a record is a repeat: it was settled here, or the mark says that it came before.
func (r *replica) has(id event.WriteID, a event.Address) bool {
	if r.covers(id) || r.settled(id, a) || r.underFloor(id) {
		return true
	}
	as := r.above[id]
	return len(as) > 0 && !slices.ContainsFunc(as, sameAddress(a))
}

func (r *replica) settled(id event.WriteID, a event.Address) bool {
	return slices.ContainsFunc(r.done[id], func(d settledAt) bool { return sameAddress(a)(d.Address) })
}

func sameAddress(a event.Address) func(event.Address) bool {
	return func(b event.Address) bool { return a.Migration == b.Migration && a.Key == b.Key }
}

// missing are the addresses at which a write in flight at the last mark has not settled here since; ok is false if
// there is none. Nil: they are not known.
func (r *replica) missing(f *event.InFlight) (as []event.Address, ok bool) {
	if len(f.Addresses) == 0 {
		return nil, true
	}
	as = slices.DeleteFunc(slices.Clone(f.Addresses), func(a event.Address) bool { return a.Key != "" && r.settled(r.id(f), a) })
	return as, len(as) > 0
}

func (c *Core) tickReplicas() {
	c.stats.Silent = 0
	for _, r := range c.replicas {
		if r.came || r.seen.IsZero() {
			r.came, r.seen = false, c.now
		}
		was := r.silent
		r.silent = !r.ended && c.now.Sub(r.seen) > c.cfg.ReplicaWait
		if r.silent {
			c.stats.Silent++
		}
		c.all = c.all || was != r.silent
	}
}

func (c *Core) forgetReplicas() {
	for name, r := range c.replicas {
		if c.now.Sub(r.seen) > c.cfg.Forget {
			delete(c.replicas, name)
		}
	}
}
