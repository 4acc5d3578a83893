package settle

import (
	"slices"
	"time"

	"banyan/proxy/event"
)

// Sink takes what a [Core] decides, in the order in which it must be published.
type Sink interface {
	Entry(e *event.Entry)
	Mark(m *event.SettledMark)
}

// Core is the join of one partition. It is not safe for concurrent use, does no I/O and knows no time but Tick's.
// What it is given is only looked at in the next Tick.
type Core struct {
	cfg   Config
	sink  Sink
	stats Stats
	now   time.Time
	begun time.Time // the first Tick

	migrations map[event.Migration]*migration
	busy       []*key       // with changes or writes that wait, in order of their first
	all        bool         // a mark came: every busy key is looked at
	queued     int          // changes that wait
	barriers   int          // of them, those without a key
	fresh      []*time.Time // when something came: set in the next Tick

	orphans []*past // that name a write whose record may still come

	writes   map[event.WriteID][]*write // that wait, by id: one for each address
	replicas map[event.Replica]*replica

	fences   []event.Fence // in order of Sent
	position event.Position
	highest  event.Position // of all that was published
	reader   time.Time      // its clock

	passOn   []event.Fence // for the next mark
	passed   time.Time     // Sent of the last fence that was passed on
	lastMark time.Time
	swept    time.Time
	moved    bool // since the last mark
	urgent   bool // since the last mark: something that somebody may wait for

	nextWrites, nextChanges int64
	fenceOffset             int64 // of the last reader mark, from where a successor knows the fences again; -1: none

	restored *restored
}

type migration struct {
	name    event.Migration
	keys    map[event.OrderingKey]*key
	keyless *key // its changes and writes are relevant to every key; nil until there is one
	last    event.Position
	parts   map[partID]bool // at position last
}

// key is one ordering key of a migration.
type key struct {
	m    *migration
	name event.OrderingKey

	queue  []*change // not emitted, in commit order
	writes []*write  // not settled
	busy   bool
	dirty  bool

	lastTo event.Position
	past   []*past    // emitted changes that a write may still be found to have made
	done   []interval // settled writes, for the overlaps of later ones
}

type change struct {
	*event.Change
	offset, fences int64
	size           int
	arrived        time.Time
	covered        time.Time // clock of the replica when its mark first covered the annotation
}

type interval struct {
	id         event.WriteID
	start, end time.Time
}

type write struct {
	*event.Write
	interval // end is open by max_execution if the outcome is unknown
	key      *key
	offset   int64
	size     int
	arrived  time.Time
	effects  []event.Position // already emitted
	needs    int64            // offset of the first of them; -1: there is none
}

// past is an emitted change.
type past struct {
	*change
	key        *key
	cause      event.Cause
	write      event.WriteID
	candidates []event.WriteID
	at         time.Time
	claimed    bool // by a write that settled later
}

// remember is how long emitted changes and settled writes are kept for records that come late.
const remember = 30 * time.Second

// maxPast bounds what one key remembers of either.
const maxPast = 256

// NewCore makes an empty core; the config must be valid.
func NewCore(cfg Config, sink Sink) *Core {
	return &Core{cfg: cfg.WithDefaults(), sink: sink, migrations: map[event.Migration]*migration{},
		writes: map[event.WriteID][]*write{}, replicas: map[event.Replica]*replica{}, fenceOffset: -1}
}

func (c *Core) key(m event.Migration, k event.OrderingKey) *key {
	mig := c.migrations[m]
	if mig == nil {
		mig = &migration{name: m, keys: map[event.OrderingKey]*key{}}
		c.migrations[m] = mig
	}
	s := mig.keys[k]
	if s == nil {
		s = &key{m: mig, name: k}
		mig.keys[k] = s
		if k == "" {
			mig.keyless = s
		}
	}
	return s
}

func (c *Core) touch(k *key) {
	k.dirty = true
	if !k.busy {
		k.busy = true
		c.busy = append(c.busy, k)
	}
}

// Write takes a write record; size is that of its encoded form.
func (c *Core) Write(w *event.Write, offset int64, size int) {
	c.nextWrites = offset + 1
	if c.replica(w.ID.Replica).has(w.ID, w.Address) || c.waits(w) {
		c.stats.Duplicates++
		return
	}
	x := &write{Write: w, key: c.key(w.Migration, w.Key), offset: offset, size: size, needs: -1}
	x.interval = c.interval(w)
	c.fresh = append(c.fresh, &x.arrived)
	x.key.writes = append(x.key.writes, x)
	c.writes[w.ID] = append(c.writes[w.ID], x)
	c.touch(x.key)
	if w.Key == "" {
		c.all = true
	}
}

func (c *Core) interval(w *event.Write) interval {
	i := interval{id: w.ID}
	i.start, i.end = w.Interval()
	if i.end.IsZero() {
		i.end = w.Intent.At
	}
	if w.Result.Outcome == event.Unknown {
		i.end = i.end.Add(c.cfg.MaxExecution)
	}
	return i
}

func (c *Core) waits(w *event.Write) bool {
	return slices.ContainsFunc(c.writes[w.ID], func(x *write) bool { return x.Migration == w.Migration && x.Key == w.Key })
}

// Change takes a change; size is that of its encoded form.
func (c *Core) Change(x *event.Change, offset int64, size int) {
	c.nextChanges = offset + 1
	k := c.key(x.Migration, x.Key)
	if !k.m.accept(x) {
		c.stats.Duplicates++
		return
	}
	ch := &change{Change: x, offset: offset, fences: c.fenceOffset, size: size}
	if ch.fences < 0 {
		ch.fences = offset
	}
	if old, emitted := c.restored.change(k, x); emitted {
		if old != nil {
			p := &past{change: ch, cause: old.Cause, write: old.Write, candidates: old.Candidates, at: c.now}
			c.fresh = append(c.fresh, &p.at)
			c.rememberPast(k, p)
		}
		return
	}
	k.queue = append(k.queue, ch)
	c.queued++
	c.fresh = append(c.fresh, &ch.arrived)
	c.touch(k)
	if k.name == "" {
		c.barriers++
	}
}

// partID is what tells changes of one position apart: k of n would differ after a change of the mapping.
type partID struct {
	key     event.OrderingKey
	row     int // number of the first row
	imports bool
}

func partOf(key event.OrderingKey, rows []event.RowChange) partID {
	id := partID{key: key, row: -1}
	if len(rows) > 0 {
		id.row, id.imports = rows[0].N, rows[0].Op == event.Import
	}
	return id
}

func (x *change) imported() bool { return len(x.Rows) > 0 && x.Rows[0].Op == event.Import }

// accept says whether a change is new. Positions ascend; several parts, and several import chunks while legacy is
// idle, may stand at one.
func (m *migration) accept(x *event.Change) bool {
	switch {
	case x.Position < m.last:
		return false
	case x.Position > m.last || m.parts == nil:
		m.last = x.Position
		clear(m.parts)
		if m.parts == nil || len(m.parts) > 64 {
			m.parts = map[partID]bool{}
		}
	}
	id := partOf(x.Key, x.Rows)
	if m.parts[id] {
		return false
	}
	m.parts[id] = true
	return true
}

// ReaderMark takes a mark of the change-log reader.
func (c *Core) ReaderMark(m *event.ReaderMark, offset int64) {
	c.nextChanges = offset + 1
	c.fenceOffset = offset
	c.all = true
	c.position = max(c.position, m.Position)
	if m.Clock.After(c.reader) {
		c.reader = m.Clock
	}
	for _, f := range m.Fences {
		if n := len(c.fences); n > 0 && !f.Sent.After(c.fences[n-1].Sent) {
			continue // a repeat
		}
		c.fences = append(c.fences, f)
		if f.Sent.After(c.passed) {
			c.passOn, c.passed = append(c.passOn, f), f.Sent
		}
	}
	if len(c.fences) > 20_000 { // of minutes; a change whose fence is gone has more candidates, not fewer
		c.fences = slices.Clone(c.fences[10_000:])
	}
	c.moved = true
}

// Tick sets the clock, decides what can be decided, and publishes.
func (c *Core) Tick(now time.Time) {
	c.now = now
	if c.begun.IsZero() {
		c.begun = now
	}
	for _, at := range c.fresh {
		*at = now
	}
	clear(c.fresh)
	c.fresh = c.fresh[:0]
	c.tickReplicas()
	for {
		barred := c.barriers > 0 // then what one key publishes may open the way for others
		c.all = c.all || barred
		if !c.pass() || !barred {
			break
		}
	}
	c.all = false
	if now.Sub(c.swept) >= time.Second {
		c.sweep()
	}
	// Marks cost every reader of them. One that frees a key or a write goes at once; news of fences alone comes with the
	// reader's own marks, which are as far apart.
	since := now.Sub(c.lastMark)
	if c.urgent || c.moved && since >= c.cfg.MarkEvery*4/5 || since >= c.cfg.MarkEvery {
		c.mark()
	}
}

// pass looks once at every busy key and says whether anything was emitted.
func (c *Core) pass() (moved bool) {
	kept := c.busy[:0]
	for _, k := range c.busy {
		if c.all || k.dirty || len(k.queue) > 0 && c.expired(k.queue[0]) {
			k.dirty = false
			moved = c.advance(k) || moved
		}
		if k.busy = len(k.queue)+len(k.writes) > 0; k.busy {
			kept = append(kept, k)
		}
	}
	clear(c.busy[len(kept):])
	c.busy = kept
	c.urgent = c.urgent || moved
	return moved
}

// sweep forgets what nobody can ask for any more.
func (c *Core) sweep() {
	c.swept = c.now
	c.forgetReplicas()
	old := c.now.Add(-remember)
	for _, m := range c.migrations {
		for name, k := range m.keys {
			if len(k.writes) == 0 && (m.keyless == nil || len(m.keyless.writes) == 0) {
				k.past = slices.DeleteFunc(k.past, func(p *past) bool { return p.at.Before(old) })
				k.done = slices.DeleteFunc(k.done, func(i interval) bool { return i.end.Before(old) })
			}
			if !k.busy && len(k.past)+len(k.done) == 0 && name != "" {
				delete(m.keys, name)
			}
		}
	}
}
