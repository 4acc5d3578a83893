package book

// ids remembers the last n ids with the source that said them first.
type ids struct {
	ring []string
	at   int
	said map[string]string
}

func newIDs(n int) *ids { return &ids{ring: make([]string, 0, 64), at: -n, said: map[string]string{}} }

func (x *ids) has(id string) bool { _, ok := x.said[id]; return ok }

func (x *ids) source(id string) string { return x.said[id] }

// add remembers an id and forgets the oldest. The ring grows to its size only when it is needed.
func (x *ids) add(id, source string) {
	if x.has(id) {
		return
	}
	x.said[id] = source
	if x.at < 0 {
		x.ring = append(x.ring, id)
		x.at++
		return
	}
	delete(x.said, x.ring[x.at])
	x.ring[x.at] = id
	x.at = (x.at + 1) % len(x.ring)
}
