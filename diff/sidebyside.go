package diff

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Text renders the report for a terminal that is width columns wide, the
// sides beside each other, or below each other where that is too narrow:
//
//	2 differences in 9 values compared
//	                    legacy             candidate
//	~ /units/id=7/hp    97                 96
//	    unit/7
//	- /units/id=8       {"hp":50,"id":8}   (missing)
//
// The marks are ~ value, ! type, - missing, + extra, % order.
func (r *Report) Text(width int) string {
	var b strings.Builder
	b.WriteString(r.Summary() + "\n")
	if len(r.Differences) > 0 {
		if width < narrow {
			r.below(&b, max(width, 20))
		} else {
			r.beside(&b, width)
		}
	}
	for _, u := range r.Used {
		verb := "tolerated"
		if u.Kind == "ignore" {
			verb = "muted"
		}
		fmt.Fprintf(&b, "%s %d×: %s", verb, u.Count, printable(u.Rule))
		if !strings.Contains(u.Rule, u.Kind) {
			b.WriteString(" (" + u.Kind + ")")
		}
		b.WriteByte('\n')
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "note: %s: %s\n", printablePath(n.Path), printable(n.Text))
	}
	return b.String()
}

// narrow is the width below which columns would hold nothing useful.
const narrow = 60

var marks = map[Class]string{
	ClassValue: "~", ClassType: "!", ClassMissing: "-", ClassExtra: "+", ClassOrder: "%",
}

func (r *Report) beside(b *strings.Builder, columns int) {
	first := width("legacy")
	for _, d := range r.Differences {
		first = max(first, width(printablePath(d.Path)))
	}
	first = min(first, columns*2/5)
	side, widest := (columns-2-first-4)/2, width("(missing)")
	for _, d := range r.Differences {
		legacy, _ := d.sides(side)
		widest = max(widest, width(legacy))
	}
	widest = min(side, widest)
	line := func(mark, path, legacy, candidate string) {
		text := fmt.Sprintf("%s %s  %s  %s", mark, pad(path, first), pad(legacy, widest), candidate)
		b.WriteString(strings.TrimRight(text, " ") + "\n")
	}
	line(" ", "", "legacy", "candidate")
	for _, d := range r.Differences {
		legacy, candidate := d.sides(side)
		line(marks[d.Class], cutFront(printablePath(d.Path), first), legacy, candidate)
		if about := d.about(); about != "" {
			b.WriteString("    " + cutWidth(about, columns-4) + "\n")
		}
	}
}

func (r *Report) below(b *strings.Builder, columns int) {
	for _, d := range r.Differences {
		legacy, candidate := d.sides(columns - 14)
		fmt.Fprintf(b, "%s %s\n    legacy    %s\n    candidate %s\n",
			marks[d.Class], cutFront(printablePath(d.Path), columns-2), legacy, candidate)
		if about := d.about(); about != "" {
			b.WriteString("    " + cutWidth(about, columns-4) + "\n")
		}
	}
}

// sides shortens both values to n columns, so that what differs stays in view:
// a long common beginning is cut too.
func (d Difference) sides(n int) (legacy, candidate string) {
	const most = 64 << 10
	legacy, candidate = d.Legacy.Short(most), d.Candidate.Short(most)
	common := commonPrefix(legacy, candidate)
	if (width(legacy) > n || width(candidate) > n) && width(legacy[:common]) > n*2/3 {
		from := common
		for back := n / 3; back > 0 && from > 0; back-- {
			_, size := utf8.DecodeLastRuneInString(legacy[:from])
			from -= size
		}
		legacy, candidate = "…"+legacy[from:], "…"+candidate[from:]
	}
	return cutWidth(legacy, n), cutWidth(candidate, n)
}

// commonPrefix is the length of what both begin with, in whole runes.
func commonPrefix(a, b string) int {
	for i, r := range a {
		if i >= len(b) || !strings.HasPrefix(b[i:], string(r)) {
			return i
		}
	}
	return len(a)
}

func pad(s string, n int) string {
	return s + strings.Repeat(" ", max(0, n-width(s)))
}

// cutFront keeps the end of a path, which says most.
func cutFront(s string, n int) string {
	if width(s) <= n {
		return s
	}
	room := n - 1
	for i := len(s); i > 0; {
		r, size := utf8.DecodeLastRuneInString(s[:i])
		if room -= runeWidth(r); room < 0 {
			return "…" + s[i:]
		}
		i -= size
	}
	return s
}
