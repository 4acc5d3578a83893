package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"banyan/proxy/event"
	"banyan/proxy/journal"
	"banyan/proxy/kafka"
)

const partitions = 4

func TestMain(m *testing.M) {
	if os.Getenv(childBrokers) != "" {
		child() // never returns
	}
	goleak.VerifyTestMain(m)
}

// fake is an in-process Kafka with the topics.
func fake(t testing.TB, prefix string) kafka.Config {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	cfg := config(cluster.ListenAddrs(), prefix)
	topics(t, cfg)
	return cfg
}

func config(brokers []string, prefix string) kafka.Config {
	return kafka.Config{Brokers: brokers, Prefix: prefix, Partitions: partitions, Replication: 1}.WithDefaults()
}

func topics(t testing.TB, cfg kafka.Config) {
	t.Helper()
	cl, err := cfg.Client("test")
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cfg.EnsureTopics(t.Context(), cl, kafka.Topic{Name: cfg.Topics().Writes()}, kafka.Topic{Name: cfg.Topics().Account(), Partitions: 1, Compacted: true}); err != nil {
		t.Fatal(err)
	}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func openJournal(t testing.TB, dir string) *journal.Journal {
	t.Helper()
	j, err := journal.Open(journal.Config{Dir: dir, SegmentSize: 4 << 20, Quota: 256 << 20, MaxRecord: 1 << 20, MaxInFlight: 1024, Unsynced: 1 << 20, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

func startMirror(t testing.TB, j *journal.Journal, k kafka.Config, change ...func(*Config)) *Mirror {
	t.Helper()
	cfg := Config{Journal: j, Replica: "p1", Kafka: k, Log: quiet(), MarkEvery: 5 * time.Millisecond, AccountEvery: 10 * time.Millisecond, StalledAfter: 300 * time.Millisecond}
	for _, c := range change {
		c(&cfg)
	}
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Stop)
	return m
}

func intentOf(key string, body string) []byte {
	in := event.Intent{UUID: "u", Route: "move", Method: "POST", Target: "/x", Body: []byte(body), BodyLength: int64(len(body)), At: time.Now(),
		Addresses: []event.Address{{Migration: "units", Key: event.OrderingKey(key), Primary: true}}}
	return in.Append(nil)
}

func resultOf(o event.Outcome) []byte {
	r := event.Result{Outcome: o, Status: 302, End: time.Now()}
	return r.Append(nil)
}

func write(t testing.TB, j *journal.Journal, key, body string) journal.Seq {
	seq := intend(t, j, key, body)
	if _, err := j.AppendOutcome(seq, journal.Outcome{Payload: resultOf(event.Applied)}); err != nil {
		t.Error(err)
	}
	return seq
}

func intend(t testing.TB, j *journal.Journal, key, body string) journal.Seq {
	seq, err := j.AppendIntent(journal.Intent{Payload: intentOf(key, body), Key: []event.Address{{Migration: "units", Key: event.OrderingKey(key), Primary: true}}})
	if err != nil {
		t.Error(err)
	}
	return seq
}

// reader collects what stands in the topics.
type reader struct {
	t      testing.TB
	cl     *kgo.Client
	cancel context.CancelFunc
	done   chan struct{}

	mu       sync.Mutex
	cond     *sync.Cond
	writes   map[int32][]placed[event.Write]
	marks    map[int32][]placed[event.ReplicaMark]
	accounts []event.Account
	gaps     []event.Gap
	closed   bool
}

type placed[T any] struct {
	offset int64
	v      T
}

func read(t testing.TB, k kafka.Config) *reader {
	t.Helper()
	cl, err := k.Client("test", kgo.ConsumeTopics(k.Topics().Writes(), k.Topics().Account()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &reader{t: t, cl: cl, cancel: cancel, done: make(chan struct{}), writes: map[int32][]placed[event.Write]{}, marks: map[int32][]placed[event.ReplicaMark]{}}
	r.cond = sync.NewCond(&r.mu)
	go r.loop(ctx)
	t.Cleanup(func() { cancel(); <-r.done; cl.Close() })
	return r
}

func (r *reader) loop(ctx context.Context) {
	defer close(r.done)
	for ctx.Err() == nil {
		fs := r.cl.PollFetches(ctx)
		r.mu.Lock()
		fs.EachRecord(r.record)
		r.closed = ctx.Err() != nil
		r.cond.Broadcast()
		r.mu.Unlock()
	}
}

func (r *reader) record(rec *kgo.Record) {
	switch kafka.KindOf(rec) {
	case event.KindWrite:
		w, err := event.DecodeWrite(rec.Value)
		if err != nil || string(rec.Key) != string(w.Key) || w.Key != "" && event.Partition(w.Key, partitions) != rec.Partition {
			r.t.Errorf("record %s/%d: %v", rec.Key, rec.Partition, err)
			return
		}
		r.writes[rec.Partition] = append(r.writes[rec.Partition], placed[event.Write]{rec.Offset, *w})
	case event.KindReplicaMark:
		m, err := event.DecodeReplicaMark(rec.Value)
		if err != nil {
			r.t.Error(err)
			return
		}
		r.marks[rec.Partition] = append(r.marks[rec.Partition], placed[event.ReplicaMark]{rec.Offset, *m})
	case event.KindAccount:
		a, err := event.DecodeAccount(rec.Value)
		if err != nil {
			r.t.Error(err)
			return
		}
		r.accounts = append(r.accounts, *a)
	case event.KindGap:
		g, err := event.DecodeGap(rec.Value)
		if err != nil {
			r.t.Error(err)
			return
		}
		r.gaps = append(r.gaps, *g)
	}
}

// until waits for a state of the topics; ok runs with the lock held.
func (r *reader) until(what string, ok func() bool) {
	r.t.Helper()
	timeout := time.AfterFunc(60*time.Second, func() { r.mu.Lock(); r.closed = true; r.cond.Broadcast(); r.mu.Unlock() })
	defer timeout.Stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	for !ok() {
		if r.closed {
			r.t.Fatalf("waited in vain for %s", what)
		}
		r.cond.Wait()
	}
}

// ended says that every partition has the mark of the epoch's end.
func (r *reader) ended(e journal.Epoch) bool {
	for p := range int32(partitions) {
		if !slices.ContainsFunc(r.marks[p], func(m placed[event.ReplicaMark]) bool { return m.v.Ended && m.v.Epoch == event.Epoch(e) }) {
			return false
		}
	}
	return true
}

func (r *reader) ids() map[event.WriteID]int {
	n := map[event.WriteID]int{}
	for _, ws := range r.writes {
		for _, w := range ws {
			n[w.v.ID]++
		}
	}
	return n
}

// checkMarks wants that each mark holds: what it covers stands before it in its partition.
func (r *reader) checkMarks() {
	r.t.Helper()
	for p, ms := range r.marks {
		first := map[event.WriteID]int64{}
		for _, w := range r.writes[p] {
			if _, ok := first[w.v.ID]; !ok {
				first[w.v.ID] = w.offset
			}
		}
		for _, m := range ms {
			listed := map[event.WriteID]bool{}
			for _, f := range m.v.InFlight {
				e := f.Epoch
				if e == 0 {
					e = m.v.Epoch
				}
				listed[event.WriteID{Replica: m.v.Replica, Epoch: e, Seq: f.Seq}] = true
			}
			for id, at := range first {
				covered := id.Epoch < m.v.Epoch || id.Epoch == m.v.Epoch && id.Seq <= m.v.Seq
				if covered && !listed[id] && at > m.offset {
					r.t.Fatalf("partition %d: mark %d/%d at %d covers %s, which stands at %d", p, m.v.Epoch, m.v.Seq, m.offset, id, at)
				}
			}
		}
	}
}

// checkOrder wants that the first records of a key's writes stand in shipping order.
func (r *reader) checkOrder() {
	r.t.Helper()
	type slot struct {
		e event.Epoch
		k event.OrderingKey
	}
	last := map[slot]uint64{}
	for _, ws := range r.writes {
		seen := map[event.WriteID]bool{}
		for _, w := range ws {
			if seen[w.v.ID] {
				continue
			}
			seen[w.v.ID] = true
			s := slot{w.v.ID.Epoch, w.v.Key}
			if w.v.Ship <= last[s] {
				r.t.Fatalf("key %s: ship %d after %d", w.v.Key, w.v.Ship, last[s])
			}
			last[s] = w.v.Ship
		}
	}
}

func seal(t testing.TB, j *journal.Journal, m *Mirror) {
	t.Helper()
	if err := j.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := m.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestEverythingArrivesInOrderAndMarksHold(t *testing.T) {
	k := fake(t, "a")
	j := openJournal(t, t.TempDir())
	m := startMirror(t, j, k)
	r := read(t, k)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 100 {
				write(t, j, fmt.Sprintf("match/%d", (w+i)%11), "x")
			}
		})
	}
	g, err := j.OpenGap("units")
	if err != nil {
		t.Fatal(err)
	}
	g.Add(3)
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	seal(t, j, m)
	r.until("the end", func() bool {
		return r.ended(j.Epoch()) && len(r.accounts) > 0 && r.accounts[len(r.accounts)-1].Ended
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, n := range r.ids() {
		if n != 1 {
			t.Fatalf("%s %d times", id, n)
		}
	}
	r.checkOrder()
	r.checkMarks()
	for _, a := range r.accounts {
		if a.Accepted != a.Mirrored+a.Pending+a.Lost {
			t.Fatalf("account %+v", a)
		}
	}
	if a := r.accounts[len(r.accounts)-1]; len(r.ids()) != 800 || a.Accepted != 800 || a.Mirrored != 800 || a.Pending != 0 || a.Acked != a.Ship {
		t.Fatalf("%d writes, account %+v", len(r.ids()), a)
	}
	if last := r.gaps[len(r.gaps)-1]; !last.Closed || last.AtLeast || last.Count != 3 || last.Migration != "units" {
		t.Fatalf("gap %+v", last)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(j.Dir()); !os.IsNotExist(err) {
		t.Fatalf("the shipped generation is still there: %v", err)
	}
}

func TestInFlightIsListedWhereItBelongs(t *testing.T) {
	k := fake(t, "b")
	j := openJournal(t, t.TempDir())
	known, unknown := intend(t, j, "match/7", ""), intend(t, j, "", "")
	write(t, j, "match/8", "")
	m := startMirror(t, j, k)
	r := read(t, k)
	home := event.Partition("match/7", partitions)
	r.until("marks with both", func() bool {
		for p := range int32(partitions) {
			if len(r.marks[p]) == 0 {
				return false
			}
			mark := r.marks[p][0].v
			lists := func(s journal.Seq) bool {
				return slices.ContainsFunc(mark.InFlight, func(f event.InFlight) bool { return f.Seq == event.Seq(s) })
			}
			if !lists(unknown) || lists(known) != (p == home) || mark.Seq != 3 {
				t.Fatalf("partition %d: %+v", p, mark)
			}
		}
		return true
	})
	for _, s := range []journal.Seq{known, unknown} {
		if _, err := j.AppendOutcome(s, journal.Outcome{Payload: resultOf(event.Unknown)}); err != nil {
			t.Fatal(err)
		}
	}
	seal(t, j, m)
	r.until("the end", func() bool { return r.ended(j.Epoch()) })
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := r.ids()[event.WriteID{Replica: "p1", Epoch: event.Epoch(j.Epoch()), Seq: event.Seq(unknown)}]; n != partitions {
		t.Fatalf("a write without key stands in %d partitions", n)
	}
}

// TestSuccessor: a process ended with writes unshipped and in flight. The next one ships them first, as the same
// writes, and lists the unknown one as in flight in its marks.
func TestSuccessor(t *testing.T) {
	k := fake(t, "c")
	dir := t.TempDir()
	a := openJournal(t, dir)
	for i := range 20 {
		write(t, a, "match/1", fmt.Sprint(i))
	}
	cut := intend(t, a, "match/2", "cut")
	a.Close()
	b := openJournal(t, dir)
	own := write(t, b, "match/1", "own")
	m := startMirror(t, b, k, func(c *Config) { c.MaxExecution = time.Hour })
	r := read(t, k)
	seal(t, b, m)
	r.until("the end", func() bool { return r.ended(b.Epoch()) })
	r.mu.Lock()
	defer r.mu.Unlock()
	r.checkOrder()
	r.checkMarks()
	old := event.WriteID{Replica: "p1", Epoch: event.Epoch(a.Epoch()), Seq: event.Seq(cut)}
	if n := r.ids(); len(n) != 22 || n[old] != 1 || n[event.WriteID{Replica: "p1", Epoch: event.Epoch(b.Epoch()), Seq: event.Seq(own)}] != 1 {
		t.Fatalf("%v", n)
	}
	for _, w := range r.writes[event.Partition("match/2", partitions)] {
		if w.v.ID == old && (w.v.Result.Outcome != event.Unknown || string(w.v.Intent.Body) != "cut") {
			t.Fatalf("%+v", w.v)
		}
	}
	for _, mark := range r.marks[event.Partition("match/2", partitions)] {
		if mark.v.Epoch != event.Epoch(b.Epoch()) || !slices.ContainsFunc(mark.v.InFlight, func(f event.InFlight) bool { return f.Epoch == old.Epoch && f.Seq == old.Seq && !f.Until.IsZero() }) {
			t.Fatalf("mark %+v", mark.v)
		}
	}
	i := slices.IndexFunc(r.accounts, func(a event.Account) bool { return a.Epoch == old.Epoch })
	if i < 0 || !r.accounts[i].Ended || r.accounts[i].Accepted != 21 || r.accounts[i].Unknown != 1 {
		t.Fatalf("accounts %+v", r.accounts)
	}
	if _, err := os.Stat(a.Dir()); !os.IsNotExist(err) {
		t.Fatalf("the adopted generation is still there: %v", err)
	}
}

// TestNoMarksBesideAnElder: while the predecessor still drains, a mark of ours would cover its writes in flight.
func TestNoMarksBesideAnElder(t *testing.T) {
	k := fake(t, "d")
	dir := t.TempDir()
	a := openJournal(t, dir)
	late := intend(t, a, "match/1", "late")
	b := openJournal(t, dir)
	write(t, b, "match/1", "own")
	startMirror(t, b, k)
	r := read(t, k)
	r.until("the write", func() bool { return len(r.ids()) == 1 })
	if _, err := a.AppendOutcome(late, journal.Outcome{Payload: resultOf(event.Applied)}); err != nil {
		t.Fatal(err)
	}
	a.Close() // not shipped: its successor does it
	r.until("marks", func() bool { return len(r.marks[0]) > 0 })
	r.mu.Lock()
	defer r.mu.Unlock()
	r.checkMarks()
	if len(r.ids()) != 2 {
		t.Fatalf("%v", r.ids())
	}
}

// TestMissingTopic: the message says what to do; once it is done, everything arrives.
func TestMissingTopic(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	k := config(cluster.ListenAddrs(), "e")
	j := openJournal(t, t.TempDir())
	stalled, resumed := make(chan error, 8), make(chan struct{}, 8)
	m := startMirror(t, j, k, func(c *Config) {
		c.StalledAfter = time.Hour // only a refusal counts here
		c.Hooks = Hooks{Stalled: func(err error) { stalled <- err }, Resumed: func() { resumed <- struct{}{} }}
	})
	for i := range 50 {
		write(t, j, fmt.Sprintf("match/%d", i%3), "x")
	}
	if err := <-stalled; !strings.Contains(err.Error(), "kafka-topics.sh") || !strings.Contains(err.Error(), "e.writes --partitions 4") || m.Stalled() == nil {
		t.Fatalf("stalled: %v", err)
	}
	topics(t, k)
	r := read(t, k)
	r.until("all writes", func() bool { return len(r.ids()) == 50 })
	<-resumed
	seal(t, j, m)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.checkOrder()
	if len(stalled) > 0 || len(resumed) > 0 {
		t.Fatalf("said more than once: %d, %d", len(stalled), len(resumed))
	}
}

func TestStopLeavesTheRestInTheJournal(t *testing.T) {
	k := config([]string{"127.0.0.1:1"}, "f") // nobody listens
	dir := t.TempDir()
	j := openJournal(t, dir)
	stalled := make(chan error, 1)
	m := startMirror(t, j, k, func(c *Config) { c.Hooks.Stalled = func(err error) { stalled <- err } })
	write(t, j, "match/1", "x")
	if err := <-stalled; err == nil {
		t.Fatal("no cause")
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("drain time is over"))
	if err := m.Drain(ctx); err == nil || !strings.Contains(err.Error(), "1 records are not shipped") {
		t.Fatalf("drain: %v", err)
	}
	m.Stop()
	m.Stop()
	j.Close()
	b := openJournal(t, dir)
	good := fake(t, "f")
	m2 := startMirror(t, b, good)
	r := read(t, good)
	seal(t, b, m2)
	r.until("the write", func() bool { return len(r.ids()) == 1 })
}

// TestRepeatsAreTheSameWrites: what was acknowledged is forgotten, as by a power cut, so everything is shipped again.
func TestRepeatsAreTheSameWrites(t *testing.T) {
	k := fake(t, "g")
	dir := t.TempDir()
	a := openJournal(t, dir)
	m := startMirror(t, a, k)
	r := read(t, k)
	for i := range 20 {
		write(t, a, fmt.Sprintf("match/%d", i%3), fmt.Sprint(i))
	}
	r.until("the writes", func() bool { return len(r.ids()) == 20 })
	m.Stop()
	a.Close()
	if err := os.Truncate(a.Dir()+"/acked", 0); err != nil {
		t.Fatal(err)
	}
	b := openJournal(t, dir)
	m2 := startMirror(t, b, k)
	seal(t, b, m2)
	r.until("the end", func() bool { return r.ended(b.Epoch()) })
	r.mu.Lock()
	defer r.mu.Unlock()
	same := map[event.WriteID]string{}
	for _, ws := range r.writes {
		for _, w := range ws {
			text := string(event.Encode(&w.v))
			if was, ok := same[w.v.ID]; ok && was != text {
				t.Fatalf("came as\n%s\nand as\n%s", was, text)
			}
			same[w.v.ID] = text
		}
	}
	for id, n := range r.ids() {
		if n != 2 {
			t.Fatalf("%s %d times", id, n)
		}
	}
	if len(same) != 20 {
		t.Fatalf("%d writes", len(same))
	}
	r.checkOrder()
}
