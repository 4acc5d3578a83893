package stream_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"banyan/proxy/event"
	"banyan/proxy/kafka"
	"banyan/shadow/stream"
	"banyan/testdata/lab"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// The shared server lives until the process ends.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("banyan/testdata/lab.(*Process).launch.func1"))
}

const partitions = 4

// eachBroker runs a story on the in-process broker and on the real one.
func eachBroker(t *testing.T, story func(*testing.T, kafka.Config)) {
	t.Run("kfake", func(t *testing.T) { story(t, fake(t)) })
	t.Run("kafka", func(t *testing.T) {
		story(t, kafka.Config{Brokers: lab.Kafka(t).Brokers, Prefix: strings.ReplaceAll(lab.Prefix(t), "_", "-"), Partitions: partitions, Replication: 1}.WithDefaults())
	})
}

func fake(t *testing.T) kafka.Config {
	t.Helper()
	f, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return kafka.Config{Brokers: f.ListenAddrs(), Prefix: "t", Partitions: partitions, Replication: 1}.WithDefaults()
}

func producer(t *testing.T, cfg kafka.Config, topics ...kafka.Topic) *kgo.Client {
	t.Helper()
	cl, err := cfg.Producer("test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	if err := cfg.EnsureTopics(t.Context(), cl, topics...); err != nil {
		t.Fatal(err)
	}
	return cl
}

func put(t *testing.T, cl *kgo.Client, topic string, partition int32, from, to int) {
	t.Helper()
	var rs []*kgo.Record
	for i := from; i < to; i++ {
		rs = append(rs, kafka.Record(topic, partition, event.KindWrite, "k", []byte(strconv.Itoa(i))))
	}
	if err := cl.ProduceSync(t.Context(), rs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// store is what workers of several members share, as a database would: offsets and records, per partition.
type store struct {
	t  *testing.T
	mu sync.Mutex
	// next and seen by topic/partition, open and failures by partition
	next   map[string]int64
	seen   map[string][]string
	open   map[int32]int
	opens  map[int32]int
	ticks  map[int32]int
	fail   func(partition int32, batch []stream.Record) error // asked before a batch is taken
	change chan struct{}

	slowClose time.Duration
}

func newStore(t *testing.T) *store {
	return &store{t: t, next: map[string]int64{}, seen: map[string][]string{}, open: map[int32]int{}, opens: map[int32]int{}, ticks: map[int32]int{}, change: make(chan struct{})}
}

func at(topic string, p int32) string { return topic + "/" + strconv.Itoa(int(p)) }

func (s *store) changedLocked() { close(s.change); s.change = make(chan struct{}) }

// wait waits for a condition on the store, not for time.
func (s *store) wait(what string, ok func() bool) {
	s.t.Helper()
	timeout := time.After(60 * time.Second)
	for {
		s.mu.Lock()
		done, change := ok(), s.change
		s.mu.Unlock()
		if done {
			return
		}
		select {
		case <-change:
		case <-timeout:
			s.t.Fatalf("waited too long: %s", what)
		}
	}
}

func (s *store) opener(topics ...string) stream.Opener {
	return func(_ context.Context, p int32) (stream.Worker, map[string]int64, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.open[p]++
		s.opens[p]++
		if s.open[p] > 1 {
			s.t.Errorf("partition %d has two workers", p)
		}
		start := map[string]int64{}
		for _, t := range topics {
			start[t] = s.next[at(t, p)]
		}
		s.changedLocked()
		return &storing{s, p, false}, start, nil
	}
}

type storing struct {
	s      *store
	p      int32
	closed bool
}

func (w *storing) Handle(_ context.Context, batch []stream.Record) error {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	defer w.s.changedLocked()
	if w.closed {
		w.s.t.Errorf("partition %d: called after Close", w.p)
	}
	if len(batch) == 0 {
		w.s.ticks[w.p]++
		return nil
	}
	if w.s.fail != nil {
		if err := w.s.fail(w.p, batch); err != nil {
			return err
		}
	}
	for _, r := range batch {
		k := at(r.Topic, r.Partition)
		if r.Partition != w.p || r.Offset != w.s.next[k] {
			w.s.t.Errorf("worker %d got %s offset %d, want %d", w.p, k, r.Offset, w.s.next[k])
		}
		w.s.next[k] = r.Offset + 1
		w.s.seen[k] = append(w.s.seen[k], string(r.Value))
	}
	return nil
}

func (w *storing) Close(context.Context) {
	if w.s.slowClose > 0 {
		time.Sleep(w.s.slowClose) // what must not happen meanwhile has no event to wait for: another member's worker
	}
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	w.closed = true
	w.s.open[w.p]--
	w.s.changedLocked()
}

func start(t *testing.T, cfg stream.Config, open stream.Opener) *stream.Consumer {
	t.Helper()
	if cfg.Session == 0 {
		cfg.Session = 2 * time.Second
	}
	c, err := stream.New(cfg, open)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	return c
}

func (s *store) wantAll(topics []string, n int) {
	s.t.Helper()
	s.wait(fmt.Sprintf("%d records of each partition", n), func() bool {
		for _, topic := range topics {
			for p := range int32(partitions) {
				if len(s.seen[at(topic, p)]) < n {
					return false
				}
			}
		}
		return true
	})
	for k, vs := range s.seen {
		for i, v := range vs {
			if v != strconv.Itoa(i) {
				s.t.Fatalf("%s: record %d is %s", k, i, v)
			}
		}
	}
}

func TestRebalanceLosesNothingAndKeepsOrder(t *testing.T) {
	eachBroker(t, func(t *testing.T, cfg kafka.Config) {
		a, b := cfg.Prefix+".a", cfg.Prefix+".b"
		cl := producer(t, cfg, kafka.Topic{Name: a}, kafka.Topic{Name: b})
		s := newStore(t)
		s.slowClose = 200 * time.Millisecond
		sc := stream.Config{Kafka: cfg, Group: cfg.Prefix + "-g", Topics: []string{a, b}, MaxBatch: 7}
		first := start(t, sc, s.opener(a, b))
		feed := func(from, to int) {
			for p := range int32(partitions) {
				put(t, cl, a, p, from, to)
				put(t, cl, b, p, from, to)
			}
		}
		feed(0, 50)
		s.wantAll(sc.Topics, 50)
		second := start(t, sc, s.opener(a, b))
		feed(50, 100)
		s.wait("the second member has partitions", func() bool { return s.opens[3] >= 2 })
		s.wantAll(sc.Topics, 100)
		go first.Stop()
		feed(100, 150)
		s.wantAll(sc.Topics, 150)
		first.Stop()
		second.Stop()
		s.mu.Lock()
		defer s.mu.Unlock()
		for p, n := range s.open {
			if n != 0 {
				t.Errorf("partition %d: %d workers are open after Stop", p, n)
			}
		}
	})
}

func TestAnErrorStallsItsPartitionAlone(t *testing.T) {
	cfg := fake(t)
	a := cfg.Prefix + ".a"
	cl := producer(t, cfg, kafka.Topic{Name: a})
	s := newStore(t)
	broken := true
	s.fail = func(p int32, batch []stream.Record) error {
		if p == 1 && broken && batch[len(batch)-1].Offset >= 5 {
			return errors.New("no")
		}
		return nil
	}
	var mu sync.Mutex
	var stalls []stream.State
	start(t, stream.Config{Kafka: cfg, Group: "g", Topics: []string{a}, MaxBatch: 3, RetryMax: 60 * time.Millisecond, State: func(st stream.State) {
		if mu.Lock(); st.Phase == stream.Stalled {
			stalls = append(stalls, st)
		}
		mu.Unlock()
	}}, s.opener(a))
	for p := range int32(partitions) {
		put(t, cl, a, p, 0, 10)
	}
	s.wait("the others are done and partition 1 was tried again", func() bool {
		return len(s.seen[at(a, 0)])+len(s.seen[at(a, 2)])+len(s.seen[at(a, 3)]) == 30 && s.opens[1] >= 4
	})
	s.mu.Lock()
	if n := s.next[at(a, 1)]; n > 5 {
		t.Errorf("partition 1 is at %d: a batch that failed was skipped", n)
	}
	broken = false
	s.mu.Unlock()
	s.wantAll([]string{a}, 10)
	mu.Lock()
	defer mu.Unlock()
	for i, st := range stalls {
		if st.Partition != 1 || st.Err == nil || !strings.Contains(st.Err.Error(), a+" offset") || i > 1 && st.Failures < 2 {
			t.Errorf("state %d: %+v", i, st)
		}
	}
	if len(stalls) < 3 {
		t.Errorf("%d stalls were told", len(stalls))
	}
}

// A worker that says an earlier start gets everything again from there, without a hole, however much was fetched.
func TestReopenStartsWhereTheWorkerSays(t *testing.T) {
	eachBroker(t, func(t *testing.T, cfg kafka.Config) {
		a := cfg.Prefix + ".a"
		cl := producer(t, cfg, kafka.Topic{Name: a, Partitions: 1})
		s := newStore(t)
		back := 0
		s.fail = func(_ int32, batch []stream.Record) error {
			if back < 20 && batch[0].Offset > 0 {
				back++
				s.next[at(a, 0)] = max(0, batch[0].Offset-int64(back))
				s.seen[at(a, 0)] = s.seen[at(a, 0)][:s.next[at(a, 0)]]
				return errors.New("rewind")
			}
			return nil
		}
		start(t, stream.Config{Kafka: cfg, Group: cfg.Prefix + "-g", Topics: []string{a}, MaxBatch: 10, RetryMax: time.Millisecond}, s.opener(a))
		put(t, cl, a, 0, 0, 1000)
		s.wait("1000 records", func() bool { return back == 20 && len(s.seen[at(a, 0)]) == 1000 })
	})
}

func TestTicksComeWithoutRecords(t *testing.T) {
	cfg := fake(t)
	a := cfg.Prefix + ".a"
	producer(t, cfg, kafka.Topic{Name: a})
	s := newStore(t)
	start(t, stream.Config{Kafka: cfg, Group: "g", Topics: []string{a}, Tick: time.Millisecond}, s.opener(a))
	s.wait("ticks", func() bool { return s.ticks[0] > 3 && s.ticks[3] > 3 })
}

// committer keeps no offsets of its own.
type committer struct {
	*storing
	c    func() *stream.Consumer
	done chan error
}

func (w *committer) Handle(ctx context.Context, batch []stream.Record) error {
	if len(batch) == 0 {
		return nil
	}
	if err := w.storing.Handle(ctx, batch); err != nil {
		return err
	}
	last := batch[len(batch)-1]
	w.done <- w.c().Commit(ctx, w.p, map[string]int64{last.Topic: last.Offset + 1})
	return nil
}

func TestAbsentTopicStartsAtTheCommittedOffset(t *testing.T) {
	eachBroker(t, func(t *testing.T, cfg kafka.Config) {
		a := cfg.Prefix + ".a"
		cl := producer(t, cfg, kafka.Topic{Name: a, Partitions: 1})
		s := newStore(t)
		put(t, cl, a, 0, 0, 5)
		for round := range 2 {
			done := make(chan error, 100)
			var c *stream.Consumer
			ready := make(chan struct{})
			c = start(t, stream.Config{Kafka: cfg, Group: cfg.Prefix + "-g", Topics: []string{a}}, func(ctx context.Context, p int32) (stream.Worker, map[string]int64, error) {
				<-ready
				w, _, err := s.opener(a)(ctx, p)
				return &committer{w.(*storing), func() *stream.Consumer { return c }, done}, nil, err
			})
			close(ready)
			s.wait("records", func() bool { return len(s.seen[at(a, 0)]) == 5*(round+1) })
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			c.Stop()
			if err := c.Commit(t.Context(), 0, map[string]int64{a: 1}); !errors.Is(err, stream.ErrNotOwned) {
				t.Errorf("commit after Stop: %v", err)
			}
			put(t, cl, a, 0, 5, 10)
		}
	})
}

// Begin counts only for who has nothing better: the worker's word and the group's offset come first.
func TestBeginIsForAGroupWithoutAnOffset(t *testing.T) {
	eachBroker(t, func(t *testing.T, cfg kafka.Config) {
		a := cfg.Prefix + ".a"
		cl := producer(t, cfg, kafka.Topic{Name: a, Partitions: 1})
		s := newStore(t)
		s.next[at(a, 0)] = 3 // what the workers check
		put(t, cl, a, 0, 0, 5)
		for round, want := range []int{2, 4} { // from 3 at first; then from where that came to
			done := make(chan error, 100)
			var c *stream.Consumer
			ready := make(chan struct{})
			c = start(t, stream.Config{Kafka: cfg, Group: cfg.Prefix + "-g", Topics: []string{a}, Begin: map[string][]int64{a: {3}}}, func(ctx context.Context, p int32) (stream.Worker, map[string]int64, error) {
				<-ready
				w, _, err := s.opener(a)(ctx, p)
				return &committer{w.(*storing), func() *stream.Consumer { return c }, done}, nil, err
			})
			close(ready)
			s.wait("records", func() bool { return len(s.seen[at(a, 0)]) == want })
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			c.Stop()
			put(t, cl, a, 0, 5+2*round, 7+2*round)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if got := fmt.Sprint(s.seen[at(a, 0)]); got != "[3 4 5 6]" {
			t.Error(got)
		}
	})
}

func TestAFullQueueStopsFetching(t *testing.T) {
	cfg := fake(t)
	a := cfg.Prefix + ".a"
	cl := producer(t, cfg, kafka.Topic{Name: a, Partitions: 2})
	s := newStore(t)
	put(t, cl, a, 0, 0, 3000)
	fetched := &fetchHook{}
	release := make(chan struct{})
	s.fail = func(p int32, _ []stream.Record) error {
		if p == 0 {
			s.mu.Unlock()
			<-release
			s.mu.Lock()
		}
		return nil
	}
	start(t, stream.Config{Kafka: cfg, Group: "g", Topics: []string{a}, MaxBatch: 10, Options: []kgo.Opt{kgo.WithHooks(fetched)}}, s.opener(a))
	// The other partition goes on, in many fetches, while the first one is not worked off.
	for i := range 20 {
		put(t, cl, a, 1, i*10, i*10+10)
		s.wait("partition 1", func() bool { return len(s.seen[at(a, 1)]) == i*10+10 })
	}
	put(t, cl, a, 0, 3000, 6000)
	for i := range 20 {
		put(t, cl, a, 1, 200+i, 201+i)
		s.wait("partition 1", func() bool { return len(s.seen[at(a, 1)]) == 201+i })
	}
	if n := fetched.records(0); n > 4000 {
		t.Errorf("%d records of a stopped partition were fetched", n)
	}
	close(release)
	s.wait("partition 0", func() bool { return len(s.seen[at(a, 0)]) == 6000 })
}

type fetchHook struct {
	mu sync.Mutex
	n  map[int32]int
}

func (h *fetchHook) OnFetchRecordBuffered(r *kgo.Record) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.n == nil {
		h.n = map[int32]int{}
	}
	h.n[r.Partition]++
}
func (h *fetchHook) OnFetchRecordUnbuffered(*kgo.Record, bool) {}

func (h *fetchHook) records(p int32) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.n[p]
}

func TestTopicsMustBeThereAndCoPartitioned(t *testing.T) {
	cfg := fake(t)
	a, b := cfg.Prefix+".a", cfg.Prefix+".b"
	producer(t, cfg, kafka.Topic{Name: a}, kafka.Topic{Name: b, Partitions: 3})
	for _, tc := range []struct{ other, want string }{{b, "they must be equal"}, {cfg.Prefix + ".c", "does not exist"}} {
		c, err := stream.New(stream.Config{Kafka: cfg, Group: "g", Topics: []string{a, tc.other}}, newStore(t).opener(a))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(t.Context()); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.other, err, tc.want)
		}
		c.Stop()
	}
}

func TestDeletedRecordsStallAndSayWhichOffset(t *testing.T) {
	eachBroker(t, func(t *testing.T, cfg kafka.Config) {
		a := cfg.Prefix + ".a"
		cl := producer(t, cfg, kafka.Topic{Name: a, Partitions: 1})
		put(t, cl, a, 0, 0, 10)
		var offsets kadm.Offsets
		offsets.AddOffset(a, 0, 6, -1)
		if _, err := kadm.NewClient(cl).DeleteRecords(t.Context(), offsets); err != nil {
			t.Fatal(err)
		}
		stalled := make(chan error, 1)
		s := newStore(t)
		s.next[at(a, 0)] = 4
		start(t, stream.Config{Kafka: cfg, Group: cfg.Prefix + "-g", Topics: []string{a}, State: func(st stream.State) {
			if st.Phase == stream.Stalled {
				select {
				case stalled <- st.Err:
				default:
				}
			}
		}}, s.opener(a))
		if err := <-stalled; !strings.Contains(err.Error(), "from offset 4 were deleted, the first is 6") {
			t.Error(err)
		}
		for _, err := range stream.ReadTo(t.Context(), cfg, a, 0, 4) {
			if err == nil || !strings.Contains(err.Error(), "deleted") {
				t.Errorf("ReadTo below the first record: %v", err)
			}
		}
		n := 0
		for r, err := range stream.ReadTo(t.Context(), cfg, a, 0, stream.Earliest) {
			if err != nil || r.Offset != int64(6+n) {
				t.Fatal(r.Offset, err)
			}
			n++
		}
		if n != 4 {
			t.Errorf("%d records, want 4", n)
		}
	})
}

func TestReadToTailLast(t *testing.T) {
	eachBroker(t, func(t *testing.T, cfg kafka.Config) {
		a := cfg.Prefix + ".a"
		cl := producer(t, cfg, kafka.Topic{Name: a, Partitions: 2})
		if _, ok, err := stream.Last(t.Context(), cfg, a, 0, event.KindWrite); ok || err != nil {
			t.Fatal("empty partition:", ok, err)
		}
		put(t, cl, a, 0, 0, 1000)
		put(t, cl, a, 1, 0, 1)
		if err := cl.ProduceSync(t.Context(), kafka.Record(a, 0, event.KindSettledMark, "", []byte("m")), kafka.Record(a, 0, event.KindSettledMark, "", []byte("n"))).FirstErr(); err != nil {
			t.Fatal(err)
		}
		put(t, cl, a, 0, 1000, 2000)
		r, ok, err := stream.Last(t.Context(), cfg, a, 0, event.KindSettledMark)
		if !ok || err != nil || string(r.Value) != "n" || r.Offset != 1001 {
			t.Error(r.Offset, string(r.Value), ok, err)
		}
		if _, ok, err = stream.Last(t.Context(), cfg, a, 0, event.KindTally); ok || err != nil {
			t.Error("a kind that is not there:", ok, err)
		}
		tail, err := stream.Tail(t.Context(), cfg, a, 0, 3)
		if err != nil || len(tail) != 3 || string(tail[0].Value) != "1997" || string(tail[2].Value) != "1999" {
			t.Error(len(tail), err)
		}
		if tail, err = stream.Tail(t.Context(), cfg, a, 1, 3); err != nil || len(tail) != 1 {
			t.Error(len(tail), err)
		}
		n := int64(1500)
		for r, err := range stream.ReadTo(t.Context(), cfg, a, 0, 1500) {
			if err != nil || r.Offset != n {
				t.Fatal(r.Offset, err)
			}
			n++
		}
		if n != 2002 {
			t.Errorf("read to %d", n)
		}
		for _, err := range stream.ReadTo(t.Context(), cfg, a, 7, 0) {
			if err == nil {
				t.Error("a partition that is not there")
			}
		}
	})
}

func TestABrokerThatComesBack(t *testing.T) {
	server := lab.NewKafka(t)
	cfg := kafka.Config{Brokers: server.Brokers, Prefix: "t", Partitions: partitions, Replication: 1}.WithDefaults()
	a := cfg.Prefix + ".a"
	cl := producer(t, cfg, kafka.Topic{Name: a})
	s := newStore(t)
	start(t, stream.Config{Kafka: cfg, Group: "g", Topics: []string{a}, MaxBatch: 7}, s.opener(a))
	for p := range int32(partitions) {
		put(t, cl, a, p, 0, 100)
	}
	s.wantAll([]string{a}, 100)
	if err := server.Crash(); err != nil {
		t.Fatal(err)
	}
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for p := range int32(partitions) {
		put(t, cl, a, p, 100, 200)
	}
	s.wantAll([]string{a}, 200)
}

func TestConfigNamesFieldValueAndBound(t *testing.T) {
	_, err := stream.New(stream.Config{Tick: time.Hour, MaxBatch: -1, Session: time.Hour, RetryMax: -1}, nil)
	for _, want := range []string{"group: empty", "topics: none", "tick: 1h0m0s", "max_batch: -1", "session: 1h0m0s", "retry_max: -1ns"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: want %q", err, want)
		}
	}
}
