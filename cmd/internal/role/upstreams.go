package role

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"

	"banyan/cmd/internal/config"
	"banyan/legacyadapter/fastcgi"
	"banyan/proxy/balance"
	"banyan/proxy/upstream"
)

// backend is an upstream with what carries its requests: a pool, or a balancer over one for each instance.
type backend struct {
	upstream.Upstream
	u        config.Upstream // what it was made of
	pools    []*upstream.Pool
	settings []upstream.Config // of pools
	balancer *balance.Balancer // nil: one instance, with nothing to protect it but the pool's bounds
	first    string
	fpm      *fastcgi.Upstream // instead of all these
	copies   *fastcgi.Upstream // of fpm, for copies of reads
	static   *backend          // of fpm, for its files; nil: it serves them itself
}

// openBackends makes the first table's upstreams.
func (p *Proxy) openBackends(ctx context.Context) error {
	var err error
	if p.backends, err = p.reopen(p.f, nil); err != nil {
		return err
	}
	p.hold(connectionsOf(p.backends))
	for _, b := range p.backends {
		if b.balancer != nil {
			b.balancer.Start(ctx)
		}
	}
	return nil
}

// openFastCGI makes an upstream that is a php-fpm; its files come from what all has. Where reads are copied, the copies
// have one connection, so that they never take all of its children from the clients.
func openFastCGI(f *config.File, name string, u config.Upstream, all map[string]*backend, log *slog.Logger) (*backend, error) {
	b := &backend{u: u}
	c := f.FastCGI(name, u)
	if b.static = all[u.FastCGI.Static]; b.static != nil {
		c.Static = b.static.Upstream
	}
	c.Log = log
	var err error
	if b.fpm, err = fastcgi.New(c); err != nil {
		return nil, fmt.Errorf("upstream %s: %w", name, err)
	}
	c.MaxConns = 1
	if b.copies, err = fastcgi.New(c); err != nil {
		b.fpm.Close()
		return nil, fmt.Errorf("upstream %s: %w", name, err)
	}
	b.Upstream = b.fpm
	return b, nil
}

// openBackend makes an upstream of what was there before, if anything was: a pool whose settings are as they were stays,
// and so does the balancer, which knows the sessions. It is given its new config by renew, once nothing can fail.
func openBackend(name string, u *config.Upstream, own balance.Config, was *backend) (*backend, error) {
	b := &backend{u: *u, first: u.HTTP.First()}
	for _, address := range u.HTTP {
		c := upstream.Config{Name: name, URL: address, MaxConns: u.MaxConnections, Bounds: upstream.Bounds{Timeouts: upstream.Timeouts{FirstByte: u.Timeout}}}
		if u.Balanced() {
			c.MaxConns++ // for the checks
		}
		if len(u.HTTP) > 1 {
			c.Name = name + " at " + address
		}
		pool := was.pool(c)
		if pool == nil {
			var err error
			if pool, err = upstream.New(c); err != nil {
				b.closeBut(was)
				return nil, fmt.Errorf("upstream %s: %w", name, err)
			}
		}
		b.pools, b.settings = append(b.pools, pool), append(b.settings, c)
	}
	if !u.Balanced() {
		b.Upstream = b.pools[0]
		return b, nil
	}
	c := b.balance(name, own)
	var err error
	if was != nil && was.balancer != nil {
		b.balancer, err = was.balancer, was.balancer.Fits(c)
	} else {
		b.balancer, err = balance.New(c)
	}
	if err != nil {
		b.closeBut(was)
		return nil, err
	}
	b.Upstream = b.balancer
	return b, nil
}

// balance is the config of the balancer over the pools.
func (b *backend) balance(name string, own balance.Config) balance.Config {
	c := b.u.Balance(name)
	c.Log = own.Log
	for i := range c.Instances {
		c.Instances[i].Upstream = b.pools[i]
	}
	return c
}

func (b *backend) close() {
	if b.balancer != nil {
		b.balancer.Stop()
	}
	for _, c := range b.connections() {
		c.Close()
	}
}

// where is the base URL at which a copy of a request with these cookies is asked for.
func (b *backend) where(cookie string) string {
	if b == nil { // a migration without a candidate
		return ""
	}
	if b.balancer == nil {
		return b.first
	}
	return b.balancer.Where(cookie)
}

// allow is the breaker's answer.
func (b *backend) allow() bool { return b.balancer == nil || b.balancer.Allow() }

// stats adds the connections of all instances up.
func (b *backend) stats() (s upstream.Stats) {
	if b.fpm != nil {
		return b.fpm.Stats()
	}
	for _, p := range b.pools {
		one := p.Stats()
		s.Open, s.Idle, s.Waiting = s.Open+one.Open, s.Idle+one.Idle, s.Waiting+one.Waiting
	}
	return s
}

// Connections are each upstream's.
func (p *Proxy) Connections() map[string]upstream.Stats {
	out := map[string]upstream.Stats{}
	for name, b := range p.serving() {
		out[name] = b.stats()
	}
	return out
}

// Balancers tell of each upstream that has several instances or is protected.
func (p *Proxy) Balancers() map[string]balance.Stats {
	out := map[string]balance.Stats{}
	for name, b := range p.serving() {
		if b.balancer != nil {
			out[name] = b.balancer.Stats()
		}
	}
	return out
}

// drain answers POST /api/v1/upstreams/drain: it takes an instance out for new sessions, or back in.
func (p *Proxy) drain(w http.ResponseWriter, r *http.Request) {
	var ask struct {
		Upstream string `json:"upstream"`
		Instance string `json:"instance"`
		Off      bool   `json:"off"`
	}
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	answer := func(status int, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v) // the client may be gone
	}
	fail := func(status int, format string, args ...any) {
		answer(status, map[string]string{"error": fmt.Sprintf(format, args...)})
	}
	if err := d.Decode(&ask); err != nil {
		fail(http.StatusBadRequest, "want {\"upstream\": …, \"instance\": …}: %v", err)
		return
	}
	b := p.serving()[ask.Upstream]
	switch {
	case b == nil:
		fail(http.StatusNotFound, "no upstream is named %q", ask.Upstream)
		return
	case b.balancer == nil:
		fail(http.StatusBadRequest, "upstream %s has one instance: there is nowhere else to go", ask.Upstream)
		return
	}
	if err := b.balancer.Drain(ask.Instance, !ask.Off); err != nil {
		fail(http.StatusNotFound, "%v", err)
		return
	}
	answer(http.StatusOK, b.balancer.Stats())
}
