package project

import (
	"context"
	"fmt"

	"banyan/proxy/event"
	"banyan/shadow/readmodel"
)

// showing is a committed batch on its way to Redis and to `.progress`. PostgreSQL may commit the next batch meanwhile, no
// more: at most two batches are ever unshown, and banyan_partition says where they begin, so that a successor shows them.
type showing struct {
	from     int64 // offset at which its batch begins
	progress event.Progress
	done     chan struct{}
	err      error // after done
}

// show makes a committed batch visible. Documents are rendered before this returns, so that they show this batch and not
// the next; they are written in the background.
func (w *worker) show(ctx context.Context, t *touched, from int64) error {
	// The version grows with every batch, also when a key's old events come late.
	v := readmodel.Version{Position: w.progress.Applied, Sequence: w.batch}
	var docs []readmodel.Document
	err := w.retried(ctx, "documents", func(ctx context.Context) (err error) {
		docs, err = t.render(ctx, w.p.pg, v, w.p.cfg.Log)
		return err
	})
	if err != nil {
		return err
	}
	if err := w.shownUp(ctx, true); err != nil {
		return err
	}
	s := &showing{from: from, progress: w.progress, done: make(chan struct{})}
	before := w.shown
	before.Applied = s.progress.Applied
	w.showing = s
	go func() { // ends with ctx at the latest; Close waits for it
		defer close(s.done)
		s.err = w.publish(ctx, docs, &before, &s.progress, v)
	}()
	if len(docs) == 0 {
		return w.shownUp(ctx, true)
	}
	return nil
}

// shownUp takes note of what was shown; it waits for it, or looks only.
func (w *worker) shownUp(ctx context.Context, wait bool) error {
	s := w.showing
	if s == nil {
		return nil
	}
	if !wait {
		select {
		case <-s.done:
		default:
			return nil
		}
	}
	select {
	case <-s.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if s.err != nil {
		return s.err
	}
	w.shown, w.showing = s.progress, nil
	return nil
}

// publish writes Applied before the documents and Position after them, so that a reader of Redis never sees more than it
// is told; then it tells `.progress`. It reads nothing that the worker's goroutine changes.
func (w *worker) publish(ctx context.Context, docs []readmodel.Document, before, progress *event.Progress, v readmodel.Version) error {
	if r := w.p.redis; r != nil {
		err := w.retried(ctx, "redis", func(ctx context.Context) error {
			if len(docs) > 0 {
				if err := r.SetProgress(ctx, before, v); err != nil {
					return err
				}
			}
			older, err := r.Set(ctx, docs)
			if err != nil {
				return err
			}
			w.p.stats.Documents.Add(int64(len(docs)))
			w.p.stats.Older.Add(int64(older))
			return r.SetProgress(ctx, progress, v)
		})
		if err != nil {
			return fmt.Errorf("show batch: %w", err)
		}
	}
	w.p.told(w, *progress)
	return w.retried(ctx, "kafka", func(ctx context.Context) error { return w.p.out.Progress(ctx, progress) })
}
