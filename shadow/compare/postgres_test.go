package compare

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"banyan/proxy/event"
	"banyan/shadow/ledger"
	"banyan/testdata/lab"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// pgSide is a schema of a real database, as either side. Nothing moves in it while it is read.
type pgSide struct {
	pool *pgxpool.Pool
	at   event.Position
}

type pgShot struct {
	tx pgx.Tx
	at event.Position
}

func (p pgSide) Dialect() Dialect                           { return dialect }
func (p pgSide) Wait(context.Context, event.Position) error { return nil }

func (p pgSide) shot(ctx context.Context) (*pgShot, error) {
	tx, err := p.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	return &pgShot{tx, p.at}, err
}

type pgLegacy struct{ pgSide }
type pgModel struct{ pgSide }

func (p pgLegacy) Snapshot(ctx context.Context) (LegacySnapshot, error) { return p.shot(ctx) }
func (p pgModel) Snapshot(ctx context.Context) (ModelSnapshot, error)   { return p.shot(ctx) }

func (s *pgShot) Low() event.Position  { return s.at }
func (s *pgShot) High() event.Position { return s.at }
func (s *pgShot) Close() error         { return s.tx.Rollback(context.Background()) }
func (s *pgShot) Progress(context.Context, int32) (*event.Progress, error) {
	return &event.Progress{V: 1, Position: s.at}, nil
}

func (s *pgShot) Query(ctx context.Context, sql string, args ...any) (Rows, error) {
	rows, err := s.tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return &pgRows{rows: rows}, nil
}

type pgRows struct {
	rows   pgx.Rows
	values []any
	err    error
}

func (r *pgRows) Columns() (names []string) {
	for _, f := range r.rows.FieldDescriptions() {
		names = append(names, f.Name)
	}
	return names
}

func (r *pgRows) Next() bool {
	if !r.rows.Next() {
		return false
	}
	r.values, r.err = r.rows.Values()
	for i, v := range r.values {
		switch v := v.(type) {
		case int32, int64:
			r.values[i] = json.Number(fmt.Sprint(v))
		}
	}
	return r.err == nil
}
func (r *pgRows) Values() []any { return r.values }
func (r *pgRows) Err() error {
	if r.err != nil {
		return r.err
	}
	return r.rows.Err()
}
func (r *pgRows) Close() error { r.rows.Close(); return nil }

// Two schemas of a real PostgreSQL, ids as numbers and as text that every collation sorts otherwise than its bytes, and the
// real ledger: sweep, finding, repair, fixed.
func TestStateOnPostgres(t *testing.T) {
	for _, kind := range []string{"int", "text"} {
		t.Run(kind, func(t *testing.T) {
			ctx := t.Context()
			url := lab.Postgres(t).Database(t)
			pool, err := pgxpool.New(ctx, url)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(pool.Close)
			exec := func(sql string, args ...any) {
				t.Helper()
				if _, err := pool.Exec(ctx, sql, args...); err != nil {
					t.Fatal(err)
				}
			}
			value := "g"
			if kind == "text" {
				value = "(array['a','B','_','ä','é z','Z','0','-'])[1 + g % 8] || g"
			}
			for _, schema := range []string{"legacy", "model"} {
				exec("create schema " + schema)
				exec("create table " + schema + ".units (id " + kind + " primary key, match_id int, hp int)")
				exec("insert into " + schema + ".units select " + value + ", g % 3, g from generate_series(1, 1000) g")
			}
			l, err := ledger.Open(ctx, ledger.Config{URL: url})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(l.Close)
			if _, err := l.SetFingerprint(ctx, migration, "fp"); err != nil {
				t.Fatal(err)
			}
			now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
			x := NewIndex(IndexConfig{Migration: migration, Entity: entityOf})
			x.Begin()
			x.Mark(&event.SettledMark{Position: 100}, now)
			sql := "select id, match_id, hp from %s.units"
			s, err := NewState(StateConfig{Migration: migration, Fingerprint: "fp", Name: "unit", LegacySQL: fmt.Sprintf(sql, "legacy"), ModelSQL: fmt.Sprintf(sql, "model") + ";",
				Entity: func(v event.Values) (event.Entity, bool) { return entityOf("units", v) },
				Key: func(v event.Values) (event.OrderingKey, bool) {
					return event.OrderingKey(fmt.Sprint("match/", v["match_id"])), true
				},
				ID: func(e event.Entity) (any, bool) {
					id, ok := strings.CutPrefix(string(e), "unit/")
					if kind == "int" {
						var n int64
						_, err := fmt.Sscan(id, &n)
						return n, ok && err == nil
					}
					return id, ok
				}, Partitions: 4, Legacy: pgLegacy{pgSide{pool, 100}}, Model: pgModel{pgSide{pool, 100}}, Ledger: l, ChunkRows: 64,
				Now: func() time.Time { return now }}, func(int32) *Index { return x })
			if err != nil {
				t.Fatal(err)
			}
			run := func() {
				t.Helper()
				now = now.Add(time.Hour)
				for more := true; more; {
					if more, err = s.Step(ctx); err != nil {
						t.Fatal(err)
					}
				}
			}
			run()
			e, err := l.Evidence(ctx, migration)
			if err != nil || len(e.Comparisons) != 1 || !e.Comparisons[0].Sweep.Complete() || e.Comparisons[0].Sweep.Verified != 1000 || len(e.Findings) != 0 {
				t.Fatalf("%+v %v", e, err)
			}
			exec("update model.units set hp = -1 where hp = 500")
			exec("delete from model.units where hp = 64")
			exec("delete from legacy.units where hp = 1000")
			run()
			fs, err := l.Findings(ctx, migration, ledger.StateOpen)
			if err != nil || len(fs) != 3 {
				t.Fatalf("%+v %v", fs, err)
			}
			exec("truncate model.units")
			exec("insert into model.units select * from legacy.units")
			run()
			run()
			if fs, err = l.Findings(ctx, migration, ledger.StateFixed); err != nil || len(fs) != 3 {
				t.Fatalf("%+v %v", fs, err)
			}
		})
	}
}
