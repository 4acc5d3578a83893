package php

import (
	"bytes"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"banyan/proxy/route"
)

// maxDepth is how deep arrays and objects may stand in each other with json_decode's default depth of 512.
const maxDepth = 511

// JSON implements route.Params: the scalar members of a top-level object, as PHP prints them; the last of two equal
// names wins, and null is not there. PHP does not parse JSON by itself: this is what a script sees of
// json_decode(file_get_contents("php://input"), true), which is all or nothing.
func (Params) JSON(body []byte) route.Values {
	s := &scanner{text: body}
	if !s.document() {
		return &members{}
	}
	return &members{text: body, list: s.members}
}

// members are where the members of an object stand; a name or a value is read when somebody asks.
type members struct {
	text []byte
	list []member
}

type member struct {
	name, value span
	escaped     bool // the name holds a '\'
}

type span struct{ from, to int32 }

// Get implements route.Values.
func (m *members) Get(name string) (string, bool) {
	for i := len(m.list) - 1; i >= 0; i-- {
		l := &m.list[i]
		if n := m.text[l.name.from:l.name.to]; !l.escaped && string(n) == name || l.escaped && reads(n, name) {
			return scalar(m.text[l.value.from:l.value.to])
		}
	}
	return "", false
}

// scalar is PHP's string of a value: true is "1", false is "".
func scalar(b []byte) (string, bool) {
	switch b[0] {
	case '"':
		return unquoteJSON(b[1 : len(b)-1]), true
	case 't':
		return "1", true
	case 'f':
		return "", true
	case 'n', '{', '[':
		return "", false
	}
	return number(string(b)), true
}

// number is how PHP prints a number: integers as they are, all else, and what does not fit, as a float.
func number(literal string) string {
	if i, err := strconv.ParseInt(literal, 10, 64); err == nil {
		return strconv.FormatInt(i, 10)
	}
	f, _ := strconv.ParseFloat(literal, 64) // out of range is infinite, as in PHP
	return printFloat(f)
}

// printFloat is PHP's (string) of a float with its default precision, 14 digits.
func printFloat(f float64) string {
	const digits = 14
	switch {
	case math.IsInf(f, 1):
		return "INF"
	case math.IsInf(f, -1):
		return "-INF"
	case f == 0 && math.Signbit(f):
		return "-0"
	case f == 0:
		return "0"
	}
	sign := ""
	if f < 0 {
		sign, f = "-", -f
	}
	mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(f, 'e', digits-1, 64), "e")
	exp, _ := strconv.Atoi(exponent)
	d := strings.TrimRight(strings.Replace(mantissa, ".", "", 1), "0")
	point := exp + 1 // digits before it
	switch {
	case point < -3 || point > digits:
		frac := d[1:]
		if frac == "" {
			frac = "0"
		}
		plus := "+"
		if exp < 0 {
			plus = ""
		}
		return sign + d[:1] + "." + frac + "E" + plus + strconv.Itoa(exp)
	case point <= 0:
		return sign + "0." + strings.Repeat("0", -point) + d
	case point >= len(d):
		return sign + d + strings.Repeat("0", point-len(d))
	}
	return sign + d[:point] + "." + d[point:]
}

// scanner checks a text by PHP's grammar in one pass without recursion, and notes the members of the top-level object.
// Other than RFC 8259 it refuses lone surrogates.
type scanner struct {
	text    []byte
	at      int
	open    []bool // for each value that is open: is it an object
	members []member
}

func (s *scanner) space() {
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case ' ', '\t', '\n', '\r':
			s.at++
		default:
			return
		}
	}
}

// take passes one byte.
func (s *scanner) take(c byte) bool {
	if s.space(); s.at < len(s.text) && s.text[s.at] == c {
		s.at++
		return true
	}
	return false
}

// document says whether the whole text is an object.
func (s *scanner) document() bool {
	if !s.take('{') {
		return false
	}
	s.open = append(s.open, true)
	first := true // nothing stands in the innermost open value yet
	for len(s.open) > 0 {
		object := s.open[len(s.open)-1]
		end := byte(']')
		if object {
			end = '}'
		}
		if s.take(end) {
			s.open = s.open[:len(s.open)-1]
			if len(s.open) == 1 {
				s.members[len(s.members)-1].value.to = int32(s.at)
			}
			first = false
			continue
		}
		if !first && !s.take(',') {
			return false
		}
		var ok bool
		if first, ok = s.item(object); !ok {
			return false
		}
	}
	s.space()
	return s.at == len(s.text)
}

// item passes a member or an element; opened says that it is an array or object, whose inside comes next.
func (s *scanner) item(object bool) (opened, ok bool) {
	top := len(s.open) == 1
	s.space()
	if object {
		from := s.at + 1
		escaped, ok := s.str()
		if !ok {
			return false, false
		}
		name := span{int32(from), int32(s.at - 1)}
		if !s.take(':') {
			return false, false
		}
		s.space()
		if top {
			s.members = append(s.members, member{name: name, value: span{from: int32(s.at)}, escaped: escaped})
		}
	}
	if s.at == len(s.text) {
		return false, false
	}
	switch c := s.text[s.at]; {
	case c == '{' || c == '[':
		if len(s.open) == maxDepth {
			return false, false
		}
		s.open = append(s.open, c == '{')
		s.at++
		return true, true
	case c == '"':
		_, ok = s.str()
	case c == '-' || c >= '0' && c <= '9':
		ok = s.number()
	default:
		ok = s.word("true") || s.word("false") || s.word("null")
	}
	if top && ok {
		s.members[len(s.members)-1].value.to = int32(s.at)
	}
	return false, ok
}

func (s *scanner) word(w string) bool {
	if len(s.text)-s.at < len(w) || string(s.text[s.at:s.at+len(w)]) != w {
		return false
	}
	s.at += len(w)
	return true
}

func (s *scanner) digits() bool {
	from := s.at
	for s.at < len(s.text) && s.text[s.at] >= '0' && s.text[s.at] <= '9' {
		s.at++
	}
	return s.at > from
}

func (s *scanner) has(set string) bool {
	return s.at < len(s.text) && strings.IndexByte(set, s.text[s.at]) >= 0
}

func (s *scanner) number() bool {
	if s.has("-") {
		s.at++
	}
	if s.has("0") {
		s.at++
	} else if !s.digits() {
		return false
	}
	if s.has(".") {
		if s.at++; !s.digits() {
			return false
		}
	}
	if s.has("eE") {
		if s.at++; s.has("+-") {
			s.at++
		}
		return s.digits()
	}
	return true
}

// str passes a string with its quotes.
func (s *scanner) str() (escaped, ok bool) {
	if !s.has(`"`) {
		return false, false
	}
	for s.at++; s.at < len(s.text); {
		switch c := s.text[s.at]; {
		case c == '"':
			s.at++
			return escaped, true
		case c < 0x20:
			return false, false
		case c == '\\':
			escaped = true
			n := escape(s.text[s.at:])
			if n == 0 {
				return false, false
			}
			s.at += n
		case c < 0x80:
			s.at++
		default:
			r, n := utf8.DecodeRune(s.text[s.at:])
			if r == utf8.RuneError && n == 1 {
				return false, false
			}
			s.at += n
		}
	}
	return false, false
}

// escape is the length of the escape that b starts with, 0 if it is none. A surrogate is one only in a pair.
func escape(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	if b[1] != 'u' {
		if strings.IndexByte(`"\/bfnrt`, b[1]) < 0 {
			return 0
		}
		return 2
	}
	u, ok := unit(b)
	switch {
	case !ok || u >= 0xDC00 && u < 0xE000:
		return 0
	case u < 0xD800 || u >= 0xE000:
		return 6
	}
	if low, ok := unit(b[6:]); !ok || low < 0xDC00 || low >= 0xE000 {
		return 0
	}
	return 12
}

// unit reads \uXXXX.
func unit(b []byte) (rune, bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	u := rune(0)
	for _, c := range b[2:6] {
		if !isHex(c) {
			return 0, false
		}
		u = u<<4 | rune(hex(c))
	}
	return u, true
}

// unquoteJSON reads the inside of a string that was checked.
func unquoteJSON(b []byte) string {
	if bytes.IndexByte(b, '\\') < 0 {
		return string(b)
	}
	out := make([]byte, 0, len(b))
	for len(b) > 0 {
		var n int
		out, n = appendChar(out, b)
		b = b[n:]
	}
	return string(out)
}

// reads says whether the inside of a string reads as text. It stops at the first byte that does not.
func reads(b []byte, text string) bool {
	var char [utf8.UTFMax]byte
	for len(b) > 0 {
		c, n := appendChar(char[:0], b)
		if !strings.HasPrefix(text, string(c)) {
			return false
		}
		b, text = b[n:], text[len(c):]
	}
	return text == ""
}

// appendChar appends what the first byte, or the escape that it begins, stands for, and tells its length.
func appendChar(dst, b []byte) ([]byte, int) {
	if b[0] != '\\' {
		return append(dst, b[0]), 1
	}
	n := escape(b)
	switch n {
	case 2:
		return append(dst, plainEscapes[b[1]]), n
	case 6:
		u, _ := unit(b)
		return utf8.AppendRune(dst, u), n
	}
	high, _ := unit(b)
	low, _ := unit(b[6:])
	return utf8.AppendRune(dst, 0x10000+(high-0xD800)<<10+(low-0xDC00)), n
}

var plainEscapes = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}
