package project

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"banyan/proxy/event"
	"banyan/proxy/kafka"
	"banyan/shadow/parked"
	"banyan/shadow/readmodel"
	"banyan/shadow/stream"

	"github.com/twmb/franz-go/pkg/kgo"
)

// tick is how often an idle partition looks for holds.
const tick = 20 * time.Millisecond

// Projector is a member of the consumer group that projects one generation. Any number may run.
type Projector struct {
	cfg   Config
	m     *model
	topic string
	pg    *readmodel.Postgres
	redis *readmodel.Redis
	now   func() time.Time
	out   publisher
	read  func(ctx context.Context, partition int32, from int64) iter.Seq2[stream.Record, error]
	// standing reads back what .parked says of a partition, and where to read on.
	standing func(ctx context.Context, partition int32) (*parked.Keys, int64, error)
	stats    Stats

	mu       sync.Mutex // guards the rest
	workers  map[int32]*worker
	progress map[int32]event.Progress
	stop     func()
	stopped  bool
}

// publisher is where progress and parked keys are told.
type publisher interface {
	// Progress may return before it is published; the order of calls holds.
	Progress(context.Context, *event.Progress) error
	Parked(context.Context, *event.Parked) error
}

// Stats counts since the start.
type Stats struct {
	Events     atomic.Int64 // applied, folded ones included
	Repeats    atomic.Int64 // known ids, left out
	Waiting    atomic.Int64 // events of parked keys, left in the topic
	CaughtUp   atomic.Int64 // of them, done after a release
	Parked     atomic.Int64 // keys
	Batches    atomic.Int64 // transactions
	Statements atomic.Int64
	Documents  atomic.Int64 // written
	Older      atomic.Int64 // of them refused by Redis as older than what is there
	Retries    atomic.Int64
	BadMarks   atomic.Int64
}

func (s *Stats) count(pl *plan, statements int) {
	s.Events.Add(int64(len(pl.events)))
	s.Repeats.Add(int64(pl.repeats))
	for _, x := range pl.waiting {
		s.Waiting.Add(x.Count)
	}
	s.Parked.Add(int64(len(pl.parked)))
	s.Batches.Add(1)
	s.Statements.Add(int64(statements))
}

// New compiles the config. redis is nil for a read model without documents.
func New(cfg Config, pg *readmodel.Postgres, redis *readmodel.Redis) (*Projector, error) {
	cfg = cfg.withDefaults()
	m, err := compile(cfg)
	if err != nil {
		return nil, fmt.Errorf("projection of %s: %w", cfg.Migration, err)
	}
	if len(m.documents) > 0 && redis == nil {
		return nil, fmt.Errorf("projection of %s: documents: want read_model.redis too", cfg.Migration)
	}
	p := &Projector{cfg: cfg, m: m, topic: cfg.Kafka.Topics().Events(cfg.Migration, cfg.Generation), pg: pg, redis: redis, now: time.Now,
		workers: map[int32]*worker{}, progress: map[int32]event.Progress{}}
	p.read = func(ctx context.Context, partition int32, from int64) iter.Seq2[stream.Record, error] {
		return stream.ReadTo(ctx, cfg.Kafka, p.topic, partition, from)
	}
	p.standing = func(ctx context.Context, partition int32) (*parked.Keys, int64, error) {
		return parked.Read(ctx, cfg.Kafka, p.owner(), partition)
	}
	return p, nil
}

// Group is the name of the consumer group.
func (p *Projector) Group() string {
	return p.cfg.Kafka.Prefix + ".project." + string(p.cfg.Migration) + ".g" + strconv.Itoa(p.cfg.Generation)
}

// Start creates the tables if they are missing and joins the group; the work goes on in the background until Stop or
// the end of ctx. A second call does nothing.
func (p *Projector) Start(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stop != nil {
		return nil
	}
	if p.stopped {
		return errors.New("projector: stopped")
	}
	if err := p.pg.Create(ctx); err != nil {
		return err
	}
	cl, err := p.cfg.Kafka.Producer("banyan-project")
	if err != nil {
		return err
	}
	out := newKafkaOut(cl, p.cfg.Kafka)
	p.out = out
	c, err := stream.New(stream.Config{Kafka: p.cfg.Kafka, Group: p.Group(), Topics: []string{p.topic, p.cfg.Kafka.Topics().Parked()}, MaxBatch: p.cfg.Batch, Tick: tick, Session: p.cfg.Session, Log: p.cfg.Log}, p.open)
	if err == nil {
		err = c.Start(ctx)
	}
	if err != nil {
		cl.Close()
		return err
	}
	p.stop = func() { c.Stop(); out.flush(); cl.Close() }
	return nil
}

// Stop returns when the partitions are given up. A batch in the middle is rolled back or done, never half.
func (p *Projector) Stop() {
	p.mu.Lock()
	stop := p.stop
	p.stop, p.stopped = nil, true
	p.mu.Unlock()
	if stop != nil {
		stop()
	}
}

// Stats are live counters.
func (p *Projector) Stats() *Stats { return &p.stats }

// Progress is what this member has made visible last in a partition; false if it does not project it.
func (p *Projector) Progress(partition int32) (event.Progress, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pr, ok := p.progress[partition]
	return pr, ok
}

func (p *Projector) register(w *worker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.workers[w.n] = w
	p.progress[w.n] = w.progress
}

func (p *Projector) unregister(w *worker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.workers[w.n] == w {
		delete(p.workers, w.n)
		delete(p.progress, w.n)
	}
}

func (p *Projector) worker(n int32) *worker {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.workers[n]
}

func (p *Projector) told(w *worker, pr event.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.workers[w.n] == w {
		p.progress[w.n] = pr
	}
}

// kafkaOut publishes to <p>.progress, compacted by migration, generation and partition, and to <p>.parked.
type kafkaOut struct {
	cl     *kgo.Client
	cfg    kafka.Config
	room   chan struct{} // bounds the progress that is on its way
	failed sync.Map      // by partition: why its last progress never arrived
}

func newKafkaOut(cl *kgo.Client, cfg kafka.Config) *kafkaOut {
	return &kafkaOut{cl: cl, cfg: cfg, room: make(chan struct{}, 256)}
}

// Progress does not wait for the acknowledgement: what comes behind would wait, too, and the order is the producer's. A
// progress that failed is told at the next call, which is then tried again; and each says all that the one before said.
func (o *kafkaOut) Progress(ctx context.Context, p *event.Progress) error {
	if err, failed := o.failed.LoadAndDelete(p.Partition); failed {
		return err.(error)
	}
	select {
	case o.room <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	key := fmt.Sprintf("%s/g%d/%d", p.Migration, p.Generation, p.Partition)
	r := kafka.Record(o.cfg.Topics().Progress(), 0, event.KindProgress, key, event.Encode(p))
	n := p.Partition
	o.cl.Produce(context.WithoutCancel(ctx), r, func(_ *kgo.Record, err error) {
		if err != nil {
			o.failed.Store(n, fmt.Errorf("publish to %s: %w", r.Topic, err))
		}
		<-o.room
	})
	return nil
}

// flush waits for what is on its way, not for ever.
func (o *kafkaOut) flush() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = o.cl.Flush(ctx) // a successor says it again
}

func (o *kafkaOut) Parked(ctx context.Context, p *event.Parked) error {
	return o.produce(ctx, parked.Record(o.cfg, p))
}

func (o *kafkaOut) produce(ctx context.Context, r *kgo.Record) error {
	if err := o.cl.ProduceSync(ctx, r).FirstErr(); err != nil {
		return fmt.Errorf("publish to %s: %w", r.Topic, err)
	}
	return nil
}
