package route

import (
	"fmt"
	"strings"
)

// source is one place of a parameter.
type source struct{ part, name string }

var parts = []string{"path", "query", "form", "json", "header", "cookie"}

func parseSource(s string) ([]source, error) {
	var out []source
	for alt := range strings.SplitSeq(s, "|") {
		part, name, ok := strings.Cut(strings.TrimSpace(alt), ".")
		if !ok || name == "" || !known(part) {
			return nil, fmt.Errorf("%q: want one of %s, a dot and a name; alternatives with '|'", s, strings.Join(parts, ", "))
		}
		if part == "header" {
			name = strings.ToLower(name)
		}
		out = append(out, source{part, name})
	}
	return out, nil
}

func known(part string) bool {
	for _, p := range parts {
		if p == part {
			return true
		}
	}
	return false
}

func needsBody(ss []source) bool {
	for _, s := range ss {
		if s.part == "form" || s.part == "json" {
			return true
		}
	}
	return false
}
