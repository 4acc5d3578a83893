package migrate

import (
	"net/url"
	"strconv"
	"strings"

	"banyan/proxy/event"
)

// escaped makes a parameter safe inside a request target: what a client chose must not add segments or parameters.
func escaped(value func(string) (string, bool)) func(string) (string, bool) {
	return func(name string) (string, bool) {
		v, ok := value(name)
		if v == "." || v == ".." {
			return "", false
		}
		return strings.ReplaceAll(url.QueryEscape(v), "+", "%20"), ok
	}
}

// Positions reads a candidate's field Banyan-Position: "before-after", the read model's progress around its read, or
// one position for both.
func Positions(s string) (before, after event.Position) {
	b, a, two := strings.Cut(s, "-")
	before, err := event.ParsePosition(b)
	if err != nil {
		return 0, 0
	}
	if !two {
		return before, before
	}
	if after, err = event.ParsePosition(a); err != nil {
		return 0, 0
	}
	return before, after
}

// Generation reads a candidate's field Banyan-Generation; 0 if it is none.
func Generation(s string) int {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return 0
	}
	return int(n)
}
