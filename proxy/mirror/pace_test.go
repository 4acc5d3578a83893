package mirror

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"banyan/proxy/event"
	"banyan/proxy/journal"
)

// TestBatchesKeepDistance: the next batch waits by how full the last one was, counted from when that was sent.
func TestBatchesKeepDistance(t *testing.T) {
	for _, c := range []struct {
		pace    time.Duration
		carried int
		ago     time.Duration
		want    time.Duration
	}{
		{32 * time.Second, 0, 0, 0}, // the first
		{32 * time.Second, 1, 0, time.Second},
		{32 * time.Second, 8, 3 * time.Second, 5 * time.Second},
		{32 * time.Second, 32, 0, 32 * time.Second},
		{32 * time.Second, 2000, 0, 32 * time.Second},
		{32 * time.Second, 2000, time.Minute, 0},
		{-1, 2000, 0, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			m := Mirror{cfg: Config{Pace: c.pace}, carried: c.carried, began: time.Now().Add(-c.ago)}
			start := time.Now()
			if err := m.rest(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := time.Since(start); got != c.want {
				t.Errorf("pace %s, %d records %s ago: waits %s, want %s", c.pace, c.carried, c.ago, got, c.want)
			}
		})
	}
}

// TestStopEndsTheRest: who stops a mirror does not wait for its pace.
func TestStopEndsTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		m := Mirror{cfg: Config{Pace: time.Hour}, carried: companions, began: time.Now()}
		time.AfterFunc(time.Second, cancel)
		start := time.Now()
		if err := m.rest(ctx); !errors.Is(err, context.Canceled) || time.Since(start) != time.Second {
			t.Errorf("rest ends with %v after %s, want a cancelled context after 1s", err, time.Since(start))
		}
	})
}

// TestWritesShareABatch: what comes while a batch keeps its distance is shipped together, also when marks go meanwhile.
func TestWritesShareABatch(t *testing.T) {
	j, k := openJournal(t, t.TempDir()), fake(t, "pace")
	shipped := make(chan int, 64)
	startMirror(t, j, k, func(c *Config) {
		c.Pace, c.MarkEvery = 96*time.Second, time.Millisecond // 3 s after a batch of one
		c.Hooks.Shipped = func(n int, _ time.Duration) { shipped <- n }
	})
	write(t, j, "match/1", "first")
	if n := <-shipped; n != 1 {
		t.Fatalf("the first batch has %d writes", n)
	}
	r, home := read(t, k), event.Partition("match/1", partitions)
	r.until("marks behind it", func() bool {
		ms := r.marks[home]
		return len(ms) > 3 && ms[len(ms)-3].v.Seq == 1
	})
	for range 10 {
		write(t, j, "match/1", "x")
	}
	if n := <-shipped; n != 10 {
		t.Errorf("ten writes right after it are shipped in pieces, the first of %d", n)
	}
}

// TestMarksTravelWithTheNextBatch: what a full batch is marked with does not go alone while more is to be shipped, and
// goes alone when nothing is. A busy machine may cut the batches otherwise: the best of several tries counts.
func TestMarksTravelWithTheNextBatch(t *testing.T) {
	want := []int{1, 1, 40, 41, 1} // a write, its mark, a batch, one with the mark of that, and its own
	var got []int
	for n := 0; n < 10 && !slices.Equal(got, want); n++ {
		got = batchesAndMarks(t)
	}
	if !slices.Equal(got, want) {
		t.Errorf("requests of %v records, want %v", got, want)
	}
}

// batchesAndMarks are the sizes of the requests that ship a write and then twice forty.
func batchesAndMarks(t *testing.T) (got []int) {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	k := config(cluster.ListenAddrs(), "ride")
	topics(t, k)
	j := openJournal(t, t.TempDir())
	add := func(n int) { // n writes of one key, all on the disk when it returns
		for range n - 1 {
			write(t, j, "match/1", "x")
		}
		if _, err := j.AppendOutcome(intend(t, j, "match/1", "x"), journal.Outcome{Payload: resultOf(event.Applied), Sync: true}); err != nil {
			t.Error(err)
		}
	}
	home, requests := event.Partition("match/1", partitions), make(chan int, 64)
	seen, full := 0, 0
	cluster.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		for _, topic := range req.(*kmsg.ProduceRequest).Topics {
			for _, p := range topic.Partitions {
				var b kmsg.RecordBatch
				if err := b.ReadFrom(p.Records); err != nil {
					t.Error(err)
				}
				if p.Partition != home {
					continue
				}
				seen++
				if b.NumRecords >= companions {
					full++
				}
				if seen == 2 || full == 1 && b.NumRecords >= companions { // before the batch counts as shipped
					add(40)
				}
				requests <- int(b.NumRecords)
			}
		}
		return nil, nil, false
	})
	startMirror(t, j, k, func(c *Config) { c.Pace, c.MarkEvery, c.AccountEvery = time.Second, time.Hour, time.Hour })
	r := read(t, k)
	<-requests // the first mark
	add(1)
	for len(got) < 5 {
		select {
		case n := <-requests:
			got = append(got, n)
		case <-time.After(5 * time.Second): // nothing more comes
			return got
		}
	}
	r.until("a mark of all", func() bool {
		ms := r.marks[home]
		return len(ms) > 0 && ms[len(ms)-1].v.Seq >= 41 && len(ms[len(ms)-1].v.InFlight) == 0
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.checkMarks()
	return got
}
