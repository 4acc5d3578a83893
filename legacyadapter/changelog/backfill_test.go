package changelog_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"banyan/legacyadapter/changelog"
	"banyan/legacyadapter/mysql"
	"banyan/legacyadapter/postgres"
	"banyan/proxy/event"
	"banyan/testdata/lab"

	_ "github.com/jackc/pgx/v5/stdlib"
)

// legacy is a database with the table units.
type legacy struct {
	db                  *sql.DB
	src                 func(t testing.TB) changelog.Source
	kind, address, slot string
}

func onMariaDB(t testing.TB) legacy { return mariaDBOn(t, lab.MariaDB(t)) }

func mariaDBOn(t testing.TB, server *lab.MariaDBServer) legacy {
	_, dsn := server.Database(t)
	db := openDB(t, "mysql", dsn+"?multiStatements=true")
	mustExec(t, db, unitsSQL)
	return legacy{kind: "mysql", address: dsn, db: db, src: func(t testing.TB) changelog.Source {
		s, err := mysql.New(mysql.Config{DSN: dsn, Tables: []string{"units"}}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}}
}

func onPostgres(t testing.TB) legacy {
	url, slot := lab.Postgres(t).Database(t), lab.Prefix(t)
	db := openDB(t, "pgx", url)
	mustExec(t, db, unitsSQL)
	l := legacy{kind: "postgres", address: url, slot: slot, db: db, src: func(t testing.TB) changelog.Source {
		s, err := postgres.New(postgres.Config{URL: url, Slot: slot, Tables: []string{"units"}, MaxCommitDelay: 50 * time.Millisecond}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}}
	if err := l.src(t).(*postgres.Source).Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	return l
}

const unitsSQL = "CREATE TABLE units (id INT PRIMARY KEY, match_id INT, v BIGINT NOT NULL, name VARCHAR(50)); CREATE TABLE other (id INT PRIMARY KEY)"

func openDB(t testing.TB, driver, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func both(t *testing.T, f func(t *testing.T, l legacy)) {
	t.Run("MariaDB", func(t *testing.T) { f(t, onMariaDB(t)) })
	t.Run("PostgreSQL", func(t *testing.T) { f(t, onPostgres(t)) })
}

// play inserts, updates, deletes and re-keys rows until stop is closed.
func play(t testing.TB, db *sql.DB, writers, rows int, stop <-chan struct{}) *sync.WaitGroup {
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 7))
			for {
				select {
				case <-stop:
					return
				default:
				}
				id := r.IntN(rows)
				var q string
				switch r.IntN(10) {
				case 0:
					q = fmt.Sprintf("DELETE FROM units WHERE id = %d", id)
				case 1:
					q = fmt.Sprintf("INSERT INTO units (id, match_id, v, name) VALUES (%d, %d, 0, 'new')", id, r.IntN(9))
				case 2:
					q = fmt.Sprintf("UPDATE units SET id = %d WHERE id = %d", r.IntN(rows), id)
				case 3:
					q = fmt.Sprintf("UPDATE units SET match_id = %d WHERE id = %d", r.IntN(9), id)
				default:
					q = fmt.Sprintf("UPDATE units SET v = v + 1 WHERE id = %d", id)
				}
				_, _ = db.Exec(q) // a taken id is refused
				// A pace: the log of writers without one grows faster than the race detector lets its reader follow, and
				// the backfill, which waits for the reader, would not end.
				time.Sleep(2 * time.Millisecond)
			}
		})
	}
	return &wg
}

func fill(t testing.TB, db *sql.DB, rows int) {
	t.Helper()
	for i := 0; i < rows; i += 500 {
		q := "INSERT INTO units (id, match_id, v, name) VALUES "
		for j := i; j < min(i+500, rows); j++ {
			if j > i {
				q += ","
			}
			q += fmt.Sprintf("(%d, %d, 0, 'n%d')", j, j%9, j)
		}
		mustExec(t, db, q)
	}
}

func tableNow(t testing.TB, src changelog.Source) (map[string]event.Values, event.Position) {
	t.Helper()
	n, err := src.Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	rows, err := n.Query(context.Background(), "SELECT id, match_id, v, name FROM units")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	m := map[string]event.Values{}
	for rows.Next() {
		v := changelog.RowOf(rows.Columns(), rows.Values())
		m[string(v["id"].(json.Number))] = v
	}
	if rows.Err() != nil {
		t.Fatal(rows.Err())
	}
	return m, n.High()
}

// fold is the table as .changes tells it: every row is what its last change says, whatever the partition; a change
// counts once though it may stand under two keys. An import must equal what the log says at its position.
type fold struct {
	t        testing.TB
	rows     map[string]event.Values
	complete bool // rows were there before: every change must fit
}

func (f *fold) all(rs []record) {
	byPosition := map[event.Position]map[int]event.RowChange{}
	var order []event.Position
	imports := map[event.Position][]event.RowChange{}
	for _, c := range checkStream(f.t, rs) {
		if byPosition[c.Position] == nil {
			byPosition[c.Position] = map[int]event.RowChange{}
			order = append(order, c.Position)
		}
		for _, r := range c.Rows {
			if r.Op == event.Import {
				imports[c.Position] = append(imports[c.Position], r)
			} else {
				byPosition[c.Position][r.N] = r
			}
		}
	}
	slices.Sort(order)
	known := map[string]bool{} // rows that the log or an import has told of
	for _, p := range order {
		for n := range len(byPosition[p]) + 64 {
			r, ok := byPosition[p][n]
			if !ok {
				continue
			}
			if r.Before != nil {
				id := string(r.Before["id"].(json.Number))
				if old, ok := f.rows[id]; (known[id] || f.complete) && (!ok || !reflect.DeepEqual(old, r.Before)) {
					f.t.Fatalf("at %s: row %s was %v, folded %v", p, id, r.Before, old)
				}
				delete(f.rows, id)
				known[id] = true
			}
			if r.After != nil {
				id := string(r.After["id"].(json.Number))
				f.rows[id], known[id] = r.After, true
			}
		}
		for _, r := range imports[p] {
			id := string(r.After["id"].(json.Number))
			if old, ok := f.rows[id]; known[id] && (!ok || !reflect.DeepEqual(old, r.After)) {
				f.t.Fatalf("import at %s: row %s is %v, but the log says %v", p, id, r.After, old)
			}
			f.rows[id], known[id] = r.After, true
		}
	}
}

func (f *fold) equals(want map[string]event.Values) {
	f.t.Helper()
	if len(f.rows) != len(want) {
		f.t.Errorf("%d rows, the table has %d", len(f.rows), len(want))
	}
	for id, w := range want {
		if !reflect.DeepEqual(f.rows[id], w) {
			f.t.Fatalf("row %s is %v, the table has %v", id, f.rows[id], w)
		}
	}
}

// Under concurrent inserts, updates, deletes and changed primary keys, with the publisher killed and started again, the
// fold of .changes is the table, and no import says less than the log.
func TestBackfillUnderLoad(t *testing.T) {
	both(t, func(t *testing.T, l legacy) {
		const rows = 1500
		cfg := broker(t)
		fill(t, l.db, rows)
		stop := make(chan struct{})
		wg := play(t, l.db, 6, rows+300, stop)
		points := &memory{}
		src := l.src(t)
		config := changelog.Config{Kafka: cfg, Mappings: unitsOnly(), Checkpoints: points}
		p := start(t, config, src)
		req := changelog.BackfillRequest{Migration: "units", Table: "units", ChunkRows: 100, RowsPerSecond: 3000}
		var last changelog.Progress
		ctx, cancel := context.WithCancel(t.Context())
		err := p.Backfill(ctx, req, func(x changelog.Progress) {
			if last = x; x.Rows > 400 {
				cancel()
			}
		})
		if !errors.Is(err, context.Canceled) || last.Done {
			t.Fatalf("cut off with %v after %+v", err, last)
		}
		p.stop()
		p = start(t, config, src)
		if err := p.Backfill(t.Context(), req, func(x changelog.Progress) { last = x }); err != nil {
			t.Fatal(err)
		}
		close(stop)
		wg.Wait()
		want, high := tableNow(t, src)
		f := &fold{t: t, rows: map[string]event.Values{}}
		f.all(until(t, cfg, high))
		f.equals(want)
		if !last.Done || last.Fresher == 0 {
			t.Errorf("progress %+v", last)
		}
		t.Logf("%+v, %+v", last, p.Stats())
		if err := p.Backfill(t.Context(), req, func(changelog.Progress) { t.Error("it is done, yet went on") }); err != nil {
			t.Error(err)
		}
	})
}

func TestBackfillRefuses(t *testing.T) {
	l := onMariaDB(t)
	mustExec(t, l.db, "CREATE TABLE loose (n INT)")
	loose := changelog.Mapping{Migration: "units", Table: "loose", Key: byMatch}
	p := start(t, changelog.Config{Kafka: broker(t), Mappings: append(unitsOnly(), loose), Checkpoints: &memory{}}, l.src(t))
	for _, r := range []changelog.BackfillRequest{
		{Migration: "units", Table: "loose"}, {Migration: "units", Table: "nowhere"}, {Migration: "other", Table: "units"},
		{Migration: "units", Table: "units", ChunkRows: -1}, {Migration: "units", Table: "units", RowsPerSecond: -1},
	} {
		if err := p.Backfill(t.Context(), r, nil); err == nil {
			t.Errorf("%+v was accepted", r)
		} else {
			t.Log(err)
		}
	}
}

// A row that gets another primary key, one that was passed already, is imported all the same: the change that moved it
// is nothing to a reader that does not have the row yet.
func TestBackfillMovedRow(t *testing.T) {
	both(t, func(t *testing.T, l legacy) {
		cfg := broker(t)
		fill(t, l.db, 100)
		src := l.src(t)
		p := start(t, changelog.Config{Kafka: cfg, Mappings: unitsOnly(), Checkpoints: &memory{}}, src)
		awaitMarks(t, cfg)
		req := changelog.BackfillRequest{Migration: "units", Table: "units", ChunkRows: 20}
		first := true
		if err := p.Backfill(t.Context(), req, func(changelog.Progress) {
			if first {
				first = false
				mustExec(t, l.db, "UPDATE units SET id = -1 WHERE id = 95")
			}
		}); err != nil {
			t.Fatal(err)
		}
		imported := map[string]int{}
		for _, c := range checkStream(t, until(t, cfg, head(t, src))) {
			for _, r := range c.Rows {
				if r.Op == event.Import {
					imported[string(r.After["id"].(json.Number))]++
				}
			}
		}
		if imported["-1"] != 1 || imported["95"] != 0 || len(imported) != 100 {
			t.Errorf("%d rows imported, -1: %d times, 95: %d times", len(imported), imported["-1"], imported["95"])
		}
	})
}
