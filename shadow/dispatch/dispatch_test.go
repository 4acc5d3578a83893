package dispatch_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"banyan/proxy/event"
	"banyan/proxy/kafka"
	"banyan/shadow/dispatch"
	"banyan/shadow/stream"
	"banyan/shadow/translate"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is a broker in this process, a service, and a dispatcher between them.
type bench struct {
	t     *testing.T
	kafka kafka.Config
	cl    *kgo.Client
	url   string

	mu     sync.Mutex
	got    []dispatch.Command
	answer func(c *dispatch.Command) (status int, body string)
	change chan struct{}
}

func newBench(t *testing.T) *bench {
	t.Helper()
	f, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	b := &bench{t: t, kafka: kafka.Config{Brokers: f.ListenAddrs(), Prefix: "t", Partitions: 1, Replication: 1}.WithDefaults(), change: make(chan struct{})}
	if b.cl, err = b.kafka.Producer("test"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.cl.Close)
	if err := b.kafka.EnsureTopics(t.Context(), b.cl, append(b.kafka.Base(), kafka.Topic{Name: b.events(), Forever: true})...); err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(b)
	t.Cleanup(s.Close)
	b.url = s.URL
	return b
}

func (b *bench) events() string { return b.kafka.Topics().Events("economy", 1) }

// ServeHTTP is the service: it publishes one event per command and says how far the topic has grown.
func (b *bench) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var c dispatch.Command
	if err := json.NewDecoder(r.Body).Decode(&c); err != nil || r.Header.Get(dispatch.IdempotencyHeader) != c.ID {
		b.t.Error(err, r.Header)
	}
	b.mu.Lock()
	b.got = append(b.got, c)
	close(b.change)
	b.change = make(chan struct{})
	answer := b.answer
	b.mu.Unlock()
	if answer != nil {
		if status, body := answer(&c); status != 0 {
			w.WriteHeader(status)
			fmt.Fprint(w, body)
			return
		}
	}
	ev := event.Event{ID: "ev-" + c.ID, Source: "/svc", Type: "svc." + c.Route, Version: 1, Subject: "x", Key: c.Key, Data: []byte("{}"), Position: c.Position}
	rec := kafka.EventRecord(b.events(), c.Partition, &ev)
	if err := b.cl.ProduceSync(r.Context(), rec).FirstErr(); err != nil {
		w.WriteHeader(500)
		return
	}
	_ = json.NewEncoder(w).Encode(dispatch.Reply{ReadTo: rec.Offset + 1})
}

// wait waits until the service has got n commands.
func (b *bench) wait(n int) []dispatch.Command {
	b.t.Helper()
	timeout := time.After(30 * time.Second)
	for {
		b.mu.Lock()
		got, change := b.got, b.change
		b.mu.Unlock()
		if len(got) >= n {
			return got
		}
		select {
		case <-change:
		case <-timeout:
			b.t.Fatalf("%d commands, want %d", len(got), n)
		}
	}
}

func rules(t *testing.T) *translate.Rules {
	t.Helper()
	r, err := translate.Compile(translate.Config{Migration: "economy", Generation: 1, Rows: map[string]translate.Table{"purses": {Subject: "player/{id}",
		Import:   &translate.Fact{Type: "imported", Version: 1},
		OnUpdate: []translate.Update{{Columns: []string{"gold"}, Fact: translate.Fact{Type: "adjusted", Version: 1, Data: map[string]string{"gold": "int(row.gold)"}}}}}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (b *bench) start(change ...func(*dispatch.Config)) *dispatch.Dispatcher {
	b.t.Helper()
	cfg := dispatch.Config{Kafka: b.kafka, Migration: "economy", Generation: 1, URL: b.url + "/commands", Rules: rules(b.t), RetryMax: 50 * time.Millisecond}
	for _, f := range change {
		f(&cfg)
	}
	d, err := dispatch.New(cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := d.Start(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(d.Stop)
	return d
}

func w(seq int) event.WriteID { return event.WriteID{Replica: "a", Epoch: 1, Seq: event.Seq(seq)} }

func purse(id, gold any) event.Values {
	return event.Values{"id": json.Number(fmt.Sprint(id)), "gold": json.Number(fmt.Sprint(gold))}
}

// changed is a change of one purse; a zero write makes it dark.
func changed(pos, gold int, by event.WriteID) event.SettledChange {
	c := event.SettledChange{Position: event.Position(pos), Cause: event.Dark, Rows: []event.RowChange{{Table: "purses", Op: event.Update, Before: purse(1, 0), After: purse(1, gold)}}}
	if !by.IsZero() {
		c.Cause, c.Write = event.Effect, by
	}
	return c
}

func write(seq int, verdict event.Verdict, effects ...event.Position) event.SettledWrite {
	return event.SettledWrite{Verdict: verdict, Effects: effects, Write: event.Write{ID: w(seq),
		Intent: event.Intent{Route: "give", Params: map[string]string{"to": "2"}, Player: "1", Trace: "00-a-b-01"}}}
}

func entry(key string, changes []event.SettledChange, writes ...event.SettledWrite) *event.Entry {
	e := &event.Entry{V: 1, Migration: "economy", Key: event.OrderingKey(key), Changes: changes, Writes: writes}
	if len(changes) > 0 {
		e.From, e.To = changes[0].Position, changes[len(changes)-1].Position
	}
	return e
}

func (b *bench) settle(records ...any) {
	b.t.Helper()
	var rs []*kgo.Record
	for _, x := range records {
		kind, key := event.KindSettledMark, ""
		if e, ok := x.(*event.Entry); ok {
			kind, key = event.KindEntry, string(e.Key)
		}
		rs = append(rs, kafka.Record(b.kafka.Topics().Settled(), 0, kind, key, event.Encode(x)))
	}
	if err := b.cl.ProduceSync(b.t.Context(), rs...).FirstErr(); err != nil {
		b.t.Fatal(err)
	}
}

func mark(pos int) *event.SettledMark { return &event.SettledMark{V: 1, Position: event.Position(pos)} }

// topic reads the event topic until its mark of a position, one word per record.
func (b *bench) topic(until int) string {
	b.t.Helper()
	cl, err := b.kafka.Client("test-read", kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{b.events(): {0: kgo.NewOffset().AtStart()}}))
	if err != nil {
		b.t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(b.t.Context(), 30*time.Second)
	defer cancel()
	var words []string
	for {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			b.t.Fatalf("%v after %v", err, words)
		}
		for it := fs.RecordIter(); !it.Done(); {
			r := it.Next()
			if kafka.KindOf(r) == event.KindSettledMark {
				m, err := event.DecodeSettledMark(r.Value)
				if err != nil {
					b.t.Fatal(err)
				}
				word := "mark" + strconv.Itoa(int(m.Position))
				for _, h := range m.Held {
					word += "(held " + string(h.Key) + " from " + h.From.String() + ")"
				}
				words = append(words, word)
				if int(m.Position) == until {
					return strings.Join(words, " ")
				}
				continue
			}
			ev, err := event.ParseEvent(kafka.Headers(r), r.Value)
			if err != nil {
				b.t.Fatal(err)
			}
			words = append(words, ev.Type+"@"+strconv.Itoa(int(ev.Position)))
		}
	}
}

func TestCommandsAndRowsInLegacysOrder(t *testing.T) {
	b := newBench(t)
	d := b.start()
	imported := event.SettledChange{Position: 1, Cause: event.Imported, Rows: []event.RowChange{{Table: "purses", Op: event.Import, After: purse(1, 7)}}}
	b.settle(
		entry("match/1", []event.SettledChange{imported}),
		&event.Entry{V: 1, Migration: "units", Key: "match/1", From: 2, To: 2, Changes: []event.SettledChange{changed(2, 1, event.WriteID{})}}, // another migration's
		entry("match/1", []event.SettledChange{changed(3, 1, w(1)), changed(4, 2, event.WriteID{}), changed(5, 3, w(1)), changed(6, 4, event.WriteID{})}, write(1, event.VerdictApplied, 3, 5)),
		mark(6),
		entry("match/1", []event.SettledChange{changed(8, 5, w(2))}, write(2, event.VerdictRejected, 8)),
		mark(9))
	// The first mark stands somewhere after what it covers.
	if got, want := strings.Replace(b.topic(9), " mark6", "", 1), "imported@1 adjusted@4 svc.give@5 adjusted@6 adjusted@8 svc.give@8 mark9"; got != want {
		t.Errorf("topic: %s\nwant:  %s", got, want)
	}
	c := b.wait(2)[0]
	if c.ID != "a.1.1:match/1" || c.Write != w(1) || c.Verdict != event.VerdictApplied || c.Player != "1" || c.Params["to"] != "2" || len(c.Effects) != 2 || c.Effects[1].Position != 5 ||
		c.Effects[1].Rows[0].After["gold"] != json.Number("3") || c.Trace == "" || c.Route != "give" {
		t.Errorf("command: %+v", c)
	}
	if s := d.Stats(); s.Delivered.Load() != 2 || s.Events.Load() != 4 || s.ByRows.Load() != 0 {
		t.Errorf("stats: %d delivered, %d events", s.Delivered.Load(), s.Events.Load())
	}
}

func TestTheServiceKnowsHowFarToRead(t *testing.T) {
	b := newBench(t)
	b.start()
	b.settle(
		entry("match/1", []event.SettledChange{changed(1, 1, event.WriteID{})}),
		entry("match/1", []event.SettledChange{changed(2, 2, w(1))}, write(1, event.VerdictApplied, 2)),
		entry("match/1", []event.SettledChange{changed(3, 3, w(2))}, write(2, event.VerdictApplied, 3)))
	got := b.wait(2)
	if got[0].ReadTo != 1 || got[1].ReadTo != 2 {
		t.Errorf("read to %d, %d; want 1 for the dark change, 2 for the first command's event", got[0].ReadTo, got[1].ReadTo)
	}
}

// What was told by rows is not told again by the service.
func TestAWriteThatIsNotWholeGoesByRows(t *testing.T) {
	unattributed := changed(20, 9, event.WriteID{})
	unattributed.Cause, unattributed.Candidates = event.Unattributed, []event.WriteID{w(4), w(5)}
	late := write(1, event.VerdictApplied, 2)
	late.Late = true
	b := newBench(t)
	d := b.start()
	b.settle(
		entry("match/1", []event.SettledChange{changed(2, 1, w(1))}, late),
		entry("match/1", []event.SettledChange{changed(4, 1, w(2))}, write(2, event.VerdictApplied, 3, 4)),
		entry("match/1", []event.SettledChange{unattributed, changed(21, 1, w(4))}, write(4, event.VerdictApplied, 21)),
		entry("match/1", []event.SettledChange{changed(22, 1, w(5))}, write(5, event.VerdictApplied, 22)),
		entry("match/2", []event.SettledChange{changed(23, 1, w(5))}, write(5, event.VerdictApplied, 23)), // another key: its own story
		mark(30))
	if got, want := b.topic(30), "adjusted@2 adjusted@4 adjusted@20 adjusted@21 adjusted@22 svc.give@23 mark30"; sorted(got) != sorted(want) {
		t.Errorf("topic: %s\nwant:  %s", got, want)
	}
	if n := d.Stats().ByRows.Load(); n != 4 {
		t.Errorf("%d by rows, want 4", n)
	}
}

func sorted(s string) string {
	words := strings.Fields(s)
	for i := range words {
		for j := i + 1; j < len(words); j++ {
			if words[j] < words[i] {
				words[i], words[j] = words[j], words[i]
			}
		}
	}
	return strings.Join(words, " ")
}

func TestRetryKeepsIdentityAndOrder(t *testing.T) {
	b := newBench(t)
	tries := 0
	b.answer = func(c *dispatch.Command) (int, string) {
		if c.Write != w(1) {
			return 0, ""
		}
		if tries++; tries <= 4 {
			return []int{500, 503, 429, 408}[tries-1], "later"
		}
		return 0, ""
	}
	d := b.start()
	b.settle(
		entry("match/1", []event.SettledChange{changed(1, 1, w(1))}, write(1, event.VerdictApplied, 1)),
		entry("match/1", []event.SettledChange{changed(2, 2, w(2))}, write(2, event.VerdictApplied, 2)), mark(2))
	if got, want := b.topic(2), "svc.give@1 svc.give@2 mark2"; got != want {
		t.Errorf("topic: %s\nwant:  %s", got, want)
	}
	got := b.wait(6)
	for i, c := range got {
		if want := w(1 + i/5); c.Write != want {
			t.Errorf("try %d is of %s, want %s", i, c.ID, want)
		}
	}
	if n := d.Stats().Retries.Load(); n != 4 {
		t.Errorf("%d retries, want 4", n)
	}
}

func TestARefusalParksTheKey(t *testing.T) {
	b := newBench(t)
	b.answer = func(c *dispatch.Command) (int, string) {
		if c.Write == w(1) {
			return 422, "no such\n trade"
		}
		return 0, ""
	}
	d := b.start()
	b.settle(
		entry("match/1", []event.SettledChange{changed(3, 1, event.WriteID{}), changed(4, 1, w(1)), changed(5, 1, event.WriteID{})}, write(1, event.VerdictApplied, 4)),
		entry("match/1", []event.SettledChange{changed(6, 2, w(2))}, write(2, event.VerdictApplied, 6)),
		entry("match/2", []event.SettledChange{changed(7, 2, w(3))}, write(3, event.VerdictApplied, 7)), mark(7))
	if got, want := b.topic(7), "adjusted@3 svc.give@7 mark7(held match/1 from 0/4)"; sorted(got) != sorted(want) {
		t.Errorf("topic: %s\nwant:  %s", got, want)
	}
	d.Stop()
	var parked []*event.Parked
	for rec, err := range stream.ReadTo(t.Context(), b.kafka, b.kafka.Topics().Parked(), 0, stream.Earliest) {
		if err != nil {
			t.Fatal(err)
		}
		p, err := event.DecodeParked(rec.Value)
		if err != nil {
			t.Fatal(err)
		}
		parked = append(parked, p)
	}
	if len(parked) != 1 || parked[0].Key != "match/1" || parked[0].Stage != "dispatch" || parked[0].Position != 4 || parked[0].Offset != 0 ||
		!strings.Contains(parked[0].Reason, "a.1.1:match/1") || !strings.Contains(parked[0].Reason, "422 Unprocessable Entity: no such trade") {
		t.Fatalf("parked: %+v", parked)
	}
	// A successor knows it.
	b.start()
	b.settle(entry("match/1", []event.SettledChange{changed(8, 2, w(4))}, write(4, event.VerdictApplied, 8)),
		entry("match/2", []event.SettledChange{changed(9, 2, w(5))}, write(5, event.VerdictApplied, 9)), mark(9))
	if got := b.topic(9); !strings.Contains(got, "svc.give@9 mark9(held match/1 from 0/4)") || strings.Contains(got, "@8") {
		t.Errorf("topic: %s", got)
	}
}

func TestABadRowParksTheKey(t *testing.T) {
	b := newBench(t)
	b.start()
	bad := changed(2, 1, event.WriteID{})
	bad.Rows[0].After["gold"] = "much"
	b.settle(entry("match/1", []event.SettledChange{bad}), entry("match/1", []event.SettledChange{changed(3, 1, event.WriteID{})}), mark(3))
	if got, want := b.topic(3), "mark3(held match/1 from 0/2)"; got != want {
		t.Errorf("topic: %s\nwant:  %s", got, want)
	}
}

// A service that knows nothing yet asks for rows.
func TestTheServiceMayAskForRows(t *testing.T) {
	b := newBench(t)
	b.answer = func(c *dispatch.Command) (int, string) { return 200, `{"by_rows":true}` }
	b.start()
	b.settle(entry("match/1", []event.SettledChange{changed(1, 1, w(1)), changed(2, 1, event.WriteID{}), changed(3, 1, w(1))}, write(1, event.VerdictApplied, 1, 3)),
		entry("match/1", []event.SettledChange{changed(4, 1, w(2))}, write(2, event.VerdictRejected, 4)), mark(4))
	if got, want := b.topic(4), "adjusted@2 adjusted@1 adjusted@3 adjusted@4 mark4"; got != want {
		t.Errorf("topic: %s\nwant:  %s", got, want)
	}
}

// One key waits for its answer, another goes on beside it, the mark waits for both.
func TestMarksComeAfterAllKeys(t *testing.T) {
	b := newBench(t)
	other := make(chan struct{})
	b.answer = func(c *dispatch.Command) (int, string) {
		switch c.Key {
		case "match/1":
			<-other
		case "match/2":
			defer close(other)
		}
		return 0, ""
	}
	b.start()
	b.settle(entry("match/1", []event.SettledChange{changed(1, 1, w(1))}, write(1, event.VerdictApplied, 1)),
		entry("match/2", []event.SettledChange{changed(2, 1, w(2))}, write(2, event.VerdictApplied, 2)), mark(2))
	if got := b.topic(2); sorted(got) != "mark2 svc.give@1 svc.give@2" || !strings.HasSuffix(got, "mark2") {
		t.Errorf("topic: %s", got)
	}
}

// A dispatcher that ends before it has committed delivers again what its successor finds uncommitted, under the same id.
func TestARepeatHasTheSameIdentity(t *testing.T) {
	b := newBench(t)
	stuck := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	b.answer = func(c *dispatch.Command) (int, string) {
		if c.Write == w(2) {
			select {
			case <-stuck: // the successor
			default:
				cancel()
				<-ctx.Done()
				return 500, ""
			}
		}
		return 0, ""
	}
	d := b.start()
	b.settle(entry("match/1", []event.SettledChange{changed(1, 1, w(1))}, write(1, event.VerdictApplied, 1)),
		entry("match/1", []event.SettledChange{changed(2, 1, w(2))}, write(2, event.VerdictApplied, 2)), mark(2))
	<-ctx.Done()
	d.Stop()
	close(stuck)
	b.start()
	b.topic(2)
	ids := map[string]int{}
	for _, c := range b.wait(4) {
		ids[c.ID]++
	}
	if ids["a.1.1:match/1"] < 2 || ids["a.1.2:match/1"] < 2 || len(ids) != 2 {
		t.Errorf("deliveries: %v", ids)
	}
}

func TestConfigErrors(t *testing.T) {
	_, err := dispatch.New(dispatch.Config{URL: "x", Timeout: time.Hour, RetryMax: 1, Keys: -1})
	for _, want := range []string{"migration", "generation: 0", `dispatch: "x"`, "rows", "timeout: 1h", "retry_max", "keys: -1"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %q", err, want)
		}
	}
}
