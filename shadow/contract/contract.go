// Package contract holds the JSON Schemas of domain events, one per type and version, as files
// contracts/<type>/v<N>.json, and answers two questions: does this event keep its contract, and may this version
// follow that one.
//
// It promises: a registry is loaded whole or not at all; a contract refers to files of its directory only, never to the
// network; validating foreign bytes ends, allocates in proportion to them and never panics; an error names path, value
// and bound. It leaves to others what becomes of an event that breaks its contract (translate and project park its key).
package contract

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"banyan/proxy/event"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Registry is a loaded directory of contracts, safe for concurrent use.
type Registry struct {
	schemas map[id]*jsonschema.Schema
	docs    map[id]map[string]any
}

type id struct {
	name    string
	version int
}

func (i id) String() string { return i.name + "@" + strconv.Itoa(i.version) }

// MaxFile bounds one contract file, in bytes.
const MaxFile = 1 << 20

var (
	typeName = regexp.MustCompile(`^[a-z][a-z0-9_]*(\.[a-z0-9_]+)*$`)
	fileName = regexp.MustCompile(`^v([1-9][0-9]{0,5})\.json$`)
)

// Load reads every <type>/v<N>.json below fsys and tells all that is wrong at once. Files that are no contract are
// refused, except those whose names begin with a dot or end in .md.
func Load(fsys fs.FS) (*Registry, error) {
	r := &Registry{schemas: map[id]*jsonschema.Schema{}, docs: map[id]map[string]any{}}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	c.UseLoader(noLoader{})
	var errs []error
	urls := map[id]string{}
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if base := path.Base(p); p != "." && (strings.HasPrefix(base, ".") || strings.HasSuffix(base, ".md")) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if d.IsDir() {
			return nil
		}
		k, doc, err := readContract(fsys, p)
		if err != nil {
			errs = append(errs, err)
			return nil
		}
		u := "contract:///" + p
		if err := c.AddResource(u, doc); err != nil {
			errs = append(errs, fmt.Errorf("contract %s: %w", p, err))
			return nil
		}
		urls[k] = u
		if m, ok := doc.(map[string]any); ok {
			r.docs[k] = m
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("contracts: %w", err)
	}
	for k, u := range urls { // compiled last: a contract may refer to another
		s, err := c.Compile(u)
		if err != nil {
			errs = append(errs, fmt.Errorf("contract %s: %w", k, err))
			continue
		}
		r.schemas[k] = s
	}
	if len(errs) > 0 {
		sort.Slice(errs, func(i, j int) bool { return errs[i].Error() < errs[j].Error() })
		return nil, errors.Join(errs...)
	}
	return r, nil
}

func readContract(fsys fs.FS, p string) (id, any, error) {
	dir, file := path.Split(p)
	name, m := path.Clean(dir), fileName.FindStringSubmatch(file)
	if !typeName.MatchString(name) || m == nil {
		return id{}, nil, fmt.Errorf("contract %s: not a contract; want <type>/v<N>.json, e.g. game.unit.moved/v2.json", p)
	}
	version, err := strconv.Atoi(m[1])
	if err != nil {
		return id{}, nil, fmt.Errorf("contract %s: version: %w", p, err)
	}
	f, err := fsys.Open(p)
	if err != nil {
		return id{}, nil, fmt.Errorf("contract %s: %w", p, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return id{}, nil, fmt.Errorf("contract %s: %w", p, err)
	}
	if len(b) > MaxFile {
		return id{}, nil, fmt.Errorf("contract %s: more than %d bytes", p, MaxFile)
	}
	doc, err := decode(b)
	if err != nil {
		return id{}, nil, fmt.Errorf("contract %s: %w", p, err)
	}
	return id{name, version}, doc, nil
}

// noLoader keeps contracts from reaching out: what they refer to must be a file of the directory.
type noLoader struct{}

func (noLoader) Load(u string) (any, error) {
	return nil, fmt.Errorf("refers to %s, which is not in the directory of contracts", u)
}

// UnknownError says that no contract has this type and version.
type UnknownError struct {
	Type     string
	Version  int
	Versions []int    // of this type, ascending
	Types    []string // known, if the type itself is not; at most ten
}

func (e *UnknownError) Error() string {
	if len(e.Versions) > 0 {
		return fmt.Sprintf("no contract %s@%d: known versions of %s are %s; add contracts/%s/v%d.json", e.Type, e.Version, e.Type,
			strings.Trim(fmt.Sprint(e.Versions), "[]"), e.Type, e.Version)
	}
	known := "none"
	if len(e.Types) > 0 {
		known = strings.Join(e.Types, ", ")
	}
	return fmt.Sprintf("no contract for type %q: known types are %s", clip(e.Type), known)
}

// Has says whether the type has this version.
func (r *Registry) Has(name string, version int) bool { return r.schemas[id{name, version}] != nil }

// Unknown is nil if the contract exists, else an [UnknownError].
func (r *Registry) Unknown(name string, version int) error {
	if r.Has(name, version) {
		return nil
	}
	e := &UnknownError{Type: name, Version: version, Versions: r.Versions(name)}
	if len(e.Versions) == 0 {
		if e.Types = r.Types(); len(e.Types) > 10 {
			e.Types = append(e.Types[:10:10], "…")
		}
	}
	return e
}

// Types are the known types, sorted.
func (r *Registry) Types() []string {
	seen := map[string]bool{}
	var out []string
	for k := range r.schemas {
		if !seen[k.name] {
			seen[k.name] = true
			out = append(out, k.name)
		}
	}
	sort.Strings(out)
	return out
}

// Versions are the known versions of a type, ascending.
func (r *Registry) Versions(name string) []int {
	var out []int
	for k := range r.schemas {
		if k.name == name {
			out = append(out, k.version)
		}
	}
	sort.Ints(out)
	return out
}

// Validate says whether the event's data keep the contract of its type and version. The error is an [UnknownError] or a
// [ViolationError].
func (r *Registry) Validate(e *event.Event) error {
	_, err := r.Decode(e)
	return err
}

// Decode is [Registry.Validate] that gives the data too, numbers as json.Number.
func (r *Registry) Decode(e *event.Event) (any, error) {
	s := r.schemas[id{e.Type, e.Version}]
	if s == nil {
		return nil, r.Unknown(e.Type, e.Version)
	}
	v, err := decode(e.Data)
	if err != nil {
		return nil, &ViolationError{Type: e.Type, Version: e.Version, Breaches: []Breach{{Path: "/", Value: clip(string(e.Data)), Bound: err.Error()}}}
	}
	if err := s.Validate(v); err != nil {
		return nil, violation(e, v, err)
	}
	return v, nil
}

// MaxDigits bounds a number's text. The validator computes with exact fractions, and 1e999999999 is short to write and
// very long to compute.
const MaxDigits = 400

// decode reads one JSON value, numbers as text.
func decode(b []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("not JSON: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("not JSON: more than one value")
	}
	return v, checkNumbers(v)
}

func checkNumbers(v any) error {
	switch x := v.(type) {
	case json.Number:
		exp := 0
		if i := strings.IndexAny(string(x), "eE"); i >= 0 {
			n, err := strconv.Atoi(strings.TrimPrefix(string(x[i+1:]), "+"))
			if err != nil {
				n = MaxDigits + 1
			}
			exp = max(n, -n)
		}
		if len(x) > MaxDigits || exp > MaxDigits {
			return fmt.Errorf("the number %s has more than %d digits", clip(string(x)), MaxDigits)
		}
	case []any:
		for _, y := range x {
			if err := checkNumbers(y); err != nil {
				return err
			}
		}
	case map[string]any:
		for _, y := range x {
			if err := checkNumbers(y); err != nil {
				return err
			}
		}
	}
	return nil
}

func clip(s string) string {
	if len(s) > 80 {
		return strings.ToValidUTF8(s[:80], "") + "…"
	}
	return s
}
