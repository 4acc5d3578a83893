package journal

import (
	"cmp"
	"slices"
	"time"
)

// InFlight is a write without outcome.
type InFlight struct {
	Seq   Seq
	Start time.Time
	Key   any
}

// Mark is a consistent look at the journal: every write up to Seq that is not listed has a shipping sequence of at
// most Ship. So once everything up to Ship is shipped, everything up to Seq but the listed is.
type Mark struct {
	Epoch    Epoch
	Clock    time.Time // read before the rest: a write that starts later may not be listed
	Seq      Seq
	Ship     ShipSeq
	InFlight []InFlight // by Seq
}

// Mark fills m, reusing its list.
func (j *Journal) Mark(m *Mark) {
	m.Epoch = j.gen.epoch
	m.Clock = j.cfg.Now()
	m.InFlight = m.InFlight[:0]
	j.mu.Lock()
	m.Seq, m.Ship = j.seq, j.ship
	for seq, f := range j.flying {
		m.InFlight = append(m.InFlight, InFlight{Seq: seq, Start: time.Unix(0, f.start), Key: f.key})
	}
	j.mu.Unlock()
	slices.SortFunc(m.InFlight, func(a, b InFlight) int { return cmp.Compare(a.Seq, b.Seq) })
}
