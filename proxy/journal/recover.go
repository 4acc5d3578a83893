package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// Generation is the journal of a process that has ended, owned by this one.
type Generation struct {
	gen       *generation
	cursor    *Cursor
	recovered bool
	unknown   int
}

func newEnded(g *generation) *Generation { return &Generation{gen: g, cursor: newCursor(g)} }

// Epoch is that of the process that ended.
func (g *Generation) Epoch() Epoch { return g.gen.epoch }

// Dir is its directory.
func (g *Generation) Dir() string { return g.gen.dir }

// Unknown is the number of writes that Recover found without outcome.
func (g *Generation) Unknown() int { return g.unknown }

// Cursor reads it, after Recover.
func (g *Generation) Cursor() *Cursor { return g.cursor }

// Close gives it up; if everything was acknowledged, it is removed.
func (g *Generation) Close() error { return g.cursor.close() }

// Recover makes an ended generation readable: it cuts a torn tail, saying what was cut, appends the outcome unknown
// to intents that have none, closes open gaps with "at least", and appends the end. It reads all that is not shipped,
// so it may take a while. It is idempotent, also when it is cut short.
func (g *Generation) Recover(ctx context.Context) error {
	if g.recovered {
		return nil
	}
	if err := g.gen.load(); err != nil {
		return fmt.Errorf("recover generation %s: %w", g.gen.dir, err)
	}
	s, err := g.gen.survey(ctx)
	if err != nil {
		return fmt.Errorf("recover generation %s: %w", g.gen.dir, err)
	}
	if err := g.gen.mend(s); err != nil {
		return fmt.Errorf("recover generation %s: %w", g.gen.dir, err)
	}
	g.recovered, g.unknown = true, len(s.open)
	g.gen.cfg.Log.Info("journal: ended generation recovered", "dir", g.gen.dir, "highest", s.seq, "sealed", s.ended,
		"unknown", len(s.open), "gaps_open", len(s.gaps), "acknowledged", g.gen.acked.get(), "shipped_upto", s.ship)
	return nil
}

// load opens the segments and settles where each ends. A segment at the end without a header never came into use.
func (g *generation) load() error {
	if len(g.segs) > 0 {
		return nil
	}
	if err := os.Remove(filepath.Join(g.dir, spareName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove spare file: %w", err)
	}
	segs, err := listSegments(g.dir)
	if err != nil {
		return err
	}
	for _, s := range segs {
		if s.f, err = g.cfg.fs.Open(s.path); err != nil {
			return fmt.Errorf("open segment: %w", err)
		}
		if s.size, err = s.f.Size(); err != nil {
			return fmt.Errorf("size of segment: %w", err)
		}
	}
	var kept []*segment
	for i, s := range segs {
		b := make([]byte, headerSize)
		if _, err := s.f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read header of %s: %w", s.path, err)
		}
		h, err := parseHeader(b)
		switch {
		case err == nil && (h.epoch != g.epoch || h.number != s.number):
			return fmt.Errorf("segment %s belongs to epoch %d, number %d: it was moved here; move it back", s.path, h.epoch, h.number)
		case err == nil:
			s.header = h
			kept = append(kept, s)
		case !errors.Is(err, errNoHeader):
			return fmt.Errorf("segment %s: %w", s.path, err)
		case i == len(segs)-1: // the process ended while it made it
			g.discard(s)
		default:
			s.epoch = 0 // judged below, by what its successor says of its end
			kept = append(kept, s)
		}
	}
	return g.settleEnds(kept)
}

// settleEnds limits each segment to the end that its successor names.
func (g *generation) settleEnds(segs []*segment) error {
	var seeds []uint32
	for _, s := range segs {
		if s.epoch != 0 {
			seeds = append(seeds, s.seed)
		}
	}
	var out []*segment
	for i, s := range segs {
		s.end = s.size
		if i+1 < len(segs) && segs[i+1].epoch != 0 {
			s.end = min(s.size, segs[i+1].prevEnd)
		}
		if s.epoch == 0 && s.end <= headerSize {
			g.discard(s) // its first sync failed, all is in the successor
			continue
		}
		if s.epoch == 0 {
			g.cfg.Log.Error("journal: the header of a segment is damaged; its records are read all the same", "segment", s.path)
			s.epoch, s.seed = g.epoch, s.probe(seeds)
		}
		s.orphan = i > 0 && segs[i-1].number+1 != s.number
		out = append(out, s)
	}
	g.segs = out
	return nil
}

// probe finds the seed of a segment that has lost it. It is that of another one or next to it; what the file held before
// may be of another such seed, but lies behind.
func (s *segment) probe(seeds []uint32) (seed uint32) {
	first := s.end
	for _, known := range seeds {
		for _, near := range []uint32{known, known + 1, known - 1} {
			sc := scanner{f: s.f, seed: near, at: headerSize, end: first}
			if f, err := sc.next(); err == nil && f.at < first {
				seed, first = near, f.at
			}
		}
	}
	return seed
}

// survey is what all records of a generation say together.
type survey struct {
	seq   Seq
	ship  ShipSeq
	open  map[Seq]bool        // intents without outcome
	gaps  map[string]*GapMark // open gaps
	ended bool
	end   int64 // of the records of the last segment
}

func (g *generation) survey(ctx context.Context) (*survey, error) {
	v := &survey{open: map[Seq]bool{}, gaps: map[string]*GapMark{}, end: headerSize}
	for i, s := range g.segs {
		v.seq, v.ship = max(v.seq, s.lastSeq), max(v.ship, s.lastShip)
		sc := scanner{f: s.f, seed: s.seed, at: headerSize, end: s.end}
		var doubtful []found // damaged, in the last segment: torn if nothing intact follows
		for {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			f, err := sc.next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("segment %s: %w", s.path, err)
			}
			last := i == len(g.segs)-1
			if f.damaged && last {
				f.payload = nil
				doubtful = append(doubtful, f)
				continue
			}
			for _, d := range doubtful {
				v.add(&d)
			}
			doubtful = doubtful[:0]
			v.add(&f)
			if last {
				v.end = sc.at
			}
		}
	}
	return v, nil
}

func (v *survey) add(f *found) {
	switch f.kind {
	case kindIntent:
		v.open[f.seq] = true
		v.seq = max(v.seq, f.seq)
		return
	case kindOutcome:
		delete(v.open, f.seq)
	case kindGap:
		name := string(f.payload)
		if f.damaged {
			break
		}
		if f.flags&flagGapClose != 0 {
			delete(v.gaps, name)
		} else {
			v.gaps[name] = &GapMark{Migration: name, From: f.seq, Count: f.count}
		}
	case kindEnd:
		v.ended = true
	}
	v.ship = max(v.ship, f.ship)
}

// mend cuts the tail and appends what the process could not.
func (g *generation) mend(v *survey) error {
	if len(g.segs) == 0 { // nothing was ever recorded, or everything was shipped and removed
		g.mu.Lock()
		g.ended = true
		g.mu.Unlock()
		return nil
	}
	last := g.segs[len(g.segs)-1]
	if err := g.cut(last, v.end); err != nil {
		return err
	}
	var b []byte
	if !v.ended {
		b = g.unfinished(v, last.seed)
	}
	end := v.end
	if end+int64(len(b)) > last.size { // cannot be with the room held back, unless the limits were raised by hand
		h := header{epoch: g.epoch, number: last.number + 1, prevEnd: v.end, lastSeq: v.seq, lastShip: v.ship, seed: last.seed}
		s, err := g.create(h)
		if err != nil {
			return err
		}
		last.end, last, end = v.end, s, headerSize
		g.segs = append(g.segs, s)
	}
	if _, err := last.f.WriteAt(b, end); err != nil {
		return fmt.Errorf("append unknown outcomes to %s: %w", last.path, err)
	}
	// Whatever the process had written and not synced is synced here, before any of it is shipped.
	if err := last.f.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", last.path, err)
	}
	g.mu.Lock()
	last.end, g.ended = end+int64(len(b)), true
	g.mu.Unlock()
	return nil
}

// unfinished are the records that a sealed generation would have.
func (g *generation) unfinished(v *survey, seed uint32) (b []byte) {
	now, ship := g.cfg.Now().UnixNano(), v.ship
	put := func(r record) {
		ship++
		r.ship, r.time, r.flags = ship, now, r.flags|flagRecovered
		r.checksum(seed)
		b = appendRecord(b, seed, &r)
	}
	for _, seq := range slices.Sorted(maps.Keys(v.open)) {
		put(record{kind: kindOutcome, seq: seq})
	}
	for _, name := range slices.Sorted(maps.Keys(v.gaps)) {
		m := v.gaps[name]
		put(record{kind: kindGap, flags: flagGapClose | flagAtLeast, seq: m.From, count: m.Count, payload: []byte(name)})
	}
	put(record{kind: kindEnd})
	return b
}

// cut zeroes what follows the last record: the bytes of records that the process did not finish.
func (g *generation) cut(s *segment, end int64) error {
	const step = 1 << 20
	first, lastByte := int64(-1), int64(-1)
	b := make([]byte, step)
	for at := end; at < s.size; at += step {
		n := min(step, s.size-at)
		if _, err := s.f.ReadAt(b[:n], at); err != nil {
			return fmt.Errorf("read tail of %s: %w", s.path, err)
		}
		for i, x := range b[:n] {
			if x != 0 {
				if first < 0 {
					first = at + int64(i)
				}
				lastByte = at + int64(i)
			}
		}
	}
	if first < 0 {
		return nil
	}
	if s.reused { // what was being written cannot be told from what the file held before
		g.cfg.Log.Debug("journal: the end of a segment cleared", "segment", s.path, "at", end, "bytes", lastByte+1-end)
	} else {
		g.cfg.Log.Warn("journal: torn tail cut: records that were being written when the process ended",
			"segment", s.path, "at", end, "bytes", lastByte+1-end)
	}
	zeros := make([]byte, min(step, lastByte+1-end))
	for at := end; at <= lastByte; at += int64(len(zeros)) {
		if _, err := s.f.WriteAt(zeros[:min(int64(len(zeros)), lastByte+1-at)], at); err != nil {
			return fmt.Errorf("cut tail of %s: %w", s.path, err)
		}
	}
	return nil
}
