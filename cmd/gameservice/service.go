package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"banyan/cmd/gameservice/internal/book"
	"banyan/cmd/gameservice/internal/command"
	"banyan/cmd/gameservice/internal/query"
	"banyan/proxy/event"
	"banyan/shadow/readmodel"
)

// service is everything that is open, in the order in which it was opened.
type service struct {
	commands *command.Handler
	reads    *query.Handler
	models   []query.Model
	closers  []func()
}

func open(ctx context.Context, c settings, log *slog.Logger) (_ *service, err error) {
	s := &service{}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	units, err := s.model(ctx, c, "units", c.unitsGen)
	if err != nil {
		return nil, err
	}
	economy, err := s.model(ctx, c, "economy", c.economyGen)
	if err != nil {
		return nil, err
	}
	s.reads, err = query.New(query.Config{Units: units, Economy: economy, Partitions: c.kafka.Partitions, SQL: os.DirFS(c.sql), Log: log})
	if err != nil {
		return nil, err
	}
	topic := c.kafka.Topics().Events("economy", c.economyGen)
	producer, err := c.kafka.Producer("gameservice")
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, producer.Close)
	b, err := book.Open(ctx, book.Config{Kafka: c.kafka, Topic: topic, Loader: book.ReadModel{Postgres: economy.Postgres}, Log: log})
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, b.Close)
	s.commands = &command.Handler{Kafka: c.kafka, Topic: topic, Producer: producer, Book: b, Bug: c.bug, Log: log}
	return s, nil
}

func (s *service) model(ctx context.Context, c settings, m event.Migration, generation int) (query.Model, error) {
	pg, err := readmodel.OpenPostgres(ctx, readmodel.PostgresConfig{URL: c.readDSN, Schema: readmodel.Schema(m, generation), Conns: 16})
	if err != nil {
		return query.Model{}, err
	}
	s.closers = append(s.closers, pg.Close)
	model := query.Model{Postgres: pg}
	if c.redis != "" {
		model.Redis, err = readmodel.OpenRedis(readmodel.RedisConfig{URL: c.redis, Prefix: c.kafka.Prefix, Migration: m, Generation: generation})
		if err != nil {
			return query.Model{}, err
		}
		s.closers = append(s.closers, model.Redis.Close)
	}
	s.models = append(s.models, model)
	return model, nil
}

func (s *service) close() {
	for i := len(s.closers) - 1; i >= 0; i-- {
		s.closers[i]()
	}
	s.closers = nil
}

func (s *service) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /commands", s.commands)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", s.ready)
	mux.Handle("GET /", s.reads)
	return mux
}

// ready says whether the read models can be asked.
func (s *service) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	for _, m := range s.models {
		snap, err := m.Postgres.Snapshot(ctx)
		if err == nil {
			_, err = snap.Progress(ctx, 0)
			_ = snap.Close(ctx) // nothing was written
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
	}
	fmt.Fprintln(w, "ok")
}
