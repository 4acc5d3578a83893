package cli

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	"banyan/cmd/internal/config"

	"github.com/spf13/cobra"
)

// fieldDocs are the comments of the fields that a configuration has, by type and field. A test keeps them as the
// sources have them.
//
//go:embed fields.json
var fieldDocs []byte

func (a *app) schema() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of banyan.yaml, for editors",
		Long: `Prints the JSON Schema of banyan.yaml. Editors that know YAML schemas then complete and check while one types: keep
it beside the configuration, and begin that with the line

  # yaml-language-server: $schema=./banyan.schema.json`,
		Example: "  banyan schema > banyan.schema.json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			s, err := configSchema()
			if err != nil {
				return err
			}
			return (&output{json: true}).print(a.stdout, s, nil)
		},
	}
}

// node is a piece of JSON Schema, draft 2020-12.
type node struct {
	Schema      string           `json:"$schema,omitempty"`
	Title       string           `json:"title,omitempty"`
	Description string           `json:"description,omitempty"`
	Ref         string           `json:"$ref,omitempty"`
	Type        any              `json:"type,omitempty"` // a name, or several
	Pattern     string           `json:"pattern,omitempty"`
	Required    []string         `json:"required,omitempty"`
	Properties  map[string]*node `json:"properties,omitempty"`
	Additional  any              `json:"additionalProperties,omitempty"` // false, or *node
	Items       *node            `json:"items,omitempty"`
	Defs        map[string]*node `json:"$defs,omitempty"`
}

// schemaMaker follows the types of the configuration's fields, each struct once.
type schemaMaker struct {
	docs map[string]string
	defs map[string]*node
}

func configSchema() (*node, error) {
	m := schemaMaker{defs: map[string]*node{}}
	if err := json.Unmarshal(fieldDocs, &m.docs); err != nil {
		return nil, fmt.Errorf("fields.json: %w", err)
	}
	t := reflect.TypeFor[config.File]()
	m.of(t)
	root := m.defs[t.String()]
	delete(m.defs, t.String())
	root.Schema, root.Title, root.Required, root.Defs = "https://json-schema.org/draft/2020-12/schema", "banyan.yaml", []string{"version", "upstreams"}, m.defs
	return root, nil
}

// Scalars may be written as ${NAME} or ${file:/path}.
const filled = `\$\{[^}]+\}`

var (
	durationType = reflect.TypeFor[time.Duration]()
	ownText      = reflect.TypeFor[interface{ UnmarshalText([]byte) error }]()
	ownYAML      = reflect.TypeFor[interface{ UnmarshalYAML(func(any) error) error }]()
)

func (m *schemaMaker) of(t reflect.Type) *node {
	if t.Kind() == reflect.Pointer {
		return m.of(t.Elem())
	}
	switch {
	case t == durationType:
		return &node{Type: "string", Pattern: `^(\d+d|([0-9.]+(ns|us|µs|ms|s|m|h))+|0|` + filled + `)$`}
	case t == reflect.TypeFor[config.Bytes]():
		return &node{Type: []string{"integer", "string"}, Pattern: `^(\d+ ?(B|KiB|MiB|GiB|TiB)?|` + filled + `)$`}
	case t == reflect.TypeFor[config.Percent]():
		return &node{Type: "string", Pattern: `^([0-9.]+ ?%|` + filled + `)$`}
	case t == reflect.TypeFor[config.Factor]():
		return &node{Type: "string", Pattern: `^([0-9.]+x|` + filled + `)$`}
	case t == reflect.TypeFor[config.Instances](), t == reflect.TypeFor[config.Protocols]():
		return &node{Type: []string{"string", "array"}, Items: &node{Type: "string"}}
	case reflect.PointerTo(t).Implements(ownText):
		return &node{Type: []string{"string", "number"}}
	case reflect.PointerTo(t).Implements(ownYAML):
		return &node{} // its own grammar: whatever it is, `banyan check` tells
	}
	switch t.Kind() {
	case reflect.Struct:
		return m.structure(t)
	case reflect.Map:
		return &node{Type: "object", Additional: m.of(t.Elem())}
	case reflect.Slice:
		return &node{Type: "array", Items: m.of(t.Elem())}
	case reflect.Bool:
		return &node{Type: []string{"boolean", "string"}, Pattern: "^" + filled + "$"}
	case reflect.Float32, reflect.Float64:
		return &node{Type: []string{"number", "string"}, Pattern: "^" + filled + "$"}
	case reflect.String:
		return &node{Type: []string{"string", "number", "boolean"}} // 8.2 and no are text to the file's reader
	}
	return &node{Type: []string{"integer", "string"}, Pattern: "^" + filled + "$"}
}

func (m *schemaMaker) structure(t reflect.Type) *node {
	name := t.String()
	ref := &node{Ref: "#/$defs/" + name}
	if m.defs[name] != nil {
		return ref
	}
	n := &node{Type: "object", Properties: map[string]*node{}, Additional: false, Description: m.docs[name]}
	m.defs[name] = n
	m.fields(t, n)
	return ref
}

// fields adds a struct's; those of embedded ones are its own.
func (m *schemaMaker) fields(t reflect.Type, n *node) {
	for i := range t.NumField() {
		f := t.Field(i)
		tag, opts, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case f.Anonymous && (opts == "inline" || tag == ""):
			m.fields(f.Type, n)
		case tag != "" && tag != "-":
			p := m.of(f.Type)
			p.Description = m.docs[t.String()+"."+f.Name]
			n.Properties[tag] = p
		}
	}
}
