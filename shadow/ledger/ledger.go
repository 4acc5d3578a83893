package ledger

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"banyan/proxy/event"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Config of a [Ledger].
type Config struct {
	URL string // of the database; the schema is banyan_ledger
	// MaxKeys bounds the places listed per finding. Default 100,000, at least 1.
	MaxKeys int
	// Examples are kept per finding beside the first one. Default 5, at least 1.
	Examples int
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// Validate names the field, the value and the bound.
func (c Config) Validate() error {
	var errs []error
	if c.URL == "" {
		errs = append(errs, errors.New("ledger.postgres: empty; want postgres://user:password@host/database"))
	}
	if c.MaxKeys < 0 {
		errs = append(errs, fmt.Errorf("max_keys: %d; want 1 or more", c.MaxKeys))
	}
	if c.Examples < 0 {
		errs = append(errs, fmt.Errorf("examples: %d; want 1 or more", c.Examples))
	}
	return errors.Join(errs...)
}

// Ledger is safe for concurrent use.
type Ledger struct {
	pool  *pgxpool.Pool
	cfg   Config
	gates atomic.Pointer[GateConfig]

	mu     sync.Mutex // guards recent, not what it holds
	recent map[event.Migration]*recent
}

// Open connects and brings the schema up to date.
func Open(ctx context.Context, cfg Config) (*Ledger, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.MaxKeys == 0 {
		cfg.MaxKeys = 100_000
	}
	if cfg.Examples == 0 {
		cfg.Examples = 5
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	pc, err := pgxpool.ParseConfig(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w; check ledger.postgres", err)
	}
	pc.ConnConfig.RuntimeParams["search_path"] = "banyan_ledger"
	pc.ConnConfig.RuntimeParams["timezone"] = "UTC"
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	if err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error { return migrate(ctx, tx) }); err != nil {
		pool.Close()
		return nil, fmt.Errorf("ledger: schema banyan_ledger: %w; check ledger.postgres, and that its user may create a schema", err)
	}
	return &Ledger{pool: pool, cfg: cfg, recent: map[event.Migration]*recent{}}, nil
}

// Close ends the connections.
func (l *Ledger) Close() { l.pool.Close() }

// Load gives a checkpoint's state, nil if there is none.
func (l *Ledger) Load(ctx context.Context, name string) ([]byte, error) {
	state, _, err := l.Checkpoint(ctx, name)
	return state, err
}

// Checkpoint gives a checkpoint's state and its revision, which a [Checkpoint] expects; nil and 0 if there is none.
func (l *Ledger) Checkpoint(ctx context.Context, name string) (state []byte, revision int64, err error) {
	err = l.pool.QueryRow(ctx, `select state, revision from checkpoint where name = $1`, name).Scan(&state, &revision)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("ledger: checkpoint %s: %w", name, err)
	}
	return state, revision, nil
}

// Save sets a checkpoint whatever it was.
func (l *Ledger) Save(ctx context.Context, name string, state []byte) error {
	_, err := l.pool.Exec(ctx, `insert into checkpoint values ($1, 1, $2, now())
		on conflict (name) do update set state = excluded.state, revision = checkpoint.revision + 1, at = now()`, name, state)
	if err != nil {
		return fmt.Errorf("ledger: save checkpoint %s: %w", name, err)
	}
	return nil
}

// SetFingerprint says what evidence is bound to from now on: a digest of config, rules, contracts, mappings and the
// candidate's build. Another one than before restarts the evidence; it reports whether it did.
func (l *Ledger) SetFingerprint(ctx context.Context, m event.Migration, fingerprint string) (restarted bool, err error) {
	tag, err := l.pool.Exec(ctx, `insert into migration (migration, fingerprint, since) values ($1, $2, $3)
		on conflict (migration) do update set fingerprint = excluded.fingerprint, since = excluded.since
		where migration.fingerprint <> excluded.fingerprint`, m, fingerprint, l.cfg.Now())
	if err != nil {
		return false, fmt.Errorf("ledger: fingerprint of %s: %w", m, err)
	}
	return tag.RowsAffected() == 1, nil
}

// SetBackfilled says that the migration is backfilled up to a position, or, with zero, that it is not (any more).
func (l *Ledger) SetBackfilled(ctx context.Context, m event.Migration, at event.Position) error {
	var when *time.Time
	if at > 0 {
		now := l.cfg.Now()
		when = &now
	}
	_, err := l.pool.Exec(ctx, `insert into migration (migration, since, backfilled_at, backfilled_position) values ($1, $2, $3, $4)
		on conflict (migration) do update set backfilled_at = excluded.backfilled_at, backfilled_position = excluded.backfilled_position`,
		m, l.cfg.Now(), when, int64(at))
	if err != nil {
		return fmt.Errorf("ledger: backfill of %s: %w", m, err)
	}
	return nil
}
