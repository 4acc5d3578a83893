package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// closeTime is what a worker gets to close in; well below the group's time for a rebalance.
const closeTime = 10 * time.Second

// part is one partition number: a goroutine, its worker, and a bounded queue that the poller fills.
type part struct {
	c      *Consumer
	n      int32
	cancel context.CancelFunc
	done   chan struct{} // closed when the goroutine has ended and the worker is closed

	mu     sync.Mutex // guards the rest
	queue  []Record
	next   map[string]int64 // lowest offset that the worker may get, per topic
	err    error            // of fetching
	paused bool
	signal chan struct{} // holds one token when there is something
}

func newPart(c *Consumer, n int32) *part {
	return &part{c: c, n: n, done: make(chan struct{}), signal: make(chan struct{}, 1)}
}

// run opens, serves and closes workers until ctx ends.
func (p *part) run(ctx context.Context) {
	defer close(p.done)
	cfg := &p.c.cfg
	defer cfg.State(State{Partition: p.n, Phase: Closed})
	failures := 0
	for ctx.Err() == nil {
		cfg.State(State{Partition: p.n, Phase: Opening, Failures: failures})
		progressed, err := p.once(ctx, failures)
		if ctx.Err() != nil {
			return
		}
		if progressed {
			failures = 0
		}
		failures++
		cfg.Log.Error("partition stalled", "group", cfg.Group, "partition", p.n, "failures", failures, "err", err)
		cfg.State(State{Partition: p.n, Phase: Stalled, Err: err, Failures: failures})
		pause(ctx, min(50*time.Millisecond<<min(failures-1, 20), cfg.RetryMax))
	}
}

// once is the life of one worker. It says whether a batch with records was handled.
func (p *part) once(ctx context.Context, failures int) (progressed bool, err error) {
	w, start, err := p.c.open(ctx, p.n)
	if err != nil {
		return false, fmt.Errorf("open partition %d: %w", p.n, err)
	}
	defer func() {
		cctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
		defer cancel()
		w.Close(cctx)
	}()
	from, err := p.resolve(ctx, start)
	if err != nil {
		return false, err
	}
	p.begin(from)
	defer p.end()
	p.c.cfg.State(State{Partition: p.n, Phase: Running, Failures: failures})
	return p.serve(ctx, w)
}

// resolve turns what the worker said into one offset per topic.
func (p *part) resolve(ctx context.Context, start map[string]int64) (map[string]int64, error) {
	topics := p.c.cfg.Topics
	listed, err := p.c.admin.ListStartOffsets(ctx, topics...)
	if err != nil {
		return nil, fmt.Errorf("first offsets of partition %d: %w", p.n, err)
	}
	from := make(map[string]int64, len(topics))
	var committed map[string]int64
	for _, t := range topics {
		first, ok := listed.Lookup(t, p.n)
		if first.Err != nil || !ok {
			return nil, fmt.Errorf("first offset of %s/%d: %w", t, p.n, cmp.Or(first.Err, error(kerr.UnknownTopicOrPartition)))
		}
		o, said := start[t]
		if !said {
			if committed == nil {
				if committed, err = p.c.committed(ctx, p.n); err != nil {
					return nil, err
				}
			}
			if o, said = committed[t]; !said {
				o = first.Offset
				if b := p.c.cfg.Begin[t]; int(p.n) < len(b) {
					o = b[p.n]
				}
			}
		}
		if o == Earliest {
			o = first.Offset
		}
		if o < first.Offset {
			return nil, deleted(t, p.n, o, first.Offset)
		}
		from[t] = o
	}
	return from, nil
}

func deleted(topic string, partition int32, want, have int64) error {
	return fmt.Errorf("%s/%d: records from offset %d were deleted, the first is %d: what stood there is lost to this group; check kafka.retention, and repair with a backfill", topic, partition, want, have)
}

func (p *part) begin(from map[string]int64) {
	add := map[string]map[int32]kgo.Offset{}
	for t, o := range from {
		add[t] = map[int32]kgo.Offset{p.n: kgo.NewOffset().At(o)}
	}
	p.mu.Lock()
	p.queue, p.err, p.paused, p.next = nil, nil, false, from
	p.mu.Unlock()
	p.c.orders.order(func() { p.c.fetch.AddConsumePartitions(add) })
}

func (p *part) end() {
	p.c.orders.order(func() { p.c.fetch.RemoveConsumePartitions(p.all()) })
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.paused {
		p.c.fetch.ResumeFetchPartitions(p.all())
	}
	p.queue, p.paused = nil, false
}

func (p *part) all() map[string][]int32 {
	m := map[string][]int32{}
	for _, t := range p.c.cfg.Topics {
		m[t] = []int32{p.n}
	}
	return m
}

// put is called by the poller and never blocks: a full queue stops the fetching instead.
func (p *part) put(topic string, rs []*kgo.Record, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil && p.err == nil && !errors.Is(err, context.Canceled) {
		p.err = fmt.Errorf("fetch %s/%d: %w", topic, p.n, err)
		if errors.Is(err, kerr.OffsetOutOfRange) {
			p.err = fmt.Errorf("%w: records from offset %d were deleted, or the topic was made anew; check kafka.retention", p.err, p.next[topic])
		}
	}
	for _, r := range rs {
		if r.Offset < p.next[topic] {
			continue
		}
		p.next[topic] = r.Offset + 1
		p.queue = append(p.queue, record(r))
	}
	if !p.paused && len(p.queue) >= 2*p.c.cfg.MaxBatch {
		p.paused = true
		p.c.fetch.PauseFetchPartitions(p.all())
	}
	select {
	case p.signal <- struct{}{}:
	default:
	}
}

// take is the next batch; empty: there is none.
func (p *part) take() ([]Record, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := min(len(p.queue), p.c.cfg.MaxBatch)
	batch := p.queue[:n:n]
	p.queue = p.queue[n:]
	if len(p.queue) == 0 {
		p.queue = nil
	}
	if p.paused && len(p.queue) < p.c.cfg.MaxBatch {
		p.paused = false
		p.c.fetch.ResumeFetchPartitions(p.all())
	}
	if n == 0 {
		return nil, p.err
	}
	return batch, nil
}

func (p *part) serve(ctx context.Context, w Worker) (progressed bool, err error) {
	tick := time.NewTimer(p.c.cfg.Tick)
	defer tick.Stop()
	for {
		batch, err := p.take()
		if err != nil {
			return progressed, err
		}
		if len(batch) == 0 {
			select {
			case <-ctx.Done():
				return progressed, ctx.Err()
			case <-p.signal:
				continue
			case <-tick.C:
			}
		}
		if ctx.Err() != nil {
			return progressed, ctx.Err()
		}
		if err := w.Handle(ctx, batch); err != nil {
			if len(batch) > 0 {
				b := batch[0]
				return progressed, fmt.Errorf("partition %d, batch of %d from %s offset %d: %w", p.n, len(batch), b.Topic, b.Offset, err)
			}
			return progressed, fmt.Errorf("partition %d, tick: %w", p.n, err)
		}
		progressed = progressed || len(batch) > 0
		tick.Reset(p.c.cfg.Tick)
	}
}
