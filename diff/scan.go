package diff

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// SyntaxError says where a text stops being JSON, or goes beyond a limit.
type SyntaxError struct {
	Offset int
	Reason string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("json: at byte %d: %s", e.Offset, e.Reason)
}

// text is what the scanners below read, so that one grammar serves documents
// in bytes and numbers in strings.
type text interface{ ~string | ~[]byte }

// plain marks the bytes that stand for themselves inside a JSON string.
var plain = func() (t [256]bool) {
	for c := 0x20; c < 256; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

func skipSpace[T text](b T, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// scanString reads a string whose opening quote stands at i. It returns the
// offset behind the closing quote and whether there are escapes, or a reason.
func scanString[T text](b T, i int) (end int, escaped bool, reason string) {
	for i++; i < len(b); i++ {
		c := b[i]
		if plain[c] {
			continue
		}
		switch {
		case c == '"':
			return i + 1, escaped, ""
		case c != '\\':
			return i, escaped, "control character in a string"
		}
		escaped = true
		if i+1 >= len(b) {
			break
		}
		i++
		switch b[i] {
		case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		case 'u':
			if _, ok := hex4(b, i+1); !ok {
				return i, escaped, "\\u needs four hexadecimal digits"
			}
			i += 4
		default:
			return i, escaped, "unknown escape in a string"
		}
	}
	return len(b), escaped, "string does not end"
}

func hex4[T text](b T, i int) (rune, bool) {
	if i+4 > len(b) {
		return 0, false
	}
	var r rune
	for _, c := range []byte(b[i : i+4]) {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// unescape decodes the inside of a scanned string. Half a surrogate pair,
// which no UTF-8 can hold, becomes the three bytes that would encode it, so
// that two different halves stay different.
func unescape[T text](b T) string {
	var s strings.Builder
	s.Grow(len(b))
	for i := 0; i < len(b); i++ {
		if b[i] != '\\' {
			s.WriteByte(b[i])
			continue
		}
		i++
		switch b[i] {
		case 'b':
			s.WriteByte('\b')
		case 'f':
			s.WriteByte('\f')
		case 'n':
			s.WriteByte('\n')
		case 'r':
			s.WriteByte('\r')
		case 't':
			s.WriteByte('\t')
		case 'u':
			i = unescapeRune(&s, b, i)
		default:
			s.WriteByte(b[i])
		}
	}
	return s.String()
}

// unescapeRune decodes \uXXXX, the u at i, with the second half of a pair if it
// follows, and returns the offset of the last byte that it took.
func unescapeRune[T text](s *strings.Builder, b T, i int) int {
	r, _ := hex4(b, i+1)
	i += 4
	if r < 0xd800 || r > 0xdfff {
		s.WriteRune(r)
		return i
	}
	if r < 0xdc00 && i+6 < len(b) && b[i+1] == '\\' && b[i+2] == 'u' {
		if low, ok := hex4(b, i+3); ok && low >= 0xdc00 && low <= 0xdfff {
			s.WriteRune((r-0xd800)<<10 | (low - 0xdc00) + 0x10000)
			return i + 6
		}
	}
	s.Write([]byte{0xe0 | byte(r>>12), utf8.RuneSelf | byte(r>>6)&0x3f, utf8.RuneSelf | byte(r)&0x3f})
	return i
}

// scanNumber reads a number at i and returns the offset behind it, or a reason.
func scanNumber[T text](b T, i int) (end int, reason string) {
	if i < len(b) && b[i] == '-' {
		i++
	}
	switch {
	case i < len(b) && b[i] == '0':
		i++
	case i < len(b) && '1' <= b[i] && b[i] <= '9':
		i = skipDigits(b, i)
	default:
		return i, "not a value"
	}
	if i < len(b) && b[i] == '.' {
		from := i + 1
		if i = skipDigits(b, from); i == from {
			return i, "number ends after its point"
		}
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		from := i
		if i = skipDigits(b, from); i == from {
			return i, "number ends in its exponent"
		}
	}
	return i, ""
}

func skipDigits[T text](b T, i int) int {
	for i < len(b) && '0' <= b[i] && b[i] <= '9' {
		i++
	}
	return i
}

func isNumber(s string) bool {
	end, reason := scanNumber(s, 0)
	return reason == "" && end == len(s)
}

// scanLiteral reads true, false or null at i.
func scanLiteral[T text](b T, i int) (end int, kind Kind) {
	for _, l := range [...]struct {
		word string
		kind Kind
	}{{"true", Bool}, {"false", Bool}, {"null", Null}} {
		if i+len(l.word) <= len(b) && string(b[i:i+len(l.word)]) == l.word {
			return i + len(l.word), l.kind
		}
	}
	return i, Missing
}
