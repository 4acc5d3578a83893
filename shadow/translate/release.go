package translate

import (
	"context"
	"fmt"

	"banyan/proxy/event"
	"banyan/shadow/parked"
	"banyan/shadow/stream"

	"github.com/twmb/franz-go/pkg/kgo"
)

func (w *worker) released(p *event.Parked) {
	w.t.log.Info("key released", "migration", p.Migration, "stage", stage, "key", p.Key, "offset", p.Offset, "who", p.Who, "why", p.Why)
}

// catchUp takes the released keys one piece nearer to where the others are. Their events are acknowledged before
// `.parked` says so, and a mark that does not list a key as held stands behind all of its events.
func (w *worker) catchUp(ctx context.Context) error {
	from, behind := w.parked.Behind(w.read)
	if !behind {
		return nil
	}
	piece, next, err := parked.Piece(stream.ReadTo(ctx, w.t.cfg, w.t.cfg.Topics().Settled(), w.n, from), w.read, w.parked.Wants)
	if err != nil {
		return err
	}
	var out, stops []*kgo.Record
	touched := map[event.OrderingKey]bool{}
	for i := range piece {
		r := &piece[i]
		if r.Kind != event.KindEntry {
			continue
		}
		e, err := event.DecodeEntry(r.Value)
		if err != nil {
			return at(r, err)
		}
		if e.Migration != w.t.rules.migration || !w.parked.Wants(r) { // or it has stopped again, in this piece
			continue
		}
		rs, err := w.told(e)
		if err != nil {
			stops = append(stops, parked.Record(w.t.cfg, w.park(r, e, err)))
			continue
		}
		touched[e.Key] = true
		w.t.stats.CaughtUp.Add(1)
		out = append(out, rs...)
	}
	say := w.parked.Caught(next, w.read, touched)
	for _, s := range say {
		stops = append(stops, parked.Record(w.t.cfg, s.Of.CaughtUp(s.Next, s.Done, w.t.now())))
	}
	for _, rs := range [][]*kgo.Record{out, stops} {
		if err := w.out.ProduceSync(ctx, rs...).FirstErr(); err != nil {
			return fmt.Errorf("publish %d records of released keys: %w", len(rs), err)
		}
	}
	w.parked.Apply(say)
	return nil
}
