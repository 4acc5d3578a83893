package config

import (
	"fmt"
	"os"
	"reflect"
	"sort"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// decoder walks the YAML tree beside the Go value and keeps going after an error, so that all are told at once. It
// remembers where each path stands in the file, for checks that come later.
type decoder struct {
	file     string
	lines    []string
	at       map[string]pos // "migrations.units.writes[0].match" -> where its value stands
	problems []Problem
	getenv   func(string) (string, bool)
	nodes    int
}

type pos struct{ line, column int }

// Problem is one thing that is wrong with a file.
type Problem struct {
	File         string
	Line, Column int
	Path         string // dotted; "" for the whole file
	Message      string
	Hint         string
	excerpt      string
}

// Error is "file:line:col: path: message (hint)".
func (p Problem) Error() string {
	s := fmt.Sprintf("%s:%d:%d: ", p.File, p.Line, p.Column)
	if p.Path != "" {
		s += p.Path + ": "
	}
	s += p.Message
	if p.Hint != "" {
		s += " (" + p.Hint + ")"
	}
	return s
}

// Excerpt is the line with a caret below it, for terminals.
func (p Problem) Excerpt() string { return p.excerpt }

// maxNodes bounds what aliases may expand to.
const maxNodes = 100_000

func (d *decoder) fail(n *yaml.Node, path, hint, format string, args ...any) {
	d.failAt(pos{n.Line, n.Column}, path, hint, format, args...)
}

func (d *decoder) failAt(p pos, path, hint, format string, args ...any) {
	pr := Problem{File: d.file, Line: p.line, Column: p.column, Path: path, Message: fmt.Sprintf(format, args...), Hint: hint}
	if p.line >= 1 && p.line <= len(d.lines) {
		no := strconv.Itoa(p.line)
		pr.excerpt = no + " | " + d.lines[p.line-1] + "\n" + strings.Repeat(" ", len(no)) + " | " + strings.Repeat(" ", max(0, p.column-1)) + "^"
	}
	d.problems = append(d.problems, pr)
}

// failPath reports at the nearest place that the file has for the path.
func (d *decoder) failPath(path, hint, format string, args ...any) {
	for p := path; ; {
		if at, ok := d.at[p]; ok {
			d.failAt(at, path, hint, format, args...)
			return
		}
		i := strings.LastIndexAny(p, ".[")
		if i < 0 {
			d.failAt(pos{1, 1}, path, hint, format, args...)
			return
		}
		p = p[:i]
	}
}

var durationType = reflect.TypeFor[time.Duration]()

// textValue is a type with a grammar of its own: Bytes, Percent, stage.Stage …
type textValue interface{ UnmarshalText([]byte) error }

func (d *decoder) decode(n *yaml.Node, v reflect.Value, path string) {
	if d.nodes++; d.nodes > maxNodes {
		if d.nodes == maxNodes+1 {
			d.fail(n, path, "", "the file expands to more than %d values", maxNodes)
		}
		return
	}
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if _, known := d.at[path]; !known {
		d.at[path] = pos{n.Line, n.Column}
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return // "key:" is the same as leaving it out
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	if t, ok := v.Addr().Interface().(textValue); ok && !(n.Kind == yaml.MappingNode && v.Kind() == reflect.Struct) {
		if s, ok := d.scalar(n, path, "text"); ok {
			if err := t.UnmarshalText([]byte(s)); err != nil {
				d.fail(n, path, "", "%v", err)
			}
		}
		return
	}
	if y, ok := v.Addr().Interface().(interface{ UnmarshalYAML(func(any) error) error }); ok {
		if err := y.UnmarshalYAML(func(out any) error { return n.Decode(out) }); err != nil {
			d.fail(n, path, "", "%v", err)
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.structure(n, v, path)
	case reflect.Map:
		d.mapping(n, v, path)
	case reflect.Slice:
		d.list(n, v, path)
	default:
		d.value(n, v, path)
	}
}

func (d *decoder) scalar(n *yaml.Node, path, want string) (string, bool) {
	if n.Kind != yaml.ScalarNode {
		d.fail(n, path, "", "want %s, not a %s", want, kindName(n))
		return "", false
	}
	s, err := d.expand(n.Value)
	if err != nil {
		d.fail(n, path, "", "%v", err)
		return "", false
	}
	return s, true
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "mapping"
	case yaml.SequenceNode:
		return "list"
	}
	return "single value"
}

// expand fills ${NAME} from the environment and ${file:/path} from a file, without its last line break. "$$" is "$".
func (d *decoder) expand(s string) (string, error) {
	if !strings.Contains(s, "$") {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case strings.HasPrefix(s[i:], "$$"):
			b.WriteByte('$')
			i++
		case strings.HasPrefix(s[i:], "${"):
			end := strings.IndexByte(s[i:], '}')
			if end < 0 {
				return "", fmt.Errorf("'${' is not closed; write '$$' for a dollar sign")
			}
			name := s[i+2 : i+end]
			if file, ok := strings.CutPrefix(name, "file:"); ok {
				c, err := os.ReadFile(file)
				if err != nil {
					return "", fmt.Errorf("${file:…}: %w", err)
				}
				b.WriteString(strings.TrimRight(string(c), "\r\n"))
			} else if v, ok := d.getenv(name); ok {
				b.WriteString(v)
			} else {
				return "", fmt.Errorf("the environment variable %s is not set", name)
			}
			i += end
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), nil
}

func (d *decoder) value(n *yaml.Node, v reflect.Value, path string) {
	want := map[reflect.Kind]string{reflect.String: "text", reflect.Bool: "true or false", reflect.Float64: "a number"}[v.Kind()]
	if want == "" {
		want = "a whole number"
	}
	if v.Type() == durationType {
		want = "a duration with its unit, such as 250ms, 30s or 14d"
	}
	s, ok := d.scalar(n, path, want)
	if !ok {
		return
	}
	bad := func() { d.fail(n, path, "", "%q: want %s", s, want) }
	switch {
	case v.Type() == durationType:
		t, err := parseDuration(s)
		if err != nil {
			bad()
			return
		}
		v.SetInt(int64(t))
	case v.Kind() == reflect.String:
		v.SetString(s)
	case v.Kind() == reflect.Bool:
		if s != "true" && s != "false" {
			bad()
			return
		}
		v.SetBool(s == "true")
	case v.CanInt():
		i, err := strconv.ParseInt(s, 10, v.Type().Bits())
		if err != nil {
			bad()
			return
		}
		v.SetInt(i)
	case v.CanUint():
		i, err := strconv.ParseUint(s, 10, v.Type().Bits())
		if err != nil {
			bad()
			return
		}
		v.SetUint(i)
	case v.CanFloat():
		f, err := strconv.ParseFloat(s, 64)
		if err != nil {
			bad()
			return
		}
		v.SetFloat(f)
	default:
		panic("config: no grammar for " + v.Type().String()) // a bug: the test walks all fields
	}
}

// parseDuration adds days to Go's units: retention is not counted in hours.
func parseDuration(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		return time.Duration(n) * 24 * time.Hour, err
	}
	t, err := time.ParseDuration(s)
	if err == nil && t < 0 {
		err = fmt.Errorf("negative")
	}
	return t, err
}

// misplacer is a struct that can say why a key is known elsewhere, and not here; "" of any other.
type misplacer interface {
	misplaced(key string) (why, hint string)
}

func (d *decoder) structure(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, path, "", "want a mapping with %s, not a %s", strings.Join(fieldNames(v.Type()), ", "), kindName(n))
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		name := key.Value
		if line, twice := seen[name]; twice {
			d.fail(key, join(path, name), "", "given twice; first at line %d", line)
			continue
		}
		seen[name] = key.Line
		f, ok := fieldByName(v, name)
		if m, is := v.Addr().Interface().(misplacer); !ok && is {
			if why, hint := m.misplaced(name); why != "" {
				d.fail(key, join(path, name), hint, "%s", why)
				continue
			}
		}
		if !ok {
			d.fail(key, join(path, name), suggest(name, fieldNames(v.Type())), "unknown key")
			continue
		}
		d.at[join(path, name)] = pos{key.Line, key.Column}
		d.decode(val, f, join(path, name))
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// fieldByName finds a field by its yaml tag; embedded structs are looked into.
func fieldByName(v reflect.Value, name string) (reflect.Value, bool) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		tag, opts, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if f.Anonymous && (opts == "inline" || tag == "") {
			if r, ok := fieldByName(v.Field(i), name); ok {
				return r, true
			}
		} else if tag == name && tag != "-" && tag != "" {
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}

func fieldNames(t reflect.Type) []string {
	var names []string
	for i := range t.NumField() {
		f := t.Field(i)
		tag, opts, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if f.Anonymous && (opts == "inline" || tag == "") {
			names = append(names, fieldNames(f.Type)...)
		} else if tag != "" && tag != "-" {
			names = append(names, tag)
		}
	}
	return names
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, path, "", "want a mapping, not a %s", kindName(n))
		return
	}
	m := reflect.MakeMap(v.Type())
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		k := reflect.ValueOf(key.Value).Convert(v.Type().Key())
		if m.MapIndex(k).IsValid() {
			d.fail(key, join(path, key.Value), "", "given twice")
			continue
		}
		d.at[join(path, key.Value)] = pos{key.Line, key.Column}
		e := reflect.New(v.Type().Elem()).Elem()
		d.decode(val, e, join(path, key.Value))
		m.SetMapIndex(k, e)
	}
	v.Set(m)
}

// lone is a list of texts whose only element may be written without the list.
type lone interface{ alone() }

func (d *decoder) list(n *yaml.Node, v reflect.Value, path string) {
	if _, ok := v.Interface().(lone); ok && n.Kind == yaml.ScalarNode {
		if s, ok := d.scalar(n, path, "text"); ok {
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			v.Index(0).SetString(s)
			d.at[path+"[0]"] = pos{n.Line, n.Column}
		}
		return
	}
	if n.Kind != yaml.SequenceNode {
		d.fail(n, path, "write it as a list: [a, b]", "want a list, not a %s", kindName(n))
		return
	}
	s := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, e := range n.Content {
		d.decode(e, s.Index(i), fmt.Sprintf("%s[%d]", path, i))
	}
	v.Set(s)
}

// suggest names the nearest known word, or all of them if none is near.
func suggest(word string, known []string) string {
	best, dist := "", 3
	for _, k := range known {
		if n := distance(word, k); n < dist {
			best, dist = k, n
		}
	}
	if best != "" {
		return "did you mean " + best + "?"
	}
	known = append([]string(nil), known...)
	sort.Strings(known)
	return "known here: " + strings.Join(known, ", ")
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		prev := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := prev
			if a[i] != b[j] {
				cost = 1 + min(prev, row[j], row[j+1])
			}
			prev, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
