package standin

import (
	"math"
	"testing"
)

func FuzzUnserialize(f *testing.F) {
	for _, s := range []string{
		`a:2:{s:6:"stance";s:4:"hold";s:5:"queue";a:0:{}}`, `a:3:{s:4:"lang";s:2:"de";s:5:"sound";b:1;s:6:"logins";i:0;}`, `a:1:{i:0;d:1.5;}`, `a:1:{i:0;N;}`, `a:0:{}`, "",
		`a:999999999:{}`, `a:1:{s:99:"x";i:1;}`, `a:1:{s:-1:"";i:1;}`, `s:1:"a";`, `a:1:{i:1;O:8:"stdClass":0:{}}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a := unserialize(s)
		if a == nil {
			return
		}
		again := serialize(a)
		if b := unserialize(again); b == nil || serialize(b) != again {
			t.Errorf("%q is read as %v, written as %q, and that is not the same", s, a, again)
		}
	})
}

func FuzzNumbers(f *testing.F) {
	for _, s := range []string{"1", " 1", "1 ", "1.", ".5", "1e3", "1e", "-", "+1", "0x1", "1e999", "-1e999", "99999999999999999999", "1.5abc", "", ".", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, ok := numeric(s)
		if ok && (n != toFloat(s) || math.IsNaN(n)) {
			t.Errorf("%q is %g and %g", s, n, toFloat(s))
		}
		if ok && math.Abs(n) < 1<<52 && toInt(s) != int64(n) {
			t.Errorf("%q is %g and %d", s, n, toInt(s))
		}
		if !same(s, s) {
			t.Errorf("%q is not itself", s)
		}
	})
}

// As php 8.2 prints them.
func TestFloatsAsPHPWritesThem(t *testing.T) {
	for f, want := range map[float64]string{
		0: "0", 1: "1", 0.1: "0.1", 1.0 / 3: "0.33333333333333", 812.33333333333333: "812.33333333333", 20000: "20000", 1e14: "1.0E+14", 123456789012345: "1.2345678901234E+14", 0.0001: "0.0001", 0.00001: "1.0E-5",
		99999999999999: "99999999999999", 1.5e25: "1.5E+25", -2.5: "-2.5",
	} {
		if got := floatText(f); got != want {
			t.Errorf("%g is %s, want %s", f, got, want)
		}
	}
	for f, want := range map[float64]float64{1.005: 1.01, 2.675: 2.68, 1.0049: 1, 812.3333333: 812.33, 20000: 20000} {
		if got := round2(f); got != want {
			t.Errorf("round(%g, 2) is %g, want %g", f, got, want)
		}
	}
}
