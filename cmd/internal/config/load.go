package config

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Errors is everything that is wrong with a file.
type Errors []Problem

// Error is a line each.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, p := range e {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Detail is [Errors.Error] with the lines of the file and a caret, for terminals.
func (e Errors) Detail() string {
	var b strings.Builder
	for _, p := range e {
		b.WriteString(p.Error() + "\n")
		if p.excerpt != "" {
			b.WriteString("  " + strings.ReplaceAll(p.excerpt, "\n", "\n  ") + "\n")
		}
	}
	return b.String()
}

// Load reads and checks a file. The error is an [Errors], or says why the file cannot be read.
func Load(name string) (*File, error) { return LoadWith(name, os.LookupEnv) }

// Parse is [Load] of bytes. name is used in messages, and its directory for relative paths.
func Parse(name string, b []byte, getenv func(string) (string, bool)) (*File, error) {
	d := &decoder{file: name, lines: strings.Split(string(b), "\n"), at: map[string]pos{}, getenv: getenv}
	f := &File{dir: filepath.Dir(name)}
	var root yaml.Node
	if err := yaml.Unmarshal(b, &root); err != nil {
		d.yamlError(err)
		return nil, Errors(d.problems)
	}
	if len(root.Content) > 0 {
		d.decode(root.Content[0], reflect.ValueOf(f).Elem(), "")
	}
	f.defaults()
	if len(d.problems) == 0 { // what comes later would repeat what is known to be wrong
		f.check(d)
	}
	if len(d.problems) > 0 {
		slices.SortStableFunc(d.problems, func(a, b Problem) int {
			return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
		})
		return nil, Errors(d.problems)
	}
	return f, nil
}

// yamlError keeps the library's line where it tells one.
func (d *decoder) yamlError(err error) {
	line := 1
	msg := strings.TrimPrefix(err.Error(), "yaml: ")
	var n int
	if _, e := fmt.Sscanf(msg, "line %d:", &n); e == nil && n > 0 {
		line = n
		_, msg, _ = strings.Cut(msg, ": ")
	} else if i := strings.Index(msg, "line "); i >= 0 {
		if _, e := fmt.Sscanf(msg[i:], "line %d", &n); e == nil && n > 0 {
			line = n
		}
	}
	d.failAt(pos{line, 1}, "", "", "not YAML: %s", msg)
}

// Path resolves a path of the file against its directory.
func (f *File) Path(p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(f.dir, p)
}

// each unwraps joined errors.
func each(err error, do func(error)) {
	if err == nil {
		return
	}
	var many interface{ Unwrap() []error }
	if errors.As(err, &many) {
		for _, e := range many.Unwrap() {
			each(e, do)
		}
		return
	}
	do(err)
}

// LoadWith is [Load] with another environment.
func LoadWith(name string, getenv func(string) (string, bool)) (*File, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	return Parse(name, b, getenv)
}
