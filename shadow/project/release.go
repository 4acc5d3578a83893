package project

import (
	"context"

	"banyan/proxy/event"
	"banyan/shadow/parked"
	"banyan/shadow/readmodel"
	"banyan/shadow/stream"
)

const stageName = "project"

func (p *Projector) owner() parked.Owner {
	return parked.Owner{Stage: stageName, Migration: p.cfg.Migration, Generation: p.cfg.Generation}
}

// behind is the way of the released keys through what they have missed. Their stops stand in the tables and move with
// each transaction; this is what a new owner makes anew.
type behind struct {
	next int64 // to read
	// seen are the ids that were applied on the way, and before it as far back as the window goes: what the partition
	// remembers is of now, and a repeat that waited is of then.
	seen *window
}

// record is the stop as .parked has it.
func (w *worker) record(k *readmodel.Parked) *event.Parked {
	return &event.Parked{V: event.ParkedVersion, Migration: w.p.cfg.Migration, Generation: w.p.cfg.Generation, Stage: stageName, Key: k.Key,
		Topic: w.p.topic, Partition: w.n, Offset: k.FirstOffset, Position: k.Position, Event: k.EventID, Type: k.EventType, Reason: k.Reason, At: k.At}
}

// stand makes .parked agree with the tables, which are right: a crash may have come between the two. It gives where to
// read .parked on.
func (w *worker) stand(ctx context.Context) (next int64, err error) {
	if w.standing, next, err = w.p.standing(ctx, w.n); err != nil {
		return 0, err
	}
	for _, s := range w.standing.All() {
		if k := w.parked[s.Key]; k == nil || !s.Is(k.At) {
			if err := w.p.out.Parked(ctx, s.CaughtUp(s.Offset, true, w.p.now())); err != nil {
				return 0, err
			}
			w.standing.Done(s.Key)
		}
	}
	for _, k := range w.parked {
		s := w.standing.Get(k.Key)
		if s == nil {
			s = w.record(k)
			if err := w.p.out.Parked(ctx, s); err != nil {
				return 0, err
			}
			w.standing.Put(s)
		}
		s.Offset = k.FirstOffset
	}
	return next, nil
}

func (w *worker) released(p *event.Parked) {
	w.p.cfg.Log.Info("key released", "migration", p.Migration, "stage", stageName, "partition", w.n, "key", p.Key, "offset", p.Offset, "who", p.Who, "why", p.Why)
	w.behind = nil // it begins anew, from the farthest
}

// known says whether the event was applied.
func (w *worker) known(id string) bool {
	return w.seen.has(id) || w.behind != nil && w.behind.seen.has(id)
}

func (pl *plan) caught(it *item) {
	if it.again {
		pl.less[it.key]++
	}
}

// catchUp applies the next piece of what the released keys have missed. A hold goes first, and so does what a hold left
// applied beyond the offset: events of parked keys there would be taken for applied.
func (w *worker) catchUp(ctx context.Context) error {
	if w.hold != nil || len(w.ahead) > 0 {
		return nil
	}
	read := max(w.next, w.unsaved)
	if w.behind == nil {
		from, ok := w.standing.Behind(read)
		if !ok {
			return nil
		}
		w.behind = &behind{next: max(0, from-int64(w.p.cfg.DedupWindow)), seen: newWindow(w.p.cfg.DedupWindow)}
	}
	b := w.behind
	recs, next, err := parked.Piece(w.p.read(ctx, w.n, b.next), read, func(r *stream.Record) bool {
		p := w.standing.Get(event.OrderingKey(r.Key))
		return p != nil && p.Released
	})
	if err != nil {
		return err
	}
	var items []item
	for i := range recs {
		it := w.p.understand(&recs[i])
		switch {
		case w.standing.Wants(&recs[i]):
			it.again = true
			items = append(items, it)
		case it.ev != nil:
			b.seen.add(it.ev.ID)
		}
	}
	if err := w.applyBy(ctx, items, w.commitAgain); err != nil {
		return err
	}
	b.next = next
	if next < read {
		return nil
	}
	w.behind = nil
	return w.caughtUp(ctx, next)
}

// commitAgain commits events of released keys, and with them where each stands now. The offset of the partition stays.
func (w *worker) commitAgain(ctx context.Context, items []item) error {
	for i := range items { // of a key that stopped again in this piece nothing more is done
		if p := w.standing.Get(items[i].key); p == nil || !p.Released {
			items[i].ev, items[i].poison = nil, nil
		}
	}
	pl := w.plan(items)
	var caught []readmodel.Caught
	at := map[event.OrderingKey]int{}
	for i := range items {
		k := items[i].key
		if p := w.standing.Get(k); pl.parks[k] != nil || p == nil || !p.Released {
			continue
		}
		j, ok := at[k]
		if !ok {
			j = len(caught)
			at[k] = j
			caught = append(caught, readmodel.Caught{Key: k, Less: pl.less[k]})
		}
		caught[j].First = items[i].offset + 1
	}
	if err := w.commitCaught(ctx, pl, caught, items[0].offset); err != nil {
		return err
	}
	for _, e := range pl.events {
		w.behind.seen.add(e.ID)
	}
	for _, k := range pl.parks {
		w.parked[k.Key] = k
		w.standing.Put(w.record(k))
	}
	w.p.stats.CaughtUp.Add(int64(len(items)))
	return nil
}

// caughtUp lets the released keys go with the others again: nothing of them is left below read.
func (w *worker) caughtUp(ctx context.Context, read int64) error {
	say := w.standing.Caught(read, read, nil)
	if len(say) == 0 {
		return nil
	}
	caught := make([]readmodel.Caught, len(say))
	for i, s := range say {
		caught[i] = readmodel.Caught{Key: s.Of.Key, Done: true}
		delete(w.parked, s.Of.Key)
	}
	pl := w.plan(nil) // progress without them
	err := w.retried(ctx, "read model", func(ctx context.Context) error { return w.commitCaught(ctx, pl, caught, w.next) })
	if err != nil {
		return err
	}
	for _, s := range say { // a crash in between: see stand
		if err := w.retried(ctx, "kafka", func(ctx context.Context) error { return w.p.out.Parked(ctx, s.Of.CaughtUp(read, true, w.p.now())) }); err != nil {
			return err
		}
		w.p.cfg.Log.Info("key has caught up", "migration", w.p.cfg.Migration, "partition", w.n, "key", s.Of.Key)
	}
	w.standing.Apply(say)
	// Repeats of what was applied just now may come: the memory of ids is made as a new owner would make it.
	w.seen = newWindow(w.p.cfg.DedupWindow)
	return w.remember(ctx, w.next, newTouched(w.p.m))
}

// commitCaught commits a plan of released keys, and shows it. from is where their documents must be rendered again from
// after a crash.
func (w *worker) commitCaught(ctx context.Context, pl *plan, caught []readmodel.Caught, from int64) error {
	if err := w.announceParked(ctx, pl.parked); err != nil {
		return err
	}
	if err := w.shownUp(ctx, true); err != nil {
		return err
	}
	next := max(w.next, w.unsaved)
	b := w.batchOf(pl, next, nil)
	b.Unshown, b.Caught = min(b.Unshown, from), caught
	if err := w.p.pg.Commit(ctx, b); err != nil {
		return err
	}
	w.batch, w.next, w.progress = w.batch+1, next, pl.progress
	w.unsaved, w.committed = 0, w.p.now()
	for _, c := range caught {
		if k := w.parked[c.Key]; k != nil {
			k.FirstOffset, k.Waiting = c.First, max(0, k.Waiting-c.Less)
		}
		if s := w.standing.Get(c.Key); s != nil && !c.Done {
			s.Offset = c.First
		}
	}
	w.p.stats.count(pl, len(b.Statements))
	return w.show(ctx, pl.touched, b.Unshown)
}
