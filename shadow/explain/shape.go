package explain

import (
	"math/big"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"banyan/diff"
)

// shape explains two values by themselves.
func shape(legacy, candidate diff.Value) *Explanation {
	if !scalar(legacy) || !scalar(candidate) {
		return nil
	}
	a, b := legacy.Text(), candidate.Text()
	switch {
	case rounded(a, b):
		return because(Rounding, nil, "legacy's %s and the candidate's %s are one number with different digits", short(legacy), short(candidate))
	case charset(a, b):
		return because(Charset, nil, "legacy's %s and the candidate's %s are one text in two charsets", short(legacy), short(candidate))
	}
	if hours, ok := zone(a, b); ok {
		return because(TimeZone, nil, "the candidate's %s is %d hours off legacy's %s", short(candidate), hours, short(legacy))
	}
	return nil
}

func scalar(v diff.Value) bool {
	return v.Kind() == diff.Number || v.Kind() == diff.String || v.Kind() == diff.Instant
}

// maxDigits bounds what is looked at as a number: longer ones are no noise of rounding, and cost time.
const maxDigits = 40

func number(s string) (*big.Rat, bool) {
	if len(s) == 0 || len(s) > maxDigits || strings.ContainsAny(s, "/_xXpPiInN") {
		return nil, false
	}
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		if n, err := strconv.Atoi(strings.TrimPrefix(s[i+1:], "+")); err != nil || n > 100 || n < -100 {
			return nil, false
		}
	}
	return new(big.Rat).SetString(s)
}

// difference is a-b, if both are numbers.
func difference(a, b diff.Value) (*big.Rat, bool) {
	x, ok := number(a.Text())
	y, ok2 := number(b.Text())
	if !ok || !ok2 || !scalar(a) || !scalar(b) {
		return nil, false
	}
	return new(big.Rat).Sub(x, y), true
}

func rounded(a, b string) bool {
	x, ok := number(a)
	y, ok2 := number(b)
	if !ok || !ok2 || x.Cmp(y) == 0 || x.Sign()*y.Sign() < 0 {
		return false
	}
	f, _ := x.Float32()
	g, _ := y.Float32()
	if f == g && f != 0 && (decimals(a) > 0 || decimals(b) > 0) {
		return true
	}
	return cutTo(x, y, decimals(b), decimals(a)) || cutTo(y, x, decimals(a), decimals(b))
}

// cutTo reports whether y, with d decimals, is x, which has more, rounded or cut.
func cutTo(x, y *big.Rat, d, more int) bool {
	if d >= more || d > 30 {
		return false
	}
	unit := new(big.Rat).SetFrac(big.NewInt(1), new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(d)), nil))
	off := new(big.Rat).Sub(x, y)
	half := new(big.Rat).Mul(unit, big.NewRat(1, 2))
	if cmpAbs(off, half) <= 0 {
		return true
	}
	// Cut toward zero: what was cut off has the sign of x and is less than a unit.
	return cmpAbs(off, unit) < 0 && off.Sign() == x.Sign()
}

// decimals is the number of digits behind the point.
func decimals(s string) int {
	_, frac, _ := strings.Cut(s, ".")
	if i := strings.IndexAny(frac, "eE"); i >= 0 {
		frac = frac[:i]
	}
	return len(frac)
}

const maxZone = 14

// zone tells by how many whole hours two instants differ.
func zone(a, b string) (int, bool) {
	x, ok := instant(a)
	y, ok2 := instant(b)
	if !ok || !ok2 {
		return 0, false
	}
	d := y.Sub(x)
	if d == 0 || d%time.Hour != 0 || d.Abs() > maxZone*time.Hour {
		return 0, false
	}
	return int(d / time.Hour), true
}

var layouts = [...]string{time.RFC3339Nano, "2006-01-02 15:04:05.999999999", "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999Z07:00"}

// instant reads a date with its time, or epoch seconds since 1973 or milliseconds; smaller numbers are just numbers.
func instant(s string) (time.Time, bool) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		switch {
		case n > 1e8 && n < 1e11:
			return time.Unix(n, 0), true
		case n >= 1e11 && n < 1e14:
			return time.UnixMilli(n), true
		}
		return time.Time{}, false
	}
	for _, l := range layouts {
		if t, err := time.Parse(l, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// charset reports whether one text is the other in a wrong charset.
func charset(a, b string) bool {
	return a != b && (misread(a, b) || misread(b, a) || replaced(a, b) || replaced(b, a))
}

// misread: bad is what good's UTF-8 gives when each byte is taken for a letter of Latin-1 or Windows-1252.
func misread(good, bad string) bool {
	if isASCII(good) {
		return false
	}
	var latin, windows strings.Builder
	for i := range len(good) {
		latin.WriteRune(rune(good[i]))
		windows.WriteRune(windows1252(good[i]))
	}
	return bad == latin.String() || bad == windows.String()
}

// replaced: bad has a ? or U+FFFD for every letter of good that is not ASCII, and is equal elsewhere.
func replaced(good, bad string) bool {
	if isASCII(good) || !utf8.ValidString(good) || utf8.RuneCountInString(good) != utf8.RuneCountInString(bad) {
		return false
	}
	b := []rune(bad)
	for i, r := range []rune(good) {
		if r < utf8.RuneSelf && b[i] != r || r >= utf8.RuneSelf && b[i] != '?' && b[i] != utf8.RuneError {
			return false
		}
	}
	return true
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

var upper1252 = [32]rune{0x20AC, 0x81, 0x201A, 0x192, 0x201E, 0x2026, 0x2020, 0x2021, 0x2C6, 0x2030, 0x160, 0x2039, 0x152, 0x8D, 0x17D, 0x8F,
	0x90, 0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014, 0x2DC, 0x2122, 0x161, 0x203A, 0x153, 0x9D, 0x17E, 0x178}

func windows1252(b byte) rune {
	if b >= 0x80 && b < 0xA0 {
		return upper1252[b-0x80]
	}
	return rune(b)
}

func cmpAbs(a, b *big.Rat) int { return new(big.Rat).Abs(a).Cmp(b) }
