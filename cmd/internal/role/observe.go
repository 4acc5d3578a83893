package role

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"banyan/proxy/event"
	"banyan/proxy/kafka"
	"banyan/shadow/ledger"
	"banyan/shadow/project"
	"banyan/shadow/settle"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Published counts the domain events that this process has published, by migration, type and version.
func (s *Shadow) Published(tell func(m event.Migration, typ, version string, n int64)) {
	for name, m := range s.current() {
		if m.Translator == nil {
			continue // a dispatched service publishes its own
		}
		for t, n := range m.Translator.Stats().Types() {
			typ, version, _ := strings.Cut(t, "@")
			tell(name, typ, version, n)
		}
	}
}

// Parked counts the keys that this process has parked, by migration and the stage at which they stopped.
func (s *Shadow) Parked(tell func(m event.Migration, stage string, n int64)) {
	for name, m := range s.current() {
		if m.Translator != nil {
			tell(name, "translate", m.Translator.Stats().Parked.Load())
		}
		if m.Dispatcher != nil {
			tell(name, "dispatch", m.Dispatcher.Stats().Parked.Load())
		}
		if p := m.Projector(); p != nil {
			tell(name, "project", p.Stats().Parked.Load())
		}
	}
}

// Staleness tells, for each partition that this process projects, the age of the newest state that the read model holds
// completely: the time since the newest fence at or below its progress was sent.
func (s *Shadow) Staleness(now time.Time, tell func(m event.Migration, partition int32, age time.Duration)) {
	for name, m := range s.current() {
		p := m.Projector()
		if p == nil {
			continue
		}
		for n := range s.f.Kafka.Partitions {
			if at, ok := holds(p, n); ok {
				tell(name, n, now.Sub(at))
			}
		}
	}
}

// holds is when everything that a partition shows completely was still true; false while no fence tells.
func holds(p *project.Projector, partition int32) (at time.Time, ok bool) {
	pr, ok := p.Progress(partition)
	if !ok {
		return at, false
	}
	for _, f := range pr.Fences {
		if f.Position <= pr.Position && f.Sent.After(at) {
			at = f.Sent
		}
	}
	return at, !at.IsZero()
}

// current are the generations that readers have. One that is built has no figures of its own but its groups' lag.
func (s *Shadow) current() map[event.Migration]*Model {
	out := map[event.Migration]*Model{}
	for _, name := range s.f.Names() {
		if m := s.Model(name); m != nil {
			out[name] = m
		}
	}
	return out
}

// Groups are the names of the consumer groups of this process's roles, of every generation that it feeds.
func (s *Shadow) Groups() []string {
	names := map[string]bool{s.f.Kafka.Prefix + "." + settle.Group: true}
	for _, name := range s.f.Names() {
		for _, m := range s.fed(name) {
			if m.Translator != nil {
				names[m.Translator.Group()] = true
			}
			if m.Dispatcher != nil {
				names[m.Dispatcher.Group()] = true
			}
			if p := m.Projector(); p != nil {
				names[p.Group()] = true
			}
		}
		if m := s.Model(name); m != nil && m.Projector() != nil {
			names[compareGroup(s.f.Kafka, name, m.Generation)] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// compareGroup is a group for each generation: its members read that generation's events, and members of a group must
// read the same topics.
func compareGroup(k kafka.Config, m event.Migration, g int) string {
	group := k.Prefix + ".compare." + string(m)
	if g > 1 {
		group += fmt.Sprintf(".g%d", g)
	}
	return group
}

// Lags asks Kafka how far behind the groups are.
func (s *Shadow) Lags(ctx context.Context, cl *kgo.Client) ([]kafka.Lag, error) {
	return kafka.Lags(ctx, cl, s.Groups()...)
}

// evidenceFor is how long metrics show the same evidence: however many scrape, and whatever they ask, each migration's is
// read once in that time. Below any usual scrape interval.
const evidenceFor = 10 * time.Second

// Compared tells how many comparisons had which outcome, since the evidence began, as of evidenceFor ago at most.
func (s *Shadow) Compared(ctx context.Context, tell func(m event.Migration, c ledger.Comparison, outcome string, n int64)) {
	l := s.Ledger()
	if l == nil {
		return
	}
	for _, name := range s.f.Names() {
		e, err := l.Recent(ctx, name, evidenceFor)
		if err != nil {
			continue // the ledger is away: nothing is told, which an alert on silence sees
		}
		for _, c := range e.Comparisons {
			undecided := int64(0)
			for _, n := range c.Undecided {
				undecided += n
			}
			tell(name, c.Comparison, "equal", c.Equal-c.Tolerated)
			tell(name, c.Comparison, "tolerated", c.Tolerated)
			tell(name, c.Comparison, "different", c.Different)
			tell(name, c.Comparison, "undecided", undecided)
		}
	}
}
