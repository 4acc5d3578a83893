package role

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"banyan/diff"
	"banyan/legacyadapter/mysql"
	"banyan/proxy/event"
	"banyan/shadow/compare"
	"banyan/shadow/ledger"
	"banyan/shadow/readmodel"
	"banyan/testdata/lab"

	"github.com/jackc/pgx/v5"
)

// sweptRows is how many rows each side has: enough for what does not grow with them to show.
const sweptRows = 1_000_000

// stillModel is a read model that nothing moves: its progress is above every position of legacy.
type stillModel struct{ pg *readmodel.Postgres }

func (stillModel) Dialect() compare.Dialect                   { return postgresDialect }
func (stillModel) Wait(context.Context, event.Position) error { return nil }
func (m stillModel) Snapshot(ctx context.Context) (compare.ModelSnapshot, error) {
	n, err := m.pg.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	return modelSnapshot{Snapshot: n, ctx: ctx, progress: []*event.Progress{{V: event.MarkVersion, Position: ^event.Position(0) >> 1}}}, nil
}

// noLedger takes what the sweep says and keeps the newest.
type noLedger struct {
	sweep atomic.Pointer[ledger.Sweep]
	found atomic.Int64
}

func (l *noLedger) Commit(_ context.Context, b *ledger.Batch) error {
	l.found.Add(int64(len(b.Found)))
	for _, s := range b.Sweeps {
		l.sweep.Store(&s)
	}
	return nil
}
func (*noLedger) Checkpoint(context.Context, string) ([]byte, int64, error) { return nil, 0, nil }
func (*noLedger) OpenKeys(context.Context, event.Migration, ledger.Comparison, int, ...event.OrderingKey) ([]ledger.OpenKey, error) {
	return nil, nil
}
func (*noLedger) Sweep(context.Context, event.Migration, ledger.Comparison, string) (*ledger.Sweep, error) {
	return nil, nil
}

// BenchmarkSweep is a whole sweep of a MariaDB table against a PostgreSQL one of a million rows of eight columns each:
// snapshots, both queries, merge and verdict. One row in each 100,000 differs and has to be found.
func BenchmarkSweep(b *testing.B) {
	ctx := b.Context()
	_, dsn := lab.MariaDB(b).Database(b)
	my, err := sql.Open("mysql", dsn)
	if err != nil {
		b.Fatal(err)
	}
	defer my.Close()
	url := lab.Postgres(b).Database(b)
	pg, err := pgx.Connect(ctx, url)
	if err != nil {
		b.Fatal(err)
	}
	defer pg.Close(context.Background())
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	_, err = my.Exec(`CREATE TABLE units (id INT PRIMARY KEY, match_id INT NOT NULL, province_id INT NOT NULL, type VARCHAR(16) NOT NULL,
		name VARCHAR(40) NOT NULL, hp INT NOT NULL, stock DOUBLE NOT NULL, moved_at DATETIME NULL)`)
	must(err)
	_, err = my.Exec(fmt.Sprintf(`INSERT INTO units SELECT seq, seq %% 50, seq %% 900, IF(seq %% 3, 'infantry', 'cavalry'), CONCAT('unit ', seq), seq %% 100, seq / 4,
		IF(seq %% 2, '2026-01-02 03:04:05', NULL) FROM seq_1_to_%d`, sweptRows))
	must(err)
	must(func() error {
		_, err := pg.Exec(ctx, fmt.Sprintf(`create schema m; create table m.units as select g as id, g %% 50 as match_id, g %% 900 as province_id,
			case when g %% 3 > 0 then 'infantry' else 'cavalry' end as type, 'unit ' || g as name, case when g %% 100000 = 0 then 101 else g %% 100 end as hp,
			(g / 4.0)::float8 as stock, case when g %% 2 = 1 then timestamp '2026-01-02 03:04:05' end as moved_at from generate_series(1, %d) g;
			alter table m.units add primary key (id); analyze m.units`, sweptRows))
		return err
	}())
	source, err := mysql.New(mysql.Config{DSN: dsn, Tables: []string{"units"}}, slog.New(slog.DiscardHandler))
	must(err)
	defer source.Close()
	model, err := readmodel.OpenPostgres(ctx, readmodel.PostgresConfig{URL: url, Schema: "m"})
	must(err)
	defer model.Close()
	rules, err := diff.Compile(nil)
	must(err)
	index := compare.NewIndex(compare.IndexConfig{Migration: "units"})
	index.Begin()
	index.BeginEvents()
	index.Mark(&event.SettledMark{V: event.MarkVersion, Position: ^event.Position(0) >> 1}, time.Now())
	index.MarkEvents(&event.SettledMark{V: event.MarkVersion, Position: ^event.Position(0) >> 1})

	before, heap, rows := cpu(), uint64(0), int64(0)
	for b.Loop() {
		l := &noLedger{}
		s, err := compare.NewState(compare.StateConfig{Migration: "units", Name: "unit",
			LegacySQL: "SELECT id, match_id, province_id, type, name, hp, stock, CAST(moved_at AS CHAR) AS moved_at FROM units",
			ModelSQL:  "SELECT id, match_id, province_id, type, name, hp, stock, to_char(moved_at, 'YYYY-MM-DD HH24:MI:SS') AS moved_at FROM units",
			Entity: func(v event.Values) (event.Entity, bool) {
				t, ok := event.Text(v["id"])
				return event.Entity("unit/" + t), ok
			},
			Key: func(v event.Values) (event.OrderingKey, bool) {
				t, ok := event.Text(v["match_id"])
				return event.OrderingKey("match/" + t), ok
			},
			ID:         func(event.Entity) (any, bool) { return nil, false },
			Rules:      rules,
			Partitions: 1, Legacy: legacyReader{source, true}, Model: stillModel{model}, Ledger: l}, func(int32) *compare.Index { return index })
		must(err)
		for sweep := l.sweep.Load(); sweep == nil || !sweep.Done; sweep = l.sweep.Load() {
			_, err := s.Step(ctx)
			must(err)
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			heap = max(heap, m.HeapInuse)
		}
		if sweep := l.sweep.Load(); sweep.Verified != sweptRows || sweep.Different != sweptRows/100_000 || sweep.Unverified != 0 {
			b.Fatalf("verified %d, different %d, unverified %d (%v)", sweep.Verified, sweep.Different, sweep.Unverified, sweep.Keys)
		}
		rows += sweptRows
	}
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric((cpu()-before).Seconds()*1e6/float64(rows), "own-cpu-us/row")
	b.ReportMetric(float64(heap)/(1<<20), "MiB-heap-max")
}

// cpu is what this process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // cannot fail for oneself
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
