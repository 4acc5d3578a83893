package journal

import (
	"errors"
	"fmt"
	"runtime"
)

// Intent is what is recorded before legacy is asked.
type Intent struct {
	Payload []byte
	Ack     Ack
	Key     any // opaque, comes back in Mark; see SetKey
}

// Outcome is what is recorded after legacy answered, or did not.
type Outcome struct {
	Payload []byte
	Sync    bool // return only when it is on the disk; see the package comment on why that is rarely needed
}

// AppendIntent records a write that is about to be forwarded. It returns when the intent is as durable as in.Ack
// says. It takes no context: the wait is that for one flush of the disk, and who left early could not know whether
// the intent is recorded. On an error the write is not recorded, and the caller's when_full policy decides; an
// intent that reached the disk in spite of the error becomes unknown.
func (j *Journal) AppendIntent(in Intent) (Seq, error) {
	if len(in.Payload) > j.cfg.MaxRecord {
		return 0, fmt.Errorf("intent of %d bytes, limit %d: %w", len(in.Payload), j.cfg.MaxRecord, ErrTooLarge)
	}
	r := record{kind: kindIntent, payload: in.Payload, time: j.cfg.Now().UnixNano()}
	if in.Ack == AckMemory {
		r.flags = flagMemory
	}
	at, err := j.put(&r, in.Key, j.cfg.reserve())
	if err != nil {
		return 0, err
	}
	if in.Ack == AckMemory {
		err = j.write(at)
	} else {
		err = j.wait(at.batch)
	}
	if err != nil {
		j.giveUp(r.seq)
		return 0, err
	}
	return r.seq, nil
}

// AppendOutcome records what became of a write and gives it its place in the shipping order. When it returns nil the
// operating system has it. An outcome longer than Config.MaxRecord, or one that finds no room because the disk is
// full, is kept without its payload. After ErrFailed the write is unknown, unless the journal works again in time.
func (j *Journal) AppendOutcome(seq Seq, out Outcome) (ShipSeq, error) {
	r := record{kind: kindOutcome, seq: seq, payload: out.Payload, time: j.cfg.Now().UnixNano()}
	if len(r.payload) > j.cfg.MaxRecord {
		r.payload, r.flags = nil, flagBare
	}
	at, err := j.put(&r, nil, j.cfg.reserve())
	if errors.Is(err, ErrFull) {
		r.payload, r.flags = nil, flagBare
		at, err = j.put(&r, nil, 0)
	}
	if err != nil {
		return 0, err
	}
	if out.Sync {
		err = j.wait(at.batch)
	} else {
		err = j.write(at)
	}
	return r.ship, err
}

// SetKey replaces the opaque key of a write in flight, when the answer told it.
func (j *Journal) SetKey(seq Seq, key any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if f, ok := j.flying[seq]; ok {
		f.key = key
		j.flying[seq] = f
	}
}

// spot is where put left a record.
type spot struct {
	batch   *batch // makes it durable
	fill    uint64 // the buffer that it is in
	company bool   // many other writes are in flight
}

// put frames a record into the buffer, with its sequences. It leaves the last held bytes of the segment to more
// important records: see Config.reserve.
func (j *Journal) put(r *record, key any, held int64) (at spot, err error) {
	seed := j.seed.Load()
	r.checksum(seed)
	need := frameSize(len(r.payload))
	j.mu.Lock()
	defer j.mu.Unlock()
	for {
		if err := j.admitLocked(r); err != nil {
			return at, err
		}
		if j.pos+need > j.size-held {
			if j.state == stateFull {
				return at, j.refusalLocked(ErrFull)
			}
			j.rotate = true
		} else if j.unsynced == 0 || j.unsynced+need <= j.cfg.Unsynced {
			break
		}
		// Wait for the syncer: it makes room, or changes the state.
		b := j.batch
		b.urgent, b.kicked = true, false // also during a rest
		j.kickLocked()
		j.mu.Unlock()
		<-b.done
		j.mu.Lock()
	}
	if now := j.seed.Load(); now != seed { // the segment has changed meanwhile
		r.checksum(now)
	}
	switch r.kind {
	case kindIntent:
		j.seq++
		r.seq = j.seq
		j.flying[r.seq] = flight{start: r.time, key: key}
	case kindOutcome:
		delete(j.flying, r.seq)
		j.hastenLocked()
		if j.idle != nil && len(j.flying) == 0 {
			close(j.idle)
		}
	case kindGap:
		key.(*Gap).live = r.flags&flagGapClose == 0
	}
	if r.kind != kindIntent {
		j.ship++
		r.ship = j.ship
	}
	j.buf = appendRecord(j.buf, j.seed.Load(), r)
	j.pos += need
	j.unsynced += need
	return spot{j.batch, j.fill, len(j.flying) >= siblings}, nil
}

// admitLocked refuses what the state does not allow. A refused outcome leaves its write in flight and lost.
func (j *Journal) admitLocked(r *record) error {
	f, inFlight := j.flying[r.seq]
	if r.kind == kindOutcome && !inFlight {
		return fmt.Errorf("outcome of %d: %w", r.seq, ErrNotInFlight)
	}
	switch j.state {
	case stateFailed:
		if r.kind == kindOutcome {
			f.lost = true
			j.flying[r.seq] = f
		}
		return j.refusalLocked(ErrFailed)
	case stateClosed:
		return ErrSealed
	}
	if r.kind != kindIntent {
		return nil
	}
	switch {
	case j.sealing:
		return ErrSealed
	case j.state == stateFull:
		return j.refusalLocked(ErrFull)
	case len(j.flying) >= j.cfg.MaxInFlight:
		return ErrBusy
	}
	return nil
}

func (j *Journal) refusalLocked(sentinel error) error {
	return fmt.Errorf("%w (%w)", sentinel, j.failure)
}

func (j *Journal) kickLocked() {
	if !j.batch.kicked {
		j.batch.kicked = true
		select {
		case j.kick <- struct{}{}:
		default:
		}
	}
}

// wait returns when the batch is on the disk, or could not be brought there.
func (j *Journal) wait(b *batch) error {
	j.mu.Lock()
	if b == j.batch { // otherwise its sync is under way
		b.waiting++
		j.kickLocked()
		j.hastenLocked()
	}
	j.mu.Unlock()
	<-b.done
	return b.err
}

// write returns when the operating system has the record. While many writes are in flight, whoever else is about to
// append goes first, so that one call writes for all of them: the call costs as much as the rest of an outcome.
func (j *Journal) write(at spot) error {
	if at.company {
		runtime.Gosched()
	}
	if j.written.Load() < at.fill {
		j.wmu.Lock()
		var err error
		if j.written.Load() < at.fill {
			err = j.flushLocked(nil)
		}
		j.wmu.Unlock()
		if err != nil {
			return j.wait(at.batch)
		}
	}
	j.mu.Lock()
	tell := at.batch == j.batch && !at.batch.kicked && !at.batch.told
	at.batch.told = at.batch.told || tell
	j.mu.Unlock()
	if tell {
		select {
		case j.lazy <- struct{}{}:
		default:
		}
	}
	return nil
}

// flushLocked (wmu) hands the buffer to the file. take runs under mu at the moment the buffer is taken.
func (j *Journal) flushLocked(take func()) error {
	j.mu.Lock()
	b, fill := j.buf, j.fill
	j.fill++
	j.buf = nil
	if n := len(j.free); n > 0 {
		j.buf, j.free = j.free[n-1], j.free[:n-1]
	}
	if take != nil {
		take()
	}
	j.mu.Unlock()
	if len(b) > 0 {
		j.chunks = append(j.chunks, b)
		if j.broken == nil {
			if _, err := j.cur.f.WriteAt(b, j.off); err != nil {
				j.broken = fmt.Errorf("write to segment %s: %w", j.cur.path, err)
			}
		}
		j.off += int64(len(b))
	} else if cap(b) > 0 {
		j.recycle(b)
	}
	if j.broken == nil {
		j.written.Store(fill)
	}
	return j.broken
}

const (
	keepBuffers = 32
	keepBuffer  = 256 << 10
)

// recycle offers a buffer for reuse.
func (j *Journal) recycle(b []byte) {
	if cap(b) > keepBuffer {
		return
	}
	j.mu.Lock()
	if len(j.free) < keepBuffers {
		j.free = append(j.free, b[:0])
	}
	j.mu.Unlock()
}

// giveUp is for an intent whose caller is told that it is not recorded: it becomes unknown, now or when the journal
// works again.
func (j *Journal) giveUp(seq Seq) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if f, ok := j.flying[seq]; ok {
		f.lost = true
		j.flying[seq] = f
	}
	if j.state == stateOpen || j.state == stateFull {
		j.settleLostLocked()
	}
}
