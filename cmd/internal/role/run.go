package role

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"banyan/cmd/internal/config"
	"banyan/proxy/admin"
)

// Roles are what one process does.
type Roles struct{ Proxy, Shadow bool }

// Process is a running process with its roles and its admin listener.
type Process struct {
	Proxy  *Proxy
	Shadow *Shadow
	Ops    *Ops
	Admin  *admin.Server
	// Tokens are the files of admin tokens that were made at this start.
	Tokens []string

	f      *config.File // that it was started with
	o      Options
	cancel context.CancelFunc
	reloads
}

// Start brings up the roles, the request path first.
func Start(ctx context.Context, f *config.File, roles Roles, o Options, metrics http.Handler) (*Process, error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p := &Process{f: f, o: o, cancel: cancel}
	p.begin(f, f.Fingerprint(o.Build))
	if err := p.start(ctx, roles, metrics); err != nil {
		return nil, errors.Join(err, p.Stop(ctx))
	}
	return p, nil
}

func (p *Process) start(ctx context.Context, roles Roles, metrics http.Handler) error {
	var err error
	if roles.Proxy {
		if p.Proxy, err = StartProxy(ctx, p.f, p.o); err != nil {
			return err
		}
	}
	if roles.Shadow {
		if p.Shadow, err = StartShadow(ctx, p.f, p.o); err != nil {
			return err
		}
	}
	c := admin.Config{Listen: p.f.Proxy.Admin, Open: func(open func(string) (net.Listener, error)) (net.Listener, error) {
		return p.o.listen("admin", p.f.Proxy.Admin, open)
	}, Metrics: metrics, Log: p.o.Log, Ready: p.checks()}
	if c.Tokens, err = p.tokens(); err != nil {
		return err
	}
	if len(p.f.Migrations) > 0 {
		if p.Ops, err = newOps(ctx, p.f, p.o.Log, p.Proxy, p.Shadow); err != nil {
			return err
		}
		c.Parked = p.Ops
		c.Stages, c.Flips, c.Findings, c.Backfill, c.Retranslate, c.Status = p.Ops, p.Ops, p.Ops, p.Ops, p.Ops, p.status()
	}
	c.Mounts = map[string]http.Handler{"POST /api/v1/reload": http.HandlerFunc(p.reload)}
	if p.Proxy != nil {
		c.Status = append(c.Status, admin.Part{Name: "upstreams", Read: func(context.Context) (any, error) { return p.Proxy.Balancers(), nil }})
		c.Mounts["POST /api/v1/upstreams/drain"] = http.HandlerFunc(p.Proxy.drain)
	}
	if p.Shadow != nil {
		p.Shadow.judgeWith(ctx, p.Ops)
	}
	if p.Admin, err = admin.New(c); err != nil {
		return err
	}
	return p.Admin.Start(ctx)
}

// tokens are the configured operator's, or files beside the journal.
func (p *Process) tokens() (admin.Tokens, error) {
	if p.f.Proxy.Token != "" {
		return admin.Tokens{Operator: p.f.Proxy.Token}, nil
	}
	t, made, err := admin.EnsureTokens(p.TokenDir())
	p.Tokens = made
	return t, err
}

// TokenDir is where the admin tokens are kept when none is configured.
func (p *Process) TokenDir() string { return TokenDir(p.f) }

// TokenDir is where the admin tokens of a config are kept when it gives none.
func TokenDir(f *config.File) string { return filepath.Join(f.Path(f.Proxy.Journal.Dir), "admin") }

// Failed is told when the request path ends by itself; nil without one.
func (p *Process) Failed() <-chan error {
	if p.Proxy == nil {
		return nil
	}
	return p.Proxy.Failed()
}

// HandOver gives the admin address to the successor at once: asked there, this process would say that it is ending.
func (p *Process) HandOver(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = p.Admin.Stop(ctx) // who is still being answered is cut off
	p.Admin = nil
}

// Stop drains in the order that loses nothing: clients, journal, mirror, then the rest.
func (p *Process) Stop(ctx context.Context) error {
	p.close()
	var errs []error
	if p.Admin != nil {
		p.Admin.Drain()
	}
	if p.Proxy != nil {
		errs = append(errs, p.Proxy.Stop(ctx))
	}
	if p.Admin != nil {
		errs = append(errs, p.Admin.Stop(ctx))
	}
	p.cancel()
	if p.Ops != nil {
		p.Ops.stop()
	}
	if p.Shadow != nil {
		p.Shadow.Stop()
	}
	return errors.Join(errs...)
}

// checks are the conditions of readiness: that the request path serves needs nothing else.
func (p *Process) checks() []admin.Check {
	var out []admin.Check
	if p.Proxy != nil && p.Proxy.Journal != nil {
		out = append(out, admin.Check{Name: "journal", Ask: func(context.Context) error {
			if s := p.Proxy.Journal.Status(); s.Failed || s.Full {
				return s.Cause
			}
			return nil
		}})
	}
	if p.Shadow != nil {
		out = append(out, admin.Check{Name: "ledger", Ask: func(context.Context) error {
			if p.Shadow.Ledger() == nil {
				return errNoLedger
			}
			return nil
		}})
	}
	return out
}

// status is what `GET /api/v1/status` tells.
func (p *Process) status() []admin.Part {
	var out []admin.Part
	if p.Proxy != nil {
		out = append(out,
			admin.Part{Name: "journal", Read: func(context.Context) (any, error) { return p.Proxy.Journal.Status(), nil }},
			admin.Part{Name: "account", Read: func(context.Context) (any, error) { return p.Proxy.Mirror.Account(), nil }},
			admin.Part{Name: "tallies", Read: func(context.Context) (any, error) { return p.Proxy.Pairs.Tallies(), nil }},
		)
	}
	out = append(out, admin.Part{Name: "replicas", Read: func(context.Context) (any, error) { return p.Ops.watch.Live(), nil }})
	out = append(out, admin.Part{Name: "generations", Read: p.Ops.generations})
	if p.Shadow != nil {
		out = append(out,
			admin.Part{Name: "change_log", Read: func(context.Context) (any, error) { return p.Shadow.Publisher.Stats(), nil }},
			admin.Part{Name: "progress", Read: p.progress},
		)
	}
	return out
}

func (p *Process) progress(context.Context) (any, error) {
	out := map[string]any{}
	for name := range p.Shadow.feeds {
		pr := p.Shadow.projector(name)
		if pr == nil {
			continue
		}
		for n := range p.f.Kafka.Partitions {
			if x, ok := pr.Progress(n); ok {
				out[fmt.Sprintf("%s/%d", name, n)] = x
			}
		}
	}
	return out, nil
}
