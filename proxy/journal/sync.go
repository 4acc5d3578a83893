package journal

import (
	"errors"
	"fmt"
	"os"
	"time"
)

// syncer is the one goroutine that syncs, changes segments and leaves the states full and failed. While it syncs,
// appenders fill the next batch.
func (j *Journal) syncer() {
	defer close(j.done)
	timer, pace := time.NewTimer(time.Hour), time.NewTimer(time.Hour)
	timer.Stop()
	pace.Stop()
	armed := false
	var retryAt time.Time // when to try to leave full or failed
	for {
		select {
		case <-j.kick:
			if d := j.rest(); d > 0 {
				pace.Reset(d)
				continue
			}
		case <-pace.C:
		case <-j.lazy:
			if !armed {
				armed = true
				timer.Reset(j.cfg.LazySync)
			}
			continue
		case <-timer.C:
		case <-j.stop:
			j.cycle(true)
			j.shut()
			return
		}
		pace.Stop()
		timer.Stop() // the cycle covers what it was armed for; what comes meanwhile arms it again
		armed = false
		now := time.Now()
		retry := j.again.Swap(false) || !now.Before(retryAt)
		stuck := j.cycle(retry)
		if stuck {
			if retry {
				retryAt = now.Add(j.cfg.RetryAfter)
			}
			armed = true
			timer.Reset(max(time.Until(retryAt), time.Millisecond))
		} else {
			retryAt = time.Time{}
		}
	}
}

// siblings is how many writes in flight make the whole of Config.Pace worth its wait.
const siblings = 16

// rest is how long the next sync is to wait for others to share it, 0 or less if it is due. A sync costs the same for
// one write as for fifty, so while many are in flight the syncs keep a distance; but not from writes of which none can
// still join, because all wait already, nor from a state or a segment that has to change. PostgreSQL's commit_delay and
// commit_siblings are the same idea.
func (j *Journal) rest() time.Duration {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.state != stateOpen || j.rotate || j.batch.urgent || j.batch.waiting >= len(j.flying) {
		return 0
	}
	d := time.Until(j.began.Add(j.cfg.Pace * time.Duration(min(len(j.flying), siblings)) / siblings))
	j.resting = d > 0
	return d
}

// hastenLocked ends a rest in which nobody can join any more.
func (j *Journal) hastenLocked() {
	if j.resting && j.batch.waiting >= len(j.flying) {
		j.resting = false
		j.batch.kicked = false
		j.kickLocked()
	}
}

// Retry asks to leave the states full and failed now, e.g. after room was made. It does not wait.
func (j *Journal) Retry() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.state == stateFull || j.state == stateFailed {
		j.again.Store(true)
		j.batch.kicked = false
		j.kickLocked()
	}
}

// cycle makes everything appended so far durable, changes the segment if asked, and tries to leave full or failed if
// retry says it is time. It reports whether the journal is still stuck in one of them.
func (j *Journal) cycle(retry bool) (stuck bool) {
	j.mu.Lock()
	st := j.state
	j.mu.Unlock()
	if st == stateFailed {
		b := j.takeBatch()
		var err error
		if retry {
			err = j.heal(j.failed())
		} else {
			err = j.failed()
		}
		j.finish(b, err)
		return err != nil
	}
	j.mu.Lock()
	turn := j.rotate || j.state == stateFull && retry
	j.mu.Unlock()
	if turn {
		b := j.takeBatch()
		j.finish(b, j.turn())
	} else {
		j.sync()
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.state == stateFull || j.state == stateFailed
}

func (j *Journal) failed() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.refusalLocked(ErrFailed)
}

// takeBatch starts a new batch and gives the old one, for a cycle that is not a plain sync.
func (j *Journal) takeBatch() *batch {
	j.mu.Lock()
	defer j.mu.Unlock()
	b := j.batch
	j.batch = newBatch()
	return b
}

// finish wakes everybody who waits for the batch. Who waits for room looks at the state, not at err.
func (j *Journal) finish(b *batch, err error) {
	b.err = err
	close(b.done)
	j.gen.notify()
}

// sync is one group commit.
func (j *Journal) sync() {
	var b *batch
	j.wmu.Lock()
	err := j.flushLocked(func() {
		b = j.batch
		j.batch = newBatch()
		j.began, j.resting = time.Now(), false
	})
	n, upto := len(j.chunks), j.off
	j.wmu.Unlock()
	if n == 0 {
		j.finish(b, nil)
		return
	}
	if err == nil {
		start := time.Now()
		if err = j.cur.f.Sync(); err != nil { // cur is changed by this goroutine alone
			err = fmt.Errorf("sync segment %s: %w", j.cur.path, err)
		} else if j.cfg.Synced != nil {
			j.cfg.Synced(time.Since(start))
		}
	}
	if err != nil {
		j.finish(b, j.heal(err))
		return
	}
	j.durable(n, upto)
	j.finish(b, nil)
}

// durable records that the first n chunks, up to offset upto of the current segment, are on the disk.
func (j *Journal) durable(n int, upto int64) {
	j.gen.mu.Lock()
	j.cur.end = upto
	j.gen.mu.Unlock()
	j.wmu.Lock()
	done := j.chunks[:n:n]
	var bytes int64
	for _, c := range done {
		bytes += int64(len(c))
		j.recycle(c)
	}
	m := copy(j.chunks, j.chunks[n:])
	clear(j.chunks[m:])
	j.chunks = j.chunks[:m]
	j.wmu.Unlock()
	j.mu.Lock()
	j.unsynced -= bytes
	j.mu.Unlock()
}

// turn changes to a new segment: everything of the current one is synced first, so that its end, which the new
// header carries, is beyond doubt. Without room for a new segment the journal is full. Appenders of outcomes wait
// for the two syncs; this is once per segment.
func (j *Journal) turn() error {
	var h header
	j.wmu.Lock()
	err := j.flushLocked(func() { h = j.headerLocked() })
	n, upto := len(j.chunks), j.off
	if err == nil {
		if err = j.cur.f.Sync(); err != nil {
			err = fmt.Errorf("sync segment %s: %w", j.cur.path, err)
		}
	}
	if err != nil {
		j.wmu.Unlock()
		return j.heal(err)
	}
	h.prevEnd = upto
	s, err := j.gen.successor(h)
	if err != nil {
		j.wmu.Unlock()
		j.durable(n, upto)
		j.full(err)
		return nil
	}
	old := j.cur
	j.adoptSegment(s, headerSize)
	j.wmu.Unlock()
	j.cfg.Log.Debug("journal: new segment", "segment", s.path, "after", old.path, "end", upto)
	return nil
}

func (j *Journal) headerLocked() header {
	return header{epoch: j.gen.epoch, number: j.cur.number + 1, lastSeq: j.seq, lastShip: j.ship, seed: j.seed.Load()}
}

// adoptSegment (wmu) makes s the current segment, with its bytes up to off on the disk or the header alone written.
func (j *Journal) adoptSegment(s *segment, off int64) {
	prev := s.prevEnd
	s.end = off
	j.gen.mu.Lock()
	j.cur.end = prev
	j.gen.segs = append(j.gen.segs, s)
	j.gen.mu.Unlock()
	for _, c := range j.chunks {
		j.recycle(c)
	}
	j.chunks = j.chunks[:0]
	j.cur, j.off, j.broken = s, off, nil
	j.mu.Lock()
	if s.seed != j.seed.Load() {
		j.seed.Store(s.seed)
		reseal(j.buf, s.seed)
	}
	j.pos, j.size = off+int64(len(j.buf)), s.size
	j.unsynced = int64(len(j.buf))
	j.rotate = false
	j.repeatGapsLocked()
	was, cause := j.state, j.failure
	j.state, j.failure = stateOpen, nil
	j.mu.Unlock()
	if was != stateOpen {
		j.cfg.Log.Info("journal: works again", "segment", s.path, "was", cause)
	}
}

func (j *Journal) full(cause error) {
	j.mu.Lock()
	first := j.state != stateFull
	j.state, j.failure, j.rotate = stateFull, cause, false
	j.mu.Unlock()
	if first {
		j.cfg.Log.Error("journal: full; new writes are refused until there is room for a segment: check that it is being shipped, journal.quota, and the disk",
			"dir", j.gen.dir, "error", cause)
	}
}

// heal is called after a write or sync failed. The file is left as it is: what was synced before counts, the rest
// does not, and the header of the fresh segment says so. Everything since is written to that one. If it works,
// nobody needs to know; if not, the journal has failed.
func (j *Journal) heal(cause error) error {
	var h header
	j.wmu.Lock()
	if j.broken == nil {
		j.broken = cause
	}
	_ = j.flushLocked(func() { h = j.headerLocked() }) // to the chunks only: the file is broken
	j.gen.mu.Lock()
	h.prevEnd = j.cur.end
	j.gen.mu.Unlock()
	s, off, err := j.rewrite(h)
	if err != nil {
		j.wmu.Unlock()
		return j.fail(errors.Join(cause, err))
	}
	j.cfg.Log.Error("journal: a segment failed and was left at what had been synced; its successor has everything since",
		"segment", j.cur.path, "synced", h.prevEnd, "successor", s.path, "error", cause)
	j.adoptSegment(s, off)
	j.wmu.Unlock()
	j.mu.Lock()
	j.settleLostLocked()
	j.mu.Unlock()
	return nil
}

// rewrite makes a segment with all chunks in it, synced.
func (j *Journal) rewrite(h header) (s *segment, off int64, err error) {
	if s, err = j.gen.create(h); err != nil {
		return nil, 0, err
	}
	off = headerSize
	for _, c := range j.chunks {
		if _, err = s.f.WriteAt(c, off); err != nil {
			break
		}
		off += int64(len(c))
	}
	if err == nil {
		err = s.f.Sync()
	}
	if err != nil {
		j.gen.discard(s)
		return nil, 0, fmt.Errorf("fresh segment %s: %w", s.path, err)
	}
	return s, off, nil
}

// fail enters the state failed.
func (j *Journal) fail(cause error) error {
	j.mu.Lock()
	first := j.state != stateFailed
	j.state, j.failure = stateFailed, cause
	err := j.refusalLocked(ErrFailed)
	j.mu.Unlock()
	if first {
		j.cfg.Log.Error("journal: failed; writes are refused until a new segment can be written and synced: check the disk",
			"dir", j.gen.dir, "error", cause)
	}
	return err
}

// settleLostLocked gives the outcome unknown to writes whose callers were told that they could not be recorded.
func (j *Journal) settleLostLocked() {
	now := j.cfg.Now().UnixNano()
	n := len(j.flying)
	for seq, f := range j.flying {
		if !f.lost {
			continue
		}
		delete(j.flying, seq)
		j.ship++
		r := record{kind: kindOutcome, flags: flagRecovered, seq: seq, ship: j.ship, time: now}
		r.checksum(j.seed.Load())
		j.buf = appendRecord(j.buf, j.seed.Load(), &r) // in the reserve: it holds one for each in flight
		j.pos += frameSize(0)
		j.unsynced += frameSize(0)
	}
	if n == len(j.flying) {
		return
	}
	if j.idle != nil && len(j.flying) == 0 {
		close(j.idle)
	}
	j.batch.kicked = false
	j.kickLocked()
}

// shut ends the journal for everybody who still waits.
func (j *Journal) shut() {
	j.mu.Lock()
	j.state = stateClosed
	b := j.batch
	j.batch = newBatch()
	j.mu.Unlock()
	j.finish(b, fmt.Errorf("%w: %w", ErrSealed, os.ErrClosed))
}
