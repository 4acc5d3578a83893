package pairs

import (
	"slices"
	"time"

	"banyan/proxy/capture"
	"banyan/proxy/event"
	"banyan/proxy/migrate"
)

// Under is the copies of the requests that are served under one fingerprint of config and rules. A read that was begun
// under it is completed and counted under it, whatever came later.
type Under struct {
	p           *Pairs
	fingerprint string
}

var _ migrate.Copies = (*Under)(nil)

// maxFingerprints are those whose tallies are kept. A process that has seen more of them forgets the oldest's; should
// it ever come back, its evidence lacks what was counted before.
const maxFingerprints = 64

// Under begins to count under a fingerprint, or goes on with it: each has tallies of its own.
func (p *Pairs) Under(fingerprint string) *Under {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.recent = slices.DeleteFunc(p.recent, func(f string) bool { return f == fingerprint })
	if p.recent = append(p.recent, fingerprint); len(p.recent) > maxFingerprints {
		p.forgetLocked(p.recent[0])
		p.recent = p.recent[1:]
	}
	return &Under{p, fingerprint}
}

// forgetLocked leaves a fingerprint's numbers in the sums.
func (p *Pairs) forgetLocked(fingerprint string) {
	for k, t := range p.tallies {
		if k.config != fingerprint {
			continue
		}
		delete(p.tallies, k)
		k.config = ""
		if p.past[k] == nil {
			p.past[k] = emptyLike(t)
		}
		p.past[k].add(t)
	}
}

// AskAt tells where the sides are from now on, for reads that wait as well.
func (p *Pairs) AskAt(sides map[event.Migration]Sides) { p.sides.Store(&sides) }

// Room implements migrate.Copies.
func (u *Under) Room(m event.Migration, route string, _ int64) bool {
	return u.p.room(tallyKey{m, route, u.fingerprint})
}

// Offer implements migrate.Copies.
func (u *Under) Offer(r migrate.Read) {
	r.Fingerprint = u.fingerprint
	u.p.Offer(r)
}

// Served implements migrate.Copies.
func (u *Under) Served(m event.Migration, route string, by capture.Side, took time.Duration) {
	u.p.served(tallyKey{m, route, u.fingerprint}, by, took)
}

// FellBack implements migrate.Copies.
func (u *Under) FellBack(m event.Migration, route, why string) {
	u.p.fellBack(tallyKey{m, route, u.fingerprint}, why)
}
