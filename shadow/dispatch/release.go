package dispatch

import (
	"context"
	"fmt"
	"time"

	"banyan/proxy/event"
	"banyan/shadow/parked"
	"banyan/shadow/stream"

	"github.com/twmb/franz-go/pkg/kgo"
)

// released takes the records of `.parked` out of a batch.
func (w *worker) released(batch []stream.Record) ([]stream.Record, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.parked.Split(w.d.cfg.Kafka.Topics().Parked(), batch, func(p *event.Parked) {
		w.d.cfg.Log.Info("key released", "migration", p.Migration, "stage", stageName, "key", p.Key, "offset", p.Offset, "who", p.Who, "why", p.Why)
	})
}

// catchUp takes the released keys one piece nearer to where the others are. What was delivered or published is
// acknowledged before `.parked` says so. A refused entry is delivered again from its first step, with the same
// idempotency keys.
func (w *worker) catchUp(ctx context.Context) error {
	from, behind := w.parked.Behind(w.read) // nobody else is at it: keys run side by side within run only
	if !behind {
		return nil
	}
	piece, next, err := parked.Piece(stream.ReadTo(ctx, w.d.cfg.Kafka, w.d.cfg.Kafka.Topics().Settled(), w.n, from), w.read, w.parked.Wants)
	if err != nil {
		return err
	}
	keys, touched := map[event.OrderingKey][]at{}, map[event.OrderingKey]bool{}
	for i := range piece {
		if piece[i].Kind != event.KindEntry {
			continue
		}
		e, err := event.DecodeEntry(piece[i].Value)
		if err != nil {
			return fmt.Errorf("offset %d: %w", piece[i].Offset, err)
		}
		if e.Migration == w.d.cfg.Migration {
			keys[e.Key] = append(keys[e.Key], at{piece[i].Offset, e})
			touched[e.Key] = true
		}
	}
	if err := w.run(ctx, keys, w.again); err != nil {
		return err
	}
	say := w.parked.Caught(next, w.read, touched)
	var rs []*kgo.Record
	for _, s := range say {
		rs = append(rs, parked.Record(w.d.cfg.Kafka, s.Of.CaughtUp(s.Next, s.Done, time.Now().UTC())))
	}
	if len(rs) > 0 {
		if err := w.d.produce(ctx, w.out, rs...); err != nil {
			return err
		}
	}
	w.parked.Apply(say)
	return nil
}

// again does an entry of a released key, unless the key has stopped again before it.
func (w *worker) again(ctx context.Context, x at) error {
	if p := w.standing(x.entry.Key); p == nil || !p.Released {
		return nil
	}
	w.d.stats.CaughtUp.Add(1)
	return w.tell(ctx, x)
}
