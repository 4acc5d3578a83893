package role

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"banyan/cmd/internal/config"
	"banyan/legacyadapter/fastcgi"
	"banyan/legacyadapter/php"
	"banyan/proxy"
	"banyan/proxy/certs"
	"banyan/proxy/control"
	"banyan/proxy/event"
	"banyan/proxy/expr"
	"banyan/proxy/journal"
	"banyan/proxy/kafka"
	"banyan/proxy/migrate"
	"banyan/proxy/mirror"
	"banyan/proxy/pairs"
	"banyan/proxy/pending"
	"banyan/proxy/redact"
	"banyan/proxy/route"
	"banyan/proxy/session"
	"banyan/proxy/stage"
	"banyan/proxy/upstream"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Proxy is the request path of one process.
type Proxy struct {
	f   *config.File
	o   Options
	Srv *proxy.Server
	ln  net.Listener
	tls net.Listener // nil without proxy.tls

	Handler  *migrate.Handler
	Journal  *journal.Journal
	Mirror   *mirror.Mirror
	Follower *control.Follower
	Beacon   *control.Beacon
	Tracker  *pending.Tracker
	Pairs    *pairs.Pairs

	backends map[string]*backend
	copies   []*fastcgi.Upstream // of legacy, for copies of reads
	producer *kgo.Client         // of pairs and tallies
	cancel   context.CancelFunc
	wg       sync.WaitGroup
	served   chan error
}

// StartProxy opens the port and serves; everything else comes up behind it.
func StartProxy(ctx context.Context, f *config.File, o Options) (*Proxy, error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p := &Proxy{f: f, o: o, backends: map[string]*backend{}, cancel: cancel, served: make(chan error, 2)}
	if err := p.start(ctx); err != nil {
		p.closeAll()
		return nil, err
	}
	return p, nil
}

func (p *Proxy) start(ctx context.Context) error {
	if err := p.openBackends(ctx); err != nil {
		return err
	}
	if len(p.f.Migrations) > 0 {
		if err := p.openRecording(ctx); err != nil {
			return err
		}
	}
	h, err := p.handler()
	if err != nil {
		return err
	}
	p.Handler = h
	cfg := proxy.Config{MaxHead: int(p.f.Proxy.Limits.Head), MaxBody: int64(p.f.Proxy.Limits.Body), MaxConns: p.f.Proxy.Limits.Connections, MaxStreams: p.f.Proxy.Limits.Streams,
		HeaderTimeout: p.f.Proxy.Limits.HeaderTimeout, IdleTimeout: p.f.Proxy.Limits.IdleTimeout, MaxConnsPerClient: p.f.Proxy.Limits.ConnectionsPerClient,
		MaxBuffered: int64(p.f.Proxy.Limits.Buffered), MinBodyRate: int(*p.f.Proxy.Limits.BodyRate), BodyTimeout: p.f.Proxy.Limits.BodyTimeout, WriteTimeout: p.f.Proxy.Limits.WriteTimeout}
	if cfg.TrustedProxies, err = prefixes("trusted_proxies", p.f.Proxy.TrustedProxies); err != nil {
		return err
	}
	if cfg.ProxyProtocol, err = prefixes("proxy_protocol", p.f.Proxy.ProxyProtocol); err != nil {
		return err
	}
	if p.Srv, err = proxy.NewServer(cfg, h, p.o.Observer, p.o.Log); err != nil {
		return err
	}
	if err := p.openTLS(ctx); err != nil {
		return err
	}
	if p.ln, err = p.o.listen("proxy", p.f.Proxy.Listen, proxy.Listen); err != nil {
		if p.tls != nil {
			p.tls.Close()
		}
		return err
	}
	if p.tls != nil {
		p.wg.Go(func() { p.served <- p.Srv.Serve(p.tls) })
	}
	p.wg.Go(func() { p.served <- p.Srv.Serve(p.ln) })
	if len(p.f.Migrations) > 0 {
		p.startRecording(ctx)
	}
	return nil
}

func prefixes(field string, list []string) (out []netip.Prefix, err error) {
	for _, c := range list {
		prefix, err := netip.ParsePrefix(c)
		if err != nil {
			return nil, fmt.Errorf("proxy.%s: %w", field, err)
		}
		out = append(out, prefix)
	}
	return out, nil
}

// openTLS opens the listener for HTTPS, if there is to be one.
func (p *Proxy) openTLS(ctx context.Context) error {
	if p.f.Proxy.TLS == nil {
		return nil
	}
	store, err := certs.New(p.f.Certs(), p.o.Log)
	if err != nil {
		return fmt.Errorf("proxy.tls: %w", err)
	}
	l, err := p.o.listen("tls", p.f.Proxy.TLS.Listen, proxy.Listen)
	if err != nil {
		return err
	}
	p.tls = tls.NewListener(l, store.Config())
	p.wg.Go(func() { store.Watch(ctx) })
	return nil
}

// Addr is where the proxy listens.
func (p *Proxy) Addr() net.Addr { return p.ln.Addr() }

// sides are where a migration's copies of reads go. Those to a php-fpm have one connection, so that they never take all
// of its children from the clients.
func (p *Proxy) sides(m config.Migration) (pairs.Sides, error) {
	s := pairs.Sides{Legacy: p.backends[m.Legacy].where, Candidate: p.backends[m.Candidate].where}
	legacy := p.f.Upstreams[m.Legacy]
	if legacy.FastCGI == nil {
		return s, nil
	}
	c := p.fastCGI(m.Legacy, legacy)
	c.MaxConns = 1
	u, err := fastcgi.New(c)
	if err != nil {
		return s, fmt.Errorf("upstream %s: %w", m.Legacy, err)
	}
	p.copies = append(p.copies, u)
	s.LegacyVia = u
	return s, nil
}

// openRecording opens what writes and flips need, without connecting to anything.
func (p *Proxy) openRecording(ctx context.Context) error {
	c := p.f.Proxy
	dir := p.f.Path(c.Journal.Dir)
	var err error
	p.Journal, err = journal.Open(journal.Config{Dir: dir, Quota: int64(c.Journal.Quota), MaxRecord: int(c.Limits.Inline) + 64<<10, Synced: p.o.Synced, Log: p.o.Log})
	if err != nil {
		return err
	}
	replica := event.Replica(c.Replica)
	p.Mirror, err = mirror.New(mirror.Config{Journal: p.Journal, Replica: replica, Kafka: p.f.Kafka, MaxExecution: p.f.Upstreams["legacy"].MaxExecution, Log: p.o.Log})
	if err != nil {
		return err
	}
	p.Tracker = pending.New(p.f.Kafka.Partitions, p.o.Log)
	p.Tracker.Read(p.generations)
	p.Beacon, err = control.NewBeacon(p.f.Kafka, p.o.Log, replica, event.Epoch(p.Journal.Epoch()), c.Listen, p.states)
	if err != nil {
		return err
	}
	p.Follower, err = control.Follow(ctx, control.FollowerConfig{Kafka: p.f.Kafka, Log: p.o.Log, File: filepath.Join(dir, "stages.json"),
		Obey: func(map[event.Migration]stage.State) { p.Beacon.Wake() }})
	if err != nil {
		return err
	}
	if p.producer, err = p.f.Kafka.Producer("banyan-pairs", kgo.MaxBufferedRecords(2000), kgo.MaxBufferedBytes(64<<20)); err != nil {
		return err
	}
	sides := map[event.Migration]pairs.Sides{}
	for name, m := range p.f.Migrations {
		if sides[name], err = p.sides(m); err != nil {
			return err
		}
	}
	p.Pairs = pairs.New(pairs.Config{Replica: replica, Epoch: event.Epoch(p.Journal.Epoch()), Fingerprint: p.f.Fingerprint(p.o.Build),
		Generation: func(m event.Migration) int { return p.Follower.State(m).Current() },
		ClockError: p.f.Settle.MaxClockError, Model: p.Tracker, Sides: sides, Publish: p.publish})
	return nil
}

// states is what the follower obeys; the follower may not be there yet while the beacon is being made.
func (p *Proxy) states() map[event.Migration]stage.State {
	if p.Follower == nil {
		return nil
	}
	return p.Follower.States()
}

// unread is no generation at all: nothing is known to hold anything.
var unread = []int{0}

// generations are those that readers may be using. Until the control log was read, what the disk says of them may be old.
func (p *Proxy) generations(m event.Migration) []int {
	select {
	case <-p.Follower.Ready():
		return p.Follower.State(m).Read()
	default:
		return unread
	}
}

// publish hands a pair or tally to Kafka without waiting for it.
func (p *Proxy) publish(k event.Kind, key event.OrderingKey, value []byte) bool {
	ok := atomic.Bool{}
	ok.Store(true)
	r := kafka.Record(p.f.Kafka.Topics().Pairs(), event.Partition(key, p.f.Kafka.Partitions), k, string(key), value)
	p.producer.TryProduce(context.Background(), r, func(_ *kgo.Record, err error) {
		if err != nil {
			ok.Store(false) // the buffer is full: known at once; later failures are a hole that the tally shows
		}
	})
	return ok.Load()
}

func (p *Proxy) startRecording(ctx context.Context) {
	_ = p.Mirror.Start(ctx) // Kafka need not be there
	p.Beacon.Start(ctx)
	p.Pairs.Start(ctx)
	p.wg.Go(func() { // a consumer of a topic that is not there yet may look for it only minutes later
		if keep(ctx, p.o.Log, "kafka topics", func(ctx context.Context) error { return ensureTopics(ctx, p.f) }) {
			keep(ctx, p.o.Log, "progress of read models", func(ctx context.Context) error { return p.Tracker.Start(ctx, p.f.Kafka) })
		}
	})
}

// ensureTopics creates what is missing, the event topics of every migration included.
func ensureTopics(ctx context.Context, f *config.File) error { return makeTopics(ctx, f, topics(f)...) }

func makeTopics(ctx context.Context, f *config.File, topics ...kafka.Topic) error {
	cl, err := f.Kafka.Client("banyan-topics")
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return f.Kafka.EnsureTopics(ctx, cl, topics...)
}

// handler builds the table of routes and what each migration does with them.
func (p *Proxy) handler() (*migrate.Handler, error) {
	canon, err := p.f.Canonicalizer()
	if err != nil {
		return nil, fmt.Errorf("upstreams.legacy: %w", err)
	}
	table, err := route.Compile(p.f.RouteList(), php.Params{}, canon)
	if err != nil {
		return nil, err
	}
	key, err := p.hashKey()
	if err != nil {
		return nil, err
	}
	red, err := redact.New(p.f.Proxy.Redact, key)
	if err != nil {
		return nil, err
	}
	c := &migrate.Config{Table: table, Legacy: p.backends["legacy"].Upstream, Upstreams: map[string]upstream.Upstream{}, Migrations: map[event.Migration]*migrate.Migration{},
		Sessions: migrate.Sessions{Cookie: p.f.Proxy.Sessions.Cookie, Player: p.f.Proxy.Sessions.Player, Players: session.NewPlayers(100_000)},
		Journal:  p.Journal, Replica: event.Replica(p.f.Proxy.Replica), Redact: red, Inline: int(p.f.Proxy.Limits.Inline), Tracer: p.o.Tracer, Log: p.o.Log}
	if p.f.Proxy.Journal.Ack == "memory" {
		c.Ack = journal.AckMemory
	}
	for _, r := range p.f.Routes {
		c.Upstreams[r.Name] = p.backends[r.To].Upstream
	}
	if p.Follower != nil {
		c.States, c.Leased, c.Model, c.Copies = p.Follower.State, p.Beacon.Leased, p.Tracker, p.Pairs
		c.ClockError = p.f.Settle.WithDefaults().MaxClockError
	}
	for _, name := range p.f.Names() {
		if c.Migrations[name], err = p.migration(name, p.f.Migrations[name]); err != nil {
			return nil, fmt.Errorf("migration %s: %w", name, err)
		}
	}
	return migrate.New(c)
}

func (p *Proxy) migration(name event.Migration, m config.Migration) (*migrate.Migration, error) {
	key, err := expr.ParseTemplate(m.OrderBy)
	if err != nil {
		return nil, err
	}
	out := &migrate.Migration{Name: name, Key: key, FailClosed: m.WhenFull == "fail_closed", Writes: map[string]*migrate.WriteRoute{}, Reads: map[string]*migrate.ReadRoute{}}
	if b, ok := p.backends[m.Candidate]; ok {
		out.Candidate, out.Allow = b.Upstream, b.allow
	}
	for _, w := range m.Writes {
		applied, err := expr.CompileBool(w.Applied, config.AnswerEnv())
		if err != nil {
			return nil, err
		}
		out.Writes[w.Name] = &migrate.WriteRoute{Applied: applied, NeedBody: strings.Contains(w.Applied, "body") || strings.Contains(w.Applied, "json")}
	}
	for _, r := range m.Reads {
		if r.CandidatePath == "" {
			continue
		}
		target, err := expr.ParseTemplate(r.CandidatePath)
		if err != nil {
			return nil, err
		}
		out.Reads[r.Name] = &migrate.ReadRoute{CandidateTarget: target, Repeatable: r.Repeatable, Wait: r.Wait}
	}
	return out, nil
}

// hashKey is configured, or kept in a file of the journal's directory.
func (p *Proxy) hashKey() ([]byte, error) {
	if p.f.Proxy.HashKey != "" || p.Journal == nil {
		return []byte(p.f.Proxy.HashKey), nil
	}
	file := filepath.Join(p.f.Path(p.f.Proxy.Journal.Dir), "hash.key")
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		var raw [32]byte
		_, _ = rand.Read(raw[:]) // never fails
		b = []byte(hex.EncodeToString(raw[:]))
		err = os.WriteFile(file, b, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("proxy.hash_key: %w", err)
	}
	return b, nil
}

// Failed is told when the server ends by itself.
func (p *Proxy) Failed() <-chan error { return p.served }

// Stop drains: clients first, then the journal, then the mirror. What Kafka does not take in time stays in the journal
// for the next start.
func (p *Proxy) Stop(ctx context.Context) error {
	err := p.Srv.Shutdown(ctx)
	if p.Pairs != nil {
		p.Pairs.Stop()
	}
	if p.Journal != nil {
		err = errors.Join(err, p.Journal.Seal(ctx))
		if e := p.Mirror.Drain(ctx); e != nil {
			p.o.Log.Warn("not everything is in Kafka yet; the next start ships it", "error", e)
		}
	}
	if p.Beacon != nil {
		p.Beacon.Stop()
	}
	p.closeAll()
	return err
}

func (p *Proxy) closeAll() {
	p.cancel()
	if p.Mirror != nil {
		p.Mirror.Stop()
	}
	if p.Follower != nil {
		p.Follower.Stop()
	}
	p.wg.Wait()
	if p.producer != nil {
		p.producer.Close()
	}
	if p.Journal != nil {
		for _, g := range p.Journal.Adopted() {
			_ = g.Close() // shipped by the mirror, or left to the next start
		}
		_ = p.Journal.Close()
	}
	for _, b := range p.backends {
		b.close()
	}
	for _, pool := range p.copies {
		pool.Close()
	}
}
