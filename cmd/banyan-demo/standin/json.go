package standin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// object is a JSON object with its members in order.
type object []member

type member struct {
	name  string
	value any
}

// get is a member's value; nil if there is none, or it is null.
func (o object) get(name string) any {
	for i := len(o) - 1; i >= 0; i-- {
		if o[i].name == name {
			return o[i].value
		}
	}
	return nil
}

// encode writes as json_encode does: slashes and all that is not ASCII escaped.
func encode(b *bytes.Buffer, value any) {
	switch v := value.(type) {
	case nil:
		b.WriteString("null")
	case bool:
		b.WriteString(strconv.FormatBool(v))
	case int64:
		b.WriteString(strconv.FormatInt(v, 10))
	case float64:
		b.WriteString(strconv.FormatFloat(v, 'f', -1, 64))
	case string:
		encodeString(b, v)
	case object:
		b.WriteByte('{')
		for i, m := range v {
			if i > 0 {
				b.WriteByte(',')
			}
			encodeString(b, m.name)
			b.WriteByte(':')
			encode(b, m.value)
		}
		b.WriteByte('}')
	case []any:
		b.WriteByte('[')
		for i, e := range v {
			if i > 0 {
				b.WriteByte(',')
			}
			encode(b, e)
		}
		b.WriteByte(']')
	default:
		encodeString(b, fmt.Sprint(v))
	}
}

var jsonEscapes = map[rune]string{'"': `\"`, '\\': `\\`, '/': `\/`, '\b': `\b`, '\f': `\f`, '\n': `\n`, '\r': `\r`, '\t': `\t`}

func encodeString(b *bytes.Buffer, s string) {
	b.WriteByte('"')
	for _, r := range s {
		switch escape, ok := jsonEscapes[r]; {
		case ok:
			b.WriteString(escape)
		case r >= 0x20 && r < 0x80:
			b.WriteByte(byte(r))
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(b, `\u%04x`, r)
		}
	}
	b.WriteByte('"')
}

// decode is json_decode($body, true) of an object or a list; a list has no members that anybody asks for.
func decode(body []byte) (object, bool) {
	// PHP refuses what Go would repair, and what is nested 512 deep.
	if !utf8.Valid(body) || loneSurrogate(body) || depth(body) >= 512 {
		return nil, false
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var in any
	if d.Decode(&in) != nil {
		return nil, false
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, false
	}
	switch v := in.(type) {
	case map[string]any:
		o := make(object, 0, len(v))
		for name, value := range v {
			o = append(o, member{name, value})
		}
		return o, true
	case []any:
		return object{}, true
	}
	return nil, false
}

// loneSurrogate tells whether an escape is half a character, which Go would replace.
func loneSurrogate(body []byte) bool {
	high := false // the escape just before was a high surrogate
	for i := 0; i < len(body); i++ {
		var r rune
		if body[i] == '\\' {
			if i+6 <= len(body) && body[i+1] == 'u' {
				n, _ := strconv.ParseUint(string(body[i+2:i+6]), 16, 16)
				r = rune(n)
				i += 5
			} else {
				i++
			}
		}
		low := r >= 0xdc00 && r < 0xe000
		if high != low {
			return true
		}
		high = r >= 0xd800 && r < 0xdc00
	}
	return false
}

// depth is how deep brackets are nested, at most: of JSON, it is exact.
func depth(body []byte) (most int) {
	now, quoted := 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			now++
			most = max(most, now)
		case c == '}' || c == ']':
			now--
		}
	}
	return most
}

// text is (string) of a decoded value; arrays are the word Array.
func text(value any) string {
	switch v := value.(type) {
	case string:
		return v
	case json.Number:
		return numberText(string(v))
	case bool:
		if v {
			return "1"
		}
	case map[string]any, []any:
		return "Array"
	}
	return ""
}

func numberText(s string) string {
	if strings.ContainsAny(s, ".eE") {
		return floatText(toFloat(s))
	}
	if i, err := strconv.ParseInt(s, 10, 64); err == nil {
		return strconv.FormatInt(i, 10)
	}
	return floatText(toFloat(s))
}

func isArray(value any) bool {
	switch value.(type) {
	case map[string]any, []any:
		return true
	}
	return false
}
