package role

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"banyan/cmd/internal/config"
	"banyan/legacyadapter/changelog"
	"banyan/proxy/control"
	"banyan/proxy/event"
	"banyan/shadow/contract"
	"banyan/shadow/dispatch"
	"banyan/shadow/ledger"
	"banyan/shadow/project"
	"banyan/shadow/readmodel"
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
	Models    map[event.Migration]*Model
	Contracts *contract.Registry

	mu     sync.Mutex // guards Ledger, which comes up in the background
	ledger *ledger.Ledger

	follow *control.Follower
	topics chan struct{} // closed once all topics are there
	cancel context.CancelFunc
	wg     sync.WaitGroup
	stops  []func() // in order of start
	stopMu sync.Mutex
}

// Model is one migration's read model, with what feeds it.
type Model struct {
	Translator *translate.Translator // or
	Dispatcher *dispatch.Dispatcher
	Projector  *project.Projector
	Postgres   *readmodel.Postgres
}

// StartShadow checks everything that can be checked without connecting, and starts each part in the background: what is
// down is waited for.
func StartShadow(ctx context.Context, f *config.File, o Options) (*Shadow, error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &Shadow{f: f, o: o, cancel: cancel, topics: make(chan struct{}), Models: map[event.Migration]*Model{}}
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
		if err := s.startModel(ctx, name, s.f.Migrations[name]); err != nil {
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
		for _, name := range s.f.Names() {
			restarted, err := l.SetFingerprint(ctx, name, s.f.Fingerprint(s.o.Build))
			if err != nil {
				return err
			}
			if restarted {
				s.o.Log.Info("evidence starts anew: config, rules, contracts, mappings or the build changed", "migration", name)
			}
			if err := l.Declare(ctx, name, declared(s.f.Migrations[name])); err != nil {
				return err
			}
		}
		return nil
	}, func() {})
}

// projector is nil until its databases are there.
func (s *Shadow) projector(m event.Migration) *project.Projector {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Models[m].Projector
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

func (s *Shadow) startModel(ctx context.Context, name event.Migration, m config.Migration) error {
	rules, err := translate.Compile(m.Translate(name), s.Contracts)
	if err != nil {
		return err
	}
	model := &Model{}
	s.Models[name] = model
	if m.Dispatch == "" {
		model.Translator = translate.New(rules, s.f.Kafka, s.o.Log)
		s.later(ctx, "translate "+string(name), model.Translator.Start, model.Translator.Stop)
	} else {
		model.Dispatcher, err = dispatch.New(dispatch.Config{Kafka: s.f.Kafka, Migration: name, Generation: 1, URL: m.Dispatch, Rules: rules, Log: s.o.Log})
		if err != nil {
			return err
		}
		s.later(ctx, "dispatch "+string(name), model.Dispatcher.Start, model.Dispatcher.Stop)
	}
	if m.ReadModel == nil {
		return nil
	}
	if err := s.startProjection(ctx, name, m, model); err != nil {
		return err
	}
	return s.startCompare(ctx, name, m)
}

func (s *Shadow) startProjection(ctx context.Context, name event.Migration, m config.Migration, model *Model) error {
	rm := m.ReadModel
	ddl := ""
	if rm.Schema != "" {
		b, err := os.ReadFile(s.f.Path(rm.Schema))
		if err != nil {
			return fmt.Errorf("read_model.schema: %w", err)
		}
		ddl = string(b)
	}
	var err error
	model.Postgres, err = readmodel.OpenPostgres(ctx, readmodel.PostgresConfig{URL: rm.Postgres, Schema: readmodel.Schema(name, 1), DDL: ddl})
	if err != nil {
		return err
	}
	s.onStop(model.Postgres.Close)
	cfg := project.Config{Kafka: s.f.Kafka, Migration: name, Generation: 1, OrderBy: m.OrderBy, Files: os.DirFS(filepath.Clean(s.f.Path("."))), Contracts: s.Contracts,
		Log: s.o.Log, On: rm.On, Documents: rm.Documents, Batch: rm.Batch}
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("read_model: %w", err)
	}
	s.later(ctx, "projection of "+string(name), func(ctx context.Context) error {
		var redis *readmodel.Redis
		if rm.Redis != "" {
			if redis, err = readmodel.OpenRedis(readmodel.RedisConfig{URL: rm.Redis, Prefix: s.f.Kafka.Prefix, Migration: name, Generation: 1}); err != nil {
				return err
			}
		}
		p, err := project.New(cfg, model.Postgres, redis)
		if err == nil {
			err = p.Start(ctx)
		}
		if err != nil {
			if redis != nil {
				redis.Close()
			}
			return err
		}
		s.mu.Lock()
		model.Projector = p
		s.mu.Unlock()
		s.onStop(func() {
			p.Stop()
			if redis != nil {
				redis.Close()
			}
		})
		return nil
	}, func() {})
	return nil
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
