// Package sourcetest is what every [changelog.Source] has to hold, on a real server.
package sourcetest

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strconv"
	"sync"
	"testing"
	"time"

	"banyan/legacyadapter/changelog"
	"banyan/proxy/event"
)

// Server is a database with the tables counters (k INT primary key, v INT, note VARCHAR) and elsewhere (id INT primary
// key), of which a source reads the first.
type Server struct {
	DB     *sql.DB
	Source func(t testing.TB) changelog.Source // a new one on the same database
	// Annotated runs statements in one transaction, each with its write id, "" for none.
	Annotated func(t testing.TB, ids, statements []string)
	Kill      func(t testing.TB) // ends the connections that stream the log
}

// Run runs the suite.
func Run(t *testing.T, open func(t testing.TB) *Server) {
	for name, f := range map[string]func(*testing.T, *Server){
		"CommitOrder": commitOrder, "ResumeEverywhere": resumeEverywhere, "RolledBack": rolledBack, "Annotations": annotations,
		"KilledConnection": killedConnection, "FencesAreTrue": fencesAreTrue, "IdleLogReachesFences": idle, "OneReader": oneReader,
		"SnapshotPositions": snapshotPositions, "Pages": pages,
	} {
		t.Run(name, func(t *testing.T) { f(t, open(t)) })
	}
}

func must(t testing.TB, db *sql.DB, q string) {
	t.Helper()
	if _, err := db.Exec(q); err != nil {
		t.Fatalf("%s: %v", q, err)
	}
}

// Head is the source's head.
func Head(t testing.TB, s changelog.Source) event.Position {
	t.Helper()
	p, err := s.Head(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var errEnough = errors.New("enough")

// Read streams to the position, over errors of the connection, and gives the transactions with rows.
func Read(t testing.TB, s changelog.Source, from, to event.Position) []*changelog.Txn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	var all []*changelog.Txn
	for from < to {
		err := s.Stream(ctx, from, func(x *changelog.Txn) error {
			if x.Position <= from {
				t.Errorf("%s after %s", x.Position, from)
			}
			from = x.Position
			if len(x.Rows) > 0 && x.Position <= to {
				all = append(all, x)
			}
			if from >= to {
				return errEnough
			}
			return nil
		})
		if errors.Is(err, errEnough) {
			break
		}
		if ctx.Err() != nil || changelog.IsStop(err) {
			t.Fatalf("stream from %s to %s: %v", from, to, err)
		}
	}
	return all
}

func integer(t testing.TB, v any) int {
	t.Helper()
	n, err := strconv.Atoi(string(v.(json.Number)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// load runs writers until stop is closed; each transaction adds one to one or two counters, and some are taken back.
func load(t testing.TB, db *sql.DB, writers, keys int, stop <-chan struct{}, committed func(k int, began, acked time.Time)) *sync.WaitGroup {
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 1))
			for {
				select {
				case <-stop:
					return
				default:
				}
				k := r.IntN(keys)
				began := time.Now()
				if err := once(db, r, k); err == nil && committed != nil {
					committed(k, began, time.Now())
				}
			}
		})
	}
	return &wg
}

var errTakenBack = errors.New("taken back")

func once(db *sql.DB, r *rand.Rand, k int) error {
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.Exec(fmt.Sprintf("UPDATE counters SET v = v + 1 WHERE k = %d", k)); err != nil {
		return err
	}
	if r.IntN(4) == 0 {
		if _, err := tx.Exec(fmt.Sprintf("INSERT INTO elsewhere (id) VALUES (%d)", r.Int32())); err != nil {
			return err
		}
	}
	if r.IntN(5) == 0 {
		return errTakenBack
	}
	return tx.Commit()
}

func counters(t testing.TB, db *sql.DB, keys int) {
	for k := range keys {
		must(t, db, fmt.Sprintf("INSERT INTO counters (k, v) VALUES (%d, 0)", k))
	}
}

func commitOrder(t *testing.T, s *Server) {
	const keys = 5
	src := s.Source(t)
	counters(t, s.DB, keys)
	from := Head(t, src)
	stop := make(chan struct{})
	var mu sync.Mutex
	want := map[int]int{}
	wg := load(t, s.DB, 8, keys, stop, func(k int, _, _ time.Time) { mu.Lock(); want[k]++; mu.Unlock() })
	time.AfterFunc(1500*time.Millisecond, func() { close(stop) }) // the length of the run
	wg.Wait()
	got := map[int]int{}
	for _, x := range Read(t, src, from, Head(t, src)) {
		for i, r := range x.Rows {
			if r.N != i || r.Table != "counters" || r.Op != event.Update {
				t.Fatalf("row %d of %s: %+v", i, x.Position, r)
			}
			k, v := integer(t, r.After["k"]), integer(t, r.After["v"])
			if v != got[k]+1 || integer(t, r.Before["v"]) != got[k] {
				t.Fatalf("counter %d at %s: from %v to %d, was %d", k, x.Position, r.Before["v"], v, got[k])
			}
			got[k] = v
		}
		if x.Received.IsZero() {
			t.Fatal("no time of reading")
		}
	}
	if !reflect.DeepEqual(got, want) || len(got) == 0 {
		t.Errorf("read %v, committed %v", got, want)
	}
	t.Logf("%v", got)
}

func resumeEverywhere(t *testing.T, s *Server) {
	src := s.Source(t)
	from := Head(t, src)
	for i := range 12 {
		must(t, s.DB, fmt.Sprintf("INSERT INTO counters (k, v, note) VALUES (%d, 1, 'x'), (%d, 2, NULL)", 2*i, 2*i+1))
		must(t, s.DB, fmt.Sprintf("INSERT INTO elsewhere (id) VALUES (%d)", i))
		must(t, s.DB, fmt.Sprintf("DELETE FROM counters WHERE k = %d", 2*i))
	}
	to := Head(t, src)
	// Every position that is emitted, not only those with rows.
	var positions []event.Position
	err := src.Stream(t.Context(), from, func(x *changelog.Txn) error {
		positions = append(positions, x.Position)
		if x.Position >= to {
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		t.Fatal(err)
	}
	all := Read(t, src, from, to)
	if len(all) != 24 {
		t.Fatalf("%d transactions, want 24", len(all))
	}
	for _, p := range positions {
		if p >= to {
			break
		}
		got := Read(t, src, p, to)
		var want []*changelog.Txn
		for _, x := range all {
			if x.Position > p {
				want = append(want, x)
			}
		}
		if len(got) != len(want) {
			t.Fatalf("from %s: %d transactions, want %d", p, len(got), len(want))
		}
		for i := range want {
			if got[i].Position != want[i].Position || !reflect.DeepEqual(got[i].Rows, want[i].Rows) {
				t.Fatalf("from %s: %+v, want %+v", p, got[i], want[i])
			}
		}
	}
}

func rolledBack(t *testing.T, s *Server) {
	src := s.Source(t)
	from := Head(t, src)
	tx, err := s.DB.Begin()
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{"INSERT INTO counters (k, v) VALUES (1, 1)", "SAVEPOINT a", "INSERT INTO counters (k, v) VALUES (2, 1)",
		"ROLLBACK TO SAVEPOINT a", "INSERT INTO counters (k, v) VALUES (3, 1)"} {
		if _, err := tx.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if tx, err = s.DB.Begin(); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec("INSERT INTO counters (k, v) VALUES (4, 1)"); err != nil {
		t.Fatal(err)
	}
	tx.Rollback()
	var got []any
	for _, x := range Read(t, src, from, Head(t, src)) {
		for _, r := range x.Rows {
			got = append(got, r.After["k"])
		}
	}
	if want := []any{json.Number("1"), json.Number("3")}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func annotations(t *testing.T, s *Server) {
	src := s.Source(t)
	from := Head(t, src)
	s.Annotated(t, []string{"p1.1.1", "p1.1.2", "p1.1.2"}, []string{
		"INSERT INTO counters (k, v) VALUES (1, 1), (2, 1)",
		"UPDATE counters SET v = 5",
		"DELETE FROM counters WHERE k = 2"})
	must(t, s.DB, "INSERT INTO counters (k, v, note) VALUES (9, 1, '/*banyan:id=p1.1.9*/')")
	got := ""
	for _, x := range Read(t, src, from, Head(t, src)) {
		for i := range x.Rows {
			id := event.WriteID{}
			if x.Annotations != nil {
				id = x.Annotations[i]
			}
			got += fmt.Sprintf("%s %s;", x.Rows[i].Op, id)
		}
	}
	if want := "insert p1.1.1;insert p1.1.1;update p1.1.2;update p1.1.2;delete p1.1.2;insert ;"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func killedConnection(t *testing.T, s *Server) {
	src := s.Source(t)
	from := Head(t, src)
	at := from
	seen := 0
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	const n = 10
	for i := range n {
		must(t, s.DB, fmt.Sprintf("INSERT INTO counters (k, v) VALUES (%d, 1)", i))
		killed := false
		for want := i + 1; seen < want || !killed; {
			err := src.Stream(ctx, at, func(x *changelog.Txn) error {
				at = x.Position
				seen += len(x.Rows)
				if seen == want && !killed {
					killed = true
					go s.Kill(t)
				}
				return nil
			})
			if ctx.Err() != nil || err == nil || changelog.IsStop(err) {
				t.Fatalf("stream ended with %v", err)
			}
		}
	}
	if seen != n {
		t.Errorf("%d rows, want %d", seen, n)
	}
}

func fencesAreTrue(t *testing.T, s *Server) {
	const keys = 64
	src := s.Source(t)
	counters(t, s.DB, keys)
	from := Head(t, src)
	if err := src.Lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	type commit struct{ began, acked time.Time }
	var mu sync.Mutex
	commits := map[int][]commit{} // per key; a key is used by one writer at a time, so in commit order
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				k := w*8 + i%8
				began := time.Now()
				if _, err := s.DB.Exec(fmt.Sprintf("UPDATE counters SET v = v + 1 WHERE k = %d", k)); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				commits[k] = append(commits[k], commit{began, time.Now()})
				mu.Unlock()
			}
		})
	}
	var fences []event.Fence
	for until := time.Now().Add(1500 * time.Millisecond); time.Now().Before(until); {
		f, err := src.Fence(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		fences = append(fences, f)
	}
	close(stop)
	wg.Wait()
	at := map[int][]event.Position{}
	for _, x := range Read(t, src, from, Head(t, src)) {
		for _, r := range x.Rows {
			k := integer(t, r.After["k"])
			at[k] = append(at[k], x.Position)
		}
	}
	n := 0
	for k, cs := range commits {
		for i, c := range cs {
			p := at[k][i]
			for j := i % 8; j < len(fences); j += 8 {
				f := fences[j]
				if c.acked.Before(f.Sent) && p > f.Position {
					t.Fatalf("committed %s before the fence was sent, at %s, fence %s", f.Sent.Sub(c.acked), p, f.Position)
				}
				if p <= f.Position && c.began.After(f.Answered) {
					t.Fatalf("began %s after the fence was answered, at %s, fence %s", c.began.Sub(f.Answered), p, f.Position)
				}
				n++
			}
		}
	}
	t.Logf("%d fences, %d comparisons", len(fences), n)
}

func idle(t *testing.T, s *Server) {
	src := s.Source(t)
	if err := src.Lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	from := Head(t, src)
	for _, q := range []string{"INSERT INTO counters (k, v) VALUES (1, 1)", "INSERT INTO elsewhere (id) VALUES (1)",
		"CREATE TABLE ddl (id INT PRIMARY KEY)", "INSERT INTO ddl VALUES (1)", "DROP TABLE ddl"} {
		must(t, s.DB, q)
		f, err := src.Fence(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		Read(t, src, from, f.Position)
		if d := time.Since(began); d > 10*time.Second {
			t.Errorf("after %q the reader took %s to reach the fence", q, d)
		}
		from = f.Position
	}
}

func oneReader(t *testing.T, s *Server) {
	a, b := s.Source(t), s.Source(t)
	if err := a.Lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.Lock(t.Context()); err == nil {
		t.Error("two readers hold the lock")
	}
	lockSoon(t, a) // again, as after a lost connection
	if c, ok := a.(interface{ Close() error }); ok {
		c.Close()
	}
	if _, err := a.Fence(t.Context()); err == nil {
		t.Error("a fence without the lock")
	}
	lockSoon(t, b)
}

// lockSoon takes a lock whose holder's connection has ended: the server lets it go a moment later.
func lockSoon(t *testing.T, s changelog.Source) {
	t.Helper()
	var err error
	for range 500 {
		if err = s.Lock(t.Context()); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal(err)
}

// snapshotPositions: a snapshot is what the log says up to Low, and at most what it says up to High.
func snapshotPositions(t *testing.T, s *Server) {
	const keys = 20
	src := s.Source(t)
	counters(t, s.DB, keys)
	from := Head(t, src)
	stop := make(chan struct{})
	wg := load(t, s.DB, 6, keys, stop, nil)
	type shot struct {
		low, high event.Position
		v         map[int]int
	}
	var shots []shot
	for range 12 {
		n, err := src.Snapshot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		x := shot{n.Low(), n.High(), map[int]int{}}
		rows, err := n.Query(t.Context(), "SELECT k, v FROM counters")
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			x.v[integer(t, rows.Values()[0])] = integer(t, rows.Values()[1])
		}
		if rows.Err() != nil || rows.Close() != nil || n.Close() != nil {
			t.Fatal(rows.Err())
		}
		shots = append(shots, x)
	}
	close(stop)
	wg.Wait()
	log := Read(t, src, from, Head(t, src))
	for _, x := range shots {
		low, high := map[int]int{}, map[int]int{}
		for _, c := range log {
			for _, r := range c.Rows {
				k, v := integer(t, r.After["k"]), integer(t, r.After["v"])
				if c.Position <= x.low {
					low[k] = v
				}
				if c.Position <= x.high {
					high[k] = v
				}
			}
		}
		for k, v := range x.v {
			if v < low[k] || v > high[k] {
				t.Fatalf("snapshot (%s, %s): counter %d is %d, the log says %d to %d", x.low, x.high, k, v, low[k], high[k])
			}
		}
	}
	t.Logf("%d transactions, snapshots %v", len(log), shots[len(shots)-1])
}

func pages(t *testing.T, s *Server) {
	src := s.Source(t)
	for i := range 53 {
		must(t, s.DB, fmt.Sprintf("INSERT INTO counters (k, v) VALUES (%d, %d)", i*3-20, i))
	}
	tables, err := src.Describe(t.Context(), []string{"counters"})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(tables[0].PrimaryKey, []string{"k"}) || len(tables[0].Columns) != 3 {
		t.Fatalf("described as %+v", tables[0])
	}
	n, err := src.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	var after []any
	var got []int
	for {
		rows, err := n.Page(t.Context(), tables[0], after, "v <> 7", 10)
		if err != nil {
			t.Fatal(err)
		}
		k := 0
		for ; rows.Next(); k++ {
			row := changelog.RowOf(rows.Columns(), rows.Values())
			after = []any{row["k"]}
			got = append(got, integer(t, row["v"]))
		}
		if rows.Err() != nil {
			t.Fatal(rows.Err())
		}
		rows.Close()
		if k < 10 {
			break
		}
	}
	if len(got) != 52 || got[0] != 0 || got[7] != 8 || got[51] != 52 {
		t.Errorf("got %v", got)
	}
	if _, err := src.Describe(t.Context(), []string{"nowhere"}); err == nil {
		t.Error("a table that is not there was described")
	}
}
