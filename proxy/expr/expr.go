// Package expr compiles the two small languages of the config: expressions (expr-lang: `status == 302 &&
// header("Location") contains "msg=moved"`) and templates ("match/{match}").
//
// It promises: what can be known wrong is told at load time, with the column in the source; evaluation ends (no loops
// without bound, a memory budget), never panics and never does I/O; the same input gives the same value on every
// machine (no clock, no randomness: those functions are switched off). It leaves the meaning of names to its callers,
// who give an environment. It fails with an error that quotes the source.
package expr

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/vm"
)

// Program is a compiled expression, safe for concurrent use.
type Program struct {
	src   string
	p     *vm.Program
	names []string // that it asks the environment for, and its own variables
}

// machines hold the stacks of evaluations. What they still point to is dropped with the next one, or by the collector.
var machines = sync.Pool{New: func() any { return new(vm.VM) }}

// Compile checks src against the names of env: a map whose values have the types that evaluation will have (nested
// maps for members; functions for calls). A name that env lacks is an error, except below a map[string]any.
func Compile(src string, env map[string]any) (*Program, error) {
	p, err := expr.Compile(src, options(env)...)
	if err != nil {
		return nil, fmt.Errorf("expression %q: %s", src, firstLine(err))
	}
	return newProgram(src, p), nil
}

// CompileBool is [Compile] for a condition: a source that cannot be a boolean is an error.
func CompileBool(src string, env map[string]any) (*Program, error) {
	p, err := expr.Compile(src, append(options(env), expr.AsBool())...)
	if err != nil {
		return nil, fmt.Errorf("condition %q: %s", src, firstLine(err))
	}
	return newProgram(src, p), nil
}

func newProgram(src string, p *vm.Program) *Program {
	var names namesOf
	node := p.Node()
	ast.Walk(&node, &names)
	return &Program{src, p, names}
}

// namesOf are the identifiers in a program.
type namesOf []string

// Visit implements ast.Visitor.
func (n *namesOf) Visit(node *ast.Node) {
	if id, ok := (*node).(*ast.IdentifierNode); ok {
		*n = append(*n, id.Value)
	}
}

func options(env map[string]any) []expr.Option {
	return []expr.Option{
		expr.Env(env),
		expr.DisableBuiltin("now"), expr.DisableBuiltin("date"), expr.DisableBuiltin("timezone"),
		expr.DisableBuiltin("int"), expr.DisableBuiltin("float"), // ours take json.Number and PHP's text, and say what they refuse
		expr.Function("int", toInt, new(func(any) int64)),
		expr.Function("float", toFloat, new(func(any) float64)),
		expr.Function("text", toText, new(func(any) string)),
	}
}

// String is the source.
func (p *Program) String() string { return p.src }

// Only says whether the value depends on nothing but this name of the environment. A no may be wrong, a yes is not.
func (p *Program) Only(name string) bool {
	return !slices.ContainsFunc(p.names, func(n string) bool { return n != name })
}

// Eval runs the program.
func (p *Program) Eval(env map[string]any) (any, error) {
	m := machines.Get().(*vm.VM)
	v, err := m.Run(p.p, env)
	machines.Put(m)
	if err != nil {
		return nil, fmt.Errorf("expression %q: %s", p.src, firstLine(err))
	}
	return v, nil
}

// True runs a condition.
func (p *Program) True(env map[string]any) (bool, error) {
	v, err := p.Eval(env)
	if err != nil {
		return false, err
	}
	b, ok := v.(bool)
	if !ok {
		return false, fmt.Errorf("condition %q: gave %T, want true or false", p.src, v)
	}
	return b, nil
}

// toInt takes integers, integral floats and decimal text; it refuses what would lose something.
func toInt(args ...any) (any, error) {
	switch x := args[0].(type) {
	case int:
		return int64(x), nil
	case int64:
		return x, nil
	case float64:
		if x == math.Trunc(x) && math.Abs(x) < 1<<63 {
			return int64(x), nil
		}
	case bool:
		if x {
			return int64(1), nil
		}
		return int64(0), nil
	case json.Number:
		return toInt(string(x))
	case string:
		if n, err := strconv.ParseInt(strings.TrimSpace(x), 10, 64); err == nil {
			return n, nil
		}
	}
	return nil, fmt.Errorf("int(%v): not an integer", short(args[0]))
}

func toFloat(args ...any) (any, error) {
	switch x := args[0].(type) {
	case int:
		return float64(x), nil
	case int64:
		return float64(x), nil
	case float64:
		return x, nil
	case json.Number:
		return toFloat(string(x))
	case string:
		if f, err := strconv.ParseFloat(strings.TrimSpace(x), 64); err == nil && !math.IsInf(f, 0) && !math.IsNaN(f) {
			return f, nil
		}
	}
	return nil, fmt.Errorf("float(%v): not a number", short(args[0]))
}

func toText(args ...any) (any, error) {
	switch x := args[0].(type) {
	case nil:
		return "", nil
	case string:
		return x, nil
	case json.Number:
		return string(x), nil
	case int:
		return strconv.Itoa(x), nil
	case int64:
		return strconv.FormatInt(x, 10), nil
	case float64:
		return strconv.FormatFloat(x, 'g', -1, 64), nil
	case bool:
		return strconv.FormatBool(x), nil
	}
	return nil, fmt.Errorf("text(%v): not a scalar", short(args[0]))
}

func short(v any) string {
	s := fmt.Sprintf("%#v", v)
	if len(s) > 60 {
		s = s[:60] + "…"
	}
	return s
}

// firstLine drops the library's source excerpt: our errors quote the source themselves.
func firstLine(err error) string {
	s, _, _ := strings.Cut(err.Error(), "\n")
	return s
}
