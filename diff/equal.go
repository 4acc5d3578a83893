package diff

import (
	"bytes"
	"cmp"
	"slices"
	"sync"
)

// Verdict is what [EqualJSON] can tell without a report.
type Verdict uint8

// The verdicts.
const (
	// Different: [CompareJSON] has the report. In an object that names a member
	// twice it may still find no difference.
	Different Verdict = iota
	// Equal: without any rule.
	Equal
	// Tolerated: equal, but some rule was needed; CompareJSON counts which.
	Tolerated
	// Invalid: a side is not JSON, or nested beyond the default limit.
	Invalid
)

func (v Verdict) String() string {
	switch v {
	case Equal:
		return "equal"
	case Tolerated:
		return "tolerated"
	case Invalid:
		return "invalid"
	default:
		return "different"
	}
}

// EqualJSON gives the verdict that [CompareJSON] would, as fast as it can:
// equal bytes at once and whatever they are, otherwise token by token, with
// trees only for the places of which a rule speaks and which are not equal
// without it. Once a difference is found the rest of the text is not read.
//
// It counts nothing: not what was compared, nor what a rule muted. It knows no
// [Session]: where opaque values or counters must be followed from
// one document to the next, compare each.
func EqualJSON(legacy, candidate []byte, rules *Rules) Verdict {
	if bytes.Equal(legacy, candidate) {
		return Equal
	}
	if len(legacy) > defaultBytes || len(candidate) > defaultBytes {
		return Invalid
	}
	e := equalers.Get().(*equaler)
	defer e.release()
	e.a, e.b, e.rules = legacy, candidate, rules
	n := rules.start()
	if rules != nil && rules.learns {
		// One place's verdict depends on others: all or nothing.
		n = &node{plan: n.plan, next: n.next, other: n.other, listed: n.listed, ruled: true}
	}
	equal := e.value(n, 0) && e.atEnd()
	switch {
	case e.bad:
		return Invalid
	case !equal:
		return Different
	case e.tolerated:
		return Tolerated
	default:
		return Equal
	}
}

// equalers keeps the buffers of finished comparisons.
var equalers = sync.Pool{New: func() any { return new(equaler) }}

// equaler reads two texts in step.
type equaler struct {
	a, b      []byte
	i, j      int // where each stands
	rules     *Rules
	bad       bool
	tolerated bool
	spans     []span // members of the objects that are being matched by name
}

// span is one member of an object: its name and where its value stands.
type span struct {
	name     []byte
	from, to int
	taken    bool
}

func (e *equaler) release() {
	spans := e.spans
	clear(spans[:cap(spans)])
	if cap(spans) > 4096 {
		spans = nil
	}
	*e = equaler{spans: spans[:0]}
	equalers.Put(e)
}

func (e *equaler) invalid() bool {
	e.bad = true
	return false
}

// space steps both over white space, and reports whether something follows.
func (e *equaler) space() bool {
	e.i, e.j = skipSpace(e.a, e.i), skipSpace(e.b, e.j)
	return e.i < len(e.a) && e.j < len(e.b)
}

func (e *equaler) atEnd() bool {
	e.space()
	if e.i < len(e.a) || e.j < len(e.b) {
		return e.invalid()
	}
	return true
}

func (e *equaler) value(n *node, depth int) bool {
	if n.ruled {
		return e.ruled(n, depth)
	}
	if depth > defaultDepth || !e.space() {
		return e.invalid()
	}
	c, d := e.a[e.i], e.b[e.j]
	switch c {
	case '"':
		return c == d && e.string()
	case '{':
		return c == d && e.object(n, depth)
	case '[':
		return c == d && e.list(n, depth)
	case 't', 'f', 'n':
		return c == d && e.literal()
	}
	if !startsNumber(c) {
		return e.invalid()
	}
	return startsNumber(d) && e.number()
}

func startsNumber(c byte) bool { return c == '-' || '0' <= c && c <= '9' }

// ruled compares without the rule first: mostly that is enough.
func (e *equaler) ruled(n *node, depth int) bool {
	i, j := e.i, e.j
	if e.value(deadNode, depth) {
		return true
	}
	if e.bad {
		return false
	}
	e.i, e.j = i, j
	return e.trees(n)
}

// trees compares the values at which both stand under their rules.
func (e *equaler) trees(n *node) bool {
	if !e.space() {
		return e.invalid()
	}
	i, j := skipValue(e.a, e.i), skipValue(e.b, e.j)
	a, errA := Decode(e.a[e.i:i])
	b, errB := Decode(e.b[e.j:j])
	if errA != nil || errB != nil {
		return e.invalid()
	}
	e.i, e.j = i, j
	return e.walk(n, &a, &b)
}

func (e *equaler) walk(n *node, a, b *Value) bool {
	w := walker{opt: Options{Keep: 1}, rep: &Report{}, budget: probeBudget}
	w.value(scope{n: n}, a, b)
	if w.rep.Total > 0 {
		return false
	}
	e.tolerated = true
	return true
}

// string compares two strings, mostly by the bytes of one of them.
func (e *equaler) string() bool {
	end, escaped, reason := scanString(e.a, e.i)
	if reason != "" {
		return e.invalid()
	}
	raw := e.a[e.i:end]
	if bytes.HasPrefix(e.b[e.j:], raw) {
		e.i, e.j = end, e.j+len(raw)
		return true
	}
	endB, escapedB, reason := scanString(e.b, e.j)
	if reason != "" {
		return e.invalid()
	}
	other := e.b[e.j:endB]
	e.i, e.j = end, endB
	return (escaped || escapedB) && unescape(raw[1:len(raw)-1]) == unescape(other[1:len(other)-1])
}

func (e *equaler) number() bool {
	i, reasonA := scanNumber(e.a, e.i)
	j, reasonB := scanNumber(e.b, e.j)
	if reasonA != "" || reasonB != "" {
		return e.invalid()
	}
	a, b := e.a[e.i:i], e.b[e.j:j]
	e.i, e.j = i, j
	return bytes.Equal(a, b) || compareDecimals(string(a), string(b))
}

func (e *equaler) literal() bool {
	i, a := scanLiteral(e.a, e.i)
	j, b := scanLiteral(e.b, e.j)
	if a == Missing || b == Missing {
		return e.invalid()
	}
	same := bytes.Equal(e.a[e.i:i], e.b[e.j:j])
	e.i, e.j = i, j
	return same
}

// next steps over what stands before an element: the bracket, or a comma. It
// reports for each side whether an element follows; if not, it is past the end.
func next(b []byte, i int, end byte, first bool) (at int, more, ok bool) {
	if first {
		i++
	}
	i = skipSpace(b, i)
	switch {
	case i >= len(b):
		return i, false, false
	case b[i] == end:
		return i + 1, false, true
	case first:
		return i, true, true
	case b[i] != ',':
		return i, false, false
	}
	return skipSpace(b, i+1), true, true
}

func (e *equaler) list(n *node, depth int) bool {
	i, j := e.i, e.j
	for index := 0; ; index++ {
		moreA, moreB := e.next(']', index == 0)
		if e.bad {
			return false
		}
		if moreA != moreB {
			if n.dead {
				return false
			}
			e.i, e.j = i, j // some elements may be muted
			return e.trees(n)
		}
		if !moreA {
			return true
		}
		child := n.other
		if n.listed {
			child = n.step(step{index: index, list: true}.text())
		}
		if !e.value(child, depth+1) {
			return false
		}
	}
}

func (e *equaler) next(end byte, first bool) (moreA, moreB bool) {
	var okA, okB bool
	e.i, moreA, okA = next(e.a, e.i, end, first)
	e.j, moreB, okB = next(e.b, e.j, end, first)
	if !okA || !okB {
		e.bad = true
	}
	return moreA, moreB
}

// object goes along both as long as they name the same members in the same
// order, and matches the rest by name.
func (e *equaler) object(n *node, depth int) bool {
	startA, startB := e.i, e.j
	for first := true; ; first = false {
		moreA, moreB := e.next('}', first)
		if e.bad || !moreA && !moreB {
			return !e.bad
		}
		if moreA && moreB {
			end, escaped, reason := scanName(e.a, e.i)
			if reason != "" {
				return e.invalid()
			}
			raw := e.a[e.i:end]
			if bytes.HasPrefix(e.b[e.j:], raw) {
				if e.i, e.j = colon(e.a, end), colon(e.b, e.j+len(raw)); e.i < 0 || e.j < 0 {
					return e.invalid()
				}
				if !e.value(n.member(raw, escaped), depth+1) {
					return false
				}
				continue
			}
		}
		if moreA != moreB && n.dead {
			return false
		}
		ok, lone := e.byName(n, depth, moreA, moreB)
		if ok && lone && (e.repeats(e.a, startA) || e.repeats(e.b, startB)) {
			// The lone member may be the last of its name, and so the one that counts.
			e.i, e.j = startA, startB
			return e.trees(n)
		}
		return ok
	}
}

// member is the node of a member whose name stands raw, with its quotes.
func (n *node) member(raw []byte, escaped bool) *node {
	if n.dead {
		return n
	}
	name := raw[1 : len(raw)-1]
	if escaped {
		return n.step(unescape(name))
	}
	if child, ok := n.next[string(name)]; ok {
		return child
	}
	return n.other
}

// scanName is scanString for a member's name.
func scanName(b []byte, i int) (end int, escaped bool, reason string) {
	if i >= len(b) || b[i] != '"' {
		return i, false, "a member's name is due"
	}
	return scanString(b, i)
}

// colon steps over a colon, or returns -1.
func colon(b []byte, i int) int {
	if i = skipSpace(b, i); i < len(b) && b[i] == ':' {
		return i + 1
	}
	return -1
}

// byName matches the members from here on: it notes where the candidate's
// stand, and finds each of legacy's among them. Of members with one name the
// k-th meets the k-th, so that the last, which counts, meets the last. It
// reports also whether a rule allowed some member to stand alone.
func (e *equaler) byName(n *node, depth int, moreA, moreB bool) (equal, lone bool) {
	base := len(e.spans)
	defer func() { e.spans = e.spans[:base] }()
	endB := e.j
	if moreB {
		endB = e.collect(e.b, e.j)
	}
	if e.bad {
		return false, false
	}
	spans := e.spans[base:]
	if len(spans) > smallObject {
		slices.SortFunc(spans, bySpan)
	}
	left := len(spans)
	for moreA {
		end, escaped, reason := scanName(e.a, e.i)
		from := colon(e.a, end)
		if reason != "" || from < 0 {
			return e.invalid(), false
		}
		name := e.a[e.i+1 : end-1]
		if escaped {
			name = []byte(unescape(name))
		}
		e.i = skipSpace(e.a, from)
		var ok bool
		if at := findSpan(spans, name); at >= 0 {
			left--
			spans[at].taken = true
			ok = e.both(n.named(name), depth, spans[at])
		} else {
			ok, lone = e.aloneInA(n.named(name)), true
		}
		if !ok {
			return false, false
		}
		e.i, moreA, ok = next(e.a, e.i, '}', false)
		if !ok {
			return e.invalid(), false
		}
	}
	for k := 0; left > 0; k++ {
		if s := spans[k]; !s.taken {
			left--
			lone = true
			if !e.alone(n.named(s.name), e.b[s.from:s.to], false) {
				return false, false
			}
		}
	}
	e.j = endB
	return true, lone
}

func bySpan(x, y span) int {
	return cmp.Or(bytes.Compare(x.name, y.name), x.from-y.from)
}

// maxSameName bounds the search among members of one name.
const maxSameName = 8

// findSpan finds the first member of that name that is not taken, or -1.
func findSpan(spans []span, name []byte) int {
	if len(spans) <= smallObject {
		for k := range spans {
			if !spans[k].taken && bytes.Equal(spans[k].name, name) {
				return k
			}
		}
		return -1
	}
	at, _ := slices.BinarySearchFunc(spans, name, func(s span, name []byte) int { return bytes.Compare(s.name, name) })
	for k := at; k < min(at+maxSameName, len(spans)) && bytes.Equal(spans[k].name, name); k++ {
		if !spans[k].taken {
			return k
		}
	}
	return -1
}

func (n *node) named(name []byte) *node {
	if n.dead {
		return n
	}
	if child, ok := n.next[string(name)]; ok {
		return child
	}
	return n.other
}

func (e *equaler) both(n *node, depth int, s span) bool {
	e.j = s.from
	if !e.value(n, depth+1) {
		return false
	}
	if e.j != s.to {
		return e.invalid()
	}
	return true
}

// aloneInA judges the value at which legacy stands and which the candidate lacks.
func (e *equaler) aloneInA(n *node) bool {
	to := skipValue(e.a, e.i)
	if !e.alone(n, e.a[e.i:to], true) {
		return false
	}
	e.i = to
	return true
}

// alone judges a member that the other side lacks: a rule may allow that.
func (e *equaler) alone(n *node, text []byte, legacy bool) bool {
	if !n.ruled {
		return false
	}
	v, err := Decode(text)
	if err != nil {
		return e.invalid()
	}
	if legacy {
		return e.walk(n, &v, missing)
	}
	return e.walk(n, missing, &v)
}

// repeats reports whether the object at i names a member more than once.
func (e *equaler) repeats(b []byte, i int) bool {
	base := len(e.spans)
	defer func() { e.spans = e.spans[:base] }()
	if at, more, _ := next(b, i, '}', true); more {
		e.collect(b, at)
	}
	spans := e.spans[base:]
	slices.SortFunc(spans, bySpan)
	for k := 1; k < len(spans); k++ {
		if bytes.Equal(spans[k-1].name, spans[k].name) {
			return true
		}
	}
	return false
}

// collect notes the members from i, where a name stands, to the end of the
// object, and returns the offset behind it.
func (e *equaler) collect(b []byte, i int) int {
	for {
		end, escaped, reason := scanName(b, i)
		if reason != "" {
			e.bad = true
			return i
		}
		name := b[i+1 : end-1]
		if escaped {
			name = []byte(unescape(name))
		}
		from := colon(b, end)
		if from < 0 {
			e.bad = true
			return i
		}
		from = skipSpace(b, from)
		to := skipValue(b, from)
		e.spans = append(e.spans, span{name: name, from: from, to: to})
		var more, ok bool
		i, more, ok = next(b, to, '}', false)
		if !ok {
			e.bad = true
			return i
		}
		if !more {
			return i
		}
	}
}

// skipValue finds the end of the value at i. It only counts brackets and minds
// strings: what it skips is checked when it is compared.
func skipValue(b []byte, i int) int {
	if i >= len(b) {
		return i
	}
	switch b[i] {
	case '"':
		return skipString(b, i)
	case '{', '[':
		return skipContainer(b, i)
	}
	for i < len(b) && !delimits[b[i]] {
		i++
	}
	return i
}

func skipString(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch {
		case plain[b[i]]:
		case b[i] == '"':
			return i + 1
		case b[i] == '\\':
			i++
		}
	}
	return len(b)
}

func skipContainer(b []byte, i int) int {
	for depth := 0; i < len(b); {
		switch b[i] {
		case '"':
			i = skipString(b, i)
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
		i++
	}
	return i
}

// delimits marks the bytes at which a number or literal ends.
var delimits = [256]bool{',': true, '}': true, ']': true, ' ': true, '\n': true, '\t': true, '\r': true}
