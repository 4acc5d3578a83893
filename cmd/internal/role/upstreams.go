package role

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"banyan/cmd/internal/config"
	"banyan/legacyadapter/fastcgi"
	"banyan/proxy/balance"
	"banyan/proxy/upstream"
)

// backend is an upstream with what carries its requests: a pool, or a balancer over one for each instance.
type backend struct {
	upstream.Upstream
	pools    []*upstream.Pool
	balancer *balance.Balancer // nil: one instance, with nothing to protect it but the pool's bounds
	first    string
	fpm      *fastcgi.Upstream // instead of all these
}

func (p *Proxy) openBackends(ctx context.Context) error {
	for name, u := range p.f.Upstreams {
		if u.FastCGI != nil {
			continue
		}
		b, err := openBackend(name, &u, balance.Config{Log: p.o.Log})
		if err != nil {
			return err
		}
		p.backends[name] = b
		if b.balancer != nil {
			b.balancer.Start(ctx)
		}
	}
	for name, u := range p.f.Upstreams { // after those that serve their files
		if u.FastCGI == nil {
			continue
		}
		fpm, err := fastcgi.New(p.fastCGI(name, u))
		if err != nil {
			return fmt.Errorf("upstream %s: %w", name, err)
		}
		p.backends[name] = &backend{Upstream: fpm, fpm: fpm}
	}
	return nil
}

func (p *Proxy) fastCGI(name string, u config.Upstream) fastcgi.Config {
	c := p.f.FastCGI(name, u)
	if static, ok := p.backends[u.FastCGI.Static]; ok {
		c.Static = static.Upstream
	}
	c.Log = p.o.Log
	return c
}

func openBackend(name string, u *config.Upstream, own balance.Config) (*backend, error) {
	b := &backend{first: u.HTTP.First()}
	for _, address := range u.HTTP {
		c := upstream.Config{Name: name, URL: address, MaxConns: u.MaxConnections, Timeouts: upstream.Timeouts{FirstByte: u.Timeout}}
		if u.Balanced() {
			c.MaxConns++ // for the checks
		}
		if len(u.HTTP) > 1 {
			c.Name = name + " at " + address
		}
		pool, err := upstream.New(c)
		if err != nil {
			b.close()
			return nil, fmt.Errorf("upstream %s: %w", name, err)
		}
		b.pools = append(b.pools, pool)
	}
	if !u.Balanced() {
		b.Upstream = b.pools[0]
		return b, nil
	}
	c := u.Balance(name)
	c.Log = own.Log
	for i := range c.Instances {
		c.Instances[i].Upstream = b.pools[i]
	}
	var err error
	if b.balancer, err = balance.New(c); err != nil {
		b.close()
		return nil, err
	}
	b.Upstream = b.balancer
	return b, nil
}

func (b *backend) close() {
	if b.balancer != nil {
		b.balancer.Stop()
	}
	for _, p := range b.pools {
		p.Close()
	}
	if b.fpm != nil {
		b.fpm.Close()
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
	for name, b := range p.backends {
		out[name] = b.stats()
	}
	return out
}

// Balancers tell of each upstream that has several instances or is protected.
func (p *Proxy) Balancers() map[string]balance.Stats {
	out := map[string]balance.Stats{}
	for name, b := range p.backends {
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
	b := p.backends[ask.Upstream]
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
