package settle

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"banyan/proxy/event"
	"banyan/proxy/kafka"
	"banyan/shadow/stream"
	"banyan/testdata/lab"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// The shared server lives until the process ends.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("banyan/testdata/lab.(*Process).launch.func1"))
}

const parts = 2

func fakeKafka(t *testing.T) kafka.Config {
	t.Helper()
	f, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return kafka.Config{Brokers: f.ListenAddrs(), Prefix: "t", Partitions: parts, Replication: 1}.WithDefaults()
}

func realKafka(t *testing.T) kafka.Config {
	return kafka.Config{Brokers: lab.Kafka(t).Brokers, Prefix: strings.ReplaceAll(lab.Prefix(t), "_", "-"), Partitions: parts, Replication: 1}.WithDefaults()
}

// world is a proxy and a change-log reader that write to real topics, with the real clock.
type world struct {
	t       *testing.T
	k       kafka.Config
	cl      *kgo.Client
	seq     event.Seq
	pos     event.Position
	changes int
	writes  int
	tail    *kgo.Client // of .settled
	log     []any
}

func newWorld(t *testing.T, k kafka.Config) *world {
	t.Helper()
	cl, err := k.Producer("test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	if err := k.EnsureTopics(t.Context(), cl, k.Base()...); err != nil {
		t.Fatal(err)
	}
	from := map[string]map[int32]kgo.Offset{k.Topics().Settled(): {}}
	for p := range int32(parts) {
		from[k.Topics().Settled()][p] = kgo.NewOffset().AtStart()
	}
	tail, err := k.Client("test", kgo.ConsumePartitions(from), kgo.FetchMaxWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tail.Close)
	return &world{t: t, k: k, cl: cl, pos: 100, tail: tail}
}

func (w *world) put(rs ...*kgo.Record) {
	w.t.Helper()
	if err := w.cl.ProduceSync(w.t.Context(), rs...).FirstErr(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) key(i int) event.OrderingKey { return event.OrderingKey(fmt.Sprintf("match/%d", i)) }

// act: one write of a key with n effects, its record and changes; annotated, so that the outcome is the same each time.
func (w *world) act(i, effects int) {
	w.seq++
	w.writes++
	now := time.Now()
	k := w.key(i)
	p := event.Partition(k, parts)
	x := &event.Write{V: 1, ID: event.WriteID{Replica: "a", Epoch: 1, Seq: w.seq}, Address: event.Address{Migration: "units", Key: k, Primary: true},
		Intent: event.Intent{At: now}, Result: event.Result{Outcome: event.Applied, Forwarded: now, End: now}}
	var rs []*kgo.Record
	for range effects {
		w.pos += 10
		w.changes++
		c := &event.Change{V: 1, Migration: "units", Key: k, Position: w.pos, Part: 1, Parts: 1, Write: x.ID, Received: now,
			Rows: []event.RowChange{{Table: "units", Op: event.Insert, After: event.Values{"id": fmt.Sprint(w.pos)}}}}
		rs = append(rs, kafka.Record(w.k.Topics().Changes(), p, event.KindChange, string(k), event.Encode(c)))
	}
	w.put(append(rs, kafka.Record(w.k.Topics().Writes(), p, event.KindWrite, string(k), event.Encode(x)))...)
}

func (w *world) marks() {
	now := time.Now()
	for p := range int32(parts) {
		w.put(kafka.Record(w.k.Topics().Writes(), p, event.KindReplicaMark, "", event.Encode(&event.ReplicaMark{V: 1, Replica: "a", Epoch: 1, Seq: w.seq, Clock: now})),
			kafka.Record(w.k.Topics().Changes(), p, event.KindReaderMark, "", event.Encode(&event.ReaderMark{V: 1, Position: w.pos, Clock: now,
				Fences: []event.Fence{{Sent: now, Position: w.pos, Answered: now}}})))
	}
}

// poll takes what was appended to .settled since.
func (w *world) poll() {
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Millisecond)
	defer cancel()
	w.tail.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
		switch kafka.KindOf(r) {
		case event.KindEntry:
			e, err := event.DecodeEntry(r.Value)
			if err != nil || event.Partition(e.Key, parts) != r.Partition {
				w.t.Fatal(e, err)
			}
			w.log = append(w.log, e)
		case event.KindSettledMark:
			m, err := event.DecodeSettledMark(r.Value)
			if err != nil {
				w.t.Fatal(err)
			}
			w.log = append(w.log, m)
		}
	})
}

// done feeds marks until all is settled: the service runs on the real clock.
func (w *world) done() (changes map[event.OrderingKey][]string, writes map[event.WriteID]string) {
	w.t.Helper()
	for until := time.Now().Add(time.Minute); time.Now().Before(until); {
		w.marks()
		w.poll()
		changes, writes = sequence(w.log)
		n := 0
		for _, c := range changes {
			n += len(c)
		}
		if n >= w.changes && len(writes) >= w.writes {
			return changes, writes
		}
	}
	w.t.Fatalf("not settled: %v %v", changes, writes)
	return nil, nil
}

func startService(t *testing.T, k kafka.Config, set func(*Service)) *Service {
	t.Helper()
	s, err := New(Config{MaxClockError: 5 * time.Millisecond}, k, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if set != nil {
		set(s)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// checkOnce: each change once and in order, each write once, with the truth's effects.
func (w *world) checkOnce() {
	w.t.Helper()
	seen := map[string]bool{}
	settled := map[event.WriteID]bool{}
	last := map[event.OrderingKey]event.Position{}
	for _, x := range w.log {
		e, ok := x.(*event.Entry)
		if !ok {
			continue
		}
		for _, c := range e.Changes {
			if c.Position <= last[e.Key] || seen[fmt.Sprint(c.Position)] {
				w.t.Errorf("change %d comes again, or late: %s", c.Position, show(e))
			}
			last[e.Key], seen[fmt.Sprint(c.Position)] = c.Position, true
		}
		for _, x := range e.Writes {
			if settled[x.Write.ID] {
				w.t.Errorf("write %s settles twice", x.Write.ID)
			}
			settled[x.Write.ID] = true
		}
	}
	if len(seen) != w.changes || len(settled) != w.writes {
		w.t.Errorf("%d of %d changes, %d of %d writes", len(seen), w.changes, len(settled), w.writes)
	}
}

func TestServiceSettles(t *testing.T) {
	for name, k := range map[string]func(*testing.T) kafka.Config{"kfake": fakeKafka, "kafka": realKafka} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, k(t))
			startService(t, w.k, nil)
			w.marks()
			for i := range 40 {
				w.act(i%7, i%4)
			}
			changes, _ := w.done()
			if len(changes) != 7 {
				t.Errorf("%d keys", len(changes))
			}
			w.checkOnce()
		})
	}
}

// A worker is killed between an append and its acknowledgement, before, or in the middle: its successor repeats nothing.
func TestRestartsPublishNothingTwice(t *testing.T) {
	for name, k := range map[string]func(*testing.T) kafka.Config{"kfake": fakeKafka, "kafka": realKafka} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, k(t))
			var mu sync.Mutex
			rng := rand.New(rand.NewPCG(7, 7))
			faults := 0
			startService(t, w.k, func(s *Service) {
				s.produce = func(ctx context.Context, cl *kgo.Client, rs []*kgo.Record) (int64, error) {
					mu.Lock()
					entries := kafka.KindOf(rs[0]) == event.KindEntry
					n, fault := rng.IntN(len(rs)+1), entries && faults < 12 && (faults < 4 || rng.IntN(2) == 0)
					if fault {
						faults++
					}
					mu.Unlock()
					if !fault {
						return produce(ctx, cl, rs)
					}
					if n > 0 {
						if _, err := produce(ctx, cl, rs[:n]); err != nil {
							return 0, err
						}
					}
					return 0, errors.New("killed")
				}
			})
			w.marks()
			for i := range 60 {
				w.act(i%7, i%4)
				if i%5 == 0 {
					w.marks()
				}
			}
			interrupted, writes := w.done()
			w.checkOnce()
			if mu.Lock(); faults < 3 {
				t.Errorf("%d faults only", faults)
			}
			mu.Unlock()
			// The same topics, without interruption, by another group to another topic: the same per key.
			whole, wholeWrites := w.replay()
			if d := cmp.Diff(whole, interrupted) + cmp.Diff(wholeWrites, writes); d != "" {
				t.Errorf("uninterrupted against interrupted:\n%s", d)
			}
		})
	}
}

// replay gives both topics to fresh cores, in one go.
func (w *world) replay() (map[event.OrderingKey][]string, map[event.WriteID]string) {
	w.t.Helper()
	p := &published{}
	for n := range int32(parts) {
		p.core, p.trail = NewCore(Config{MaxClockError: 5 * time.Millisecond}, p), nil
		x := &worker{s: &Service{kafka: w.k}, core: p.core, partition: n}
		for _, topic := range []string{w.k.Topics().Writes(), w.k.Topics().Changes()} {
			for r, err := range stream.ReadTo(w.t.Context(), w.k, topic, n, stream.Earliest) {
				if err == nil {
					err = x.feed(&r)
				}
				if err != nil {
					w.t.Fatal(err)
				}
			}
		}
		p.core.Tick(time.Now())
	}
	return sequence(p.out)
}

// Members come and go; an append whose acknowledgement never comes does not hold up Stop.
func TestMembersComeAndGo(t *testing.T) {
	w := newWorld(t, fakeKafka(t))
	first := startService(t, w.k, nil)
	w.marks()
	for i := range 20 {
		w.act(i%7, 2)
	}
	second := startService(t, w.k, nil)
	for i := range 20 {
		w.act(i%7, 2)
	}
	w.done()
	first.Stop()
	for i := range 20 {
		w.act(i%7, 2)
	}
	w.done()
	second.Stop()
	w.checkOnce()
}

// A record that cannot be read stalls its partition and says where it stands; the other goes on.
func TestABadRecordStallsItsPartition(t *testing.T) {
	w := newWorld(t, fakeKafka(t))
	stalled := make(chan error, 100)
	s, err := New(Config{MaxClockError: 5 * time.Millisecond}, w.k, nil, func(st stream.State) {
		if st.Phase == stream.Stalled {
			select {
			case stalled <- st.Err:
			default:
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	w.put(kafka.Record(w.k.Topics().Writes(), 0, event.KindWrite, "", []byte(`{"v":99}`)))
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	if err := <-stalled; !strings.Contains(err.Error(), "t.writes/0 offset 0") || !strings.Contains(err.Error(), "version 99") {
		t.Error(err)
	}
	i := 0
	for event.Partition(w.key(i), parts) != 1 {
		i++
	}
	w.act(i, 2)
	w.done()
}

func TestConfigNamesFieldValueAndBound(t *testing.T) {
	_, err := New(Config{AttributeWait: time.Hour, MaxClockError: time.Minute, MaxExecution: -1, ReplicaWait: 1, Forget: -1, MarkEvery: time.Hour, MaxRows: -1}, kafka.Config{}, nil, nil)
	for _, want := range []string{"attribute_wait: 1h0m0s", "max_clock_error: 1m0s", "max_execution: -1ns", "replica_wait: 1ns", "forget: -1ns", "mark_every: 1h0m0s", "max_rows"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: want %q", err, want)
		}
	}
}
