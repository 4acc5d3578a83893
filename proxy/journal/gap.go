package journal

import (
	"errors"
	"fmt"
	"slices"
	"sync"
)

const (
	maxGapPayload = 128
	// gapRecords bounds the records of one gap: opening, one for each doubling of the count, closing.
	gapRecords = 34
)

// Gap is a stretch of writes of one migration that are not recorded. Its methods may be called concurrently.
type Gap struct {
	j         *Journal
	migration string
	from      Seq

	mu     sync.Mutex // guards what follows
	count  uint64
	next   uint64 // the count at which progress is recorded
	closed bool
}

// OpenGap records, durably before it returns, that writes of a migration will go unrecorded from here on. It works
// when the journal is full. It is idempotent: while the migration's gap is open, it gives that one.
func (j *Journal) OpenGap(migration string) (*Gap, error) {
	if migration == "" || len(migration) > maxGapPayload {
		return nil, fmt.Errorf("open gap: migration name of %d bytes, want 1 to %d", len(migration), maxGapPayload)
	}
	j.mu.Lock()
	g := j.gaps[migration]
	if g == nil {
		if len(j.gaps) >= j.cfg.MaxGaps {
			j.mu.Unlock()
			return nil, ErrTooManyGaps
		}
		g = &Gap{j: j, migration: migration, next: 1}
		j.gaps[migration] = g
	}
	j.mu.Unlock()

	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, fmt.Errorf("open gap of %s: closed this moment, ask again", migration)
	}
	if g.from != 0 {
		return g, nil // its mark is durable
	}
	if err := g.mark(flagGapOpen, true); err != nil {
		g.drop()
		return nil, fmt.Errorf("open gap of %s: %w", migration, err)
	}
	return g, nil
}

// Add counts n unrecorded writes. Every doubling is recorded, so that a crash leaves a fair lower bound.
func (g *Gap) Add(n uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.count += n
	if g.count < g.next || g.closed {
		return
	}
	for g.next <= g.count && g.next < 1<<31 {
		g.next *= 2
	}
	if g.next >= 1<<31 {
		g.next = 1<<64 - 1
	}
	_ = g.mark(flagAtLeast, false) // the count is a lower bound already: losing one makes it lower, not wrong
}

// Count is the number of writes so far.
func (g *Gap) Count() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.count
}

// Close records the exact count, durably. After an error the gap is still open.
func (g *Gap) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil
	}
	if err := g.mark(flagGapClose, true); err != nil {
		return fmt.Errorf("close gap of %s: %w", g.migration, err)
	}
	g.drop()
	return nil
}

func (g *Gap) drop() {
	g.closed = true
	g.j.mu.Lock()
	delete(g.j.gaps, g.migration)
	g.j.mu.Unlock()
}

// mark appends a gap record. The reserve is used when the journal is full; while it is not, a new segment is.
func (g *Gap) mark(flags uint16, sync bool) error {
	j := g.j
	j.mu.Lock()
	full, at := j.state == stateFull, j.seq+1
	j.mu.Unlock()
	if g.from == 0 {
		g.from = at
	}
	r := record{kind: kindGap, flags: flags, seq: g.from, count: g.count, time: j.cfg.Now().UnixNano(), payload: []byte(g.migration)}
	held := j.cfg.reserve()
	if full {
		held = j.cfg.bareReserve()
	}
	b, err := j.put(&r, nil, held)
	if errors.Is(err, ErrFull) && !full { // since we looked
		b, err = j.put(&r, nil, j.cfg.bareReserve())
	}
	if err == nil && sync {
		return j.wait(b)
	}
	if err == nil {
		return j.write(b)
	}
	return err
}

func (j *Journal) openGaps() []*Gap {
	j.mu.Lock()
	defer j.mu.Unlock()
	gs := make([]*Gap, 0, len(j.gaps))
	for _, g := range j.gaps {
		gs = append(gs, g)
	}
	slices.SortFunc(gs, func(a, b *Gap) int {
		if a.migration < b.migration {
			return -1
		}
		return 1
	})
	return gs
}
