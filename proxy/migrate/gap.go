package migrate

import (
	"banyan/proxy/wire"
)

var retryLater = []wire.Pair{{Name: "Content-Type", Value: []byte("text/plain; charset=utf-8")}, {Name: "Retry-After", Value: []byte("1")}}

// openGap counts one unrecorded write, and makes the gap durable if the journal takes that at least.
func (h *Handler) openGap(c *Config, m *Migration) {
	h.Counters.Unrecorded.Add(1)
	h.mu.Lock()
	g := h.gaps[m.Name]
	h.mu.Unlock()
	if g == nil {
		var err error
		if g, err = c.Journal.OpenGap(string(m.Name)); err != nil {
			c.Log.Error("a gap cannot be recorded: the journal takes nothing", "migration", m.Name, "error", err)
			return
		}
		h.mu.Lock()
		if h.gaps[m.Name] == nil {
			h.gaps[m.Name] = g
			h.Counters.GapOpens.Add(1)
			c.Log.Error("gap: writes are served and not recorded; the migration's evidence is void until repaired by backfill", "migration", m.Name)
		}
		h.mu.Unlock()
	}
	g.Add(1)
}

func (h *Handler) gapOpen() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.gaps) > 0
}

// closeGap ends a gap once a write was recorded again.
func (h *Handler) closeGap(c *Config, m *Migration) {
	h.mu.Lock()
	g := h.gaps[m.Name]
	delete(h.gaps, m.Name)
	h.mu.Unlock()
	if g == nil {
		return
	}
	if err := g.Close(); err != nil {
		h.mu.Lock()
		h.gaps[m.Name] = g
		h.mu.Unlock()
		c.Log.Error("a gap cannot be closed; it goes on", "migration", m.Name, "error", err)
		return
	}
	c.Log.Warn("gap ended: writes are recorded again; repair it by backfill", "migration", m.Name, "unrecorded", g.Count())
}
