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
	came     bool // a mark, since the last Tick
	seen     time.Time
	silent   bool
	marked   bool                              // by itself; false: only a record or the last settled mark told of it
	done     map[event.WriteID][]event.Address // settled here, not covered by a mark yet
}

// replica gives the replica, which a write record may be the first to tell of.
func (c *Core) replica(name event.Replica) *replica {
	r := c.replicas[name]
	if r == nil {
		r = &replica{name: name, came: true, done: map[event.WriteID][]event.Address{}}
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
	r.epoch, r.seq, r.ended, r.marked = m.Epoch, m.Seq, m.Ended, true
	if m.Clock.After(r.clock) {
		r.clock = m.Clock
	}
	r.list(m.InFlight)
	for id := range r.done {
		if r.covers(id) {
			delete(r.done, id) // from now on the mark itself tells that it is a repeat
		}
	}
	c.all, c.moved = true, true
}

func (r *replica) list(fs []event.InFlight) {
	r.inFlight, r.listed = slices.Clone(fs), make(map[event.WriteID]bool, len(fs))
	for i := range r.inFlight {
		f := &r.inFlight[i]
		if f.Epoch == 0 {
			f.Epoch = r.epoch
		}
		r.listed[r.id(f)] = true
	}
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
	return r.covers(id) || r.settled(id, a)
}

func (r *replica) settled(id event.WriteID, a event.Address) bool {
	return slices.ContainsFunc(r.done[id], func(b event.Address) bool { return a.Migration == b.Migration && a.Key == b.Key })
}

// settledAll says that a write in flight at the last mark has come and settled since.
func (r *replica) settledAll(f *event.InFlight) bool {
	id := r.id(f)
	for _, a := range f.Addresses {
		if a.Key == "" || !r.settled(id, a) {
			return false
		}
	}
	return len(f.Addresses) > 0
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
