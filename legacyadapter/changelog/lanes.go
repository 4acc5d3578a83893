package changelog

import (
	"sync"
	"time"

	"banyan/proxy/event"
)

// hotFor is how long after a change its lane is hot: the write that made it ends, and what is behind waits for a fence
// sent after that end. Fences are then taken twice as often, and a mark follows each at once.
const hotFor = 60 * time.Millisecond

// maxFences bounds the fences that wait for the log to reach them; above it every second one is forgotten, which only
// makes the bounds looser.
const maxFences = 1024

// lanes follow what Kafka acknowledged, per partition. A mark promises that everything up to its position stands before
// it. The order of one idempotent producer is not enough for that: a record can be refused for good (too large, no
// rights) while those after it arrive. So a mark's position is only what was acknowledged before it was sent.
type lanes struct {
	mu     sync.Mutex // guards all below; never held over Kafka or a callback
	lane   []lane
	fences []numbered
	next   uint64 // number of the next fence
}

type numbered struct {
	n uint64
	event.Fence
}

// lane is one partition.
type lane struct {
	out      []outstanding  // sent, not acknowledged, in order
	sent     event.Position // highest that was handed to the producer
	complete event.Position
	marked   event.Position // of the last mark that was acknowledged: here a successor goes on
	dirty    bool           // something was acknowledged since the last mark
	fence    uint64
	hot      time.Time // until then somebody may wait for the next fence
}

type outstanding struct {
	position event.Position
	records  int
}

func newLanes(n int32) *lanes { return &lanes{lane: make([]lane, n)} }

// sent is called before the record is handed to the producer.
func (l *lanes) sent(p int32, position event.Position, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := &l.lane[p]
	a.hot = now.Add(hotFor)
	a.sent = max(a.sent, position)
	if n := len(a.out); n > 0 && a.out[n-1].position == position {
		a.out[n-1].records++
		return
	}
	a.out = append(a.out, outstanding{position, 1})
}

// acked is called in the order of the partition. It says whether a mark would promise more.
func (l *lanes) acked(p int32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := &l.lane[p]
	a.out[0].records--
	if a.out[0].records > 0 {
		return false
	}
	a.complete = a.out[0].position
	a.out = a.out[1:]
	a.dirty = true
	return true
}

// markAcked is called when a mark has arrived.
func (l *lanes) markAcked(p int32, position event.Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lane[p].marked = max(l.lane[p].marked, position)
}

// safe is the position from which a successor would go on. The server may forget what is below it, nothing else: what
// is acknowledged but not marked would be read again.
func (l *lanes) safe() event.Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	low := l.lane[0].marked
	for i := range l.lane {
		low = min(low, l.lane[i].marked)
	}
	return low
}

// addFence says whether a lane is hot: then the next fence, and a mark with this one, should come soon.
func (l *lanes) addFence(f event.Fence, now time.Time) (hot bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.fences) >= maxFences {
		kept := l.fences[:0]
		for i, x := range l.fences {
			if i%2 == 1 {
				kept = append(kept, x)
			}
		}
		l.fences = kept
	}
	l.fences = append(l.fences, numbered{l.next, f})
	l.next++
	for i := range l.lane {
		hot = hot || now.Before(l.lane[i].hot)
	}
	return hot
}

// mark gives the position and fences that may be promised to the partition now. head is the last position that was
// handed out completely. A lane that waits for an acknowledgement promises what was complete before; sent says up to
// where changes may stand before the mark all the same.
func (l *lanes) mark(p int32, head event.Position) (position, sent event.Position, fences []event.Fence) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := &l.lane[p]
	position = head
	if len(a.out) > 0 {
		position = a.complete
	}
	a.dirty = false
	a.complete = position
	for _, f := range l.fences {
		if f.n < a.fence {
			continue
		}
		if f.Position > position {
			break
		}
		fences = append(fences, f.Fence)
		a.fence = f.n + 1
	}
	return position, a.sent, fences
}

// trim forgets the fences that every lane has passed.
func (l *lanes) trim() {
	l.mu.Lock()
	defer l.mu.Unlock()
	low := l.next
	for i := range l.lane {
		low = min(low, l.lane[i].fence)
	}
	i := 0
	for i < len(l.fences) && l.fences[i].n < low {
		i++
	}
	l.fences = l.fences[i:]
}

// due lists the partitions for which a mark is wanted now: their acknowledged records are not covered by one yet, or they
// are hot and a mark would bring a fence.
func (l *lanes) due(ps []int32, head event.Position, now time.Time) []int32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.lane {
		if a := &l.lane[i]; a.dirty || now.Before(a.hot) && l.bringsLocked(a, head) {
			ps = append(ps, int32(i))
		}
	}
	return ps
}

// bringsLocked says whether a mark would bring the lane a fence.
func (l *lanes) bringsLocked(a *lane, head event.Position) bool {
	if len(a.out) > 0 {
		head = a.complete
	}
	for _, f := range l.fences {
		if f.n >= a.fence {
			return f.Position <= head
		}
	}
	return false
}

// waited says whether a fence can go now that somebody waits for.
func (l *lanes) waited(head event.Position, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.lane {
		if a := &l.lane[i]; now.Before(a.hot) && l.bringsLocked(a, head) {
			return true
		}
	}
	return false
}
