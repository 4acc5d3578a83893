package route

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unsafe"

	"banyan/proxy/event"
)

// Head is what a decision needs of a request. Field returns the value of the first field of that name, given in lower
// case, nil if there is none.
type Head interface {
	Method() []byte
	Target() []byte
	Field(name string) []byte
}

// Table is a compiled, immutable set of routes.
type Table struct {
	params Params
	canon  Canonicalizer
	plain  Plainer  // canon, if it is one
	both   Resolver // likewise
	routes []*compiled
	exact  map[string]*shelf // by literal path: every route that matches it
	open   *shelf            // routes with a pattern, for all other paths
	all    *shelf
}

type compiled struct {
	Route
	path     *pattern
	methods  []string
	params   []param
	header   wants // names in lower case
	query    wants
	cookie   wants
	form     wants
	json     wants
	needBody bool // to decide or to extract
}

// param is a declared parameter and where to look for it, in order.
type param struct {
	name    string
	sources []source
}

// Compile checks all routes and reports every error at once, each with the route's name.
func Compile(routes []Route, p Params, c Canonicalizer) (*Table, error) {
	t := &Table{params: p, canon: c, exact: map[string]*shelf{}}
	t.plain, _ = c.(Plainer)
	t.both, _ = c.(Resolver)
	routes = slices.Clone(routes)
	slices.SortStableFunc(routes, func(a, b Route) int { return rank(a) - rank(b) })
	var errs []error
	seen := map[string]bool{}
	for i := range routes {
		r := &routes[i]
		if err := r.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("route %s: %w", r.Name, err))
			continue
		}
		id := string(r.Migration) + "/" + r.Name
		if seen[id] {
			errs = append(errs, fmt.Errorf("route %s: the name is taken by an earlier one", r.Name))
		}
		seen[id] = true
		compiled := compile(r)
		if err := t.reachable(compiled); err != nil {
			errs = append(errs, fmt.Errorf("route %s: match.path: %w", r.Name, err))
		}
		t.routes = append(t.routes, compiled)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	t.index()
	return t, nil
}

// reachable refuses a literal path that no request is resolved to.
func (t *Table) reachable(c *compiled) error {
	if !c.path.literal {
		return nil
	}
	p := c.Match.Path
	path, _, err := t.canon.Canonical([]byte(p))
	asked := path
	if t.both != nil && err == nil {
		_, asked, _, err = t.both.Paths([]byte(p))
	}
	switch {
	case err != nil:
		return fmt.Errorf("no request has the path %q: %w", p, err)
	case path != p && asked != p:
		return fmt.Errorf("no request has the path %q: it is resolved to %q", p, asked)
	}
	return nil
}

// rank puts plain routes first: what lives in a new service alone has no legacy side.
func rank(r Route) int {
	if r.Kind == Plain {
		return 0
	}
	return 1
}

func compile(r *Route) *compiled {
	c := &compiled{Route: *r}
	c.label = r.Name
	if r.Kind != Plain {
		c.label = string(r.Migration) + "/" + r.Name
	}
	c.path, _ = parsePath(r.Match.Path)
	if r.Match.Method != "" {
		c.methods = strings.Split(r.Match.Method, "|")
	}
	c.header, c.query, c.cookie = wantsOf(r.Match.Header), wantsOf(r.Match.Query), wantsOf(r.Match.Cookie)
	c.form, c.json = wantsOf(r.Match.Form), wantsOf(r.Match.JSON)
	for i := range c.header {
		c.header[i].name = strings.ToLower(c.header[i].name)
	}
	c.needBody = c.form != nil || c.json != nil
	for _, name := range sortedNames(r.Params) {
		sources, _ := parseSource(r.Params[name])
		c.params = append(c.params, param{name, sources})
		c.needBody = c.needBody || needsBody(sources)
	}
	return c
}

func (t *Table) index() {
	var open []*compiled
	for _, r := range t.routes {
		if !r.path.literal {
			open = append(open, r)
		}
	}
	t.open, t.all = newShelf(open), newShelf(t.routes)
	for _, r := range t.routes {
		if !r.path.literal {
			continue
		}
		p := r.Match.Path
		if _, done := t.exact[p]; done {
			continue
		}
		var here []*compiled
		for _, o := range t.routes {
			if o.path.match([]byte(p)) {
				here = append(here, o)
			}
		}
		t.exact[p] = newShelf(here)
	}
}

// Empty says that there is nothing to decide.
func (t *Table) Empty() bool { return t == nil || len(t.routes) == 0 }

// Decision is the outcome of matching one request. It is reused: Match overwrites it.
type Decision struct {
	Routes []*Route // the plain route alone, or the first of each migration
	// Maybe are migrations one of whose write routes it may be: the body that decides it did not come whole.
	Maybe []event.Migration

	table *Table
	path  []byte // canonical
	asked []byte // the path that was asked for, nil when it is the same
	head  Head
	hits  []*compiled
	query []byte
	body  []byte
	whole bool // body is there, whole

	queryV, formV, jsonV, cookieV reading
}

// reading is one part of the request, once it has been read, or values of an earlier request, whose memory is used again.
type reading struct {
	values Values
	done   bool
}

func (r reading) old() reading { return reading{values: r.values} }

// Match decides. Call it first with whole = false and body = nil; after [NeedBody] again with what could be read of
// the body within the limit. d's memory is reused.
func (t *Table) Match(d *Decision, h Head, body []byte, whole bool) (Verdict, error) {
	*d = Decision{table: t, head: h, Routes: d.Routes[:0], Maybe: d.Maybe[:0], hits: d.hits[:0], body: body, whole: whole,
		queryV: d.queryV.old(), formV: d.formV.old(), cookieV: d.cookieV.old()}
	if t.Empty() {
		return None, nil
	}
	if err := d.resolve(h.Target()); err != nil {
		return None, err
	}
	if len(d.path) == 0 || d.path[0] != '/' { // "*"
		return None, nil
	}
	shelf, literal := t.exact[string(d.path)]
	switch {
	case d.asked != nil:
		shelf, literal = t.all, false
	case !literal:
		shelf = t.open
	}
	need := d.decide(shelf.pick(d), literal, body != nil)
	switch {
	case need && body == nil:
		return NeedBody, nil
	case len(d.hits) > 0:
		return Matched, nil
	case len(d.Maybe) > 0:
		return Unclassified, nil
	}
	return None, nil
}

// resolve finds the canonical path. Most targets are plain and need no memory for it.
func (d *Decision) resolve(target []byte) error {
	if d.table.plain != nil {
		var ok bool
		if d.path, d.query, ok = d.table.plain.Plain(target); ok {
			return nil
		}
	}
	if d.table.both == nil {
		path, query, err := d.table.canon.Canonical(target)
		d.path, d.query = []byte(path), query
		return err
	}
	path, asked, query, err := d.table.both.Paths(target)
	d.path, d.query = []byte(path), query
	if asked != path {
		d.asked = []byte(asked)
	}
	return err
}

// fits says whether a route's path is the one that runs, or the one that was asked for.
func (d *Decision) fits(c *compiled) bool {
	return c.path.match(d.path) || d.asked != nil && c.path.match(d.asked)
}

// decide walks the candidates and says whether the body could change the outcome.
func (d *Decision) decide(candidates []*compiled, literal, asked bool) (need bool) {
	for _, c := range candidates {
		if d.taken(c) || !literal && !d.fits(c) || !d.headMatches(c) {
			continue
		}
		if c.needBody && !d.whole && d.carriesBody() {
			need = true
			if !asked {
				continue
			}
			if c.form != nil || c.json != nil { // else only its parameters are out of reach
				if c.Kind == Write && !slices.Contains(d.Maybe, c.Migration) {
					d.Maybe = append(d.Maybe, c.Migration)
				}
				continue
			}
		}
		if !d.bodyMatches(c) {
			continue
		}
		d.hits, d.Routes = append(d.hits, c), append(d.Routes, &c.Route)
		if c.Kind == Plain {
			break
		}
	}
	return need
}

func (d *Decision) carriesBody() bool {
	if d.head.Field("transfer-encoding") != nil {
		return true
	}
	cl := d.head.Field("content-length")
	return cl != nil && string(cl) != "0"
}

// taken says that this migration has its route already.
func (d *Decision) taken(c *compiled) bool {
	for _, h := range d.hits {
		if h.Migration == c.Migration && c.Kind != Plain {
			return true
		}
	}
	return false
}

func (d *Decision) headMatches(c *compiled) bool {
	m := &c.Match
	if c.methods != nil && !anyOf(c.methods, d.head.Method()) {
		return false
	}
	if m.Host != "" && !strings.EqualFold(m.Host, view(hostOnly(d.head.Field("host")))) {
		return false
	}
	for _, w := range c.header {
		if v := d.head.Field(w.name); v == nil || w.value != "*" && string(v) != w.value {
			return false
		}
	}
	return (c.query == nil || c.query.met(d.queryValues())) && (c.cookie == nil || c.cookie.met(d.cookieValues()))
}

func (d *Decision) bodyMatches(c *compiled) bool {
	return (c.form == nil || c.form.met(d.formValues())) && (c.json == nil || c.json.met(d.jsonValues()))
}

func anyOf(list []string, b []byte) bool {
	for _, s := range list {
		if s == string(b) {
			return true
		}
	}
	return false
}

func hostOnly(h []byte) []byte {
	if i := bytes.LastIndexByte(h, ':'); i > bytes.LastIndexByte(h, ']') {
		h = h[:i]
	}
	return h
}

// view is b as a string without a copy. It is good until b changes.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

func (d *Decision) queryValues() Values {
	if r := &d.queryV; !r.done {
		*r = reading{d.table.params.Query(r.values, d.query), true}
	}
	return d.queryV.values
}

func (d *Decision) formValues() Values {
	if r := &d.formV; !r.done {
		kind, body := view(d.head.Field("content-type")), d.body
		if string(d.head.Method()) != "POST" {
			kind, body = "", nil
		}
		*r = reading{d.table.params.Form(r.values, kind, body), true}
	}
	return d.formV.values
}

func (d *Decision) jsonValues() Values {
	if r := &d.jsonV; !r.done {
		*r = reading{d.table.params.JSON(d.body), true}
	}
	return d.jsonV.values
}

func (d *Decision) cookieValues() Values {
	if r := &d.cookieV; !r.done {
		*r = reading{d.table.params.Cookies(r.values, d.head.Field("cookie")), true}
	}
	return d.cookieV.values
}

// Cookie is the value of a cookie, as legacy reads it. It must not be changed, and is good as long as what the head gave
// and until the next Match.
func (d *Decision) Cookie(name string) (value []byte, ok bool) {
	v, ok := d.cookieValues().Get(name)
	return unsafe.Slice(unsafe.StringData(v), len(v)), ok
}

// Params are the declared parameters of the i-th route that are there, by name. Of a body that did not come whole nothing
// is there, and no alternative that stands behind it.
func (d *Decision) Params(i int) map[string]string {
	out := make(map[string]string, len(d.hits[i].params))
	d.View(out, i)
	for name, v := range out {
		out[name] = strings.Clone(v)
	}
	return out
}

// View puts into out, which it empties, what [Decision.Params] gives, without a copy: the texts are good as long as what the
// head gave and the body, and until the next Match.
func (d *Decision) View(out map[string]string, i int) {
	clear(out)
	c := d.hits[i]
	for _, p := range c.params {
		for _, s := range p.sources {
			if s.inBody() && !d.whole && d.carriesBody() {
				break // it may be still to come, and the last of two equal names wins: all else would be a guess
			}
			if v, ok := d.find(c, s); ok {
				out[p.name] = v
				break
			}
		}
	}
}

func (d *Decision) find(c *compiled, s source) (string, bool) {
	switch s.part {
	case "path":
		if c.path.match(d.path) {
			return c.path.param(d.path, s.name)
		}
		return c.path.param(d.asked, s.name)
	case "query":
		return d.queryValues().Get(s.name)
	case "form":
		return d.formValues().Get(s.name)
	case "json":
		return d.jsonValues().Get(s.name)
	case "cookie":
		return d.cookieValues().Get(s.name)
	default:
		v := d.head.Field(s.name)
		return view(v), v != nil
	}
}
