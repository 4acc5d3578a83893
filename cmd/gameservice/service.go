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
	sources  []*source
	closers  []func()
}

func open(ctx context.Context, c settings, log *slog.Logger) (_ *service, err error) {
	s := &service{}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	units, err := s.source(ctx, c, "units", c.unitsGen, log)
	if err != nil {
		return nil, err
	}
	economy, err := s.source(ctx, c, "economy", c.economyGen, log)
	if err != nil {
		return nil, err
	}
	s.reads, err = query.New(query.Config{Units: units, Economy: economy, Partitions: c.kafka.Partitions, SQL: os.DirFS(c.sql), Log: log})
	if err != nil {
		return nil, err
	}
	producer, err := c.kafka.Producer("gameservice")
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, producer.Close)
	books := book.NewLibrary(generations, func(ctx context.Context, generation int) (*book.Book, func(), error) {
		return openBook(ctx, c, generation, log)
	})
	s.closers = append(s.closers, books.Close)
	s.commands = &command.Handler{Kafka: c.kafka, Producer: producer, Books: books, Bug: c.bug, Log: log}
	return s, nil
}

// generations are kept at most: the current one, the one before or the one that is built, and one to spare.
const generations = 3

// openBook keeps what happened in one generation of the economy's events.
func openBook(ctx context.Context, c settings, generation int, log *slog.Logger) (*book.Book, func(), error) {
	pg, err := readmodel.OpenPostgres(ctx, readmodel.PostgresConfig{URL: c.readDSN, Schema: readmodel.Schema("economy", generation), Conns: 4})
	if err != nil {
		return nil, nil, err
	}
	b, err := book.Open(ctx, book.Config{Kafka: c.kafka, Topic: c.kafka.Topics().Events("economy", generation), Loader: book.ReadModel{Postgres: pg}, Log: log})
	if err != nil {
		pg.Close()
		return nil, nil, err
	}
	return b, func() { b.Close(); pg.Close() }, nil
}

func (s *service) source(ctx context.Context, c settings, m event.Migration, pinned int, log *slog.Logger) (*source, error) {
	x, err := openSource(ctx, c, m, pinned, log)
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, x.close)
	s.sources = append(s.sources, x)
	return x, nil
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
	for _, x := range s.sources {
		m, release, err := x.Model(ctx)
		if err == nil {
			err = readable(ctx, m.Postgres)
			release()
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
	}
	fmt.Fprintln(w, "ok")
}

func readable(ctx context.Context, pg *readmodel.Postgres) error {
	snap, err := pg.Snapshot(ctx)
	if err != nil {
		return err
	}
	defer snap.Close(ctx)
	_, err = snap.Progress(ctx, 0)
	return err
}
