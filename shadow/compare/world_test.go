package compare

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"banyan/diff"
	"banyan/proxy/capture"
	"banyan/proxy/event"
	"banyan/shadow/ledger"
	"banyan/shadow/stream"
)

// books is a ledger in memory.
type books struct {
	mu        sync.Mutex
	state     map[string][]byte
	revision  map[string]int64
	found     []ledger.Found
	counts    map[string]int64
	open      []ledger.OpenKey
	verified  []ledger.OpenKey
	sources   map[string]int64
	sweeps    []ledger.Sweep
	seen      []ledger.Seen
	fail      error
	tallies   int
	committed int
}

func newBooks() *books {
	return &books{state: map[string][]byte{}, revision: map[string]int64{}, counts: map[string]int64{}, sources: map[string]int64{}}
}

func (b *books) Commit(_ context.Context, x *ledger.Batch) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil {
		return b.fail
	}
	if c := x.Checkpoint; c != nil {
		if b.revision[c.Name] != c.Expect {
			return ledger.ErrFenced
		}
		b.revision[c.Name]++
		b.state[c.Name] = c.State
	}
	b.committed++
	b.found = append(b.found, x.Found...)
	b.seen = append(b.seen, x.Seen...)
	b.sweeps = append(b.sweeps, x.Sweeps...)
	b.tallies += len(x.Tallies)
	for _, c := range x.Counts {
		b.counts[strings.TrimSuffix(string(c.Counter)+" "+c.Detail, " ")] += c.N
	}
	for _, s := range x.Sources {
		b.sources[s.Table+"."+s.Column] += s.Dark + s.Unattributed
	}
	for _, f := range x.Found {
		k := ledger.OpenKey{Finding: 1, Comparison: f.Comparison, Class: f.Class, Place: f.Place, Key: f.Example.Key, Subject: f.Subject, Entity: f.Example.Entity, Path: f.Example.Path}
		if !slices.Contains(b.open, k) {
			b.open = append(b.open, k)
		}
	}
	for _, k := range x.Verified {
		b.verified = append(b.verified, k)
		b.open = slices.DeleteFunc(b.open, func(o ledger.OpenKey) bool { return o == k })
	}
	return nil
}

func (b *books) Checkpoint(_ context.Context, name string) ([]byte, int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state[name], b.revision[name], nil
}

func (b *books) OpenKeys(_ context.Context, _ event.Migration, c ledger.Comparison, _ int, _ ...event.OrderingKey) (out []ledger.OpenKey, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range b.open {
		if k.Comparison == c {
			out = append(out, k)
		}
	}
	return out, nil
}

func (b *books) Sweep(_ context.Context, _ event.Migration, c ledger.Comparison, _ string) (*ledger.Sweep, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range slices.Backward(b.sweeps) {
		if s.Comparison == c {
			return &s, nil
		}
	}
	return nil, nil
}

func (b *books) undecided() (n int64) {
	for k, v := range b.counts {
		if strings.HasPrefix(k, "undecided") {
			n += v
		}
	}
	return n
}

const (
	migration = "units"
	match     = event.OrderingKey("match/7")
)

var topics = event.Topics{P: "t"}

// tester is *testing.T, and *rapid.T.
type tester interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// world is a true legacy and a read model that follows it. Each change has a position and the instant of its commit.
type world struct {
	t       tester
	now     time.Time
	start   time.Time
	head    event.Position
	commits []commitAt
	fences  []event.Fence
	writes  int
	records []stream.Record // not handed over yet
	offsets map[string]int64
	events  bool
	// generation of the event topic; 0 means 1
	generation int
	// wrong changes an after-image for the model: a planted defect. nil keeps it; the second result false loses it.
	wrong func(n int, row event.RowChange) (event.RowChange, bool)

	books  *books
	c      *Comparer
	worker stream.Worker
	asks   func(p *capture.Pair) (capture.Answer, error)
}

type commitAt struct {
	at    time.Time
	pos   event.Position
	row   event.RowChange // legacy's
	model *event.RowChange
}

func (w *world) Ask(_ context.Context, p *capture.Pair) (capture.Answer, error) { return w.asks(p) }

func entityOf(table string, row event.Values) (event.Entity, bool) {
	if table != "units" {
		return "", false
	}
	return event.Entity(fmt.Sprint("unit/", row["id"])), true
}

func rules(t tester, text ...string) *diff.Rules {
	t.Helper()
	var rs []diff.Rule
	for _, s := range text {
		r, err := diff.ParseRule(s)
		if err != nil {
			t.Fatal(err)
		}
		rs = append(rs, r)
	}
	r, err := diff.Compile(rs)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func newWorld(t tester, change func(*Config)) *world {
	w := &world{t: t, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), head: 100, offsets: map[string]int64{}, books: newBooks(), events: true}
	w.start = w.now
	cfg := Config{Migration: migration, Fingerprint: "fp", Topics: topics, Generation: 1, Ledger: w.books, ClockError: 5 * time.Millisecond,
		Routes: []Route{{Name: "map", Rules: rules(t, "/units unordered_by id entity unit/{id}")}},
		Index:  IndexConfig{Entity: entityOf, Mapped: func(table, column string) bool { return column != "secret" }},
		Now:    func() time.Time { return w.now }, CommitEvery: time.Nanosecond}
	if change != nil {
		change(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.c = c
	w.reopen()
	w.fence()
	return w
}

func (w *world) reopen() (start map[string]int64) {
	var err error
	if w.worker, start, err = w.c.Open(context.Background(), 0); err != nil {
		w.t.Fatal(err)
	}
	return start
}

func (w *world) tick(d time.Duration) { w.now = w.now.Add(d) }

func (w *world) put(topic string, kind event.Kind, headers []event.Header, value []byte) {
	w.records = append(w.records, stream.Record{Topic: topic, Offset: w.offsets[topic], Kind: kind, Headers: headers, Value: value})
	w.offsets[topic]++
}

// handle gives the worker what is there.
func (w *world) handle() {
	w.t.Helper()
	rs := w.records
	w.records = nil
	if err := w.worker.Handle(context.Background(), rs); err != nil {
		w.t.Fatal(err)
	}
}

// fence looks at the server: sent, position, answered.
func (w *world) fence() {
	sent := w.now
	w.tick(time.Millisecond)
	w.fences = append(w.fences, event.Fence{Sent: sent, Position: w.head, Answered: w.now})
}

// mark tells the index how far everything is in.
func (w *world) mark(held ...event.OrderingKey) {
	m := event.SettledMark{V: 1, Position: w.head, Fences: w.fences, Clock: w.now}
	for _, k := range held {
		m.Held = append(m.Held, event.Held{Migration: migration, Key: k, From: w.head})
	}
	w.fences = nil
	w.put(topics.Settled(), event.KindSettledMark, nil, event.Encode(&m))
	if w.events {
		w.put(topics.Events(migration, max(w.generation, 1)), event.KindSettledMark, nil, event.Encode(&m))
	}
}

func writeID(n int) event.WriteID { return event.WriteID{Replica: "a", Epoch: 1, Seq: event.Seq(n)} }

// state of one side at a position: rows by id.
func (w *world) state(at event.Position, model bool) map[string]event.Values {
	rows := map[string]event.Values{}
	for i := range w.commits {
		c := &w.commits[i]
		r := &c.row
		if model {
			r = c.model
		}
		if c.pos > at || r == nil {
			continue
		}
		if id := fmt.Sprint(r.Image()["id"]); r.Op == event.Delete {
			delete(rows, id)
		} else {
			rows[id] = r.After
		}
	}
	return rows
}

// change commits one row change: set is what becomes of the row, nil deletes it. It settles at once.
func (w *world) change(cause event.Cause, id int, set event.Values, overlaps ...int) int {
	w.head += 10
	w.writes++
	name := strconv.Itoa(id)
	before := w.state(w.head, false)[name]
	row := event.RowChange{Table: "units", Op: event.Update, Before: before}
	switch {
	case set == nil && before == nil:
		w.head -= 10
		w.writes--
		return 0
	case set == nil:
		row.Op = event.Delete
	default:
		row.After = event.Values{"id": json.Number(name), "hp": json.Number("100"), "to": json.Number("0")}
		for k, v := range before {
			row.After[k] = v
		}
		for k, v := range set {
			row.After[k] = v
		}
		if before == nil {
			row.Op = event.Insert
		}
	}
	model := row
	applied := true
	if w.wrong != nil {
		model, applied = w.wrong(w.writes, row)
	}
	c := commitAt{w.now, w.head, row, &model}
	if !applied {
		c.model = nil
	}
	w.commits = append(w.commits, c)
	sc := event.SettledChange{Position: w.head, Rows: []event.RowChange{row}, Cause: cause}
	e := event.Entry{V: 1, Migration: migration, Key: match, From: w.head, To: w.head, Clock: w.now}
	if cause == event.Effect {
		sc.Write = writeID(w.writes)
		sw := event.SettledWrite{Write: event.Write{V: 1, ID: sc.Write}, Verdict: event.VerdictApplied, Effects: []event.Position{w.head}}
		for _, o := range overlaps {
			sw.Overlaps = append(sw.Overlaps, writeID(o))
		}
		e.Writes = []event.SettledWrite{sw}
	}
	e.Changes = []event.SettledChange{sc}
	w.put(topics.Settled(), event.KindEntry, nil, event.Encode(&e))
	if w.events && c.model != nil {
		image, _ := json.Marshal(model.Image())
		cause := fmt.Sprintf("%s:%s.0", sc.Cause, w.head)
		if !sc.Write.IsZero() {
			cause = sc.Write.String()
		}
		ev := event.Event{ID: "e-" + strconv.Itoa(w.writes), Source: "/t", Type: "unit.changed", Version: 1, Subject: event.Entity("unit/" + name), Time: w.now,
			Key: match, Data: image, Cause: cause, Position: w.head}
		w.put(topics.Events(migration, 1), "", ev.Headers(), ev.Data)
	}
	return w.writes
}

// body is the answer of a side, each unit read at a position of its own.
func (w *world) body(at func(id string) event.Position, model bool) []byte {
	ids := map[string]struct{}{}
	for _, c := range w.commits {
		ids[fmt.Sprint(c.row.Image()["id"])] = struct{}{}
	}
	units := []event.Values{}
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		if row := w.state(at(id), model)[id]; row != nil {
			units = append(units, row)
		}
	}
	b, _ := json.Marshal(map[string]any{"ok": true, "units": units})
	return b
}

func fixed(p event.Position) func(string) event.Position {
	return func(string) event.Position { return p }
}

// read makes a pair: legacy answers now, the candidate has progress p.
func (w *world) read(p event.Position) *capture.Pair {
	start := w.now
	w.tick(time.Millisecond)
	legacy := w.body(fixed(w.head), false)
	return w.pair(start, w.now, legacy, w.body(fixed(p), true), p, p)
}

func (w *world) pair(start, end time.Time, legacy, candidate []byte, before, after event.Position) *capture.Pair {
	answer := func(b []byte) capture.Answer {
		return capture.Answer{Target: "/map", Status: 200, ContentType: "application/json", Body: b, Length: int64(len(b)), Start: start, End: end}
	}
	p := &capture.Pair{V: 1, ID: fmt.Sprint("p", w.offsets[topics.Pairs()]), Migration: migration, Route: "map", Key: match,
		Params: map[string]string{"match": "7"}, Legacy: answer(legacy), Candidate: answer(candidate), Fingerprint: "fp", Tries: 1}
	p.Candidate.Before, p.Candidate.After = before, after
	return p
}

func (w *world) send(p *capture.Pair) { w.put(topics.Pairs(), event.KindPair, nil, event.Encode(p)) }

// quiet lets fences surround what was read, and everything settle.
func (w *world) quiet() {
	w.tick(20 * time.Millisecond)
	w.fence()
	w.tick(20 * time.Millisecond)
	w.mark()
	w.handle()
}

func num(n int) json.Number { return json.Number(strconv.Itoa(n)) }

// replay hands records over again from the given offsets.
func (w *world) replay(records []stream.Record, start map[string]int64) {
	for _, r := range records {
		if r.Offset >= start[r.Topic] {
			w.records = append(w.records, r)
		}
	}
}
