package house

import (
	"fmt"
	"go/ast"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// uses gives the lines at which a file uses one name of a package that it imports.
func (t *tree) uses(f source, i imported, name string) []int {
	called := i.name
	if called == "" {
		called = path.Base(i.path)
	}
	var lines []int
	ast.Inspect(f.ast, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == name {
			if x, ok := s.X.(*ast.Ident); ok && x.Name == called {
				lines = append(lines, t.fset.Position(s.Pos()).Line)
			}
		}
		return true
	})
	return lines
}

// checkPackageComments gives the packages that do not say what they promise. A package
// that has only tests says it in one of them.
func checkPackageComments(t *tree) []string {
	var wrong []string
	dirs, files := t.packages()
	for _, dir := range dirs {
		onlyTests := !slices.ContainsFunc(files[dir], func(f source) bool { return !f.test })
		said := slices.ContainsFunc(files[dir], func(f source) bool {
			if f.ast.Doc == nil || f.test && !onlyTests {
				return false
			}
			text := f.ast.Doc.Text()
			return strings.HasPrefix(text, "Package "+f.ast.Name.Name+" ") || f.ast.Name.Name == "main" && strings.HasPrefix(text, "Command ")
		})
		if !said {
			wrong = append(wrong, fmt.Sprintf("%s: no package comment (\"Package name ...\" or \"Command name ...\") says what it promises, what it leaves to others, and how it fails", dir))
		}
	}
	return wrong
}

// checkHabits gives what the house does without: registration behind the reader's
// back, notes to oneself, and tests that wait for time without saying why.
func checkHabits(t *tree) []string {
	var wrong []string
	for _, f := range t.files {
		for _, decl := range f.ast.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				wrong = append(wrong, fmt.Sprintf("%s:%d: func init: wiring is plain constructor calls", f.name, t.fset.Position(fn.Pos()).Line))
			}
		}
		commented := map[int]bool{}
		for _, group := range f.ast.Comments {
			for _, c := range group.List {
				from, to := t.fset.Position(c.Pos()).Line, t.fset.Position(c.End()).Line
				for line := from; line <= to+1; line++ { // beside the code, or right above it
					commented[line] = true
				}
				for _, note := range []string{"TODO", "FIX" + "ME"} {
					if strings.Contains(c.Text, note) && f.dir != "cmd/internal/house" {
						wrong = append(wrong, fmt.Sprintf("%s:%d: %s: what is not built is absent, and what is wrong is an issue", f.name, from, note))
					}
				}
			}
		}
		if !f.test {
			continue
		}
		for _, i := range f.imports {
			if i.path != "time" {
				continue
			}
			for _, line := range t.uses(f, i, "Sleep") {
				if !commented[line] && !usesSynctest(f) {
					wrong = append(wrong, fmt.Sprintf("%s:%d: time.Sleep in a test needs its excuse in a comment: wait for events, not for time", f.name, line))
				}
			}
		}
	}
	return wrong
}

// usesSynctest: there, time is the test's own and sleeping costs nothing.
func usesSynctest(f source) bool {
	return slices.ContainsFunc(f.imports, func(i imported) bool { return i.path == "testing/synctest" })
}

// top is what may lie at the top of the repository, besides dot files.
var top = []string{
	"cmd", "proxy", "shadow", "diff", "legacyadapter", "testdata",
	"go.mod", "go.sum", "README.md", "LICENSE", "CHANGELOG.md", "Makefile",
}

// checkTop gives what lies at the top and is neither allowed nor ignored by git.
func checkTop(fsys fs.FS) ([]string, error) {
	entries, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return nil, fmt.Errorf("read the top: %w", err)
	}
	var ignored []string
	if text, err := fs.ReadFile(fsys, ".gitignore"); err == nil {
		ignored = strings.Fields(string(text))
	}
	var wrong []string
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, ".") || slices.Contains(top, name) || slices.ContainsFunc(ignored, func(pattern string) bool {
			ok, _ := path.Match(strings.Trim(pattern, "/"), name)
			return ok
		}) {
			continue
		}
		wrong = append(wrong, fmt.Sprintf("%s: the top holds %s, and dot files", name, strings.Join(top, ", ")))
	}
	return wrong, nil
}
