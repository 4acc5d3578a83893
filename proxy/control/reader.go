package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"banyan/proxy/kafka"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// reader reads one single-partition topic from its start for ever.
type reader struct {
	cfg    kafka.Config
	topic  string
	log    *slog.Logger
	apply  func(*kgo.Record)
	ready  chan struct{} // closed when the end that the topic had at the start was reached
	cancel context.CancelFunc
	done   chan struct{}
}

func (r *reader) start(ctx context.Context) error {
	cl, err := r.cfg.Client("banyan-control", kgo.FetchMaxWait(5*time.Second), // news ends it at once
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{r.topic: {0: kgo.NewOffset().AtStart()}}))
	if err != nil {
		return err
	}
	r.ready, r.done = make(chan struct{}), make(chan struct{})
	ctx, r.cancel = context.WithCancel(ctx)
	go r.run(ctx, cl)
	return nil
}

func (r *reader) stop() {
	r.cancel()
	<-r.done
}

func (r *reader) run(ctx context.Context, cl *kgo.Client) {
	defer close(r.done)
	defer cl.Close()
	end, reached := r.end(ctx, cl), false
	for next := int64(0); ctx.Err() == nil; {
		if !reached && next >= end {
			reached = true
			close(r.ready)
		}
		fetches := cl.PollFetches(ctx)
		fetches.EachError(func(_ string, _ int32, err error) {
			if ctx.Err() == nil && !errors.Is(err, context.Canceled) {
				r.log.Warn("cannot read; what was known stays in force", "topic", r.topic, "error", err)
			}
		})
		fetches.EachRecord(func(rec *kgo.Record) {
			r.apply(rec)
			next = rec.Offset + 1
		})
	}
}

// end asks until Kafka answers: what the end is decides when we are ready. A compacted topic may end in offsets that
// hold nothing any more; a topic that was only just written to is read to its end by the next poll.
func (r *reader) end(ctx context.Context, cl *kgo.Client) int64 {
	for told := false; ; {
		ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, r.topic)
		if err == nil {
			o, ok := ends.Lookup(r.topic, 0)
			if ok && o.Err == nil {
				return o.Offset
			}
			err = fmt.Errorf("topic %s is missing: a banyan role makes it at its start", r.topic)
			if ok {
				err = fmt.Errorf("topic %s: %w", r.topic, o.Err)
			}
		}
		if ctx.Err() != nil {
			return 0
		}
		if !told {
			r.log.Warn("Kafka does not answer; what was known stays in force, trying on", "topic", r.topic, "error", err)
			told = true
		}
		select {
		case <-ctx.Done():
			return 0
		case <-time.After(200 * time.Millisecond):
		}
	}
}
