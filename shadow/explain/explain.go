package explain

import (
	"fmt"
	"slices"
	"strings"

	"banyan/diff"
	"banyan/proxy/event"
)

// Change is one row change of the entity.
type Change struct {
	Position   event.Position
	Cause      event.Cause
	Write      event.WriteID   // of an effect
	Candidates []event.WriteID // of an unattributed change
	Row        event.RowChange
}

// Case is a difference, and what was recorded around it.
type Case struct {
	Answer    bool // of answers; else of rows
	Entity    event.Entity
	Path      diff.Path
	Legacy    diff.Value // Missing: the candidate alone has it
	Candidate diff.Value // Missing: legacy alone has it
	// Changes of the entity that both sides could show, oldest first.
	Changes []Change
	// Writes of the key, as settled, by id.
	Writes map[event.WriteID]*event.SettledWrite
	// Events of the entity, oldest first. EventsFrom says from where on none is missing; they say nothing if EventsKnown
	// is false.
	Events      []*event.Event
	EventsKnown bool
	EventsFrom  event.Position
	// Mapped says whether changes of a column become events when no write claims them; nil: it is not known, so none is
	// called unmapped.
	Mapped func(table, column string) bool
	Parked string      // why the key's events are not applied
	Model  *diff.Value // what the model's tables have there; nil: not looked up
	Again  *diff.Value // legacy's second answer to the same request, nothing having changed; nil: not asked
}

// Explanation is a cause, one sentence, and the requests that it names.
type Explanation struct {
	Cause  Cause
	Why    string
	Writes []event.WriteID
}

func because(c Cause, writes []event.WriteID, format string, args ...any) *Explanation {
	return &Explanation{c, fmt.Sprintf(format, args...), writes}
}

// Explain never returns an empty cause.
func Explain(c *Case) Explanation {
	x := &explainer{Case: c}
	e := x.sides()
	if e == nil && x.isRow() {
		e = x.row()
	} else if e == nil {
		e = x.value()
	}
	if e == nil {
		e = because(Unknown, nil, "nothing recorded of %s explains it", x.subject())
	}
	return *e
}

type explainer struct{ *Case }

func (x *explainer) subject() string {
	if x.Entity == "" {
		return "this place"
	}
	return string(x.Entity)
}

// sides are the rules that need no history.
func (x *explainer) sides() *Explanation {
	if x.Again != nil && !alike(x.Legacy, *x.Again) {
		return because(Nondeterminism, nil, "legacy answered %s and then %s to the same request, with no change in between", short(x.Legacy), short(*x.Again))
	}
	if x.Answer && x.Model != nil && alike(x.Legacy, *x.Model) {
		return because(StaleCache, nil, "the model's tables have legacy's %s, the candidate answered %s", short(x.Legacy), short(x.Candidate))
	}
	return nil
}

// isRow reports whether one side lacks the whole entity.
func (x *explainer) isRow() bool {
	have := x.Legacy
	if have.Kind() == diff.Missing {
		have = x.Candidate
	} else if x.Candidate.Kind() != diff.Missing {
		return false
	}
	return have.Kind() == diff.Object && x.Entity != ""
}

func (x *explainer) row() *Explanation {
	op, what := event.Insert, "inserted"
	if x.Legacy.Kind() == diff.Missing {
		op, what = event.Delete, "deleted"
		if e := x.extraEvent(nil); e != nil {
			return e
		}
	}
	for _, ch := range slices.Backward(x.Changes) {
		if ch.Row.Op != op {
			continue
		}
		if ch.Cause == event.Dark && x.unmapped(&ch, "") {
			return because(DarkWrite, nil, "%s was %s in %s at %s by no recorded write, and no mapping carries it", x.Entity, what, ch.Row.Table, ch.Position)
		}
		return x.lacking(&ch, "", diff.Value{}, what+" "+string(x.Entity))
	}
	return nil
}

// value explains two values, column by column.
func (x *explainer) value() *Explanation {
	var found *Explanation
	for _, column := range x.columns() {
		e := x.column(column)
		if e == nil {
			continue
		}
		if found != nil && found.Cause != e.Cause {
			return because(Unknown, nil, "the columns that hold legacy's value tell different stories: %s; %s", found.Why, e.Why)
		}
		if found == nil {
			found = e
		}
	}
	if found != nil {
		return found
	}
	if e := x.extraEvent(&x.Candidate); e != nil {
		return e
	}
	if e := shape(x.Legacy, x.Candidate); e != nil {
		return e
	}
	if e := x.projected(); e != nil {
		return e
	}
	return x.darkSource()
}

// columns are those from which legacy's value can have come: of those that hold it now, the one of the path's name, else
// those whose name is part of it or has it as a part (province, province_id), else all.
func (x *explainer) columns() []column {
	steps := x.Path.Steps()
	if len(steps) == 0 || len(x.Changes) == 0 {
		return nil
	}
	name := steps[len(steps)-1]
	var named, similar, holding []column
	seen := map[column]bool{}
	for _, ch := range slices.Backward(x.Changes) {
		image := ch.Row.After
		for c, v := range image {
			at := column{ch.Row.Table, c}
			if seen[at] {
				continue
			}
			seen[at] = true
			if !alike(x.Legacy, of(v)) || len(x.history(at)) == 0 {
				continue
			}
			holding = append(holding, at)
			if c == name {
				named = append(named, at)
			}
			if strings.Contains(c, name) || strings.Contains(name, c) {
				similar = append(similar, at)
			}
		}
	}
	switch {
	case len(named) > 0:
		holding = named
	case len(similar) > 0:
		holding = similar
	}
	slices.SortFunc(holding, func(a, b column) int { return strings.Compare(a.table+"."+a.name, b.table+"."+b.name) })
	return holding
}

type column struct{ table, name string }

func (c column) String() string { return c.table + "." + c.name }

// touch is one change of a column.
type touch struct {
	*Change
	before, after diff.Value
}

func (x *explainer) history(c column) []touch {
	var h []touch
	for i := range x.Changes {
		ch := &x.Changes[i]
		if ch.Row.Table != c.table || ch.Row.Op == event.Delete || !ch.Row.Changed(c.name) {
			continue
		}
		t := touch{Change: ch, after: of(ch.Row.After[c.name])}
		if ch.Row.Before != nil {
			t.before = of(ch.Row.Before[c.name])
		}
		h = append(h, t)
	}
	return h
}

func (x *explainer) column(c column) *Explanation {
	h := x.history(c)
	last := &h[len(h)-1]
	for _, rule := range []func(column, []touch, *touch) *Explanation{x.lostUpdate, x.ordering, x.lags, x.mistranslated} {
		if e := rule(c, h, last); e != nil {
			return e
		}
	}
	return nil
}

func (x *explainer) lostUpdate(c column, h []touch, last *touch) *Explanation {
	for i := len(h) - 2; i >= 0; i-- {
		a := &h[i]
		if !x.overlap(a.Change, last.Change) {
			continue
		}
		writes := []event.WriteID{a.Write, last.Write}
		if alike(last.after, a.before) && alike(x.Candidate, a.after) && changedColumns(&last.Row) > 1 {
			return because(LostUpdate, writes, "write %s overlapped write %s and wrote %s back to %s, as it was before %s had set it to %s",
				last.Write, a.Write, c, short(last.after), a.Write, short(a.after))
		}
		added, ok := difference(a.after, a.before)
		more, ok2 := difference(x.Candidate, x.Legacy)
		if ok && ok2 && added.Sign() != 0 && added.Cmp(more) == 0 && x.known(a.Change) && len(x.eventsOf(a.Change)) == 1 && len(x.eventsOf(last.Change)) == 1 {
			return because(LostUpdate, writes, "writes %s and %s overlapped, and legacy's %s lacks exactly what %s had changed (%s to %s); the candidate counted both once",
				a.Write, last.Write, c, a.Write, short(a.before), short(a.after))
		}
	}
	return nil
}

func (x *explainer) ordering(c column, h []touch, last *touch) *Explanation {
	for i := len(h) - 2; i >= 0; i-- {
		a := &h[i]
		if a.Cause != event.Effect || !x.overlap(a.Change, last.Change) || !alike(x.Candidate, a.after) {
			continue
		}
		for _, later := range h[i+1:] {
			if later.Write != a.Write && !x.overlap(a.Change, later.Change) || x.known(later.Change) && len(x.eventsOf(later.Change)) == 0 {
				return nil
			}
		}
		return because(Ordering, []event.WriteID{a.Write, last.Write}, "writes %s and %s overlapped; legacy committed %s last, so %s is %s, and the candidate has %s, as if %s had come last",
			a.Write, last.Write, last.Write, c, short(last.after), short(a.after), a.Write)
	}
	return nil
}

// lags: the candidate has the value before some change.
func (x *explainer) lags(c column, h []touch, last *touch) *Explanation {
	for i := len(h) - 1; i >= 0; i-- {
		t := &h[i]
		if t.Row.Before == nil || !alike(x.Candidate, t.before) {
			continue
		}
		if t.Cause == event.Dark && x.unmapped(t.Change, c.name) {
			return because(DarkWrite, nil, "%s went from %s to %s at %s by no recorded write, and no mapping carries it", c, short(t.before), short(t.after), t.Position)
		}
		return x.lacking(t.Change, c.name, t.after, fmt.Sprintf("changed %s from %s to %s", c, short(t.before), short(t.after)))
	}
	return nil
}

// lacking explains a change that the candidate does not show.
func (x *explainer) lacking(ch *Change, column string, after diff.Value, what string) *Explanation {
	who, writes := who(ch)
	switch events := x.eventsOf(ch); {
	case x.Parked != "":
		return because(MissingWrite, writes, "%s %s; the key's events wait: %s", who, what, x.Parked)
	case !x.known(ch):
		return because(MissingWrite, writes, "%s %s, the candidate does not have it", who, what)
	case len(events) == 0:
		return because(MissingWrite, writes, "%s %s, and no event was made of it", who, what)
	default:
		e := events[len(events)-1]
		if column != "" && !carries(e, column, after) {
			return because(Translation, writes, "%s %s, but its event %s %s says %s", who, what, e.TypeVersion(), e.ID, clipText(string(e.Data), 200))
		}
		return because(MissingWrite, writes, "%s %s; its event %s %s is there, the model does not have it", who, what, e.TypeVersion(), e.ID)
	}
}

func (x *explainer) mistranslated(c column, _ []touch, last *touch) *Explanation {
	who, writes := who(last.Change)
	for _, e := range x.eventsOf(last.Change) {
		if carries(e, c.name, x.Candidate) && !carries(e, c.name, x.Legacy) {
			return because(Translation, writes, "%s set %s to %s, and its event %s %s carries %s", who, c, short(x.Legacy), e.TypeVersion(), e.ID, short(x.Candidate))
		}
	}
	if trivial(x.Candidate) {
		return nil
	}
	var others []string
	for name, v := range last.Row.After {
		if name != c.name && alike(x.Candidate, of(v)) {
			others = append(others, name)
		}
	}
	if len(others) == 0 {
		return nil
	}
	slices.Sort(others)
	return because(Translation, writes, "%s set %s to %s; the candidate has %s, which is that row's %s", who, c, short(x.Legacy), short(x.Candidate), strings.Join(others, ", "))
}

// extraEvent looks for an event that should not be: its write was rejected, or changed nothing of the entity. v, if not
// nil, is the value that it has to carry.
func (x *explainer) extraEvent(v *diff.Value) *Explanation {
	for _, e := range slices.Backward(x.Events) {
		id, err := event.ParseWriteID(e.Cause)
		if err != nil || v != nil && (trivial(*v) || !carriesAnywhere(e, *v)) {
			continue
		}
		w := x.Writes[id]
		if w == nil || slices.ContainsFunc(x.Changes, func(c Change) bool { return c.Write == id || slices.Contains(c.Candidates, id) }) {
			continue
		}
		why := "changed nothing of it"
		if w.Verdict == event.VerdictRejected || w.Verdict == event.VerdictNotApplied {
			why = "was " + strings.ReplaceAll(string(w.Verdict), "_", " ")
		}
		return because(ExtraWrite, []event.WriteID{id}, "event %s %s says %s of %s, and its write %s %s", e.TypeVersion(), e.ID, clipText(string(e.Data), 200), x.Entity, id, why)
	}
	return nil
}

func (x *explainer) darkSource() *Explanation {
	for _, c := range x.columns() {
		h := x.history(c)
		if last := &h[len(h)-1]; last.Cause == event.Dark && x.unmapped(last.Change, c.name) {
			return because(DarkWrite, nil, "legacy's %s of %s came at %s by no recorded write, and no mapping carries it", short(x.Legacy), c, last.Position)
		}
	}
	return nil
}

// projected: the last change's event carries legacy's value, so what went wrong did so behind it. Of an answer that is
// said only of what the model's tables have: between them and the client stands a query, too.
func (x *explainer) projected() *Explanation {
	candidate := x.Candidate
	if x.Answer {
		if x.Model == nil {
			return nil
		}
		candidate = *x.Model
	}
	if alike(x.Legacy, candidate) {
		return nil
	}
	for _, c := range x.columns() {
		h := x.history(c)
		last := &h[len(h)-1]
		events := x.eventsOf(last.Change)
		if len(events) == 0 {
			continue
		}
		if e := events[len(events)-1]; carries(e, c.name, x.Legacy) {
			who, writes := who(last.Change)
			return because(Projection, writes, "%s set %s to %s, and its event %s %s carries that; what applies %s made %s of it",
				who, c, short(x.Legacy), e.TypeVersion(), e.ID, e.TypeVersion(), short(candidate))
		}
	}
	return nil
}
