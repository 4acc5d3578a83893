package diff

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MarshalJSON writes v as JSON. Bytes that are no UTF-8 become U+FFFD, an
// instant a string, and Missing null.
func (v Value) MarshalJSON() ([]byte, error) {
	return v.appendText(nil, -1, appendJSONString), nil
}

// UnmarshalJSON is [Decode].
func (v *Value) UnmarshalJSON(data []byte) error {
	w, err := Decode(data)
	if err == nil {
		*v = w
	}
	return err
}

// String is v for a reader, whole: JSON, with what does not print escaped.
func (v Value) String() string {
	if v.kind == Missing {
		return "(missing)"
	}
	return string(v.appendText(nil, -1, appendPrintable))
}

// Short is String, cut to about limit runes with a mark that says how much
// there is: "Lorem ips… (1,234 bytes)".
func (v Value) Short(limit int) string {
	if v.kind == Missing {
		return "(missing)"
	}
	// No rune takes more than 10 bytes when it is escaped.
	full := string(v.appendText(nil, 10*limit, appendPrintable))
	if utf8.RuneCountInString(full) <= limit {
		return full
	}
	return cutRunes(full, limit) + v.mark()
}

func cutRunes(s string, n int) string {
	for i := range s {
		if n == 0 {
			return s[:i]
		}
		n--
	}
	return s
}

func (v Value) mark() string {
	switch v.kind {
	case List:
		return fmt.Sprintf("… (%d %s)", len(v.items), plural(len(v.items), "element"))
	case Object:
		return fmt.Sprintf("… (%d %s)", len(v.items), plural(len(v.items), "member"))
	}
	return fmt.Sprintf("… (%d bytes)", len(v.text))
}

// appendText writes v. With a limit that is not negative it may stop once dst
// is longer.
func (v *Value) appendText(dst []byte, limit int, quote func([]byte, string) []byte) []byte {
	if limit >= 0 && len(dst) > limit {
		return dst
	}
	switch v.kind {
	case Missing, Null:
		return append(dst, "null"...)
	case Bool, Number:
		return append(dst, v.text...)
	case String, Instant:
		s := v.text
		if limit >= 0 && len(s) > limit+utf8.UTFMax {
			s = s[:limit+utf8.UTFMax]
		}
		return quote(dst, s)
	}
	open, end := byte('['), byte(']')
	if v.kind == Object {
		open, end = '{', '}'
	}
	dst = append(dst, open)
	for i := range v.items {
		if limit >= 0 && len(dst) > limit {
			return dst
		}
		if i > 0 {
			dst = append(dst, ',')
		}
		if v.kind == Object {
			dst = append(quote(dst, v.names[i]), ':')
		}
		dst = v.items[i].appendText(dst, limit, quote)
	}
	return append(dst, end)
}

func appendJSONString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for _, r := range s { // invalid bytes range as U+FFFD
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r < 0x20 || r == 0x7f || r == 0x2028 || r == 0x2029:
			dst = fmt.Appendf(dst, `\u%04x`, r)
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return append(dst, '"')
}

// appendPrintable quotes as Go does: whatever could move a cursor, turn the
// direction of text or hide itself is escaped, and so are invalid bytes.
func appendPrintable(dst []byte, s string) []byte { return strconv.AppendQuote(dst, s) }

// String is d in one line:
//
//	value /units/id=7/hp: legacy 97, candidate 96 (unit/7; within 1 exceeded by 2)
func (d Difference) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: legacy %s, candidate %s", d.Class, printablePath(d.Path), d.Legacy.Short(60), d.Candidate.Short(60))
	if about := d.about(); about != "" {
		b.WriteString(" (" + about + ")")
	}
	return b.String()
}

func (d Difference) about() string {
	about := printable(d.Entity)
	if d.Near != "" {
		if about != "" {
			about += "; "
		}
		about += d.Near
	}
	return about
}

func printable(s string) string {
	q := strconv.Quote(s)
	return strings.ReplaceAll(strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`), `\\`, `\`)
}

func printablePath(p Path) string {
	if p == "" {
		return "(document)"
	}
	return printable(string(p))
}

// maxJSONValue is the length up to which the JSON form of a report has a value
// itself.
const maxJSONValue = 2048

type jsonDifference struct {
	Path      Path     `json:"path"`
	Class     Class    `json:"class"`
	Legacy    *Value   `json:"legacy,omitempty"`
	Candidate *Value   `json:"candidate,omitempty"`
	Shortened []string `json:"shortened,omitempty"`
	Entity    string   `json:"entity,omitempty"`
	Near      string   `json:"near,omitempty"`
	Group     string   `json:"group"`
}

// MarshalJSON writes d. A side that is missing has no member; a value longer
// than 2 KiB is a string with its beginning, and its side is in "shortened".
func (d Difference) MarshalJSON() ([]byte, error) {
	j := jsonDifference{Path: d.Path, Class: d.Class, Entity: d.Entity, Near: d.Near, Group: d.Group}
	side := func(name string, v Value) *Value {
		if v.kind == Missing {
			return nil
		}
		if len(v.appendText(nil, maxJSONValue, appendJSONString)) > maxJSONValue {
			j.Shortened = append(j.Shortened, name)
			v = NewString(v.Short(maxJSONValue / 8))
		}
		return &v
	}
	j.Legacy = side("legacy", d.Legacy)
	j.Candidate = side("candidate", d.Candidate)
	return json.Marshal(j)
}

// MarshalJSON writes the report.
func (r Report) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Total       int            `json:"total"`
		Differences []Difference   `json:"differences"`
		Dropped     int            `json:"dropped,omitempty"`
		Groups      map[string]int `json:"groups,omitempty"`
		Compared    int            `json:"compared"`
		Muted       int            `json:"muted"`
		Undecided   int            `json:"undecided"`
		Used        []Use          `json:"used,omitempty"`
		Notes       []Note         `json:"notes,omitempty"`
		NotesTotal  int            `json:"notes_total,omitempty"`
	}{
		r.Total, append([]Difference{}, r.Differences...), r.Dropped(), r.Groups,
		r.Compared, r.Muted, r.Undecided, r.Used, r.Notes, r.NotesTotal,
	})
}

// runeWidth is how many columns a terminal gives a rune.
func runeWidth(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me):
		return 0
	case r >= 0x1100 && r <= 0x115f, r >= 0x2e80 && r <= 0xa4cf, r >= 0xac00 && r <= 0xd7a3,
		r >= 0xf900 && r <= 0xfaff, r >= 0xfe30 && r <= 0xfe6f, r >= 0xff00 && r <= 0xff60,
		r >= 0xffe0 && r <= 0xffe6, r >= 0x1f300 && r <= 0x1faff, r >= 0x20000 && r <= 0x3fffd:
		return 2
	}
	return 1
}

func width(s string) int {
	n := 0
	for _, r := range s {
		n += runeWidth(r)
	}
	return n
}

// cutWidth cuts s to n columns, the last of them an ellipsis if it was longer.
func cutWidth(s string, n int) string {
	if width(s) <= n {
		return s
	}
	room := n - 1
	for i, r := range s {
		if room -= runeWidth(r); room < 0 {
			return s[:i] + "…"
		}
	}
	return s
}
