package dispatch

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"banyan/proxy/event"
	"banyan/proxy/kafka"
	"banyan/shadow/parked"
	"banyan/shadow/stream"

	"github.com/twmb/franz-go/pkg/kgo"
)

// stageName is how this role signs its parked records.
const stageName = "dispatch"

// worker does one partition.
type worker struct {
	d      *Dispatcher
	n      int32
	out    *kgo.Client
	group  *stream.Consumer
	readTo atomic.Int64 // all events of the partition below it are acknowledged

	mu         sync.Mutex // guards the rest: keys run side by side
	parked     *parked.Keys
	candidates *recent

	read int64 // everything below it was handled; 0: not known yet. Of the goroutine that calls Handle
}

var _ stream.Worker = (*worker)(nil)

// at is an entry with its place.
type at struct {
	offset int64
	entry  *event.Entry
}

// Handle delivers a batch: entries between two marks side by side by key, then the mark.
func (w *worker) Handle(ctx context.Context, batch []stream.Record) error {
	batch, err := w.released(batch)
	if err == nil {
		err = w.catchUp(ctx)
	}
	if err != nil || len(batch) == 0 {
		return err
	}
	keys := map[event.OrderingKey][]at{}
	marks := make(chan error, len(batch))
	sent := 0
	for i := range batch {
		rec := &batch[i]
		switch rec.Kind {
		case event.KindEntry:
			e, err := event.DecodeEntry(rec.Value)
			if err != nil {
				return fmt.Errorf("offset %d: %w", rec.Offset, err)
			}
			if e.Migration == w.d.cfg.Migration {
				keys[e.Key] = append(keys[e.Key], at{rec.Offset, e})
			}
		case event.KindSettledMark:
			if err := w.run(ctx, keys, w.entry); err != nil {
				return err
			}
			clear(keys)
			if w.pass(ctx, rec, marks) {
				sent++
			}
		}
	}
	if err := w.run(ctx, keys, w.entry); err != nil {
		return err
	}
	for range sent {
		if err := <-marks; err != nil {
			return err
		}
	}
	last := batch[len(batch)-1]
	w.read = last.Offset + 1
	return w.group.Commit(ctx, w.n, map[string]int64{last.Topic: last.Offset + 1})
}

// Close has nothing to give back: what was not committed comes again.
func (w *worker) Close(context.Context) {}

// run works off some entries, keys side by side, and returns when all are done.
func (w *worker) run(ctx context.Context, keys map[event.OrderingKey][]at, do func(context.Context, at) error) error {
	if len(keys) == 0 {
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	slots := make(chan struct{}, w.d.cfg.Keys)
	var all sync.WaitGroup
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			for _, x := range keys[k] {
				if err := do(ctx, x); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

// entry does one entry. An error means to try the whole batch again later.
func (w *worker) entry(ctx context.Context, x at) error {
	if p := w.standing(x.entry.Key); p != nil && x.offset >= p.Offset {
		w.d.stats.Waiting.Add(1)
		return nil
	}
	return w.tell(ctx, x)
}

// tell delivers and publishes what an entry asks for.
func (w *worker) tell(ctx context.Context, x at) error {
	e := x.entry
	p, err := planOf(w.d.cfg.Rules, e, w.d.cfg.Generation, w.told)
	if err != nil {
		return w.park(ctx, x, e.From, err)
	}
	w.remember(e)
	w.d.stats.ByRows.Add(int64(p.byRows))
	w.d.stats.Unmapped.Add(int64(p.unmapped))
	for _, s := range p.steps {
		if s.command != nil {
			reply, err := w.deliver(ctx, s.command)
			var refused *refusedError
			if errors.As(err, &refused) {
				return w.park(ctx, x, s.at, fmt.Errorf("command %s: %w", s.command.ID, err))
			}
			if err != nil {
				return err
			}
			if !reply.ByRows || s.command.Verdict != event.VerdictApplied {
				continue
			}
			w.d.stats.ByRows.Add(1)
			if s.events, err = rowsOf(w.d.cfg.Rules, e, s.command.Write); err != nil {
				return w.park(ctx, x, s.at, err)
			}
		}
		if err := w.publish(ctx, s.events); err != nil {
			return err
		}
	}
	return nil
}

func (w *worker) publish(ctx context.Context, events []event.Event) error {
	if len(events) == 0 {
		return nil
	}
	rs := make([]*kgo.Record, len(events))
	for i := range events {
		rs[i] = kafka.EventRecord(w.d.topic(), w.n, &events[i])
	}
	if err := w.d.produce(ctx, w.out, rs...); err != nil {
		return err
	}
	w.d.stats.Events.Add(int64(len(events)))
	w.acknowledged(rs[len(rs)-1].Offset + 1)
	return nil
}

// acknowledged raises the offset that the service must have read.
func (w *worker) acknowledged(readTo int64) {
	for {
		have := w.readTo.Load()
		if readTo <= have || w.readTo.CompareAndSwap(have, readTo) {
			return
		}
	}
}

// pass sends a mark on, with our own held keys. It does not wait: order in the producer is kept, and Handle waits for
// all marks of the batch before it commits.
func (w *worker) pass(ctx context.Context, rec *stream.Record, done chan<- error) bool {
	m, err := event.DecodeSettledMark(rec.Value)
	if err != nil {
		w.d.stats.BadMarks.Add(1)
		w.d.cfg.Log.Error("a mark cannot be read", "partition", w.n, "offset", rec.Offset, "err", err)
		return false
	}
	w.mu.Lock()
	for _, p := range w.parked.All() {
		m.Held = append(m.Held, event.Held{Migration: w.d.cfg.Migration, Key: p.Key, From: p.Position})
	}
	w.mu.Unlock()
	r := kafka.Record(w.d.topic(), w.n, event.KindSettledMark, "", event.Encode(m))
	w.out.Produce(ctx, r, func(r *kgo.Record, err error) {
		if err != nil {
			err = fmt.Errorf("publish a mark to %s/%d: %w", r.Topic, r.Partition, err)
		}
		done <- err
	})
	return true
}

func (w *worker) park(ctx context.Context, x at, position event.Position, why error) error {
	e := x.entry
	w.d.cfg.Log.Error("key parked", "migration", e.Migration, "partition", w.n, "key", e.Key, "offset", x.offset, "position", position, "reason", why)
	p := &event.Parked{V: event.ParkedVersion, Migration: e.Migration, Generation: w.d.cfg.Generation, Stage: stageName, Key: e.Key,
		Topic: w.d.cfg.Kafka.Topics().Settled(), Partition: w.n, Offset: x.offset, Position: position, Reason: why.Error(), At: time.Now().UTC()}
	if err := w.d.produce(ctx, w.out, parked.Record(w.d.cfg.Kafka, p)); err != nil {
		return err
	}
	w.mu.Lock()
	w.parked.Put(p)
	w.mu.Unlock()
	w.d.stats.Parked.Add(1)
	return nil
}

// standing is nil for a key that goes on.
func (w *worker) standing(k event.OrderingKey) *event.Parked {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.parked.Get(k)
}

func (w *worker) told(k event.OrderingKey, id event.WriteID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.candidates.ids[suspect{k, id}]
}

func (w *worker) remember(e *event.Entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range e.Changes {
		for _, id := range e.Changes[i].Candidates {
			w.candidates.add(suspect{e.Key, id})
		}
	}
}
