package readmodel

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"banyan/proxy/event"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// PostgresConfig is where the tables of one generation live.
type PostgresConfig struct {
	URL    string // postgres://…
	Schema string // 1 to 63 of a-z, 0-9 and '_'; see [Schema]
	DDL    string // the squad's statements, applied once when the schema is created
	Conns  int32  // connections at most; default 8
}

// Schema is the name that a migration's generation has by default.
func Schema(m event.Migration, generation int) string {
	return fmt.Sprintf("banyan_%s_g%d", notName.ReplaceAllString(string(m), "_"), generation)
}

var (
	notName    = regexp.MustCompile(`[^a-z0-9_]`)
	schemaName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)
)

// Postgres is the tables of one generation.
type Postgres struct {
	schema string
	ddl    string
	pool   *pgxpool.Pool
}

// OpenPostgres prepares connections; it does not connect.
func OpenPostgres(ctx context.Context, c PostgresConfig) (*Postgres, error) {
	if !schemaName.MatchString(c.Schema) {
		return nil, fmt.Errorf("read model: schema %q: want 1 to 63 of a-z, 0-9 and '_', no digit first", c.Schema)
	}
	pc, err := pgxpool.ParseConfig(c.URL)
	if err != nil {
		return nil, fmt.Errorf("read model: postgres: %w", err) // pgx keeps the password out of it
	}
	pc.MaxConns = 8
	if c.Conns > 0 {
		pc.MaxConns = c.Conns
	}
	rp := pc.ConnConfig.RuntimeParams
	rp["search_path"], rp["timezone"], rp["datestyle"] = c.Schema, "UTC", "ISO"
	if rp["application_name"] == "" {
		rp["application_name"] = "banyan " + c.Schema
	}
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, fmt.Errorf("read model: postgres: %w", err)
	}
	return &Postgres{schema: c.Schema, ddl: c.DDL, pool: pool}, nil
}

// Close closes the connections.
func (p *Postgres) Close() { p.pool.Close() }

// metaVersion is of banyan's tables.
const metaVersion = 1

const bookkeeping = `
create table banyan_meta (version int not null, ddl_digest text not null, created_at timestamptz not null default now());
create table banyan_partition (
  partition int primary key,
  owner text not null,
  batch bigint not null default 0,
  next_offset bigint not null default 0,
  unshown_from bigint not null default 0,
  ahead bigint[] not null default '{}',
  progress json,
  updated_at timestamptz not null default now());
create table banyan_parked (
  partition int not null,
  key text not null,
  reason text not null,
  event_id text not null,
  event_type text not null,
  position text not null,
  first_offset bigint not null,
  last_offset bigint not null,
  waiting bigint not null,
  at timestamptz not null,
  primary key (partition, key));`

// Create makes the schema with the squad's tables and ours, once; it may be called by many at a time. A DDL that has
// changed since is an error: a schema of another shape is another generation.
func (p *Postgres) Create(ctx context.Context) error {
	digest := sha256.Sum256([]byte(p.ddl))
	want := hex.EncodeToString(digest[:8])
	err := pgx.BeginFunc(ctx, p.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "select pg_advisory_xact_lock(hashtext($1))", p.schema); err != nil {
			return err
		}
		var there bool
		if err := tx.QueryRow(ctx, "select to_regclass($1) is not null", p.schema+".banyan_meta").Scan(&there); err != nil {
			return err
		}
		if there {
			var version int
			var have string
			if err := tx.QueryRow(ctx, "select version, ddl_digest from banyan_meta").Scan(&version, &have); err != nil {
				return err
			}
			switch {
			case version != metaVersion:
				return fmt.Errorf("its tables have version %d, this build knows %d", version, metaVersion)
			case have != want:
				return fmt.Errorf("the DDL has changed since the schema was created (digest %s, now %s): `banyan retranslate` makes a new generation with it", have, want)
			}
			return nil
		}
		if _, err := tx.Exec(ctx, "create schema if not exists "+p.schema); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, bookkeeping); err != nil {
			return err
		}
		if p.ddl != "" {
			if _, err := tx.Exec(ctx, p.ddl); err != nil {
				return fmt.Errorf("the squad's DDL: %w", err)
			}
		}
		_, err := tx.Exec(ctx, "insert into banyan_meta (version, ddl_digest) values ($1, $2)", metaVersion, want)
		return err
	})
	if err != nil {
		return fmt.Errorf("read model %s: create: %w", p.schema, err)
	}
	return nil
}

// Drop removes the generation. Nothing of it is kept.
func (p *Postgres) Drop(ctx context.Context) error {
	if _, err := p.pool.Exec(ctx, "drop schema if exists "+p.schema+" cascade"); err != nil {
		return fmt.Errorf("read model %s: drop: %w", p.schema, err)
	}
	return nil
}

// Parked is a key whose events wait.
type Parked struct {
	Key         event.OrderingKey
	Reason      string
	EventID     string
	EventType   string // with version
	Position    event.Position
	FirstOffset int64
	LastOffset  int64
	Waiting     int64 // events, the poison one included
	At          time.Time
}

// State is what a new owner finds.
type State struct {
	Batch    int64   // number of batches so far
	Next     int64   // offset of the next record to apply
	Unshown  int64   // from here on, documents may be older than the tables
	Ahead    []int64 // offsets at or above Next that are applied already
	Progress *event.Progress
	Parked   []Parked
}

// Claim makes owner the one that may write this partition. Whoever was it before can commit nothing from now on. owner
// must be unlike any other's, ever.
func (p *Postgres) Claim(ctx context.Context, partition int32, owner string) (State, error) {
	var s State
	err := pgx.BeginFunc(ctx, p.pool, func(tx pgx.Tx) error {
		var progress []byte
		err := tx.QueryRow(ctx, `insert into banyan_partition (partition, owner) values ($1, $2)
			on conflict (partition) do update set owner = excluded.owner, updated_at = now()
			returning batch, next_offset, unshown_from, ahead, progress`, partition, owner).Scan(&s.Batch, &s.Next, &s.Unshown, &s.Ahead, &progress)
		if err != nil {
			return err
		}
		if s.Progress, err = decodeProgress(progress); err != nil {
			return err
		}
		s.Parked, err = parked(ctx, tx, partition)
		return err
	})
	if err != nil {
		return State{}, fmt.Errorf("read model %s: claim partition %d: %w", p.schema, partition, err)
	}
	return s, nil
}

func decodeProgress(b []byte) (*event.Progress, error) {
	if b == nil {
		return nil, nil
	}
	return event.DecodeProgress(b)
}

func parked(ctx context.Context, tx pgx.Tx, partition int32) ([]Parked, error) {
	rows, err := tx.Query(ctx, `select key, reason, event_id, event_type, position, first_offset, last_offset, waiting, at
		from banyan_parked where partition = $1 order by key`, partition)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(r pgx.CollectableRow) (Parked, error) {
		var k Parked
		var key, pos string
		if err := r.Scan(&key, &k.Reason, &k.EventID, &k.EventType, &pos, &k.FirstOffset, &k.LastOffset, &k.Waiting, &k.At); err != nil {
			return k, err
		}
		var err error
		if k.Key, err = keyOf(key); err != nil {
			return k, err
		}
		k.Position, err = event.ParsePosition(pos)
		return k, err
	})
}

// Statement is one of the squad's statements with its argument, a JSON array.
type Statement struct {
	Name string // for errors: the event type it serves
	SQL  string
	Rows []byte
}

// Waiting counts further events of a parked key.
type Waiting struct {
	Key   event.OrderingKey
	Count int64
	Last  int64 // offset
}

// Batch is one transaction.
type Batch struct {
	Partition  int32
	Owner      string
	Number     int64 // of the batches before this one
	From       int64 // offset at which the batch begins: next_offset as it must be now
	Next       int64 // and as it shall be
	Ahead      []int64
	Unshown    int64 // offset from which documents are not known to be written
	Progress   *event.Progress
	Statements []Statement
	Park       []Parked
	Waiting    []Waiting
	Caught     []Caught
}

// Caught is how far a released key has come: all its events below First are applied, or all there are.
type Caught struct {
	Key   event.OrderingKey
	First int64 // offset
	Less  int64 // events that wait no longer
	Done  bool
}

var errFenced = errors.New("the partition has another owner now: what this one knows is stale")

// IsFenced says that another owner has claimed the partition. Stop; nothing was written.
func IsFenced(err error) bool { return errors.Is(err, errFenced) }

// IsData says that PostgreSQL refused the data themselves: class 22 (data exception) or 23 (integrity constraint). The
// same statement with the same data will be refused again.
func IsData(err error) bool {
	var pe *pgconn.PgError
	return errors.As(err, &pe) && len(pe.Code) == 5 && (pe.Code[:2] == "22" || pe.Code[:2] == "23")
}

// Commit writes the batch. A commit whose answer was lost and that is sent again is recognised: it is done once.
func (p *Postgres) Commit(ctx context.Context, b *Batch) error {
	err := pgx.BeginFunc(ctx, p.pool, func(tx pgx.Tx) error {
		q := &pgx.Batch{}
		ahead := b.Ahead
		if ahead == nil {
			ahead = []int64{}
		}
		q.Queue(`update banyan_partition set batch = batch + 1, next_offset = $5, ahead = $6, progress = $7, unshown_from = $8, updated_at = now()
			where partition = $1 and owner = $2 and batch = $3 and next_offset = $4`,
			b.Partition, b.Owner, b.Number, b.From, b.Next, ahead, event.Encode(b.Progress), b.Unshown)
		for i := range b.Statements {
			q.Queue(b.Statements[i].SQL, b.Statements[i].Rows)
		}
		for i := range b.Park {
			k := &b.Park[i]
			q.Queue(`insert into banyan_parked values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
				on conflict (partition, key) do update set reason = excluded.reason, event_id = excluded.event_id, event_type = excluded.event_type,
				position = excluded.position, first_offset = excluded.first_offset, last_offset = excluded.last_offset, waiting = excluded.waiting, at = excluded.at`, b.Partition, keyText(k.Key), text(k.Reason), text(k.EventID), text(k.EventType),
				k.Position.String(), k.FirstOffset, k.LastOffset, k.Waiting, k.At)
		}
		for _, w := range b.Waiting {
			q.Queue(`update banyan_parked set waiting = waiting + $3, last_offset = $4 where partition = $1 and key = $2`, b.Partition, keyText(w.Key), w.Count, w.Last)
		}
		for _, c := range b.Caught {
			if c.Done {
				q.Queue(`delete from banyan_parked where partition = $1 and key = $2`, b.Partition, keyText(c.Key))
				continue
			}
			q.Queue(`update banyan_parked set first_offset = $3, waiting = greatest(waiting - $4, 0) where partition = $1 and key = $2`, b.Partition, keyText(c.Key), c.First, c.Less)
		}
		return p.send(ctx, tx, q, b)
	})
	if errors.Is(err, errFenced) && p.committed(ctx, b) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read model %s: partition %d, offsets %d to %d: %w", p.schema, b.Partition, b.From, b.Next, err)
	}
	return nil
}

func (p *Postgres) send(ctx context.Context, tx pgx.Tx, q *pgx.Batch, b *Batch) error {
	r := tx.SendBatch(ctx, q)
	defer r.Close()
	tag, err := r.Exec()
	if err != nil {
		return fmt.Errorf("offset: %w", err)
	}
	if tag.RowsAffected() != 1 {
		return errFenced
	}
	for i := 1; i < q.Len(); i++ {
		if _, err := r.Exec(); err != nil {
			if i <= len(b.Statements) {
				return fmt.Errorf("statement of %s: %w", b.Statements[i-1].Name, err)
			}
			return fmt.Errorf("parked keys: %w", err)
		}
	}
	return r.Close()
}

// committed says whether this very batch is there already: its commit's answer was lost.
func (p *Postgres) committed(ctx context.Context, b *Batch) bool {
	var owner string
	var batch int64
	err := p.pool.QueryRow(ctx, "select owner, batch from banyan_partition where partition = $1", b.Partition).Scan(&owner, &batch)
	return err == nil && owner == b.Owner && batch == b.Number+1
}

// Rendered is a document as a squad's SQL gave it.
type Rendered struct {
	Params []string        // as asked for
	JSON   json.RawMessage // nil: there is no such document (any more)
}

// Render asks for documents: sql gets $1 = a JSON array of objects with the named parameters, and returns one row per
// document that exists: the parameters, in this order, and the document as json or jsonb.
func (p *Postgres) Render(ctx context.Context, sql string, names []string, params [][]string) ([]Rendered, error) {
	if len(params) == 0 {
		return nil, nil
	}
	found := make(map[string]int, len(params))
	out := make([]Rendered, len(params))
	arg := []byte{'['}
	for i, ps := range params {
		sep := byte('{')
		for j, n := range names {
			arg = appendString(append(appendString(append(arg, sep), n), ':'), ps[j])
			sep = ','
		}
		arg = append(arg, '}', ',')
		out[i].Params = ps
		found[joinKey(ps)] = i
	}
	arg[len(arg)-1] = ']'
	rows, err := p.pool.Query(ctx, sql, pgx.QueryResultFormats{pgx.TextFormatCode}, arg)
	if err != nil {
		return nil, fmt.Errorf("documents: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		raw := rows.RawValues()
		if len(raw) != len(names)+1 {
			return nil, fmt.Errorf("documents: the statement returns %d columns; want %d: %v and the document", len(raw), len(names)+1, names)
		}
		ps := make([]string, len(names))
		for i := range names {
			ps[i] = string(raw[i])
		}
		i, ok := found[joinKey(ps)]
		if !ok {
			return nil, fmt.Errorf("documents: the statement returns %v = %q, which was not asked for", names, ps)
		}
		if raw[len(names)] != nil {
			out[i].JSON = append(json.RawMessage(nil), raw[len(names)]...)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("documents: %w", err)
	}
	return out, nil
}

// joinKey tells lists of strings apart: each comes with its length.
func joinKey(ps []string) string {
	if len(ps) == 1 {
		return ps[0]
	}
	var b []byte
	for _, p := range ps {
		b = append(append(strconv.AppendInt(b, int64(len(p)), 10), ':'), p...)
	}
	return string(b)
}

func appendString(b []byte, s string) []byte {
	j, _ := json.Marshal(s) // strings always marshal
	return append(b, j...)
}

// Keys are foreign bytes, and a text column takes neither NUL nor broken UTF-8: such a key stands as \x and hexadecimal.
func keyText(k event.OrderingKey) string {
	s := string(k)
	if utf8.ValidString(s) && !strings.Contains(s, "\x00") && !strings.HasPrefix(s, `\x`) {
		return s
	}
	return `\x` + hex.EncodeToString([]byte(s))
}

func keyOf(s string) (event.OrderingKey, error) {
	h, ok := strings.CutPrefix(s, `\x`)
	if !ok {
		return event.OrderingKey(s), nil
	}
	b, err := hex.DecodeString(h)
	return event.OrderingKey(b), err
}

func text(s string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "\uFFFD")
}
