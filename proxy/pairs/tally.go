package pairs

import (
	"context"
	"maps"
	"slices"
	"time"

	"banyan/proxy/capture"
	"banyan/proxy/event"
)

type tallyKey struct {
	migration event.Migration
	route     string
}

type tally struct {
	capture.Tally
	served     map[capture.Side][]uint64
	changed    bool
	generation int // that it counts for
}

// bounds are the upper bounds of latency buckets in microseconds: 100 us to 60 s, each about 1.26 times the one
// before, so that a percentile read from them is at most 26 % too high.
var bounds = func() []int64 {
	var out []int64
	for f := 100.0; f < 60e6; f *= 1.2589254117941673 {
		out = append(out, int64(f))
	}
	return out
}()

func (p *Pairs) tallyLocked(m event.Migration, route string) *tally {
	k := tallyKey{m, route}
	t, ok := p.tallies[k]
	if !ok {
		t = &tally{Tally: capture.Tally{V: capture.Version, Replica: p.cfg.Replica, Epoch: p.cfg.Epoch, Migration: m, Route: route,
			Dropped: map[string]uint64{}, FellBack: map[string]uint64{}, Fingerprint: p.cfg.Fingerprint}, served: map[capture.Side][]uint64{}, generation: 1}
		p.tallies[k] = t
	}
	t.changed = true
	return t
}

// Served implements migrate.Copies.
func (p *Pairs) Served(m event.Migration, route string, by capture.Side, took time.Duration) {
	i, _ := slices.BinarySearch(bounds, took.Microseconds())
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.tallyLocked(m, route)
	if t.served[by] == nil {
		t.served[by] = make([]uint64, len(bounds)+1)
	}
	t.served[by][i]++
}

// FellBack implements migrate.Copies.
func (p *Pairs) FellBack(m event.Migration, route, why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.tallyLocked(m, route)
	t.ByLegacy++
	t.Tally.FellBack[why]++
	if why == "own_writes" || why == "own_writes_unknown" {
		t.Waited++
	}
}

// Tallies are copies of the current ones.
func (p *Pairs) Tallies() []capture.Tally {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.copyLocked(false)
}

func (p *Pairs) copyLocked(changed bool) []capture.Tally {
	var out []capture.Tally
	for _, t := range p.tallies {
		if changed && !t.changed {
			continue
		}
		if changed {
			t.changed = false
			t.N++
			t.At = p.now()
		}
		c := t.Tally
		c.Dropped, c.FellBack, c.Fingerprint = maps.Clone(t.Dropped), maps.Clone(t.Tally.FellBack), p.fingerprint(t.generation)
		for _, side := range []capture.Side{capture.Legacy, capture.Candidate} {
			if b := t.served[side]; b != nil {
				c.Latency = append(c.Latency, capture.Latency{Served: side, Bounds: bounds, Buckets: slices.Clone(b)})
			}
		}
		out = append(out, c)
	}
	return out
}

func (p *Pairs) publishTallies() {
	p.mu.Lock()
	ts := p.copyLocked(true)
	var keys []tallyKey
	for k := range p.tallies {
		keys = append(keys, k)
	}
	p.mu.Unlock()
	for _, k := range keys { // what was counted until now belongs to the generation before, if there is another one now
		g := p.generation(k.migration)
		p.mu.Lock()
		p.tallies[k].generation = g
		p.mu.Unlock()
	}
	for _, t := range ts {
		if !p.cfg.Publish(event.KindTally, "", event.Encode(t)) {
			p.mu.Lock()
			p.tallyLocked(t.Migration, t.Route) // again with the next
			p.mu.Unlock()
		}
	}
}

func (p *Pairs) tell(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			p.publishTallies()
		}
	}
}
