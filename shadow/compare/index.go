package compare

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"banyan/proxy/event"
	"banyan/shadow/explain"
)

// EntityOf names the entity of a legacy row; ok is false if the table has none, and its changes then touch the whole key.
type EntityOf func(table string, row event.Values) (entity event.Entity, ok bool)

// IndexConfig of an [Index].
type IndexConfig struct {
	Migration event.Migration
	Entity    EntityOf
	// Mapped says whether changes of a column become events when no write claims them; nil: not known. Column "" asks for
	// inserts and deletes of the table.
	Mapped func(table, column string) bool
	// Retain is how long changes, events and fences are kept after they were read. Default 10m.
	Retain time.Duration
	// MaxBytes bounds the records kept; the oldest go first. Default 64 MiB.
	MaxBytes int
	// WithEvents: domain events are added too, and explanations wait for them.
	WithEvents bool
}

// Index holds what changed lately in one partition: the settled entries and events of each key, and the fences. It is
// safe for concurrent use.
//
// Invariants: every change of every key with a position in (floor, through] is in logs, but for held keys from where
// they are held; floor only grows. What lies at or below the floor is not known, and nothing is decided about it.
type Index struct {
	cfg IndexConfig

	mu      sync.RWMutex // guards all below
	keys    map[event.OrderingKey]*keyLog
	fences  []event.Fence
	held    map[event.OrderingKey]event.Position
	through event.Position // of the newest mark
	floor   event.Position
	begun   bool // the floor is known

	eventsThrough, eventsFloor event.Position
	eventsBegun                bool

	order []kept // in the order of arrival, oldest first
	bytes int
	news  chan struct{} // closed when through or eventsThrough grows
}

type keyLog struct {
	entries []*event.Entry
	events  []*event.Event
	last    event.Position      // To of the newest entry
	at      map[string]struct{} // identities of the entries that end at last
	version event.Position      // of its newest change, kept when the entries are gone
}

// kept is one record in the order of eviction.
type kept struct {
	key   event.OrderingKey
	event bool
	size  int
	read  time.Time
	entry *event.Entry
}

// NewIndex makes an empty one. It knows what stands above the first mark that it gets; with [Index.Begin], everything.
func NewIndex(cfg IndexConfig) *Index {
	if cfg.Retain == 0 {
		cfg.Retain = 10 * time.Minute
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = 64 << 20
	}
	return &Index{cfg: cfg, keys: map[event.OrderingKey]*keyLog{}, news: make(chan struct{})}
}

// Begin says that the first record of the settled stream comes next: nothing is missing below.
func (x *Index) Begin() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.begun = true
}

// BeginEvents says the same of the events.
func (x *Index) BeginEvents() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.eventsBegun = true
}

func (x *Index) log(k event.OrderingKey) *keyLog {
	l := x.keys[k]
	if l == nil {
		l = &keyLog{at: map[string]struct{}{}}
		x.keys[k] = l
	}
	return l
}

// Withdrawn is a change that was dark or unattributed until a late write turned out to have made it.
type Withdrawn struct {
	Cause event.Cause // that it had
	Row   event.RowChange
}

// Add enters a settled entry; size is that of its record. A repeat is refused.
func (x *Index) Add(e *event.Entry, size int, now time.Time) (fresh bool, withdrawn []Withdrawn) {
	x.mu.Lock()
	defer x.mu.Unlock()
	l := x.log(e.Key)
	id := identify(e)
	if _, seen := l.at[id]; e.To < l.last || e.To == l.last && seen {
		return false, nil
	}
	if e.To > l.last {
		clear(l.at)
	}
	l.last, l.at[id] = e.To, struct{}{}
	l.entries = append(l.entries, e)
	if len(e.Changes) > 0 {
		l.version = max(l.version, e.Changes[len(e.Changes)-1].Position)
	}
	for i := range e.Writes {
		if e.Writes[i].Late {
			withdrawn = append(withdrawn, l.claim(&e.Writes[i], e.From)...)
		}
	}
	x.keepLocked(kept{key: e.Key, size: size, read: now, entry: e})
	return true, withdrawn
}

// identify tells entries that end at one position apart.
func identify(e *event.Entry) string {
	var b strings.Builder
	fmt.Fprint(&b, e.From)
	for i := range e.Writes {
		b.WriteString(" " + e.Writes[i].Write.ID.String())
	}
	for i := range e.Changes {
		for j := range e.Changes[i].Rows {
			fmt.Fprint(&b, " ", e.Changes[i].Position, ".", e.Changes[i].Rows[j].N)
		}
	}
	return b.String()
}

// claim gives a late write the earlier changes that it names. Entries may be read by others: they are replaced.
func (l *keyLog) claim(w *event.SettledWrite, from event.Position) (out []Withdrawn) {
	for i, e := range l.entries {
		hit := func(c event.SettledChange) bool {
			return (c.Cause == event.Dark || c.Cause == event.Unattributed) && c.Position < from && slices.Contains(w.Effects, c.Position)
		}
		if !slices.ContainsFunc(e.Changes, hit) {
			continue
		}
		n := *e
		n.Changes = slices.Clone(e.Changes)
		for j := range n.Changes {
			c := &n.Changes[j]
			if !hit(*c) {
				continue
			}
			for _, r := range c.Rows {
				out = append(out, Withdrawn{c.Cause, r})
			}
			c.Cause, c.Write, c.Candidates = event.Effect, w.Write.ID, nil
		}
		l.entries[i] = &n
	}
	return out
}

// AddEvent enters a domain event.
func (x *Index) AddEvent(e *event.Event, size int, now time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	l := x.log(e.Key)
	l.events = append(l.events, e)
	x.keepLocked(kept{key: e.Key, event: true, size: size, read: now})
}

// Mark enters a settled mark: everything up to its position is in, but for the held keys.
func (x *Index) Mark(m *event.SettledMark, now time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.begun {
		x.begun, x.floor = true, m.Position
	}
	x.fences = append(x.fences, m.Fences...)
	x.held = map[event.OrderingKey]event.Position{}
	for _, h := range m.Held {
		if h.Migration == x.cfg.Migration {
			x.held[h.Key] = h.From
		}
	}
	x.through = max(x.through, m.Position)
	x.evictLocked(now)
	x.toldLocked()
}

// MarkEvents enters a mark of the event topic.
func (x *Index) MarkEvents(m *event.SettledMark) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.eventsBegun {
		x.eventsBegun, x.eventsFloor = true, m.Position
	}
	x.eventsThrough = max(x.eventsThrough, m.Position)
	x.toldLocked()
}

func (x *Index) toldLocked() {
	close(x.news)
	x.news = make(chan struct{})
}

func (x *Index) keepLocked(k kept) {
	x.order = append(x.order, k)
	x.bytes += k.size
	x.evictLocked(k.read)
}

// evictLocked lets the oldest records go, and raises the floors above them.
func (x *Index) evictLocked(now time.Time) {
	n := 0
	for n < len(x.order) && (x.bytes > x.cfg.MaxBytes || now.Sub(x.order[n].read) > x.cfg.Retain) {
		k := &x.order[n]
		l := x.keys[k.key]
		if k.event {
			x.eventsFloor = max(x.eventsFloor, l.events[0].Position)
			l.events = l.events[1:]
		} else {
			x.floor = max(x.floor, k.entry.To)
			l.entries = l.entries[1:]
		}
		x.bytes -= k.size
		*k = kept{}
		n++
	}
	x.order = x.order[n:]
	// The newest fence answered long ago is kept: it is the lower bound of what began since.
	old := 0
	for old+1 < len(x.fences) && now.Sub(x.fences[old+1].Answered) > x.cfg.Retain {
		old++
	}
	x.fences = x.fences[old:]
}

// Through is the position up to which everything was read, and a channel that is closed when that grows.
func (x *Index) Through() (settled, events event.Position, news <-chan struct{}) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	events = x.eventsThrough
	if !x.cfg.WithEvents {
		events = x.through
	}
	return x.through, events, x.news
}

// Before is the position of the last fence that was answered before t: what it covers, a read that began at t saw.
func (x *Index) Before(t time.Time) (event.Position, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, f := range slices.Backward(x.fences) {
		if f.Answered.Before(t) {
			return f.Position, true
		}
	}
	return 0, false
}

// After is the position of the first fence that was sent after t: a read that ended at t saw nothing above.
func (x *Index) After(t time.Time) (event.Position, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	// Fences are sent in order, but those of a reader that was replaced may come late; the lowest that serves is exact.
	i := len(x.fences)
	for i > 0 && x.fences[i-1].Sent.After(t) {
		i--
	}
	if i == len(x.fences) {
		return 0, false
	}
	return x.fences[i].Position, true
}

// Knowledge of a window.
type Knowledge int

// What is known of it.
const (
	Ready Knowledge = iota
	Early           // not read so far, or the key is held
	Aged            // no longer known
)

// Knows says whether everything of the key in (low, high] is known.
func (x *Index) Knows(k event.OrderingKey, low, high event.Position) Knowledge {
	x.mu.RLock()
	defer x.mu.RUnlock()
	switch {
	case !x.begun || x.through < high || x.heldLocked(k, high) || x.heldLocked("", high):
		return Early
	case low < x.floor:
		return Aged
	}
	return Ready
}

func (x *Index) heldLocked(k event.OrderingKey, high event.Position) bool {
	from, held := x.held[k]
	return held && from <= high
}

// Tables restricts which changes matter: "units" or "units.hp". None: all do.
type Tables map[string]map[string]bool

// NewTables reads the list of the config.
func NewTables(list []string) Tables {
	if len(list) == 0 {
		return nil
	}
	t := Tables{}
	for _, s := range list {
		table, column, one := strings.Cut(s, ".")
		columns, seen := t[table]
		switch {
		case !one || seen && columns == nil:
			t[table] = nil // the whole table
		case !seen:
			t[table] = map[string]bool{column: true}
		default:
			columns[column] = true
		}
	}
	return t
}

// Matter says whether a row change can be seen by whoever reads these tables.
func (t Tables) Matter(r *event.RowChange) bool {
	if t == nil {
		return true
	}
	columns, ok := t[r.Table]
	if !ok || columns == nil || r.Op != event.Update {
		return ok
	}
	for c := range columns {
		if r.Changed(c) {
			return true
		}
	}
	return false
}

// Touched is what changed in a window.
type Touched struct {
	Entities map[event.Entity]struct{}
	Wild     bool // something changed that belongs to no entity
}

// Any reports whether anything did.
func (t *Touched) Any() bool { return t.Wild || len(t.Entities) > 0 }

// Touched lists what changed of a key, and of no key, in (low, high].
func (x *Index) Touched(k event.OrderingKey, low, high event.Position, tables Tables) Touched {
	t := Touched{Entities: map[event.Entity]struct{}{}}
	x.mu.RLock()
	defer x.mu.RUnlock()
	x.eachLocked(k, low, high, func(c *event.SettledChange, r *event.RowChange) {
		if tables.Matter(r) {
			x.touch(&t, r)
		}
	})
	return t
}

// touch enters the entities of a row before and after: an update may move it from one to another.
func (x *Index) touch(t *Touched, r *event.RowChange) {
	for _, image := range []event.Values{r.Before, r.After} {
		if image == nil {
			continue
		}
		if e, ok := x.entity(r.Table, image); ok {
			t.Entities[e] = struct{}{}
		} else {
			t.Wild = true
		}
	}
}

func (x *Index) entity(table string, row event.Values) (event.Entity, bool) {
	if x.cfg.Entity == nil {
		return "", false
	}
	return x.cfg.Entity(table, row)
}

func (x *Index) eachLocked(k event.OrderingKey, low, high event.Position, do func(*event.SettledChange, *event.RowChange)) {
	for _, k := range slices.Compact([]event.OrderingKey{k, ""}) {
		l := x.keys[k]
		if l == nil {
			continue
		}
		for _, e := range l.entries {
			if e.To <= low || e.From > high {
				continue
			}
			for i := range e.Changes {
				if c := &e.Changes[i]; c.Position > low && c.Position <= high {
					for j := range c.Rows {
						do(c, &c.Rows[j])
					}
				}
			}
		}
	}
}

// TouchedKeys lists, for each key of the partition that changed in (low, high], what did; "" stands for every key.
func (x *Index) TouchedKeys(low, high event.Position, tables Tables) map[event.OrderingKey]Touched {
	out := map[event.OrderingKey]Touched{}
	x.mu.RLock()
	defer x.mu.RUnlock()
	for k, l := range x.keys {
		if l.last <= low {
			continue
		}
		t := Touched{Entities: map[event.Entity]struct{}{}}
		for _, e := range slices.Backward(l.entries) {
			if e.To <= low {
				break
			}
			for i := range e.Changes {
				if c := &e.Changes[i]; c.Position > low && c.Position <= high {
					for j := range c.Rows {
						if tables.Matter(&c.Rows[j]) {
							x.touch(&t, &c.Rows[j])
						}
					}
				}
			}
		}
		if t.Any() {
			out[k] = t
		}
	}
	return out
}

// Version is the position of the newest change of the key at or below high that matters; 0 if none is known.
func (x *Index) Version(k event.OrderingKey, high event.Position, tables Tables) event.Position {
	x.mu.RLock()
	defer x.mu.RUnlock()
	v := event.Position(0)
	x.eachLocked(k, 0, high, func(c *event.SettledChange, r *event.RowChange) {
		if c.Position > v && tables.Matter(r) {
			v = c.Position
		}
	})
	if l := x.keys[k]; v == 0 && l != nil && l.version <= high {
		v = l.version
	}
	return v
}

// Case collects what was recorded of an entity up to a position, for [explain.Explain].
func (x *Index) Case(k event.OrderingKey, entity event.Entity, high event.Position) explain.Case {
	x.mu.RLock()
	defer x.mu.RUnlock()
	c := explain.Case{Entity: entity, Mapped: x.cfg.Mapped, Writes: map[event.WriteID]*event.SettledWrite{},
		EventsKnown: x.cfg.WithEvents && x.eventsBegun && x.eventsThrough >= high, EventsFrom: max(x.eventsFloor, x.floor)}
	x.eachLocked(k, 0, high, func(s *event.SettledChange, r *event.RowChange) {
		for _, image := range []event.Values{r.Before, r.After} {
			if e, ok := x.entity(r.Table, image); image != nil && ok && e == entity {
				c.Changes = append(c.Changes, explain.Change{Position: s.Position, Cause: s.Cause, Write: s.Write, Candidates: s.Candidates, Row: *r})
				return
			}
		}
	})
	slices.SortStableFunc(c.Changes, func(a, b explain.Change) int {
		if a.Position != b.Position {
			return cmp.Compare(a.Position, b.Position)
		}
		return a.Row.N - b.Row.N
	})
	if l := x.keys[k]; l != nil {
		for _, e := range l.entries {
			for i := range e.Writes {
				c.Writes[e.Writes[i].Write.ID] = &e.Writes[i]
			}
		}
		for _, e := range l.events {
			if e.Subject == entity && e.Position <= high {
				c.Events = append(c.Events, e)
			}
		}
	}
	return c
}
