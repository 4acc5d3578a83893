package changelog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"banyan/proxy/event"
	"banyan/proxy/kafka"

	"github.com/twmb/franz-go/pkg/kgo"
)

// partBytes is where a part is cut into several records. A record must fit a broker's default limit of 1 MiB.
const (
	partBytes = 256 << 10
	maxRecord = 1000 << 10
)

// session is one connected life of the publisher: a lock, a producer, a stream. Any error ends it as a whole, because
// what follows a lost record must not be published; the next one finds out from Kafka where to go on.
type session struct {
	p     *Publisher
	cl    *kgo.Client
	topic string
	lanes *lanes
	wake  chan struct{}   // the marker: a mark is due
	warm  chan struct{}   // the fences: a lane became hot
	ctx   context.Context // of Produce; ends with the session
	fail  context.CancelCauseFunc

	// order is held over Produce: it decides the order of every partition. It guards all below.
	order    sync.Mutex
	head     event.Position // everything up to it was handed to the producer
	split    *splitter
	tails    []tail // of the session before; emptied as they are passed
	trackers map[*tracker]struct{}
	waiting  []waiter
}

// waiter wants to act between two transactions, once the reader has passed a position.
type waiter struct {
	above event.Position
	act   func(head event.Position)
}

// once connects, reads and publishes until something fails.
func (p *Publisher) once(ctx context.Context) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	// The order matters: once we hold the lock nobody else appends, so what the tails say stays true.
	if err := p.src.Lock(ctx); err != nil {
		return fmt.Errorf("lock the change log: %w", err)
	}
	s, err := p.open(ctx, fail)
	if err != nil {
		return err
	}
	defer s.close()
	p.setCurrent(s)
	defer p.setCurrent(nil)
	p.setState(Reading, nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer fail(nil)
	wg.Go(func() { s.fences(ctx) }) // ends with ctx
	wg.Go(func() { s.marker(ctx) }) // ends with ctx
	err = p.src.Stream(ctx, s.head, s.emit)
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if err == nil {
		err = errors.New("the change log ended")
	}
	return err
}

// open reads where each partition is, and gives those that are empty their first mark.
func (p *Publisher) open(ctx context.Context, fail context.CancelCauseFunc) (*session, error) {
	tails, err := readTails(ctx, p.cfg.Kafka)
	if err != nil {
		return nil, err
	}
	if got := int32(len(tails)); got != p.cfg.Kafka.Partitions {
		return nil, Stopf("topic %s has %d partitions, config says %d: keys would move; set kafka.partitions to %d",
			p.cfg.Kafka.Topics().Changes(), got, p.cfg.Kafka.Partitions, got)
	}
	from, found := resumeAt(tails)
	if !found {
		for i := range tails {
			if tails[i].end > 0 && !p.cfg.StartAtHead {
				return nil, Stopf("topic %s has held records and they expired, so it is not known where reading stopped: "+
					"set changelog.start_at_head, then run `banyan backfill` for every migration", p.cfg.Kafka.Topics().Changes())
			}
		}
	}
	if !found || p.skip {
		if from, err = p.src.Head(ctx); err != nil {
			return nil, fmt.Errorf("head of the change log: %w", err)
		}
		for i := range tails {
			tails[i] = tail{marked: true, mark: max(from, tails[i].mark), top: tails[i].top}
		}
		p.skip = false
	}
	// Batches here are small and many. Readers of lz4 prepare buffers of megabytes for each; snappy costs us the same.
	cl, err := p.cfg.Kafka.Producer("banyan-changelog", kgo.ProducerBatchCompression(kgo.SnappyCompression(), kgo.NoCompression()))
	if err != nil {
		return nil, err
	}
	s := &session{p: p, cl: cl, topic: p.cfg.Kafka.Topics().Changes(), lanes: newLanes(int32(len(tails))), wake: make(chan struct{}, 1), warm: make(chan struct{}, 1),
		ctx: ctx, fail: fail, head: from, split: newSplitter(p.tables, partBytes), tails: tails, trackers: map[*tracker]struct{}{}}
	for i := range tails {
		if !tails[i].marked { // the session before died between its first marks
			tails[i].mark = from
		}
		s.lanes.lane[i].complete, s.lanes.lane[i].sent = tails[i].mark, tails[i].top
	}
	p.at(from, time.Time{})
	s.markAll()
	if err := cl.Flush(ctx); err != nil {
		s.close()
		return nil, fmt.Errorf("first marks: %w", err)
	}
	return s, nil
}

func (p *Publisher) at(position event.Position, received time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.position = position
	if !received.IsZero() {
		p.received = received
	}
}

// close forgets what was not sent, and waits for what is on its way: the next session must see it.
func (s *session) close() {
	s.order.Lock()
	for t := range s.trackers {
		t.lose()
	}
	s.trackers = nil
	s.waiting = nil
	s.order.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = s.cl.AbortBufferedRecords(ctx)
	s.cl.Close()
}

// emit publishes one transaction.
func (s *session) emit(t *Txn) error {
	s.order.Lock()
	defer s.order.Unlock()
	if err := context.Cause(s.ctx); err != nil {
		return err
	}
	if t.Position <= s.head {
		return nil
	}
	dropped := t.Dropped
	if len(t.Rows) > 0 {
		parts, d := s.split.split(t)
		dropped += d
		if len(parts) > 0 {
			s.p.transactions.Add(1)
			if err := s.publish(t, parts); err != nil {
				return err
			}
		}
		for tr := range s.trackers {
			tr.see(t)
		}
	}
	s.p.dropped.Add(uint64(dropped))
	s.head = t.Position
	s.p.at(t.Position, t.Received)
	if s.lanes.waited(s.head, time.Now()) {
		nudge(s.wake) // a fence was ahead of the log
	}
	s.act()
	return nil
}

// publish hands the parts to the producer, but for those that the session before had published.
func (s *session) publish(t *Txn, parts []*part) error {
	for i, value := range encode(t, parts) {
		p := parts[i]
		if len(value) > maxRecord {
			return Stopf("one row change of migration %s at %s makes a record of %d bytes, limit %d: map a table without such large columns, or move them out of it",
				p.migration, t.Position, len(value), maxRecord)
		}
		s.p.rows.Add(uint64(len(p.rows)))
		if p.key == "" {
			for n := range s.tails {
				s.send(int32(n), t.Position, p, value)
			}
			continue
		}
		s.send(event.Partition(p.key, int32(len(s.tails))), t.Position, p, value)
	}
	return nil
}

func (s *session) send(n int32, position event.Position, p *part, value []byte) {
	if t := &s.tails[n]; position <= t.mark {
		s.p.repeated.Add(1)
		return
	} else if len(t.after) > 0 {
		id := identity{position, p.migration, p.key, p.first}
		if _, ok := t.after[id]; ok {
			delete(t.after, id)
			s.p.repeated.Add(1)
			return
		}
	}
	s.produce(n, position, p.key, value, nil)
}

// produce needs order. done, if not nil, is called when the record has arrived.
func (s *session) produce(n int32, position event.Position, key event.OrderingKey, value []byte, done func()) {
	s.lanes.sent(n, position, time.Now())
	nudge(s.warm)
	s.p.records.Add(1)
	s.cl.Produce(s.ctx, kafka.Record(s.topic, n, event.KindChange, string(key), value), func(_ *kgo.Record, err error) {
		if err != nil {
			s.fail(fmt.Errorf("publish a change: %w", err))
			return
		}
		if s.lanes.acked(n) {
			nudge(s.wake)
		}
		if done != nil {
			done()
		}
	})
}

func nudge(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// fences looks at the server's head every FenceEvery, twice as often while changes come. Its connection holds the
// lock, so an error ends the session.
func (s *session) fences(ctx context.Context) {
	every := s.p.cfg.FenceEvery
	timer := time.NewTimer(every)
	defer timer.Stop()
	for {
		f, err := s.p.src.Fence(ctx)
		if err != nil {
			s.fail(fmt.Errorf("fence: %w", err))
			return
		}
		taken := time.Now()
		pause := every
		if s.lanes.addFence(f, taken) {
			pause = every / 2
			nudge(s.wake)
		}
		for timer.Reset(pause); ; timer.Reset(max(0, pause-time.Since(taken))) {
			select {
			case <-ctx.Done():
				return
			case <-s.warm:
				pause = every / 2
				continue
			case <-timer.C:
			}
			break
		}
	}
}

// marker marks a partition as soon as its changes are acknowledged and, while it is hot, with every fence; all of them
// every MarkEvery.
func (s *session) marker(ctx context.Context) {
	tick := time.NewTicker(s.p.cfg.MarkEvery)
	defer tick.Stop()
	var due []int32
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.markAll()
		case <-s.wake:
			s.order.Lock()
			due = s.lanes.due(due[:0], s.head, time.Now())
			for _, n := range due {
				s.mark(n)
			}
			s.order.Unlock()
		}
	}
}

func (s *session) markAll() {
	s.order.Lock()
	defer s.order.Unlock()
	for n := range s.tails {
		s.mark(int32(n))
	}
	s.lanes.trim()
	if safe := s.lanes.safe(); safe > 0 {
		s.p.src.Acknowledge(safe)
	}
}

// mark needs order.
func (s *session) mark(n int32) {
	position, sent, fences := s.lanes.mark(n, s.head)
	// After a restart a partition may be ahead of the log that is being read again.
	position = max(position, s.tails[n].mark)
	m := event.ReaderMark{V: event.MarkVersion, Position: position, Fences: fences, Clock: time.Now().UTC()}
	s.p.marks.Add(1)
	r := kafka.Record(s.topic, n, event.KindReaderMark, "", event.Encode(&m))
	r.Headers = append(r.Headers, kgo.RecordHeader{Key: headerSent, Value: []byte(sent.String())})
	s.cl.Produce(s.ctx, r, func(_ *kgo.Record, err error) {
		if err != nil {
			s.fail(fmt.Errorf("publish a mark: %w", err))
			return
		}
		s.lanes.markAcked(n, position)
	})
}

// act runs what waits for the position that the reader has reached. It needs order.
func (s *session) act() {
	kept := s.waiting[:0]
	for _, w := range s.waiting {
		if s.head < w.above {
			kept = append(kept, w)
			continue
		}
		w.act(s.head)
	}
	s.waiting = kept
}
