package postgres

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"banyan/legacyadapter/changelog"
	"banyan/proxy/event"

	"github.com/jackc/pgx/v5/pgconn"
)

// Config tells where legacy's PostgreSQL is and what to read there.
type Config struct {
	// URL is the server that legacy writes to: postgres://user:password@host/database.
	URL string
	// Slot and Publication are names on the server, made by Setup. Default "banyan".
	Slot, Publication string
	// Tables are those of the publication, bare in schema public, else schema.table.
	Tables []string
	// MaxCommitDelay bounds the time from a commit record in the log to the transaction being seen by others: a disk's
	// sync, or a synchronous standby's answer. Default 200 ms, 1 ms to 1 minute.
	MaxCommitDelay time.Duration
	// MaxTransaction bounds the row data of one transaction in bytes; a larger one stops the reader. It needs about ten
	// times that in memory. Default 64 MiB, 1 MiB to 1 GiB.
	MaxTransaction int64
}

const defaultMaxTransaction = 64 << 20

// Source reads a PostgreSQL: its logical replication and its tables.
type Source struct {
	cfg    Config
	pg     *pgconn.Config
	log    *slog.Logger
	tables map[string]bool

	mu    sync.Mutex // guards fence: one look at a time
	fence *pgconn.PgConn

	safeMu sync.Mutex // guards safe
	safe   event.Position

	segment atomic.Uint64 // size of a file of the log

	heads heads
	types types
}

var _ changelog.Source = (*Source)(nil)

// New checks the config; it does not connect.
func New(cfg Config, log *slog.Logger) (*Source, error) {
	pg, err := pgconn.ParseConfig(cfg.URL)
	if err != nil {
		return nil, errors.New("postgres: cannot read the address: want postgres://user:password@host/database")
	}
	if cfg.Slot == "" {
		cfg.Slot = "banyan"
	}
	if cfg.Publication == "" {
		cfg.Publication = "banyan"
	}
	if cfg.MaxCommitDelay == 0 {
		cfg.MaxCommitDelay = 200 * time.Millisecond
	}
	if cfg.MaxCommitDelay < time.Millisecond || cfg.MaxCommitDelay > time.Minute {
		return nil, fmt.Errorf("postgres: max_commit_delay: %s: want 1ms to 1m", cfg.MaxCommitDelay)
	}
	if cfg.MaxTransaction == 0 {
		cfg.MaxTransaction = defaultMaxTransaction
	}
	if cfg.MaxTransaction < 1<<20 || cfg.MaxTransaction > 1<<30 {
		return nil, fmt.Errorf("postgres: max_transaction: %d: want 1 MiB to 1 GiB", cfg.MaxTransaction)
	}
	if strings.Trim(cfg.Slot, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" || len(cfg.Slot) > 63 {
		return nil, fmt.Errorf("postgres: slot: %q: want 1 to 63 of a-z, 0-9 and _", cfg.Slot)
	}
	s := &Source{cfg: cfg, pg: pg, log: log, tables: map[string]bool{}}
	for _, t := range cfg.Tables {
		s.tables[t] = true
	}
	// What a value looks like must not depend on the account's or server's defaults.
	for k, v := range map[string]string{"DateStyle": "ISO, YMD", "TimeZone": "UTC", "IntervalStyle": "iso_8601", "bytea_output": "hex",
		"extra_float_digits": "1", "client_encoding": "UTF8", "application_name": "banyan"} {
		pg.RuntimeParams[k] = v
	}
	return s, nil
}

func (s *Source) connect(ctx context.Context) (*pgconn.PgConn, error) {
	return s.dial(ctx, s.pg.Copy())
}

func (s *Source) dial(ctx context.Context, cfg *pgconn.Config) (*pgconn.PgConn, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	c, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("postgres at %s:%d: %w", cfg.Host, cfg.Port, err)
	}
	return c, nil
}

func closeConn(c *pgconn.PgConn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = c.Close(ctx)
}

// texts runs one statement and gives its rows as text, NULL as "".
func texts(ctx context.Context, c *pgconn.PgConn, sql string, args ...string) ([][]string, error) {
	params := make([][]byte, len(args))
	for i, a := range args {
		params[i] = []byte(a)
	}
	r := c.ExecParams(ctx, sql, params, nil, nil, nil).Read()
	if r.Err != nil {
		return nil, r.Err
	}
	all := make([][]string, len(r.Rows))
	for i, row := range r.Rows {
		for _, v := range row {
			all[i] = append(all[i], string(v))
		}
	}
	return all, nil
}

// Lock implements [changelog.Source].
func (s *Source) Lock(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unlockLocked()
	c, err := s.connect(ctx)
	if err != nil {
		return err
	}
	h := fnv.New64a()
	h.Write([]byte("banyan.changelog." + s.cfg.Slot))
	got, err := texts(ctx, c, "SELECT pg_try_advisory_lock($1)", strconv.FormatInt(int64(h.Sum64()), 10))
	if err == nil && got[0][0] != "t" {
		err = errors.New("another reader holds it: one banyan reads an installation's change log")
	}
	if err != nil {
		closeConn(c)
		return err
	}
	s.fence = c
	return nil
}

// Close gives the lock back.
func (s *Source) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unlockLocked()
	return nil
}

func (s *Source) unlockLocked() {
	if s.fence != nil {
		closeConn(s.fence)
		s.fence = nil
	}
}

// Fence implements [changelog.Source].
func (s *Source) Fence(ctx context.Context) (event.Fence, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fence == nil {
		return event.Fence{}, errors.New("the lock was lost")
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	sent := time.Now()
	p, err := s.look(ctx, s.fence)
	if err != nil {
		s.unlockLocked() // whoever waits for the lock may have it now
		return event.Fence{}, err
	}
	answered := time.Now()
	s.heads.add(sent, p, s.cfg.MaxCommitDelay)
	// What is in the log need not be seen yet, but will be after MaxCommitDelay.
	return event.Fence{Sent: sent.UTC(), Position: p, Answered: answered.Add(s.cfg.MaxCommitDelay).UTC()}, nil
}

// Head implements [changelog.Source].
func (s *Source) Head(ctx context.Context) (event.Position, error) {
	c, err := s.connect(ctx)
	if err != nil {
		return 0, err
	}
	defer closeConn(c)
	return s.look(ctx, c)
}

func (s *Source) look(ctx context.Context, c *pgconn.PgConn) (event.Position, error) {
	segment := s.segment.Load()
	if segment == 0 {
		r, err := texts(ctx, c, "SELECT setting FROM pg_settings WHERE name = 'wal_segment_size'")
		if err != nil {
			return 0, fmt.Errorf("size of a log segment: %w", err)
		}
		if segment, err = strconv.ParseUint(r[0][0], 10, 64); err != nil || segment == 0 {
			return 0, fmt.Errorf("size of a log segment: %q", r[0][0])
		}
		s.segment.Store(segment)
	}
	r, err := texts(ctx, c, "SELECT pg_current_wal_insert_lsn()")
	if err != nil {
		return 0, fmt.Errorf("head of the log: %w", err)
	}
	p, err := event.ParsePosition(r[0][0])
	return pageStart(p, segment), err
}

// pageStart takes a page's header off: after a record that fills its page, the head points behind the next page's
// header, but the record ends before it, and that is all that replication will ever tell.
func pageStart(p event.Position, segment uint64) event.Position {
	const page, header, firstHeader = 8192, 24, 40
	switch {
	case uint64(p)%page == header:
		return p - header
	case uint64(p)%segment == firstHeader:
		return p - firstHeader
	}
	return p
}

// Acknowledge implements [changelog.Source]: the server may forget what is below.
func (s *Source) Acknowledge(p event.Position) {
	s.safeMu.Lock()
	defer s.safeMu.Unlock()
	s.safe = max(s.safe, p)
}

func (s *Source) acknowledged() event.Position {
	s.safeMu.Lock()
	defer s.safeMu.Unlock()
	return s.safe
}

// heads remembers the newest heads, so that a snapshot finds one that is old enough.
type heads struct {
	mu  sync.Mutex // guards all
	all []seenHead
}

type seenHead struct {
	at       time.Time // before it was asked
	position event.Position
}

func (h *heads) add(at time.Time, p event.Position, delay time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, seenHead{at, p})
	i := 0
	for i+1 < len(h.all) && at.Sub(h.all[i+1].at) > delay {
		i++
	}
	h.all = h.all[i:]
}

// before is the newest head that was asked for at least delay before now, if it is not much older than that.
func (h *heads) before(now time.Time, delay time.Duration) (event.Position, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := len(h.all) - 1; i >= 0; i-- {
		if age := now.Sub(h.all[i].at); age >= delay {
			return h.all[i].position, age < delay+time.Second
		}
	}
	return 0, false
}
