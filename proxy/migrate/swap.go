package migrate

import "sync/atomic"

// inForce is a config that exchanges work with.
type inForce struct {
	*Config
	exchanges atomic.Int64 // that work with it, and for moments such as will find that it was replaced
	replaced  atomic.Bool
	ended     atomic.Bool
}

// enter gives the config in force, and holds it until leave. Between reading the pointer and being counted, a Swap may
// have come and found nobody: so whoever is counted looks again, and takes the newer one.
func (h *Handler) enter() *inForce {
	for {
		t := h.cfg.Load()
		t.exchanges.Add(1)
		if h.cfg.Load() == t {
			return t
		}
		t.leave()
	}
}

func (t *inForce) leave() {
	if t.exchanges.Add(-1) == 0 && t.replaced.Load() {
		t.end()
	}
}

func (t *inForce) mayEnd() {
	if t.exchanges.Load() == 0 {
		t.end()
	}
}

// end is reached more than once: by a late one of enter, for example.
func (t *inForce) end() {
	if !t.ended.Swap(true) && t.Retired != nil {
		t.Retired()
	}
}
