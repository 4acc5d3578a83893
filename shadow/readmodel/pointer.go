package readmodel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"banyan/proxy/event"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/rueidis"
)

// Times of readers that follow the current generation.
const (
	// ReaderPoll is how often a reader looks.
	ReaderPoll = time.Second
	// ReaderBound is how long a reader may answer by what it read last. Longer, and it must refuse.
	ReaderBound = 5 * time.Second
)

// Pointer says which generation of a migration readers are to use. It is safe for concurrent use.
type Pointer struct {
	pool      *pgxpool.Pool
	redis     *Redis // nil: PostgreSQL alone
	migration event.Migration
}

// PointerConfig is where a pointer stands.
type PointerConfig struct {
	Postgres  string // URL of the read model's database
	Redis     string // URL; "": PostgreSQL alone
	Prefix    string // of every key in Redis
	Migration event.Migration
}

// OpenPointer connects to Redis, if there is one, and prepares connections to PostgreSQL.
func OpenPointer(ctx context.Context, c PointerConfig) (*Pointer, error) {
	pc, err := pgxpool.ParseConfig(c.Postgres)
	if err != nil {
		return nil, fmt.Errorf("read model: postgres: %w", err)
	}
	pc.MaxConns = 2
	p := &Pointer{migration: c.Migration}
	if c.Redis != "" {
		if p.redis, err = OpenRedis(RedisConfig{URL: c.Redis, Prefix: c.Prefix, Migration: c.Migration}); err != nil {
			return nil, err
		}
	}
	if p.pool, err = pgxpool.NewWithConfig(ctx, pc); err != nil {
		p.Close()
		return nil, fmt.Errorf("read model: postgres: %w", err)
	}
	return p, nil
}

// Close closes the connections.
func (p *Pointer) Close() {
	if p.pool != nil {
		p.pool.Close()
	}
	if p.redis != nil {
		p.redis.Close()
	}
}

// pointerTable may be made by many at a time, which PostgreSQL does not take kindly without a lock.
const pointerTable = `create schema if not exists banyan;
create table if not exists banyan.generation (
  migration text primary key, generation int not null, version bigint not null, changed_at timestamptz not null default now())`

// Set makes a generation the current one. version is that of the control log's state that says so: an older one changes
// nothing.
func (p *Pointer) Set(ctx context.Context, generation int, version uint64) error {
	err := pgx.BeginFunc(ctx, p.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "select pg_advisory_xact_lock(hashtext('banyan.generation'))"); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, pointerTable); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `insert into banyan.generation as g (migration, generation, version) values ($1, $2, $3)
			on conflict (migration) do update set generation = excluded.generation, version = excluded.version,
			changed_at = case when g.generation = excluded.generation then g.changed_at else now() end where g.version < excluded.version`,
			string(p.migration), generation, int64(version))
		return err
	})
	if err == nil && p.redis != nil {
		_, err = p.redis.exec(ctx, []rueidis.LuaExec{{Keys: []string{p.key()}, Args: []string{fmt.Sprintf("%016x", version), strconv.Itoa(generation)}}})
	}
	if err != nil {
		return fmt.Errorf("read model: current generation of %s: %w", p.migration, err)
	}
	return nil
}

func (p *Pointer) key() string { return fmt.Sprintf("%s%s:generation", p.redis.base, p.migration) }

// Get reads it from PostgreSQL, and from Redis while that does not answer.
func (p *Pointer) Get(ctx context.Context) (int, error) {
	n, err := p.fromPostgres(ctx)
	if err == nil || p.redis == nil {
		return n, err
	}
	b, errRedis := p.redis.get(ctx, p.key())
	if errRedis == nil {
		if n, errRedis = strconv.Atoi(string(b)); errRedis == nil && n > 0 { // not there is not the first: PostgreSQL would know
			return n, nil
		}
	}
	return 0, errors.Join(err, errRedis)
}

func (p *Pointer) fromPostgres(ctx context.Context) (int, error) {
	var n int
	ctx, cancel := context.WithTimeout(ctx, ReaderPoll)
	defer cancel()
	err := p.pool.QueryRow(ctx, "select generation from banyan.generation where migration = $1", string(p.migration)).Scan(&n)
	var pe *pgconn.PgError
	switch {
	case errors.Is(err, pgx.ErrNoRows), errors.As(err, &pe) && (pe.Code == "42P01" || pe.Code == "3F000"): // no table, no schema
		return 1, nil
	case err != nil:
		return 0, fmt.Errorf("read model: current generation of %s: %w", p.migration, err)
	}
	return n, nil
}

// Reader follows a pointer for a service that reads.
type Reader struct {
	get    func(context.Context) (int, error)
	now    func() time.Time
	log    *slog.Logger
	cancel context.CancelFunc
	done   chan struct{}

	mu         sync.Mutex // guards the rest
	generation int
	asked      time.Time // when the question was asked whose answer generation is
	err        error     // of the last question
}

// Follow begins to look, every [ReaderPoll], until Stop. It looks once before it returns, whatever comes of it.
func Follow(ctx context.Context, p *Pointer, log *slog.Logger) *Reader {
	return follow(ctx, p.Get, log, time.Now)
}

func follow(ctx context.Context, get func(context.Context) (int, error), log *slog.Logger, now func() time.Time) *Reader {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r := &Reader{get: get, now: now, log: log, cancel: cancel, done: make(chan struct{})}
	r.look(ctx)
	go func() { // ends with Stop
		defer close(r.done)
		t := time.NewTicker(ReaderPoll)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				r.look(ctx)
			}
		}
	}()
	return r
}

// Stop ends it.
func (r *Reader) Stop() {
	r.cancel()
	<-r.done
}

func (r *Reader) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*ReaderPoll)
	defer cancel()
	asked := r.now() // the answer is as old as the question
	n, err := r.get(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	if (err == nil) != (r.err == nil) {
		r.log.Warn("current generation", "generation", n, "err", err)
	}
	if r.err = err; err != nil {
		return
	}
	if r.generation != 0 && r.generation != n {
		r.log.Info("another generation is read from now on", "generation", n, "before", r.generation)
	}
	r.generation, r.asked = n, asked
}

// Generation is the current one. An error says that it is not known well enough to answer from it.
func (r *Reader) Generation() (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.generation == 0 || r.now().Sub(r.asked) > ReaderBound {
		return 0, fmt.Errorf("the current generation was not read within %s: %w", ReaderBound, errors.Join(r.err, errStale))
	}
	return r.generation, nil
}

var errStale = errors.New("what it was may be retired by now")
