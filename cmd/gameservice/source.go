package main

import (
	"context"
	"log/slog"
	"sync"

	"banyan/cmd/gameservice/internal/query"
	"banyan/proxy/event"
	"banyan/shadow/readmodel"
)

// source opens the generation of a read model that is the current one, and closes the one before when nobody reads it.
type source struct {
	c         settings
	migration event.Migration
	pinned    int // 0: follow the pointer
	pointer   *readmodel.Pointer
	reader    *readmodel.Reader

	mu   sync.Mutex // guards the rest
	open map[int]*opened
}

type opened struct {
	once  sync.Once
	model query.Model
	err   error
	users int
}

var _ query.Source = (*source)(nil)

func openSource(ctx context.Context, c settings, m event.Migration, pinned int, log *slog.Logger) (*source, error) {
	s := &source{c: c, migration: m, pinned: pinned, open: map[int]*opened{}}
	if pinned > 0 {
		return s, nil
	}
	var err error
	if s.pointer, err = readmodel.OpenPointer(ctx, readmodel.PointerConfig{Postgres: c.readDSN, Redis: c.redis, Prefix: c.kafka.Prefix, Migration: m}); err != nil {
		return nil, err
	}
	s.reader = readmodel.Follow(ctx, s.pointer, log.With("migration", m))
	return s, nil
}

func (s *source) close() {
	if s.reader != nil {
		s.reader.Stop()
		s.pointer.Close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.open {
		closeModel(o.model)
	}
	s.open = map[int]*opened{}
}

// Model implements query.Source.
func (s *source) Model(ctx context.Context) (query.Model, func(), error) {
	g := s.pinned
	if g == 0 {
		var err error
		if g, err = s.reader.Generation(); err != nil {
			return query.Model{}, nil, err
		}
	}
	s.mu.Lock()
	o := s.open[g]
	if o == nil {
		o = &opened{}
		s.open[g] = o
	}
	o.users++
	s.mu.Unlock()
	o.once.Do(func() { o.model, o.err = openModel(context.WithoutCancel(ctx), s.c, s.migration, g) })
	if o.err != nil {
		s.mu.Lock()
		if s.open[g] == o { // the next read tries again
			delete(s.open, g)
		}
		s.mu.Unlock()
		return query.Model{}, nil, o.err
	}
	return o.model, func() { s.release(o) }, nil
}

// release closes the generations before that nobody reads any more.
func (s *source) release(o *opened) {
	var idle []*opened
	s.mu.Lock()
	o.users--
	newest := 0
	for g := range s.open {
		newest = max(newest, g)
	}
	for g, x := range s.open {
		if g < newest && x.users == 0 {
			delete(s.open, g)
			idle = append(idle, x)
		}
	}
	s.mu.Unlock()
	for _, x := range idle {
		closeModel(x.model)
	}
}

func openModel(ctx context.Context, c settings, m event.Migration, generation int) (query.Model, error) {
	pg, err := readmodel.OpenPostgres(ctx, readmodel.PostgresConfig{URL: c.readDSN, Schema: readmodel.Schema(m, generation), Conns: 16})
	if err != nil {
		return query.Model{}, err
	}
	model := query.Model{Generation: generation, Postgres: pg}
	if c.redis != "" {
		model.Redis, err = readmodel.OpenRedis(readmodel.RedisConfig{URL: c.redis, Prefix: c.kafka.Prefix, Migration: m, Generation: generation})
		if err != nil {
			pg.Close()
			return query.Model{}, err
		}
	}
	return model, nil
}

func closeModel(m query.Model) {
	if m.Postgres != nil {
		m.Postgres.Close()
	}
	if m.Redis != nil {
		m.Redis.Close()
	}
}
