package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ErrNotOwned is returned by [Consumer.Commit] for a partition that this member has not got (any more).
var ErrNotOwned = errors.New("partition is not assigned to this member")

// Consumer is one member of a group.
type Consumer struct {
	cfg  Config
	open Opener

	group *kgo.Client // membership and commits; never polled
	fetch *kgo.Client // records
	admin *kadm.Client

	mu      sync.Mutex // guards started, stopped, parts
	started bool
	stopped bool
	parts   map[int32]*part

	cancel context.CancelCauseFunc // ends the poller
	polls  sync.WaitGroup
	stop   sync.Once

	orders poller
}

// poller carries what the polling goroutine does between two polls.
type poller struct {
	mu        sync.Mutex // guards the rest
	todo      []order
	interrupt context.CancelFunc // of the poll that runs
	closed    bool
}

type order struct {
	do   func()
	done chan struct{}
}

// New checks the config. It does not connect.
func New(cfg Config, open Opener) (*Consumer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("stream %s: %w", cfg.Group, err)
	}
	return &Consumer{cfg: cfg.withDefaults(), open: open, parts: map[int32]*part{}}, nil
}

// Start verifies the topics and joins the group; assignments come in the background. The consumer runs until Stop or
// until ctx ends (then Stop must still be called). A second call does nothing.
func (c *Consumer) Start(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.started {
		return nil
	}
	if c.stopped {
		return fmt.Errorf("stream %s: stopped", c.cfg.Group)
	}
	fetch, err := c.cfg.Kafka.Client("banyan-"+c.cfg.Group, append([]kgo.Opt{
		kgo.FetchMaxBytes(8 << 20), kgo.FetchMaxPartitionBytes(1 << 20),
		// A partition that starts, or goes on, waits for the fetch that is under way without it: 5s by default.
		kgo.FetchMaxWait(200 * time.Millisecond), quickStart(),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), // deleted records are an error, not a jump
	}, c.cfg.Options...)...)
	if err != nil {
		return err
	}
	c.fetch, c.admin = fetch, kadm.NewClient(fetch)
	if err := c.verifyTopics(ctx); err != nil {
		fetch.Close()
		return err
	}
	run, cancel := context.WithCancelCause(ctx)
	c.cancel = cancel
	c.group, err = c.cfg.Kafka.Client("banyan-"+c.cfg.Group+"-member", append([]kgo.Opt{
		kgo.ConsumerGroup(c.cfg.Group), kgo.ConsumeTopics(c.cfg.Topics...), kgo.Balancers(kgo.RangeBalancer()),
		kgo.DisableAutoCommit(), kgo.SessionTimeout(c.cfg.Session), kgo.HeartbeatInterval(c.cfg.Session / 5),
		kgo.FetchMaxBytes(1), kgo.FetchMaxPartitionBytes(1), // for the moment before the pause below
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, got map[string][]int32) { c.assigned(run, got) }),
		kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, lost map[string][]int32) { c.revoked(lost) }),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, lost map[string][]int32) { c.revoked(lost) }),
	}, c.cfg.Options...)...)
	if err != nil {
		cancel(err)
		fetch.Close()
		return err
	}
	c.group.PauseFetchTopics(c.cfg.Topics...)
	c.started = true
	c.polls.Go(func() { c.poll(run) })
	return nil
}

// topicWait is how long a missing topic is waited for: the one that was made a moment ago is not seen at once.
const topicWait = 3 * time.Second

// verifyTopics refuses topics that are missing or not co-partitioned: keys would meet the wrong marks.
func (c *Consumer) verifyTopics(ctx context.Context) error {
	wait, cancel := context.WithTimeout(ctx, topicWait)
	defer cancel()
	for {
		err := c.lookAtTopics(ctx)
		if !errors.Is(err, kerr.UnknownTopicOrPartition) || wait.Err() != nil {
			return err
		}
		pause(wait, 100*time.Millisecond)
	}
}

func (c *Consumer) lookAtTopics(ctx context.Context) error {
	have, err := c.admin.ListTopics(ctx, c.cfg.Topics...)
	if err != nil {
		return fmt.Errorf("stream %s: list topics: %w; check kafka.brokers and that the broker is up", c.cfg.Group, err)
	}
	want := -1
	for _, t := range c.cfg.Topics {
		d, ok := have[t]
		switch {
		case !ok || errors.Is(d.Err, kerr.UnknownTopicOrPartition):
			return fmt.Errorf("stream %s: topic %s does not exist; a banyan role makes topics at its start (%w)", c.cfg.Group, t, kerr.UnknownTopicOrPartition)
		case d.Err != nil:
			return fmt.Errorf("stream %s: topic %s: %w", c.cfg.Group, t, d.Err)
		case want < 0:
			want = len(d.Partitions)
		case want != len(d.Partitions):
			return fmt.Errorf("stream %s: topic %s has %d partitions, %s has %d: they must be equal", c.cfg.Group, t, len(d.Partitions), c.cfg.Topics[0], want)
		}
	}
	return nil
}

// Stop closes the workers, leaves the group and returns when all has ended. A second call waits for the first.
func (c *Consumer) Stop() {
	c.stop.Do(func() {
		c.mu.Lock()
		c.stopped = true
		started, parts := c.started, c.lostLocked(nil)
		c.mu.Unlock()
		if !started {
			return
		}
		c.closeAll(parts)
		c.cancel(errors.New("consumer stops"))
		c.polls.Wait()
		c.group.Close()
		c.fetch.Close()
	})
}

// assigned starts the goroutines of new partitions. It does not wait for their workers: one that cannot be opened
// must not hold up the others.
func (c *Consumer) assigned(ctx context.Context, got map[string][]int32) {
	count := map[int32]int{}
	for _, t := range c.cfg.Topics {
		for _, n := range got[t] {
			count[n]++
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return
	}
	for n, k := range count {
		if c.parts[n] != nil {
			continue
		}
		if k != len(c.cfg.Topics) {
			err := fmt.Errorf("partition %d came for %d of %d topics: members of group %s read different topics; give them the same version and config", n, k, len(c.cfg.Topics), c.cfg.Group)
			c.cfg.Log.Error("partition not worked", "group", c.cfg.Group, "partition", n, "err", err)
			c.cfg.State(State{Partition: n, Phase: Stalled, Err: err})
			continue
		}
		p := newPart(c, n)
		c.parts[n] = p
		pctx, cancel := context.WithCancel(ctx)
		p.cancel = cancel
		go p.run(pctx)
	}
}

func (c *Consumer) revoked(lost map[string][]int32) {
	c.mu.Lock()
	parts := c.lostLocked(lost)
	c.mu.Unlock()
	c.closeAll(parts)
}

// lostLocked are the partitions of which any topic is lost; nil means all.
func (c *Consumer) lostLocked(lost map[string][]int32) []*part {
	var out []*part
	for n, p := range c.parts {
		gone := lost == nil
		for _, ns := range lost {
			gone = gone || slices.Contains(ns, n)
		}
		if gone {
			out = append(out, p)
		}
	}
	return out
}

// closeAll forgets partitions only when they are closed: a worker may commit while it closes.
func (c *Consumer) closeAll(parts []*part) {
	for _, p := range parts {
		p.cancel()
	}
	for _, p := range parts {
		<-p.done
		c.mu.Lock()
		if c.parts[p.n] == p {
			delete(c.parts, p.n)
		}
		c.mu.Unlock()
	}
}

// Commit commits the next offsets of one partition for the group.
func (c *Consumer) Commit(ctx context.Context, partition int32, next map[string]int64) error {
	c.mu.Lock()
	owned := c.parts[partition] != nil
	c.mu.Unlock()
	if !owned {
		return fmt.Errorf("commit %s/%d: %w", c.cfg.Group, partition, ErrNotOwned)
	}
	offsets := map[string]map[int32]kgo.EpochOffset{}
	for t, o := range next {
		offsets[t] = map[int32]kgo.EpochOffset{partition: {Epoch: -1, Offset: o}}
	}
	var failed error
	c.group.CommitOffsetsSync(ctx, offsets, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
		failed = err
		if err != nil {
			return
		}
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				failed = errors.Join(failed, kerr.ErrorForCode(p.ErrorCode))
			}
		}
	})
	if failed != nil {
		return fmt.Errorf("commit %s/%d: %w", c.cfg.Group, partition, failed)
	}
	return nil
}

// poll is the only goroutine that polls, and that adds and removes partitions. It ends with ctx, after the partitions.
func (c *Consumer) poll(ctx context.Context) {
	defer c.orders.close()
	for ctx.Err() == nil {
		pctx, cancel := context.WithCancel(ctx)
		if c.orders.run(cancel) {
			c.dispatch(c.fetch.PollRecords(pctx, 10000))
		}
		cancel()
	}
}

func (c *Consumer) dispatch(fs kgo.Fetches) {
	fs.EachPartition(func(ftp kgo.FetchTopicPartition) {
		c.mu.Lock()
		p := c.parts[ftp.Partition]
		c.mu.Unlock()
		if p == nil || ftp.Topic == "" {
			return // removed a moment ago, or the poll's own context error
		}
		p.put(ftp.Topic, ftp.Records, ftp.Err)
	})
}

// run does what was ordered. It says whether to poll: with nothing left, interrupt ends that poll at the next order.
func (o *poller) run(interrupt context.CancelFunc) bool {
	o.mu.Lock()
	todo := o.todo
	o.todo, o.interrupt = nil, nil
	if len(todo) == 0 {
		o.interrupt = interrupt
	}
	o.mu.Unlock()
	for _, x := range todo {
		x.do()
		close(x.done)
	}
	return len(todo) == 0
}

// order has the polling goroutine do something between two polls, and waits for it.
func (o *poller) order(do func()) {
	x := order{do, make(chan struct{})}
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return // nothing is polled any more
	}
	o.todo = append(o.todo, x)
	if o.interrupt != nil {
		o.interrupt()
	}
	o.mu.Unlock()
	<-x.done
}

func (o *poller) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	for _, x := range o.todo {
		close(x.done)
	}
	o.todo = nil
}

// committed are the group's offsets of one partition, by topic; absent: none.
func (c *Consumer) committed(ctx context.Context, partition int32) (map[string]int64, error) {
	resp, err := c.admin.FetchOffsetsForTopics(ctx, c.cfg.Group, c.cfg.Topics...)
	if err != nil {
		return nil, fmt.Errorf("committed offsets of group %s: %w", c.cfg.Group, err)
	}
	out := map[string]int64{}
	for _, t := range c.cfg.Topics {
		o, ok := resp.Lookup(t, partition)
		if ok && o.Err != nil {
			return nil, fmt.Errorf("committed offset of group %s, %s/%d: %w", c.cfg.Group, t, partition, o.Err)
		}
		if ok && o.At >= 0 {
			out[t] = o.At
		}
	}
	return out, nil
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
