package project

import (
	"context"
	"maps"
	"slices"
	"time"

	"banyan/proxy/event"
	"banyan/shadow/readmodel"
)

// plan is what one batch will do, worked out before anything is done: a failed attempt leaves no trace in the worker.
type plan struct {
	waves    *waves
	touched  *touched
	events   []*event.Event
	repeats  int
	parks    map[event.OrderingKey]*readmodel.Parked
	parked   []readmodel.Parked // in order
	waiting  map[event.OrderingKey]*readmodel.Waiting
	less     map[event.OrderingKey]int64 // of released keys: events done
	progress event.Progress
}

// progressEvery bounds how old the progress in PostgreSQL may be while nothing but marks come: a transaction for each
// would be most of what an idle read model costs.
const progressEvery = 200 * time.Millisecond

func (pl *plan) onlyMarks() bool {
	return len(pl.events) == 0 && pl.repeats == 0 && len(pl.parked) == 0 && len(pl.waiting) == 0
}

// commit applies items in one transaction, then shows it: documents, progress.
func (w *worker) commit(ctx context.Context, items []item) error {
	next := items[len(items)-1].offset + 1
	ahead := slices.DeleteFunc(slices.Clone(w.ahead), func(o int64) bool { return o < next })
	return w.commitTo(ctx, items, next, ahead, 0)
}

// commitTo commits items with next as the offset and ahead as what is applied beyond it. A position above 0 is reached
// exactly with these items.
func (w *worker) commitTo(ctx context.Context, items []item, next int64, ahead []int64, reached event.Position) error {
	pl := w.plan(items)
	if reached > 0 {
		pl.progress.Position, pl.progress.Applied, pl.progress.Held = reached, reached, w.hold.missing
	}
	if reached == 0 && len(items) > 0 && pl.onlyMarks() && w.p.now().Sub(w.committed) < progressEvery {
		// Nothing changes the tables, so they hold what the mark says. The offset and the progress in PostgreSQL follow with
		// the next transaction, on a tick at the latest (see save): after a crash the marks are read again.
		w.progress, w.unsaved = pl.progress, next
		return w.show(ctx, pl.touched, w.next)
	}
	if err := w.announceParked(ctx, pl.parked); err != nil {
		return err
	}
	if err := w.shownUp(ctx, false); err != nil {
		return err
	}
	b := w.batchOf(pl, next, ahead)
	if err := w.p.pg.Commit(ctx, b); err != nil {
		return err
	}
	w.batch, w.next, w.ahead, w.progress = w.batch+1, next, ahead, pl.progress
	w.unsaved, w.committed = 0, w.p.now()
	for _, e := range pl.events {
		w.seen.add(e.ID)
	}
	maps.Copy(w.parked, pl.parks)
	for k, x := range pl.waiting {
		if p := w.parked[k]; p != nil {
			p.Waiting, p.LastOffset = p.Waiting+x.Count, x.Last
		}
	}
	w.p.stats.count(pl, len(b.Statements))
	return w.show(ctx, pl.touched, b.From)
}

// save commits the progress of marks that did not commit by themselves, once no more than progressEvery has gone by: a
// reader of the tables alone must not be told an old position for good.
func (w *worker) save(ctx context.Context) error {
	if w.unsaved == 0 || w.hold != nil || w.p.now().Sub(w.committed) < progressEvery {
		return nil
	}
	next := w.unsaved
	ahead := slices.DeleteFunc(slices.Clone(w.ahead), func(o int64) bool { return o < next })
	return w.retried(ctx, "read model", func(ctx context.Context) error { return w.commitTo(ctx, nil, next, ahead, 0) })
}

func (w *worker) batchOf(pl *plan, next int64, ahead []int64) *readmodel.Batch {
	b := &readmodel.Batch{Partition: w.n, Owner: w.owner, Number: w.batch, From: w.next, Next: next, Ahead: ahead, Unshown: w.next, Progress: &pl.progress,
		Park: pl.parked}
	if w.showing != nil {
		b.Unshown = w.showing.from
	}
	for i := range pl.waves.list {
		x := &pl.waves.list[i]
		b.Statements = append(b.Statements, readmodel.Statement{Name: x.h.name, SQL: x.h.sql, Rows: rows(x.events)})
	}
	for _, k := range slices.Sorted(maps.Keys(pl.waiting)) {
		b.Waiting = append(b.Waiting, *pl.waiting[k])
	}
	return b
}

func (w *worker) plan(items []item) *plan {
	pl := &plan{waves: newWaves(), touched: newTouched(w.p.m), parks: map[event.OrderingKey]*readmodel.Parked{},
		waiting: map[event.OrderingKey]*readmodel.Waiting{}, less: map[event.OrderingKey]int64{}, progress: w.progress}
	var batchIDs map[string]struct{}
	for i := range items {
		it := &items[i]
		if it.mark != nil {
			pl.mark(w, it.mark)
			continue
		}
		if it.ev == nil && it.poison == nil || w.isAhead(it.offset) {
			continue
		}
		if it.ev != nil && w.known(it.ev.ID) {
			pl.repeats++
			continue
		}
		if it.again && pl.parks[it.key] != nil {
			continue // it is counted already
		}
		if w.waits(it) || pl.parks[it.key] != nil {
			pl.wait(it)
			continue
		}
		if it.poison == nil {
			it.poison = pl.touched.add(it)
		}
		if it.poison != nil {
			pl.park(w, it)
			continue
		}
		if batchIDs == nil {
			batchIDs = make(map[string]struct{}, len(items))
		}
		if _, twice := batchIDs[it.ev.ID]; twice {
			pl.repeats++
			continue
		}
		batchIDs[it.ev.ID] = struct{}{}
		pl.caught(it)
		pl.waves.add(it.h, it.ev)
		pl.events = append(pl.events, it.ev)
		pl.progress.Applied = max(pl.progress.Applied, it.ev.Position)
	}
	pl.progress.Parked = pl.parkedKeys(w)
	pl.progress.At = w.p.now()
	return pl
}

// mark becomes progress: all that stands before it is in this batch or in one before.
func (pl *plan) mark(w *worker, m *event.SettledMark) {
	p := &pl.progress
	p.Position = max(p.Position, m.Position)
	p.Applied = max(p.Applied, p.Position)
	p.Fences, p.Replicas, p.Unsettled = m.Fences, m.Replicas, m.Unsettled
	p.Held = slices.DeleteFunc(slices.Clone(m.Held), func(h event.Held) bool { return h.Migration != w.p.cfg.Migration })
}

func (pl *plan) park(w *worker, it *item) {
	if it.since.IsZero() {
		it.since = w.p.now().Truncate(time.Microsecond) // what PostgreSQL keeps
	}
	k := &readmodel.Parked{Key: it.key, Reason: it.poison.Error(), FirstOffset: it.offset, LastOffset: it.offset, Waiting: 1, At: it.since}
	if have := w.parked[it.key]; have != nil { // released, and stopped again
		k.LastOffset, k.Waiting = have.LastOffset, max(1, have.Waiting-pl.less[it.key])
	}
	if it.ev != nil {
		k.EventID, k.EventType, k.Position = it.ev.ID, it.ev.TypeVersion(), it.ev.Position
	}
	pl.parks[it.key] = k
	pl.parked = append(pl.parked, *k)
}

func (pl *plan) wait(it *item) {
	x := pl.waiting[it.key]
	if x == nil {
		x = &readmodel.Waiting{Key: it.key}
		pl.waiting[it.key] = x
	}
	x.Count++
	x.Last = it.offset
}

func (pl *plan) parkedKeys(w *worker) []event.OrderingKey {
	if len(w.parked)+len(pl.parks) == 0 {
		return nil
	}
	ks := slices.Collect(maps.Keys(w.parked))
	for k := range pl.parks {
		ks = append(ks, k)
	}
	slices.Sort(ks)
	return slices.Compact(ks)
}

// announceParked tells `.parked` before the transaction: a repeat there is harmless, a silence would not be.
func (w *worker) announceParked(ctx context.Context, parked []readmodel.Parked) error {
	for i := range parked {
		k := &parked[i]
		w.p.cfg.Log.Error("key parked", "migration", w.p.cfg.Migration, "partition", w.n, "key", k.Key, "offset", k.FirstOffset, "event", k.EventID,
			"type", k.EventType, "reason", k.Reason)
		rec := w.record(k)
		if err := w.p.out.Parked(ctx, rec); err != nil {
			return err
		}
	}
	return nil
}
