package balance

import (
	"slices"
	"time"

	"banyan/proxy/upstream"
)

// waiter is a request in a queue. It leaves it by a grant, under the lock.
type waiter struct {
	seq   uint64 // the order of coming
	t     *ticket
	tried set
	at    int      // the instance that it waits for, or anywhere
	grant chan int // of one: the instance, or anew
}

// anew tells a waiter that its instance is gone and it has to be placed again.
const anew = -2

// queue is waiters in the order of coming.
type queue struct{ w []*waiter }

func (q *queue) len() int { return len(q.w) }

// add keeps the order: one that is placed anew may be older than those who wait.
func (q *queue) add(w *waiter) {
	i := len(q.w)
	for i > 0 && q.w[i-1].seq > w.seq {
		i--
	}
	q.w = slices.Insert(q.w, i, w)
}

func (q *queue) first() *waiter {
	if len(q.w) == 0 {
		return nil
	}
	return q.w[0]
}

func (q *queue) pop() {
	q.w[0] = nil
	if q.w = q.w[1:]; len(q.w) == 0 {
		q.w = nil
	}
}

func (q *queue) remove(w *waiter) {
	if i := slices.Index(q.w, w); i >= 0 {
		q.w = slices.Delete(q.w, i, i+1)
	}
}

func (b *Balancer) queueLocked(at int) *queue {
	if at == anywhere {
		return &b.queue
	}
	return &b.ins[at].queue
}

// admit gives the instance that is to take the request, counted in, after a wait if need be.
func (b *Balancer) admit(d *upstream.Demand, t *ticket, tried set) (int, error) {
	var w *waiter
	var until int64
	for {
		b.mu.Lock()
		now := b.cfg().Now()
		if b.ejected > 0 {
			b.refreshLocked(now)
		}
		if t.n > 0 {
			b.lookUpLocked(t, now)
		}
		at, room := b.placeLocked(t, tried, now)
		if room {
			b.takeLocked(at, t, now)
			b.unlock()
			return at, nil
		}
		if w == nil {
			if b.waiting >= b.cfg().Queue.Length {
				b.turned.Full++
				b.unlock()
				return 0, b.busy(errFull)
			}
			b.seq++
			w = &waiter{seq: b.seq, t: t, tried: tried, grant: make(chan int, 1)}
			until = now + int64(b.cfg().Queue.Wait)
		}
		w.at = at
		b.queueLocked(at).add(w)
		b.waiting++
		b.unlock()
		if at, err := b.await(w, d, until); at != anew {
			return at, err
		}
	}
}

// await waits for a grant until the time is over or the client has left.
func (b *Balancer) await(w *waiter, d *upstream.Demand, until int64) (int, error) {
	timer := time.NewTimer(min(lookForGone, time.Duration(until-b.cfg().Now())))
	defer timer.Stop()
	for {
		select {
		case at := <-w.grant:
			return at, nil
		case <-timer.C:
		}
		gone := d.Gone != nil && d.Gone()
		b.mu.Lock()
		now := b.cfg().Now()
		b.refreshLocked(now)
		b.dispatchLocked(now)
		select {
		case at := <-w.grant: // while the time ran out
			b.unlock()
			return at, nil
		default:
		}
		if left := time.Duration(until - now); left > 0 && !gone {
			b.unlock()
			timer.Reset(min(lookForGone, left))
			continue
		}
		b.queueLocked(w.at).remove(w)
		b.waiting--
		err := errLate
		if b.turned.Late++; gone {
			b.turned.Late--
			b.turned.Gone++
			err = errGone
		}
		b.unlock()
		return 0, b.busy(err)
	}
}

// dispatchLocked gives free places to those who wait, the oldest first that has a place to go to.
func (b *Balancer) dispatchLocked(now int64) {
	for b.waiting > 0 && b.total < b.cfg().Total {
		var next *waiter
		to := anywhere
		if w := b.queue.first(); w != nil {
			if at := b.chooseLocked(w.t, b.openLocked(w.tried), now); at != anywhere {
				next, to = w, at
			}
		}
		for i := range b.n {
			if w := b.ins[i].queue.first(); w != nil && b.roomLocked(i) && (next == nil || w.seq < next.seq) {
				next, to = w, i
			}
		}
		if next == nil {
			return
		}
		b.queueLocked(next.at).pop()
		b.waiting--
		b.takeLocked(to, next.t, now)
		next.grant <- to
	}
}

// scatterLocked sends those who wait for an instance that is away to be placed anew.
func (b *Balancer) scatterLocked(i int) {
	for _, w := range b.ins[i].queue.w {
		b.waiting--
		w.grant <- anew
	}
	b.ins[i].queue.w = nil
}
