package control

import (
	"context"
	"fmt"
	"log/slog"
	"sort"
	"strings"
	"sync"
	"time"

	"banyan/proxy/event"
	"banyan/proxy/kafka"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Watch follows the heartbeats of all proxies.
type Watch struct {
	log    *slog.Logger
	now    func() time.Time
	margin time.Duration
	read   reader

	mu      sync.Mutex // guards what follows
	beats   map[event.Replica]*Heartbeat
	changed chan struct{}
}

// WatchReplicas starts to read heartbeats. margin is how far clocks of proxies may be off (max_clock_error).
func WatchReplicas(ctx context.Context, cfg kafka.Config, log *slog.Logger, margin time.Duration) (*Watch, error) {
	w := &Watch{log: log, now: time.Now, margin: margin, beats: map[event.Replica]*Heartbeat{}, changed: make(chan struct{})}
	w.read = reader{cfg: cfg, topic: cfg.Topics().Replicas(), log: log, apply: w.apply}
	return w, w.read.start(ctx)
}

// Ready is closed when every heartbeat that was there at the start has been read.
func (w *Watch) Ready() <-chan struct{} { return w.read.ready }

// Stop ends the reader.
func (w *Watch) Stop() { w.read.stop() }

func (w *Watch) apply(r *kgo.Record) {
	if kafka.KindOf(r) != event.KindHeartbeat {
		return
	}
	h, err := DecodeHeartbeat(r.Value)
	if err != nil {
		w.log.Warn("a heartbeat cannot be read", "offset", r.Offset, "error", err)
		return
	}
	w.mu.Lock()
	w.beats[h.Replica] = h
	changed := w.changed
	w.changed = make(chan struct{})
	w.mu.Unlock()
	close(changed)
}

// Seen waits until the proxy of this epoch, or a later one, has been heard of.
func (w *Watch) Seen(ctx context.Context, r event.Replica, e event.Epoch) error {
	for {
		w.mu.Lock()
		h, changed := w.beats[r], w.changed
		w.mu.Unlock()
		if h != nil && h.Epoch >= e {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("no heartbeat of %s: %w", r, context.Cause(ctx))
		}
	}
}

// Live are the proxies whose lease runs, sorted by replica.
func (w *Watch) Live() []Heartbeat {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []Heartbeat
	for _, h := range w.beats {
		if w.mayObeyLocked(h) {
			out = append(out, *h)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Replica < out[j].Replica })
	return out
}

// mayObeyLocked: until its lease has surely run out, a proxy counts.
func (w *Watch) mayObeyLocked(h *Heartbeat) bool {
	return !h.Gone && w.now().Before(h.Until.Add(w.margin))
}

// Await returns when every proxy that may obey anything obeys at least version of the migration. The error of an
// ended context names the proxies that are missing.
func (w *Watch) Await(ctx context.Context, m event.Migration, version uint64) ([]Heartbeat, error) {
	for {
		w.mu.Lock()
		var late []string
		var retry time.Duration
		for _, h := range w.beats {
			if w.mayObeyLocked(h) && h.Obeys[m] < version {
				late = append(late, string(h.Replica))
				if d := h.Until.Add(w.margin).Sub(w.now()); retry == 0 || d < retry {
					retry = d
				}
			}
		}
		changed := w.changed
		w.mu.Unlock()
		if len(late) == 0 {
			return w.Live(), nil
		}
		timer := time.NewTimer(retry + time.Millisecond)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			sort.Strings(late)
			return w.Live(), fmt.Errorf("not every proxy has said that it obeys: waiting for %s: %w", strings.Join(late, ", "), ctx.Err())
		}
		timer.Stop()
	}
}
