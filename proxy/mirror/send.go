package mirror

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// sender gets a batch of records acknowledged, however long it takes.
type sender struct {
	cfg     Config
	client  *kgo.Client
	dialErr atomic.Pointer[error] // why the last connection could not be made

	mu      sync.Mutex // guards stalled
	stalled error      // what was said; nil: it works
}

// OnBrokerConnect remembers why Kafka cannot be reached: the producer retries by itself and does not tell.
func (s *sender) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if err == nil {
		s.dialErr.Store(nil)
	} else {
		s.dialErr.Store(&err)
	}
}

var errSilent = errors.New("no acknowledgement")

// send returns when Kafka has acknowledged all records, or ctx has ended. Records that fail are sent again, with all
// that follow them in their partition, so that order is kept.
func (s *sender) send(ctx context.Context, records []*kgo.Record) error {
	wait := 50 * time.Millisecond
	for {
		left, err := s.once(ctx, records)
		if len(left) == 0 {
			s.resumed()
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		s.stall(s.explain(err))
		records = left
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
		wait = min(2*wait, 2*time.Second)
	}
}

// once produces the records and gives those to be sent again.
func (s *sender) once(ctx context.Context, records []*kgo.Record) (left []*kgo.Record, err error) {
	if len(records) == 0 {
		return nil, nil
	}
	var (
		mu     sync.Mutex // guards failed until done
		failed map[*kgo.Record]error
		open   atomic.Int64
		done   = make(chan struct{})
	)
	open.Store(int64(len(records)))
	promise := func(r *kgo.Record, err error) { // the client keeps every one
		if err != nil {
			mu.Lock()
			if failed == nil {
				failed = map[*kgo.Record]error{}
			}
			failed[r] = err
			mu.Unlock()
		}
		if open.Add(-1) == 0 {
			close(done)
		}
	}
	now := time.Now() // the producer would ask the clock for each
	for _, r := range records {
		r.Timestamp = now
		s.client.Produce(ctx, r, promise)
	}
	slow := time.NewTimer(s.cfg.StalledAfter)
	defer slow.Stop()
	for waiting := true; waiting; {
		select {
		case <-done:
			waiting = false
		case <-slow.C:
			cause := errSilent
			if e := s.dialErr.Load(); e != nil {
				cause = *e
			}
			s.stall(cause)
		}
	}
	if len(failed) == 0 {
		return nil, nil
	}
	type place struct {
		topic     string
		partition int32
	}
	after := map[place]bool{}
	for _, r := range records {
		p := place{r.Topic, r.Partition}
		e := failed[r]
		if e != nil && err == nil {
			err = e
		}
		if e != nil || after[p] {
			after[p] = true
			left = append(left, r)
		}
	}
	return left, err
}

// stall says once that records are not acknowledged, and why.
func (s *sender) stall(cause error) {
	s.mu.Lock()
	first := s.stalled == nil
	s.stalled = cause
	s.mu.Unlock()
	if !first {
		return
	}
	s.cfg.Log.Error("mirror: Kafka does not acknowledge; writes are safe in the journal and are shipped when it does",
		"brokers", s.cfg.Kafka.Brokers, "error", cause)
	if s.cfg.Hooks.Stalled != nil {
		s.cfg.Hooks.Stalled(cause)
	}
}

func (s *sender) resumed() {
	s.mu.Lock()
	was := s.stalled
	s.stalled = nil
	s.mu.Unlock()
	if was == nil {
		return
	}
	s.cfg.Log.Info("mirror: Kafka acknowledges again")
	if s.cfg.Hooks.Resumed != nil {
		s.cfg.Hooks.Resumed()
	}
}

func (s *sender) cause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stalled
}

// explain adds to an error what mends it.
func (s *sender) explain(err error) error {
	k, t := s.cfg.Kafka, s.cfg.Kafka.Topics()
	switch {
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		return fmt.Errorf("%w: create the topics %s (%d partitions) and %s (1 partition), e.g. kafka-topics.sh --bootstrap-server %s --create --topic %s --partitions %d --replication-factor %d",
			err, t.Writes(), k.Partitions, t.Account(), strings.Join(k.Brokers, ","), t.Writes(), k.Partitions, k.Replication)
	case err != nil && strings.Contains(err.Error(), "invalid record partitioning"):
		return fmt.Errorf("%w: topic %s has fewer than the %d partitions that kafka.partitions says", err, t.Writes(), k.Partitions)
	case errors.Is(err, kerr.MessageTooLarge):
		return fmt.Errorf("%w: raise max.message.bytes of topic %s to at least %d", err, t.Writes(), 1<<20)
	}
	return err
}
