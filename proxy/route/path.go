package route

import (
	"bytes"
	"fmt"
	"strings"
)

// pattern is a parsed path: segments, each literal, "{name}" or "*"; rest says that "/**" ends it.
type pattern struct {
	segments []string // "" name for '*'
	names    []string // of the same length; "" where literal
	wild     []bool
	rest     bool
	literal  bool
}

func parsePath(s string) (*pattern, error) {
	if !strings.HasPrefix(s, "/") {
		return nil, fmt.Errorf("%q: a path starts with '/'", s)
	}
	p := &pattern{literal: true}
	parts := strings.Split(s[1:], "/")
	for i, part := range parts {
		name, wild := "", false
		switch {
		case part == "**":
			if i != len(parts)-1 {
				return nil, fmt.Errorf("%q: '**' stands only at the end", s)
			}
			p.rest, p.literal = true, false
			return p, nil
		case part == "*":
			wild = true
		case strings.HasPrefix(part, "{") && strings.HasSuffix(part, "}") && len(part) > 2:
			name, wild = part[1:len(part)-1], true
		case strings.ContainsAny(part, "{}*"):
			return nil, fmt.Errorf("%q: segment %q: '*' and '{name}' stand for whole segments", s, part)
		}
		p.segments, p.names, p.wild = append(p.segments, part), append(p.names, name), append(p.wild, wild)
		p.literal = p.literal && !wild
	}
	return p, nil
}

// match says whether the canonical path fits; "/a/**" fits "/a", "/a/" and all below.
func (p *pattern) match(path []byte) bool {
	rest := path[1:]
	for i, want := range p.segments {
		seg, more, cut := bytes.Cut(rest, slash)
		if !p.wild[i] && string(seg) != want || p.wild[i] && len(seg) == 0 {
			return false
		}
		if i == len(p.segments)-1 {
			return p.rest || !cut
		}
		if !cut {
			return false
		}
		rest = more
	}
	return p.rest
}

var slash = []byte("/")

// param is the value of {name}; it may stand in path.
func (p *pattern) param(path []byte, name string) (string, bool) {
	rest := path[1:]
	for _, n := range p.names {
		seg, more, cut := bytes.Cut(rest, slash)
		if n == name {
			if bytes.IndexByte(seg, '%') < 0 {
				return view(seg), true
			}
			return unescaper.Replace(string(seg)), true
		}
		if !cut {
			break
		}
		rest = more
	}
	return "", false
}

// unescaper undoes what a canonical path still holds escaped.
var unescaper = strings.NewReplacer("%25", "%", "%3F", "?", "%23", "#")
