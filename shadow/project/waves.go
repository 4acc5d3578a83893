package project

import (
	"banyan/proxy/event"
)

// waves orders a batch into few statements: each wave is one event type, a subject stands at most once in it, and no two
// events that may touch the same thing change their order. An event goes to the first wave of its type behind everything
// that it must not overtake; only then a wave is added. So n events of n subjects and k types give k waves, in whatever
// order they come, and one subject's m events of one type give m waves, or one if the type folds.
type waves struct {
	list     []wave
	byType   map[*handler][]int             // waves of a type, ascending
	subjects map[event.Entity]int           // last wave of a subject
	keys     map[event.OrderingKey]keyWaves // of each ordering key
}

type wave struct {
	h      *handler
	events []*event.Event
	place  map[event.Entity]int // of a folding type: where a subject's event stands
}

// keyWaves: the last wave of anything, and of an event whose scope is the whole key.
type keyWaves struct{ any, scoped int }

func newWaves() *waves {
	return &waves{byType: map[*handler][]int{}, subjects: map[event.Entity]int{}, keys: map[event.OrderingKey]keyWaves{}}
}

// add places one event behind all that were added before and that it may conflict with.
func (w *waves) add(h *handler, e *event.Event) {
	last, ok := w.subjects[e.Subject]
	if !ok {
		last = -1
	}
	k, ok := w.keys[e.Key]
	if !ok {
		k = keyWaves{-1, -1}
	}
	if h.fold && last >= 0 && w.list[last].h == h && last > k.scoped {
		w.list[last].events[w.list[last].place[e.Subject]] = e
		return
	}
	behind := max(last, k.scoped)
	if h.key {
		behind = max(behind, k.any)
	}
	i := w.wave(h, behind)
	x := &w.list[i]
	if h.fold {
		x.place[e.Subject] = len(x.events)
	}
	x.events = append(x.events, e)
	w.subjects[e.Subject] = i
	k.any = max(k.any, i)
	if h.key {
		k.scoped = i
	}
	w.keys[e.Key] = k
}

// wave is the first wave of the type behind the given one.
func (w *waves) wave(h *handler, behind int) int {
	of := w.byType[h]
	lo, hi := 0, len(of)
	for lo < hi {
		mid := (lo + hi) / 2
		if of[mid] > behind {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	if lo < len(of) {
		return of[lo]
	}
	w.list = append(w.list, wave{h: h})
	i := len(w.list) - 1
	if h.fold {
		w.list[i].place = map[event.Entity]int{}
	}
	w.byType[h] = append(of, i)
	return i
}
