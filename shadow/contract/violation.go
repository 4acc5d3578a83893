package contract

import (
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"

	"banyan/proxy/event"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// Breach is one place where data break a contract.
type Breach struct {
	Path  string // a JSON pointer, "/" for the whole
	Value string // as JSON, clipped
	Bound string // what was wanted
}

// ViolationError says that an event's data break its contract.
type ViolationError struct {
	Type     string
	Version  int
	Breaches []Breach // at least one, sorted by path
}

func (e *ViolationError) Error() string {
	parts := make([]string, 0, len(e.Breaches))
	for i, b := range e.Breaches {
		if i == 5 {
			parts = append(parts, fmt.Sprintf("and %d more", len(e.Breaches)-i))
			break
		}
		parts = append(parts, fmt.Sprintf("%s = %s: %s", b.Path, b.Value, b.Bound))
	}
	return fmt.Sprintf("contract %s@%d: %s", e.Type, e.Version, strings.Join(parts, "; "))
}

func violation(e *event.Event, doc any, err error) error {
	v := &ViolationError{Type: e.Type, Version: e.Version}
	var ve *jsonschema.ValidationError
	if !errors.As(err, &ve) {
		v.Breaches = []Breach{{Path: "/", Value: clip(string(e.Data)), Bound: err.Error()}}
		return v
	}
	p := message.NewPrinter(language.English)
	var walk func(*jsonschema.ValidationError)
	walk = func(x *jsonschema.ValidationError) {
		if len(x.Causes) == 0 {
			v.Breaches = append(v.Breaches, breach(x, doc, p))
		}
		for _, c := range x.Causes {
			walk(c)
		}
	}
	walk(ve)
	sort.SliceStable(v.Breaches, func(i, j int) bool { return v.Breaches[i].Path < v.Breaches[j].Path })
	return v
}

// breach says the bound in few words of ours for the common keywords, in the library's for the rest.
func breach(x *jsonschema.ValidationError, doc any, p *message.Printer) Breach {
	at := x.InstanceLocation
	b := Breach{Path: pointer(at), Value: show(lookup(doc, at))}
	switch k := x.ErrorKind.(type) {
	case *kind.Required:
		b.Path, b.Value, b.Bound = pointer(append(at[:len(at):len(at)], k.Missing[0])), "missing", "required"
		if len(k.Missing) > 1 {
			b.Bound = "required, and " + strings.Join(k.Missing[1:], ", ")
		}
	case *kind.AdditionalProperties:
		b.Path = pointer(append(at[:len(at):len(at)], k.Properties[0]))
		b.Value, b.Bound = show(lookup(doc, append(at[:len(at):len(at)], k.Properties[0]))), "a field that the contract does not name"
	case *kind.Type:
		b.Bound = "want " + strings.Join(k.Want, " or ") + ", got " + k.Got
	case *kind.Minimum:
		b.Bound = "want at least " + rat(k.Want)
	case *kind.Maximum:
		b.Bound = "want at most " + rat(k.Want)
	default:
		b.Bound = x.ErrorKind.LocalizedString(p)
	}
	return b
}

func rat(r interface {
	IsInt() bool
	RatString() string
	FloatString(int) string
}) string {
	if r.IsInt() {
		return r.RatString()
	}
	return strings.TrimRight(r.FloatString(6), "0")
}

var escaper = strings.NewReplacer("~", "~0", "/", "~1")

func pointer(at []string) string {
	var b strings.Builder
	for _, s := range at {
		b.WriteString("/" + escaper.Replace(s))
	}
	if b.Len() == 0 {
		return "/"
	}
	return b.String()
}

func lookup(v any, at []string) any {
	for _, s := range at {
		switch x := v.(type) {
		case map[string]any:
			v = x[s]
		case []any:
			i, err := strconv.Atoi(s)
			if err != nil || i < 0 || i >= len(x) {
				return nil
			}
			v = x[i]
		default:
			return nil
		}
	}
	return v
}

func show(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return clip(fmt.Sprint(v))
	}
	return clip(string(b))
}
