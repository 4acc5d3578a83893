package route

import (
	"fmt"
	"slices"
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
		if err := element(part, name); err != nil {
			return nil, fmt.Errorf("%q: %w", s, err)
		}
		if part == "header" {
			name = strings.ToLower(name)
		}
		out = append(out, source{part, name})
	}
	return out, nil
}

// element checks a name such as "to[x]", which asks for what stands in an array of legacy's.
func element(part, name string) error {
	base, rest, _ := strings.Cut(name, "[")
	if rest == "" && !strings.ContainsAny(name, "[]") || part == "header" || part == "path" || part == "json" {
		return nil
	}
	for key := range strings.SplitSeq(strings.TrimSuffix(rest, "]"), "][") {
		if base == "" || key == "" || !strings.HasSuffix(rest, "]") || strings.ContainsAny(key, "[]") {
			return fmt.Errorf("want an element of an array as %s.name[key], or %s.name[key][key]", part, part)
		}
	}
	return nil
}

func known(part string) bool {
	for _, p := range parts {
		if p == part {
			return true
		}
	}
	return false
}

func (s source) inBody() bool { return s.part == "form" || s.part == "json" }

func needsBody(ss []source) bool { return slices.ContainsFunc(ss, source.inBody) }
