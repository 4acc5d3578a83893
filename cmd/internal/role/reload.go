package role

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"

	"banyan/cmd/internal/config"
	"banyan/proxy/balance"
	"banyan/proxy/upstream"
)

// Outcomes of a reload.
const (
	Applied   = "applied"
	Unchanged = "unchanged"
	Bad       = "bad"     // the file has errors
	Refused   = "refused" // the file is good, and says something that a running process cannot take over
)

// Reloaded is what became of a reload. Revision counts the files that served, from 1.
type Reloaded struct {
	Outcome  string   `json:"outcome"`
	Revision int64    `json:"revision"`
	Changed  []string `json:"changed,omitempty"` // fields
}

// Reloads tell of all reloads since the start.
type Reloads struct {
	Outcomes map[string]int64
	Revision int64
	LastGood bool // the last one, or the start
}

// reloads are a process's; one is done at a time.
type reloads struct {
	turn        sync.Mutex // held during a reload; guards fingerprint
	fingerprint string     // of serving, with the files that it names as they were

	mu      sync.Mutex // guards what follows
	serving *config.File
	told    Reloads
	closed  bool // the process ends: nothing is reloaded any more
}

func (r *reloads) begin(f *config.File, fingerprint string) {
	r.serving, r.fingerprint = f, fingerprint
	r.told = Reloads{Outcomes: map[string]int64{Applied: 0, Unchanged: 0, Bad: 0, Refused: 0}, Revision: 1, LastGood: true}
}

// close waits for the one that is being done.
func (r *reloads) close() {
	r.turn.Lock()
	defer r.turn.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
}

// File is what serves now.
func (p *Process) File() *config.File {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.serving
}

// Reloads tells the numbers.
func (p *Process) Reloads() Reloads {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := p.told
	out.Outcomes = make(map[string]int64, len(p.told.Outcomes))
	for k, n := range p.told.Outcomes {
		out.Outcomes[k] = n
	}
	return out
}

// RefusedError names the fields that a running process cannot take over. Nothing was changed.
type RefusedError struct{ Fields []string }

func (e *RefusedError) Error() string {
	return "these fields cannot change in a running process, so nothing was changed: " + strings.Join(e.Fields, ", ") +
		"; a hand-over takes them over without losing a request (SIGUSR2 to the process), and so does a restart"
}

// Reload reads the file again and serves by it; requests under way end as they began. All of it is taken over, or
// nothing: after an error the old one serves on. What became of it is logged.
func (p *Process) Reload() (Reloaded, error) {
	p.turn.Lock()
	defer p.turn.Unlock()
	p.mu.Lock()
	was, closed := p.serving, p.closed
	p.mu.Unlock()
	switch {
	case closed:
		return Reloaded{}, errors.New("this process is ending")
	case p.o.Load == nil:
		return Reloaded{}, errors.New("this process has no file to read again")
	}
	is, err := p.o.Load()
	if err != nil {
		return p.tell(Bad, nil, err)
	}
	changed := config.Changes(was, is)
	fingerprint := is.Fingerprint(p.o.Build)
	moved := len(was.Migrations) > 0 && fingerprint != p.fingerprint
	if err := p.refuse(was, changed); err != nil {
		return p.tell(Refused, changed, err)
	}
	if moved && p.Shadow != nil { // no field that is left moves it
		return p.tell(Refused, append(changed, contents), &RefusedError{[]string{contents}})
	}
	if moved && len(changed) == 0 {
		changed = []string{contents}
	}
	if len(changed) == 0 {
		return p.tell(Unchanged, nil, nil)
	}
	if p.Proxy != nil {
		if err := p.Proxy.serve(is); err != nil {
			return p.tell(Bad, changed, err)
		}
	}
	p.mu.Lock()
	p.serving, p.fingerprint = is, fingerprint
	p.told.Revision++
	p.mu.Unlock()
	if p.o.Reloaded != nil {
		p.o.Reloaded(is)
	}
	if moved {
		p.o.Log.Info("evidence starts anew: routes, rules, mappings or contracts changed; the shadow role has to take the file over as well, until then what is asked is not evidence")
	}
	return p.tell(Applied, changed, nil)
}

// contents stands for the files that are named by the file.
const contents = "the contents of the contracts, or of the files that read_model names"

func (p *Process) tell(outcome string, changed []string, err error) (Reloaded, error) {
	p.mu.Lock()
	p.told.Outcomes[outcome]++
	p.told.LastGood = err == nil
	out := Reloaded{Outcome: outcome, Revision: p.told.Revision, Changed: changed}
	p.mu.Unlock()
	var many config.Errors
	if errors.As(err, &many) {
		for _, e := range many {
			p.o.Log.Error("the configuration has an error", "error", e.Error())
		}
	}
	switch {
	case outcome == Bad || outcome == Refused:
		p.o.Log.Error("not reloaded: the old configuration serves on", "outcome", outcome, "revision", out.Revision, "error", err)
	case outcome == Applied:
		p.o.Log.Info("reloaded", "revision", out.Revision, "changed", changed)
	default:
		p.o.Log.Info("reloaded: nothing has changed", "revision", out.Revision)
	}
	return out, err
}

// refuse names what cannot be taken over.
func (p *Process) refuse(was *config.File, changed []string) error {
	var fields []string
	for _, path := range changed {
		if !p.swaps(was, path) {
			fields = append(fields, path)
		}
	}
	if len(fields) > 0 {
		return &RefusedError{fields}
	}
	return nil
}

// swaps tells whether a running process can take a field over. What nobody has thought of here it cannot.
func (p *Process) swaps(was *config.File, path string) bool {
	recording := len(was.Migrations) > 0
	switch {
	case path == "upstreams.legacy.max_execution", path == "proxy.limits.inline":
		return !recording // the mirror waits by one, the journal's records are sized by the other
	case below(path, "proxy.trusted_proxies"), below(path, "proxy.proxy_protocol"), below(path, "proxy.redact"), below(path, "proxy.limits"), below(path, "proxy.sessions"):
		return true
	case below(path, "upstreams"):
		return p.Shadow == nil || !asked(was, path)
	case below(path, "routes"), below(path, "contracts"):
		return p.Shadow == nil // the consumers' evidence is bound to them
	case below(path, "migrations"):
		_, field, within := strings.Cut(strings.TrimPrefix(path, "migrations."), ".")
		field, _, _ = strings.Cut(field, ".")
		field, _, _ = strings.Cut(field, "[")
		switch {
		case !within, field == "order_by": // the whole of a migration; what is stored by key
			return false
		case field == "when_full", field == "legacy":
			return true
		}
		return p.Shadow == nil
	}
	return false
}

// asked tells whether consumers ask at this address.
func asked(f *config.File, path string) bool {
	for _, m := range f.Migrations {
		if m.Candidate != "" && (path == "upstreams."+m.Candidate || below(path, "upstreams."+m.Candidate+".http")) {
			return true
		}
	}
	return false
}

func below(path, field string) bool {
	rest, ok := strings.CutPrefix(path, field)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// reload answers POST /api/v1/reload.
func (p *Process) reload(w http.ResponseWriter, _ *http.Request) {
	out, err := p.Reload()
	w.Header().Set("Content-Type", "application/json")
	if err == nil {
		_ = json.NewEncoder(w).Encode(out) // the client may be gone
		return
	}
	text := err.Error()
	if errs := (config.Errors)(nil); errors.As(err, &errs) {
		text = fmt.Sprintf("the file has errors, so the old one serves on:\n%s", text)
	}
	w.WriteHeader(http.StatusUnprocessableEntity)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": text, "outcome": out.Outcome, "revision": out.Revision, "changed": out.Changed})
}

// serve swaps the table of routes and all that it works with. It is called by one at a time. First comes all that can
// fail, then what cannot.
func (p *Proxy) serve(f *config.File) error {
	was := p.serving()
	bounds, err := limits(f)
	if err != nil {
		return err
	}
	is, err := p.reopen(f, was)
	if err != nil {
		return err
	}
	table, err := p.table(f, is)
	if err != nil {
		closeBut(is, was)
		return err
	}
	p.hold(connectionsOf(is))
	p.renew(is, was)
	p.mu.Lock()
	p.backends = is
	p.mu.Unlock()
	if p.Pairs != nil {
		p.Beacon.Declare(f.Fingerprint(p.o.Build))
		p.Pairs.AskAt(sides(f, is))
	}
	err = errors.Join(p.Handler.Swap(table), p.Srv.Configure(bounds)) // both were checked
	for name, b := range was {
		if b.balancer != nil && (is[name] == nil || is[name].balancer != b.balancer) {
			b.balancer.Stop() // its checks; those who are on their way by the old table are still served
		}
	}
	return err
}

// reopen makes the upstreams of a file, with what is there of them.
func (p *Proxy) reopen(f *config.File, was map[string]*backend) (map[string]*backend, error) {
	is := map[string]*backend{}
	for _, fpm := range []bool{false, true} { // a php-fpm after those that serve its files
		for name, u := range f.Upstreams {
			if fpm != (u.FastCGI != nil) {
				continue
			}
			b := was[name]
			if b != nil && reflect.DeepEqual(b.u, u) && (!fpm || b.static == is[u.FastCGI.Static]) {
				is[name] = b
				continue
			}
			var err error
			if fpm {
				b, err = openFastCGI(f, name, u, is, p.o.Log)
			} else {
				b, err = openBackend(name, &u, balance.Config{Log: p.o.Log}, b)
			}
			if err != nil {
				closeBut(is, was)
				return nil, err
			}
			is[name] = b
		}
	}
	return is, nil
}

// renew gives balancers that stay their new config, and starts the new ones' checks, which end with Stop.
func (p *Proxy) renew(is, was map[string]*backend) {
	for name, b := range is {
		switch old := was[name]; {
		case b == old || b.balancer == nil:
		case old != nil && old.balancer == b.balancer:
			if err := b.balancer.Update(b.balance(name, balance.Config{Log: p.o.Log})); err != nil { // it fitted a moment ago
				p.o.Log.Error("an upstream keeps its old settings", "upstream", name, "error", err)
			}
		default:
			b.balancer.Start(context.Background())
		}
	}
}

// serving are the upstreams of the newest file.
func (p *Proxy) serving() map[string]*backend {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.backends
}

// closer is an upstream's connections.
type closer interface{ Close() }

func (b *backend) connections() []closer {
	var out []closer
	for _, p := range b.pools {
		out = append(out, p)
	}
	if b.fpm != nil {
		out = append(out, b.fpm, b.copies)
	}
	return out
}

func connectionsOf(all map[string]*backend) []closer {
	var out []closer
	for _, b := range all {
		out = append(out, b.connections()...)
	}
	return out
}

// hold counts a table that works with these; release closes those that no table works with any more.
func (p *Proxy) hold(cs []closer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range cs {
		p.held[c]++
	}
}

func (p *Proxy) release(cs []closer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range cs {
		if p.held[c]--; p.held[c] == 0 {
			delete(p.held, c)
			c.Close()
		}
	}
}

// closeUpstreams ends all of them, whoever still works with one.
func (p *Proxy) closeUpstreams() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.backends {
		b.close()
	}
	for c := range p.held {
		c.Close()
	}
}

// closeBut closes what was opened for is alone.
func closeBut(is, was map[string]*backend) {
	for name, b := range is {
		if b != was[name] {
			b.closeBut(was[name])
		}
	}
}

func (b *backend) closeBut(was *backend) {
	if b.balancer != nil && (was == nil || was.balancer != b.balancer) {
		b.balancer.Stop()
	}
	for i, pool := range b.pools {
		if was.pool(b.settings[i]) != pool {
			pool.Close()
		}
	}
	if b.fpm != nil {
		b.fpm.Close()
		b.copies.Close()
	}
}

// pool is the one with these settings; nil if there is none.
func (b *backend) pool(c upstream.Config) *upstream.Pool {
	if b != nil {
		if i := slices.Index(b.settings, c); i >= 0 {
			return b.pools[i]
		}
	}
	return nil
}
