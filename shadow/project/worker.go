package project

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"banyan/proxy/event"
	"banyan/shadow/parked"
	"banyan/shadow/readmodel"
	"banyan/shadow/stream"
)

// item is a record as far as it could be understood: an event, a mark, or a reason why it is neither.
type item struct {
	offset int64
	key    event.OrderingKey
	ev     *event.Event
	data   map[string]any // of ev, decoded
	h      *handler
	mark   *event.SettledMark
	poison error
	again  bool      // of a released key
	since  time.Time // when it parked its key; the same in each try
}

// worker projects one partition. All its fields belong to the goroutine that calls Handle.
type worker struct {
	p     *Projector
	n     int32
	owner string

	batch     int64     // committed so far
	next      int64     // next_offset as committed
	unsaved   int64     // offset behind marks that are in progress and not committed; 0: there are none
	committed time.Time // of the last transaction
	ahead     []int64
	progress  event.Progress // as the tables are
	shown     event.Progress // as in Redis
	parked    map[event.OrderingKey]*readmodel.Parked
	standing  *parked.Keys // the same keys, as .parked has them
	behind    *behind      // nil: no released key has anything to catch up
	seen      *window
	showing   *showing        // nil: all is shown
	late      []stream.Record // kept back by Config.Delay
	hold      *holding
	holds     chan *holdRequest
	closed    chan struct{}
}

var _ stream.Worker = (*worker)(nil)

// open claims the partition, rebuilds the memory of ids from the topic, and repairs what a crash may have left undone:
// the documents of the last batches and the published progress.
func (p *Projector) open(ctx context.Context, n int32) (stream.Worker, map[string]int64, error) {
	var token [12]byte
	_, _ = rand.Read(token[:]) // never fails
	w := &worker{p: p, n: n, owner: hex.EncodeToString(token[:]), parked: map[event.OrderingKey]*readmodel.Parked{}, seen: newWindow(p.cfg.DedupWindow),
		holds: make(chan *holdRequest), closed: make(chan struct{})}
	st, err := p.pg.Claim(ctx, n, w.owner)
	if err != nil {
		return nil, nil, err
	}
	w.batch, w.next, w.ahead = st.Batch, st.Next, st.Ahead
	w.progress = event.Progress{V: event.MarkVersion, Migration: p.cfg.Migration, Generation: p.cfg.Generation, Partition: n}
	if st.Progress != nil {
		w.progress = *st.Progress
	}
	w.shown = event.Progress{V: event.MarkVersion, Migration: p.cfg.Migration, Generation: p.cfg.Generation, Partition: n}
	if p.redis != nil {
		shown, err := p.redis.Progress(ctx, n)
		if err != nil {
			return nil, nil, err
		}
		if shown != nil {
			w.shown = *shown
		}
	}
	for i := range st.Parked {
		w.parked[st.Parked[i].Key] = &st.Parked[i]
	}
	from, err := w.stand(ctx)
	if err != nil {
		return nil, nil, err
	}
	t := newTouched(p.m)
	if err := w.remember(ctx, st.Unshown, t); err != nil {
		return nil, nil, fmt.Errorf("read back the last %d records: %w", p.cfg.DedupWindow, err)
	}
	if st.Batch > 0 {
		if err := w.show(ctx, t, st.Unshown); err != nil {
			return nil, nil, err
		}
		if err := w.shownUp(ctx, true); err != nil {
			return nil, nil, err
		}
	}
	p.register(w)
	return w, map[string]int64{p.topic: w.next, p.cfg.Kafka.Topics().Parked(): from}, nil
}

// remember reads back the window before the offset, and what was applied ahead of it.
func (w *worker) remember(ctx context.Context, unshown int64, t *touched) error {
	end := w.next
	if len(w.ahead) > 0 {
		end = slices.Max(w.ahead) + 1
	}
	if end == 0 {
		return nil
	}
	for rec, err := range w.p.read(ctx, w.n, max(0, min(unshown, w.next-int64(w.p.cfg.DedupWindow)))) {
		if err != nil {
			return err
		}
		if rec.Offset >= end {
			return nil
		}
		applied := rec.Offset < w.next || w.isAhead(rec.Offset)
		it := w.p.understand(&rec)
		if it.ev == nil || !applied || w.waits(&it) {
			continue
		}
		w.seen.add(it.ev.ID)
		if rec.Offset >= unshown && it.poison == nil {
			_ = t.add(&it) // it was applied, so its key could be computed
		}
	}
	return nil
}

// waits says whether the event's key is parked at or before it.
func (w *worker) waits(it *item) bool {
	k := w.parked[it.key]
	return k != nil && !it.again && it.offset >= k.FirstOffset
}

// understand never fails: what cannot be used is poison, with the reason.
func (p *Projector) understand(r *stream.Record) item {
	it := item{offset: r.Offset, key: event.OrderingKey(r.Key)}
	switch r.Kind {
	case event.KindSettledMark:
		m, err := event.DecodeSettledMark(r.Value)
		if err != nil { // the next mark says all that this one said
			p.stats.BadMarks.Add(1)
			p.cfg.Log.Warn("a mark that cannot be read is left out", "topic", r.Topic, "partition", r.Partition, "offset", r.Offset, "err", err)
		}
		it.mark = m
		return it
	case "":
	default:
		return it // another kind of record, of a newer build: not ours
	}
	ev, err := event.ParseEvent(r.Headers, r.Value)
	if err != nil {
		it.poison = err
		return it
	}
	it.ev = ev
	if ev.Key == "" {
		ev.Key = it.key
	}
	switch h := p.m.handlers[ev.TypeVersion()]; {
	case ev.Key != it.key:
		it.poison = fmt.Errorf("the record's key is %q, the event's %q", clip(string(it.key)), clip(string(ev.Key)))
	case h == nil:
		it.poison = fmt.Errorf("no statement for %s in read_model.on", ev.TypeVersion())
	default:
		it.h = h
		var data any
		if data, it.poison = p.cfg.Contracts.Decode(ev); it.poison != nil {
			break
		}
		var ok bool
		if it.data, ok = data.(map[string]any); !ok {
			it.poison = errNoObject // appendRow could not add to it
		}
	}
	return it
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}

// Handle applies a batch. A tick without records serves holds.
func (w *worker) Handle(ctx context.Context, recs []stream.Record) error {
	if err := w.shownUp(ctx, false); err != nil {
		return err
	}
	recs, err := w.standing.Split(w.p.cfg.Kafka.Topics().Parked(), recs, w.released)
	if err != nil {
		return err
	}
	if w.p.cfg.Delay != nil {
		recs = w.old(recs)
	}
	if err := w.catchUp(ctx); err != nil {
		return err
	}
	if err := w.serve(ctx, w.items(recs)); err != nil {
		return err
	}
	return w.save(ctx)
}

// maxLate bounds what Config.Delay keeps back.
const maxLate = 100_000

// old keeps records back until they are old enough, and gives those that are.
func (w *worker) old(recs []stream.Record) []stream.Record {
	w.late = append(w.late, recs...)
	until := w.p.now().Add(-w.p.cfg.Delay())
	n := max(0, len(w.late)-maxLate)
	for n < len(w.late) && !w.late[n].Time.After(until) {
		n++
	}
	recs, w.late = w.late[:n:n], w.late[n:]
	return recs
}

func (w *worker) items(recs []stream.Record) []item {
	items := make([]item, len(recs))
	for i := range recs {
		items[i] = w.p.understand(&recs[i])
	}
	return items
}

// Close gives up the holds; the partition itself is given up by the next owner's claim.
func (w *worker) Close(context.Context) {
	w.p.unregister(w)
	close(w.closed)
	if w.showing != nil {
		<-w.showing.done
	}
	if w.hold != nil {
		w.hold.req.done <- errClosed
		w.hold = nil
	}
}

// apply commits all items, in one transaction if nothing is wrong with them. Data that PostgreSQL refuses are found by
// halving: what stands before them commits, their key is parked, the rest goes on.
func (w *worker) apply(ctx context.Context, items []item) error {
	return w.applyBy(ctx, items, w.commit)
}

func (w *worker) applyBy(ctx context.Context, items []item, commit func(context.Context, []item) error) error {
	size := len(items)
	for len(items) > 0 {
		err := w.retried(ctx, "read model", func(ctx context.Context) error { return commit(ctx, items[:size]) })
		switch {
		case err == nil:
			items = items[size:]
			size = len(items)
		case !readmodel.IsData(err):
			return err
		case size > 1:
			size /= 2
		case items[0].ev == nil || items[0].poison != nil:
			return err // not the event: our own bookkeeping was refused
		default:
			items[0].poison = err // the next try parks its key
		}
	}
	return nil
}

// retried repeats what fails for reasons outside: it ends with success, an error about data, a lost partition or ctx.
func (w *worker) retried(ctx context.Context, what string, f func(context.Context) error) error {
	for try := 0; ; try++ {
		err := f(ctx)
		if err == nil || readmodel.IsData(err) || readmodel.IsFenced(err) {
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%w (last: %w)", ctx.Err(), err)
		}
		w.p.stats.Retries.Add(1)
		w.p.cfg.Log.Warn("projection waits", "for", what, "migration", w.p.cfg.Migration, "partition", w.n, "try", try+1, "err", err)
		t := time.NewTimer(min(50*time.Millisecond<<min(try, 7), 5*time.Second))
		select {
		case <-ctx.Done():
			t.Stop()
		case <-t.C:
		}
	}
}

// isAhead says whether a record at or beyond next was applied already, by a hold.
func (w *worker) isAhead(offset int64) bool {
	_, ok := slices.BinarySearch(w.ahead, offset)
	return ok
}
