package diff

import (
	"fmt"
	"strconv"
	"strings"
)

// Path names one place in a document, as RFC 6901 does: /units/12/stock, with
// ~1 for a slash and ~0 for a tilde inside a step. The empty Path is the
// document itself. An element of a list that a rule matches by key has the
// step id=42 instead of an index, the same on both sides however they order it.
type Path string

// NewPath joins steps, which may hold any bytes.
func NewPath(steps ...string) Path {
	var b strings.Builder
	for _, s := range steps {
		b.WriteByte('/')
		escapeStep(&b, s)
	}
	return Path(b.String())
}

func escapeStep(b *strings.Builder, s string) {
	for i := range len(s) {
		switch s[i] {
		case '~':
			b.WriteString("~0")
		case '/':
			b.WriteString("~1")
		default:
			b.WriteByte(s[i])
		}
	}
}

// ParsePath checks that s is a path.
func ParsePath(s string) (Path, error) {
	if _, err := splitSteps(s, "01"); err != nil {
		return "", err
	}
	return Path(s), nil
}

// Steps splits p. They are the raw names, unescaped.
func (p Path) Steps() []string {
	raw, err := splitSteps(string(p), "01")
	if err != nil {
		return nil
	}
	for i, s := range raw {
		raw[i] = unescapeStep(s)
	}
	return raw
}

var stepUnescaper = strings.NewReplacer("~0", "~", "~1", "/", "~2", "*")

func unescapeStep(s string) string {
	if strings.IndexByte(s, '~') < 0 {
		return s
	}
	return stepUnescaper.Replace(s)
}

// splitSteps splits a path into steps that are still escaped.
func splitSteps(s, escapes string) ([]string, error) {
	if s == "" {
		return nil, nil
	}
	if s[0] != '/' {
		return nil, fmt.Errorf("path %q does not begin with a slash", s)
	}
	for i := range len(s) {
		if s[i] == '~' && (i+1 == len(s) || !strings.Contains(escapes, s[i+1:i+2])) {
			return nil, fmt.Errorf("path %q: a tilde is written ~0", s)
		}
	}
	return strings.Split(s[1:], "/"), nil
}

// At follows p into v: members by name, elements by index or by key=value. It
// is Missing where p leads nowhere.
func (v Value) At(p Path) Value {
	for _, s := range p.Steps() {
		switch v.kind {
		case Object:
			v = v.Member(s)
		case List:
			v = v.element(s)
		default:
			return Value{}
		}
	}
	return v
}

func (v Value) element(step string) Value {
	if i, err := strconv.Atoi(step); err == nil {
		return v.Element(i)
	}
	name, want, ok := strings.Cut(step, "=")
	for i := range v.items {
		if ok && v.items[i].kind == Object && v.items[i].Member(name).text == want {
			return v.items[i]
		}
	}
	return Value{}
}

// Pattern matches paths: a step is a name or index, * for any one step, or **
// for any number of steps, none included. /**/updated_at matches /updated_at
// and /units/3/updated_at; /units matches that list, /units/* its elements. A
// star in a name is written ~2. A single name without a slash, as one writes
// for a column, stands for that member of the document.
type Pattern struct {
	text  string
	steps []patternStep
}

type patternStep struct {
	kind stepKind
	name string
}

type stepKind uint8

const (
	stepName stepKind = iota
	stepAny           // *
	stepDeep          // **
)

// maxSteps bounds a pattern's length; documents are not deeper.
const maxSteps = 128

// ParsePattern reads a pattern.
func ParsePattern(s string) (Pattern, error) {
	full := s
	if s != "" && s[0] != '/' && !strings.Contains(s, "/") {
		full = "/" + s
	}
	raw, err := splitSteps(full, "012")
	if err != nil {
		return Pattern{}, err
	}
	if len(raw) > maxSteps {
		return Pattern{}, fmt.Errorf("path %q has %d steps, more than %d", s, len(raw), maxSteps)
	}
	p := Pattern{text: full}
	for _, r := range raw {
		step := patternStep{kind: stepName, name: unescapeStep(r)}
		switch {
		case r == "*":
			step = patternStep{kind: stepAny}
		case r == "**":
			step = patternStep{kind: stepDeep}
		case strings.Contains(r, "*"):
			return Pattern{}, fmt.Errorf("path %q: * stands for a whole step; write ~2 for a star in a name", s)
		}
		if n := len(p.steps); n > 0 && step.kind == stepDeep && p.steps[n-1].kind == stepDeep {
			continue // twice says what once does
		}
		p.steps = append(p.steps, step)
	}
	return p, nil
}

// String is the pattern as ParsePattern reads it.
func (p Pattern) String() string { return p.text }

// Match reports whether p matches path. A set of rules matches all its patterns
// in one walk instead.
func (p Pattern) Match(path Path) bool { return matchSteps(p.steps, path.Steps()) }

func matchSteps(pattern []patternStep, steps []string) bool {
	at := []int{0} // positions in pattern that the steps so far can have reached
	at = closeOver(pattern, at)
	for _, s := range steps {
		var next []int
		for _, i := range at {
			if i == len(pattern) {
				continue
			}
			switch p := pattern[i]; {
			case p.kind == stepDeep:
				next = append(next, i)
			case p.kind == stepAny || p.name == s:
				next = append(next, i+1)
			}
		}
		at = closeOver(pattern, next)
	}
	return len(at) > 0 && at[len(at)-1] == len(pattern)
}

// closeOver adds the positions that ** lets stand for no step. Positions come
// and stay in ascending order, without duplicates.
func closeOver(pattern []patternStep, at []int) []int {
	var out []int
	for _, i := range at {
		for {
			if len(out) == 0 || out[len(out)-1] < i {
				out = append(out, i)
			}
			if i == len(pattern) || pattern[i].kind != stepDeep {
				break
			}
			i++
		}
	}
	return out
}
