package project

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"banyan/proxy/event"
	"banyan/proxy/kafka"
	"banyan/shadow/contract"
	"banyan/shadow/parked"
	"banyan/shadow/readmodel"
	"banyan/shadow/stream"
	"banyan/testdata/lab"

	"github.com/jackc/pgx/v5"
)

const unitsDDL = `create table units (id bigint primary key, match_id bigint not null, province bigint not null, hp int not null check (hp >= 0),
	moves bigint not null default 0);`

var files = fstest.MapFS{
	"imported.sql": {Data: []byte(`insert into units (id, match_id, province, hp)
		select id, match, province, hp from jsonb_to_recordset($1) as e(id bigint, match bigint, province bigint, hp int)
		on conflict (id) do update set match_id = excluded.match_id, province = excluded.province, hp = excluded.hp`)},
	"moved.sql": {Data: []byte(`update units u set province = e."to", moves = u.moves + 1 from jsonb_to_recordset($1) as e(unit bigint, "to" bigint) where u.id = e.unit`)},
	"hit.sql":   {Data: []byte(`update units u set hp = u.hp - e.by from jsonb_to_recordset($1) as e(unit bigint, by int) where u.id = e.unit`)},
	"storm.sql": {Data: []byte(`update units u set province = u.province * 2 from jsonb_to_recordset($1) as e(match bigint) where u.match_id = e.match`)},
	"unit.sql": {Data: []byte(`select k.unit, json_build_object('province', u.province, 'hp', u.hp, 'moves', u.moves)
		from jsonb_to_recordset($1) as k(unit bigint) join units u on u.id = k.unit`)},
}

func contracts(t testing.TB) *contract.Registry {
	t.Helper()
	fs := fstest.MapFS{}
	for name, required := range map[string]string{"unit.imported": `"id","match","province","hp"`, "unit.moved": `"unit","to"`, "unit.hit": `"unit","by"`, "match.stormed": `"match"`} {
		fs[name+"/v1.json"] = &fstest.MapFile{Data: []byte(`{"type":"object","required":[` + required + `]}`)}
	}
	r, err := contract.Load(fs)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func config(t testing.TB) Config {
	return Config{Kafka: kafka.Config{Prefix: "b", Partitions: 1, Replication: 1}, Migration: "units", Generation: 1, OrderBy: "match/{match}", Files: files,
		Contracts: contracts(t), On: map[string]Handler{
			"unit.imported@1": {SQL: "imported.sql"}, "unit.moved@1": {SQL: "moved.sql"}, "unit.hit@1": {SQL: "hit.sql"},
			"match.stormed@1": {SQL: "storm.sql", Scope: "key"}}}
}

func withDocuments(c Config) Config {
	c.Documents = map[string]Document{"unit": {Key: "unit:{unit}", SQL: "unit.sql", Types: []string{"unit.moved@1", "unit.hit@1"}}}
	return c
}

// bench is a projection on a real PostgreSQL, and a topic and an audience in memory.
type bench struct {
	t     testing.TB
	cfg   Config
	url   string
	pg    *readmodel.Postgres
	redis *readmodel.Redis

	mu     sync.Mutex
	ids    int
	topic  []stream.Record
	told   []event.Progress
	parked []event.Parked
	fail   func(what string) error // nil: nothing fails
}

func newBench(t testing.TB, cfg Config) *bench {
	t.Helper()
	b := &bench{t: t, cfg: cfg, url: lab.Postgres(t).Database(t)}
	b.pg = b.postgres()
	if err := b.pg.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(cfg.Documents) > 0 {
		r, err := readmodel.OpenRedis(readmodel.RedisConfig{URL: "redis://" + lab.Redis(t).Addr, Prefix: lab.Prefix(t), Migration: "units", Generation: 1})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(r.Close)
		b.redis = r
	}
	return b
}

func (b *bench) postgres() *readmodel.Postgres {
	b.t.Helper()
	pg, err := readmodel.OpenPostgres(b.t.Context(), readmodel.PostgresConfig{URL: b.url, Schema: "banyan_units_g1", DDL: unitsDDL})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(pg.Close)
	return pg
}

func (b *bench) Progress(_ context.Context, p *event.Progress) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil {
		if err := b.fail("progress"); err != nil {
			return err
		}
	}
	b.told = append(b.told, *p)
	return nil
}

func (b *bench) Parked(_ context.Context, p *event.Parked) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.parked = append(b.parked, *p)
	return nil
}

// open is a new owner of the partition.
func (b *bench) open() (*Projector, *worker) {
	b.t.Helper()
	p, err := New(b.cfg, b.pg, b.redis)
	if err != nil {
		b.t.Fatal(err)
	}
	p.out = b
	p.read = func(_ context.Context, _ int32, from int64) iter.Seq2[stream.Record, error] {
		return func(yield func(stream.Record, error) bool) {
			for _, r := range b.topic[from:] {
				if !yield(r, nil) {
					return
				}
			}
		}
	}
	p.standing = func(context.Context, int32) (*parked.Keys, int64, error) {
		keys := parked.New(p.owner())
		for i := range b.parked {
			if _, err := keys.Take(&stream.Record{Kind: event.KindParked, Value: event.Encode(&b.parked[i])}); err != nil {
				return nil, 0, err
			}
		}
		return keys, int64(len(b.parked)), nil
	}
	w, start, err := p.open(b.t.Context(), 0)
	if err != nil {
		b.t.Fatal(err)
	}
	if start[p.topic] != w.(*worker).next {
		b.t.Fatal(start)
	}
	return p, w.(*worker)
}

// handle gives the worker everything that it has not seen, n records at a time.
func (b *bench) handle(w *worker, n int) {
	b.t.Helper()
	for i := int(w.next); i < len(b.topic); i += n {
		if err := w.Handle(b.t.Context(), b.topic[i:min(i+n, len(b.topic))]); err != nil {
			b.t.Fatal(err)
		}
	}
	if err := w.shownUp(b.t.Context(), true); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) put(headers []event.Header, kind event.Kind, key string, value []byte) {
	b.topic = append(b.topic, stream.Record{Topic: "b.events.units.g1", Offset: int64(len(b.topic)), Kind: kind, Headers: headers, Key: []byte(key), Value: value})
}

// event appends a domain event; the position is its number unless pos is given.
func (b *bench) event(key, subject, typ, data string, pos ...event.Position) *event.Event {
	b.ids++
	e := &event.Event{ID: fmt.Sprintf("e%d", b.ids), Source: "/banyan/units", Type: typ, Version: 1, Subject: event.Entity(subject),
		Time: time.Unix(1700000000, 0), Key: event.OrderingKey(key), Data: json.RawMessage(data), Cause: "a.1.1", Position: event.Position(len(b.topic) + 1)}
	if len(pos) > 0 {
		e.Position = pos[0]
	}
	b.again(e)
	return e
}

func (b *bench) again(e *event.Event) { b.put(e.Headers(), "", string(e.Key), e.Data) }

func (b *bench) mark(pos event.Position) {
	b.put(nil, event.KindSettledMark, "", event.Encode(&event.SettledMark{V: 1, Position: pos, Replicas: map[event.Replica]event.Reached{"a": {Epoch: 1, Seq: event.Seq(pos)}}}))
}

func (b *bench) imported(match, unit int) *event.Event {
	return b.event(fmt.Sprint("match/", match), fmt.Sprint("unit/", unit), "unit.imported", fmt.Sprintf(`{"id":%d,"match":%d,"province":1,"hp":100}`, unit, match))
}

func (b *bench) moved(match, unit, to int, pos ...event.Position) *event.Event {
	return b.event(fmt.Sprint("match/", match), fmt.Sprint("unit/", unit), "unit.moved", fmt.Sprintf(`{"unit":%d,"to":%d}`, unit, to), pos...)
}

func (b *bench) hit(match, unit, by int) *event.Event {
	return b.event(fmt.Sprint("match/", match), fmt.Sprint("unit/", unit), "unit.hit", fmt.Sprintf(`{"unit":%d,"by":%d}`, unit, by))
}

// state is the table as text, one unit per line.
func (b *bench) state() string {
	b.t.Helper()
	s, err := b.pg.Snapshot(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	defer s.Close(context.Background())
	rows, err := s.Query(b.t.Context(), "select id, province, hp, moves from units order by id")
	if err != nil {
		b.t.Fatal(err)
	}
	out := ""
	for v := range rows.All() {
		out += fmt.Sprintf("%v: province %v hp %v moves %v\n", v["id"], v["province"], v["hp"], v["moves"])
	}
	if err := rows.Err(); err != nil {
		b.t.Fatal(err)
	}
	return out
}

func (b *bench) want(lines string) {
	b.t.Helper()
	if got := b.state(); got != lines {
		b.t.Fatalf("got\n%swant\n%s", got, lines)
	}
}

func (b *bench) exec(sql string) {
	b.t.Helper()
	c, err := pgx.Connect(b.t.Context(), b.url)
	if err != nil {
		b.t.Fatal(err)
	}
	defer c.Close(context.Background())
	if _, err := c.Exec(b.t.Context(), sql); err != nil {
		b.t.Fatal(err)
	}
}

func TestEventsOfAnEntityThatIsNotImportedAreNoOps(t *testing.T) {
	b := newBench(t, config(t))
	_, w := b.open()
	b.moved(7, 42, 5)
	b.imported(7, 42)
	b.moved(7, 42, 9)
	b.mark(3)
	b.handle(w, 100)
	b.want("42: province 9 hp 100 moves 1\n")
	if w.progress.Position != 3 || w.progress.Applied != 3 || w.progress.Replicas["a"].Seq != 3 {
		t.Fatal(w.progress)
	}
}

func TestRepeatsAreLeftOut(t *testing.T) {
	b := newBench(t, config(t))
	p, w := b.open()
	b.imported(7, 42)
	e := b.moved(7, 42, 9)
	b.again(e) // in the same batch
	b.handle(w, 100)
	b.again(e) // in a later one
	b.handle(w, 100)
	_, w = b.open() // and after a restart: the window comes from the topic
	b.again(e)
	b.handle(w, 100)
	b.want("42: province 9 hp 100 moves 1\n")
	if p.stats.Repeats.Load() != 2 {
		t.Fatal(p.stats.Repeats.Load())
	}
}

func TestStaleOwnerIsFenced(t *testing.T) {
	b := newBench(t, config(t))
	_, old := b.open()
	b.imported(7, 42)
	b.handle(old, 100)
	b.moved(7, 42, 9)
	_, young := b.open()
	err := old.Handle(t.Context(), b.topic[1:])
	if !readmodel.IsFenced(err) {
		t.Fatalf("the stale owner got %v", err)
	}
	b.want("42: province 1 hp 100 moves 0\n")
	b.handle(young, 100)
	if err := old.Handle(t.Context(), b.topic[1:]); !readmodel.IsFenced(err) {
		t.Fatal(err)
	}
	b.want("42: province 9 hp 100 moves 1\n")
}

func TestLostAnswerOfACommitIsNotARepeat(t *testing.T) {
	b := newBench(t, config(t))
	_, w := b.open()
	b.imported(7, 42)
	b.moved(7, 42, 9)
	b.handle(w, 100)
	// The worker does not know that its commit went through: it sends it again.
	w.batch, w.next, w.seen = w.batch-1, 0, newWindow(10)
	b.handle(w, 100)
	b.want("42: province 9 hp 100 moves 1\n")
}

func TestPoisonParksItsKeyOnly(t *testing.T) {
	for name, poison := range map[string]func(b *bench){
		"contract":    func(b *bench) { b.event("match/7", "unit/1", "unit.moved", `{"unit":1}`) },
		"unknown":     func(b *bench) { b.event("match/7", "unit/1", "unit.flown", `{}`) },
		"undecodable": func(b *bench) { b.event("match/7", "unit/1", "unit.moved", `{"unit":`) },
		"no event":    func(b *bench) { b.put(nil, "", "match/7", []byte("\x00")) },
		"nul":         func(b *bench) { b.event("match/7", "unit/1", "unit.moved", `{"unit":1,"to":2,"x":"\u0000"}`) },
		"check":       func(b *bench) { b.hit(7, 1, 500) },
		"range":       func(b *bench) { b.event("match/7", "unit/1", "unit.moved", `{"unit":1,"to":99999999999999999999}`) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, config(t))
			p, w := b.open()
			b.imported(7, 1)
			b.imported(8, 2)
			for i := range 20 {
				b.moved(7, 1, i)
				b.moved(8, 2, i)
			}
			at := len(b.topic)
			poison(b)
			b.moved(7, 1, 777) // waits
			b.moved(8, 2, 888) // goes on
			b.mark(100)
			b.handle(w, 1000)
			b.want("1: province 19 hp 100 moves 20\n2: province 888 hp 100 moves 21\n")
			b.moved(7, 1, 778)
			b.handle(w, 1000)
			_, w = b.open() // a restart remembers
			b.moved(7, 1, 779)
			b.handle(w, 1000)
			b.want("1: province 19 hp 100 moves 20\n2: province 888 hp 100 moves 21\n")
			k := w.parked["match/7"]
			if k == nil || k.FirstOffset != int64(at) || k.Waiting != 4 || k.Reason == "" {
				t.Fatalf("%+v", k)
			}
			if len(b.parked) != 1 || b.parked[0].Key != "match/7" || b.parked[0].Stage != "project" || len(w.progress.Parked) != 1 {
				t.Fatal(b.parked, w.progress.Parked)
			}
			if p.stats.Parked.Load() != 1 || w.progress.Position != 100 {
				t.Fatal(w.progress)
			}
		})
	}
}

func TestForeignKeyBytesDoNotStall(t *testing.T) {
	b := newBench(t, config(t))
	_, w := b.open()
	for _, k := range []string{"a\x00b", "\xff\xfe", `\x41`, ""} {
		b.put(nil, "", k, []byte("?"))
	}
	b.handle(w, 10)
	_, again := b.open()
	if len(again.parked) != 4 || again.parked["a\x00b"] == nil || again.parked["\xff\xfe"] == nil || again.parked[`\x41`] == nil {
		t.Fatal(again.parked)
	}
	_ = w
}

func TestScopeOfAKey(t *testing.T) {
	b := newBench(t, config(t))
	_, w := b.open()
	b.imported(7, 1)
	b.imported(7, 2)
	b.moved(7, 1, 5)
	b.event("match/7", "match/7", "match.stormed", `{"match":7}`)
	b.moved(7, 2, 5)
	b.event("match/7", "match/7", "match.stormed", `{"match":7}`)
	b.handle(w, 100)
	b.want("1: province 20 hp 100 moves 1\n2: province 10 hp 100 moves 1\n")
}

func TestOtherErrorsAreRetriedForEver(t *testing.T) {
	b := newBench(t, config(t))
	p, w := b.open()
	b.imported(7, 1)
	b.exec("alter table banyan_units_g1.units rename to gone")
	done := make(chan error, 1)
	go func() { done <- w.Handle(t.Context(), b.topic) }()
	for p.stats.Retries.Load() < 2 {
		select {
		case err := <-done:
			t.Fatal("given up", err, w.parked)
		case <-time.After(5 * time.Millisecond): // retries are counted by time, not by a signal
		}
	}
	b.exec("alter table banyan_units_g1.gone rename to units")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	b.want("1: province 1 hp 100 moves 0\n")
	if len(w.parked) != 0 {
		t.Fatal("parked for an error that is not about the data")
	}
}

var errCrash = errors.New("crash")

func TestCrashBetweenTablesAndDocuments(t *testing.T) {
	b := newBench(t, withDocuments(config(t)))
	_, w := b.open()
	b.imported(7, 42)
	b.moved(7, 42, 5)
	b.mark(2)
	b.handle(w, 100)
	b.moved(7, 42, 9)
	b.mark(4)
	// The process dies after the commit, before the documents.
	ctx, cancel := context.WithCancelCause(t.Context())
	pl := w.plan(w.items(b.topic[3:]))
	if err := b.pg.Commit(ctx, w.batchOf(pl, 5, nil)); err != nil {
		t.Fatal(err)
	}
	cancel(errCrash)
	if doc, _ := b.redis.Get(t.Context(), "unit:42"); string(doc) != `{"province" : 5, "hp" : 100, "moves" : 1}` {
		t.Fatalf("%s", doc)
	}
	b.told = nil
	_, w = b.open()
	if doc, err := b.redis.Get(t.Context(), "unit:42"); err != nil || string(doc) != `{"province" : 9, "hp" : 100, "moves" : 2}` {
		t.Fatalf("%s %v", doc, err)
	}
	shown, err := b.redis.Progress(t.Context(), 0)
	if err != nil || shown.Position != 4 || len(b.told) != 1 || b.told[0].Position != 4 {
		t.Fatal(shown, b.told, err)
	}
	b.handle(w, 100)
	b.want("42: province 9 hp 100 moves 2\n")
}

func TestADocumentGoesWithItsRow(t *testing.T) {
	b := newBench(t, withDocuments(config(t)))
	_, w := b.open()
	b.imported(7, 42)
	b.moved(7, 42, 5)
	b.handle(w, 100)
	b.exec("delete from banyan_units_g1.units")
	b.moved(7, 42, 6)
	b.handle(w, 100)
	if doc, err := b.redis.Get(t.Context(), "unit:42"); err != nil || doc != nil {
		t.Fatalf("%s %v", doc, err)
	}
}

func TestHoldStopsExactlyThere(t *testing.T) {
	b := newBench(t, config(t))
	p, w := b.open()
	b.imported(7, 1)
	b.imported(8, 2)
	b.mark(2)
	b.handle(w, 100)
	var held string
	var at event.Progress
	result := make(chan error, 1)
	hold := func(pos event.Position) {
		go func() {
			result <- p.Hold(t.Context(), 0, func(context.Context) (event.Position, error) { return pos, nil },
				func(_ context.Context, pr event.Progress) error { held, at = b.state(), pr; return nil })
		}()
		for w.hold == nil { // the request arrives at some tick
			if err := w.Handle(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	hold(12)
	b.moved(8, 2, 50, 20) // beyond, and stands first
	b.moved(7, 1, 10, 10)
	b.mark(11)
	b.moved(7, 1, 11, 12)
	b.moved(7, 1, 99, 13) // beyond
	b.moved(8, 2, 51, 21)
	b.handle(w, 3)
	select {
	case err := <-result:
		t.Fatal("ended before the mark said that nothing is missing", err)
	default:
	}
	// A crash in the middle of a hold repeats nothing.
	b.want("1: province 11 hp 100 moves 2\n2: province 1 hp 100 moves 0\n")
	if w.next != 3 || len(w.ahead) == 0 {
		t.Fatal(w.next, w.ahead)
	}
	rest := len(b.topic)
	b.mark(30)
	if err := w.Handle(t.Context(), b.topic[rest:]); err != nil {
		t.Fatal(err)
	}
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	if held != "1: province 11 hp 100 moves 2\n2: province 1 hp 100 moves 0\n" || at.Position != 12 || at.Applied != 12 {
		t.Fatalf("held at %+v:\n%s", at, held)
	}
	b.want("1: province 99 hp 100 moves 3\n2: province 51 hp 100 moves 2\n")
	if w.progress.Position != 30 || w.next != int64(len(b.topic)) || len(w.ahead) != 0 {
		t.Fatal(w.progress, w.next, w.ahead)
	}
}

func TestCrashInAHoldRepeatsNothing(t *testing.T) {
	b := newBench(t, config(t))
	p, w := b.open()
	b.imported(7, 1)
	b.imported(8, 2)
	b.put(nil, "", "match/9", []byte("?"))
	b.handle(w, 100)
	result := make(chan error, 1)
	go func() {
		result <- p.Hold(t.Context(), 0, func(context.Context) (event.Position, error) { return 12, nil }, func(context.Context, event.Progress) error { return nil })
	}()
	for w.hold == nil {
		if err := w.Handle(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	b.moved(8, 2, 50, 20)
	b.moved(7, 1, 10, 10)
	b.moved(9, 3, 10, 11) // waits for its parked key, and is counted once
	b.handle(w, 100)
	_, young := b.open()
	w.Close(t.Context())
	if err := <-result; err == nil {
		t.Fatal("the hold of a closed partition succeeded")
	}
	b.handle(young, 100)
	b.want("1: province 10 hp 100 moves 1\n2: province 50 hp 100 moves 1\n")
	if k := young.parked["match/9"]; k == nil || k.Waiting != 2 {
		t.Fatalf("%+v", k)
	}
}

func TestHoldRefusesThePastAndRunsOut(t *testing.T) {
	b := newBench(t, config(t))
	p, w := b.open()
	now := time.Unix(1700000000, 0)
	p.now = func() time.Time { return now }
	b.imported(7, 1)
	b.handle(w, 100)
	try := func(ctx context.Context, pos event.Position) error {
		result := b.holding(ctx, p, w, pos, nil)
		for {
			select {
			case err := <-result:
				return err
			default:
				if err := w.Handle(t.Context(), nil); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if err := try(t.Context(), 0); !errors.Is(err, ErrPassed) {
		t.Error(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	result := b.holding(gone, p, w, 50, nil)
	cancel()
	if err := w.Handle(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := p.Hold(t.Context(), 5, nil, nil); err == nil {
		t.Error("a partition that is not here was held")
	}
	// A read model that lags gets there late, and that is no reason to give up; what is kept back is.
	result = b.holding(t.Context(), p, w, 50, nil)
	now = now.Add(time.Hour)
	b.moved(7, 1, 5, 60)
	b.handle(w, 100)
	b.want("1: province 1 hp 100 moves 0\n")
	now = now.Add(w.p.cfg.HoldMax + 1)
	if err := w.Handle(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := <-result; !errors.Is(err, ErrHoldEnded) {
		t.Error(err)
	}
	b.want("1: province 5 hp 100 moves 1\n")
}

// holding asks for a hold and returns once the worker has it.
func (b *bench) holding(ctx context.Context, p *Projector, w *worker, pos event.Position, then func(event.Progress)) <-chan error {
	b.t.Helper()
	result := make(chan error, 1)
	go func() {
		result <- p.Hold(ctx, 0, func(context.Context) (event.Position, error) { return pos, nil }, func(_ context.Context, pr event.Progress) error {
			if then != nil {
				then(pr)
			}
			return nil
		})
	}()
	for w.hold == nil && len(result) == 0 { // the request arrives at some tick
		if err := w.Handle(b.t.Context(), nil); err != nil {
			b.t.Fatal(err)
		}
	}
	return result
}

// A mark beyond the position says that nothing is missing, but for the keys that it holds: their events still come, and
// progress must not say that they are there.
func TestAHoldWaitsForHeldKeysOrListsThem(t *testing.T) {
	for _, comes := range []bool{true, false} {
		t.Run(fmt.Sprint("its event comes ", comes), func(t *testing.T) {
			b := newBench(t, config(t))
			p, w := b.open()
			now := time.Unix(1700000000, 0)
			p.now = func() time.Time { return now }
			b.imported(7, 1)
			b.imported(8, 2)
			b.mark(2)
			b.handle(w, 100)
			var at event.Progress
			result := b.holding(t.Context(), p, w, 12, func(pr event.Progress) { at = pr })
			held := []event.Held{{Migration: "units", Key: "match/7", From: 10}, {Migration: "units", Key: "match/8", From: 13}, {Migration: "economy", Key: "match/9", From: 1}}
			b.put(nil, event.KindSettledMark, "", event.Encode(&event.SettledMark{V: 1, Position: 20, Held: held}))
			b.handle(w, 100)
			if len(result) > 0 {
				t.Fatal("ended while a key was held below the position")
			}
			b.moved(8, 2, 50, 15) // beyond
			if comes {
				b.moved(7, 1, 10, 10)
				b.put(nil, event.KindSettledMark, "", event.Encode(&event.SettledMark{V: 1, Position: 21, Held: held[1:]}))
			} else {
				now = now.Add(w.p.cfg.HoldMax/2 + 1)
			}
			for i := w.next + int64(len(w.hold.deferred)); i < int64(len(b.topic)); i++ {
				if err := w.Handle(t.Context(), b.topic[i:i+1]); err != nil {
					t.Fatal(err)
				}
			}
			if err := <-result; err != nil {
				t.Fatal(err)
			}
			if at.Position != 12 || at.Complete("match/8") != 12 {
				t.Errorf("%+v", at)
			}
			if got := at.Complete("match/7"); comes && got != 12 || !comes && got != 9 {
				t.Errorf("complete up to %s: %+v", got, at)
			}
		})
	}
}

// Marks alone cost no transaction each, and what a reader of the tables is told is never old for long.
func TestMarksAloneAreSavedNowAndThen(t *testing.T) {
	b := newBench(t, config(t))
	p, w := b.open()
	now := time.Unix(1700000000, 0)
	p.now = func() time.Time { return now }
	in := func() event.Position {
		t.Helper()
		s, err := b.pg.Snapshot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close(context.Background())
		pr, err := s.Progress(t.Context(), 0)
		if err != nil || pr == nil {
			t.Fatal(pr, err)
		}
		return pr.Position
	}
	step := func() {
		t.Helper()
		i := max(w.next, w.unsaved)
		if err := w.Handle(t.Context(), b.topic[i:]); err != nil {
			t.Fatal(err)
		}
	}
	b.imported(7, 1)
	b.mark(10)
	step()
	batches := w.batch
	for pos := range event.Position(3) {
		b.mark(11 + pos)
		step()
	}
	if got := b.told[len(b.told)-1].Position; got != 13 || in() != 10 || w.batch != batches {
		t.Fatalf("told %s, in the tables %s, %d transactions for marks", got, in(), w.batch-batches)
	}
	now = now.Add(progressEvery)
	step() // a tick
	if in() != 13 || w.next != int64(len(b.topic)) || w.unsaved != 0 {
		t.Fatalf("no further mark came: in the tables %s, next %d of %d", in(), w.next, len(b.topic))
	}
	b.mark(14)
	step()
	b.moved(7, 1, 5) // an event takes them along
	step()
	if in() != 14 || w.next != int64(len(b.topic)) {
		t.Fatalf("in the tables %s, next %d", in(), w.next)
	}
	b.mark(15)
	step()
	w.Close(t.Context())
	_, young := b.open() // a crash: the mark is read again
	b.handle(young, 100)
	if young.progress.Position != 15 {
		t.Fatalf("%+v", young.progress)
	}
}

// A reader of Redis that reads progress, document, progress sees at least the first one's Position and at most the
// second one's Applied.
func TestReadersOfRedisNeverSeeMoreThanApplied(t *testing.T) {
	b := newBench(t, withDocuments(config(t)))
	_, w := b.open()
	b.imported(7, 1)
	b.moved(7, 1, 0, 1)
	b.mark(2)
	b.handle(w, 10)
	const last = 300
	read := make(chan error, 1)
	go func() {
		read <- func() error {
			for {
				before, err := b.redis.Progress(t.Context(), 0)
				if err != nil {
					return err
				}
				doc, err := b.redis.Get(t.Context(), "unit:1")
				if err != nil {
					return err
				}
				after, err := b.redis.Progress(t.Context(), 0)
				if err != nil {
					return err
				}
				var d struct{ Province uint64 }
				if err := json.Unmarshal(doc, &d); err != nil {
					return err
				}
				if at := event.Position(d.Province); at > after.Applied || before.Position > 2 && at < before.Position {
					return fmt.Errorf("the document is of %d, progress before %d, applied after %d", d.Province, before.Position, after.Applied)
				}
				if before.Position >= last {
					return nil
				}
			}
		}()
	}()
	for pos := event.Position(10); pos <= last; pos += 2 { // the unit stands at its position
		b.moved(7, 1, int(pos), pos)
		b.mark(pos)
		b.handle(w, 10)
	}
	if err := <-read; err != nil {
		t.Fatal(err)
	}
}

func FuzzUnderstand(f *testing.F) {
	e := event.Event{ID: "1", Type: "unit.moved", Version: 1, Subject: "unit/1", Key: "match/7", Data: json.RawMessage(`{"unit":1,"to":2}`)}
	f.Add("match/7", "", "unit.moved", "1", []byte(e.Data))
	f.Add("", string(event.KindSettledMark), "", "", []byte(`{"v":1}`))
	p, err := New(config(f), nil, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, key, kind, typ, version string, data []byte) {
		hs := []event.Header{{Key: "ce_id", Value: []byte("1")}, {Key: "ce_type", Value: []byte(typ)}, {Key: "ce_subject", Value: []byte("unit/1")}, {Key: "ce_schemaversion", Value: []byte(version)}}
		it := p.understand(&stream.Record{Kind: event.Kind(kind), Headers: hs, Key: []byte(key), Value: data})
		if it.ev != nil && it.poison == nil {
			if b := rows([]*event.Event{it.ev}); !json.Valid(b) {
				t.Fatalf("%q", b)
			}
		}
	})
}
