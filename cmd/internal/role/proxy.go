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

	mu       sync.Mutex          // guards backends, once it serves, and held
	backends map[string]*backend // of the newest file; replaced whole
	held     map[closer]int      // connections to upstreams, with the number of tables that work with them
	players  *session.Players
	producer *kgo.Client // of pairs and tallies
	cancel   context.CancelFunc
	wg       sync.WaitGroup
	served   chan error
}

// StartProxy opens the port and serves; everything else comes up behind it.
func StartProxy(ctx context.Context, f *config.File, o Options) (*Proxy, error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p := &Proxy{f: f, o: o, held: map[closer]int{}, players: session.NewPlayers(100_000), cancel: cancel, served: make(chan error, 2)}
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
	table, err := p.table(p.f, p.backends)
	if err != nil {
		return err
	}
	if p.Handler, err = migrate.New(table); err != nil {
		return err
	}
	cfg, err := limits(p.f)
	if err != nil {
		return err
	}
	if p.Srv, err = proxy.NewServer(cfg, p.Handler, p.o.Observer, p.o.Log); err != nil {
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

// limits are the server's config.
func limits(f *config.File) (cfg proxy.Config, err error) {
	l := f.Proxy.Limits
	cfg = proxy.Config{MaxHead: int(l.Head), MaxBody: int64(l.Body), MaxConns: l.Connections, MaxStreams: l.Streams,
		HeaderTimeout: l.HeaderTimeout, IdleTimeout: l.IdleTimeout, MaxConnsPerClient: l.ConnectionsPerClient,
		MaxBuffered: int64(l.Buffered), MinBodyRate: int(*l.BodyRate), BodyTimeout: l.BodyTimeout, WriteTimeout: l.WriteTimeout,
		UpgradeTimeout: l.UpgradeTimeout}
	if cfg.TrustedProxies, err = prefixes("trusted_proxies", f.Proxy.TrustedProxies); err != nil {
		return cfg, err
	}
	if cfg.ProxyProtocol, err = prefixes("proxy_protocol", f.Proxy.ProxyProtocol); err != nil {
		return cfg, err
	}
	return cfg, cfg.Validate()
}

// sides are where migrations' copies of reads go.
func sides(f *config.File, backends map[string]*backend) map[event.Migration]pairs.Sides {
	out := map[event.Migration]pairs.Sides{}
	for name, m := range f.Migrations {
		s := pairs.Sides{Legacy: backends[m.Legacy].where, Candidate: backends[m.Candidate].where}
		if fpm := backends[m.Legacy].copies; fpm != nil {
			s.LegacyVia = fpm
		}
		out[name] = s
	}
	return out
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
	p.Mirror, err = mirror.New(mirror.Config{Journal: p.Journal, Replica: replica, Kafka: p.f.Kafka, MaxExecution: p.f.Upstreams["legacy"].MaxExecution,
		IdleMarkEvery: idleMarks(p.f), Records: p.records, Log: p.o.Log})
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
		Obey: func(map[event.Migration]stage.State) {
			p.Mirror.Wake() // before it is said that the flip is obeyed: marks are close again
			p.Beacon.Wake()
		}})
	if err != nil {
		return err
	}
	if p.producer, err = p.f.Kafka.Producer("banyan-pairs", kgo.MaxBufferedRecords(2000), kgo.MaxBufferedBytes(64<<20)); err != nil {
		return err
	}
	fingerprint := p.f.Fingerprint(p.o.Build)
	p.Beacon.Declare(fingerprint)
	p.Pairs = pairs.New(pairs.Config{Replica: replica, Epoch: event.Epoch(p.Journal.Epoch()), Fingerprint: fingerprint,
		Generation: func(m event.Migration) int { return p.Follower.State(m).Current() },
		ClockError: p.f.Settle.MaxClockError, Model: p.Tracker, Sides: sides(p.f, p.backends), Publish: p.publish})
	return nil
}

// states is what the follower obeys; the follower may not be there yet while the beacon is being made.
func (p *Proxy) states() map[event.Migration]stage.State {
	if p.Follower == nil {
		return nil
	}
	return p.Follower.States()
}

// records says whether a migration is at a stage at which its writes are recorded.
func (p *Proxy) records() bool {
	for _, s := range p.states() {
		if s.Stage.Writes() {
			return true
		}
	}
	return false
}

// idleMarks is how far apart marks may be while nothing is recorded: four fit into the time after which settle calls a
// proxy silent.
func idleMarks(f *config.File) time.Duration {
	return min(time.Second, f.Settle.WithDefaults().ReplicaWait/4)
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

// table is the routes of a file, and what each migration does with them. It works with its upstreams' connections until
// its last exchange has ended.
func (p *Proxy) table(f *config.File, backends map[string]*backend) (*migrate.Config, error) {
	canon, err := f.Canonicalizer()
	if err != nil {
		return nil, fmt.Errorf("upstreams.legacy: %w", err)
	}
	table, err := route.Compile(f.RouteList(), php.Params{}, canon)
	if err != nil {
		return nil, err
	}
	key, err := p.hashKey()
	if err != nil {
		return nil, err
	}
	red, err := redact.New(f.Proxy.Redact, key)
	if err != nil {
		return nil, err
	}
	c := &migrate.Config{Table: table, Legacy: backends["legacy"].Upstream, Plain: map[string]migrate.Plain{}, Migrations: map[event.Migration]*migrate.Migration{},
		Sessions: migrate.Sessions{Cookie: f.Proxy.Sessions.Cookie, Player: f.Proxy.Sessions.Player, Players: p.players},
		Journal:  p.Journal, Replica: event.Replica(p.f.Proxy.Replica), Redact: red, Inline: int(f.Proxy.Limits.Inline), Tracer: p.o.Tracer, Log: p.o.Log,
		Retired: func() { p.release(connectionsOf(backends)) }}
	if f.Proxy.Journal.Ack == "memory" {
		c.Ack = journal.AckMemory
	}
	for _, r := range f.Routes {
		c.Plain[r.Name] = migrate.Plain{To: backends[r.To].Upstream, Upgrade: r.Upgrade}
	}
	if p.Follower != nil {
		c.States, c.Leased, c.Model, c.Copies = p.Follower.State, p.Beacon.Leased, p.Tracker, p.Pairs.Under(f.Fingerprint(p.o.Build))
		c.ClockError = p.f.Settle.WithDefaults().MaxClockError
	}
	for _, name := range f.Names() {
		m := f.Migrations[name]
		if c.Migrations[name], err = migration(name, m, backends[m.Candidate]); err != nil {
			return nil, fmt.Errorf("migration %s: %w", name, err)
		}
	}
	return c, c.Validate()
}

func migration(name event.Migration, m config.Migration, candidate *backend) (*migrate.Migration, error) {
	key, err := expr.ParseTemplate(m.OrderBy)
	if err != nil {
		return nil, err
	}
	out := &migrate.Migration{Name: name, Key: key, FailClosed: m.WhenFull == "fail_closed", Writes: map[string]*migrate.WriteRoute{}, Reads: map[string]*migrate.ReadRoute{}}
	if candidate != nil {
		out.Candidate, out.Allow = candidate.Upstream, candidate.allow
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
// for the next start. Clients may take all of the time, as one with an open WebSocket does: the rest has two seconds.
func (p *Proxy) Stop(ctx context.Context) error {
	err := p.Srv.Shutdown(ctx)
	if ctx.Err() != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(context.WithoutCancel(ctx), 2*time.Second, context.Cause(ctx))
		defer cancel()
	}
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
	p.closeUpstreams()
}
