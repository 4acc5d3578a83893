package pairs

import (
	"context"
	"maps"
	"slices"
	"time"

	"banyan/proxy/capture"
	"banyan/proxy/event"
	"banyan/proxy/migrate"
)

type tallyKey struct {
	migration event.Migration
	route     string
	config    string // fingerprint of the config that the reads were served by
}

// keyOf is a read's while its Fingerprint is the config's.
func keyOf(r *migrate.Read) tallyKey { return tallyKey{r.Migration, r.Route, r.Fingerprint} }

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

func (p *Pairs) tallyLocked(k tallyKey) *tally {
	t, ok := p.tallies[k]
	if !ok {
		t = &tally{Tally: capture.Tally{V: capture.Version, Replica: p.cfg.Replica, Epoch: p.cfg.Epoch, Migration: k.migration, Route: k.route,
			Dropped: map[string]uint64{}, FellBack: map[string]uint64{}, Config: k.config}, served: map[capture.Side][]uint64{}, generation: 1}
		p.tallies[k] = t
	}
	t.changed = true
	return t
}

// Served implements migrate.Copies.
func (p *Pairs) Served(m event.Migration, route string, by capture.Side, took time.Duration) {
	p.served(tallyKey{m, route, p.cfg.Fingerprint}, by, took)
}

func (p *Pairs) served(k tallyKey, by capture.Side, took time.Duration) {
	i, _ := slices.BinarySearch(bounds, took.Microseconds())
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.tallyLocked(k)
	if t.served[by] == nil {
		t.served[by] = make([]uint64, len(bounds)+1)
	}
	t.served[by][i]++
}

// FellBack implements migrate.Copies.
func (p *Pairs) FellBack(m event.Migration, route, why string) {
	p.fellBack(tallyKey{m, route, p.cfg.Fingerprint}, why)
}

func (p *Pairs) fellBack(k tallyKey, why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.tallyLocked(k)
	t.ByLegacy++
	t.Tally.FellBack[why]++
	if why == "own_writes" || why == "own_writes_unknown" {
		t.Waited++
	}
}

// Tallies are what was counted since the epoch began, under all configs together: one for each route. Their fingerprint
// is that of the newest.
func (p *Pairs) Tallies() []capture.Tally {
	p.mu.Lock()
	defer p.mu.Unlock()
	sums := map[tallyKey]*tally{}
	for _, all := range []map[tallyKey]*tally{p.past, p.tallies} {
		for k, t := range all {
			k.config = ""
			if sums[k] == nil {
				sums[k] = emptyLike(t)
			}
			sums[k].add(t)
		}
	}
	return p.copyLocked(sums, false)
}

func emptyLike(o *tally) *tally {
	t := &tally{Tally: o.Tally, served: map[capture.Side][]uint64{}, generation: o.generation}
	t.N, t.Asked, t.Equal, t.Sent, t.Waited, t.ByLegacy = 0, 0, 0, 0, 0, 0
	t.Dropped, t.Tally.FellBack, t.Latency = map[string]uint64{}, map[string]uint64{}, nil
	return t
}

func (t *tally) add(o *tally) {
	t.N, t.Asked, t.Equal, t.Sent = t.N+o.N, t.Asked+o.Asked, t.Equal+o.Equal, t.Sent+o.Sent
	t.Waited, t.ByLegacy = t.Waited+o.Waited, t.ByLegacy+o.ByLegacy
	if o.At.After(t.At) {
		t.At, t.Config, t.generation = o.At, o.Config, o.generation
	}
	for why, n := range o.Dropped {
		t.Dropped[why] += n
	}
	for why, n := range o.Tally.FellBack {
		t.Tally.FellBack[why] += n
	}
	for side, buckets := range o.served {
		if t.served[side] == nil {
			t.served[side] = make([]uint64, len(buckets))
		}
		for i, n := range buckets {
			t.served[side][i] += n
		}
	}
}

func (p *Pairs) copyLocked(of map[tallyKey]*tally, changed bool) []capture.Tally {
	var out []capture.Tally
	for _, t := range of {
		if changed && !t.changed {
			continue
		}
		if changed {
			t.changed = false
			t.N++
			t.At = p.now()
		}
		c := t.Tally
		c.Dropped, c.FellBack, c.Fingerprint = maps.Clone(t.Dropped), maps.Clone(t.Tally.FellBack), Fingerprint(t.Config, t.generation)
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
	ts := p.copyLocked(p.tallies, true)
	var keys []tallyKey
	for k := range p.tallies {
		keys = append(keys, k)
	}
	p.mu.Unlock()
	for _, k := range keys { // what was counted until now belongs to the generation before, if there is another one now
		g := p.generation(k.migration)
		p.mu.Lock()
		if t := p.tallies[k]; t != nil { // else forgotten
			t.generation = g
		}
		p.mu.Unlock()
	}
	for _, t := range ts {
		if !p.cfg.Publish(event.KindTally, "", event.Encode(t)) {
			p.mu.Lock()
			p.tallyLocked(tallyKey{t.Migration, t.Route, t.Config}) // again with the next
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
