package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"banyan/cmd/internal/telemetry"
	"banyan/legacyadapter/fastcgi"
	"banyan/proxy"
	"banyan/proxy/admin"
	"banyan/proxy/certs"
	"banyan/proxy/upstream"

	"github.com/spf13/cobra"
)

// passthrough is the proxy of somebody who has configured nothing.
type passthrough struct {
	listen, legacy   string
	root             string // of the site, when legacy is a php-fpm
	frontController  bool
	trusted          []string
	drain            time.Duration
	level            string
	admin, tokenFile string // of the admin listener; none for ""
	cert, key        string // of HTTPS; none for ""
}

func (a *app) logFlags(c *cobra.Command, level *string) {
	c.Flags().StringVar(level, "log-level", "info", "debug, info, warn or error")
}

func (a *app) log(level string) (*slog.Logger, error) {
	l, err := telemetry.ParseLevel(level)
	if err != nil {
		return nil, usage("--%w", err)
	}
	return telemetry.NewLog(a.stderr, l), nil
}

// ranges reads --trusted-proxy; a single address is a range of one.
func (p *passthrough) ranges() ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, s := range p.trusted {
		r, err := netip.ParsePrefix(s)
		if addr, e := netip.ParseAddr(s); e == nil {
			r, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil {
			return nil, usage("--trusted-proxy %q: want an address range such as 10.0.0.0/8", s)
		}
		out = append(out, r)
	}
	return out, nil
}

func (p *passthrough) check() (proxy.Config, error) {
	switch {
	case p.legacy == "":
		return proxy.Config{}, usage("where is legacy? Give its address, or a configuration:\n  banyan proxy --listen :8080 --legacy http://127.0.0.1:80\n  banyan proxy -c banyan.yaml")
	case p.listen == "":
		return proxy.Config{}, usage("where to listen? For example: banyan proxy --listen :8080 --legacy %s", p.legacy)
	case p.admin != "" && p.tokenFile == "":
		return proxy.Config{}, usage("--admin needs --token-file: who reads metrics shows that token; the file is made if it is not there")
	case (p.cert == "") != (p.key == ""):
		return proxy.Config{}, usage("--tls-cert and --tls-key go together")
	case p.drain < 0:
		return proxy.Config{}, usage("--drain %v: want 0 or more", p.drain)
	}
	trusted, err := p.ranges()
	return proxy.Config{TrustedProxies: trusted}, err
}

// pool is legacy's connections.
type pool interface {
	upstream.Upstream
	Stats() upstream.Stats
	Close()
}

// open makes the upstream that --legacy means.
func (p *passthrough) open(log *slog.Logger) (pool, error) {
	address, isFastCGI := strings.CutPrefix(p.legacy, "fastcgi:")
	if !isFastCGI {
		if p.root != "" || p.frontController {
			return nil, usage("--root and --front-controller belong to a php-fpm: --legacy fastcgi:unix:/path/to/php-fpm.sock")
		}
		u, err := upstream.New(upstream.Config{Name: "legacy", URL: p.legacy})
		if err != nil {
			return nil, usage("--legacy %s", strings.TrimPrefix(err.Error(), "url: "))
		}
		return u, nil
	}
	if p.root == "" {
		return nil, usage("where is the site? For example: banyan proxy --listen %s --legacy %s --root /srv/game/public", p.listen, p.legacy)
	}
	root, err := filepath.Abs(p.root)
	if err != nil {
		return nil, usage("--root: %w", err)
	}
	c := fastcgi.Config{Name: "legacy", Address: address, Root: root, FrontController: p.frontController, Log: log}
	u, err := fastcgi.New(c)
	if err != nil {
		return nil, usage("--legacy fastcgi:…: %w", err)
	}
	if err := c.Look(); err != nil {
		log.Warn("legacy cannot be served as it is", "error", err)
	}
	return u, nil
}

// passthrough serves until ctx ends, and then drains.
func (a *app) passthrough(ctx context.Context, p passthrough) error {
	cfg, err := p.check()
	if err != nil {
		return err
	}
	log, err := a.log(p.level)
	if err != nil {
		return err
	}
	pool, err := p.open(log)
	if err != nil {
		return err
	}
	defer pool.Close()
	tel, err := telemetry.New(ctx, telemetry.Config{Service: "banyan-proxy", Version: readBuild().Version, Instance: p.listen, Log: log})
	if err != nil {
		return usage("%w", err)
	}
	h := &proxy.Passthrough{Upstream: pool, Options: proxy.ForwardOptions{Upgrade: []string{"websocket"}}}
	s, err := proxy.NewServer(cfg, tel.Requests.Active(h), tel.Requests, log)
	if err != nil {
		return err
	}
	life, err := newLife(log)
	if err != nil {
		return err
	}
	defer life.end()
	ops, err := p.operate(ctx, tel, s, pool, life, log)
	if err != nil {
		return err
	}
	defer stopAdmin(ops)
	l, err := life.set.Listen("proxy", p.listen, proxy.Listen)
	if err != nil {
		return usage("%w", err)
	}
	where := address(l.Addr())
	if p.cert != "" {
		if l, err = p.overTLS(ctx, l, log); err != nil {
			return usage("%w", err)
		}
		where = strings.Replace(where, "http://", "https://", 1)
	}
	fmt.Fprintf(a.stdout, "banyan listens on %s and forwards everything to %s\n", where, p.legacy)
	if ops != nil {
		fmt.Fprintf(a.stdout, "admin listener on %s, token in %s\n", address(ops.Addr()), p.tokenFile)
	}
	if err := reachable(ctx, pool); err != nil {
		log.Warn("legacy does not answer: clients get a 502 until it does", "error", err)
	}
	return serve(ctx, s, l, life, ops, p.drain, log)
}

// overTLS makes l a listener for HTTPS.
func (p *passthrough) overTLS(ctx context.Context, l net.Listener, log *slog.Logger) (net.Listener, error) {
	store, err := certs.New(certs.Config{Pairs: []certs.Pair{{Cert: p.cert, Key: p.key}}}, log)
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("--tls-cert, --tls-key: %w", err)
	}
	go store.Watch(ctx) // ends with the process's drain
	return tls.NewListener(l, store.Config()), nil
}

// operate starts the admin listener, if one is asked for: health, readiness, metrics.
func (p *passthrough) operate(ctx context.Context, tel *telemetry.Provider, s *proxy.Server, pool pool, life *life, log *slog.Logger) (*admin.Server, error) {
	if p.admin == "" {
		return nil, nil
	}
	err := tel.ObserveProxy(telemetry.Sources{Server: s.Stats, Upstreams: func() map[string]upstream.Stats { return map[string]upstream.Stats{pool.Name(): pool.Stats()} }})
	if err != nil {
		return nil, err
	}
	token, _, err := admin.EnsureToken(p.tokenFile)
	if err != nil {
		return nil, usage("--token-file: %w", err)
	}
	ops, err := admin.New(admin.Config{Listen: p.admin, Open: func(open func(string) (net.Listener, error)) (net.Listener, error) {
		return life.set.Listen("admin", p.admin, open)
	}, Tokens: admin.Tokens{Operator: token}, Metrics: tel.Metrics(), Log: log})
	if err == nil {
		err = ops.Start(ctx)
	}
	if err != nil {
		return nil, usage("%w", err)
	}
	return ops, nil
}

func stopAdmin(ops *admin.Server) {
	if ops == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = ops.Stop(ctx) // who still reads metrics of a process that ends is cut off
}

// serve runs a server until ctx ends, then drains it.
func serve(ctx context.Context, s *proxy.Server, l net.Listener, life *life, ops *admin.Server, drain time.Duration, log *slog.Logger) error {
	failed := make(chan error, 1)
	go func() { failed <- s.Serve(l) }() // ends with the listener, which Shutdown closes
	succeeded, err := life.serving(ctx, failed, func() {
		log.Warn("SIGHUP reads a configuration again, and there is none: this process was started with --legacy")
	}, s.Rest)
	if err != nil {
		return err
	}
	if succeeded {
		stopAdmin(ops) // its address is the successor's now
	}
	log.Info("draining: requests under way end, no others are taken", "connections", s.Stats().Conns, "at_most", drain)
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), drain, errors.New("the drain took too long; --drain bounds it"))
	defer cancel()
	err = s.Shutdown(ctx)
	<-failed
	if err != nil {
		return no("%w", err)
	}
	log.Info("drained")
	return nil
}

// reachable tries one connection. A php-fpm was looked at already.
func reachable(ctx context.Context, u pool) error {
	if _, front := u.(upstream.Front); front || ctx.Err() != nil {
		return nil
	}
	c, err := u.Get(upstream.Timeouts{Dial: time.Second}, false)
	if err != nil {
		return err
	}
	c.Abort()
	return nil
}

// address is where something listens, as a person types it.
func address(a net.Addr) string {
	if a.Network() == "unix" {
		return "unix:" + a.String()
	}
	host, port, err := net.SplitHostPort(a.String())
	if err == nil && net.ParseIP(host).IsUnspecified() {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port)
}
