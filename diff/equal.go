package diff

import (
	"bytes"
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
