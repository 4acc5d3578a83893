package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// ItemKind tells what a cursor yields.
type ItemKind uint8

const (
	// ItemWrite is a write with its outcome.
	ItemWrite ItemKind = iota + 1
	// ItemGap says that writes of a migration went unrecorded.
	ItemGap
	// ItemDamage says that synced bytes cannot be read: at least one write may be missing, of any migration.
	ItemDamage
	// ItemEnd is the last of a generation.
	ItemEnd
)

// Item is one thing to ship.
type Item struct {
	Kind  ItemKind
	Epoch Epoch
	Ship  ShipSeq // 0 for damage

	// Of a write.
	Seq                Seq
	Intent, Outcome    []byte
	Started, Completed time.Time
	Memory             bool // its intent was not synced before legacy was asked
	Recovered          bool // no outcome was recorded: it is unknown
	Bare               bool // the outcome's payload is missing: it is unknown
	IntentLost         bool // damage took the intent's payload

	Gap GapMark

	// Bytes that are damaged.
	Bytes int64
	// Of the end: the highest intent. Recovered: the process did not seal it.
	LastSeq Seq
}

// GapMark is a record of a gap: its opening, its count so far, or its closing.
type GapMark struct {
	Migration string
	From      Seq // the first sequence that may have been given after the gap opened
	At        time.Time
	Opened    bool
	Closed    bool
	Count     uint64
	AtLeast   bool // the count is a lower bound
}

// Cursor reads one generation in shipping order. It has one user at a time; Ack may be called by another goroutine.
type Cursor struct {
	g *generation

	seg     *segment // being read
	scan    scanner
	past    []*read // read to their end, not removed, oldest first; then the one being read
	intents map[Seq]place
	gaps    map[string]*read // where the latest record of each open gap lies: it must not go before there is a later one
	buf     []byte
	last    Seq
	ended   bool

	mu   sync.Mutex // guards past's content against Ack, and what follows
	head ShipSeq    // highest read
	over bool       // the end record was read
	gone bool       // closed
}

// place is where an intent lies whose outcome has not been seen.
type place struct {
	r       *read
	at      int64
	size    int
	time    int64
	flags   uint16
	damaged bool
}

// read is what the cursor knows of a segment that it has entered.
type read struct {
	s    *segment
	open int     // intents without outcome, and open gaps whose latest record this has
	last ShipSeq // highest shipping sequence of the outcomes of its intents, and of its records
	done bool    // read to its end
}

func newCursor(g *generation) *Cursor {
	return &Cursor{g: g, intents: map[Seq]place{}, gaps: map[string]*read{}}
}

// Epoch is that of the generation.
func (c *Cursor) Epoch() Epoch { return c.g.epoch }

// Acked is the acknowledged shipping sequence.
func (c *Cursor) Acked() ShipSeq { return c.g.acked.get() }

// Next fills it with the next item that has not been acknowledged; its byte slices are good until the following call. It
// waits until one is on the disk, so with a context that has ended it yields what is there already. It returns io.EOF
// after the end. Any other error but the context's is one of reading the disk; the next call tries again.
func (c *Cursor) Next(ctx context.Context, it *Item) error {
	for {
		if c.ended {
			return io.EOF
		}
		if c.seg == nil {
			if c.seg = c.g.after(nil); c.seg == nil { // an adopted generation that holds nothing
				c.mu.Lock()
				c.ended, c.over = true, true
				c.mu.Unlock()
				continue
			}
			c.enter()
			if c.damageBefore(it) {
				return nil
			}
		}
		end, final := c.g.extent(c.seg)
		c.scan.end = end
		f, err := c.scan.next()
		if f.skipped > 0 {
			c.g.cfg.Log.Error("journal: synced bytes are damaged and left out; writes may be missing: check the disk",
				"segment", c.seg.path, "before", c.scan.at, "bytes", f.skipped)
			if err == nil {
				c.scan.at = f.at // again, without the skipped
			}
			*it = Item{Kind: ItemDamage, Epoch: c.g.epoch, Bytes: f.skipped}
			return nil
		}
		if err == nil {
			if ok, err := c.item(&f, it); ok || err != nil {
				return err
			}
			continue
		}
		if !errors.Is(err, io.EOF) {
			return fmt.Errorf("read segment %s: %w", c.seg.path, err)
		}
		if !final {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			select {
			case <-c.g.wake:
			case <-ctx.Done():
			}
			continue
		}
		if next := c.g.after(c.seg); next != nil {
			c.leave()
			c.seg = next
			c.enter()
			if c.damageBefore(it) {
				return nil
			}
			continue
		}
		c.ended = true // closed without an end record; the successor writes one
	}
}

func (c *Cursor) enter() {
	c.scan = scanner{f: c.seg.f, seed: c.seg.seed, at: headerSize, win: c.scan.win[:0]}
	c.mu.Lock()
	c.past = append(c.past, &read{s: c.seg})
	c.mu.Unlock()
}

// damageBefore fills it if the segment before the current one is not there.
func (c *Cursor) damageBefore(it *Item) bool {
	if !c.seg.orphan {
		return false
	}
	c.g.cfg.Log.Error("journal: a segment is missing; its writes are lost: was it removed by hand?", "before", c.seg.path)
	*it = Item{Kind: ItemDamage, Epoch: c.g.epoch, Bytes: c.seg.prevEnd}
	return true
}

func (c *Cursor) leave() {
	c.mu.Lock()
	c.past[len(c.past)-1].done = true
	c.mu.Unlock()
}

// item digests a record and says whether it is to be yielded.
func (c *Cursor) item(f *found, it *Item) (bool, error) {
	c.mu.Lock()
	here := c.past[len(c.past)-1]
	c.mu.Unlock()
	if f.kind == kindIntent {
		c.intents[f.seq] = place{r: here, at: f.at, size: f.size, time: f.time, flags: f.flags, damaged: f.damaged}
		c.last = max(c.last, f.seq)
		c.mu.Lock()
		here.open++
		c.mu.Unlock()
		return false, nil
	}
	p, known := c.intents[f.seq]
	fresh := f.ship > c.Acked()
	*it = Item{Epoch: c.g.epoch, Ship: f.ship, Recovered: f.flags&flagRecovered != 0}
	switch f.kind {
	case kindOutcome:
		it.Kind, it.Seq, it.Completed = ItemWrite, f.seq, time.Unix(0, f.time)
		it.Bare = f.flags&flagBare != 0 || f.damaged
		if !f.damaged {
			it.Outcome = f.payload
		}
		if fresh {
			if err := c.intent(p, known, it); err != nil {
				c.scan.at = f.at // again at the next call
				return false, err
			}
		}
		if known {
			delete(c.intents, f.seq)
		}
	case kindGap:
		if f.damaged {
			*it = Item{Kind: ItemDamage, Epoch: c.g.epoch, Ship: f.ship, Bytes: frameSize(f.size)}
			break
		}
		it.Kind = ItemGap
		it.Gap = GapMark{Migration: string(f.payload), From: f.seq, At: time.Unix(0, f.time), Count: f.count,
			Opened: f.flags&flagGapOpen != 0, Closed: f.flags&flagGapClose != 0, AtLeast: f.flags&flagGapClose == 0 || f.flags&flagAtLeast != 0}
	case kindEnd:
		it.Kind, it.Completed, it.LastSeq = ItemEnd, time.Unix(0, f.time), max(c.last, c.seg.lastSeq)
		c.ended = true
	}
	c.mu.Lock()
	c.over = c.over || f.kind == kindEnd
	if it.Kind == ItemGap {
		c.pinGapLocked(it.Gap, here)
	}
	here.last = max(here.last, f.ship)
	if known && f.kind == kindOutcome {
		p.r.open--
		p.r.last = max(p.r.last, f.ship)
	}
	c.head = max(c.head, f.ship)
	c.mu.Unlock()
	return fresh, nil
}

func (c *Cursor) pinGapLocked(m GapMark, here *read) {
	if was := c.gaps[m.Migration]; was != nil {
		was.open--
		delete(c.gaps, m.Migration)
	}
	if !m.Closed {
		here.open++
		c.gaps[m.Migration] = here
	}
}

// intent fetches the intent of an outcome.
func (c *Cursor) intent(p place, known bool, it *Item) error {
	if !known || p.damaged {
		it.IntentLost = true
		if known {
			it.Started, it.Memory = time.Unix(0, p.time), p.flags&flagMemory != 0
		}
		return nil
	}
	it.Started, it.Memory = time.Unix(0, p.time), p.flags&flagMemory != 0
	n := headSize + p.size
	if p.r.s == c.seg {
		if b := c.scan.held(p.at, n); b != nil { // the same memory that was found intact
			it.Intent = b[headSize:n:n]
			return nil
		}
	}
	if cap(c.buf) < n {
		c.buf = make([]byte, n)
	}
	b := c.buf[:n]
	if _, err := p.r.s.f.ReadAt(b, p.at); err != nil {
		return fmt.Errorf("read intent %d in %s: %w", it.Seq, p.r.s.path, err)
	}
	if !intact(b, b[headSize:], p.r.s.seed) {
		it.IntentLost = true // since it was scanned
		return nil
	}
	it.Intent = b[headSize:n:n]
	return nil
}

// Ack says that every item up to ship has reached its destination. Segments that hold nothing else are removed;
// if the end is acknowledged too, closing the generation removes it.
func (c *Cursor) Ack(ship ShipSeq) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return nil
	}
	if ship > c.head {
		return fmt.Errorf("acknowledge %d: only %d have been read", ship, c.head)
	}
	n := 0
	for n < len(c.past) && c.past[n].done && c.past[n].open == 0 && c.past[n].last <= ship {
		n++
	}
	if err := c.g.acked.set(ship, n > 0 || c.over && ship == c.head, c.g.cfg.Now()); err != nil {
		return err
	}
	for ; n > 0; n-- {
		s := c.past[0].s
		c.past = c.past[1:]
		if err := c.g.dropFirst(s); err != nil {
			return err
		}
	}
	return nil
}

// close ends a Next that waits, gives the generation up, and removes it if everything in it was acknowledged.
func (c *Cursor) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return nil
	}
	c.gone = true
	c.g.mu.Lock()
	c.g.ended = true
	c.g.mu.Unlock()
	c.g.notify()
	defer c.g.close()
	if c.over && c.g.acked.get() >= c.head {
		return c.g.remove()
	}
	return nil
}

// LastSeq is the highest intent that has been read.
func (c *Cursor) LastSeq() Seq { return c.last }
