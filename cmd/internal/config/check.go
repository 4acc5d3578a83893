package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sort"
	"strings"
	"time"

	"banyan/diff"
	"banyan/legacyadapter/fastcgi"
	"banyan/legacyadapter/php"
	"banyan/proxy/certs"
	"banyan/proxy/event"
	"banyan/proxy/expr"
	"banyan/proxy/route"
	"banyan/proxy/upstream"
	"banyan/shadow/translate"
)

// defaults fills what a user may leave out.
func (f *File) defaults() {
	p := &f.Proxy
	set(&p.Listen, ":8080")
	set(&p.Admin, "127.0.0.1:9901")
	if p.TLS != nil {
		set(&p.TLS.Listen, ":8443")
		set(&p.TLS.MinVersion, "1.2")
	}
	if p.Replica == "" {
		host, _ := os.Hostname()
		p.Replica = strings.Map(func(r rune) rune {
			if event.Replica("a"+string(r)).Validate() != nil {
				return '-'
			}
			return r
		}, host)
		p.Replica = strings.TrimLeft(p.Replica[:min(len(p.Replica), 32)], "-_")
		set(&p.Replica, "proxy")
	}
	set(&p.Limits.Head, 64<<10)
	set(&p.Limits.Body, 64<<20)
	set(&p.Limits.Inline, 1<<20)
	set(&p.Limits.Connections, 20000)
	set(&p.Limits.Streams, 100)
	set(&p.Limits.Buffered, 512<<20)
	if p.Limits.BodyRate == nil {
		p.Limits.BodyRate = new(Bytes)
		*p.Limits.BodyRate = 100
	}
	set(&p.Limits.BodyTimeout, 30*time.Second)
	set(&p.Limits.WriteTimeout, 60*time.Second)
	set(&p.Limits.UpgradeTimeout, 10*time.Minute)
	set(&p.Limits.HeaderTimeout, 5*time.Second)
	set(&p.Limits.IdleTimeout, 75*time.Second)
	set(&p.Limits.Drain, 30*time.Second)
	set(&p.Journal.Dir, "journal")
	set(&p.Journal.Quota, 20<<30)
	set(&p.Journal.Ack, "journal")
	f.Kafka, f.Settle = f.Kafka.WithDefaults(), f.Settle.WithDefaults()
	for name, u := range f.Upstreams {
		if u.FastCGI == nil {
			set(&u.MaxConnections, 512)
		}
		set(&u.MaxExecution, 30*time.Second)
		set(&u.Resolve, "nginx")
		if name == "legacy" {
			set(&u.Timeout, 60*time.Second)
		}
		set(&u.Timeout, time.Second)
		if len(u.HTTP) > 1 {
			set(&u.SlowStart, 10*time.Second)
		}
		f.Upstreams[name] = u
	}
	set(&f.LegacyDB.Changelog.ServerID, 4711)
	set(&f.LegacyDB.Changelog.Slot, "banyan")
	set(&f.LegacyDB.Changelog.Publication, "banyan")
	for name, m := range f.Migrations {
		m.defaults()
		f.Migrations[name] = m
	}
}

func (m *Migration) defaults() {
	set(&m.Legacy, "legacy")
	set(&m.WhenFull, "fail_open")
	for i := range m.Writes {
		set(&m.Writes[i].Applied, "status < 400")
	}
	for i := range m.State {
		set(&m.State[i].Key, m.OrderBy)
		set(&m.State[i].Sweep.Every, 10*time.Minute)
		set(&m.State[i].Sweep.RowsPerSecond, 20000)
	}
}

func set[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// check reports what is wrong beyond the grammar.
func (f *File) check(d *decoder) {
	if f.Version != 1 {
		d.failPath("version", "", "%d: this build reads version 1", f.Version)
	}
	f.checkProxy(d)
	f.checkUpstreams(d)
	each(f.Settle.Validate(), func(err error) { d.failBelow("settle", err) })
	if len(f.Migrations) > 0 {
		each(f.Kafka.Validate(), func(err error) { d.failPath("kafka", "", "%v", err) })
	}
	if f.LegacyDB.MySQL != "" && f.LegacyDB.Postgres != "" {
		d.failPath("legacy_db", "", "mysql and postgres are both given: legacy has one database")
	}
	for i, r := range f.Routes {
		path := fmt.Sprintf("routes[%d]", i)
		f.checkTarget(d, path+".to", r.To)
		f.checkUpgrade(d, path, r)
		set(&f.Routes[i].Name, fmt.Sprintf("route-%d", i+1))
	}
	for _, name := range f.Names() {
		f.checkMigration(d, "migrations."+string(name), name, f.Migrations[name])
	}
	f.checkRoutes(d)
}

// Names are the migrations, sorted.
func (f *File) Names() []event.Migration {
	names := make([]event.Migration, 0, len(f.Migrations))
	for n := range f.Migrations {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

func (f *File) checkProxy(d *decoder) {
	p := f.Proxy
	if err := event.Replica(p.Replica).Validate(); err != nil {
		d.failPath("proxy.replica", "", "%v", err)
	}
	for _, a := range []struct{ path, addr string }{{"proxy.listen", p.Listen}, {"proxy.admin", p.Admin}} {
		if _, _, err := net.SplitHostPort(a.addr); err != nil {
			d.failPath(a.path, "", "%q: want host:port, or :port for every interface", a.addr)
		}
	}
	f.checkTLS(d)
	for _, l := range []struct {
		path   string
		ranges []string
	}{{"proxy.trusted_proxies", p.TrustedProxies}, {"proxy.proxy_protocol", p.ProxyProtocol}} {
		for i, c := range l.ranges {
			if _, err := netip.ParsePrefix(c); err != nil {
				d.failPath(fmt.Sprintf("%s[%d]", l.path, i), "a single address is 10.0.0.1/32", "%q: want a range such as 10.0.0.0/8", c)
			}
		}
	}
	if n := p.Limits.ConnectionsPerClient; n < 0 {
		d.failPath("proxy.limits.connections_per_client", "", "%d: want 1 or more, or 0 for no bound", n)
	}
	if b := p.Limits.Buffered; b < 1<<20 || b < p.Limits.Inline {
		d.failPath("proxy.limits.buffered", "", "%s: want 1MiB or more, and no less than limits.inline, %s", b, p.Limits.Inline)
	}
	if r := *p.Limits.BodyRate; r > 1<<20 {
		d.failPath("proxy.limits.body_rate", "", "%s: want at most 1MiB, a second", r)
	}
	for _, l := range []struct {
		path string
		v    time.Duration
	}{{"proxy.limits.body_timeout", p.Limits.BodyTimeout}, {"proxy.limits.write_timeout", p.Limits.WriteTimeout},
		{"proxy.limits.upgrade_timeout", p.Limits.UpgradeTimeout}} {
		if l.v < time.Millisecond || l.v > 24*time.Hour {
			d.failPath(l.path, "", "%v: want 1ms to 24h", l.v)
		}
	}
	if a := p.Journal.Ack; a != "journal" && a != "memory" {
		d.failPath("proxy.journal.ack", "", "%q: want journal or memory", a)
	}
	if s := p.Limits.Streams; s < 1 || s > 10000 {
		d.failPath("proxy.limits.streams", "", "%d: want 1 to 10000", s)
	}
	if p.Limits.Inline > p.Limits.Body {
		d.failPath("proxy.limits.inline", "", "%s is more than limits.body, %s", p.Limits.Inline, p.Limits.Body)
	}
}

// checkTLS looks at the words alone: the files are read by `banyan check` and at the start.
func (f *File) checkTLS(d *decoder) {
	t := f.Proxy.TLS
	if t == nil {
		return
	}
	if _, _, err := net.SplitHostPort(t.Listen); err != nil {
		d.failPath("proxy.tls.listen", "", "%q: want host:port, or :port for every interface", t.Listen)
	}
	if t.Listen == f.Proxy.Listen {
		d.failPath("proxy.tls.listen", "", "%q: proxy.listen has this address", t.Listen)
	}
	if len(t.Certificates) == 0 {
		d.failPath("proxy.tls", "certificates: [{ cert: site.pem, key: site.key }]", "no certificates")
	}
	for i, c := range t.Certificates {
		if c.Cert == "" || c.Key == "" {
			d.failPath(fmt.Sprintf("proxy.tls.certificates[%d]", i), "", "want both cert and key")
		}
	}
	if _, ok := certs.Versions[t.MinVersion]; !ok {
		d.failPath("proxy.tls.min_version", "", "%q: want 1.2 or 1.3", t.MinVersion)
	}
}

// Certs is what the TLS listener serves with.
func (f *File) Certs() certs.Config {
	t := f.Proxy.TLS
	c := certs.Config{MinVersion: t.MinVersion}
	for _, p := range t.Certificates {
		c.Pairs = append(c.Pairs, certs.Pair{Cert: f.Path(p.Cert), Key: f.Path(p.Key)})
	}
	if t.ClientCA != "" {
		c.ClientCA = f.Path(t.ClientCA)
	}
	return c
}

func (f *File) checkUpstreams(d *decoder) {
	if _, ok := f.Upstreams["legacy"]; !ok {
		d.failPath("upstreams", "upstreams: { legacy: { http: \"http://127.0.0.1:80\" } }", "no upstream named legacy: everything that no route names goes there")
	}
	names := make([]string, 0, len(f.Upstreams))
	for n := range f.Upstreams {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		u, path := f.Upstreams[n], "upstreams."+n
		f.checkUpstream(d, path, n, u)
		if u.FastCGI == nil && u.MaxConnections < 1 {
			d.failPath(path+".max_connections", "", "%d: want 1 or more", u.MaxConnections)
		}
	}
}

// checkBalance reports what is wrong with several instances and the protection of them.
func (f *File) checkBalance(d *decoder, path, name string, u Upstream) {
	if u.Sticky != nil && len(u.HTTP) == 1 {
		d.failPath(path+".sticky", "http: [\"http://10.0.0.1:80\", \"http://10.0.0.2:80\"]", "there is one instance: every session is there")
	}
	for i, a := range u.Drain {
		if at := fmt.Sprintf("%s.drain[%d]", path, i); !slices.Contains(u.HTTP, a) {
			d.failPath(at, suggest(a, u.HTTP), "%q is not one of the instances of http", a)
		} else if len(u.HTTP) == 1 {
			d.failPath(at, "", "there is one instance: nowhere else to go")
		}
	}
	if u.Breaker != nil {
		asked := slices.ContainsFunc(f.Names(), func(m event.Migration) bool { return f.Migrations[m].Candidate == name })
		if name == "legacy" || !asked {
			d.failPath(path+".breaker", "", "nobody would answer instead: a breaker is for an upstream that is a migration's candidate")
		}
	}
	if err := u.Balance(name).Validate(); err != nil {
		d.failBelow(path, err)
	}
}

var resolves = []string{"nginx", "apache", "php-server", "none"}

func (f *File) checkResolve(d *decoder, path string, u Upstream) {
	if !slices.Contains(resolves, u.Resolve) {
		d.failPath(path+".resolve", suggest(u.Resolve, resolves), "%q: want nginx, apache, php-server or none", u.Resolve)
		return
	}
	if u.Resolve != "php-server" {
		for _, g := range []struct{ field, value string }{{".root", u.Root}, {".router", u.Router}} {
			if g.value != "" {
				d.failPath(path+g.field, "resolve: php-server", "%q: only php-server looks at files; %s does not", g.value, u.Resolve)
			}
		}
		return
	}
	if u.Root == "" {
		d.failPath(path+".root", "root: ./public, as in php -S … -t ./public", "none given: what a path runs behind php-server depends on the files below its document root")
		return
	}
	if _, err := f.canonicalizer(u); err != nil {
		d.failPath(path, "", "%v", err)
	}
}

// Canonicalizer resolves paths as legacy does.
func (f *File) Canonicalizer() (route.Canonicalizer, error) {
	return f.canonicalizer(f.Upstreams["legacy"])
}

func (f *File) canonicalizer(u Upstream) (route.Canonicalizer, error) {
	switch u.Resolve {
	case "apache":
		return php.Apache{}, nil
	case "php-server":
		return php.NewServer(f.Path(u.Root), u.Router)
	case "none":
		return php.None{}, nil
	}
	return php.Nginx{}, nil
}

// checkUpstream checks that there is one way to it, and where that leads.
func (f *File) checkUpstream(d *decoder, path, name string, u Upstream) {
	switch {
	case u.FastCGI == nil && len(u.HTTP) == 0:
		d.failPath(path, "http: \"http://127.0.0.1:80\"", "neither http nor fastcgi is given")
	case u.FastCGI == nil:
		for i, a := range u.HTTP {
			if _, err := ParseAddress(a); err != nil {
				d.failPath(fmt.Sprintf("%s.http[%d]", path, i), "", "%v", err)
			}
		}
		f.checkBalance(d, path, name, u)
		f.checkResolve(d, path, u)
	case len(u.HTTP) > 0:
		d.failPath(path+".fastcgi", "", "http and fastcgi are both given: a backend is asked in one way")
	case u.MaxConnections != 0:
		d.failPath(path+".max_connections", "", "with fastcgi it is fastcgi.max_connections: each connection holds a child of php-fpm")
	case u.Balanced() || !reflect.ValueOf(u.Eject).IsZero():
		d.failPath(path, "", "max_requests, sticky, queue, eject, health and breaker belong to http: fastcgi is one php-fpm, whose children are the bound")
	case u.Resolve != "nginx":
		d.failPath(path+".resolve", "", "%q: with fastcgi banyan resolves paths itself, as nginx does", u.Resolve)
	default:
		path += ".fastcgi"
		if s := u.FastCGI.Static; s != "" {
			if f.checkTarget(d, path+".static", s); f.Upstreams[s].FastCGI != nil {
				d.failPath(path+".static", "", "%q is fastcgi: files come from an http upstream, or from root", s)
			}
		}
		each(f.FastCGI("x", u).Validate(), func(err error) { d.failBelow(path, err) })
	}
}

// FastCGI is the config of an upstream that is one. Whoever builds it adds Static and Log.
func (f *File) FastCGI(name string, u Upstream) fastcgi.Config {
	c := u.FastCGI
	root, err := filepath.Abs(f.Path(c.Root))
	if err != nil || c.Root == "" {
		root = c.Root
	}
	return fastcgi.Config{Name: name, Address: c.Address, Root: root, ScriptRoot: c.ScriptRoot, Index: c.Index, FrontController: c.FrontController,
		Internal: c.Internal, Sendfile: c.Sendfile, ServerName: c.ServerName, Params: c.Params, MaxConns: c.MaxConnections, RequestsPerConn: c.RequestsPerConnection,
		Spool: c.Spool, Bounds: upstream.Bounds{IdleTimeout: c.IdleTimeout, Timeouts: upstream.Timeouts{FirstByte: u.Timeout}}}
}

// Where is the upstream as a person names it.
func (u Upstream) Where() string {
	if u.FastCGI != nil {
		return "fastcgi:" + u.FastCGI.Address
	}
	return strings.Join(u.HTTP, ", ")
}

// Address is what a dialer takes.
func (u Upstream) Address() (networkAddress [2]string, err error) {
	if u.FastCGI != nil {
		networkAddress[0], networkAddress[1], err = fastcgi.ParseAddress(u.FastCGI.Address)
		return networkAddress, err
	}
	return ParseAddress(u.HTTP.First())
}

// ParseAddress reads http://host:port or unix:/path into what a dialer takes.
func ParseAddress(s string) (network_address [2]string, err error) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok && strings.HasPrefix(path, "/") {
		return [2]string{"unix", path}, nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" || u.Host == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.User != nil {
		return network_address, fmt.Errorf("%q: want http://host:port without a path, or unix:/path/to.sock", s)
	}
	host := u.Host
	if u.Port() == "" {
		host = net.JoinHostPort(u.Hostname(), "80")
	}
	return [2]string{"tcp", host}, nil
}

func (f *File) checkTarget(d *decoder, path, name string) {
	if _, ok := f.Upstreams[name]; !ok {
		known := make([]string, 0, len(f.Upstreams))
		for n := range f.Upstreams {
			known = append(known, n)
		}
		d.failPath(path, suggest(name, known), "%q is not an upstream", name)
	}
}

func (f *File) checkMigration(d *decoder, path string, name event.Migration, m Migration) {
	if name == "" || strings.Trim(string(name), "abcdefghijklmnopqrstuvwxyz0123456789_") != "" || len(name) > 32 {
		d.failPath(path, "", "a migration's name is 1 to 32 of a-z, 0-9 and '_': it names topics and schemas")
	}
	f.checkTarget(d, path+".legacy", m.Legacy)
	if a, b := f.Upstreams[m.Legacy], f.Upstreams["legacy"]; a.Resolve != b.Resolve || a.Root != b.Root || a.Router != b.Router {
		d.failPath(path+".legacy", "", "upstream %s resolves paths otherwise than upstream legacy: one request has one path", m.Legacy)
	}
	if m.Candidate != "" {
		f.checkTarget(d, path+".candidate", m.Candidate)
		if f.Upstreams[m.Candidate].FastCGI != nil {
			d.failPath(path+".candidate", "", "%q is fastcgi: a candidate is asked over http, also by those that compare", m.Candidate)
		}
	}
	if m.WhenFull != "fail_open" && m.WhenFull != "fail_closed" {
		d.failPath(path+".when_full", "", "%q: want fail_open or fail_closed", m.WhenFull)
	}
	key, err := expr.ParseTemplate(m.OrderBy)
	if err != nil || m.OrderBy == "" {
		d.failPath(path+".order_by", "", "want the ordering key as a template over the parameters, such as \"match/{match}\"")
		return
	}
	for i, w := range m.Writes {
		f.checkWrite(d, fmt.Sprintf("%s.writes[%d]", path, i), key, w)
	}
	for i, r := range m.Reads {
		f.checkRead(d, fmt.Sprintf("%s.reads[%d]", path, i), m, r)
	}
	for i, s := range m.State {
		at := fmt.Sprintf("%s.state[%d]", path, i)
		for what, tpl := range map[string]string{".entity": s.Entity, ".key": s.Key} {
			if _, err := expr.ParseTemplate(tpl); err != nil || tpl == "" {
				d.failPath(at+what, "", "want a template over the columns, such as \"unit/{id}\"")
			}
		}
		if s.Legacy == "" || s.Candidate == "" {
			d.failPath(at, "", "want two queries, legacy and candidate, with the same columns")
		}
		checkRules(d, at+".compare", s.Compare)
	}
	f.checkTranslate(d, path, name, m)
	if rm := m.ReadModel; rm != nil {
		f.checkReadModel(d, path+".read_model", rm)
	}
}

// AnswerEnv is what `applied` may name.
func AnswerEnv() map[string]any {
	return map[string]any{"status": 0, "body": "", "header": func(string) string { return "" }, "json": map[string]any{}, "params": map[string]string{}}
}

func (f *File) checkWrite(d *decoder, path string, key *expr.Template, w Write) {
	if w.Name == "" {
		d.failPath(path+".name", "", "none given: a write route needs a name")
	}
	if _, err := expr.CompileBool(w.Applied, AnswerEnv()); err != nil {
		d.failPath(path+".applied", "known are status, header(name), body, json and params", "%v", err)
	}
	for _, hole := range key.Names() {
		if _, ok := w.Params[hole]; !ok {
			d.failPath(path+".params", "without it the key is known only from the change log, and order is weaker", "no parameter %q, which order_by needs", hole)
		}
	}
}

func (f *File) checkRead(d *decoder, path string, m Migration, r Read) {
	if r.Name == "" {
		d.failPath(path+".name", "", "none given: a read route needs a name")
	}
	if r.CandidatePath != "" {
		t, err := expr.ParseTemplate(r.CandidatePath)
		switch {
		case err != nil:
			d.failPath(path+".candidate_path", "", "%v", err)
		case !strings.HasPrefix(r.CandidatePath, "/"):
			d.failPath(path+".candidate_path", "", "%q: want a path", r.CandidatePath)
		default:
			for _, hole := range t.Names() {
				if _, ok := r.Params[hole]; !ok {
					d.failPath(path+".candidate_path", "", "{%s} is not one of the route's params", hole)
				}
			}
		}
	}
	if m.Candidate == "" {
		d.failPath(path, "candidate: name-of-an-upstream", "a read route needs the migration's candidate")
	}
	checkRules(d, path+".compare", r.Compare)
}

func checkRules(d *decoder, path string, rules []diff.Rule) {
	for i, r := range rules {
		each(r.Validate(), func(err error) { d.failBelow(fmt.Sprintf("%s[%d]", path, i), err) })
	}
}

func (f *File) checkTranslate(d *decoder, path string, name event.Migration, m Migration) {
	if len(m.Rows) == 0 && !slices.ContainsFunc(m.Writes, func(w Write) bool { return len(w.Events) > 0 }) {
		return
	}
	each(m.Translate(name).Validate(), func(err error) { d.failBelow(path, err) })
	for table, t := range m.Rows {
		for part, e := range t.Key {
			if _, err := expr.Compile(e, map[string]any{"row": map[string]any{}}); err != nil {
				d.failPath(path+".rows."+table+".key."+part, "", "%v", err)
			}
		}
	}
}

// failBelow reports a package's error whose message starts with the path of a field below this one.
func (d *decoder) failBelow(path string, err error) {
	field, msg, ok := strings.Cut(err.Error(), ": ")
	if !ok || strings.ContainsAny(field, " \"") {
		d.failPath(path, "", "%v", err)
		return
	}
	d.failPath(path+"."+field, "", "%s", msg)
}

// Translate is the migration's translate config.
func (m Migration) Translate(name event.Migration) translate.Config {
	c := translate.Config{Migration: name, Generation: 1, Rows: m.Rows}
	for _, w := range m.Writes {
		params := make([]string, 0, len(w.Params))
		for p := range w.Params {
			params = append(params, p)
		}
		sort.Strings(params)
		c.Routes = append(c.Routes, translate.Route{Name: w.Name, Params: params, Events: w.Events})
	}
	return c
}

func (f *File) checkReadModel(d *decoder, path string, rm *ReadModel) {
	if rm.Postgres == "" {
		d.failPath(path+".postgres", "", "none given: the projection needs a database")
	}
	exists := func(at, file string) {
		if _, err := os.Stat(f.Path(file)); err != nil {
			d.failPath(at, "", "%v", err)
		}
	}
	if rm.Schema != "" {
		exists(path+".schema", rm.Schema)
	}
	for t, h := range rm.On {
		exists(path+".on."+t, h.SQL)
	}
	for n, doc := range rm.Documents {
		exists(path+".documents."+n+".sql", doc.SQL)
	}
}

// RouteList is every declared route, for [route.Compile].
func (f *File) RouteList() []route.Route {
	var out []route.Route
	for _, r := range f.Routes {
		out = append(out, route.Route{Name: r.Name, Kind: route.Plain, Match: r.Match})
	}
	for _, name := range f.Names() {
		for _, w := range f.Migrations[name].Writes {
			out = append(out, route.Route{Name: w.Name, Kind: route.Write, Migration: name, Match: w.Match, Params: w.Params})
		}
		for _, r := range f.Migrations[name].Reads {
			out = append(out, route.Route{Name: r.Name, Kind: route.Read, Migration: name, Match: r.Match, Params: r.Params})
		}
	}
	return out
}

func (f *File) checkRoutes(d *decoder) {
	paths := []string{}
	for i := range f.Routes {
		paths = append(paths, fmt.Sprintf("routes[%d]", i))
	}
	for _, name := range f.Names() {
		for i := range f.Migrations[name].Writes {
			paths = append(paths, fmt.Sprintf("migrations.%s.writes[%d]", name, i))
		}
		for i := range f.Migrations[name].Reads {
			paths = append(paths, fmt.Sprintf("migrations.%s.reads[%d]", name, i))
		}
	}
	ok := true
	for i, r := range f.RouteList() {
		each(r.Validate(), func(err error) {
			ok = false
			d.failBelow(paths[i], err)
		})
	}
	canon, err := f.Canonicalizer()
	if ok && err == nil {
		if _, err := route.Compile(f.RouteList(), php.Params{}, canon); err != nil {
			each(err, func(err error) { d.failPath("", "", "%v", err) })
		}
	}
}
