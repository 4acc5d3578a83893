package role

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"banyan/cmd/internal/config"
	"banyan/legacyadapter/changelog"
	"banyan/proxy/control"
	"banyan/proxy/event"
	"banyan/shadow/contract"
	"banyan/shadow/dispatch"
	"banyan/shadow/ledger"
	"banyan/shadow/settle"
	"banyan/shadow/translate"
)

// Shadow is everything off the request path.
type Shadow struct {
	f *config.File
	o Options

	Source    changelog.Source
	Publisher *changelog.Publisher
	Settle    *settle.Service
	Contracts *contract.Registry

	feeds map[event.Migration]*feed // never changed after the start

	mu     sync.Mutex // guards Ledger, which comes up in the background
	ledger *ledger.Ledger

	follow *control.Follower
	topics chan struct{} // closed once all topics are there
	cancel context.CancelFunc
	wg     sync.WaitGroup
	stops  []func() // in order of start
	stopMu sync.Mutex
}

// StartShadow checks everything that can be checked without connecting, and starts each part in the background: what is
// down is waited for.
func StartShadow(ctx context.Context, f *config.File, o Options) (*Shadow, error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &Shadow{f: f, o: o, cancel: cancel, topics: make(chan struct{}), feeds: map[event.Migration]*feed{}}
	for _, name := range f.Names() {
		s.feeds[name] = &feed{fed: map[int]*Model{}, changed: make(chan struct{})}
	}
	if err := s.start(ctx); err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

func (s *Shadow) start(ctx context.Context) error {
	if len(s.f.Migrations) == 0 {
		return errors.New("no migrations are declared: there is nothing to shadow")
	}
	s.wg.Go(func() {
		if keep(ctx, s.o.Log, "kafka topics", func(ctx context.Context) error { return ensureTopics(ctx, s.f) }) {
			close(s.topics)
		}
	})
	var err error
	if s.follow, err = control.Follow(ctx, control.FollowerConfig{Kafka: s.f.Kafka, Log: slog.New(slog.DiscardHandler)}); err != nil {
		return err
	}
	s.onStop(s.follow.Stop)
	if s.Contracts, err = loadContracts(s.f); err != nil {
		return err
	}
	if err := s.startLedger(ctx); err != nil {
		return err
	}
	if err := s.startChangelog(ctx); err != nil {
		return err
	}
	if err := s.startSettle(ctx); err != nil {
		return err
	}
	for _, name := range s.f.Names() {
		if err := s.startMigration(ctx, name, s.f.Migrations[name]); err != nil {
			return fmt.Errorf("migration %s: %w", name, err)
		}
	}
	return nil
}

func loadContracts(f *config.File) (*contract.Registry, error) {
	if f.Contracts == "" {
		return nil, errors.New("contracts: no directory given: events are held to their JSON Schemas")
	}
	return contract.Load(os.DirFS(f.Path(f.Contracts)))
}

// later starts a part once the topics and what it needs are there, and remembers how to stop it.
func (s *Shadow) later(ctx context.Context, what string, start func(context.Context) error, stop func()) {
	s.wg.Go(func() {
		select {
		case <-s.topics:
		case <-ctx.Done():
			return
		}
		if keep(ctx, s.o.Log, what, start) {
			s.onStop(stop)
		}
	})
}

func (s *Shadow) onStop(stop func()) {
	s.stopMu.Lock()
	defer s.stopMu.Unlock()
	s.stops = append(s.stops, stop)
}

func (s *Shadow) startLedger(ctx context.Context) error {
	if s.f.Ledger.Postgres == "" {
		return errors.New("ledger.postgres: none given: findings, evidence and backfills need it")
	}
	s.later(ctx, "ledger", func(ctx context.Context) error {
		l, err := ledger.Open(ctx, ledger.Config{URL: s.f.Ledger.Postgres})
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.ledger = l
		s.mu.Unlock()
		return nil
	}, func() { s.Ledger().Close() })
	return nil
}

// Ledger is nil until its database is there.
func (s *Shadow) Ledger() *ledger.Ledger {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ledger
}

// judgeWith binds the ledger to this config, and its gates to what ops can answer.
func (s *Shadow) judgeWith(ctx context.Context, o *Ops) {
	s.later(ctx, "evidence", func(ctx context.Context) error {
		l := s.Ledger()
		if l == nil {
			return errNoLedger
		}
		l.UseGates(o.gates())
		select {
		case <-s.follow.Ready():
		case <-ctx.Done():
			return ctx.Err()
		}
		for _, name := range s.f.Names() {
			if err := s.bind(ctx, l, name, s.follow.State(name).Current()); err != nil {
				return err
			}
			if err := l.Declare(ctx, name, declared(s.f.Migrations[name])); err != nil {
				return err
			}
		}
		return nil
	}, func() {})
}

// bind lets evidence count that belongs to this config and generation, and no other.
func (s *Shadow) bind(ctx context.Context, l *ledger.Ledger, name event.Migration, g int) error {
	restarted, err := l.SetFingerprint(ctx, name, fingerprint(s.f, s.o.Build, g))
	if restarted {
		s.o.Log.Info("evidence starts anew: config, rules, contracts, mappings, the build or the generation changed", "migration", name, "generation", g)
	}
	return err
}

// checkpoints keeps backfills resumable in the ledger.
type checkpoints struct{ s *Shadow }

var errNoLedger = errors.New("the ledger's database is not there yet; try again")

func (c checkpoints) Load(ctx context.Context, name string) ([]byte, error) {
	l := c.s.Ledger()
	if l == nil {
		return nil, errNoLedger
	}
	return l.Load(ctx, name)
}

func (c checkpoints) Save(ctx context.Context, name string, state []byte) error {
	l := c.s.Ledger()
	if l == nil {
		return errNoLedger
	}
	return l.Save(ctx, name, state)
}

func (s *Shadow) startChangelog(ctx context.Context) error {
	maps, err := mappings(s.f)
	if err != nil {
		return err
	}
	if s.Source, err = source(s.f, s.o.Log); err != nil {
		return err
	}
	s.Publisher, err = changelog.New(changelog.Config{Kafka: s.f.Kafka, Mappings: maps, Checkpoints: checkpoints{s}}, s.Source, s.o.Log, nil)
	if err != nil {
		return err
	}
	s.wg.Go(func() {
		select {
		case <-s.topics:
		case <-ctx.Done():
			return
		}
		if err := s.Publisher.Run(ctx); err != nil && ctx.Err() == nil {
			s.o.Log.Error("the change log reader has stopped: read models stand still, legacy serves on; start again once it is mended", "error", err)
		}
	})
	return nil
}

func (s *Shadow) startSettle(ctx context.Context) error {
	c := s.f.Settle
	if s.f.LegacyDB.Annotated {
		c.Claims = func(*event.Write, *event.Change) bool { return false }
	}
	var err error
	if s.Settle, err = settle.New(c, s.f.Kafka, s.o.Log, nil); err != nil {
		return err
	}
	s.later(ctx, "settle", s.Settle.Start, s.Settle.Stop)
	return nil
}

// startMigration tries the config out, and feeds the generations that the control log wants.
func (s *Shadow) startMigration(ctx context.Context, name event.Migration, m config.Migration) error {
	rules, err := translate.Compile(m.Translate(name), s.Contracts)
	if err != nil {
		return err
	}
	if m.Dispatch != "" {
		if err := (dispatch.Config{Kafka: s.f.Kafka, Migration: name, Generation: 1, URL: m.Dispatch, Rules: rules}).Validate(); err != nil {
			return err
		}
	}
	if m.ReadModel != nil {
		if _, err := s.projection(name, m, 1); err != nil {
			return err
		}
		pg, err := s.openPostgres(ctx, name, m, 1)
		if err != nil {
			return err
		}
		pg.Close()
	}
	s.wg.Go(func() { s.follows(ctx, name, m) })
	if m.ReadModel == nil {
		return nil
	}
	return s.startCompare(ctx, name, m)
}

// Backfill imports every mapped table of a migration.
func (s *Shadow) Backfill(ctx context.Context, name event.Migration, again bool, progress func(table string, p changelog.Progress)) error {
	m, ok := s.f.Migrations[name]
	if !ok {
		return fmt.Errorf("no migration is named %q", name)
	}
	for _, table := range legacyTables(s.f) {
		t, mapped := m.Rows[table]
		if !mapped || t.Import == nil {
			continue
		}
		err := s.Publisher.Backfill(ctx, changelog.BackfillRequest{Migration: name, Table: table, Again: again}, func(p changelog.Progress) {
			if progress != nil {
				progress(table, p)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Stop ends everything, the newest part first. What was not done is done by the next start.
func (s *Shadow) Stop() {
	s.cancel()
	s.wg.Wait()
	s.stopMu.Lock()
	stops := s.stops
	s.stops = nil
	s.stopMu.Unlock()
	for i := len(stops) - 1; i >= 0; i-- {
		stops[i]()
	}
	if c, ok := s.Source.(interface{ Close() error }); ok {
		_ = c.Close() // connections that nobody uses any more
	}
}
