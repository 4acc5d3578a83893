package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"banyan/cmd/internal/config"
	"banyan/cmd/internal/role"
	"banyan/cmd/internal/telemetry"
	"banyan/proxy/event"
	"banyan/proxy/route"
	"banyan/proxy/stage"
	"banyan/shadow/ledger"

	"github.com/spf13/cobra"
)

// configured is what a command that reads banyan.yaml takes.
type configured struct{ file, level string }

func (a *app) configFlags(c *cobra.Command, o *configured, file string) {
	c.Flags().StringVarP(&o.file, "config", "c", file, "the configuration")
	_ = c.MarkFlagFilename("config", "yaml", "yml") // fails only for a flag that does not exist
	a.logFlags(c, &o.level)
}

func (a *app) shadow() *cobra.Command {
	var o configured
	c := &cobra.Command{
		Use:   "shadow -c FILE",
		Short: "Run the consumers: change log, settle, events, read models, comparison",
		Long: `Runs everything off the request path: it reads legacy's change log, joins it with the recorded writes, publishes
domain events, keeps the read models and compares both sides. It may be stopped at any time and goes on where it was.`,
		Example: "  banyan shadow -c banyan.yaml",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.run(c.Context(), o, "banyan-shadow", role.Roles{Shadow: true})
		},
	}
	a.configFlags(c, &o, "banyan.yaml")
	return c
}

func (a *app) serve() *cobra.Command {
	var o configured
	c := &cobra.Command{
		Use:     "serve -c FILE",
		Short:   "Run proxy and consumers in one process",
		Long:    "Runs the roles proxy and shadow in one process: for a first look, and for small installations.",
		Example: "  banyan serve -c banyan.yaml",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.run(c.Context(), o, "banyan", role.Roles{Proxy: true, Shadow: true})
		},
	}
	a.configFlags(c, &o, "banyan.yaml")
	return c
}

// load reads a configuration; whatever is wrong with it is the user's to mend.
func load(file string) (*config.File, error) {
	f, err := config.Load(file)
	var errs config.Errors
	if err != nil && !errors.As(err, &errs) {
		return nil, usage("%w; `-c` says where the configuration is", err)
	}
	return f, err
}

// run is a process with roles, until ctx ends.
func (a *app) run(ctx context.Context, o configured, service string, roles role.Roles) error {
	log, err := a.log(o.level)
	if err != nil {
		return err
	}
	f, err := load(o.file)
	if err != nil {
		return err
	}
	tel, err := telemetry.New(ctx, telemetry.Config{Service: service, Version: readBuild().Version, Instance: f.Proxy.Replica, Upstreams: upstreams(f), Log: log})
	if err != nil {
		return usage("%w", err)
	}
	flushed, err := tel.Duration("banyan.journal.fsync.duration")
	if err != nil {
		return err
	}
	life, err := newLife(log)
	if err != nil {
		return err
	}
	defer life.end()
	p, err := role.Start(ctx, f, roles, role.Options{Listen: life.set.Listen, Log: log, Tracer: tel.Tracer(), Observer: tel.Requests, Build: readBuild().String(),
		Load: func() (*config.File, error) { return load(o.file) }, Reloaded: func(f *config.File) { tel.Requests.SetUpstreams(upstreams(f)) },
		Synced: func(d time.Duration) { flushed(d) }}, tel.Metrics())
	if err != nil {
		return cannotStart(err)
	}
	if err := observe(tel, f, p); err != nil {
		return errors.Join(err, p.Stop(ctx))
	}
	if p.Shadow != nil {
		done, err := observeShadow(tel, f, p.Shadow)
		if err != nil {
			return errors.Join(err, p.Stop(ctx))
		}
		defer done()
	}
	a.announce(f, p)
	watched, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	if p.Proxy != nil {
		go watchStages(watched, tel.Requests, p) // ends with stop
	}
	var rest func()
	if p.Proxy != nil {
		rest = p.Proxy.Srv.Rest
	}
	succeeded, err := life.serving(ctx, p.Failed(), func() { _, _ = p.Reload() }, rest) // which has said what there is to say
	if err == nil {
		log.Info("draining: requests under way end, no others are taken", "at_most", p.File().Proxy.Limits.Drain)
	}
	if succeeded {
		p.HandOver(ctx)
	}
	return errors.Join(err, a.end(p, tel, p.File().Proxy.Limits.Drain, log))
}

func (a *app) end(p *role.Process, tel *telemetry.Provider, drain time.Duration, log *slog.Logger) error {
	ctx, cancel := context.WithTimeoutCause(context.Background(), drain, errors.New("the drain took too long; proxy.limits.drain bounds it"))
	defer cancel()
	err := p.Stop(ctx)
	last, done := context.WithTimeout(context.Background(), 3*time.Second)
	defer done()
	if e := tel.Stop(last); e != nil {
		log.Warn("the last spans are lost", "error", e)
	}
	if err != nil {
		return no("%w", err)
	}
	log.Info("drained")
	return nil
}

// cannotStart tells a taken port or a bad value from what is missing.
func cannotStart(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "listen" {
		return usage("%w", err)
	}
	return missing("%w", err)
}

// announce is the line that tells where this process is.
func (a *app) announce(f *config.File, p *role.Process) {
	if p.Proxy != nil {
		fmt.Fprintf(a.stdout, "banyan listens on %s and forwards what no route names to %s\n", address(p.Proxy.Addr()), f.Upstreams["legacy"].Where())
	}
	fmt.Fprintf(a.stdout, "admin API on %s", address(p.Admin.Addr()))
	if f.Proxy.Token == "" {
		fmt.Fprintf(a.stdout, ", tokens in %s", p.TokenDir())
	}
	fmt.Fprintln(a.stdout)
}

// upstreams labels what requests to upstreams are counted by.
func upstreams(f *config.File) map[string]telemetry.Upstream {
	out := map[string]telemetry.Upstream{}
	for name, u := range f.Upstreams {
		var t telemetry.Upstream
		if addr, err := u.Address(); err == nil && len(u.HTTP) < 2 { // of several none is the address
			t.Address = addr[1]
			if host, port, err := net.SplitHostPort(addr[1]); err == nil && addr[0] == "tcp" {
				t.Address = host
				t.Port, _ = strconv.Atoi(port) // 0: not told
			}
		}
		for _, m := range f.Migrations {
			if m.Legacy == name {
				t.Role = "legacy"
			}
		}
		out[name] = t
	}
	return out
}

// routes labels the routes as they are at these stages.
func routes(f *config.File, states func(event.Migration) stage.State) map[string]telemetry.RouteInfo {
	out := map[string]telemetry.RouteInfo{}
	for _, r := range f.RouteList() {
		if r.Migration == "" {
			continue
		}
		out[string(r.Migration)+"/"+r.Name] = telemetry.RouteInfo{Migration: string(r.Migration), Stage: string(states(r.Migration).Stage), Read: r.Kind == route.Read}
	}
	return out
}

// watchStages keeps the labels of requests at the stage in force, at most a second late.
func watchStages(ctx context.Context, r *telemetry.Requests, p *role.Process) {
	if p.Proxy.Follower == nil {
		return
	}
	for tick := time.NewTicker(time.Second); ; {
		r.SetRoutes(routes(p.File(), p.Proxy.Follower.State))
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
		}
	}
}

// observe registers what the process's parts tell.
func observe(tel *telemetry.Provider, f *config.File, p *role.Process) error {
	errs := []error{observeReloads(tel, p)}
	if x := p.Proxy; x != nil {
		s := telemetry.Sources{Server: x.Srv.Stats, Counters: &x.Handler.Counters, Upstreams: x.Connections, Balancers: x.Balancers}
		if x.Journal != nil {
			s.Journal, s.Tallies, s.Waiting, s.Stages = x.Journal.Status, x.Pairs.Tallies, x.Pairs.Waiting, x.Follower.States
		}
		errs = append(errs, tel.ObserveProxy(s))
	}
	if p.Shadow != nil && p.Ops != nil {
		errs = append(errs,
			tel.Observe("banyan.findings.open", func(ctx context.Context) []telemetry.Value { return openFindings(ctx, p.Ops) }),
			tel.Observe("banyan.cutover.gate.state", func(ctx context.Context) []telemetry.Value { return gates(ctx, p.Ops) }))
	}
	return errors.Join(errs...)
}

// openFindings counts; a ledger that does not answer tells nothing.
func openFindings(ctx context.Context, o *role.Ops) []telemetry.Value {
	all, err := o.Findings(ctx, "", []string{"open", "reopened"})
	if err != nil {
		return nil
	}
	at := map[string]int{}
	var out []telemetry.Value
	for _, f := range all {
		labels := []string{string(f.Migration), f.Comparison, f.Class, f.Cause}
		k := strings.Join(labels, "\x00")
		if i, ok := at[k]; ok {
			out[i].N++
			continue
		}
		at[k] = len(out)
		out = append(out, telemetry.Value{N: 1, Labels: labels})
	}
	return out
}

// gates asks those of each migration's next stage.
func gates(ctx context.Context, o *role.Ops) []telemetry.Value {
	infos, err := o.Stages(ctx)
	if err != nil {
		return nil
	}
	next := map[stage.Stage]stage.State{stage.Off: {Stage: stage.DualWrite}, stage.DualWrite: {Stage: stage.Shadow},
		stage.Shadow: {Stage: stage.Live, Share: stage.Share{Percent: 1}}, stage.Live: {Stage: stage.Live, Share: stage.Share{Percent: 100}}}
	var out []telemetry.Value
	for _, i := range infos {
		to := next[i.Stage]
		if !stage.Forward(i.State, to) {
			continue
		}
		for _, g := range o.Outlook(ctx, i.Migration, to) {
			v := map[ledger.Result]float64{ledger.Pass: 1, ledger.Fail: 0, ledger.Inconclusive: -1}[g.Result]
			out = append(out, telemetry.Value{N: v, Labels: []string{string(i.Migration), string(to.Stage), g.Name}})
		}
	}
	return out
}
