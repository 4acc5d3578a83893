package settle

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"banyan/proxy/event"
	"banyan/proxy/kafka"
	"banyan/shadow/stream"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Group is the consumer group of settle. There is one per installation.
const Group = "settle"

// Service settles the partitions that the group gives it.
type Service struct {
	cfg      Config
	kafka    kafka.Config
	consumer *stream.Consumer
	now      func() time.Time
	// produce appends records to .settled in their order and gives the offset after the last; tests put faults here.
	produce func(ctx context.Context, cl *kgo.Client, rs []*kgo.Record) (int64, error)
}

// New checks the config. It does not connect. The group's name is that of the topics with [Group]; state may be nil,
// see [stream.Config]; more are options for all its Kafka clients.
func New(cfg Config, k kafka.Config, log *slog.Logger, state func(stream.State), more ...kgo.Opt) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("settle: %w", err)
	}
	s := &Service{cfg: cfg.WithDefaults(), kafka: k, now: time.Now, produce: produce}
	t := k.Topics()
	var err error
	s.consumer, err = stream.New(stream.Config{Kafka: k, Group: k.Prefix + "." + Group, Topics: []string{t.Writes(), t.Changes()},
		Tick: min(s.cfg.MarkEvery/2, 25*time.Millisecond), Log: log, State: state, Options: more},
		func(ctx context.Context, partition int32) (stream.Worker, map[string]int64, error) {
			return s.open(ctx, partition, more)
		})
	if err != nil {
		return nil, fmt.Errorf("settle: %w", err)
	}
	return s, nil
}

// Start joins the group; partitions come in the background.
func (s *Service) Start(ctx context.Context) error { return s.consumer.Start(ctx) }

// Stop gives the partitions back and returns when all has ended.
func (s *Service) Stop() { s.consumer.Stop() }

// worker settles one partition.
type worker struct {
	s         *Service
	partition int32
	core      *Core
	producer  *kgo.Client
	out       []*kgo.Record
	entries   bool  // out holds some
	next      int64 // offset in .settled after the last acknowledged record
	trail     trail
	committed time.Time
	dead      error // after an append whose fate is not known
}

// open reads back what the partition's predecessor published, as far as it matters.
func (s *Service) open(ctx context.Context, partition int32, more []kgo.Opt) (stream.Worker, map[string]int64, error) {
	t := s.kafka.Topics()
	w := &worker{s: s, partition: partition}
	w.core = NewCore(s.cfg, w)
	_, endWrites, err := stream.Bounds(ctx, s.kafka, t.Writes(), partition)
	if err != nil {
		return nil, nil, err
	}
	_, endChanges, err := stream.Bounds(ctx, s.kafka, t.Changes(), partition)
	if err != nil {
		return nil, nil, err
	}
	start := map[string]int64{t.Writes(): stream.Earliest, t.Changes(): stream.Earliest}
	from := stream.Earliest
	mark, err := s.lastMark(ctx, partition)
	if err != nil {
		return nil, nil, err
	}
	if mark != nil {
		start[t.Writes()], start[t.Changes()], from = mark.ResumeWrites, mark.ResumeChanges, mark.ResumeSettled
	}
	err = w.readBack(ctx, mark, from)
	if err != nil {
		return nil, nil, err
	}
	w.trail = trail{{max(from, 0), endWrites, endChanges, w.core.highest}}
	if w.producer, err = s.kafka.Producer("banyan-settle", more...); err != nil {
		return nil, nil, err
	}
	return w, start, nil
}

func (s *Service) lastMark(ctx context.Context, partition int32) (*event.SettledMark, error) {
	rec, ok, err := stream.Last(ctx, s.kafka, s.kafka.Topics().Settled(), partition, event.KindSettledMark)
	if err != nil || !ok {
		return nil, err
	}
	m, err := event.DecodeSettledMark(rec.Value)
	if err != nil {
		return nil, fmt.Errorf("%s/%d offset %d: %w", rec.Topic, partition, rec.Offset, err)
	}
	return m, nil
}

func (w *worker) readBack(ctx context.Context, mark *event.SettledMark, from int64) (err error) {
	topic := w.s.kafka.Topics().Settled()
	w.core.Restore(mark, func(yield func(*event.Entry) bool) {
		for rec, e := range stream.ReadTo(ctx, w.s.kafka, topic, w.partition, from) {
			if e != nil {
				err = e
				return
			}
			w.next = rec.Offset + 1
			if rec.Kind != event.KindEntry {
				continue
			}
			entry, e := event.DecodeEntry(rec.Value)
			if e != nil {
				err = fmt.Errorf("%s/%d offset %d: %w", topic, w.partition, rec.Offset, e)
				return
			}
			if !yield(entry) {
				return
			}
		}
	})
	return err
}

// Handle implements [stream.Worker].
func (w *worker) Handle(ctx context.Context, records []stream.Record) error {
	if w.dead != nil {
		return w.dead
	}
	for i := range records {
		if err := w.feed(&records[i]); err != nil {
			return fmt.Errorf("%s/%d offset %d: %w", records[i].Topic, w.partition, records[i].Offset, err)
		}
	}
	w.core.Tick(w.s.now())
	if err := w.flush(ctx); err != nil {
		w.dead = fmt.Errorf("append to %s/%d: %w", w.s.kafka.Topics().Settled(), w.partition, err)
		return w.dead
	}
	if w.s.cfg.Observe != nil {
		w.s.cfg.Observe(w.partition, w.core.Stats())
	}
	return nil
}

func (w *worker) feed(r *stream.Record) error {
	switch r.Kind {
	case event.KindWrite:
		x, err := event.DecodeWrite(r.Value)
		if err != nil {
			return err
		}
		w.core.Write(x, r.Offset, len(r.Value))
	case event.KindReplicaMark:
		m, err := event.DecodeReplicaMark(r.Value)
		if err != nil {
			return err
		}
		w.core.ReplicaMark(m, r.Offset)
	case event.KindChange:
		x, err := event.DecodeChange(r.Value)
		if err != nil {
			return err
		}
		w.core.Change(x, r.Offset, len(r.Value))
	case event.KindReaderMark:
		m, err := event.DecodeReaderMark(r.Value)
		if err != nil {
			return err
		}
		w.core.ReaderMark(m, r.Offset)
	default:
		return fmt.Errorf("a record of kind %q, which settle does not know: was it written by a newer version? update settle before its peers", r.Kind)
	}
	return nil
}

// Entry implements [Sink].
func (w *worker) Entry(e *event.Entry) {
	w.entries = true
	w.out = append(w.out, kafka.Record(w.s.kafka.Topics().Settled(), w.partition, event.KindEntry, string(e.Key), event.Encode(e)))
}

// Mark implements [Sink].
func (w *worker) Mark(m *event.SettledMark) {
	m.ResumeSettled = w.trail.resume(w.next, w.entries, w.core, m)
	w.entries = false
	w.out = append(w.out, kafka.Record(w.s.kafka.Topics().Settled(), w.partition, event.KindSettledMark, "", event.Encode(m)))
}

// flush appends and waits: the worker's offsets stand in what it appends, so there is nothing to do meanwhile.
func (w *worker) flush(ctx context.Context) error {
	if len(w.out) == 0 {
		return nil
	}
	next, err := w.s.produce(ctx, w.producer, w.out)
	if err != nil {
		return err
	}
	clear(w.out)
	w.next, w.out = next, w.out[:0]
	if now := w.s.now(); now.Sub(w.committed) > 5*time.Second {
		w.committed = now
		w.commit(ctx)
	}
	return nil
}

// commit tells monitoring how far the group is. Nobody starts from it, so an error means nothing.
func (w *worker) commit(ctx context.Context) {
	t := w.s.kafka.Topics()
	_ = w.s.consumer.Commit(ctx, w.partition, map[string]int64{t.Writes(): w.core.nextWrites, t.Changes(): w.core.nextChanges})
}

// Close implements [stream.Worker]. What is still under way is given up with the client, so that nothing is appended
// after a successor has read back.
func (w *worker) Close(context.Context) { w.producer.Close() }

// produce returns when ctx ends even if the fate of the records is not known then.
func produce(ctx context.Context, cl *kgo.Client, rs []*kgo.Record) (int64, error) {
	done := make(chan kgo.ProduceResults, 1)
	go func() { done <- cl.ProduceSync(ctx, rs...) }() // ends at the latest when the client is closed
	select {
	case res := <-done:
		if err := res.FirstErr(); err != nil {
			return 0, err
		}
		return rs[len(rs)-1].Offset + 1, nil
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}
