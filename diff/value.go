package diff

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// Kind is what a [Value] is. The set is closed: a comparator that knows every
// kind cannot panic on a foreign one.
type Kind uint8

// The kinds of a value. Missing is the zero value: nothing stands there.
const (
	Missing Kind = iota
	Null
	Bool
	Number  // kept as its decimal text, never as a float
	String  // any bytes; invalid UTF-8 is kept as it came
	List    //
	Object  // members in the order in which they came
	Instant // a point in time, as a database driver delivers it
)

func (k Kind) String() string {
	names := [...]string{"missing", "null", "bool", "number", "string", "list", "object", "instant"}
	if int(k) < len(names) {
		return names[k]
	}
	return "kind(" + strconv.Itoa(int(k)) + ")"
}

// Value is one immutable tree. The zero Value is [Missing].
type Value struct {
	kind     Kind
	repeated bool     // an object that named a member more than once
	text     string   // bool: true|false; number: decimal; string: itself; instant: RFC 3339 in UTC
	items    []Value  // list elements, or the values of an object's members
	names    []string // an object's member names, as long as items
}

// NewNull, NewBool, NewString, NewList and NewInstant build values.
func NewNull() Value { return Value{kind: Null} }

// NewBool builds a bool.
func NewBool(b bool) Value { return Value{kind: Bool, text: strconv.FormatBool(b)} }

// NewString builds a string of any bytes.
func NewString(s string) Value { return Value{kind: String, text: s} }

// NewList builds a list. It keeps items.
func NewList(items ...Value) Value { return Value{kind: List, items: items} }

// NewInstant builds an instant, to the nanosecond.
func NewInstant(t time.Time) Value {
	return Value{kind: Instant, text: t.UTC().Format(time.RFC3339Nano)}
}

// NewNumber builds a number from its JSON text, and reports whether the text is one.
func NewNumber(text string) (Value, bool) {
	if !isNumber(text) {
		return Value{}, false
	}
	return Value{kind: Number, text: text}, true
}

// Member is a named value.
type Member struct {
	Name  string
	Value Value
}

// NewObject builds an object. A name that comes twice has the last value, in
// the place of the first; see [Decode].
func NewObject(members ...Member) Value {
	v := Value{kind: Object}
	for _, m := range members {
		v.names = append(v.names, m.Name)
		v.items = append(v.items, m.Value)
	}
	v.dropRepeated()
	return v
}

// Kind says what v is.
func (v Value) Kind() Kind { return v.kind }

// IsZero reports whether v is missing. Encoders use it for omitzero.
func (v Value) IsZero() bool { return v.kind == Missing }

// Len is the number of elements of a list or of members of an object.
func (v Value) Len() int { return len(v.items) }

// Element is the i-th element of a list, or Missing.
func (v Value) Element(i int) Value {
	if v.kind != List || i < 0 || i >= len(v.items) {
		return Value{}
	}
	return v.items[i]
}

// Member is the named member of an object, or Missing.
func (v Value) Member(name string) Value {
	if i := v.index(name, 0); i >= 0 {
		return v.items[i]
	}
	return Value{}
}

// MemberAt is the i-th member of an object, or the zero Member.
func (v Value) MemberAt(i int) Member {
	if v.kind != Object || i < 0 || i >= len(v.items) {
		return Member{}
	}
	return Member{Name: v.names[i], Value: v.items[i]}
}

// Text is a scalar's text: a string itself, a number as it was written, true
// or false, an instant as RFC 3339. It is empty for every other kind.
func (v Value) Text() string { return v.text }

// Repeated reports whether v is an object that named a member more than once.
func (v Value) Repeated() bool { return v.repeated }

// Leaves counts scalars and empty containers; Missing counts none.
func (v Value) Leaves() int { return v.leaves() }

func (v *Value) leaves() int {
	if v.kind == Missing {
		return 0
	}
	if len(v.items) == 0 {
		return 1
	}
	n := 0
	for i := range v.items {
		n += v.items[i].leaves()
	}
	return n
}

// index finds a member, first where the other side had it. Two answers of one
// kind list their members in much the same order.
func (v *Value) index(name string, guess int) int {
	if v.kind != Object {
		return -1
	}
	if guess < len(v.names) && v.names[guess] == name {
		return guess
	}
	return slices.Index(v.names, name)
}

// dropRepeated keeps the last value of each name, in the first one's place.
func (v *Value) dropRepeated() {
	if !hasRepeated(v.names) {
		return
	}
	v.repeated = true
	at := make(map[string]int, len(v.names))
	kept := 0
	for i, name := range v.names {
		if j, ok := at[name]; ok {
			v.items[j] = v.items[i]
			continue
		}
		at[name] = kept
		v.names[kept], v.items[kept] = name, v.items[i]
		kept++
	}
	v.names, v.items = v.names[:kept], v.items[:kept]
}

// smallObject is the size up to which looking at every pair of names beats a map.
const smallObject = 16

func hasRepeated(names []string) bool {
	if len(names) <= smallObject {
		for i := 1; i < len(names); i++ {
			if slices.Contains(names[:i], names[i]) {
				return true
			}
		}
		return false
	}
	seen := make(map[string]struct{}, len(names))
	for _, n := range names {
		seen[n] = struct{}{}
	}
	return len(seen) != len(names)
}

// Canonical is a text that two values share exactly when they are equal
// without any rule: members sorted, numbers in one notation.
func (v Value) Canonical() string { return string(v.appendCanonical(nil)) }

func (v *Value) appendCanonical(dst []byte) []byte {
	switch v.kind {
	case Missing:
		return append(dst, '-')
	case Null:
		return append(dst, 'n')
	case Bool:
		return append(dst, v.text[0])
	case Number:
		return append(appendDecimal(append(dst, '#'), v.text), ';')
	case String:
		return strconv.AppendQuote(dst, v.text)
	case Instant:
		return append(append(append(dst, '@'), v.text...), ';')
	case List:
		dst = append(dst, '[')
		for i := range v.items {
			dst = v.items[i].appendCanonical(dst)
			dst = append(dst, ',')
		}
		return append(dst, ']')
	default:
		dst = append(dst, '{')
		for _, i := range v.sortedMembers() {
			dst = strconv.AppendQuote(dst, v.names[i])
			dst = append(dst, ':')
			dst = v.items[i].appendCanonical(dst)
			dst = append(dst, ',')
		}
		return append(dst, '}')
	}
}

func (v *Value) sortedMembers() []int {
	order := make([]int, len(v.names))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int { return strings.Compare(v.names[i], v.names[j]) })
	return order
}

// Equal reports whether v and w are equal without any rule, as [Compare] would
// find them, without a report.
func (v Value) Equal(w Value) bool { return same(&v, &w) }

// same reports equality without any rule.
func same(a, b *Value) bool {
	if a.kind != b.kind || len(a.items) != len(b.items) {
		return false
	}
	switch a.kind {
	case Number:
		return a.text == b.text || compareDecimals(a.text, b.text)
	case List:
		for i := range a.items {
			if !same(&a.items[i], &b.items[i]) {
				return false
			}
		}
		return true
	case Object:
		return sameMembers(a, b)
	default:
		return a.text == b.text
	}
}

func sameMembers(a, b *Value) bool {
	find := b.finder()
	for i := range a.items {
		j := find(a.names[i], i)
		if j < 0 || !same(&a.items[i], &b.items[j]) {
			return false
		}
	}
	return true
}

// finder looks members up by name: where the guess says, else in a map that is
// made on the first miss of a large object, so that a foreign answer with its
// members reversed costs no quadratic time.
func (v *Value) finder() func(name string, guess int) int {
	var at map[string]int
	return func(name string, guess int) int {
		if v.kind != Object {
			return -1
		}
		if guess < len(v.names) && v.names[guess] == name {
			return guess
		}
		if len(v.names) <= smallObject {
			return slices.Index(v.names, name)
		}
		if at == nil {
			at = make(map[string]int, len(v.names))
			for i, n := range v.names {
				at[n] = i
			}
		}
		if i, ok := at[name]; ok {
			return i
		}
		return -1
	}
}
