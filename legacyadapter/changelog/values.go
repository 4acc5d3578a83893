package changelog

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Undecodable prefixes the base64 form of text that is not valid in its character set. The character before the word
// is U+FFFD, which no valid text needs to start with.
const Undecodable = "\uFFFDbase64:"

// Text is UTF-8 text as a value. Invalid bytes are never replaced silently.
func Text(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	return Undecodable + base64.StdEncoding.EncodeToString(b)
}

// TextString is [Text] of a string that nobody will change.
func TextString(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return Undecodable + base64.StdEncoding.EncodeToString([]byte(s))
}

// Binary is binary data as a value.
func Binary(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// Int is a signed integer as a value.
func Int(n int64) json.Number { return json.Number(strconv.FormatInt(n, 10)) }

// Uint is an unsigned integer as a value.
func Uint(n uint64) json.Number { return json.Number(strconv.FormatUint(n, 10)) }

// Float is the shortest digits that give the same number of that width (32 or 64 bits), in the form that JSON encoders
// use. What JSON cannot write becomes text.
func Float(f float64, bits int) any {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	}
	format := byte('f')
	if a := math.Abs(f); a != 0 && (a < 1e-6 || a >= 1e21) {
		format = 'e'
	}
	return json.Number(strconv.FormatFloat(f, format, -1, bits))
}

// Decimal is decimal digits as a value: legacy's scale is kept, padding zeros before the number are not. What is not
// a decimal stays text.
func Decimal(s string) any {
	neg := strings.HasPrefix(s, "-")
	d := strings.TrimPrefix(s, "-")
	whole, frac, dot := strings.Cut(d, ".")
	if !digits(whole) || dot && !digits(frac) {
		return s
	}
	trimmed := strings.TrimLeft(whole, "0")
	if len(trimmed) == len(whole) {
		return json.Number(s)
	}
	if trimmed == "" {
		trimmed = "0"
	}
	if len(trimmed) == len(whole) {
		return json.Number(s)
	}
	if dot {
		trimmed += "." + frac
	}
	if neg {
		trimmed = "-" + trimmed
	}
	return json.Number(trimmed)
}

func digits(s string) bool {
	if s == "" {
		return false
	}
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
