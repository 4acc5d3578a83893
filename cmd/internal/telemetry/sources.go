package telemetry

import (
	"context"
	"errors"
	"slices"

	"banyan/proxy"
	"banyan/proxy/balance"
	"banyan/proxy/capture"
	"banyan/proxy/event"
	"banyan/proxy/journal"
	"banyan/proxy/migrate"
	"banyan/proxy/stage"
	"banyan/proxy/upstream"
)

// Sources are what a proxy's metrics are read from at each scrape; nil ones are left out.
type Sources struct {
	Server    func() proxy.Stats
	Upstreams func() map[string]upstream.Stats
	Balancers func() map[string]balance.Stats
	Journal   func() journal.Status
	Counters  *migrate.Counters
	Tallies   func() []capture.Tally
	Waiting   func() (reads int, bytes int64) // pairs that wait for the other side
	Stages    func() map[event.Migration]stage.State
}

// ObserveProxy registers what a proxy tells.
func (p *Provider) ObserveProxy(s Sources) error {
	var errs []error
	observe := func(name string, read func() []Value) {
		errs = append(errs, p.Observe(name, func(context.Context) []Value { return read() }))
	}
	if s.Server != nil {
		observe("banyan.server.connections", func() []Value { return One(s.Server().Conns) })
		observe("banyan.server.refused", func() []Value { return One(s.Server().Refused) })
		observe("banyan.server.client.refused", func() []Value { return One(s.Server().Turned) })
		observe("banyan.server.proxy_header.failures", func() []Value { return One(s.Server().Strangers) })
		observe("banyan.server.tunnels", func() []Value { return One(s.Server().Tunnels.Open) })
		observe("banyan.server.tunnels.ended", func() []Value { return One(s.Server().Tunnels.Ended) })
		observe("banyan.server.tunnels.duration", func() []Value { return One(s.Server().Tunnels.Time.Seconds()) })
		observe("banyan.server.tunnels.io", func() []Value {
			t := s.Server().Tunnels
			return []Value{{float64(t.Received), []string{"receive"}}, {float64(t.Sent), []string{"transmit"}}}
		})
		observe("banyan.server.buffered", func() []Value { return One(s.Server().Buffered) })
		observe("banyan.server.buffered.overflows", func() []Value { return One(s.Server().Overflow) })
	}
	if s.Upstreams != nil {
		observe("http.client.open_connections", func() []Value { return connections(s.Upstreams()) })
	}
	if s.Balancers != nil {
		observeBalancers(observe, s.Balancers)
	}
	if s.Journal != nil {
		observeJournal(observe, s.Journal)
	}
	if s.Counters != nil {
		observeCounters(observe, s.Counters)
	}
	if s.Tallies != nil {
		observe("banyan.pairs.requests", func() []Value { return pairs(s.Tallies()) })
		observe("banyan.route.fallbacks", func() []Value { return fallbacks(s.Tallies()) })
	}
	if s.Waiting != nil {
		observe("banyan.pairs.queue.size", func() []Value { n, _ := s.Waiting(); return One(n) })
		observe("banyan.pairs.queue.usage", func() []Value { _, b := s.Waiting(); return One(b) })
	}
	if s.Stages != nil {
		observe("banyan.route.weight", func() []Value { return weights(s.Stages()) })
		observe("banyan.migration.stage", func() []Value { return ranks(s.Stages()) })
	}
	return errors.Join(errs...)
}

// ObserveReloads registers what became of reloads: how many had which outcome, whether the last one was taken over (1),
// and the revision that serves.
func (p *Provider) ObserveReloads(read func(context.Context) (outcomes []Value, good, revision float64)) error {
	return errors.Join(
		p.Observe("banyan.config.reload", func(ctx context.Context) []Value { n, _, _ := read(ctx); return n }),
		p.Observe("banyan.config.last_reload.success", func(ctx context.Context) []Value { _, good, _ := read(ctx); return One(good) }),
		p.Observe("banyan.config.revision", func(ctx context.Context) []Value { _, _, n := read(ctx); return One(n) }))
}

func observeBalancers(observe func(string, func() []Value), read func() map[string]balance.Stats) {
	instances := func(name string, n func(*balance.InstanceStats) float64) {
		observe(name, func() (out []Value) {
			for up, s := range read() {
				for i := range s.Instances {
					out = append(out, Value{n(&s.Instances[i]), []string{up, s.Instances[i].Name}})
				}
			}
			return out
		})
	}
	upstreams := func(name string, add func(up string, s *balance.Stats) []Value) {
		observe(name, func() (out []Value) {
			for up, s := range read() {
				out = append(out, add(up, &s)...)
			}
			return out
		})
	}
	instances("banyan.upstream.instance.state", func(s *balance.InstanceStats) float64 {
		return float64(slices.Index([]balance.State{balance.Unhealthy, balance.Ejected, balance.Draining, balance.Up}, s.State))
	})
	instances("banyan.upstream.instance.active_requests", func(s *balance.InstanceStats) float64 { return float64(s.Active) })
	instances("banyan.upstream.instance.requests", func(s *balance.InstanceStats) float64 { return float64(s.Requests) })
	instances("banyan.upstream.instance.failures", func(s *balance.InstanceStats) float64 { return float64(s.Failures) })
	instances("banyan.upstream.instance.ejections", func(s *balance.InstanceStats) float64 { return float64(s.Ejections) })
	instances("banyan.upstream.sessions", func(s *balance.InstanceStats) float64 { return float64(s.Sessions) })
	instances("banyan.upstream.sessions.moved", func(s *balance.InstanceStats) float64 { return float64(s.Moved) })
	upstreams("banyan.upstream.sessions.placed", func(up string, s *balance.Stats) []Value { return []Value{{float64(s.Placed), []string{up}}} })
	upstreams("banyan.upstream.sessions.forgotten", func(up string, s *balance.Stats) []Value { return []Value{{float64(s.Forgotten), []string{up}}} })
	upstreams("banyan.upstream.queue.size", func(up string, s *balance.Stats) []Value { return []Value{{float64(s.Waiting), []string{up}}} })
	upstreams("banyan.upstream.queue.turned_away", func(up string, s *balance.Stats) []Value {
		return []Value{{float64(s.Turned.Full), []string{up, "full"}}, {float64(s.Turned.Late), []string{up, "late"}}, {float64(s.Turned.Gone), []string{up, "client_gone"}}}
	})
	upstreams("banyan.upstream.breaker.open", func(up string, s *balance.Stats) []Value {
		if s.Open {
			return []Value{{1, []string{up}}}
		}
		return []Value{{0, []string{up}}}
	})
}

func observeJournal(observe func(string, func() []Value), status func() journal.Status) {
	observe("banyan.journal.backlog", func() []Value { return One(status().Backlog) })
	observe("banyan.journal.oldest.age", func() []Value { return One(status().Oldest.Seconds()) })
	observe("banyan.journal.in_flight", func() []Value { return One(status().InFlight) })
	observe("banyan.journal.size", func() []Value { return One(status().Bytes) })
	observe("banyan.journal.gaps.open", func() []Value { return One(status().OpenGaps) })
	observe("banyan.journal.writable", func() []Value {
		if s := status(); s.Full || s.Failed {
			return One(0)
		}
		return One(1)
	})
}

func observeCounters(observe func(string, func() []Value), c *migrate.Counters) {
	observe("banyan.route.requests", func() []Value {
		return []Value{{float64(c.Unrouted.Load()), []string{"unrouted"}}, {float64(c.Plain.Load()), []string{"plain"}},
			{float64(c.Writes.Load()), []string{"write"}}, {float64(c.Reads.Load()), []string{"read"}},
			{float64(c.Unclassified.Load()), []string{"unclassified"}}, {float64(c.Refused.Load()), []string{"refused"}}}
	})
	observe("banyan.journal.gaps", func() []Value { return One(c.GapOpens.Load()) })
	observe("banyan.journal.unrecorded", func() []Value { return One(c.Unrecorded.Load()) })
	observe("banyan.journal.lost_outcomes", func() []Value { return One(c.LostOutcomes.Load()) })
}

func connections(all map[string]upstream.Stats) (out []Value) {
	for name, s := range all {
		out = append(out, Value{float64(s.Open - s.Idle), []string{name, "active"}}, Value{float64(s.Idle), []string{name, "idle"}})
	}
	return out
}

func pairs(all []capture.Tally) (out []Value) {
	for _, t := range all {
		label := func(outcome, reason string) []string { return []string{string(t.Migration), t.Route, outcome, reason} }
		out = append(out, Value{float64(t.Equal), label("equal", "")}, Value{float64(t.Sent), label("sent", "")})
		for reason, n := range t.Dropped {
			out = append(out, Value{float64(n), label("dropped", reason)})
		}
	}
	return out
}

func fallbacks(all []capture.Tally) (out []Value) {
	for _, t := range all {
		for reason, n := range t.FellBack {
			out = append(out, Value{float64(n), []string{string(t.Migration), t.Route, reason}})
		}
	}
	return out
}

func weights(all map[event.Migration]stage.State) (out []Value) {
	for m, s := range all {
		w := 0.0
		if s.Stage == stage.Live {
			w = s.Share.Percent / 100
		}
		out = append(out, Value{w, []string{string(m), "candidate", "set"}}, Value{1 - w, []string{string(m), "legacy", "set"}})
	}
	return out
}

// ranks numbers the stages; the instrument's description has the numbers.
func ranks(all map[event.Migration]stage.State) (out []Value) {
	for m, s := range all {
		n := slices.Index([]stage.Stage{stage.Off, stage.DualWrite, stage.Shadow, stage.Live}, s.Stage)
		out = append(out, Value{float64(n), []string{string(m)}})
	}
	return out
}
