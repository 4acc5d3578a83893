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
//   - An older clock never replaces newer news of its generation: the topic is compacted by partition, but two projectors
//     may overlap for a moment after a rebalance. (TestOlderNewsIsDropped)
//   - A read model holds a write only if every generation that some reader may be using holds it: the current one, and
//     from a swap on until it is retired the one before. One that is being built says nothing, however far it is.
//     (TestABuildingGenerationSaysNothing, TestBothGenerationsHoldFromTheSwapOn)
//   - Only news with fresh fences list them, and a held key is behind its partition: [Tracker.Passed] remembers the one and
//     asks for the other. (TestPassedNeedsAFenceSentLater)
package pending

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sort"
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
	read  func(event.Migration) []int
	now   func() time.Time
}

type part struct {
	migration  event.Migration
	partition  int32
	generation int
}

type state struct {
	p       event.Progress
	fences  []event.Fence // the newest that were told, in order of Sent
	behind  time.Duration // smoothed: how old the newest complete state was when news of it came
	changed chan struct{} // closed and renewed with each news
}

// maxFences bounds the fences that are kept of a partition: those of some ten seconds. For what was before the oldest
// it stands in, and asks for more than is needed.
const maxFences = 512

// learn keeps the fences of news, also of news that comes too late: they tell of legacy, not of the read model.
func (s *state) learn(fs []event.Fence) {
	for _, f := range fs {
		if n := len(s.fences); n == 0 || f.Sent.After(s.fences[n-1].Sent) {
			s.fences = append(s.fences, f)
		}
	}
	if n := len(s.fences) - maxFences; n > 0 {
		s.fences = append(s.fences[:0:0], s.fences[n:]...)
	}
}

// lag smooths how far the news are behind: the age of the newest fence that they are complete up to.
func (s *state) lag(now time.Time) {
	i := sort.Search(len(s.fences), func(i int) bool { return s.fences[i].Position > s.p.Position })
	if i == 0 {
		return
	}
	age := max(0, now.Sub(s.fences[i-1].Sent))
	if s.behind == 0 {
		s.behind = age
	}
	s.behind += (age - s.behind) / 8
}

// after is the position of the first fence that was sent after the instant: what legacy showed until then is not above.
func (s *state) after(t time.Time) (event.Position, bool) {
	i := sort.Search(len(s.fences), func(i int) bool { return s.fences[i].Sent.After(t) })
	if i == len(s.fences) {
		return 0, false
	}
	return s.fences[i].Position, true
}

// New makes a tracker that knows nothing yet.
func New(partitions int32, log *slog.Logger) *Tracker {
	return &Tracker{partitions: partitions, log: log, parts: map[part]*state{}, read: func(event.Migration) []int { return first }, now: time.Now}
}

var first = []int{1}

// Read has the tracker ask which generations readers may be using, the current one first. Without it, the first. It is
// called for each question, and must be quick; call it before Start.
func (t *Tracker) Read(generations func(event.Migration) []int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.read = generations
}

// Start follows the topic until Stop.
func (t *Tracker) Start(ctx context.Context, cfg kafka.Config) error {
	cl, err := cfg.Client("banyan-pending", kgo.FetchMaxWait(5*time.Second), // news ends it at once
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
	s := t.getLocked(part{p.Migration, p.Partition, p.Generation})
	s.learn(p.Fences)
	if p.At.Before(s.p.At) {
		return
	}
	s.p = *p
	s.lag(t.now())
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

// generations are those that readers of a migration may be using. The state behind them is not asked under the lock.
func (t *Tracker) generations(m event.Migration) []int {
	t.mu.Lock()
	read := t.read
	t.mu.Unlock()
	return read(m)
}

// Progress is the newest news of the key's partition in the current generation, and a channel that is closed at the next.
func (t *Tracker) Progress(m event.Migration, k event.OrderingKey) (event.Progress, <-chan struct{}) {
	return t.Partition(m, event.Partition(k, t.partitions))
}

// Partition is [Tracker.Progress] of a partition by number.
func (t *Tracker) Partition(m event.Migration, n int32) (event.Progress, <-chan struct{}) {
	return t.Generation(m, t.generations(m)[0], n)
}

// Generation is [Tracker.Partition] of a generation, whether it is read or not.
func (t *Tracker) Generation(m event.Migration, generation int, n int32) (event.Progress, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.getLocked(part{m, n, generation})
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

// Passed says whether the read model holds everything of the key that legacy had committed at the instant, waiting for at
// most d: it is complete up to the first fence that was sent after it.
func (t *Tracker) Passed(ctx context.Context, m event.Migration, k event.OrderingKey, at time.Time, d time.Duration) bool {
	return t.until(ctx, m, k, d, func(p *event.Progress) bool {
		return p.Complete(k) >= t.after(m, p.Generation, k, at)
	})
}

// Expect guesses how long it takes from now until the read model shows what legacy had committed at the instant, from how
// far it was behind lately. It is a guess for whoever chooses between waiting and asking legacy; zero while nothing is known.
func (t *Tracker) Expect(m event.Migration, k event.OrderingKey, at time.Time) time.Duration {
	behind := time.Duration(0)
	for _, g := range t.generations(m) {
		t.mu.Lock()
		behind = max(behind, t.getLocked(part{m, event.Partition(k, t.partitions), g}).behind)
		t.mu.Unlock()
	}
	return max(0, at.Add(behind).Sub(t.now()))
}

// after is the position up to which legacy may have shown things at an instant, the highest if that is not known yet.
func (t *Tracker) after(m event.Migration, generation int, k event.OrderingKey, at time.Time) event.Position {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f, ok := t.getLocked(part{m, event.Partition(k, t.partitions), generation}).after(at); ok {
		return f
	}
	return ^event.Position(0)
}

// Reached waits until every partition of a generation is at or above the position; it fails only with the context.
func (t *Tracker) Reached(ctx context.Context, m event.Migration, generation int, at event.Position) error {
	for n := range t.partitions {
		for {
			p, changed := t.Generation(m, generation, n)
			if p.Position >= at && !p.At.IsZero() {
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
	for _, g := range t.generations(m) {
		p, _ := t.Generation(m, g, event.Partition(k, t.partitions))
		if p.At.IsZero() || slices.Contains(p.Parked, k) {
			return false
		}
	}
	return true
}

func (t *Tracker) until(ctx context.Context, m event.Migration, k event.OrderingKey, d time.Duration, ok func(*event.Progress) bool) bool {
	var timer *time.Timer
	for {
		// Each time anew: with a swap the generations change while somebody waits.
		changed, all := (<-chan struct{})(nil), true
		for _, g := range t.generations(m) {
			p, news := t.Generation(m, g, event.Partition(k, t.partitions))
			if !ok(&p) {
				changed, all = news, false
				break
			}
		}
		if all {
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
