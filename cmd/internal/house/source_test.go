// Package house holds the rules of this repository's layout as tests: which package may
// import which, who owns which library, that packages say what they promise, and what
// may lie at the top. It promises that a broken rule fails with the file, the line and
// the rule's reason. It reads the sources with go/parser: the verdict of a test that asks
// `go list` is kept by the test cache when the sources change. Every rule has a test of
// its own that plants a violation. What code does at run time is left to other tests.
package house

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

const module = "banyan"

// source is one Go file.
type source struct {
	name    string // path in the repository
	dir     string // its package's directory, "." at the top
	test    bool
	ast     *ast.File
	imports []imported
}

type imported struct {
	path string
	name string // as the file calls it, when it gives a name
	line int
}

// own gives the directory of an imported package of ours.
func (i imported) own() (dir string, ok bool) {
	if i.path == module {
		return ".", true
	}
	return strings.CutPrefix(i.path, module+"/")
}

// tree is the repository's Go files and what lies at its top.
type tree struct {
	files []source
	fset  *token.FileSet
}

// readTree parses all Go files, whatever their build tags. The top's testdata holds
// packages; a testdata directory further down holds data.
func readTree(fsys fs.FS) (*tree, error) {
	t := &tree{fset: token.NewFileSet()}
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := path.Base(name)
		if d.IsDir() {
			hidden := name != "." && (strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_"))
			if hidden || base == "testdata" && name != "testdata" || name == "bin" {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(base, ".go") {
			return nil
		}
		return t.add(fsys, name)
	})
	if err != nil {
		return nil, fmt.Errorf("read the sources: %w", err)
	}
	return t, nil
}

func (t *tree) add(fsys fs.FS, name string) error {
	text, err := fs.ReadFile(fsys, name)
	if err != nil {
		return err
	}
	file, err := parser.ParseFile(t.fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	s := source{name: name, dir: path.Dir(name), test: strings.HasSuffix(name, "_test.go"), ast: file}
	for _, spec := range file.Imports {
		target, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return fmt.Errorf("%s: import %s: %w", name, spec.Path.Value, err)
		}
		i := imported{path: target, line: t.fset.Position(spec.Pos()).Line}
		if spec.Name != nil {
			i.name = spec.Name.Name
		}
		s.imports = append(s.imports, i)
	}
	t.files = append(t.files, s)
	return nil
}

// packages gives the files of each directory, the directories in order.
func (t *tree) packages() (dirs []string, files map[string][]source) {
	files = map[string][]source{}
	for _, f := range t.files {
		if files[f.dir] == nil {
			dirs = append(dirs, f.dir)
		}
		files[f.dir] = append(files[f.dir], f)
	}
	slices.Sort(dirs)
	return dirs, files
}

// under reports whether a directory or package path is root or below it.
func under(name, root string) bool {
	return name == root || strings.HasPrefix(name, root+"/")
}

func underAny(name string, roots []string) bool {
	return slices.ContainsFunc(roots, func(root string) bool { return under(name, root) })
}
