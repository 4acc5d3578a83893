package diff

import (
	"math"
	"math/big"
	"strconv"
	"strings"
)

// decimal is a JSON number in parts: 0.digits × 10^exp, digits without zeros
// at either end. Zero has no digits. The digits may span a point.
type decimal struct {
	neg  bool
	text string // from the first to the last digit that is not zero, perhaps with a point in it
	exp  int64
	huge bool // an exponent beyond every use: only equal text is equal
}

// maxExponent bounds what is computed with; 1e999999999 is a number too.
const maxExponent = 1 << 20

// parseDecimal takes text that isNumber.
func parseDecimal(text string) decimal {
	var d decimal
	if text[0] == '-' {
		d.neg, text = true, text[1:]
	}
	mantissa := text
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		mantissa = text[:i]
		e, err := strconv.ParseInt(text[i+1:], 10, 64)
		if err != nil || e > maxExponent || e < -maxExponent {
			d.huge = true
		}
		d.exp = e
	}
	point := strings.IndexByte(mantissa, '.')
	if point < 0 {
		point = len(mantissa)
	}
	first := strings.IndexAny(mantissa, "123456789")
	if first < 0 {
		return decimal{} // zero, whatever its sign and exponent
	}
	if first < point {
		d.exp += int64(point - first)
	} else {
		d.exp -= int64(first - point - 1)
	}
	last := strings.LastIndexAny(mantissa, "123456789")
	d.text = mantissa[first : last+1]
	return d
}

// compareDecimals reports whether two numbers denote the same decimal: 1, 1.0
// and 1e0 do, 0.1 and 0.1000000000000000001 do not.
func compareDecimals(a, b string) bool {
	x, y := parseDecimal(a), parseDecimal(b)
	if x.huge || y.huge {
		return a == b
	}
	return x.neg == y.neg && x.exp == y.exp && sameDigits(x.text, y.text)
}

func sameDigits(a, b string) bool {
	i, j := 0, 0
	for {
		if i < len(a) && a[i] == '.' {
			i++
		}
		if j < len(b) && b[j] == '.' {
			j++
		}
		if i == len(a) || j == len(b) {
			return i == len(a) && j == len(b)
		}
		if a[i] != b[j] {
			return false
		}
		i++
		j++
	}
}

// appendDecimal writes the one notation that equal numbers share.
func appendDecimal(dst []byte, text string) []byte {
	d := parseDecimal(text)
	if d.huge {
		return append(append(dst, '!'), text...)
	}
	if d.text == "" {
		return append(dst, '0')
	}
	if d.neg {
		dst = append(dst, '-')
	}
	for i := range len(d.text) {
		if d.text[i] != '.' {
			dst = append(dst, d.text[i])
		}
	}
	return strconv.AppendInt(append(dst, 'e'), d.exp, 10)
}

// maxRational bounds the exponents and lengths that exact arithmetic takes.
const maxRational = 1000

func rational(text string) (*big.Rat, bool) {
	d := parseDecimal(text)
	if d.huge || d.exp > maxRational || d.exp < -maxRational || len(text) > maxRational {
		return nil, false
	}
	return new(big.Rat).SetString(text)
}

// tolerance is how far two numbers may lie apart.
type tolerance struct {
	text     string // as written: 0.01 or 1%
	relative bool   // of the larger magnitude
	amount   *big.Rat
	approx   float64
}

// within reports whether a and b are close enough, and if not, by how much
// they are not (empty when they cannot be computed with).
func (t *tolerance) within(a, b string) (bool, string) {
	if t.clearly(a, b) {
		return true, ""
	}
	x, okA := rational(a)
	y, okB := rational(b)
	if !okA || !okB {
		return false, ""
	}
	apart := new(big.Rat).Sub(x, y)
	apart.Abs(apart)
	bound := t.amount
	if t.relative {
		bound = new(big.Rat).Mul(bound, larger(x.Abs(x), y.Abs(y)))
	}
	if apart.Cmp(bound) <= 0 {
		return true, ""
	}
	over, _ := apart.Sub(apart, bound).Float64()
	return false, strconv.FormatFloat(over, 'g', 6, 64)
}

// clearly decides in floats, for the many values that lie where the floats'
// error cannot matter.
func (t *tolerance) clearly(a, b string) bool {
	x, errA := strconv.ParseFloat(a, 64)
	y, errB := strconv.ParseFloat(b, 64)
	if errA != nil || errB != nil {
		return false
	}
	scale := max(math.Abs(x), math.Abs(y))
	bound := t.approx
	if t.relative {
		bound *= scale
	}
	slack := 1e-14*(scale+bound) + 1e-300
	return math.Abs(x-y) < bound-slack
}

func larger(a, b *big.Rat) *big.Rat {
	if a.Cmp(b) >= 0 {
		return a
	}
	return b
}
