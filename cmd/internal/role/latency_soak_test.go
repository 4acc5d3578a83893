//go:build soak

package role

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"syscall"
	"testing"
	"time"

	"banyan/cmd/internal/play"
	"banyan/proxy/event"
	"banyan/proxy/stage"
	"banyan/shadow/stream"
	"banyan/testdata/game"
)

// How long a write takes from legacy's answer to the read model, and where: by the records themselves, which carry the
// time at which each hop handed them to Kafka. It asserts nothing about time; its log is read before and after a change.
func TestSoakLatency(t *testing.T) {
	w := newWorld(t, game.Size{Matches: 4, Players: 8, Provinces: 16, Units: 60})
	p := w.process()
	w.startService()
	w.flipTo(p, "units", stage.State{Stage: stage.DualWrite})
	if err := w.shadow.Backfill(t.Context(), "units", false, nil); err != nil {
		t.Fatal(err)
	}
	w.caughtUp("units")
	idle := ownCPU(t)
	time.Sleep(10 * time.Second) // what standing still costs
	t.Logf("idle: %.1f %% of a core", float64(ownCPU(t)-idle)/float64(10*time.Second)*100)
	for _, load := range []play.Config{
		{Players: 16, Matches: 4, Rate: 20, Requests: 500, Seed: 5},
		{Players: 16, Matches: 4, Rate: 60, Requests: 1500, Seed: 6},
	} {
		began, used := time.Now(), ownCPU(t)
		w.play(load)
		took := time.Since(began)
		t.Logf("%.0f things a second for %s, %.0f %% of a core in this process", load.Rate, took.Round(time.Second), float64(ownCPU(t)-used)/float64(took)*100)
		w.caughtUp("units")
		w.trace("units", began)
	}
}

func ownCPU(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// traced is one write's way.
type traced struct {
	write     event.WriteID
	key       event.OrderingKey
	partition int32
	end       time.Time
	at        map[string]time.Time
}

var hops = []string{"shipped", "listed as done", "changes read", "changes shipped", "fence after it", "fence shipped", "settled", "settled mark", "events' mark", "read model"}

func (w *world) trace(m event.Migration, since time.Time) {
	w.t.Helper()
	topics := w.f.Kafka.Topics()
	var writes []*traced
	byID := map[event.WriteID]*traced{}
	for n := range w.f.Kafka.Partitions {
		for r := range w.records(topics.Writes(), n) {
			if r.Kind != event.KindWrite {
				continue
			}
			x, err := event.DecodeWrite(r.Value)
			if err != nil {
				w.t.Fatal(err)
			}
			if x.Migration != m || x.Result.Outcome != event.Applied || x.Intent.At.Before(since) {
				continue
			}
			_, end := x.Interval()
			tr := &traced{write: x.ID, key: x.Key, partition: n, end: end, at: map[string]time.Time{"shipped": r.Time}}
			writes = append(writes, tr)
			byID[x.ID] = tr
		}
	}
	held := map[string][]time.Duration{}
	for n := range w.f.Kafka.Partitions {
		w.traceWrites(topics, n, writes)
		w.traceChanges(topics, n, byID, writes, since)
		w.traceMarks(topics.Settled(), n, "settled mark", writes)
		w.traceMarks(topics.Events(m, 1), n, "events' mark", writes)
		for r := range w.records(topics.Settled(), n) {
			if r.Kind != event.KindEntry {
				continue
			}
			e, err := event.DecodeEntry(r.Value)
			if err != nil {
				w.t.Fatal(err)
			}
			for i := range e.Writes {
				if tr := byID[e.Writes[i].Write.ID]; tr != nil && e.Migration == m {
					tr.first("settled", r.Time)
				}
			}
		}
		w.traceHeld(topics, n, since, held)
	}
	for r := range w.records(topics.Progress(), 0) {
		p, err := event.DecodeProgress(r.Value)
		if err != nil || p.Migration != m {
			continue
		}
		for _, tr := range writes {
			if tr.partition == p.Partition && p.Holds(tr.write, tr.key) {
				tr.first("read model", r.Time)
			}
		}
	}
	for _, h := range hops {
		var ds []time.Duration
		for _, tr := range writes {
			if at, ok := tr.at[h]; ok {
				ds = append(ds, at.Sub(tr.end))
			}
		}
		w.t.Logf("%-16s %s", h, quantiles(ds))
	}
	for _, what := range []string{"key", "keys of all marks, %"} {
		w.t.Logf("held: %-20s %s", what, quantiles(held[what]))
	}
}

func (tr *traced) first(hop string, at time.Time) {
	if _, ok := tr.at[hop]; !ok {
		tr.at[hop] = at
	}
}

func (w *world) records(topic string, partition int32) func(yield func(stream.Record) bool) {
	return func(yield func(stream.Record) bool) {
		for r, err := range stream.ReadTo(w.t.Context(), w.f.Kafka, topic, partition, stream.Earliest) {
			if err != nil {
				w.t.Fatal(err)
			}
			if !yield(r) {
				return
			}
		}
	}
}

func (w *world) traceWrites(topics event.Topics, n int32, writes []*traced) {
	for r := range w.records(topics.Writes(), n) {
		if r.Kind != event.KindReplicaMark {
			continue
		}
		m, err := event.DecodeReplicaMark(r.Value)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, tr := range writes {
			listed := slices.ContainsFunc(m.InFlight, func(f event.InFlight) bool { return f.Seq == tr.write.Seq })
			if tr.partition == n && m.Seq >= tr.write.Seq && !listed {
				tr.first("listed as done", r.Time)
			}
		}
	}
}

func (w *world) traceChanges(topics event.Topics, n int32, byID map[event.WriteID]*traced, writes []*traced, since time.Time) {
	for r := range w.records(topics.Changes(), n) {
		switch r.Kind {
		case event.KindChange:
			c, err := event.DecodeChange(r.Value)
			if err != nil {
				w.t.Fatal(err)
			}
			if tr := byID[c.Write]; tr != nil {
				tr.at["changes read"], tr.at["changes shipped"] = c.Received, r.Time
			}
		case event.KindReaderMark:
			m, err := event.DecodeReaderMark(r.Value)
			if err != nil {
				w.t.Fatal(err)
			}
			for _, f := range m.Fences {
				for _, tr := range writes {
					if tr.partition == n && f.Sent.After(tr.end.Add(w.f.Settle.MaxClockError)) {
						tr.first("fence after it", f.Sent)
						tr.first("fence shipped", r.Time)
					}
				}
			}
		}
	}
}

func (w *world) traceMarks(topic string, n int32, hop string, writes []*traced) {
	for r := range w.records(topic, n) {
		if r.Kind != event.KindSettledMark {
			continue
		}
		m, err := event.DecodeSettledMark(r.Value)
		if err != nil {
			w.t.Fatal(err)
		}
		p := event.Progress{Replicas: m.Replicas, Unsettled: m.Unsettled, Held: m.Held}
		for _, tr := range writes {
			if tr.partition == n && p.Holds(tr.write, tr.key) {
				tr.first(hop, r.Time)
			}
		}
	}
}

// traceHeld collects for how long keys were held, and of how many marks each.
func (w *world) traceHeld(topics event.Topics, n int32, since time.Time, held map[string][]time.Duration) {
	from := map[string]time.Time{}
	marks, of := map[string]int{}, 0
	for r := range w.records(topics.Settled(), n) {
		if r.Kind != event.KindSettledMark || r.Time.Before(since) {
			continue
		}
		m, err := event.DecodeSettledMark(r.Value)
		if err != nil {
			w.t.Fatal(err)
		}
		of++
		now := map[string]bool{}
		for _, h := range m.Held {
			k := string(h.Migration) + " " + string(h.Key)
			now[k] = true
			marks[k]++
			if _, ok := from[k]; !ok {
				from[k] = r.Time
			}
		}
		for k, at := range from {
			if !now[k] {
				held["key"] = append(held["key"], r.Time.Sub(at))
				delete(from, k)
			}
		}
	}
	for _, c := range marks {
		held["keys of all marks, %"] = append(held["keys of all marks, %"], time.Duration(c*100/of)*time.Millisecond)
	}
}

func quantiles(ds []time.Duration) string {
	if len(ds) == 0 {
		return "none"
	}
	sort.Slice(ds, func(i, j int) bool { return ds[i] < ds[j] })
	var b strings.Builder
	fmt.Fprintf(&b, "n %5d", len(ds))
	for _, q := range []float64{0.5, 0.9, 0.99, 1} {
		fmt.Fprintf(&b, "  p%.0f %7.1f ms", q*100, float64(ds[min(len(ds)-1, int(q*float64(len(ds))))])/1e6)
	}
	return b.String()
}
