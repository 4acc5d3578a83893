package balance

import (
	"math"
	"time"

	"banyan/proxy/session"
)

// ticket is what is known of a request's session.
type ticket struct {
	n     int // ids that the request carries
	keys  [maxCookies]session.Key
	hash  uint64 // of the first id, the same in all processes
	use   int    // which of keys is the session's: the first that is bound, else the first
	known bool   // it was bound before this request, or the client says so
	at    int    // where, if known
	claim int    // the instance that the client's cookie of ours names, plus 1; 0: none
}

// hashOf an id or an instance's name: FNV-1a, and a finalizer that spreads it over all bits.
func hashOf(b []byte) uint64 {
	h := uint64(0xcbf29ce484222325)
	for _, c := range b {
		h = (h ^ uint64(c)) * 0x100000001b3
	}
	return mix(h)
}

// mix is the finalizer of splitmix64.
func mix(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

// set is instances, one bit each.
type set uint64

func (s set) has(i int) bool { return s>>i&1 != 0 }
func bit(i int) set          { return 1 << i }

// usableLocked are the instances that may be asked at all: those that are neither ejected nor unhealthy, or all if
// there are none.
func (b *Balancer) usableLocked() set {
	var s set
	for i := range b.n {
		if in := b.ins[i]; !in.ejected && !in.unhealthy && !in.gone {
			s |= bit(i)
		}
	}
	if s == 0 {
		return b.all
	}
	return s
}

// openLocked are the instances that take what is not bound.
func (b *Balancer) openLocked(tried set) set {
	usable := b.usableLocked() &^ tried
	open := usable
	for i := range b.n {
		if b.ins[i].draining {
			open &^= bit(i)
		}
	}
	switch {
	case open != 0:
		return open
	case usable != 0:
		return usable
	case b.all&^tried != 0:
		return b.all &^ tried
	}
	return b.all // those that were not tried were taken out meanwhile
}

func (b *Balancer) roomLocked(i int) bool {
	return b.ins[i].active < b.cfg().Limit && b.total < b.cfg().Total
}

const anywhere = -1

// placeLocked chooses an instance, anywhere if none has room. Whether there is room at a session's own instance is told
// by room.
func (b *Balancer) placeLocked(t *ticket, tried set, now int64) (at int, room bool) {
	if t.known && !tried.has(t.at) && b.usableLocked().has(t.at) {
		return t.at, b.roomLocked(t.at)
	}
	at = b.chooseLocked(t, b.openLocked(tried), now)
	return at, at != anywhere
}

// chooseLocked chooses among open for a request that is not bound.
func (b *Balancer) chooseLocked(t *ticket, open set, now int64) int {
	if b.total >= b.cfg().Total {
		return anywhere
	}
	if t.n > 0 {
		if i := b.rankLocked(t.hash, open, now, b.boundLocked(open)); i != anywhere {
			return i
		}
	}
	best, least := anywhere, math.Inf(1)
	n := b.n
	b.turn++
	for k := range n {
		i := (b.turn + k) % n
		in := b.ins[i]
		if !open.has(i) || in.active >= b.cfg().Limit {
			continue
		}
		if load := float64(in.active+1) / b.rampLocked(i, now); load < least {
			best, least = i, load
		}
	}
	return best
}

// boundLocked is how many requests an instance may have under way, one that is to be placed included.
func (b *Balancer) boundLocked(open set) float64 {
	sum, n := 1, 0
	for i := range b.n {
		if open.has(i) {
			sum += b.ins[i].active
			n++
		}
	}
	return max(minBound, math.Ceil(factor*float64(sum)/float64(n)))
}

// rankLocked is the instance of open that a hash ranks highest among those below the bound.
func (b *Balancer) rankLocked(hash uint64, open set, now int64, bound float64) int {
	best, highest := anywhere, uint64(0)
	for i := range b.n {
		in := b.ins[i]
		if !open.has(i) || in.active >= b.cfg().Limit || float64(in.active+1) > bound*b.rampLocked(i, now) {
			continue
		}
		if score := mix(hash ^ in.salt); best == anywhere || score > highest {
			best, highest = i, score
		}
	}
	return best
}

// rampLocked is the part of its share that an instance gets: all, but for one that came back a short time ago.
func (b *Balancer) rampLocked(i int, now int64) float64 {
	in := b.ins[i]
	if !in.ramping {
		return 1
	}
	part := float64(now-in.back) / float64(max(b.cfg().SlowStart, time.Nanosecond))
	if part >= 1 {
		in.ramping = false
		return 1
	}
	return max(0.1, part)
}
