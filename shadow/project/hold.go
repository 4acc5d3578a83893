package project

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"banyan/proxy/event"
	"banyan/shadow/readmodel"
)

// ErrPassed says that the read model is beyond the position already: take a later one.
var ErrPassed = errors.New("the read model has passed the position")

// ErrHoldEnded says that the work was not done while events were kept back for no longer than Config.HoldMax.
var ErrHoldEnded = errors.New("the hold ran out")

var (
	errClosed  = errors.New("the partition is not projected here (any more)")
	errRefused = errors.New("the hold was given up: an event on the way was refused or out of order")
)

type holdRequest struct {
	ctx  context.Context
	at   func(context.Context) (event.Position, error)
	then func(context.Context, event.Progress) error
	done chan error // takes one
}

// holding is a partition on its way to exactly one position. Events beyond it wait in deferred; what is applied past the
// first of them is remembered as ahead, so that a crash repeats nothing.
type holding struct {
	req      *holdRequest
	pos      event.Position
	deferred []item
	keys     map[event.OrderingKey]bool // of deferred
	ahead    []int64
	paused   time.Time // when the first event was kept back

	// marked: a mark at or beyond the position has come. missing are the keys that it lists as held at or below it: their
	// events may still come.
	marked  bool
	missing []event.Held
}

// Hold stops a partition at exactly one position: it pauses projecting, asks at for the position (typically by opening
// legacy's snapshot meanwhile), applies what is missing up to there and nothing beyond, calls then, and goes on. Getting
// there may take as long as the read model lags, and costs nothing; from the first event that is kept back on, all of it
// ends within Config.HoldMax. Half of that it waits for keys that are held at or below the position: then the given
// progress lists them. They, and parked keys, are not at that position.
func (p *Projector) Hold(ctx context.Context, partition int32, at func(context.Context) (event.Position, error), then func(context.Context, event.Progress) error) error {
	w := p.worker(partition)
	if w == nil {
		return errClosed
	}
	r := &holdRequest{ctx: ctx, at: at, then: then, done: make(chan error, 1)}
	select {
	case w.holds <- r:
	case <-w.closed:
		return errClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return <-r.done // the worker answers soon after ctx has ended
}

// serve applies items, by way of a hold if one is asked for.
func (w *worker) serve(ctx context.Context, items []item) error {
	if w.hold == nil {
		select {
		case r := <-w.holds:
			w.accept(r)
		default:
		}
	}
	if w.hold == nil {
		return w.apply(ctx, items)
	}
	return w.held(ctx, items)
}

func (w *worker) accept(r *holdRequest) {
	ctx, cancel := context.WithTimeoutCause(r.ctx, w.p.cfg.HoldMax, ErrHoldEnded)
	defer cancel()
	pos, err := r.at(ctx)
	if err == nil && w.progress.Applied > pos {
		err = fmt.Errorf("%w: it is at %s, asked for %s", ErrPassed, w.progress.Applied, pos)
	}
	if err != nil {
		r.done <- err
		return
	}
	w.hold = &holding{req: r, pos: pos, keys: map[event.OrderingKey]bool{}}
}

// held takes the partition nearer to the position. What it cannot apply now it defers; a hold that fails costs only that.
func (w *worker) held(ctx context.Context, items []item) error {
	h := w.hold
	now, reached, ordered := h.split(w, items)
	why := context.Cause(h.req.ctx)
	switch {
	case why != nil:
	case !ordered:
		why = errRefused
	case h.kept(w) > w.p.cfg.HoldMax || len(h.deferred) > 4*w.p.cfg.Batch:
		why = ErrHoldEnded
	}
	if why != nil {
		return w.giveUp(ctx, now, why)
	}
	if len(now) > 0 || reached {
		next, ahead := h.offsets(w, now)
		pos := event.Position(0)
		if reached {
			pos = h.pos
		}
		err := w.retried(ctx, "read model", func(ctx context.Context) error { return w.commitTo(ctx, now, next, ahead, pos) })
		if readmodel.IsData(err) {
			return w.giveUp(ctx, now, errRefused)
		}
		if err != nil {
			return err
		}
		h.ahead = ahead
	}
	if !reached {
		return nil
	}
	then, cancel := context.WithTimeoutCause(h.req.ctx, w.p.cfg.HoldMax-h.kept(w), ErrHoldEnded)
	defer cancel()
	err := h.req.then(then, w.progress)
	if err == nil && then.Err() != nil {
		err = context.Cause(then)
	}
	return w.giveUp(ctx, nil, err)
}

// kept is for how long events have been kept back.
func (h *holding) kept(w *worker) time.Duration {
	if h.paused.IsZero() {
		return 0
	}
	return w.p.now().Sub(h.paused)
}

// giveUp ends the hold and applies what waited for it.
func (w *worker) giveUp(ctx context.Context, now []item, err error) error {
	h := w.hold
	w.hold = nil
	h.req.done <- err
	all := slices.Concat(h.deferred, now)
	slices.SortFunc(all, func(a, b item) int { return cmp.Compare(a.offset, b.offset) })
	return w.apply(ctx, all)
}

// split takes from items what belongs to the position and defers the rest. A mark at or beyond the position says that
// nothing below it can come any more, but for the keys that it lists as held. Marks on the way are left out: the last one
// is deferred, and says it all.
func (h *holding) split(w *worker, items []item) (now []item, reached, ordered bool) {
	ordered = true
	if !h.marked && w.progress.Position >= h.pos {
		h.mark(w, w.progress.Held)
	}
	for i := range items {
		it := &items[i]
		switch {
		case h.marked && len(h.missing) == 0:
			h.deferred = append(h.deferred, *it)
		case it.mark != nil && it.mark.Position >= h.pos:
			h.mark(w, it.mark.Held)
			h.deferred = append(h.deferred, *it)
		case it.ev != nil && it.ev.Position > h.pos:
			h.deferred = append(h.deferred, *it)
			h.keys[it.key] = true
		default:
			if it.mark != nil {
				it.mark = nil
			}
			if it.ev != nil && h.keys[it.key] {
				ordered = false // an earlier event of its key waits
			}
			now = append(now, *it)
		}
	}
	if h.paused.IsZero() && len(h.deferred) > 0 {
		h.paused = w.p.now()
	}
	return now, h.marked && (len(h.missing) == 0 || h.kept(w) > w.p.cfg.HoldMax/2), ordered
}

func (h *holding) mark(w *worker, held []event.Held) {
	h.marked = true
	h.missing = slices.DeleteFunc(slices.Clone(held), func(x event.Held) bool { return x.Migration != w.p.cfg.Migration || x.From > h.pos })
	if h.paused.IsZero() && len(h.missing) > 0 {
		h.paused = w.p.now()
	}
}

// offsets are where the partition stands when now is applied: at the first deferred record, with what lies beyond it.
func (h *holding) offsets(w *worker, now []item) (next int64, ahead []int64) {
	next = w.next
	if len(now) > 0 {
		next = max(next, now[len(now)-1].offset+1)
	}
	ahead = slices.Clone(w.ahead)
	if len(h.deferred) == 0 {
		return next, slices.DeleteFunc(ahead, func(o int64) bool { return o < next })
	}
	next = h.deferred[0].offset
	for _, it := range now {
		if it.offset > next {
			ahead = append(ahead, it.offset)
		}
	}
	return next, slices.DeleteFunc(ahead, func(o int64) bool { return o < next })
}
