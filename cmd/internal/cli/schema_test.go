package cli

import (
	"bytes"
	"encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"banyan/cmd/internal/config"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"
)

var update = flag.Bool("update", false, "rewrite fields.json and the files below testdata")

// configTypes are the structs that a configuration is made of.
func configTypes(t reflect.Type, seen map[reflect.Type]bool) {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		configTypes(t.Elem(), seen)
	case reflect.Struct:
		if seen[t] {
			return
		}
		seen[t] = true
		for i := range t.NumField() {
			if f := t.Field(i); f.IsExported() && f.Tag.Get("yaml") != "-" {
				configTypes(f.Type, seen)
			}
		}
	}
}

// comments reads the fields' comments from the sources.
func comments(t *testing.T) map[string]string {
	t.Helper()
	types := map[reflect.Type]bool{}
	configTypes(reflect.TypeFor[config.File](), types)
	docs := map[string]string{}
	for typ := range types {
		dir, ok := strings.CutPrefix(typ.PkgPath(), "banyan/")
		if !ok {
			continue
		}
		files, err := filepath.Glob(filepath.Join("..", "..", "..", dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(f, func(n ast.Node) bool {
				s, ok := n.(*ast.TypeSpec)
				if !ok || s.Name.Name != typ.Name() {
					return true
				}
				if st, ok := s.Type.(*ast.StructType); ok {
					collect(docs, typ.String(), st)
				}
				return true
			})
		}
	}
	return docs
}

func collect(docs map[string]string, typ string, st *ast.StructType) {
	for _, f := range st.Fields.List {
		text := strings.Join(strings.Fields(f.Doc.Text()+" "+f.Comment.Text()), " ")
		for _, name := range f.Names {
			if text != "" && f.Tag != nil {
				docs[typ+"."+name.Name] = text
			}
		}
	}
}

func TestFieldDocsAreTheSources(t *testing.T) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(comments(t)); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("fields.json", b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if d := cmp.Diff(string(fieldDocs), b.String()); d != "" {
		t.Fatalf("a field's comment changed: run `go test ./cmd/internal/cli -run TestFieldDocs -update`\n%s", d)
	}
}

func compiled(t *testing.T) *jsonschema.Schema {
	t.Helper()
	n, err := configSchema()
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(n)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("banyan.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("banyan.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// yamlAny is a file as an editor's schema check sees it.
func yamlAny(t *testing.T, src []byte) any {
	t.Helper()
	var v any
	if err := yaml.Unmarshal(src, &v); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	v, err = jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestSchemaTakesWhatTheReaderTakes(t *testing.T) {
	s := compiled(t)
	files, err := filepath.Glob(filepath.Join("..", "..", "..", "testdata", "game", "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	sources := [][]byte{[]byte(smallYAML)}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, b)
	}
	for _, src := range sources {
		if err := s.Validate(yamlAny(t, src)); err != nil {
			t.Errorf("%v\nin\n%.400s", err, src)
		}
	}
}

const smallYAML = `version: 1
proxy: { listen: ":8080", limits: { body: 64MiB, inline: 1048576, header_timeout: 5s }, token: "${TOKEN}" }
upstreams:
  legacy: { http: "http://127.0.0.1:8000", timeout: 1.5s, max_connections: 8 }
  several: { http: ["http://10.0.0.1", "http://10.0.0.2"], sticky: { cookie: PHPSESSID, idle: 2h }, queue: { length: 100, wait: 2s },
    eject: { failures: 3, statuses: [502, 503], for: 5s }, health: { path: /health, every: 5s }, breaker: { open: 1s } }
kafka: { brokers: ["127.0.0.1:9092"], retention: 14d }
routes: [{ match: { path: /chat }, to: legacy, upgrade: websocket }, { match: { path: /b }, to: legacy, upgrade: [websocket, irc/6.9] }]
`

func TestSchemaRefusesWhatTheReaderRefuses(t *testing.T) {
	s := compiled(t)
	for name, src := range map[string]string{
		"unknown key":        "version: 1\nupstreams: {}\nproxi: {}\n",
		"unknown key below":  "version: 1\nupstreams: { legacy: { htp: x } }\n",
		"no unit":            "version: 1\nupstreams: { legacy: { http: \"http://a\", timeout: 5 } }\n",
		"no size":            "version: 1\nupstreams: {}\nproxy: { limits: { body: many } }\n",
		"a list":             "version: 1\nupstreams: []\n",
		"a mapping":          "version: 1\nupstreams: { legacy: { http: { url: a } } }\n",
		"unknown key deep":   "version: 1\nupstreams: { legacy: { http: a, sticky: { cooky: a } } }\n",
		"no version":         "upstreams: {}\n",
		"upgrade of a read":  "version: 1\nupstreams: {}\nmigrations: { m: { reads: [{ upgrade: websocket }] } }\n",
		"words for a number": "version: 1\nupstreams: { legacy: { http: \"http://a\", max_connections: some } }\n",
	} {
		if err := s.Validate(yamlAny(t, []byte(src))); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestSchemaExplainsFields(t *testing.T) {
	n, err := configSchema()
	if err != nil {
		t.Fatal(err)
	}
	if d := n.Defs["config.Proxy"].Properties["listen"].Description; !strings.Contains(d, "host:port") {
		t.Fatalf("proxy.listen: %q", d)
	}
}
