// Package route decides which declared route a request belongs to, and extracts the route's parameters.
//
// It promises: the decision uses the canonical path, as legacy's front end would resolve it, never the client's
// spelling; parameters are read as legacy reads them, through the ports [Params] and [Canonicalizer]; the decision
// does bounded work (one lookup by path, then the few routes of that path) and costs nothing where no route is
// declared; a table is immutable, so a reload swaps it whole. It leaves what happens to a match to the proxy's
// handler, and PHP to legacyadapter. It fails with an error only for a target that cannot be canonicalised, which
// must be refused, never guessed.
//
// # Not obvious
//
//   - A route that needs the body cannot be decided by its head. [Table.Match] then says [NeedBody]; a body above the
//     limit makes the request [Unclassified]: legacy serves it, and that is counted as a gap. (TestBodyTooLarge)
//   - A request may belong to a write route of each of several migrations; it is one write record that names all of
//     them. (TestTwoMigrations)
//   - A route's path is that of the script that runs or that of the address: a request for "/" is one for "/index.php" as
//     well, and any spelling that runs a script belongs to the script's routes, whatever its address looks like.
//     (TestScriptAndAddress)
//   - What is matched is not copied: values stand in the request, or in memory that the next request's will have. Whoever
//     keeps a parameter has it from [Decision.Params]. (TestParamsAreOnesOwn, TestParametersNeedNoMemory)
//   - The first route of a migration that matches wins, and plain routes come before every migration. (TestOrder)
package route

import (
	"errors"
	"fmt"
	"sort"
	"strings"

	"banyan/proxy/event"
)

// Kind says what a route does in legacy, as declared. The HTTP method says nothing about PHP.
type Kind string

// Plain routes go to a new service alone: there is no legacy side.
const (
	Read  Kind = "read"
	Write Kind = "write"
	Plain Kind = "plain"
)

// Match is a conjunction of conditions. A value "*" wants the name to be there with any value.
type Match struct {
	Method string            `yaml:"method"` // "GET", or several: "GET|HEAD"; "" is any
	Host   string            `yaml:"host"`   // without port, case-insensitive; "" is any
	Path   string            `yaml:"path"`   // of the script that legacy runs, or as asked for, decoded: "/index.php", "/match/{match}/unit", "/alliances/**"
	Query  map[string]string `yaml:"query"`
	Form   map[string]string `yaml:"form"`   // urlencoded or multipart body of a POST, as PHP's $_POST
	JSON   map[string]string `yaml:"json"`   // top-level scalar members of a JSON object
	Header map[string]string `yaml:"header"` // first field of that name
	Cookie map[string]string `yaml:"cookie"`
}

// Route is one declared route.
type Route struct {
	Name      string
	Kind      Kind
	Migration event.Migration // "" for a plain route
	Match     Match
	// Params maps a parameter's name to where it is found: "path.x", "query.x", "form.x", "json.x", "header.x",
	// "cookie.x"; alternatives are tried in order: "form.match|query.match". In query, form and cookie "x[k]" is what
	// stands at the key k of an array x; an array itself is not there.
	Params map[string]string

	label string // once compiled
}

// Label names the route of a compiled table in metrics and logs: "migration/name", or the name of a plain route.
func (r *Route) Label() string { return r.label }

// Values are parameters as text by name. The text may stand in the bytes that were read: it is good as long as those
// are, and as the values' memory is not used again.
type Values interface {
	Get(name string) (value string, ok bool)
}

// Params reads parameters as legacy does. Implementations never fail: what legacy would not see is not there. Form is
// given the body of a POST only: no other method fills a form's fields. What is given as old, if anything, is what the
// same or another Params gave for an earlier request: nobody needs it any more, and its memory may be used.
type Params interface {
	Query(old Values, raw []byte) Values
	Form(old Values, contentType string, body []byte) Values
	JSON(body []byte) Values
	Cookies(old Values, header []byte) Values
}

// Canonicalizer resolves a raw request target to the path that decides routing, and its raw query. The path is decoded,
// but for '%', '?' and '#' (%25, %3F, %23); one that does not start with '/' is none, and no route matches it. An error
// means that the target is ambiguous or cannot be parsed.
type Canonicalizer interface {
	Canonical(target []byte) (path string, query []byte, err error)
}

// Resolver is a Canonicalizer that also gives the path that was asked for, cleaned: "/" where "/index.php" answers,
// "/x.php/extra" where "/x.php" does, "/units/7" where a front controller does. A route may name either. It is the
// canonical path where nothing else runs.
type Resolver interface {
	Paths(target []byte) (path, asked string, query []byte, err error)
}

// Plainer is a Canonicalizer that tells cheaply when a target needs no work: its path then stands for itself. Both
// results are parts of the target.
type Plainer interface {
	Plain(target []byte) (path, query []byte, ok bool)
}

// Verdict is the answer of [Table.Match].
type Verdict int

// NeedBody asks for the body; Unclassified means that the body did not come whole.
const (
	None Verdict = iota
	Matched
	NeedBody
	Unclassified
)

// Validate names what is wrong with the declaration.
func (r *Route) Validate() error {
	var errs []error
	bad := func(f string, a ...any) { errs = append(errs, fmt.Errorf(f, a...)) }
	if r.Name == "" {
		bad("name: none given")
	}
	if r.Match.Path == "" {
		bad("match.path: none given; \"/**\" is every path")
	} else if _, err := parsePath(r.Match.Path); err != nil {
		bad("match.path: %w", err)
	}
	for _, m := range strings.Split(r.Match.Method, "|") {
		if m != strings.ToUpper(m) || strings.ContainsAny(m, " \t") {
			bad("match.method: %q: want upper case, several as \"GET|HEAD\"", r.Match.Method)
			break
		}
	}
	for _, name := range sortedNames(r.Params) {
		if _, err := parseSource(r.Params[name]); err != nil {
			bad("params.%s: %w", name, err)
		}
	}
	return errors.Join(errs...)
}

func sortedNames(m map[string]string) []string {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}
