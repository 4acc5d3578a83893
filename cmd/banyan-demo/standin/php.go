package standin

import (
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// What PHP does with strings, as far as the game relies on it.

const space = " \t\n\r\v\f"

// numberLength is the length of the number that s begins with, after blanks: 0 if there is none.
func numberLength(s string) (n int, whole bool) {
	i := 0
	digits := func() (any bool) {
		for i < len(s) && s[i] >= '0' && s[i] <= '9' {
			i, any = i+1, true
		}
		return any
	}
	if i < len(s) && (s[i] == '+' || s[i] == '-') {
		i++
	}
	before := digits()
	whole = true
	if i < len(s) && s[i] == '.' {
		dot := i
		i++
		if after := digits(); !before && !after {
			return 0, false
		} else if !after {
			i = dot + 1 // "5." is a number
		}
		whole = false
	} else if !before {
		return 0, false
	}
	if i < len(s) && s[i]|0x20 == 'e' {
		mark := i
		i++
		if i < len(s) && (s[i] == '+' || s[i] == '-') {
			i++
		}
		if digits() {
			whole = false
		} else {
			i = mark
		}
	}
	return i, whole
}

// numeric is is_numeric and the number.
func numeric(s string) (float64, bool) {
	s = strings.TrimRight(strings.TrimLeft(s, space), space)
	n, _ := numberLength(s)
	if n == 0 || n != len(s) {
		return 0, false
	}
	return toFloat(s), true
}

// toFloat is (float).
func toFloat(s string) float64 {
	s = strings.TrimLeft(s, space)
	n, _ := numberLength(s)
	f, _ := strconv.ParseFloat(s[:n], 64) // out of range is infinite, as in PHP
	return f
}

// toInt is (int): what the string begins with, cut off, at the bounds if it is too large.
func toInt(s string) int64 {
	s = strings.TrimLeft(s, space)
	n, whole := numberLength(s)
	if n == 0 {
		return 0
	}
	if whole {
		i, _ := strconv.ParseInt(s[:n], 10, 64) // at the bounds if out of range
		return i
	}
	switch f := toFloat(s); {
	case f >= math.MaxInt64:
		return math.MaxInt64
	case f <= math.MinInt64:
		return math.MinInt64
	default:
		return int64(f)
	}
}

// same is == of two strings, which compares numbers if both are numeric.
func same(a, b string) bool {
	if a == b {
		return true
	}
	x, ok := numeric(a)
	y, also := numeric(b)
	return ok && also && x == y
}

// floatText is a float as text: 14 digits.
func floatText(f float64) string {
	s := strconv.FormatFloat(f, 'G', 14, 64)
	mantissa, exponent, ok := strings.Cut(s, "E")
	if !ok {
		return s
	}
	e, _ := strconv.Atoi(exponent)
	if !strings.Contains(mantissa, ".") {
		mantissa += ".0"
	}
	sign := "+"
	if e < 0 {
		sign = ""
	}
	return mantissa + "E" + sign + strconv.Itoa(e)
}

// round2 is round($f, 2), which first forgets the sixteenth digit.
func round2(f float64) float64 {
	hundred, _ := strconv.ParseFloat(strconv.FormatFloat(f*100, 'e', 14, 64), 64)
	rounded, _ := strconv.ParseFloat(strconv.FormatFloat(math.Round(hundred), 'f', 0, 64)+"e-2", 64)
	return rounded
}

var special = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&#039;")

// h is the game's h(): text that is no UTF-8 becomes empty.
func h(s string) string {
	if !utf8.ValidString(s) {
		return ""
	}
	return special.Replace(s)
}

// nl2br puts a tag before each line break.
var nl2br = strings.NewReplacer("\r\n", "<br />\r\n", "\n\r", "<br />\n\r", "\n", "<br />\n", "\r", "<br />\r").Replace

func ucfirst(s string) string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// trim is PHP's trim().
func trim(s string) string { return strings.Trim(s, " \t\n\r\v\x00") }
