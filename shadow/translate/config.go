package translate

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"banyan/proxy/event"
	"banyan/proxy/expr"
	"banyan/shadow/contract"
)

// Config is how one migration's settled stream becomes domain events.
type Config struct {
	Migration  event.Migration `yaml:"-"`
	Generation int             `yaml:"-"` // of the events, from 1
	// Begin is where a generation that is made anew begins to read the settled stream, by partition; none: at its start.
	Begin  []int64          `yaml:"-"`
	Routes []Route          `yaml:"-"` // the migration's write routes
	Rows   map[string]Table `yaml:"rows"`
}

// Route is a write route with what its writes mean.
type Route struct {
	Name   string
	Params []string  // the names that the route extracts from its requests
	Events []Mapping `yaml:"events"`
}

// Mapping turns the effects of an applied write into an event. It claims what it explains: columns of updated rows by
// Sets, whole rows by Inserts and Deletes; at least one of them. What it claims must have a fallback in `rows:`.
type Mapping struct {
	Type    string   `yaml:"type"`    // of the event, e.g. game.unit.moved
	Version int      `yaml:"version"` // of its contract, from 1
	Subject string   `yaml:"subject"` // template over params, e.g. "unit/{unit}"; empty: one event per changed row, named by the table
	Sets    []string `yaml:"sets"`    // table.column
	Inserts []string `yaml:"inserts"` // tables
	Deletes []string `yaml:"deletes"` // tables
	When    string   `yaml:"when"`    // condition; empty: always
	// Data are expressions over the route's params by name, effects.<table>.<column> (the subject's row as legacy left it)
	// and write (id, route, player, session).
	Data map[string]string `yaml:"data"`
}

// Table is what the changes of one table mean when no write explains them.
type Table struct {
	// Key tells the ordering key's parts; the change-log reader computes it.
	Key map[string]string `yaml:"key"`
	// Subject names the row's entity: a template over its columns, e.g. "unit/{id}".
	Subject string `yaml:"subject"`
	// Import is the event of a row that backfill found.
	Import *Fact `yaml:"import"`
	// OnInsert defaults to Import: a new row is the same news.
	OnInsert *Fact `yaml:"on_insert"`
	// OnUpdate: each column belongs to at most one of them, so that its change gives one event.
	OnUpdate []Update `yaml:"on_update"`
	// OnDelete: without it, deleted rows are counted as unmapped, and a state comparison will show them.
	OnDelete *Fact `yaml:"on_delete"`
}

// Fact is an event made from a row.
type Fact struct {
	Type    string `yaml:"type"`
	Version int    `yaml:"version"`
	Subject string `yaml:"subject"` // template over the row's columns; empty: the table's
	// Data are expressions over row.<column> and, for updates, before.<column>. Empty: all columns of the row.
	Data map[string]string `yaml:"data"`
}

// Update is a [Fact] for changes of some columns.
type Update struct {
	Columns []string `yaml:"columns"`
	Fact    `yaml:",inline"`
}

// Validate names the field, the value and the bound of everything that is wrong.
func (c Config) Validate() error {
	_, err := Compile(c, nil)
	return err
}

// Rules are a compiled [Config], safe for concurrent use.
type Rules struct {
	migration  event.Migration
	generation int
	begin      []int64
	source     string
	needle     []byte // stands in the JSON of every entry of the migration
	routes     map[string][]*mapping
	tables     map[string]*table
	contracts  *contract.Registry
}

type mapping struct {
	name    string // identity in event ids
	fact    fact
	params  []string
	subject *expr.Template // nil: the table's
	sets    map[string]map[string]bool
	inserts map[string]bool
	deletes map[string]bool
	when    *expr.Program
}

type table struct {
	name                        string
	subject                     *expr.Template
	imports, onInsert, onDelete *fact
	onUpdate                    []*update
}

type update struct {
	columns []string
	fact    fact
}

// Compile checks a config and makes it ready. With contracts, types and versions that have none are errors, and every
// event that is made is validated.
func Compile(c Config, contracts *contract.Registry) (*Rules, error) {
	k := &compiler{contracts: contracts}
	r := &Rules{migration: c.Migration, generation: c.Generation, begin: c.Begin, source: "/banyan/" + string(c.Migration),
		needle: append([]byte(`"migration":`), event.Encode(c.Migration)...),
		routes: map[string][]*mapping{}, tables: map[string]*table{}, contracts: contracts}
	if c.Generation < 1 {
		k.fail("generation", "%d: want 1 or more", c.Generation)
	}
	for _, name := range sortedKeys(c.Rows) {
		r.tables[name] = k.table("rows."+name, name, c.Rows[name])
	}
	for _, route := range c.Routes {
		if _, twice := r.routes[route.Name]; twice {
			k.fail("writes", "route %q twice", route.Name)
		}
		ms := make([]*mapping, 0, len(route.Events))
		for i, m := range route.Events {
			at := fmt.Sprintf("writes.%s.events[%d]", route.Name, i)
			ms = append(ms, k.mapping(at, route, i, m, c.Rows))
		}
		r.routes[route.Name] = ms
	}
	if err := errors.Join(k.errs...); err != nil {
		return nil, err
	}
	return r, nil
}

type compiler struct {
	contracts *contract.Registry
	errs      []error
}

func (k *compiler) fail(at, format string, args ...any) {
	k.errs = append(k.errs, fmt.Errorf("%s: "+format, append([]any{at}, args...)...))
}

func (k *compiler) table(at, name string, t Table) *table {
	out := &table{name: name, subject: k.template(at+".subject", t.Subject)}
	if t.Subject == "" {
		k.fail(at+".subject", `missing: want the entity of a row as a template over its columns, e.g. "unit/{id}"`)
	}
	out.imports = k.rowFact(at+".import", t.Import)
	out.onInsert = k.rowFact(at+".on_insert", t.OnInsert)
	if out.onInsert == nil {
		out.onInsert = out.imports
	}
	out.onDelete = k.rowFact(at+".on_delete", t.OnDelete)
	owner := map[string]int{}
	for i, u := range t.OnUpdate {
		at := fmt.Sprintf("%s.on_update[%d]", at, i)
		if len(u.Columns) == 0 {
			k.fail(at+".columns", "none: want at least one")
		}
		for _, c := range u.Columns {
			if j, ok := owner[c]; ok {
				k.fail(at+".columns", "%q stands in on_update[%d] too: its change would give two events; name it once", c, j)
			}
			owner[c] = i
		}
		if f := k.rowFact(at, &u.Fact); f != nil {
			out.onUpdate = append(out.onUpdate, &update{u.Columns, *f})
		}
	}
	if out.imports == nil && out.onInsert == nil && out.onDelete == nil && len(out.onUpdate) == 0 {
		k.fail(at, "maps nothing: want import, on_insert, on_update or on_delete")
	}
	return out
}

func (k *compiler) rowFact(at string, f *Fact) *fact {
	if f == nil {
		return nil
	}
	out := k.fact(at, f.Type, f.Version, f.Data, map[string]any{"row": map[string]any{}, "before": map[string]any{}})
	if f.Subject != "" {
		out.subject = k.template(at+".subject", f.Subject)
	}
	return &out
}

func (k *compiler) mapping(at string, route Route, i int, m Mapping, rows map[string]Table) *mapping {
	effects := map[string]any{}
	env := map[string]any{"effects": effects, "write": map[string]any{"id": "", "route": "", "player": "", "session": ""}}
	for _, p := range route.Params {
		if p == "effects" || p == "write" {
			k.fail(at, "the route has a param %q, a name that expressions use; rename the param", p)
		}
		env[p] = ""
	}
	out := &mapping{name: fmt.Sprintf("%s/%s@%d", route.Name, m.Type, m.Version), params: route.Params,
		sets: map[string]map[string]bool{}, inserts: map[string]bool{}, deletes: map[string]bool{}}
	for _, s := range m.Sets {
		tbl, col, ok := strings.Cut(s, ".")
		if !ok || tbl == "" || col == "" {
			k.fail(at+".sets", "%q: want table.column", s)
			continue
		}
		effects[tbl] = map[string]any{}
		if out.sets[tbl] == nil {
			out.sets[tbl] = map[string]bool{}
		}
		out.sets[tbl][col] = true
		if t, ok := rows[tbl]; !ok || !slices.ContainsFunc(t.OnUpdate, func(u Update) bool { return slices.Contains(u.Columns, col) }) {
			k.fail(at+".sets", "%s has no fallback: a change that no write explains would be lost; add rows.%s.on_update with columns: [%s]", s, tbl, col)
		}
	}
	for _, tbl := range m.Inserts {
		effects[tbl], out.inserts[tbl] = map[string]any{}, true
		if t := rows[tbl]; t.OnInsert == nil && t.Import == nil {
			k.fail(at+".inserts", "%s has no fallback: add rows.%s.on_insert or import", tbl, tbl)
		}
	}
	for _, tbl := range m.Deletes {
		effects[tbl], out.deletes[tbl] = map[string]any{}, true
		if rows[tbl].OnDelete == nil {
			k.fail(at+".deletes", "%s has no fallback: add rows.%s.on_delete", tbl, tbl)
		}
	}
	if len(effects) == 0 {
		k.fail(at, "claims nothing: want sets, inserts or deletes")
	}
	if m.Subject != "" {
		out.subject = k.template(at+".subject", m.Subject)
		for _, n := range out.subject.Names() {
			if !slices.Contains(route.Params, n) {
				k.fail(at+".subject", "{%s} is not a param of route %s: want one of %s", n, route.Name, strings.Join(route.Params, ", "))
			}
		}
	}
	if m.When != "" {
		p, err := expr.CompileBool(m.When, env)
		if err != nil {
			k.fail(at+".when", "%w", err)
		}
		out.when = p
	}
	if len(m.Data) == 0 {
		k.fail(at+".data", "missing: an event without data says nothing")
	}
	out.fact = k.fact(at, m.Type, m.Version, m.Data, env)
	k.effectsNamed(at, m.Data, effects)
	return out
}

// effectsNamed refuses effects.<table> of a table that the mapping does not claim: it would always be empty.
func (k *compiler) effectsNamed(at string, data map[string]string, claimed map[string]any) {
	for _, f := range sortedKeys(data) {
		rest, ok := strings.CutPrefix(data[f], "effects.")
		if !ok {
			continue
		}
		tbl, _, _ := strings.Cut(rest, ".")
		if _, ok := claimed[tbl]; !ok && isName(tbl) {
			k.fail(at+".data."+f, "%q: the mapping claims nothing of table %s; want one of %s", data[f], tbl, strings.Join(sortedKeys(claimed), ", "))
		}
	}
}

func (k *compiler) template(at, src string) *expr.Template {
	t, err := expr.ParseTemplate(src)
	if err != nil {
		k.fail(at, "%w", err)
		t, _ = expr.ParseTemplate("")
	}
	return t
}

func sortedKeys[K ~string, V any](m map[K]V) []K {
	return slices.Sorted(maps.Keys(m))
}

func isName(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '_' && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}
