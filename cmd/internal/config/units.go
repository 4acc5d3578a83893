package config

import (
	"fmt"
	"strconv"
	"strings"
)

// Bytes is a size: "64KiB", "1MiB", "20GiB", or plain bytes.
type Bytes int64

var units = []struct {
	suffix string
	n      int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"B", 1}}

// UnmarshalText implements encoding.TextUnmarshaler.
func (b *Bytes) UnmarshalText(t []byte) error {
	s, scale := string(t), int64(1)
	for _, u := range units {
		if n, ok := strings.CutSuffix(s, u.suffix); ok {
			s, scale = strings.TrimSpace(n), u.n
			break
		}
	}
	f, err := strconv.ParseUint(s, 10, 40)
	if err != nil || int64(f) > (1<<62)/scale {
		return fmt.Errorf("%q: want a size such as 64KiB, 1MiB or 20GiB", t)
	}
	*b = Bytes(int64(f) * scale)
	return nil
}

// String uses the largest unit that divides it.
func (b Bytes) String() string {
	for _, u := range []int{3, 2, 1, 0} {
		if n := int64(b) / units[u].n; n > 0 && int64(b)%units[u].n == 0 {
			return strconv.FormatInt(n, 10) + units[u].suffix
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

// Percent is a share of a whole: "0.02%", 0 to 100.
type Percent float64

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Percent) UnmarshalText(t []byte) error {
	s, ok := strings.CutSuffix(string(t), "%")
	f, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if !ok || err != nil || !(f >= 0 && f <= 100) {
		return fmt.Errorf("%q: want a percentage from 0%% to 100%%", t)
	}
	*p = Percent(f)
	return nil
}

// String prints what UnmarshalText reads.
func (p Percent) String() string { return strconv.FormatFloat(float64(p), 'g', -1, 64) + "%" }

// Factor is a ratio to the other side: "1.5x".
type Factor float64

// UnmarshalText implements encoding.TextUnmarshaler.
func (f *Factor) UnmarshalText(t []byte) error {
	s, ok := strings.CutSuffix(string(t), "x")
	v, err := strconv.ParseFloat(s, 64)
	if !ok || err != nil || !(v > 0 && v <= 100) {
		return fmt.Errorf("%q: want a factor such as 1.0x", t)
	}
	*f = Factor(v)
	return nil
}

// String prints what UnmarshalText reads.
func (f Factor) String() string { return strconv.FormatFloat(float64(f), 'g', -1, 64) + "x" }
