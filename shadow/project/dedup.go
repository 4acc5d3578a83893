package project

// window remembers the last n event ids.
type window struct {
	ring []string
	at   int
	ids  map[string]struct{}
}

func newWindow(n int) *window {
	return &window{ring: make([]string, n), ids: make(map[string]struct{}, min(n, 4096))}
}

func (w *window) has(id string) bool {
	_, ok := w.ids[id]
	return ok
}

// add remembers an id and forgets the oldest. An id that is there already is not moved up: the window counts records.
func (w *window) add(id string) {
	if w.has(id) {
		return
	}
	if old := w.ring[w.at]; old != "" {
		delete(w.ids, old)
	}
	w.ring[w.at] = id
	w.ids[id] = struct{}{}
	w.at = (w.at + 1) % len(w.ring)
}
