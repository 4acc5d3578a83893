package generation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"banyan/proxy/event"
	"banyan/proxy/kafka"
	"banyan/proxy/stage"
	"banyan/shadow/stream"

	"github.com/twmb/franz-go/pkg/kadm"
)

// ErrUnreached says that the settled stream does not reach back to the last complete import.
var ErrUnreached = errors.New("the recorded stream does not reach back to the last complete import")

// Import is what is known of a table's imports.
type Import struct {
	Table    string
	Done     bool      // one was done, ever
	Complete time.Time // when the last one that was done had started; zero: it was not recorded
}

// margin is how far the clocks of settle and of the change-log reader may be apart; to begin too early only costs time.
const margin = 10 * time.Second

// Start finds the offset of every partition of the settled stream at which a build may begin: everything since the last
// complete import of each table stands at or behind it.
func Start(ctx context.Context, cfg kafka.Config, m event.Migration, imports []Import) ([]int64, error) {
	since, known := time.Time{}, true
	for _, i := range imports {
		switch {
		case !i.Done:
			return nil, fmt.Errorf("%w: table %s was never imported to its end; run `banyan backfill %s` first", ErrUnreached, i.Table, m)
		case i.Complete.IsZero():
			known = false
		case since.IsZero() || i.Complete.Before(since):
			since = i.Complete
		}
	}
	cl, err := cfg.Client("banyan-generation")
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	adm, topic := kadm.NewClient(cl), cfg.Topics().Settled()
	first, err := adm.ListStartOffsets(ctx, topic)
	if err == nil {
		err = first.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("first offsets of %s: %w", topic, err)
	}
	var at kadm.ListedOffsets
	if known && !since.IsZero() {
		at, err = adm.ListOffsetsAfterMilli(ctx, since.Add(-margin).UnixMilli(), topic)
		if err == nil {
			err = at.Error()
		}
		if err != nil {
			return nil, fmt.Errorf("offsets of %s at %s: %w", topic, since, err)
		}
	}
	out := make([]int64, cfg.Partitions)
	for n := range cfg.Partitions {
		f, ok := first.Lookup(topic, n)
		if !ok {
			return nil, fmt.Errorf("topic %s has no partition %d", topic, n)
		}
		out[n] = f.Offset
		if f.Offset > 0 { // something was deleted
			if err := reaches(ctx, cfg, topic, n, f.Offset, since, known); err != nil {
				return nil, fmt.Errorf("%w; run `banyan backfill %s --restart`, and then this again", err, m)
			}
		}
		if o, ok := at.Lookup(topic, n); ok {
			out[n] = max(f.Offset, o.Offset)
		}
	}
	return out, nil
}

// reaches says whether the first record that is left is from before the import.
func reaches(ctx context.Context, cfg kafka.Config, topic string, n int32, first int64, since time.Time, known bool) error {
	if !known {
		return fmt.Errorf("%w: %s/%d begins at offset %d, and when an import started was not recorded", ErrUnreached, topic, n, first)
	}
	for rec, err := range stream.ReadTo(ctx, cfg, topic, n, first) {
		if err != nil {
			return err
		}
		if rec.Time.After(since.Add(-margin)) {
			return fmt.Errorf("%w: %s/%d begins at %s, the import at %s", ErrUnreached, topic, n, rec.Time.UTC().Format(time.RFC3339), since.UTC().Format(time.RFC3339))
		}
		return nil
	}
	return fmt.Errorf("%w: %s/%d is empty up to offset %d", ErrUnreached, topic, n, first)
}

// Begin is where the build of a generation began to read, as the control log has it; nil for the first.
func Begin(history []stage.Entry, generation int) []int64 {
	for i := range history {
		if e := &history[i]; e.Void == "" && e.Step == stage.Build && e.To.Building == generation {
			return e.Start
		}
	}
	return nil
}

// Parked are the keys that a generation has stopped at, in any of its stages.
func Parked(ctx context.Context, cfg kafka.Config, m event.Migration, generation int) ([]event.Parked, error) {
	var out []event.Parked
	for n := range cfg.Partitions {
		keys := map[string]*event.Parked{}
		var order []string
		for rec, err := range stream.ReadTo(ctx, cfg, cfg.Topics().Parked(), n, stream.Earliest) {
			if err != nil {
				return nil, fmt.Errorf("parked keys: %w", err)
			}
			if rec.Kind != event.KindParked {
				continue
			}
			p, err := event.DecodeParked(rec.Value)
			if err != nil {
				return nil, fmt.Errorf("%s/%d offset %d: %w", rec.Topic, n, rec.Offset, err)
			}
			if p.Migration != m || p.Generation != generation {
				continue
			}
			id := p.Stage + "\x00" + string(p.Key)
			have, seen := keys[id]
			if !seen {
				order = append(order, id)
			}
			switch {
			case !p.Released:
				if have == nil || !have.Is(p.At) {
					keys[id] = p
				}
			case have == nil || !have.Is(p.Of): // of a stop that is over
			case p.Done:
				keys[id] = nil
			default: // it is parked until it has caught up
				have.Released, have.Offset = true, max(have.Offset, p.Offset)
			}
		}
		for _, id := range order {
			if keys[id] != nil {
				out = append(out, *keys[id])
			}
		}
	}
	return out, nil
}
