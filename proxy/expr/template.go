package expr

import (
	"fmt"
	"strings"
)

// Template is text with {name} holes: "match/{match}", "/matches/{match}/map". A name is letters, digits, '_' and '.'.
// "{{" and "}}" stand for the braces themselves.
type Template struct {
	src   string
	texts []string // len(names)+1 pieces around the holes
	names []string
}

// ParseTemplate tells the column of what is wrong. [Template.String] of the result is src.
func ParseTemplate(src string) (*Template, error) {
	t := &Template{src: src}
	var text strings.Builder
	for i := 0; i < len(src); {
		switch c := src[i]; {
		case c != '{' && c != '}':
			text.WriteByte(c)
			i++
		case i+1 < len(src) && src[i+1] == c:
			text.WriteByte(c)
			i += 2
		case c == '}':
			return nil, fmt.Errorf("template %q: column %d: '}' without '{'; write '}}' for a brace", src, i+1)
		default:
			end := strings.IndexByte(src[i:], '}')
			if end < 0 {
				return nil, fmt.Errorf("template %q: column %d: '{' is not closed", src, i+1)
			}
			name := src[i+1 : i+end]
			if !isName(name) {
				return nil, fmt.Errorf("template %q: column %d: %q is not a name", src, i+2, name)
			}
			t.texts = append(t.texts, text.String())
			t.names = append(t.names, name)
			text.Reset()
			i += end + 1
		}
	}
	t.texts = append(t.texts, text.String())
	return t, nil
}

func isName(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '.' {
			return false
		}
	}
	return s != ""
}

// String is the source.
func (t *Template) String() string { return t.src }

// Names are the holes, in order, with repeats.
func (t *Template) Names() []string { return t.names }

// Expand fills the holes. It says false if one has no value or an empty one: a key with an empty part would join
// what does not belong together.
func (t *Template) Expand(value func(name string) (string, bool)) (string, bool) {
	var room [64]byte // a key's, mostly
	b, ok := t.Append(room[:0], value)
	return string(b), ok
}

// Append is [Template.Expand] onto b.
func (t *Template) Append(b []byte, value func(name string) (string, bool)) ([]byte, bool) {
	for i, name := range t.names {
		v, ok := value(name)
		if !ok || v == "" {
			return b, false
		}
		b = append(append(b, t.texts[i]...), v...)
	}
	return append(b, t.texts[len(t.names)]...), true
}
