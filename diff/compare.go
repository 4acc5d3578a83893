package diff

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// Options are how a comparison is run; the zero value serves.
type Options struct {
	// Keep is how many differences a report keeps; default 100. All are counted.
	Keep int
	// Elapsed is how much later the candidate answered: instants may be that much later too, and countdowns lower.
	Elapsed time.Duration
	// Session is what earlier documents of the same session taught. Nil begins afresh.
	Session *Session
	// Undecided reports whether the value at path, all of it, is not to be
	// judged: it is counted, and neither evidence nor difference. It is asked
	// from the document downward, with the nearest entity or "", so a caller
	// that knows which entities changed answers by entity alone.
	Undecided func(entity string, path Path) bool
}

const defaultKeep = 100

// Compare judges the candidate's document by legacy's, under the rule of
// equality that the package states and what rules loosen.
func Compare(legacy, candidate Value, rules *Rules, opt Options) Report {
	if opt.Keep <= 0 {
		opt.Keep = defaultKeep
	}
	w := walker{opt: opt, session: opt.Session, rep: &Report{}, budget: probeBudget}
	w.value(scope{n: rules.start()}, &legacy, &candidate)
	w.listUses(rules)
	return *w.rep
}

// CompareJSON decodes both sides and compares them. Its error names the side
// that is not JSON.
func CompareJSON(legacy, candidate []byte, rules *Rules, opt Options) (Report, error) {
	a, err := Decode(legacy)
	if err != nil {
		return Report{}, &SideError{"legacy", err}
	}
	b, err := Decode(candidate)
	if err != nil {
		return Report{}, &SideError{"candidate", err}
	}
	return Compare(a, b, rules, opt), nil
}

// SideError is what one side's document does wrong.
type SideError struct {
	Side string // legacy or candidate
	Err  error
}

func (e *SideError) Error() string { return e.Side + ": " + e.Err.Error() }

// Unwrap gives the error itself.
func (e *SideError) Unwrap() error { return e.Err }

// scope is what is known on the way down to a value.
type scope struct {
	n      *node
	loose  *compiled // the nearest rule that speaks of looseness
	name   *compiled // names the entity of a list's elements
	entity string
}

func (s *scope) allows(l loose) bool { return s.loose != nil && s.loose.loose&l != 0 }

// walker walks both trees at once.
type walker struct {
	opt     Options
	session *Session // made when first needed, if the caller has none
	rep     *Report
	steps   []step
	uses    map[use]int

	// A probe only asks whether two values would be found equal: it stops at
	// the first difference, and neither counts nor learns.
	probe   bool
	differs bool
	budget  int // values that probes may still visit
	spent   bool
}

// probeBudget bounds the time that matching elements pair by pair may take,
// some tens of milliseconds. Beyond it elements are taken as unlike.
const probeBudget = 1_000_000

type use struct {
	rule *compiled
	kind string
}

// step is one step of the current path.
type step struct {
	name  string
	index int  // of a list's element that has no name
	list  bool // an element of a list
}

func (s step) text() string {
	if s.list && s.name == "" {
		return strconv.Itoa(s.index)
	}
	return s.name
}

func (w *walker) path() Path {
	var b strings.Builder
	for _, s := range w.steps {
		b.WriteByte('/')
		escapeStep(&b, s.text())
	}
	return Path(b.String())
}

// group is the current path without what varies from one document to the next.
func (w *walker) group(class Class) string {
	var b strings.Builder
	b.WriteString(string(class) + " ")
	for _, s := range w.steps {
		b.WriteByte('/')
		if s.list || looksLikeID(s.name) {
			b.WriteByte('*')
		} else {
			escapeStep(&b, strings.ToValidUTF8(s.name, "\uFFFD"))
		}
	}
	return b.String()
}

var missing = &Value{}

// value compares the two sides of one place.
func (w *walker) value(s scope, a, b *Value) {
	if w.probe {
		if w.budget--; w.budget < 0 {
			w.spent = true
			w.differs = true
			return
		}
	}
	if s.n.ignore != nil {
		if !w.probe {
			w.rep.Muted += w.leaves(a, b)
			w.use(s.n.ignore, "ignore")
		}
		return
	}
	if s.n.loose != nil {
		s.loose = s.n.loose
	}
	if w.undecided(&s, a, b) {
		w.rep.Undecided += w.leaves(a, b)
		return
	}
	if (a.repeated || b.repeated) && !w.probe {
		w.noteRepeated(a, b)
	}
	switch {
	case a.kind == Missing || b.kind == Missing:
		w.absent(&s, a, b)
	case a.kind == Object && b.kind == Object:
		w.object(&s, a, b)
	case a.kind == List && b.kind == List:
		w.list(&s, a, b)
	default:
		w.leaf(&s, a, b)
	}
}

// undecided settles which entity the values belong to and asks whether they
// are to be judged. Two elements that meet by index may be two entities.
func (w *walker) undecided(s *scope, a, b *Value) bool {
	name := s.n.entity
	if name == nil {
		name = s.name
	}
	other := ""
	if name != nil && (a.kind == Object || b.kind == Object) {
		mine, theirs := w.entity(name, a), w.entity(name, b)
		if mine == "" {
			mine, theirs = theirs, ""
		}
		if mine != "" {
			s.entity, other = mine, theirs
		}
	}
	s.name = nil
	if w.opt.Undecided == nil || w.probe {
		return false
	}
	path := w.path()
	return w.opt.Undecided(s.entity, path) || other != "" && other != s.entity && w.opt.Undecided(other, path)
}

func (w *walker) entity(name *compiled, v *Value) string {
	if v.kind != Object {
		return ""
	}
	return name.entity.fill(v, func() string {
		if len(w.steps) == 0 {
			return ""
		}
		return w.steps[len(w.steps)-1].text()
	})
}

func (w *walker) absent(s *scope, a, b *Value) {
	switch {
	case a.kind == Missing && b.kind == Missing:
		return
	case (a.kind == Null || b.kind == Null) && s.allows(nullMissing):
		w.use(s.loose, looseName(nullMissing))
		w.equal(1)
	case b.kind == Missing:
		w.differ(s, ClassMissing, a, b, looseHint(s, a, b))
	default:
		w.differ(s, ClassExtra, a, b, looseHint(s, a, b))
	}
}

func (w *walker) object(s *scope, a, b *Value) {
	if len(a.items) == 0 && len(b.items) == 0 {
		w.equal(1)
		return
	}
	inB := b.finder()
	found := 0
	for i := range a.items {
		other := missing
		if j := inB(a.names[i], i); j >= 0 {
			other = &b.items[j]
			found++
		}
		w.member(s, a.names[i], &a.items[i], other)
		if w.differs {
			return
		}
	}
	if found == len(b.items) {
		return
	}
	inA := a.finder()
	for j := range b.items {
		if inA(b.names[j], j) < 0 {
			w.member(s, b.names[j], missing, &b.items[j])
		}
	}
}

func (w *walker) member(s *scope, name string, a, b *Value) {
	w.steps = append(w.steps, step{name: name})
	w.value(scope{n: s.n.step(name), loose: s.loose, entity: s.entity}, a, b)
	w.steps = w.steps[:len(w.steps)-1]
}

// element compares two elements of a list, or one with nothing. The step is
// the index, or the key if there is one.
func (w *walker) element(s *scope, key string, index int, a, b *Value) {
	at := step{name: key, index: index, list: true}
	w.steps = append(w.steps, at)
	w.value(s.element(at), a, b)
	w.steps = w.steps[:len(w.steps)-1]
}

func (s *scope) element(at step) scope {
	n := s.n.other
	if s.n.listed {
		n = s.n.step(at.text())
	}
	return scope{n: n, loose: s.loose, name: s.n.entity, entity: s.entity}
}

func (w *walker) leaves(a, b *Value) int { return max(a.leaves(), b.leaves()) }

func (w *walker) equal(leaves int) {
	if !w.probe {
		w.rep.Compared += leaves
	}
}

func (w *walker) use(rule *compiled, kind string) {
	if w.probe {
		return
	}
	if w.uses == nil {
		w.uses = map[use]int{}
	}
	w.uses[use{rule, kind}]++
}

func (w *walker) differ(s *scope, class Class, a, b *Value, near string) {
	if w.probe {
		w.differs = true
		return
	}
	w.rep.Compared += w.leaves(a, b)
	w.rep.add(Difference{
		Path: w.path(), Class: class, Legacy: *a, Candidate: *b,
		Entity: s.entity, Near: near, Group: w.group(class),
	}, w.opt.Keep)
}

func (w *walker) note(text string) {
	if w.probe {
		return
	}
	if w.rep.NotesTotal++; len(w.rep.Notes) < maxNotes {
		w.rep.Notes = append(w.rep.Notes, Note{w.path(), text})
	}
}

func (w *walker) noteRepeated(a, b *Value) {
	if a.repeated {
		w.note("legacy names a member twice; its last value counts")
	}
	if b.repeated {
		w.note("the candidate names a member twice; its last value counts")
	}
}

func (w *walker) listUses(rules *Rules) {
	if len(w.uses) == 0 {
		return
	}
	for i := range rules.rules {
		c := &rules.rules[i]
		first := len(w.rep.Used)
		for u, n := range w.uses {
			if u.rule == c {
				w.rep.Used = append(w.rep.Used, Use{c.text, u.kind, n})
			}
		}
		slices.SortFunc(w.rep.Used[first:], func(x, y Use) int { return strings.Compare(x.Kind, y.Kind) })
	}
}
