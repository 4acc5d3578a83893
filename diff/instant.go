package diff

import (
	"math"
	"strconv"
	"time"
)

// milliseconds is where a number is taken for epoch milliseconds: as seconds
// it would be the year 5138, as milliseconds it is March 1973.
const milliseconds = 1e11

// maxEpoch is the year 9999 in seconds.
const maxEpoch = 253402300799

var instantLayouts = [...]string{
	time.RFC3339Nano, "2006-01-02 15:04:05.999999999", "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999Z07:00",
}

// instant reads a value as a point in time, if it is one. A time without a
// zone is UTC.
func instant(v *Value) (time.Time, bool) {
	switch v.kind {
	case Number:
		return epoch(v.text)
	case Instant, String:
		if isNumber(v.text) {
			return epoch(v.text)
		}
		for _, layout := range instantLayouts {
			if t, err := time.Parse(layout, v.text); err == nil {
				return t, true
			}
		}
	}
	return time.Time{}, false
}

func epoch(text string) (time.Time, bool) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		switch {
		case n < milliseconds && n > -milliseconds:
			return time.Unix(n, 0), true
		case n < maxEpoch*1000 && n > -maxEpoch*1000:
			return time.UnixMilli(n), true
		}
		return time.Time{}, false
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.Abs(f) > maxEpoch*1000 {
		return time.Time{}, false
	}
	if math.Abs(f) >= milliseconds {
		f /= 1000
	}
	whole, part := math.Modf(f)
	return time.Unix(int64(whole), int64(part*1e9)), true
}
