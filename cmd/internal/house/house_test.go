package house

import (
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"
)

func repository(t *testing.T) fs.FS {
	t.Helper()
	fsys := os.DirFS("../../..")
	if text, err := fs.ReadFile(fsys, "go.mod"); err != nil || !strings.HasPrefix(string(text), "module "+module+"\n") {
		t.Fatalf("this is not the top of module %s: %v", module, err)
	}
	return fsys
}

func sources(t *testing.T, fsys fs.FS) *tree {
	t.Helper()
	tree, err := readTree(fsys)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func report(t *testing.T, wrong []string) {
	t.Helper()
	for _, w := range wrong {
		t.Error(w)
	}
}

func TestImportsGoOneWay(t *testing.T) {
	report(t, checkDirections(sources(t, repository(t)), directions))
}

func TestLibrariesAreUsedByTheirOwners(t *testing.T) {
	report(t, checkOwners(sources(t, repository(t)), owners))
}

func TestTheProductHoldsNothingOfTestsAndDemo(t *testing.T) {
	report(t, checkProduct(sources(t, repository(t))))
}

func TestEveryPackageSaysWhatItPromises(t *testing.T) {
	report(t, checkPackageComments(sources(t, repository(t))))
}

func TestHabits(t *testing.T) { report(t, checkHabits(sources(t, repository(t)))) }

func TestTheTopHoldsWhatItShould(t *testing.T) {
	wrong, err := checkTop(repository(t))
	if err != nil {
		t.Fatal(err)
	}
	report(t, wrong)
}

func TestEveryRowHasAReason(t *testing.T) {
	for _, row := range directions {
		if row.reason == "" {
			t.Errorf("direction of %s has none", row.dir)
		}
	}
	for _, o := range owners {
		if o.reason == "" {
			t.Errorf("owner of %s has none", o.target)
		}
	}
}

// planted gives a tree of small files; each value is the file after its package clause,
// and a package comment comes by itself.
func planted(t *testing.T, files map[string]string) *tree {
	t.Helper()
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte("// Package p promises.\npackage p\n" + text)}
	}
	return sources(t, fsys)
}

// expect compares by beginnings: the reasons behind them are prose.
func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(want):
			t.Errorf("not expected: %s", got[i])
		case i >= len(got):
			t.Errorf("not found: %s", want[i])
		case !strings.HasPrefix(got[i], want[i]):
			t.Errorf("got %s\nwant %s...", got[i], want[i])
		}
	}
}

func TestPlantedDirections(t *testing.T) {
	const lab, adapter, journal, diff, settle, event = `import "banyan/testdata/lab"`, `import "banyan/legacyadapter/mysql"`,
		`import "banyan/proxy/journal"`, `import "banyan/diff"`, `import "banyan/shadow/settle"`, `import "banyan/proxy/event"`
	for name, test := range map[string]struct {
		file, text, want string
	}{
		"pure imports vocabulary":           {"diff/a.go", event, "diff/a.go:3: imports proxy/event,"},
		"vocabulary imports the proxy":      {"proxy/stage/a.go", journal, "proxy/stage/a.go:3: imports proxy/journal,"},
		"vocabulary imports event":          {"proxy/stage/a.go", event, ""},
		"vocabulary imports vocabulary":     {"proxy/event/a.go", `import "banyan/proxy/stage"`, "proxy/event/a.go:3: imports proxy/stage,"},
		"kafka imports event":               {"proxy/kafka/a.go", event, ""},
		"kafka imports the journal":         {"proxy/kafka/a.go", journal, "proxy/kafka/a.go:3: imports proxy/journal,"},
		"the proxy imports a part of it":    {"proxy/a.go", journal, ""},
		"the proxy imports shadow":          {"proxy/mirror/a.go", settle, "proxy/mirror/a.go:3: imports shadow/settle,"},
		"the proxy imports diff":            {"proxy/a.go", diff, "proxy/a.go:3: imports diff,"},
		"shadow imports vocabulary":         {"shadow/settle/a.go", event, ""},
		"shadow imports diff":               {"shadow/compare/a.go", diff, ""},
		"shadow imports the request path":   {"shadow/settle/a.go", journal, "shadow/settle/a.go:3: imports proxy/journal,"},
		"shadow imports an adapter":         {"shadow/compare/a.go", adapter, "shadow/compare/a.go:3: imports legacyadapter/mysql,"},
		"an adapter imports its port":       {"legacyadapter/mysql/a.go", settle, ""},
		"an adapter imports cmd":            {"legacyadapter/php/a.go", `import "banyan/cmd/internal/role"`, "legacyadapter/php/a.go:3: imports cmd/internal/role,"},
		"cmd imports everything":            {"cmd/banyan/a.go", adapter, ""},
		"cmd imports testdata":              {"cmd/banyan/a.go", lab, "cmd/banyan/a.go:3: imports testdata/lab,"},
		"cmd imports a command":             {"cmd/internal/role/a.go", `import "banyan/cmd/banyan"`, "cmd/internal/role/a.go:3: imports cmd/banyan,"},
		"the demo imports testdata":         {"cmd/banyan-demo/a.go", lab, ""},
		"the new service imports legacy's":  {"cmd/gameservice/a.go", adapter, "cmd/gameservice/a.go:3: imports legacyadapter/mysql,"},
		"a test imports what it likes":      {"diff/a_test.go", lab, ""},
		"a file of another system":          {"diff/a_windows.go", event, "diff/a_windows.go:3: imports proxy/event,"},
		"a package that nobody placed":      {"util/a.go", "", "util/a.go: no row"},
		"a name that begins like another's": {"proxyish/a.go", "", "proxyish/a.go: no row"},
	} {
		t.Run(name, func(t *testing.T) {
			got := checkDirections(planted(t, map[string]string{test.file: test.text}), directions)
			if test.want == "" {
				expect(t, got)
			} else {
				expect(t, got, test.want)
			}
		})
	}
}

func TestPlantedOwners(t *testing.T) {
	kgo := "import \"github.com/twmb/franz-go/pkg/kgo\"\nvar c, _ = kgo.NewClient()\n"
	renamed := "import k \"github.com/twmb/franz-go/pkg/kgo\"\nvar c, _ = k.NewClient()\n"
	expect(t, checkOwners(planted(t, map[string]string{
		"cmd/banyan-demo/a.go":      `import "banyan/testdata/lab"`,
		"cmd/banyan/a.go":           `import "banyan/testdata/lab"`,
		"cmd/banyan/redis.go":       `import "github.com/redis/rueidis"`,
		"legacyadapter/mysql/a.go":  `import "github.com/go-sql-driver/mysql"`,
		"proxy/kafka/a.go":          kgo,
		"proxy/mirror/a.go":         "import \"github.com/twmb/franz-go/pkg/kgo\"\ntype r = kgo.Record\n",
		"proxy/mirror/a_test.go":    kgo,
		"proxy/mirror/b.go":         renamed,
		"shadow/project/a.go":       `import "github.com/redis/rueidis"`,
		"shadow/project/b.go":       `import _ "github.com/go-sql-driver/mysql"`,
		"shadow/project/c.go":       `import "github.com/go-mysql-org/go-mysql/replication"`,
		"shadow/project/d.go":       `import "github.com/alicebob/miniredis/v2"`,
		"shadow/readmodel/a.go":     `import "github.com/redis/rueidis"`,
		"shadow/readmodel/b.go":     `import "banyan/legacyadapter/php"`,
		"testdata/bench/a.go":       kgo,
		"testdata/bench/rueidis.go": `import "github.com/redis/rueidis"`,
	}), owners),
		"cmd/banyan/a.go:3: imports banyan/testdata/lab",
		"proxy/mirror/b.go:4: uses github.com/twmb/franz-go/pkg/kgo.NewClient",
		"shadow/project/a.go:3: imports github.com/redis/rueidis",
		"shadow/project/b.go:3: imports github.com/go-sql-driver/mysql",
		"shadow/project/c.go:3: imports github.com/go-mysql-org/go-mysql/replication",
		"shadow/project/d.go:3: imports github.com/alicebob/miniredis/v2",
		"shadow/readmodel/b.go:3: imports banyan/legacyadapter/php",
	)
}

func TestPlantedProduct(t *testing.T) {
	expect(t, checkProduct(planted(t, map[string]string{
		"cmd/banyan/a.go":        `import "banyan/cmd/internal/role"`,
		"cmd/banyan/a_test.go":   `import "github.com/twmb/franz-go/pkg/kfake"`,
		"cmd/internal/role/a.go": `import "banyan/proxy/kafka"`,
		"proxy/kafka/a.go":       `import "github.com/twmb/franz-go/pkg/kfake"`,
		"cmd/banyan-demo/a.go":   `import "github.com/alicebob/miniredis/v2"`,
	})), "proxy/kafka/a.go:3: cmd/banyan gets github.com/twmb/franz-go/pkg/kfake by way of cmd/banyan -> cmd/internal/role -> proxy/kafka")
}

func TestPlantedPackageComments(t *testing.T) {
	fsys := fstest.MapFS{}
	for name, text := range map[string]string{
		"proxy/none/a.go":          "package none\n",
		"proxy/far/a.go":           "// Package far is too far away.\n\npackage far\n",
		"proxy/test/a.go":          "package test\n",
		"proxy/test/a_test.go":     "// Package test says it where nobody reads it.\npackage test\n",
		"proxy/good/a.go":          "// Package good promises.\npackage good\n",
		"proxy/good/b.go":          "package good\n",
		"cmd/x/main.go":            "// Command x does.\npackage main\n",
		"cmd/y/y_test.go":          "// Package y has only tests.\npackage y\n",
		"proxy/good/testdata/a.go": "package data\n",
	} {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	expect(t, checkPackageComments(sources(t, fsys)), "proxy/far: ", "proxy/none: ", "proxy/test: ")
}

func TestPlantedHabits(t *testing.T) {
	sleep := "import \"time\"\nfunc f() {\n\ttime.Sleep(1)\n}\n"
	excused := "import \"time\"\nfunc f() {\n\ttime.Sleep(1) // another's process cannot be waited for\n}\n"
	expect(t, checkHabits(planted(t, map[string]string{
		"proxy/a.go":      "func init() {}\n",
		"proxy/b.go":      "type t int\nfunc (t) init() {} // TO" + "DO later\n",
		"proxy/c.go":      sleep,
		"proxy/d_test.go": sleep,
		"proxy/e_test.go": excused,
		"proxy/f_test.go": "import _ \"testing/synctest\"\n" + sleep,
	})),
		"proxy/a.go:3: func init",
		"proxy/b.go:4: TO"+"DO",
		"proxy/d_test.go:5: time.Sleep",
	)
}

func TestPlantedTop(t *testing.T) {
	fsys := fstest.MapFS{}
	for _, name := range []string{"cmd/a", "bin/banyan", "cpu.prof", "docs/x.md", "util.go", "go.mod", ".ci/run"} {
		fsys[name] = &fstest.MapFile{}
	}
	fsys[".gitignore"] = &fstest.MapFile{Data: []byte("/bin/\n*.prof\n")}
	wrong, err := checkTop(fsys)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, wrong, "docs: ", "util.go: ")
}
