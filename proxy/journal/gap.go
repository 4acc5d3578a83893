package journal

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
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
	count     atomic.Uint64

	mu      sync.Mutex // one record of the gap at a time; guards what follows; taken before Journal.mu
	next    uint64     // the count at which progress is recorded
	durable bool       // its opening is on the disk
	closed  bool

	// Guarded by Journal.mu.
	from Seq
	live bool // the log says that it is open: a new segment repeats that, because the old one may go
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
		g = &Gap{j: j, migration: migration, next: 1, from: j.seq + 1}
		j.gaps[migration] = g
	}
	j.mu.Unlock()

	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, fmt.Errorf("open gap of %s: closed this moment, ask again", migration)
	}
	if g.durable {
		return g, nil
	}
	recorded, err := g.mark(flagGapOpen, true)
	if err != nil {
		if !recorded { // otherwise the log may say that it is open: it stays, for the next OpenGap or Seal
			g.drop()
		}
		return nil, fmt.Errorf("open gap of %s: %w", migration, err)
	}
	g.durable = true
	return g, nil
}

// Add counts n unrecorded writes. Every doubling is recorded, so that a crash leaves a fair lower bound.
func (g *Gap) Add(n uint64) {
	count := g.count.Add(n)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed || g.durable && count < g.next {
		return
	}
	for g.next <= count && g.next < 1<<31 {
		g.next *= 2
	}
	if g.next >= 1<<31 {
		g.next = 1<<64 - 1
	}
	recorded, _ := g.mark(flagAtLeast, false)
	g.durable = g.durable || recorded // said again after a Close that failed; before OpenGap returns nobody has g
	// An error is no matter: the count is a lower bound already, losing one makes it lower, not wrong.
}

// Count is the number of writes so far.
func (g *Gap) Count() uint64 { return g.count.Load() }

// Close records the exact count, durably. After an error the gap goes on; since the log may say that it is closed,
// the next Add or OpenGap says again that it is not.
func (g *Gap) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil
	}
	if recorded, err := g.mark(flagGapClose, true); err != nil {
		if recorded {
			g.durable = false
			g.j.mu.Lock()
			g.live = true
			g.j.mu.Unlock()
		}
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

// mark appends a gap record, and says whether it did, though its sync may have failed. The reserve is used when the
// journal is full; while it is not, a new segment is.
func (g *Gap) mark(flags uint16, sync bool) (recorded bool, err error) {
	j := g.j
	j.mu.Lock()
	full := j.state == stateFull
	r := g.record(flags)
	j.mu.Unlock()
	held := j.cfg.reserve()
	if full {
		held = j.cfg.bareReserve()
	}
	at, err := j.put(&r, g, held)
	if errors.Is(err, ErrFull) && !full { // since we looked
		at, err = j.put(&r, g, j.cfg.bareReserve())
	}
	if err != nil {
		return false, err
	}
	if sync {
		return true, j.wait(at.batch)
	}
	return true, j.write(at)
}

func (g *Gap) record(flags uint16) record {
	return record{kind: kindGap, flags: flags, seq: g.from, count: g.count.Load(), time: g.j.cfg.Now().UnixNano(), payload: []byte(g.migration)}
}

// repeatGapsLocked says in a new segment which gaps are open.
func (j *Journal) repeatGapsLocked() {
	for _, g := range j.gaps {
		if !g.live {
			continue
		}
		r := g.record(flagAtLeast)
		r.checksum(j.seed.Load())
		j.ship++
		r.ship = j.ship
		j.buf = appendRecord(j.buf, j.seed.Load(), &r)
		n := frameSize(len(r.payload))
		j.pos, j.unsynced = j.pos+n, j.unsynced+n
	}
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
