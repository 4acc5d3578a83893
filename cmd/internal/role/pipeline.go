package role

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"banyan/cmd/internal/config"
	"banyan/proxy/event"
	"banyan/proxy/kafka"
	"banyan/proxy/stage"
	"banyan/shadow/dispatch"
	"banyan/shadow/generation"
	"banyan/shadow/project"
	"banyan/shadow/readmodel"
	"banyan/shadow/translate"
)

// Model is one generation of a migration's read model, with what feeds it.
type Model struct {
	Generation int
	Translator *translate.Translator // or
	Dispatcher *dispatch.Dispatcher
	Postgres   *readmodel.Postgres // nil: the migration has no read model

	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu        sync.Mutex // guards the rest
	projector *project.Projector
	stops     []func() // in order of start
}

// Projector is nil until its databases are there.
func (m *Model) Projector() *project.Projector {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.projector
}

func (m *Model) onStop(stop func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stops = append(m.stops, stop)
}

// stop ends it, the newest part first. What was not done is done by the next start.
func (m *Model) stop() {
	m.cancel()
	m.wg.Wait()
	m.mu.Lock()
	stops := m.stops
	m.stops = nil
	m.mu.Unlock()
	for _, stop := range slices.Backward(stops) {
		stop()
	}
}

// feed is the generations of one migration that this process feeds.
type feed struct {
	mu      sync.Mutex // guards the rest
	fed     map[int]*Model
	current int           // 0: not known yet
	changed chan struct{} // closed and renewed when fed or current change
}

func (s *Shadow) feedOf(m event.Migration) *feed { return s.feeds[m] }

// Model is the current generation of a migration, nil until the control log was read.
func (s *Shadow) Model(m event.Migration) *Model {
	x := s.feedOf(m)
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.fed[x.current]
}

// fed are all generations of a migration that are fed here.
func (s *Shadow) fed(m event.Migration) []*Model {
	x := s.feedOf(m)
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Collect(maps.Values(x.fed))
}

// generation gives one that is fed, nil if it is not.
func (x *feed) generation(g int) *Model {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.fed[g]
}

// projector is nil until its databases are there.
func (s *Shadow) projector(m event.Migration) *project.Projector {
	if model := s.Model(m); model != nil {
		return model.Projector()
	}
	return nil
}

// follows the control log: each generation that it wants fed is, and no other. It ends with ctx, and ends them.
func (s *Shadow) follows(ctx context.Context, name event.Migration, m config.Migration) {
	x := s.feedOf(name)
	defer func() {
		x.mu.Lock()
		fed := x.fed
		x.fed = map[int]*Model{}
		x.mu.Unlock()
		for _, model := range fed {
			model.stop()
		}
	}()
	for _, ready := range []<-chan struct{}{s.topics, s.follow.Ready()} {
		select {
		case <-ready:
		case <-ctx.Done():
			return
		}
	}
	for {
		changed := s.follow.Changed()
		s.want(ctx, x, name, m, s.follow.State(name))
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// want starts and ends generations until exactly those are fed that the state names.
func (s *Shadow) want(ctx context.Context, x *feed, name event.Migration, m config.Migration, state stage.State) {
	for _, g := range state.Fed() {
		if x.generation(g) != nil {
			continue
		}
		model, err := s.startModel(ctx, name, m, g, generation.Begin(s.follow.History(name), g))
		if err != nil { // the config was tried at the start
			s.o.Log.Error("a generation cannot be fed", "migration", name, "generation", g, "error", err)
			continue
		}
		if g > 1 {
			s.o.Log.Info("generation is fed", "migration", name, "generation", g)
		}
		x.mu.Lock()
		x.fed[g] = model
		x.mu.Unlock()
	}
	var ended []*Model
	x.mu.Lock()
	x.current = state.Current()
	for g, model := range x.fed {
		if !slices.Contains(state.Fed(), g) {
			delete(x.fed, g)
			ended = append(ended, model)
		}
	}
	close(x.changed)
	x.changed = make(chan struct{})
	x.mu.Unlock()
	for _, model := range ended {
		model.stop()
		s.o.Log.Info("generation is fed no longer; its tables stay until the next build", "migration", name, "generation", model.Generation)
	}
}

// startModel makes the events and the read model of a generation in the background: what is down is waited for.
func (s *Shadow) startModel(ctx context.Context, name event.Migration, m config.Migration, g int, begin []int64) (*Model, error) {
	tc := m.Translate(name)
	tc.Generation, tc.Begin = g, begin
	rules, err := translate.Compile(tc, s.Contracts)
	if err != nil {
		return nil, err
	}
	model := &Model{Generation: g}
	if m.Dispatch == "" {
		model.Translator = translate.New(rules, s.f.Kafka, s.o.Log)
	} else if model.Dispatcher, err = dispatch.New(dispatch.Config{Kafka: s.f.Kafka, Migration: name, Generation: g, Begin: begin, URL: m.Dispatch, Rules: rules, Log: s.o.Log}); err != nil {
		return nil, err
	}
	var pc project.Config
	if m.ReadModel != nil {
		if pc, err = s.projection(name, m, g); err != nil {
			return nil, err
		}
		if model.Postgres, err = s.openPostgres(ctx, name, m, g); err != nil {
			return nil, err
		}
		model.onStop(model.Postgres.Close)
	}
	ctx, model.cancel = context.WithCancel(ctx)
	what := fmt.Sprintf(" of %s, generation %d", name, g)
	model.wg.Go(func() {
		topic := kafka.Topic{Name: s.f.Kafka.Topics().Events(name, g), Forever: true}
		if !keep(ctx, s.o.Log, "event topic"+what, func(ctx context.Context) error { return makeTopics(ctx, s.f, topic) }) {
			return
		}
		model.wg.Go(func() { s.startEvents(ctx, model, what) })
		if m.ReadModel != nil {
			model.wg.Go(func() { s.startProjection(ctx, m.ReadModel, pc, model, what) })
		}
	})
	return model, nil
}

func (s *Shadow) startEvents(ctx context.Context, model *Model, what string) {
	start, stop := func(ctx context.Context) error { return model.Translator.Start(ctx) }, func() { model.Translator.Stop() }
	if model.Dispatcher != nil {
		start, stop = model.Dispatcher.Start, model.Dispatcher.Stop
	}
	if keep(ctx, s.o.Log, "events"+what, start) {
		model.onStop(stop)
	}
}

// openPostgres opens the tables of a generation; it does not connect.
func (s *Shadow) openPostgres(ctx context.Context, name event.Migration, m config.Migration, g int) (*readmodel.Postgres, error) {
	ddl := ""
	if m.ReadModel.Schema != "" {
		b, err := os.ReadFile(s.f.Path(m.ReadModel.Schema))
		if err != nil {
			return nil, fmt.Errorf("read_model.schema: %w", err)
		}
		ddl = string(b)
	}
	return readmodel.OpenPostgres(ctx, readmodel.PostgresConfig{URL: m.ReadModel.Postgres, Schema: readmodel.Schema(name, g), DDL: ddl})
}

func (s *Shadow) openRedis(name event.Migration, m config.Migration, g int) (*readmodel.Redis, error) {
	if m.ReadModel.Redis == "" {
		return nil, nil
	}
	return readmodel.OpenRedis(readmodel.RedisConfig{URL: m.ReadModel.Redis, Prefix: s.f.Kafka.Prefix, Migration: name, Generation: g})
}

func (s *Shadow) projection(name event.Migration, m config.Migration, g int) (project.Config, error) {
	rm := m.ReadModel
	cfg := project.Config{Kafka: s.f.Kafka, Migration: name, Generation: g, OrderBy: m.OrderBy, Files: os.DirFS(filepath.Clean(s.f.Path("."))), Contracts: s.Contracts,
		Log: s.o.Log, On: rm.On, Documents: rm.Documents, Batch: rm.Batch, Delay: s.o.delay}
	if err := cfg.Validate(); err != nil {
		return cfg, fmt.Errorf("read_model: %w", err)
	}
	return cfg, nil
}

func (s *Shadow) startProjection(ctx context.Context, rm *config.ReadModel, cfg project.Config, model *Model, what string) {
	keep(ctx, s.o.Log, "projection"+what, func(ctx context.Context) error {
		redis, err := s.openRedis(cfg.Migration, config.Migration{ReadModel: rm}, cfg.Generation)
		if err != nil {
			return err
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
		model.mu.Lock()
		defer model.mu.Unlock()
		model.projector = p
		model.stops = append(model.stops, func() {
			p.Stop()
			if redis != nil {
				redis.Close()
			}
		})
		return nil
	})
}

// drop removes what no state uses any more: tables and documents of generations that are neither current nor built.
func (s *Shadow) drop(ctx context.Context, name event.Migration, m config.Migration, state stage.State) error {
	if m.ReadModel == nil {
		return nil
	}
	for g := 1; g < state.Next(); g++ {
		if slices.Contains(state.Fed(), g) {
			continue
		}
		if err := s.dropOne(ctx, name, m, g); err != nil {
			return fmt.Errorf("drop generation %d of %s: %w", g, name, err)
		}
	}
	return nil
}

// dropTime bounds the removal of one generation: a reader that holds its tables must not hold up a build.
const dropTime = 30 * time.Second

func (s *Shadow) dropOne(ctx context.Context, name event.Migration, m config.Migration, g int) error {
	ctx, cancel := context.WithTimeout(ctx, dropTime)
	defer cancel()
	pg, err := s.openPostgres(ctx, name, m, g)
	if err != nil {
		return err
	}
	defer pg.Close()
	if err := pg.Drop(ctx); err != nil {
		return err
	}
	redis, err := s.openRedis(name, m, g)
	if err != nil || redis == nil {
		return err
	}
	defer redis.Close()
	return redis.Drop(ctx)
}
