package changelog_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"banyan/legacyadapter/changelog"
	"banyan/proxy/event"
	"banyan/proxy/kafka"
	"banyan/testdata/lab"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

const partitions = 4

// broker is an in-process Kafka with the topic .changes.
func broker(t testing.TB) kafka.Config {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return topics(t, c.ListenAddrs())
}

func topics(t testing.TB, brokers []string) kafka.Config { return topicsN(t, brokers, partitions) }

func topicsN(t testing.TB, brokers []string, n int32) kafka.Config {
	t.Helper()
	cfg := kafka.Config{Brokers: brokers, Prefix: prefix(t), Partitions: n, Replication: 1}.WithDefaults()
	cl, err := cfg.Client("test")
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cfg.EnsureTopics(context.Background(), cl, kafka.Topic{Name: cfg.Topics().Changes()}); err != nil {
		t.Fatal(err)
	}
	return cfg
}

func prefix(t testing.TB) string {
	b := []byte(lab.Prefix(t))
	for i, c := range b {
		if c == '_' {
			b[i] = '-'
		}
	}
	return string(b)
}

func logger(t testing.TB) *slog.Logger {
	out := io.Discard
	if os.Getenv("BANYAN_TEST_LOG") != "" {
		out = os.Stderr
	}
	return slog.New(slog.NewTextHandler(out, nil))
}

func byMatch(row event.Values) (event.OrderingKey, bool) {
	m, ok := row["match_id"]
	if !ok || m == nil {
		return "", false
	}
	return event.OrderingKey(fmt.Sprint("match/", m)), true
}

func unitsOnly() []changelog.Mapping {
	return []changelog.Mapping{{Migration: "units", Table: "units", Key: byMatch}}
}

type memory struct {
	mu sync.Mutex
	m  map[string][]byte
}

func (m *memory) Load(_ context.Context, name string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.m[name], nil
}

func (m *memory) Save(_ context.Context, name string, b []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.m == nil {
		m.m = map[string][]byte{}
	}
	m.m[name] = b
	return nil
}

// running is a publisher that runs; stop ends it and gives Run's error.
type running struct {
	*changelog.Publisher
	stop func() error
}

func start(t testing.TB, cfg changelog.Config, src changelog.Source) *running {
	t.Helper()
	p, err := changelog.New(cfg, src, logger(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	var once sync.Once
	var runErr error
	r := &running{Publisher: p, stop: func() error {
		once.Do(func() { cancel(); runErr = <-done })
		return runErr
	}}
	t.Cleanup(func() { r.stop() })
	return r
}

// record is one record of .changes.
type record struct {
	partition int32
	offset    int64
	change    *event.Change
	mark      *event.ReaderMark
}

// until reads .changes from the start until every partition has a mark at or above the position.
func until(t testing.TB, cfg kafka.Config, p event.Position) []record {
	t.Helper()
	return follow(t, cfg, func(marks map[int32]event.Position) bool {
		for n := range cfg.Partitions {
			if marks[n] < p {
				return false
			}
		}
		return true
	})
}

// awaitMarks waits for the first marks: from then on everything is published.
func awaitMarks(t testing.TB, cfg kafka.Config) {
	t.Helper()
	follow(t, cfg, func(m map[int32]event.Position) bool { return int32(len(m)) == cfg.Partitions })
}

func follow(t testing.TB, cfg kafka.Config, enough func(marks map[int32]event.Position) bool) []record {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	offsets := map[int32]kgo.Offset{}
	for n := range cfg.Partitions {
		offsets[n] = kgo.NewOffset().AtStart()
	}
	cl, err := cfg.Client("test", kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{cfg.Topics().Changes(): offsets}))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	var all []record
	marks := map[int32]event.Position{}
	for !enough(marks) {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			t.Fatalf("read .changes, marks %v: %v", marks, err)
		}
		for _, r := range fs.Records() {
			x := record{partition: r.Partition, offset: r.Offset}
			switch kafka.KindOf(r) {
			case event.KindChange:
				x.change, err = event.DecodeChange(r.Value)
			case event.KindReaderMark:
				x.mark, err = event.DecodeReaderMark(r.Value)
				if err == nil {
					marks[r.Partition] = max(marks[r.Partition], x.mark.Position)
				}
			default:
				err = errors.New("foreign record")
			}
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, x)
		}
	}
	return all
}

func mustExec(t testing.TB, db *sql.DB, q string, args ...any) {
	t.Helper()
	if _, err := db.Exec(q, args...); err != nil {
		t.Fatalf("%s: %v", q, err)
	}
}

func head(t testing.TB, s changelog.Source) event.Position {
	t.Helper()
	p, err := s.Head(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// checkStream holds what every stream of .changes promises per partition, and gives its changes.
func checkStream(t testing.TB, rs []record) []*event.Change {
	t.Helper()
	type id struct {
		p     event.Position
		m     event.Migration
		k     event.OrderingKey
		first int
		part  int32
	}
	seen := map[id]bool{}
	last, marked := map[int32]event.Position{}, map[int32]event.Position{}
	var changes []*event.Change
	for _, r := range rs {
		if m := r.mark; m != nil {
			if m.Position < marked[r.partition] {
				t.Errorf("partition %d offset %d: mark %s after mark %s", r.partition, r.offset, m.Position, marked[r.partition])
			}
			marked[r.partition] = m.Position
			for _, f := range m.Fences {
				if f.Position > m.Position {
					t.Errorf("partition %d: fence %s above its mark %s", r.partition, f.Position, m.Position)
				}
			}
			continue
		}
		c := r.change
		imported := c.Rows[0].Op == event.Import
		if c.Position < last[r.partition] {
			t.Errorf("partition %d offset %d: %s after %s", r.partition, r.offset, c.Position, last[r.partition])
		}
		last[r.partition] = c.Position
		if c.Position <= marked[r.partition] && !imported || c.Position < marked[r.partition] {
			t.Errorf("partition %d offset %d: change %s after mark %s", r.partition, r.offset, c.Position, marked[r.partition])
		}
		if c.Key != "" && event.Partition(c.Key, partitions) != r.partition {
			t.Errorf("key %s in partition %d", c.Key, r.partition)
		}
		if i := (id{c.Position, c.Migration, c.Key, c.Rows[0].N, r.partition}); !imported {
			if seen[i] {
				t.Errorf("twice: %+v", i)
			}
			seen[i] = true
		}
		changes = append(changes, c)
	}
	return changes
}

// The whole way: a row changed in MariaDB arrives with its write, under its key, before a mark.
func TestPublish(t *testing.T) {
	cfg := broker(t)
	l := onMariaDB(t)
	db, src := l.db, l.src(t)
	p := start(t, changelog.Config{Kafka: cfg, Mappings: unitsOnly()}, src)
	awaitMarks(t, cfg)
	mustExec(t, db, "/*banyan:id=p1.1.7*/ INSERT INTO units (id, match_id, v, name) VALUES (1, 1, 10, 'Müller'), (2, 2, 20, NULL)")
	mustExec(t, db, "INSERT INTO other (id) VALUES (1)")
	mustExec(t, db, "UPDATE units SET match_id = 2 WHERE id = 1")
	mustExec(t, db, "UPDATE units SET match_id = NULL WHERE id = 1")
	got := checkStream(t, until(t, cfg, head(t, src)))
	count := map[string]int{}
	for _, c := range got {
		count[fmt.Sprintf("%s %s %d/%d", c.Key, c.Rows[0].Op, c.Part, c.Parts)]++
		if c.Rows[0].Op == event.Insert && c.Write.String() != "p1.1.7" {
			t.Errorf("insert without its write: %+v", c)
		}
		if c.Key == "match/1" && c.Rows[0].Op == event.Insert && c.Rows[0].After["name"] != "Müller" {
			t.Errorf("row %v", c.Rows[0].After)
		}
	}
	want := map[string]int{"match/1 insert 1/2": 1, "match/2 insert 2/2": 1, "match/1 update 1/2": 1, "match/2 update 2/2": 1, " update 1/1": partitions}
	if fmt.Sprint(count) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", count, want)
	}
	if s := p.Stats(); s.Dropped == 0 || s.State != changelog.Reading {
		t.Errorf("stats %+v", s)
	}
	if err := p.stop(); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped with %v", err)
	}
}

// A mark follows its changes at once, not only at the next tick.
func TestMarkAtOnce(t *testing.T) {
	cfg := broker(t)
	l := onMariaDB(t)
	src := l.src(t)
	start(t, changelog.Config{Kafka: cfg, Mappings: unitsOnly(), MarkEvery: time.Second}, src)
	awaitMarks(t, cfg)
	var waits []time.Duration
	for i := range 5 {
		mustExec(t, l.db, fmt.Sprintf("INSERT INTO units (id, match_id, v) VALUES (%d, 1, 1)", i))
		at, began := head(t, src), time.Now()
		n := event.Partition("match/1", partitions)
		follow(t, cfg, func(m map[int32]event.Position) bool { return m[n] >= at })
		waits = append(waits, time.Since(began))
	}
	slices.Sort(waits)
	if waits[2] > 300*time.Millisecond { // the tick would make it half a second
		t.Errorf("marks came after %v", waits)
	}
}
