package mirror

import (
	"github.com/twmb/franz-go/pkg/kgo"

	"banyan/proxy/event"
)

// Sizes of what an arena takes at a time.
const (
	blockBytes   = 64 << 10
	blockRecords = 64
)

// arena is the memory of one batch, used again for the next: a write leaves no garbage.
//
// Not obvious: the producer reads a record until it calls its promise, and never after. A batch of its own that it gives
// up loses its records under the lock under which a request that is under way copies them. [sender.send] returns when
// every promise was called.
type arena struct {
	bytes   pool[byte]
	records pool[kgo.Record]
}

func newArena() arena {
	return arena{bytes: pool[byte]{block: blockBytes}, records: pool[kgo.Record]{block: blockRecords}}
}

// reset takes everything back.
func (a *arena) reset() {
	a.bytes.reset()
	a.records.reset()
}

// keep gives a copy of s that is good until reset.
func keep[S ~string | ~[]byte](a *arena, s S) []byte {
	b := a.bytes.take(len(s))
	copy(b, s)
	return b
}

// form gives the JSON form of w, good until reset.
func (a *arena) form(w *event.Write) []byte {
	room := a.bytes.room(w.SizeHint())
	b := w.AppendJSON(room[:0])
	if len(b) > len(room) { // it has moved
		return b
	}
	return a.bytes.use(len(b))
}

// record gives a copy of r that is good until reset.
func (a *arena) record(r kgo.Record) *kgo.Record {
	p := &a.records.take(1)[0]
	*p = r
	return p
}

// pool gives parts of blocks, in turn.
type pool[T any] struct {
	block  int
	blocks [][]T
	used   int // how many of them
	left   []T // of the last used one
}

// take gives n elements with anything in them. More than a quarter of a block are allocated for themselves.
func (p *pool[T]) take(n int) []T {
	if n > p.block/4 {
		return make([]T, n)
	}
	p.room(n)
	return p.use(n)
}

// use gives the first n elements of room.
func (p *pool[T]) use(n int) []T {
	t := p.left[:n:n]
	p.left = p.left[n:]
	return t
}

// room is what is given next: n elements or more, or none where n are allocated for themselves.
func (p *pool[T]) room(n int) []T {
	if n > p.block/4 {
		return nil
	}
	if n > len(p.left) {
		if p.used == len(p.blocks) {
			p.blocks = append(p.blocks, make([]T, p.block))
		}
		p.left = p.blocks[p.used]
		p.used++
	}
	return p.left
}

// reset takes back what was given, and drops half of the blocks that were not needed: none is left after a few batches
// without a record.
func (p *pool[T]) reset() {
	n := p.used + (len(p.blocks)-p.used)/2
	clear(p.blocks[n:])
	p.blocks = p.blocks[:n]
	p.used, p.left = 0, nil
}
