package translate

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"sort"
	"strconv"

	"banyan/proxy/event"
	"banyan/proxy/expr"
)

// Result is what one entry means.
type Result struct {
	Events []event.Event // in legacy's order
	// Unmapped are deleted, inserted or imported rows of mapped tables for which no mapping is declared.
	Unmapped []Unmapped
}

// Unmapped names a row change that no mapping turns into an event.
type Unmapped struct {
	Table    string
	Op       event.Op
	Position event.Position
}

// ref is one row change of an entry, with what has been claimed of it so far.
type ref struct {
	change  *event.SettledChange
	row     event.RowChange
	part    int // 1 for the second half of a row that changed its entity
	table   *table
	entity  event.Entity
	whole   bool            // claimed: insert, delete
	columns map[string]bool // claimed: update
}

// made is an event with its place.
type made struct {
	at int // index of the row change at which it stands
	ev event.Event
}

type work struct {
	r     *Rules
	entry *event.Entry
	refs  []ref
	made  []made
	res   Result
}

// Translate is the whole rule: each change of a mapped column yields exactly one event, at that change's position. It
// is a pure function; the same entry gives the same events with the same ids. An error is about the data and the
// mapping, and will come again: the key must be parked.
func (r *Rules) Translate(e *event.Entry) (Result, error) {
	w := &work{r: r, entry: e}
	if err := w.flatten(); err != nil {
		return Result{}, err
	}
	if len(w.refs) == 0 {
		return w.res, nil
	}
	if e.Key == "" {
		return Result{}, fmt.Errorf("%s at %s: no ordering key: rows.%s.key gives none for this row", w.refs[0].table.name,
			w.refs[0].change.Position, w.refs[0].table.name)
	}
	for i := range e.Writes {
		if err := w.claim(&e.Writes[i]); err != nil {
			return Result{}, err
		}
	}
	for i := range w.refs {
		if err := w.fallback(i); err != nil {
			return Result{}, err
		}
	}
	return w.finish()
}

// flatten lists the row changes of mapped tables in commit order. A row that became another entity left as one and
// came as the other.
func (w *work) flatten() error {
	for i := range w.entry.Changes {
		c := &w.entry.Changes[i]
		for _, row := range c.Rows {
			t := w.r.tables[row.Table]
			if t == nil {
				continue
			}
			now, err := entityOf(t, row.Image())
			if err != nil {
				return fmt.Errorf("%s at %s: %w", t.name, c.Position, err)
			}
			if row.Op == event.Update {
				was, err := entityOf(t, row.Before)
				if err != nil {
					return fmt.Errorf("%s at %s: before: %w", t.name, c.Position, err)
				}
				if was != now {
					left := event.RowChange{N: row.N, Table: row.Table, Op: event.Delete, Before: row.Before}
					w.refs = append(w.refs, ref{change: c, row: left, table: t, entity: was})
					came := event.RowChange{N: row.N, Table: row.Table, Op: event.Insert, After: row.After}
					w.refs = append(w.refs, ref{change: c, row: came, part: 1, table: t, entity: now})
					continue
				}
			}
			w.refs = append(w.refs, ref{change: c, row: row, table: t, entity: now})
		}
	}
	sort.SliceStable(w.refs, func(i, j int) bool {
		a, b := &w.refs[i], &w.refs[j]
		if a.change.Position != b.change.Position {
			return a.change.Position < b.change.Position
		}
		return a.row.N < b.row.N
	})
	return nil
}

func entityOf(t *table, row event.Values) (event.Entity, error) {
	return expand(t.subject, row, "row")
}

func expand(t *expr.Template, row event.Values, what string) (event.Entity, error) {
	s, ok := t.Expand(func(n string) (string, bool) { return scalar(row[n]) })
	if !ok {
		return "", fmt.Errorf("subject %q: the %s lacks a value for it", t, what)
	}
	return event.Entity(s), nil
}

func scalar(v any) (string, bool) {
	switch x := v.(type) {
	case string:
		return x, true
	case json.Number:
		return string(x), true
	case bool:
		return strconv.FormatBool(x), true
	}
	return "", false
}

// claim makes the events of one write by its route's mappings.
func (w *work) claim(sw *event.SettledWrite) error {
	if sw.Verdict != event.VerdictApplied || !w.closed(sw) {
		return nil
	}
	count := map[string]int{}
	for _, m := range w.r.routes[sw.Write.Intent.Route] {
		groups, order := w.groups(sw.Write.ID, m)
		if m.subject != nil && len(order) > 0 {
			s, ok := m.subject.Expand(func(n string) (string, bool) { v, ok := sw.Write.Intent.Params[n]; return v, ok })
			if !ok {
				continue // the request names no subject: what changed goes by rows
			}
			order = []event.Entity{event.Entity(s)}
		}
		for _, subject := range order {
			group := groups[subject]
			if len(group) == 0 || w.foreign(m, subject, group) {
				continue
			}
			ev, ok, err := w.event(sw, m, subject, group)
			if err != nil {
				return fmt.Errorf("write %s: %s: %w", sw.Write.ID, m.name, err)
			}
			if !ok {
				continue
			}
			ev.ID = eventID("write", sw.Write.ID.String(), string(w.entry.Key), m.name, strconv.Itoa(count[m.name]))
			count[m.name]++
			w.made = append(w.made, made{at: group[len(group)-1], ev: ev})
			w.take(m, group)
		}
	}
	return nil
}

// closed says that all effects of the write stand in this entry. What went by rows in an earlier entry must not be told
// again by the rest.
func (w *work) closed(sw *event.SettledWrite) bool {
	if sw.Late {
		return false
	}
	here := map[event.Position]bool{}
	for i := range w.entry.Changes {
		if c := &w.entry.Changes[i]; c.Cause == event.Effect && c.Write == sw.Write.ID {
			here[c.Position] = true
		}
	}
	for _, p := range sw.Effects {
		if !here[p] {
			return false
		}
	}
	return true
}

// groups are the row changes of the write that the mapping claims and nobody claimed before, by entity.
func (w *work) groups(id event.WriteID, m *mapping) (map[event.Entity][]int, []event.Entity) {
	groups, order := map[event.Entity][]int{}, []event.Entity(nil)
	for i := range w.refs {
		x := &w.refs[i]
		if x.change.Cause != event.Effect || x.change.Write != id || !m.claims(x) {
			continue
		}
		if groups[x.entity] == nil {
			order = append(order, x.entity)
		}
		groups[x.entity] = append(groups[x.entity], i)
	}
	return groups, order
}

// claims says whether something of the row change is the mapping's and still free.
func (m *mapping) claims(x *ref) bool {
	switch x.row.Op {
	case event.Insert:
		return m.inserts[x.row.Table] && !x.whole
	case event.Delete:
		return m.deletes[x.row.Table] && !x.whole
	case event.Update:
		for c := range m.sets[x.row.Table] {
			if x.row.Changed(c) && !x.columns[c] {
				return true
			}
		}
	}
	return false
}

// foreign says whether somebody else touched the subject's claimed columns between the first and the last change of the
// group: then one event at the end would tell a story that legacy did not see.
func (w *work) foreign(m *mapping, subject event.Entity, group []int) bool {
	in := map[int]bool{}
	tables := map[string]bool{}
	for _, i := range group {
		in[i] = true
		tables[w.refs[i].row.Table] = true
	}
	for i := group[0]; i < group[len(group)-1]; i++ {
		x := &w.refs[i]
		if in[i] || x.entity != subject || !tables[x.row.Table] {
			continue
		}
		if x.row.Op != event.Update {
			return true
		}
		for c := range m.sets[x.row.Table] {
			if x.row.Changed(c) {
				return true
			}
		}
	}
	return false
}

func (w *work) event(sw *event.SettledWrite, m *mapping, subject event.Entity, group []int) (event.Event, bool, error) {
	effects := map[string]any{}
	for _, i := range group { // later changes win: the row as the write left it
		effects[w.refs[i].row.Table] = map[string]any(w.refs[i].row.Image())
	}
	in := &sw.Write.Intent
	env := map[string]any{"effects": effects, "write": map[string]any{"id": sw.Write.ID.String(), "route": in.Route, "player": in.Player, "session": in.Session}}
	for _, p := range m.params {
		env[p] = in.Params[p]
	}
	if m.when != nil {
		if ok, err := m.when.True(env); err != nil || !ok {
			return event.Event{}, false, err
		}
	}
	data, err := m.fact.data(env, nil)
	if err != nil {
		return event.Event{}, false, err
	}
	last := &w.refs[group[len(group)-1]]
	return event.Event{Type: m.fact.typ, Version: m.fact.version, Subject: subject, Data: data, Cause: sw.Write.ID.String(),
		Position: last.change.Position, Time: last.change.Received, Traceparent: in.Trace}, true, nil
}

// take marks what the mapping's event told.
func (w *work) take(m *mapping, group []int) {
	for _, i := range group {
		x := &w.refs[i]
		if x.row.Op != event.Update {
			x.whole = true
			continue
		}
		if x.columns == nil {
			x.columns = map[string]bool{}
		}
		for c := range m.sets[x.row.Table] {
			if x.row.Changed(c) {
				x.columns[c] = true
			}
		}
	}
}

// fallback makes the events of what no write claimed.
func (w *work) fallback(i int) error {
	x := &w.refs[i]
	var f *fact
	switch x.row.Op {
	case event.Update:
		for _, u := range x.table.onUpdate {
			for _, c := range u.columns {
				if x.row.Changed(c) && !x.columns[c] {
					if err := w.rowEvent(i, &u.fact); err != nil {
						return err
					}
					break
				}
			}
		}
		return nil
	case event.Import:
		f = x.table.imports
	case event.Insert:
		f = x.table.onInsert
	case event.Delete:
		f = x.table.onDelete
	default:
		return fmt.Errorf("%s at %s: op %q is not known", x.row.Table, x.change.Position, x.row.Op)
	}
	switch {
	case x.whole:
	case f == nil:
		w.res.Unmapped = append(w.res.Unmapped, Unmapped{x.row.Table, x.row.Op, x.change.Position})
	default:
		return w.rowEvent(i, f)
	}
	return nil
}

func (w *work) rowEvent(i int, f *fact) error {
	x := &w.refs[i]
	image := x.row.Image()
	data, err := f.data(map[string]any{"row": map[string]any(image), "before": map[string]any(x.row.Before)}, image)
	subject := x.entity
	if err == nil && f.subject != nil {
		subject, err = expand(f.subject, image, "row")
	}
	place := x.change.Position.String() + "." + strconv.Itoa(x.row.N)
	if err != nil {
		return fmt.Errorf("rows.%s: %s@%d at %s: %w", x.row.Table, f.typ, f.version, place, err)
	}
	mapping := "rows/" + x.row.Table + "/" + f.typ + "@" + strconv.Itoa(f.version)
	ev := event.Event{ID: eventID("row", place, string(w.entry.Key), mapping, strconv.Itoa(x.part)), Type: f.typ, Version: f.version,
		Subject: subject, Data: data, Cause: x.cause(place), Position: x.change.Position, Time: x.change.Received}
	w.made = append(w.made, made{at: i, ev: ev})
	return nil
}

func (x *ref) cause(place string) string {
	if x.change.Cause == event.Effect && !x.change.Write.IsZero() {
		return x.change.Write.String()
	}
	return string(x.change.Cause) + ":" + place
}

// finish puts the events in legacy's order and holds them to their contracts.
func (w *work) finish() (Result, error) {
	sort.SliceStable(w.made, func(i, j int) bool { return w.made[i].at < w.made[j].at })
	w.res.Events = make([]event.Event, len(w.made))
	seq, last := 0, event.Position(0)
	for i := range w.made {
		ev := w.made[i].ev
		if i > 0 && ev.Position == last {
			seq++
		} else {
			seq, last = 0, ev.Position
		}
		ev.Sequence, ev.Source, ev.Key = seq, w.r.source, w.entry.Key
		if w.r.contracts != nil {
			if err := w.r.contracts.Validate(&ev); err != nil {
				return Result{}, fmt.Errorf("%s of %s: %w", ev.Subject, ev.Cause, err)
			}
		}
		w.res.Events[i] = ev
	}
	return w.res, nil
}

// eventID is the same for the same cause, for ever.
func eventID(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		h.Write([]byte(p))
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}
