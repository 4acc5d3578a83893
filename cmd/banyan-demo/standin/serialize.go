package standin

import (
	"strconv"
	"strings"
)

// array is a PHP array as serialize() writes it: keys and values are int64, bool,
// float64, string, nil or array.
type array []pair

type pair struct{ key, value any }

func (a array) get(key string) any {
	for _, p := range a {
		if p.key == key {
			return p.value
		}
	}
	return nil
}

// set replaces a value in its place, or adds it at the end.
func (a array) set(key string, value any) array {
	for i, p := range a {
		if p.key == key {
			a[i].value = value
			return a
		}
	}
	return append(a, pair{key, value})
}

func serialize(value any) string {
	var b strings.Builder
	serializeTo(&b, value)
	return b.String()
}

func serializeTo(b *strings.Builder, value any) {
	switch v := value.(type) {
	case bool:
		if v {
			b.WriteString("b:1;")
		} else {
			b.WriteString("b:0;")
		}
	case int64:
		b.WriteString("i:" + strconv.FormatInt(v, 10) + ";")
	case float64:
		b.WriteString("d:" + strconv.FormatFloat(v, 'G', -1, 64) + ";")
	case string:
		b.WriteString("s:" + strconv.Itoa(len(v)) + `:"` + v + `";`)
	case array:
		b.WriteString("a:" + strconv.Itoa(len(v)) + ":{")
		for _, p := range v {
			serializeTo(b, p.key)
			serializeTo(b, p.value)
		}
		b.WriteString("}")
	default:
		b.WriteString("N;")
	}
}

// deepest bounds nesting: the game's own data are three deep.
const deepest = 64

// unserialize reads an array; anything else, and what is broken, is an empty one.
func unserialize(s string) array {
	r := reader{s}
	v, ok := r.value(deepest)
	a, is := v.(array)
	if !ok || !is || r.rest != "" {
		return nil
	}
	return a
}

type reader struct{ rest string }

// until takes what stands before a mark, and the mark.
func (r *reader) until(mark string) (string, bool) {
	before, after, ok := strings.Cut(r.rest, mark)
	if ok {
		r.rest = after
	}
	return before, ok
}

func (r *reader) value(depth int) (any, bool) {
	if strings.HasPrefix(r.rest, "N;") {
		r.rest = r.rest[2:]
		return nil, true
	}
	if len(r.rest) < 2 || r.rest[1] != ':' || depth == 0 {
		return nil, false
	}
	kind := r.rest[0]
	r.rest = r.rest[2:]
	switch kind {
	case 's':
		return r.text()
	case 'a':
		return r.array(depth)
	case 'i', 'b', 'd':
		s, ok := r.until(";")
		if !ok {
			return nil, false
		}
		return scalar(kind, s)
	}
	return nil, false
}

func scalar(kind byte, s string) (any, bool) {
	switch kind {
	case 'b':
		return s == "1", s == "0" || s == "1"
	case 'd':
		f, err := strconv.ParseFloat(s, 64)
		return f, err == nil
	}
	i, err := strconv.ParseInt(s, 10, 64)
	return i, err == nil
}

func (r *reader) text() (any, bool) {
	s, ok := r.until(`:"`)
	n, err := strconv.Atoi(s)
	if !ok || err != nil || n < 0 || n > len(r.rest)-2 || r.rest[n:n+2] != `";` {
		return nil, false
	}
	v := r.rest[:n]
	r.rest = r.rest[n+2:]
	return v, true
}

func (r *reader) array(depth int) (any, bool) {
	s, ok := r.until(":{")
	n, err := strconv.Atoi(s)
	if !ok || err != nil || n < 0 {
		return nil, false
	}
	a := array{}
	for range n {
		key, ok := r.value(depth - 1)
		if !ok {
			return nil, false
		}
		value, ok := r.value(depth - 1)
		if !ok {
			return nil, false
		}
		a = append(a, pair{key, value})
	}
	if !strings.HasPrefix(r.rest, "}") {
		return nil, false
	}
	r.rest = r.rest[1:]
	return a, true
}
