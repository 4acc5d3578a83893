package mirror

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"banyan/proxy/event"
	"banyan/proxy/journal"
)

// What is given is not given twice before a reset, and what many needed once is not kept for few.
func TestPool(t *testing.T) {
	p := pool[byte]{block: 64}
	fill := func(sizes ...int) {
		t.Helper()
		given := make([][]byte, len(sizes))
		for i, n := range sizes {
			given[i] = p.take(n)
			for j := range given[i] {
				given[i][j] = byte(i)
			}
		}
		for i, b := range given {
			if len(b) != sizes[i] || strings.Trim(string(b), string(rune(i))) != "" {
				t.Errorf("the %dth has %v, want %d times %d", i, b, sizes[i], i)
			}
		}
	}
	many := make([]int, 100)
	for i := range many {
		many[i] = i % 40 // more than a quarter of a block, too
	}
	for range 3 {
		fill(many...)
		fill(0, 16, 16, 16, 15, 2)
		before := len(p.blocks)
		p.reset()
		if len(p.blocks) != before {
			t.Errorf("of %d blocks, all used, %d are kept", before, len(p.blocks))
		}
	}
	for n := len(p.blocks); n > 0; n /= 2 {
		p.reset()
		if len(p.blocks) > n/2 {
			t.Errorf("of %d blocks that nobody needs %d are kept", n, len(p.blocks))
		}
	}
}

// A batch may be sent again and again; what it consists of stays as it is meanwhile.
func TestRecordsAreWhatWasWritten(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	k := config(cluster.ListenAddrs(), "mem")
	topics(t, k)
	var requests atomic.Int64
	cluster.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		switch requests.Add(1) % 5 {
		case 1: // not taken, to be sent again
			res := req.ResponseKind().(*kmsg.ProduceResponse)
			for _, t := range req.(*kmsg.ProduceRequest).Topics {
				rt := kmsg.NewProduceResponseTopic()
				rt.Topic, rt.TopicID = t.Topic, t.TopicID
				for _, p := range t.Partitions {
					rp := kmsg.NewProduceResponseTopicPartition()
					rp.Partition, rp.ErrorCode = p.Partition, kerr.NotLeaderForPartition.Code
					rt.Partitions = append(rt.Partitions, rp)
				}
				res.Topics = append(res.Topics, rt)
			}
			return res, nil, true
		case 3: // the connection ends
			return nil, fmt.Errorf("cut"), true
		}
		return nil, nil, false
	})
	j := openJournal(t, t.TempDir())
	room := make(chan struct{}, 40) // of writes that are not shipped: many batches
	m := startMirror(t, j, k, func(c *Config) {
		c.Pace = 20 * time.Millisecond // a batch is collected in two goes
		c.Hooks.Shipped = func(n int, _ time.Duration) {
			for range n {
				<-room
			}
		}
	})
	r := read(t, k)
	const writers, each = 8, 60
	body := func(w, i int) string {
		return strings.Repeat(fmt.Sprintf("%d.%d&", w, i), 1+(w*each+i)*37%4000)
	}
	var mu sync.Mutex
	want := map[event.Seq]string{}
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				room <- struct{}{}
				seq := write(t, j, fmt.Sprintf("match/%d", i%9), body(w, i))
				mu.Lock()
				want[event.Seq(seq)] = body(w, i)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	seal(t, j, m)
	r.until("the end", func() bool { return r.ended(j.Epoch()) })
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, ws := range r.writes {
		for _, w := range ws {
			if got := string(w.v.Intent.Body); got != want[w.v.ID.Seq] {
				t.Fatalf("write %d came as %.40s of %d bytes, want %.40s of %d", w.v.ID.Seq, got, len(got), want[w.v.ID.Seq], len(want[w.v.ID.Seq]))
			}
		}
	}
	if n := len(r.ids()); n != writers*each {
		t.Errorf("%d writes arrived, want %d", n, writers*each)
	}
	r.checkOrder()
	r.checkMarks()
}

// BenchmarkEncode measures what becomes of an item of 2 KiB on its way to the producer.
func BenchmarkEncode(b *testing.B) {
	e := newEncoder("p1", event.Topics{P: "x"}, partitions)
	it := &journal.Item{Kind: journal.ItemWrite, Epoch: 2, Seq: 3, Ship: 4, Intent: intentOf("match/1", strings.Repeat("unit=42&to=9&", 158)), Outcome: resultOf(event.Applied)}
	var m Mirror
	m.enc = e
	var batch batch
	b.ReportAllocs()
	for i := range b.N {
		if i%100 == 0 {
			m.fresh(&batch)
		}
		batch.records, _ = e.write(it, batch.records)
	}
}
