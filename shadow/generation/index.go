package generation

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"banyan/proxy/event"
	"banyan/proxy/kafka"
	"banyan/shadow/compare"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// indexes hold what changes lately in every partition, while a generation is verified. They belong to no consumer group:
// whoever verifies needs all partitions.
type indexes struct {
	list   []*compare.Index
	cl     *kgo.Client
	cancel context.CancelFunc
	done   chan struct{}

	mu  sync.Mutex // guards err
	err error      // what cannot be mended by reading on
}

// lookBack is how many records before the end are read: a snapshot may be a little older than the newest mark.
const lookBack = 2000

func openIndexes(ctx context.Context, cfg kafka.Config, ic compare.IndexConfig, generation int) (*indexes, error) {
	settled, events := cfg.Topics().Settled(), cfg.Topics().Events(ic.Migration, generation)
	cl, err := cfg.Client("banyan-verify", kgo.FetchMaxWait(200*time.Millisecond), kgo.ConsumeResetOffset(kgo.NoResetOffset()))
	if err != nil {
		return nil, err
	}
	x := &indexes{cl: cl, done: make(chan struct{})}
	adm, from := kadm.NewClient(cl), map[string]map[int32]kgo.Offset{}
	ic.WithEvents = true
	first, err := adm.ListStartOffsets(ctx, settled, events)
	var ends kadm.ListedOffsets
	if err == nil {
		ends, err = adm.ListEndOffsets(ctx, settled, events)
	}
	if err == nil {
		err = errors.Join(first.Error(), ends.Error())
	}
	if err != nil {
		cl.Close()
		return nil, fmt.Errorf("offsets of %s and %s: %w", settled, events, err)
	}
	for _, topic := range []string{settled, events} {
		from[topic] = map[int32]kgo.Offset{}
		for n := range cfg.Partitions {
			lo, _ := first.Lookup(topic, n)
			hi, _ := ends.Lookup(topic, n)
			from[topic][n] = kgo.NewOffset().At(max(lo.Offset, hi.Offset-lookBack))
		}
	}
	for range cfg.Partitions {
		x.list = append(x.list, compare.NewIndex(ic))
	}
	cl.AddConsumePartitions(from)
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	x.cancel = cancel
	go x.follow(run, settled, ic.Migration)
	return x, nil
}

func (x *indexes) close() {
	x.cancel()
	<-x.done
	x.cl.Close()
}

// follow ends with close.
func (x *indexes) follow(ctx context.Context, settled string, m event.Migration) {
	defer close(x.done)
	for ctx.Err() == nil {
		fs := x.cl.PollFetches(ctx)
		fs.EachRecord(func(r *kgo.Record) {
			if err := x.add(r, settled, m); err != nil {
				x.mu.Lock()
				x.err = fmt.Errorf("%s/%d offset %d: %w", r.Topic, r.Partition, r.Offset, err)
				x.mu.Unlock()
			}
		})
	}
}

func (x *indexes) add(r *kgo.Record, settled string, m event.Migration) error {
	index, now, kind := x.list[r.Partition], time.Now(), kafka.KindOf(r)
	switch {
	case kind == event.KindSettledMark:
		mark, err := event.DecodeSettledMark(r.Value)
		if err != nil {
			return err
		}
		if r.Topic == settled {
			index.Mark(mark, now)
		} else {
			index.MarkEvents(mark)
		}
	case kind == event.KindEntry && r.Topic == settled:
		e, err := event.DecodeEntry(r.Value)
		if err != nil {
			return err
		}
		if e.Migration == m {
			index.Add(e, len(r.Value), now)
		}
	case kind == "" && r.Topic != settled:
		if e, err := event.ParseEvent(kafka.Headers(r), r.Value); err == nil { // what is none parks its key, and that refuses
			index.AddEvent(e, len(r.Value), now)
		}
	}
	return nil
}

func (x *indexes) failed() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.err
}
