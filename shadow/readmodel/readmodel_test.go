package readmodel

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"banyan/proxy/event"
	"banyan/testdata/lab"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

const ddl = `create table t (id bigint primary key, b bool, f float8, d numeric, x bytea, at timestamptz, j jsonb, s text);`

func open(t testing.TB, url, ddl string) *Postgres {
	t.Helper()
	p, err := OpenPostgres(t.Context(), PostgresConfig{URL: url, Schema: Schema("units", 1), DDL: ddl})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func created(t testing.TB) *Postgres {
	t.Helper()
	p := open(t, lab.Postgres(t).Database(t), ddl)
	if err := p.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestCreateIsForManyAtATimeAndRefusesAnotherDDL(t *testing.T) {
	url := lab.Postgres(t).Database(t)
	var wg sync.WaitGroup
	for range 5 {
		p := open(t, url, ddl)
		wg.Go(func() {
			if err := p.Create(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := open(t, url, ddl+"-- changed").Create(t.Context()); err == nil || !strings.Contains(err.Error(), "new generation") {
		t.Fatal(err)
	}
	bad := open(t, lab.Postgres(t).Database(t), "create table nonsense (")
	if err := bad.Create(t.Context()); err == nil || !strings.Contains(err.Error(), "the squad's DDL") {
		t.Fatal(err)
	}
	p := open(t, url, ddl)
	if err := p.Drop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.Create(t.Context()); err != nil {
		t.Fatal("after a drop:", err)
	}
}

func TestSchemaNames(t *testing.T) {
	if s := Schema("unit-orders", 3); s != "banyan_unit_orders_g3" {
		t.Fatal(s)
	}
	for _, s := range []string{"", "A", "1a", `a"b`, "a b", strings.Repeat("a", 64)} {
		if _, err := OpenPostgres(t.Context(), PostgresConfig{URL: "postgres://x", Schema: s}); err == nil {
			t.Errorf("%q was taken", s)
		}
	}
}

func batch(s State, owner string, next int64, pos event.Position, rows string) *Batch {
	return &Batch{Partition: 3, Owner: owner, Number: s.Batch, From: s.Next, Next: next,
		Progress:   &event.Progress{V: 1, Migration: "units", Generation: 1, Partition: 3, Position: pos, Applied: pos},
		Statements: []Statement{{Name: "x", SQL: `insert into t (id) select id from jsonb_to_recordset($1) as e(id bigint)`, Rows: []byte(rows)}}}
}

func TestRowsAndProgressAreOfOneMoment(t *testing.T) {
	p := created(t)
	st, err := p.Claim(t.Context(), 3, "me")
	if err != nil {
		t.Fatal(err)
	}
	snap, err := p.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Close(context.Background())
	if err := p.Commit(t.Context(), batch(st, "me", 10, 77, `[{"id":1},{"id":2}]`)); err != nil {
		t.Fatal(err)
	}
	count := func(s *Snapshot) (n int, pos event.Position) {
		rows, err := s.Query(t.Context(), "select id from t")
		if err != nil {
			t.Fatal(err)
		}
		for range rows.All() {
			n++
		}
		pr, err := s.Progress(t.Context(), 3)
		if err != nil || rows.Err() != nil {
			t.Fatal(err, rows.Err())
		}
		if pr != nil {
			pos = pr.Position
		}
		return n, pos
	}
	if n, pos := count(snap); n != 0 || pos != 0 { // opened before the commit
		t.Fatal(n, pos)
	}
	after, err := p.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer after.Close(context.Background())
	if n, pos := count(after); n != 2 || pos != 77 {
		t.Fatal(n, pos)
	}
}

func TestABatchIsWholeOrNothing(t *testing.T) {
	p := created(t)
	st, err := p.Claim(t.Context(), 3, "me")
	if err != nil {
		t.Fatal(err)
	}
	err = p.Commit(t.Context(), batch(st, "me", 10, 77, `[{"id":1},{"id":1}]`))
	if !IsData(err) || IsFenced(err) || !strings.Contains(err.Error(), "statement of x") {
		t.Fatal(err)
	}
	if err := p.Commit(t.Context(), batch(st, "you", 10, 77, `[{"id":1}]`)); !IsFenced(err) || IsData(err) {
		t.Fatal(err)
	}
	again, err := p.Claim(t.Context(), 3, "me2")
	if err != nil || again.Next != 0 || again.Batch != 0 || again.Progress != nil {
		t.Fatal(again, err)
	}
}

func TestValues(t *testing.T) {
	p := created(t)
	if _, err := p.pool.Exec(t.Context(), `insert into t values (9007199254740993, true, 0.1, 12.50, '\x00ff', '2026-01-02 03:04:05.123456+02', '{"a": 1}', 'é'), (2, null, 'NaN', null, null, null, null, null)`); err != nil {
		t.Fatal(err)
	}
	s, err := p.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(context.Background())
	rows, err := s.Query(t.Context(), "select id, s, b, f, d, x, at, j from t where id > $1 order by id desc", 1)
	if err != nil {
		t.Fatal(err)
	}
	var got []event.Values
	for v := range rows.All() {
		got = append(got, v)
	}
	want := []event.Values{
		{"id": json.Number("9007199254740993"), "s": "é", "b": true, "f": json.Number("0.1"), "d": "12.50", "x": "AP8=", "at": "2026-01-02 01:04:05.123456+00", "j": `{"a": 1}`},
		{"id": json.Number("2"), "s": nil, "b": nil, "f": "NaN", "d": nil, "x": nil, "at": nil, "j": nil}}
	if d := cmp.Diff(want, got); d != "" || rows.Err() != nil {
		t.Fatal(d, rows.Err())
	}
	if strings.Join(rows.Columns, " ") != "id s b f d x at j" {
		t.Fatal(rows.Columns)
	}
}

func redis(t testing.TB) *Redis {
	t.Helper()
	r, err := OpenRedis(RedisConfig{URL: "redis://" + lab.Redis(t).Addr, Prefix: lab.Prefix(t), Migration: "units", Generation: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// In whatever order writes arrive, the newest stays; also a removal.
func TestAnOlderDocumentNeverWins(t *testing.T) {
	r := redis(t)
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		key := fmt.Sprint("k", n)
		var newest Version
		var want string
		older := 0
		for i := range rapid.IntRange(1, 6).Draw(t, "writes") {
			v := Version{event.Position(rapid.SampledFrom([]uint64{0, 1, 9, 10, 1 << 40, 1<<64 - 1}).Draw(t, "position")), rapid.Int64Range(0, 20).Draw(t, "sequence")}
			doc := ""
			if rapid.Bool().Draw(t, "there") {
				doc = fmt.Sprintf(`{"n":%d}`, i)
			}
			stale := i > 0 && (v.Position < newest.Position || v.Position == newest.Position && v.Sequence < newest.Sequence)
			if !stale {
				newest, want = v, doc
			}
			got, err := r.Set(context.Background(), []Document{{Key: key, Version: v, JSON: json.RawMessage(doc)}})
			if err != nil || got != map[bool]int{true: 1}[stale] {
				t.Fatal(got, err)
			}
			older += got
		}
		if doc, err := r.Get(context.Background(), key); err != nil || string(doc) != want {
			t.Fatalf("%s, %v; want %s", doc, err, want)
		}
	})
}

func TestProgressInRedis(t *testing.T) {
	r := redis(t)
	if p, err := r.Progress(t.Context(), 1); p != nil || err != nil {
		t.Fatal(p, err)
	}
	for _, pos := range []event.Position{5, 9, 7} {
		if err := r.SetProgress(t.Context(), &event.Progress{V: 1, Partition: 1, Position: pos}, Version{pos, 0}); err != nil {
			t.Fatal(err)
		}
	}
	if p, err := r.Progress(t.Context(), 1); err != nil || p.Position != 9 {
		t.Fatal(p, err)
	}
}

func TestRender(t *testing.T) {
	p := created(t)
	if _, err := p.pool.Exec(t.Context(), `insert into t (id, s) values (1, 'a'), (3, 'c')`); err != nil {
		t.Fatal(err)
	}
	const sql = `select k.id, json_build_object('s', s) from jsonb_to_recordset($1) as k(id bigint) join t using (id)`
	got, err := p.Render(t.Context(), sql, []string{"id"}, [][]string{{"1"}, {"2"}, {"3"}})
	if err != nil || string(got[0].JSON) != `{"s" : "a"}` || got[1].JSON != nil || got[2].Params[0] != "3" {
		t.Fatal(got, err)
	}
	for want, sql := range map[string]string{
		"want 2":         `select '{}'::json from jsonb_to_recordset($1) as k(id bigint)`,
		"not asked for":  `select k.id + 1, '{}'::json from jsonb_to_recordset($1) as k(id bigint)`,
		"does not exist": `select nope from jsonb_to_recordset($1) as k(id bigint)`,
	} {
		if _, err := p.Render(t.Context(), sql, []string{"id"}, [][]string{{"1"}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
}
