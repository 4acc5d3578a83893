package contract

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"sort"
	"strings"
)

// Report says how two versions of one type's contract relate.
//
// Backward are reasons why a reader of the newer version cannot read every event of the older, Forward the reverse.
// Undecided are places where this check cannot tell: it knows type, properties, required, additionalProperties, items,
// enum, const and the plain bounds; of any other keyword it only knows that an equal one changes nothing and that a
// dropped one forbids nothing. No reason and nothing undecided in a direction is proof.
type Report struct {
	Type     string
	Old, New int

	Backward, BackwardUndecided []string
	Forward, ForwardUndecided   []string
}

// BackwardOK says that a reader of the newer version reads every event of the older.
func (r Report) BackwardOK() bool { return len(r.Backward)+len(r.BackwardUndecided) == 0 }

// ForwardOK says that a reader of the older version reads every event of the newer.
func (r Report) ForwardOK() bool { return len(r.Forward)+len(r.ForwardUndecided) == 0 }

func (r Report) String() string {
	say := func(no, unsure []string) string {
		switch {
		case len(no) > 0:
			return "no: " + strings.Join(no, "; ")
		case len(unsure) > 0:
			return "cannot tell: " + strings.Join(unsure, "; ")
		}
		return "yes"
	}
	return fmt.Sprintf("%s: v%d reads v%d: %s. v%d reads v%d: %s.", r.Type, r.New, r.Old, say(r.Backward, r.BackwardUndecided),
		r.Old, r.New, say(r.Forward, r.ForwardUndecided))
}

// Compare relates two versions of a type.
func (r *Registry) Compare(name string, old, newer int) (Report, error) {
	for _, v := range []int{old, newer} {
		if err := r.Unknown(name, v); err != nil {
			return Report{}, err
		}
	}
	a, b := r.docs[id{name, old}], r.docs[id{name, newer}]
	rep := Report{Type: name, Old: old, New: newer}
	back, forth := &walk{}, &walk{}
	back.implies("", a, b)
	forth.implies("", b, a)
	rep.Backward, rep.BackwardUndecided = back.no, back.unsure
	rep.Forward, rep.ForwardUndecided = forth.no, forth.unsure
	return rep, nil
}

// Successions relates every version of every type with the one before it, for CI.
func (r *Registry) Successions() []Report {
	var out []Report
	for _, t := range r.Types() {
		vs := r.Versions(t)
		for i := 1; i < len(vs); i++ {
			if rep, err := r.Compare(t, vs[i-1], vs[i]); err == nil {
				out = append(out, rep)
			}
		}
	}
	return out
}

// walk collects why not every value of one schema is a value of another.
type walk struct{ no, unsure []string }

func (w *walk) refuse(at, format string, args ...any) {
	w.no = append(w.no, where(at)+": "+fmt.Sprintf(format, args...))
}

func (w *walk) doubt(at, format string, args ...any) {
	w.unsure = append(w.unsure, where(at)+": "+fmt.Sprintf(format, args...))
}

func where(at string) string {
	if at == "" {
		return "/"
	}
	return at
}

var (
	annotations = []string{"$schema", "$id", "$comment", "title", "description", "examples", "default", "deprecated", "readOnly", "writeOnly"}
	understood  = []string{"type", "properties", "required", "additionalProperties", "items", "enum", "const",
		"minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems"}
	// dropping one of these may forbid something, because another keyword leans on it
	leanedOn = []string{"$ref", "$defs", "definitions", "patternProperties", "minContains", "maxContains", "contains", "if", "then", "else",
		"prefixItems", "unevaluatedProperties", "unevaluatedItems", "$dynamicRef"}
)

// implies checks that every value of from is a value of to.
func (w *walk) implies(at string, from, to map[string]any) {
	for _, k := range keywords(from, to) {
		a, inFrom := from[k]
		b, inTo := to[k]
		if slices.Contains(annotations, k) || slices.Contains(understood, k) {
			continue
		}
		if strings.HasPrefix(k, "$") || slices.Contains(leanedOn, k) {
			w.doubt(at, "%s is beyond this check", k)
			continue
		}
		if inTo && (!inFrom || !reflect.DeepEqual(a, b)) {
			w.doubt(at, "%s differs", k)
		}
	}
	w.types(at, from, to)
	w.values(at, from, to)
	w.bounds(at, from, to)
	w.object(at, from, to)
	w.array(at, from, to)
}

func keywords(a, b map[string]any) []string {
	var ks []string
	for k := range a {
		ks = append(ks, k)
	}
	for k := range b {
		if _, ok := a[k]; !ok {
			ks = append(ks, k)
		}
	}
	sort.Strings(ks)
	return ks
}

var allTypes = []string{"array", "boolean", "null", "number", "object", "string"} // integer is a part of number

func typesOf(s map[string]any) []string {
	switch t := s["type"].(type) {
	case string:
		return []string{t}
	case []any:
		var out []string
		for _, x := range t {
			if n, ok := x.(string); ok {
				out = append(out, n)
			}
		}
		return out
	}
	return allTypes
}

func (w *walk) types(at string, from, to map[string]any) {
	allowed := typesOf(to)
	for _, t := range typesOf(from) {
		if !slices.Contains(allowed, t) && (t != "integer" || !slices.Contains(allowed, "number")) {
			if from["enum"] != nil || from["const"] != nil {
				w.doubt(at, "type %s is not among %s, but the values are listed", t, strings.Join(allowed, ", "))
				continue
			}
			w.refuse(at, "type %s is not among %s", t, strings.Join(allowed, ", "))
		}
	}
}

func listed(s map[string]any) ([]any, bool) {
	if c, ok := s["const"]; ok {
		return []any{c}, true
	}
	e, ok := s["enum"].([]any)
	return e, ok
}

func (w *walk) values(at string, from, to map[string]any) {
	want, ok := listed(to)
	if !ok {
		return
	}
	have, ok := listed(from)
	if !ok {
		w.refuse(at, "values are limited to %s", show(want))
		return
	}
	for _, v := range have {
		if !slices.ContainsFunc(want, func(x any) bool { return reflect.DeepEqual(x, v) }) {
			w.refuse(at, "value %s is not among %s", show(v), show(want))
		}
	}
}

func (w *walk) bounds(at string, from, to map[string]any) {
	for _, k := range []string{"minimum", "minLength", "minItems", "maximum", "maxLength", "maxItems"} {
		lower := strings.HasPrefix(k, "min")
		b, ok := number(to[k])
		if !ok {
			continue
		}
		if a, ok := number(from[k]); !ok || lower && a < b || !lower && a > b {
			if _, isListed := listed(from); isListed {
				w.doubt(at, "%s %v, but the values are listed", k, to[k])
				continue
			}
			w.refuse(at, "%s %v is new or tighter", k, to[k])
		}
	}
}

func number(v any) (float64, bool) {
	n, ok := v.(json.Number)
	if !ok {
		return 0, false
	}
	f, err := n.Float64()
	return f, err == nil
}

func (w *walk) object(at string, from, to map[string]any) {
	required := strs(from["required"])
	for _, f := range strs(to["required"]) {
		if !slices.Contains(required, f) {
			w.refuse(at+"/"+f, "required, and was not")
		}
	}
	fp, tp := schemas(from["properties"]), schemas(to["properties"])
	for _, p := range keywords(fp, tp) {
		a, inFrom := fp[p]
		b, inTo := tp[p]
		switch {
		case inFrom && inTo:
			w.sub(at+"/"+p, a, b)
		case inFrom:
			w.sub(at+"/"+p, a, rest(to))
		case rest(from) == true:
			w.doubt(at+"/"+p, "the other version allowed anything here")
		default:
			w.sub(at+"/"+p, rest(from), b)
		}
	}
	w.sub(at+"/*", rest(from), rest(to))
}

// rest is the schema of the properties without a name.
func rest(s map[string]any) any {
	if a, ok := s["additionalProperties"]; ok {
		return a
	}
	return true
}

func (w *walk) array(at string, from, to map[string]any) {
	if b, ok := to["items"]; ok {
		a, ok := from["items"]
		if !ok {
			a = true
		}
		w.sub(at+"/*", a, b)
	}
}

// sub compares two schemas that may be booleans.
func (w *walk) sub(at string, from, to any) {
	if from == false || to == true || reflect.DeepEqual(from, to) && !refers(from) {
		return
	}
	a, b := from, to
	if a == true {
		a = map[string]any{}
	}
	am, ok1 := a.(map[string]any)
	bm, ok2 := b.(map[string]any)
	switch {
	case b == false && ok1:
		w.refuse(at, "no longer allowed")
	case ok1 && ok2:
		w.implies(at, am, bm)
	default:
		w.doubt(at, "not a schema this check understands")
	}
}

// refers says whether a schema leans on another part of its document, which may differ.
func refers(v any) bool {
	switch x := v.(type) {
	case map[string]any:
		for k, y := range x {
			if k == "$ref" || k == "$dynamicRef" || refers(y) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(x, refers)
	}
	return false
}

func schemas(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

func strs(v any) []string {
	var out []string
	l, _ := v.([]any)
	for _, x := range l {
		if s, ok := x.(string); ok {
			out = append(out, s)
		}
	}
	return out
}
