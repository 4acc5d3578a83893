package diff

import (
	"slices"
	"strconv"
)

// Limits bound what [Decode] takes. A zero field means its default.
type Limits struct {
	Bytes  int // length of the text; default 16 MiB
	Depth  int // containers within containers; default 128
	Values int // all values together; default 1,000,000 (some 72 bytes each)
}

const (
	defaultBytes  = 16 << 20
	defaultDepth  = 128
	defaultValues = 1_000_000
)

func (l Limits) withDefaults() Limits {
	if l.Bytes <= 0 {
		l.Bytes = defaultBytes
	}
	if l.Depth <= 0 {
		l.Depth = defaultDepth
	}
	if l.Values <= 0 {
		l.Values = defaultValues
	}
	return l
}

// Decode reads one JSON text (RFC 8259) with the default [Limits].
//
// Numbers keep their text. Bytes of a string that are no UTF-8 are kept as they
// came, and so is half a surrogate pair: replacing them would make different
// strings equal. An object that names a member twice has the last value, as
// PHP, JavaScript and encoding/json read it; [Value.Repeated] tells, and a
// report notes it. What is not JSON, or beyond a limit, is a [SyntaxError].
func Decode(data []byte) (Value, error) { return DecodeLimited(data, Limits{}) }

// DecodeLimited is Decode with limits.
func DecodeLimited(data []byte, limits Limits) (Value, error) {
	limits = limits.withDefaults()
	if len(data) > limits.Bytes {
		return Value{}, &SyntaxError{limits.Bytes, "longer than " + strconv.Itoa(limits.Bytes) + " bytes"}
	}
	d := decoder{text: string(data), depth: limits.Depth, room: limits.Values}
	v := d.value()
	if d.i = skipSpace(d.text, d.i); d.err == nil && d.i < len(d.text) {
		d.fail("more text after the value")
	}
	if d.err != nil {
		return Value{}, d.err
	}
	return v, nil
}

// decoder builds a tree whose texts share one copy of the document.
type decoder struct {
	text  string
	i     int
	depth int // containers that may still be opened
	room  int // values that may still be made
	err   error
	items []Value  // elements of the containers that are open
	names []string // and their names
}

func (d *decoder) fail(reason string) Value {
	if d.err == nil {
		d.err = &SyntaxError{d.i, reason}
	}
	return Value{}
}

func (d *decoder) value() Value {
	d.i = skipSpace(d.text, d.i)
	if d.room--; d.room < 0 {
		return d.fail("too many values")
	}
	if d.i >= len(d.text) {
		return d.fail("text ends where a value is due")
	}
	switch d.text[d.i] {
	case '{':
		return d.container(Object, '}')
	case '[':
		return d.container(List, ']')
	case '"':
		return Value{kind: String, text: d.string()}
	case 't', 'f', 'n':
		return d.literal()
	}
	end, reason := scanNumber(d.text, d.i)
	from := d.i
	d.i = end
	if reason != "" {
		return d.fail(reason)
	}
	return Value{kind: Number, text: d.text[from:end]}
}

func (d *decoder) literal() Value {
	end, kind := scanLiteral(d.text, d.i)
	if kind == Missing {
		return d.fail("not a value")
	}
	v := Value{kind: kind}
	if kind == Bool {
		v.text = d.text[d.i:end]
	}
	d.i = end
	return v
}

func (d *decoder) string() string {
	from := d.i
	end, escaped, reason := scanString(d.text, from)
	d.i = end
	if reason != "" {
		d.fail(reason)
		return ""
	}
	if inside := d.text[from+1 : end-1]; escaped {
		return unescape(inside)
	} else {
		return inside
	}
}

// container reads a list or an object. Its elements gather on a stack that all
// containers share, and are copied once their number is known.
func (d *decoder) container(kind Kind, end byte) Value {
	if d.depth--; d.depth < 0 {
		return d.fail("nested too deep")
	}
	items, names := len(d.items), len(d.names)
	for first := true; d.more(end, first); first = false {
		if kind == Object {
			d.names = append(d.names, d.name())
		}
		if d.err != nil {
			return Value{}
		}
		v := d.value()
		d.items = append(d.items, v)
	}
	if d.err != nil {
		return Value{}
	}
	d.depth++
	v := Value{kind: kind, items: slices.Clone(d.items[items:])}
	d.items = d.items[:items]
	if kind == Object {
		v.names = slices.Clone(d.names[names:])
		d.names = d.names[:names]
		v.dropRepeated()
	}
	return v
}

// more steps over the bracket or comma before an element, or over the end.
func (d *decoder) more(end byte, first bool) bool {
	if d.err != nil {
		return false
	}
	if first {
		d.i++
	}
	d.i = skipSpace(d.text, d.i)
	switch {
	case d.i >= len(d.text):
		d.fail("list or object does not end")
		return false
	case d.text[d.i] == end:
		d.i++
		return false
	case first:
		return true
	case d.text[d.i] != ',':
		d.fail("a comma or the end is due")
		return false
	}
	d.i++
	return true
}

func (d *decoder) name() string {
	d.i = skipSpace(d.text, d.i)
	if d.i >= len(d.text) || d.text[d.i] != '"' {
		d.fail("a member's name is due")
		return ""
	}
	name := d.string()
	if d.i = skipSpace(d.text, d.i); d.err == nil && (d.i >= len(d.text) || d.text[d.i] != ':') {
		d.fail("a colon is due")
	}
	d.i++
	return name
}
