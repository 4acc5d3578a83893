package diff

import (
	"bytes"
	"cmp"
	"slices"
)

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
