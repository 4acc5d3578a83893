package session

import "hash/maphash"

// Key stands for a session id. The id itself is not kept: a key is made with a seed of this process, so nobody can
// choose an id whose key is another's, and two of a million sessions share one with a probability of 3e-8.
type Key uint64

// Bindings remember which instance of a backend holds a session. They are not safe for concurrent use: whoever owns
// them has a lock already, under which it chooses instances.
//
// Memory is bounded by max entries of about 72 bytes. A binding that was used since it was made is protected: of the
// entries three quarters are for those, and what is forgotten first is what was bound and never came back, which is
// what robots and attackers leave behind. A binding that was not used for idle seconds has ended.
type Bindings struct {
	seed    maphash.Seed
	max     int
	idle    int64
	at      map[Key]int32
	entries []binding
	free    int32    // first of the unused entries, linked by next
	lists   [2]chain // fresh ones, and protected ones
	per     []int    // how many each instance has
	// Forgotten counts bindings that had not ended and had to make room for others.
	Forgotten int64
}

type binding struct {
	key        Key
	used       int64
	prev, next int32
	instance   int32
	kept       uint8 // the chain it is in
}

// chain has the most recently used entry first. Entries are numbered from 1; 0 is none.
type chain struct {
	head, tail int32
	n          int
}

const (
	fresh     = 0
	protected = 1
)

// NewBindings keeps at most max bindings (at least 4, or none) to one of n instances, each for idle seconds after its last use.
func NewBindings(n, max int, idle int64) *Bindings {
	return &Bindings{seed: maphash.MakeSeed(), max: max, idle: idle, at: map[Key]int32{}, entries: make([]binding, 1), per: make([]int, n)}
}

// Key of a session id.
func (b *Bindings) Key(id []byte) Key { return Key(maphash.Bytes(b.seed, id)) }

// Find tells the instance that a session is bound to. now is in seconds.
func (b *Bindings) Find(k Key, now int64) (instance int, ok bool) {
	i, ok := b.at[k]
	if !ok {
		return 0, false
	}
	e := &b.entries[i]
	if now-e.used > b.idle {
		b.drop(i)
		return 0, false
	}
	return int(e.instance), true
}

// Bind binds a session, or notes that its binding was used.
func (b *Bindings) Bind(k Key, instance int, now int64) {
	if i, ok := b.at[k]; ok {
		e := &b.entries[i]
		b.per[e.instance]--
		b.per[instance]++
		e.instance, e.used = int32(instance), now
		b.unlink(i)
		b.push(i, protected)
		if limit := b.max - b.max/4; b.lists[protected].n > limit {
			last := b.lists[protected].tail
			b.unlink(last)
			b.push(last, fresh)
		}
		return
	}
	b.sweep(now)
	if b.max < 1 {
		return
	}
	if len(b.at) >= b.max {
		last := b.lists[fresh].tail
		if last == 0 {
			last = b.lists[protected].tail
		}
		if now-b.entries[last].used <= b.idle {
			b.Forgotten++
		}
		b.drop(last)
	}
	i := b.free
	if i != 0 {
		b.free = b.entries[i].next
	} else {
		i = int32(len(b.entries))
		b.entries = append(b.entries, binding{})
	}
	b.entries[i] = binding{key: k, instance: int32(instance), used: now}
	b.at[k] = i
	b.per[instance]++
	b.push(i, fresh)
}

// Unbind forgets a session that has ended.
func (b *Bindings) Unbind(k Key) {
	if i, ok := b.at[k]; ok {
		b.drop(i)
	}
}

// sweep drops ended bindings, a few at each call: so the table holds no more than what is alive, at no one's cost.
func (b *Bindings) sweep(now int64) {
	for range 2 {
		for l := range b.lists {
			if last := b.lists[l].tail; last != 0 && now-b.entries[last].used > b.idle {
				b.drop(last)
			}
		}
	}
}

// Len is the number of bindings; Of, of those to an instance. Ended ones count until they are swept.
func (b *Bindings) Len() int { return len(b.at) }

// Of is the number of an instance's bindings that have not ended, once the ended ones have been swept.
func (b *Bindings) Of(instance int, now int64) int {
	for {
		n := len(b.at)
		if b.sweep(now); len(b.at) == n {
			return b.per[instance]
		}
	}
}

func (b *Bindings) drop(i int32) {
	e := &b.entries[i]
	b.unlink(i)
	delete(b.at, e.key)
	b.per[e.instance]--
	*e = binding{next: b.free}
	b.free = i
}

func (b *Bindings) unlink(i int32) {
	e := &b.entries[i]
	l := &b.lists[e.kept]
	if e.prev != 0 {
		b.entries[e.prev].next = e.next
	} else {
		l.head = e.next
	}
	if e.next != 0 {
		b.entries[e.next].prev = e.prev
	} else {
		l.tail = e.prev
	}
	l.n--
}

func (b *Bindings) push(i int32, to uint8) {
	e, l := &b.entries[i], &b.lists[to]
	e.kept, e.prev, e.next = to, 0, l.head
	if l.head != 0 {
		b.entries[l.head].prev = i
	} else {
		l.tail = i
	}
	l.head = i
	l.n++
}

// Limit replaces the bounds that NewBindings was given. What is too much is forgotten, what was used last at last.
func (b *Bindings) Limit(max int, idle int64) {
	for b.max, b.idle = max, idle; len(b.at) > max; {
		last := b.lists[fresh].tail
		if last == 0 {
			last = b.lists[protected].tail
		}
		b.drop(last)
	}
}

// UnbindAll forgets the sessions of an instance, at the cost of looking at all of them.
func (b *Bindings) UnbindAll(instance int) {
	for i := 1; i < len(b.entries) && b.per[instance] > 0; i++ {
		e := &b.entries[i]
		if at, ok := b.at[e.key]; ok && at == int32(i) && int(e.instance) == instance {
			b.drop(int32(i))
		}
	}
}
