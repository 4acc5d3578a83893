package command

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"banyan/cmd/gameservice/internal/book"
	"banyan/proxy/event"
	"banyan/proxy/kafka"
	"banyan/shadow/dispatch"
	"banyan/shadow/stream"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is a topic in this process and services that come and go.
type bench struct {
	t     *testing.T
	kafka kafka.Config
	cl    *kgo.Client
}

const topic, topic2 = "t.events.economy.g1", "t.events.economy.g2"

func newBench(t *testing.T) *bench {
	t.Helper()
	f, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	b := &bench{t: t, kafka: kafka.Config{Brokers: f.ListenAddrs(), Prefix: "t", Partitions: 2, Replication: 1}.WithDefaults()}
	if b.cl, err = b.kafka.Producer("test"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.cl.Close)
	if err := b.kafka.EnsureTopics(t.Context(), b.cl, kafka.Topic{Name: topic, Forever: true}, kafka.Topic{Name: topic2, Forever: true}); err != nil {
		t.Fatal(err)
	}
	return b
}

// service is a fresh one, which knows nothing but the topic.
func (b *bench) service(matches int) *Handler {
	b.t.Helper()
	log := slog.New(slog.DiscardHandler)
	books := book.NewLibrary(2, func(ctx context.Context, g int) (*book.Book, func(), error) {
		bk, err := book.Open(ctx, book.Config{Kafka: b.kafka, Topic: b.kafka.Topics().Events("economy", g), Source: Source, Matches: matches, Log: log})
		if err != nil {
			return nil, nil, err
		}
		return bk, bk.Close, nil
	})
	b.t.Cleanup(books.Close)
	// As long as the service lives it follows the topic: what comes before its first command must not be missed by a test.
	_, release, err := books.Use(b.t.Context(), 1)
	if err != nil {
		b.t.Fatal(err)
	}
	release()
	return &Handler{Kafka: b.kafka, Producer: b.cl, Books: books, Log: log}
}

// told publishes events as banyan does, one per line: "type data".
func (b *bench) told(key event.OrderingKey, cause string, lines ...string) (next int64) {
	b.t.Helper()
	return b.toldIn(topic, key, cause, lines...)
}

func (b *bench) toldIn(topic string, key event.OrderingKey, cause string, lines ...string) (next int64) {
	b.t.Helper()
	for i, line := range lines {
		typ, data, _ := strings.Cut(line, " ")
		ev := event.Event{ID: fmt.Sprintf("%s/%s/%d", key, cause, i), Source: "/banyan/economy", Type: typ, Version: 1, Subject: "x", Key: key, Data: []byte(data), Cause: cause, Position: 1}
		r := kafka.EventRecord(topic, b.partition(key), &ev)
		if err := b.cl.ProduceSync(b.t.Context(), r).FirstErr(); err != nil {
			b.t.Fatal(err)
		}
		next = r.Offset + 1
	}
	return next
}

func (b *bench) partition(k event.OrderingKey) int32 { return event.Partition(k, b.kafka.Partitions) }

func (b *bench) imported(key event.OrderingKey) int64 {
	return b.told(key, "import:0/1", purse(1), purse(2),
		`game.trade.imported {"trade":5,"match":1,"seller":1,"buyer":0,"give_type":"iron","give_amount":30,"want_type":"gold","want_amount":75,"status":0,"expires_at":"2026-01-01 00:00:00"}`)
}

func purse(player int) string {
	return fmt.Sprintf(`game.resources.imported {"player":%d,"match":1,"gold":100,"wood":100,"iron":100,"gold_rate":3600,"wood_rate":0,"iron_rate":0,"storage":1000,"updated_at":1000}`, player)
}

func (b *bench) accept(key event.OrderingKey, seq int, readTo int64) *dispatch.Command {
	row := func(p string) event.RowChange {
		return event.RowChange{Table: "resources", Op: event.Update, After: event.Values{"player_id": json.Number(p), "updated_at": json.Number("1010"), "gold": json.Number("666")}}
	}
	return &dispatch.Command{V: 1, ID: fmt.Sprintf("a.1.%d:%s", seq, key), Write: event.WriteID{Replica: "a", Epoch: 1, Seq: event.Seq(seq)}, Migration: "economy", Generation: 1, Key: key,
		Partition: b.partition(key), ReadTo: readTo, Verdict: event.VerdictApplied, Route: "accept_json", Params: map[string]string{"trade": "5"}, Player: "2", Position: 9,
		Effects: []dispatch.Effect{{Position: 8, Rows: []event.RowChange{row("1")}}, {Position: 9, Rows: []event.RowChange{row("2")}}}}
}

func (b *bench) post(h *Handler, body any) (int, dispatch.Reply, string) {
	b.t.Helper()
	text, ok := body.(string)
	if !ok {
		j, err := json.Marshal(body)
		if err != nil {
			b.t.Fatal(err)
		}
		text = string(j)
	}
	ctx, cancel := context.WithTimeout(b.t.Context(), 20*time.Second)
	defer cancel()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "POST", "/commands", bytes.NewBufferString(text)))
	var reply dispatch.Reply
	_ = json.Unmarshal(w.Body.Bytes(), &reply)
	return w.Code, reply, w.Body.String()
}

// own are the service's events in the topic: "subject type data".
func (b *bench) own(key event.OrderingKey) (lines []string, ids map[string]int, records []stream.Record) {
	b.t.Helper()
	return b.ownIn(topic, key)
}

func (b *bench) ownIn(topic string, key event.OrderingKey) (lines []string, ids map[string]int, records []stream.Record) {
	b.t.Helper()
	ids = map[string]int{}
	for r, err := range stream.ReadTo(b.t.Context(), b.kafka, topic, b.partition(key), stream.Earliest) {
		if err != nil {
			b.t.Fatal(err)
		}
		ev, err := event.ParseEvent(r.Headers, r.Value)
		if err != nil {
			b.t.Fatal(err)
		}
		if ev.Source == Source && ev.Key == key {
			lines = append(lines, fmt.Sprintf("%s %s %s", ev.Subject, ev.Type, ev.Data))
			ids[ev.ID]++
			records = append(records, r)
			if ev.Cause != "a.1.1" || ev.Position != 9 {
				b.t.Errorf("cause %s, position %s", ev.Cause, ev.Position)
			}
		}
	}
	return lines, ids, records
}

const m1, m2 = event.OrderingKey("match/1"), event.OrderingKey("match/2")

// Ten seconds at 3600 an hour make 10 gold; legacy's own amounts (666) are not looked at.
var accepted = []string{
	`player/2 game.resources.changed {"player":2,"match":1,"gold":35,"wood":100,"iron":130,"gold_rate":3600,"wood_rate":0,"iron_rate":0,"storage":1000,"updated_at":1010,"reason":"accept"}`,
	`player/1 game.resources.changed {"player":1,"match":1,"gold":185,"wood":100,"iron":70,"gold_rate":3600,"wood_rate":0,"iron_rate":0,"storage":1000,"updated_at":1010,"reason":"accept"}`,
	`trade/5 game.trade.accepted {"trade":5,"match":1,"buyer":2}`,
}

func TestACommandAndItsRepeats(t *testing.T) {
	b := newBench(t)
	next := b.imported(m1)
	h := b.service(0)
	c := b.accept(m1, 1, next)
	for range 3 {
		if code, _, body := b.post(h, c); code != 200 {
			t.Fatal(code, body)
		}
	}
	if code, _, body := b.post(b.service(0), c); code != 200 { // after a restart
		t.Fatal(code, body)
	}
	lines, ids, _ := b.own(m1)
	if strings.Join(lines, "\n") != strings.Join(accepted, "\n") || len(ids) != 3 {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(accepted, "\n"))
	}
	if h.Stats.Repeats.Load() != 2 || h.Stats.Events.Load() != 3 || h.Stats.Refused.Load() != 0 {
		t.Error("stats", h.Stats.Repeats.Load(), h.Stats.Events.Load(), h.Stats.Refused.Load())
	}
}

// A crash between a command's events leaves some of them; the repeat makes the others, as they would have been.
func TestACrashBetweenEvents(t *testing.T) {
	first := newBench(t)
	c := first.accept(m1, 1, first.imported(m1))
	first.post(first.service(0), c)
	_, _, records := first.own(m1)
	if len(records) != 3 {
		t.Fatal(len(records))
	}
	for n := 1; n <= 2; n++ {
		b := newBench(t)
		b.imported(m1)
		for _, r := range records[:n] {
			k := &kgo.Record{Topic: topic, Partition: r.Partition, Key: r.Key, Value: r.Value}
			for _, h := range r.Headers {
				k.Headers = append(k.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
			}
			if err := b.cl.ProduceSync(t.Context(), k).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		if code, _, body := b.post(b.service(0), b.accept(m1, 1, 0)); code != 200 {
			t.Fatal(code, body)
		}
		if lines, _, _ := b.own(m1); strings.Join(lines, "\n") != strings.Join(accepted, "\n") {
			t.Errorf("after %d of 3:\n%s", n, strings.Join(lines, "\n"))
		}
	}
}

func TestADecisionSeesWhatItMust(t *testing.T) {
	b := newBench(t)
	h := b.service(0)
	b.post(h, b.accept(m1, 2, 0)) // the match is in memory, empty
	done := make(chan dispatch.Reply)
	go func() {
		_, reply, _ := b.post(h, b.accept(m1, 1, 3))
		done <- reply
	}()
	b.imported(m1)
	if reply := <-done; reply.ByRows || reply.ReadTo != 6 {
		t.Errorf("%+v", reply)
	}
}

// What is not imported is told by rows, also when it is asked again later.
func TestUnknownIsToldByRows(t *testing.T) {
	b := newBench(t)
	h := b.service(0)
	c := b.accept(m1, 1, 0)
	if code, reply, _ := b.post(h, c); code != 200 || !reply.ByRows {
		t.Fatal(code, reply)
	}
	b.told(m1, c.Write.String(), `game.resources.adjusted {"player":2,"match":1,"gold":1,"wood":0,"iron":0,"gold_rate":0,"wood_rate":0,"iron_rate":0,"storage":0,"updated_at":1}`)
	c.ReadTo = b.imported(m1)
	for _, s := range []*Handler{h, b.service(0)} {
		if code, reply, _ := b.post(s, c); code != 200 || !reply.ByRows {
			t.Error(code, reply)
		}
	}
	if lines, _, _ := b.own(m1); len(lines) > 0 {
		t.Error(lines)
	}
}

func TestLegacyAcceptsWhatOurRulesForbid(t *testing.T) {
	b := newBench(t)
	h := b.service(0)
	next := b.imported(m1)
	_, reply, _ := b.post(h, b.accept(m1, 1, next))
	if code, _, _ := b.post(h, b.accept(m1, 2, reply.ReadTo)); code != 200 { // accepted twice, at the same time
		t.Fatal(code)
	}
	if lines, _, _ := b.own(m1); len(lines) != 3 || h.Stats.Refused.Load() != 1 {
		t.Error(lines, h.Stats.Refused.Load())
	}
}

func TestForgottenMatchesAreReadAgain(t *testing.T) {
	b := newBench(t)
	h := b.service(1)
	n1, n2 := b.imported(m1), b.imported(m2)
	b.post(h, b.accept(m1, 1, n1))
	b.post(h, b.accept(m2, 1, n2)) // m1 is forgotten
	if _, reply, _ := b.post(h, b.accept(m1, 3, 0)); reply.ByRows || h.Stats.Refused.Load() != 1 {
		t.Errorf("the trade is over: %+v, %d refused", reply, h.Stats.Refused.Load())
	}
	if lines, _, _ := b.own(m2); strings.Join(lines, "\n") != strings.Join(accepted, "\n") {
		t.Error(lines)
	}
}

func TestWhatIsRefused(t *testing.T) {
	b := newBench(t)
	b.imported(m1)
	h := b.service(0)
	with := func(f func(*dispatch.Command)) *dispatch.Command { c := b.accept(m1, 1, 0); f(c); return c }
	for name, c := range map[string]struct {
		body any
		code int
		says string
	}{
		"not JSON":            {"{", 422, "not a command"},
		"a newer version":     {with(func(c *dispatch.Command) { c.V = 2 }), 422, "version 1"},
		"an unknown action":   {with(func(c *dispatch.Command) { c.Route = "fly" }), 422, `"fly" is not known`},
		"no id":               {with(func(c *dispatch.Command) { c.Params["trade"] = "x" }), 422, `"x" is not an id`},
		"another partition":   {with(func(c *dispatch.Command) { c.Partition = 1 - c.Partition }), 503, "kafka.partitions"},
		"not a match":         {with(func(c *dispatch.Command) { c.Key = "game/1"; c.Partition = b.partition("game/1") }), 422, "match/<id>"},
		"rejected by legacy":  {with(func(c *dispatch.Command) { c.Verdict = event.VerdictRejected; c.Route = "fly" }), 200, ""},
		"not known by legacy": {with(func(c *dispatch.Command) { c.Verdict = event.VerdictUnresolved }), 200, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if code, _, body := b.post(h, c.body); code != c.code || !strings.Contains(body, c.says) {
				t.Errorf("%d %s; want %d with %q", code, body, c.code, c.says)
			}
		})
	}
	if lines, _, _ := b.own(m1); len(lines) > 0 {
		t.Error(lines)
	}
}

// An event that cannot be folded stops its match, not the others.
func TestAnEventThatCannotBeFolded(t *testing.T) {
	b := newBench(t)
	b.imported(m1)
	n1 := b.told(m1, "dark:0/5.0", `game.trade.changed "nonsense"`)
	n2 := b.imported(m2)
	h := b.service(0)
	if code, _, body := b.post(h, b.accept(m1, 1, n1)); code != 503 || !strings.Contains(body, "game.trade.changed") {
		t.Error(code, body)
	}
	if code, _, body := b.post(h, b.accept(m2, 1, n2)); code != 200 {
		t.Error(code, body)
	}
}

// While a new generation is made, old commands are delivered again for it: they are decided on what happened in that one,
// and their events go there, whatever the generation before has of them.
func TestGenerationsDoNotSeeEachOther(t *testing.T) {
	b := newBench(t)
	next := b.imported(m1)
	h := b.service(0)
	if code, _, body := b.post(h, b.accept(m1, 1, next)); code != 200 {
		t.Fatal(code, body)
	}
	again := b.accept(m1, 1, 0)
	again.Generation, again.ID = 2, again.ID+":g2"
	if code, reply, body := b.post(h, again); code != 200 || !reply.ByRows {
		t.Fatal("the second generation knows what only the first was told:", code, body)
	}
	// The import of the second generation is richer by 100 gold for each.
	again.ReadTo = b.toldIn(topic2, m1, "import:0/1", strings.ReplaceAll(purse(1), `"gold":100`, `"gold":200`), strings.ReplaceAll(purse(2), `"gold":100`, `"gold":200`),
		`game.trade.imported {"trade":5,"match":1,"seller":1,"buyer":0,"give_type":"iron","give_amount":30,"want_type":"gold","want_amount":75,"status":0,"expires_at":"2026-01-01 00:00:00"}`)
	for range 2 {
		if code, reply, body := b.post(h, again); code != 200 || reply.ByRows {
			t.Fatal(code, body)
		}
	}
	one, ids1, _ := b.own(m1)
	two, ids2, _ := b.ownIn(topic2, m1)
	want := strings.NewReplacer(`"gold":35`, `"gold":135`, `"gold":185`, `"gold":285`).Replace(strings.Join(accepted, "\n"))
	if strings.Join(one, "\n") != strings.Join(accepted, "\n") || strings.Join(two, "\n") != want || len(ids1) != 3 || len(ids2) != 3 {
		t.Errorf("first\n%s\nsecond\n%s", strings.Join(one, "\n"), strings.Join(two, "\n"))
	}
	// A topic that is not there yet is waited for, not parked upon.
	again.Generation = 3
	if code, _, body := b.post(h, again); code != 503 {
		t.Error(code, body)
	}
	again.Generation = 0
	if code, _, body := b.post(h, again); code != 422 {
		t.Error(code, body)
	}
}
