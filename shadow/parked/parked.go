package parked

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"

	"banyan/proxy/event"
	"banyan/proxy/kafka"
	"banyan/shadow/stream"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Owner is whose keys they are.
type Owner struct {
	Stage      string // translate, dispatch, project
	Migration  event.Migration
	Generation int
}

// Keys are the parked keys of one owner in one partition. One goroutine.
type Keys struct {
	owner Owner
	all   map[event.OrderingKey]*event.Parked
}

// New knows of no parked key.
func New(o Owner) *Keys { return &Keys{o, map[event.OrderingKey]*event.Parked{}} }

// Read folds one partition of `.parked` as it stands now. next is where to read on.
func Read(ctx context.Context, cfg kafka.Config, o Owner, partition int32) (keys *Keys, next int64, err error) {
	keys, next = New(o), stream.Earliest
	for rec, err := range stream.ReadTo(ctx, cfg, cfg.Topics().Parked(), partition, stream.Earliest) {
		if err != nil {
			return nil, 0, fmt.Errorf("parked keys: %w", err)
		}
		if _, err := keys.Take(&rec); err != nil {
			return nil, 0, err
		}
		next = rec.Offset + 1
	}
	return keys, next, nil
}

// Record is a record of `.parked`.
func Record(cfg kafka.Config, p *event.Parked) *kgo.Record {
	key := string(p.Migration) + "/" + p.Stage + "/" + string(p.Key)
	return kafka.Record(cfg.Topics().Parked(), p.Partition, event.KindParked, key, event.Encode(p))
}

// Take folds a record. released is the key that it lets go on, if it is one of ours, parked and not released yet.
func (k *Keys) Take(rec *stream.Record) (released *event.Parked, err error) {
	if rec.Kind != event.KindParked {
		return nil, nil
	}
	p, err := event.DecodeParked(rec.Value)
	if err != nil {
		return nil, fmt.Errorf("%s/%d offset %d: %w", rec.Topic, rec.Partition, rec.Offset, err)
	}
	if (Owner{p.Stage, p.Migration, p.Generation}) != k.owner {
		return nil, nil
	}
	have := k.all[p.Key]
	switch {
	case !p.Released:
		if have == nil || !have.Is(p.At) { // the same one is our own that came back, or was said again
			k.all[p.Key] = p
		}
	case have == nil || !have.Is(p.Of): // of a stop that is over
	case p.Done:
		delete(k.all, p.Key)
	default:
		have.Offset = max(have.Offset, p.Offset)
		if !have.Released {
			have.Released, have.Who, have.Why = true, p.Who, p.Why
			return have, nil
		}
	}
	return nil, nil
}

// Split takes the records of `.parked` out of a batch, and folds them.
func (k *Keys) Split(topic string, batch []stream.Record, log func(*event.Parked)) ([]stream.Record, error) {
	if !slices.ContainsFunc(batch, func(r stream.Record) bool { return r.Topic == topic }) {
		return batch, nil
	}
	rest := make([]stream.Record, 0, len(batch))
	for i := range batch {
		if batch[i].Topic != topic {
			rest = append(rest, batch[i])
			continue
		}
		p, err := k.Take(&batch[i])
		if err != nil {
			return nil, err
		}
		if p != nil {
			log(p)
		}
	}
	return rest, nil
}

// Put parks a key, anew if it is parked.
func (k *Keys) Put(p *event.Parked) { k.all[p.Key] = p }

// Done forgets a key.
func (k *Keys) Done(key event.OrderingKey) { delete(k.all, key) }

// Get is nil for a key that goes on.
func (k *Keys) Get(key event.OrderingKey) *event.Parked { return k.all[key] }

// Len counts them.
func (k *Keys) Len() int { return len(k.all) }

// All are the parked keys, sorted.
func (k *Keys) All() []*event.Parked {
	out := make([]*event.Parked, 0, len(k.all))
	for _, key := range slices.Sorted(maps.Keys(k.all)) {
		out = append(out, k.all[key])
	}
	return out
}

// Behind is where the farthest of the released keys has to read on; all others were read up to read. A key that stands
// there itself has caught up and was not told so.
func (k *Keys) Behind(read int64) (from int64, ok bool) {
	from = read
	for _, p := range k.all {
		if p.Released && p.Offset <= from {
			from, ok = p.Offset, read > 0
		}
	}
	return from, ok
}

// Wants says whether the record is one that a released key has missed.
func (k *Keys) Wants(rec *stream.Record) bool {
	p := k.all[event.OrderingKey(rec.Key)]
	return p != nil && p.Released && rec.Offset >= p.Offset
}

// Caught gives what is to be said when everything below next was done of the released keys, those in touched having had
// something: where they stand, or that they go on, if nothing is left below read. A key that had nothing is told of at its
// end only.
func (k *Keys) Caught(next, read int64, touched map[event.OrderingKey]bool) (say []Progress) {
	for _, p := range k.All() {
		if p.Released && p.Offset <= next && (touched[p.Key] || next >= read) {
			say = append(say, Progress{p, next, next >= read})
		}
	}
	return say
}

// Progress is how far a released key has caught up.
type Progress struct {
	Of   *event.Parked
	Next int64
	Done bool
}

// Apply takes note of it: what was said is acknowledged.
func (k *Keys) Apply(say []Progress) {
	for _, s := range say {
		if s.Done {
			delete(k.all, s.Of.Key)
		} else {
			s.Of.Offset = max(s.Of.Offset, s.Next)
		}
	}
}

// Bounds of a piece: records that are looked at, those and the bytes that are kept. Other keys wait for one piece.
const (
	pieceRecords = 5000
	pieceKept    = 500
	pieceBytes   = 8 << 20
)

// Piece gives the next records below to that are wanted, and where to read on: at to, if there are no more.
func Piece(records iter.Seq2[stream.Record, error], to int64, want func(*stream.Record) bool) (piece []stream.Record, next int64, err error) {
	seen, size := 0, 0
	for rec, err := range records {
		if err != nil {
			return nil, 0, fmt.Errorf("what a released key has missed: %w", err)
		}
		if rec.Offset >= to {
			break
		}
		if want(&rec) {
			piece = append(piece, rec)
			size += len(rec.Value)
		}
		if seen++; seen >= pieceRecords || len(piece) >= pieceKept || size >= pieceBytes {
			return piece, min(to, rec.Offset+1), nil
		}
	}
	return piece, to, nil
}
