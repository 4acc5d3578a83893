// Package pending knows how far the read models are, so that a session reads its own writes.
//
// It promises: [Tracker.Wait] says yes only when the read model of the key's partition holds the write: its sequence is
// covered, and neither it nor its key is listed as incomplete. It says no as soon as waiting cannot help within the
// bound. Tokens ([Tokens]) carry a session's newest writes in a cookie, so that any proxy can wait for a write that
// another one took. It leaves publishing progress to project, and what to do on a no (legacy answers) to the handler.
// It fails towards no: without news nothing is known to hold anything.
//
// # Not obvious
//
//   - A forged or foreign token can only make its own reader wait, or read from legacy; it is not signed.
//   - Progress of an older generation, or an older clock of the same one, never replaces newer news: the topic is
//     compacted by partition, but two projectors may overlap for a moment after a rebalance. (TestOlderNewsIsDropped)
package pending

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"banyan/proxy/event"
	"banyan/proxy/kafka"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Tracker follows `<p>.progress`. It is safe for concurrent use.
type Tracker struct {
	partitions int32
	log        *slog.Logger
	cancel     context.CancelFunc
	done       chan struct{}

	mu    sync.Mutex // guards what follows
	parts map[part]*state
}

type part struct {
	migration event.Migration
	partition int32
}

type state struct {
	p       event.Progress
	changed chan struct{} // closed and renewed with each news
}

// New makes a tracker that knows nothing yet.
func New(partitions int32, log *slog.Logger) *Tracker {
	return &Tracker{partitions: partitions, log: log, parts: map[part]*state{}}
}

// Start follows the topic until Stop.
func (t *Tracker) Start(ctx context.Context, cfg kafka.Config) error {
	cl, err := cfg.Client("banyan-pending", kgo.FetchMaxWait(250*time.Millisecond),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{cfg.Topics().Progress(): {0: kgo.NewOffset().AtStart()}}))
	if err != nil {
		return err
	}
	ctx, t.cancel = context.WithCancel(ctx)
	t.done = make(chan struct{})
	go func() {
		defer close(t.done)
		defer cl.Close()
		for ctx.Err() == nil {
			cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
				if kafka.KindOf(r) != event.KindProgress {
					return
				}
				p, err := event.DecodeProgress(r.Value)
				if err != nil {
					t.log.Warn("progress cannot be read; reads that wait for it go to legacy", "offset", r.Offset, "error", err)
					return
				}
				t.Put(p)
			})
		}
	}()
	return nil
}

// Stop returns when the reader has ended.
func (t *Tracker) Stop() {
	t.cancel()
	<-t.done
}

// Put takes news.
func (t *Tracker) Put(p *event.Progress) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.getLocked(part{p.Migration, p.Partition})
	if p.Generation < s.p.Generation || p.Generation == s.p.Generation && p.At.Before(s.p.At) {
		return
	}
	s.p = *p
	close(s.changed)
	s.changed = make(chan struct{})
}

func (t *Tracker) getLocked(k part) *state {
	s, ok := t.parts[k]
	if !ok {
		s = &state{changed: make(chan struct{})}
		t.parts[k] = s
	}
	return s
}

// Progress is the newest news of the key's partition, and a channel that is closed at the next.
func (t *Tracker) Progress(m event.Migration, k event.OrderingKey) (event.Progress, <-chan struct{}) {
	return t.Partition(m, event.Partition(k, t.partitions))
}

// Partition is [Tracker.Progress] of a partition by number.
func (t *Tracker) Partition(m event.Migration, n int32) (event.Progress, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.getLocked(part{m, n})
	return s.p, s.changed
}

// Wait says whether the read model holds all writes of the key, waiting for at most d.
func (t *Tracker) Wait(ctx context.Context, m event.Migration, k event.OrderingKey, writes []event.WriteID, d time.Duration) bool {
	return t.until(ctx, m, k, d, func(p *event.Progress) bool {
		for _, w := range writes {
			if !p.Holds(w, k) {
				return false
			}
		}
		return true
	})
}

// Passed says whether the read model holds everything that legacy had committed at the instant, waiting for at most
// d: its progress includes a fence that was sent after it.
func (t *Tracker) Passed(ctx context.Context, m event.Migration, k event.OrderingKey, at time.Time, d time.Duration) bool {
	return t.until(ctx, m, k, d, func(p *event.Progress) bool {
		n := len(p.Fences)
		return n > 0 && p.Fences[n-1].Sent.After(at)
	})
}

// Reached waits until every partition's read model is at or above the position; it fails only with the context.
func (t *Tracker) Reached(ctx context.Context, m event.Migration, at event.Position) error {
	for n := range t.partitions {
		for {
			t.mu.Lock()
			s := t.getLocked(part{m, n})
			there, changed := s.p.Position >= at && !s.p.At.IsZero(), s.changed
			t.mu.Unlock()
			if there {
				break
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return fmt.Errorf("partition %d of %s is not at %s yet: %w", n, m, at, context.Cause(ctx))
			}
		}
	}
	return nil
}

// Serves says whether the read model may answer for the key at all: there is news of its partition, and the key is
// neither held nor parked.
func (t *Tracker) Serves(m event.Migration, k event.OrderingKey) bool {
	p, _ := t.Progress(m, k)
	if p.At.IsZero() {
		return false
	}
	for _, x := range p.Parked {
		if x == k {
			return false
		}
	}
	return true
}

func (t *Tracker) until(ctx context.Context, m event.Migration, k event.OrderingKey, d time.Duration, ok func(*event.Progress) bool) bool {
	var timer *time.Timer
	for {
		p, changed := t.Progress(m, k)
		if ok(&p) {
			return true
		}
		if d <= 0 {
			return false
		}
		if timer == nil {
			timer = time.NewTimer(d)
			defer timer.Stop()
		}
		select {
		case <-changed:
		case <-timer.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}
