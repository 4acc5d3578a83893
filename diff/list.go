package diff

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

func (w *walker) list(s *scope, a, b *Value) {
	switch {
	case len(a.items) == 0 && len(b.items) == 0:
		w.equal(1)
	case s.n.unordered == nil:
		w.ordered(s, a, b)
	case len(s.n.unordered.rule.UnorderedBy) > 0:
		w.keyed(s, a, b)
	default:
		w.multiset(s, a, b)
	}
}

// ordered pairs elements by index, after setting aside what both lists begin
// and end with if one has more, so that one inserted element is one difference.
func (w *walker) ordered(s *scope, a, b *Value) {
	m, n := len(a.items), len(b.items)
	if m == n && sameElements(a, b) && !w.alikeByIndex(s, a, b) {
		w.differ(s, ClassOrder, a, b, "unordered would take it")
		return
	}
	head, tail := 0, 0
	if m != n {
		for head < min(m, n) && w.alike(s, &a.items[head], &b.items[head], head) {
			head++
		}
		for tail < min(m, n)-head && w.alike(s, &a.items[m-1-tail], &b.items[n-1-tail], m-1-tail) {
			tail++
		}
	}
	both := min(m, n) - tail // up to here index meets index
	for i := 0; i < both && !w.differs; i++ {
		w.element(s, "", i, &a.items[i], &b.items[i])
	}
	for i := both; i < m-tail && !w.differs; i++ {
		w.element(s, "", i, &a.items[i], missing)
	}
	for j := both; j < n-tail && !w.differs; j++ {
		w.element(s, "", j, missing, &b.items[j])
	}
	for i := range tail {
		w.element(s, "", m-tail+i, &a.items[m-tail+i], &b.items[n-tail+i])
	}
	w.noteBudget()
}

// sameElements reports whether b is a, permuted and not equal.
func sameElements(a, b *Value) bool {
	if same(a, b) {
		return false
	}
	count := make(map[string]int, len(a.items))
	for i := range a.items {
		count[a.items[i].Canonical()]++
	}
	for i := range b.items {
		key := b.items[i].Canonical()
		if count[key]--; count[key] < 0 {
			return false
		}
	}
	return true
}

func (w *walker) alikeByIndex(s *scope, a, b *Value) bool {
	for i := range a.items {
		if !w.alike(s, &a.items[i], &b.items[i], i) {
			return false
		}
	}
	return true
}

// alike asks whether two elements would be found equal.
func (w *walker) alike(s *scope, a, b *Value, index int) bool {
	return same(a, b) || s.loosens() && w.probeElement(s, a, b, index)
}

// loosens reports whether some rule may speak of a list's elements.
func (s *scope) loosens() bool { return !s.n.other.dead || s.n.listed || s.loose != nil }

func (w *walker) probeElement(s *scope, a, b *Value, index int) bool {
	was, had := w.probe, w.differs
	w.probe, w.differs = true, false
	w.element(s, "", index, a, b)
	equal := !w.differs
	w.probe, w.differs = was, had
	return equal
}

// noteBudget says once that elements were not matched for want of time.
func (w *walker) noteBudget() {
	if w.spent && !w.probe && w.budget < 0 {
		w.budget, w.spent = 0, false
		w.note("too many unlike elements to try each with each: some are reported missing and extra")
	}
}

// pairing is a matching of elements, by index.
type pairing struct {
	with        map[int]int // legacy's → the candidate's
	left, right []int       // without a partner, ascending
}

// pair matches elements that are equal, first without any rule, then under
// the rules, the first that fits. Elements that tolerance makes equal to
// several others may take one that a later element needed.
func (w *walker) pair(s *scope, a, b *Value, left, right []int) pairing {
	p := pairing{with: make(map[int]int, len(left))}
	byText := make(map[string][]int, len(right))
	for _, j := range right {
		key := b.items[j].Canonical()
		byText[key] = append(byText[key], j)
	}
	taken := make(map[int]bool, len(right))
	for _, i := range left {
		key := a.items[i].Canonical()
		if js := byText[key]; len(js) > 0 {
			p.with[i], taken[js[0]] = js[0], true
			byText[key] = js[1:]
		} else {
			p.left = append(p.left, i)
		}
	}
	for _, j := range right {
		if !taken[j] {
			p.right = append(p.right, j)
		}
	}
	if !s.loosens() {
		return p
	}
	p.left = slices.DeleteFunc(p.left, func(i int) bool {
		for at, j := range p.right {
			if w.budget < 0 {
				return false
			}
			if w.probeElement(s, &a.items[i], &b.items[j], i) {
				p.with[i] = j
				p.right = slices.Delete(p.right, at, at+1)
				return true
			}
		}
		return false
	})
	return p
}

// multiset compares whole elements in any order. What finds no equal is
// missing or extra.
func (w *walker) multiset(s *scope, a, b *Value) {
	p := w.pair(s, a, b, indexes(a), indexes(b))
	last, moved := -1, false
	for i := range a.items {
		j, ok := p.with[i]
		if !ok {
			w.element(s, "", i, &a.items[i], missing)
		} else {
			moved = moved || j < last
			last = j
			w.element(s, "", i, &a.items[i], &b.items[j])
		}
		if w.differs {
			return
		}
	}
	for _, j := range p.right {
		w.element(s, "", j, missing, &b.items[j])
	}
	if moved {
		w.use(s.n.unordered, "unordered")
	}
	w.noteBudget()
}

func indexes(v *Value) []int {
	all := make([]int, len(v.items))
	for i := range all {
		all[i] = i
	}
	return all
}

// keyed compares the elements that have the same key. Elements that share
// their key, or have none, are matched within their like: first the equal
// ones, then by order.
func (w *walker) keyed(s *scope, a, b *Value) {
	keys := s.n.unordered.rule.UnorderedBy
	inA, inB := w.byKey(s, keys, a), w.byKey(s, keys, b)
	w.noteKeys("legacy", inA, keys)
	w.noteKeys("the candidate", inB, keys)
	with := make(map[int]int, len(a.items))
	partner := make([]bool, len(b.items))
	for _, key := range inA.order {
		left, right := inA.at[key], inB.at[key]
		for i, j := range w.withinKey(s, a, b, left, right) {
			with[i], partner[j] = j, true
		}
	}
	last, moved := -1, false
	for i := range a.items {
		other := missing
		if j, ok := with[i]; ok {
			other = &b.items[j]
			moved = moved || j < last
			last = j
		}
		w.element(s, inA.step[i], i, &a.items[i], other)
		if w.differs {
			return
		}
	}
	for j := range b.items {
		if !partner[j] {
			w.element(s, inB.step[j], j, missing, &b.items[j])
		}
	}
	if moved {
		w.use(s.n.unordered, "unordered_by")
	}
	w.noteBudget()
}

// withinKey matches elements of one key.
func (w *walker) withinKey(s *scope, a, b *Value, left, right []int) map[int]int {
	if len(left) == 1 && len(right) == 1 {
		return map[int]int{left[0]: right[0]}
	}
	p := w.pair(s, a, b, left, right)
	for k := range min(len(p.left), len(p.right)) {
		p.with[p.left[k]] = p.right[k]
	}
	return p.with
}

// keyedList is a list's elements by key.
type keyedList struct {
	order []string         // the keys as they first come; "" for elements without one
	at    map[string][]int // key → indexes
	step  []string         // per index: id=42, or "" without a key
}

func (w *walker) byKey(s *scope, keys []string, v *Value) keyedList {
	k := keyedList{at: make(map[string][]int, len(v.items)), step: make([]string, len(v.items))}
	for i := range v.items {
		key, text := w.key(s, keys, &v.items[i])
		if len(k.at[key]) == 0 {
			k.order = append(k.order, key)
		}
		k.at[key] = append(k.at[key], i)
		if n := len(k.at[key]); n > 1 && key != "" {
			text += "#" + strconv.Itoa(n)
		}
		k.step[i] = text
	}
	return k
}

// key is an element's key, for matching and for the path. Where numbers in
// strings are numbers, so they are in keys.
func (w *walker) key(s *scope, keys []string, v *Value) (key, text string) {
	var k []byte
	var t strings.Builder
	for n, name := range keys {
		m := v.Member(name)
		switch m.kind {
		case Missing, Null, List, Object:
			return "", ""
		case String:
			if s.looseAt(name) && isNumber(m.text) {
				m.kind = Number
			}
		}
		k = append(m.appendCanonical(k), ' ')
		if n > 0 {
			t.WriteByte(',')
		}
		t.WriteString(name + "=" + m.text)
	}
	return string(k), t.String()
}

// looseAt reports whether the named member of this list's elements is loose
// in its numbers: a rule further down may say so, or deny it.
func (s *scope) looseAt(name string) bool {
	el := s.n.other
	member := el.step(name)
	for _, n := range [...]*node{member, el} {
		if n.loose != nil {
			return n.loose.loose&numericString != 0
		}
	}
	return s.allows(numericString)
}

func (w *walker) noteKeys(side string, k keyedList, keys []string) {
	name := strings.Join(keys, ",")
	for _, key := range k.order {
		switch n := len(k.at[key]); {
		case key == "":
			w.note(fmt.Sprintf("%s has %d %s without the key %s, matched whole", side, n, plural(n, "element"), name))
		case n > 1:
			w.note(fmt.Sprintf("%s has %d elements with %s", side, n, k.step[k.at[key][0]]))
		}
	}
}
