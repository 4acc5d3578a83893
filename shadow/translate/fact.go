package translate

import (
	"encoding/json"
	"fmt"
	"strings"

	"banyan/proxy/event"
	"banyan/proxy/expr"
)

// fact is what is common to all mappings: type, version, and data as expressions.
type fact struct {
	typ     string
	version int
	subject *expr.Template // of rows; nil: the table's
	fields  []field        // sorted by name; none: the whole row
}

type field struct {
	name string
	key  []byte // `"name":`
	// A plain path into the environment, the common case, is read without the expression machine.
	path []string
	prog *expr.Program
}

func (k *compiler) fact(at, typ string, version int, data map[string]string, env map[string]any) fact {
	f := fact{typ: typ, version: version}
	switch {
	case typ == "":
		k.fail(at+".type", "missing: want a type such as game.unit.moved")
	case version < 1:
		k.fail(at+".version", "%d: want 1 or more", version)
	case k.contracts != nil:
		if err := k.contracts.Unknown(typ, version); err != nil {
			k.fail(at+".type", "%w", err)
		}
	}
	for _, name := range sortedKeys(data) {
		p, err := expr.Compile(data[name], env)
		if err != nil {
			k.fail(at+".data."+name, "%w", err)
			continue
		}
		key, err := json.Marshal(name)
		if err != nil {
			k.fail(at+".data", "%q: %w", name, err)
			continue
		}
		f.fields = append(f.fields, field{name: name, key: append(key, ':'), path: plainPath(data[name]), prog: p})
	}
	return f
}

// plainPath splits "row.hp" or "effects.units.hp", nil for anything else.
func plainPath(src string) []string {
	parts := strings.Split(src, ".")
	for _, p := range parts {
		if !isName(p) {
			return nil
		}
	}
	if (len(parts) == 2 && (parts[0] == "row" || parts[0] == "before")) || len(parts) == 3 && parts[0] == "effects" {
		return parts
	}
	return nil
}

// data evaluates the fields. row is the whole image, for facts without fields.
func (f *fact) data(env map[string]any, row event.Values) (json.RawMessage, error) {
	if len(f.fields) == 0 {
		b, err := json.Marshal(map[string]any(row))
		if err != nil {
			return nil, fmt.Errorf("row as JSON: %w", err)
		}
		return b, nil
	}
	b := make([]byte, 1, 64)
	b[0] = '{'
	for i := range f.fields {
		x := &f.fields[i]
		v, err := x.eval(env)
		if err != nil {
			return nil, fmt.Errorf("data.%s: %w", x.name, err)
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, x.key...)
		if b, err = appendJSON(b, v); err != nil {
			return nil, fmt.Errorf("data.%s: %w", x.name, err)
		}
	}
	return append(b, '}'), nil
}

func (x *field) eval(env map[string]any) (any, error) {
	if x.path == nil {
		return x.prog.Eval(env)
	}
	var v any = env
	for i, name := range x.path {
		m, ok := v.(map[string]any)
		if ok {
			v, ok = m[name]
		}
		if !ok {
			return nil, fmt.Errorf("%s: legacy's row has no %s", strings.Join(x.path, "."), strings.Join(x.path[:i+1], "."))
		}
	}
	return v, nil
}

func appendJSON(b []byte, v any) ([]byte, error) {
	if v == nil {
		return append(b, "null"...), nil
	}
	j, err := json.Marshal(v)
	return append(b, j...), err
}
