package translate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"banyan/proxy/event"
	"banyan/proxy/kafka"
	"banyan/shadow/parked"
	"banyan/shadow/stream"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Translator is a member of the consumer group that translates one migration into one generation of events. Any number
// may run. Each migration and generation is a group of its own, so that one can be made anew beside the others.
type Translator struct {
	rules *Rules
	cfg   kafka.Config
	log   *slog.Logger
	now   func() time.Time
	stats Stats

	mu       sync.Mutex // guards the rest
	consumer *stream.Consumer
	out      *kgo.Client
	stopped  bool
}

// Stats counts since the start.
type Stats struct {
	Entries  atomic.Int64 // of this migration
	Events   atomic.Int64
	Marks    atomic.Int64
	Parked   atomic.Int64 // keys
	Waiting  atomic.Int64 // entries of parked keys, left in the topic
	CaughtUp atomic.Int64 // of them, taken up again after a release
	Unmapped atomic.Int64 // row changes for which no mapping is declared

	mu    sync.Mutex // guards types
	types map[typeVersion]int64
}

type typeVersion struct {
	name    string
	version int
}

// Types counts the events by type and version, "game.unit.moved@2". There are as many as the mappings declare.
func (s *Stats) Types() map[string]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]int64, len(s.types))
	for t, n := range s.types {
		out[t.name+"@"+strconv.Itoa(t.version)] = n
	}
	return out
}

func (s *Stats) count(events []event.Event) {
	s.Events.Add(int64(len(events)))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.types == nil {
		s.types = map[typeVersion]int64{}
	}
	for i := range events {
		s.types[typeVersion{events[i].Type, events[i].Version}]++
	}
}

// New makes a translator; log may be nil.
func New(rules *Rules, cfg kafka.Config, log *slog.Logger) *Translator {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Translator{rules: rules, cfg: cfg, log: log, now: time.Now}
}

// Group is the name of the consumer group.
func (t *Translator) Group() string {
	return t.cfg.Prefix + ".translate." + string(t.rules.migration) + ".g" + strconv.Itoa(t.rules.generation)
}

// Topic is where the events go.
func (t *Translator) Topic() string {
	return t.cfg.Topics().Events(t.rules.migration, t.rules.generation)
}

// Stats are live counters.
func (t *Translator) Stats() *Stats { return &t.stats }

// Start joins the group; the work goes on in the background until Stop or the end of ctx. A second call does nothing.
func (t *Translator) Start(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.consumer != nil {
		return nil
	}
	if t.stopped {
		return errors.New("translator: stopped")
	}
	out, err := t.cfg.Producer("banyan-translate")
	if err != nil {
		return err
	}
	var c *stream.Consumer
	c, err = stream.New(stream.Config{Kafka: t.cfg, Group: t.Group(), Topics: []string{t.cfg.Topics().Settled(), t.cfg.Topics().Parked()}, Log: t.log,
		Begin: map[string][]int64{t.cfg.Topics().Settled(): t.rules.begin}},
		func(ctx context.Context, n int32) (stream.Worker, map[string]int64, error) {
			return t.open(ctx, c, out, n)
		})
	if err == nil {
		err = c.Start(ctx)
	}
	if err != nil {
		out.Close()
		return err
	}
	t.consumer, t.out = c, out
	return nil
}

// Stop returns when the partitions are given up.
func (t *Translator) Stop() {
	t.mu.Lock()
	c, out := t.consumer, t.out
	t.consumer, t.stopped = nil, true
	t.mu.Unlock()
	if c != nil {
		c.Stop()
		out.Close()
	}
}

// worker translates one partition. All its fields belong to the goroutine that calls Handle.
type worker struct {
	t         *Translator
	c         *stream.Consumer
	out       *kgo.Client
	n         int32
	parked    *parked.Keys
	read      int64 // everything below it was handled; 0: not known yet
	next      int64 // to commit; 0: nothing new
	events    int   // published since the last commit
	committed time.Time
}

var _ stream.Worker = (*worker)(nil)

// The group's offset is committed so often, or after so many events: a commit is a round trip that what comes behind
// would wait for. What a crash repeats has the same ids, and is far less than the projection remembers.
const (
	commitEvery  = time.Second
	commitEvents = 1000
)

// open reads back which keys are parked: `.parked` is their memory.
func (t *Translator) open(ctx context.Context, c *stream.Consumer, out *kgo.Client, n int32) (stream.Worker, map[string]int64, error) {
	keys, next, err := parked.Read(ctx, t.cfg, parked.Owner{Stage: stage, Migration: t.rules.migration, Generation: t.rules.generation}, n)
	if err != nil {
		return nil, nil, err
	}
	w := &worker{t: t, c: c, out: out, n: n, parked: keys}
	return w, map[string]int64{t.cfg.Topics().Parked(): next}, nil // the rest from the group's offset
}

const stage = "translate"

// Handle translates a batch, publishes it in order, waits until Kafka has all of it, and then commits the offset if that is
// due. What is repeated after a crash has the same ids.
func (w *worker) Handle(ctx context.Context, recs []stream.Record) error {
	recs, err := w.parked.Split(w.t.cfg.Topics().Parked(), recs, w.released)
	if err == nil {
		err = w.catchUp(ctx)
	}
	if err != nil || len(recs) == 0 {
		return err
	}
	var out []*kgo.Record
	for i := range recs {
		rs, err := w.one(&recs[i])
		if err != nil {
			return err
		}
		out = append(out, rs...)
		if recs[i].Kind == event.KindEntry {
			w.events += len(rs)
		}
	}
	acks, cancel := outliving(ctx, ackWait)
	defer cancel()
	if err := w.out.ProduceSync(acks, out...).FirstErr(); err != nil {
		return fmt.Errorf("publish %d records: %w", len(out), err)
	}
	w.next = recs[len(recs)-1].Offset + 1
	w.read = w.next
	if now := w.t.now(); w.events >= commitEvents || now.Sub(w.committed) >= commitEvery {
		w.committed, w.events = now, 0
		return w.commit(ctx)
	}
	return nil
}

// ackWait is how long what was handed to Kafka is waited for when the partition is given up: it has mostly arrived, and
// without the acknowledgement the next owner would repeat it.
const ackWait = 3 * time.Second

// outliving gives a context that ends some time after another.
func outliving(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(d, cancel) })
	return longer, func() { stop(); cancel() }
}

func (w *worker) commit(ctx context.Context) error {
	if w.next == 0 {
		return nil
	}
	if err := w.c.Commit(ctx, w.n, map[string]int64{w.t.cfg.Topics().Settled(): w.next}); err != nil {
		return err
	}
	w.next = 0
	return nil
}

// Close commits what the last marks left open.
func (w *worker) Close(ctx context.Context) {
	if err := w.commit(ctx); err != nil { // they are read again, that is all
		w.t.log.Debug("offset not committed at close", "group", w.t.Group(), "partition", w.n, "err", err)
	}
}

// one gives the records that one record of the settled stream becomes.
func (w *worker) one(r *stream.Record) ([]*kgo.Record, error) {
	switch r.Kind {
	case event.KindSettledMark:
		m, err := event.DecodeSettledMark(r.Value)
		if err != nil {
			return nil, at(r, err)
		}
		w.t.stats.Marks.Add(1)
		return []*kgo.Record{w.mark(m)}, nil
	case event.KindEntry:
		if !bytes.Contains(r.Value, w.t.rules.needle) {
			return nil, nil // another migration's; most are, and decoding costs
		}
		e, err := event.DecodeEntry(r.Value)
		if err != nil {
			return nil, at(r, err)
		}
		if e.Migration != w.t.rules.migration {
			return nil, nil
		}
		w.t.stats.Entries.Add(1)
		return w.entry(r, e), nil
	}
	return nil, nil // a kind of a newer build
}

// at is for records of our own making that cannot be read: the partition stalls, because nothing tells whose they are.
func at(r *stream.Record, err error) error {
	return fmt.Errorf("%s/%d offset %d: %w", r.Topic, r.Partition, r.Offset, err)
}

func (w *worker) entry(r *stream.Record, e *event.Entry) []*kgo.Record {
	if p := w.parked.Get(e.Key); p != nil && r.Offset >= p.Offset {
		w.t.stats.Waiting.Add(1)
		if r.Offset > p.Offset || p.Released {
			return nil
		}
		return []*kgo.Record{parked.Record(w.t.cfg, p)} // read again after a crash: say it again
	}
	out, err := w.told(e)
	if err != nil {
		return []*kgo.Record{parked.Record(w.t.cfg, w.park(r, e, err))}
	}
	return out
}

func (w *worker) park(r *stream.Record, e *event.Entry, why error) *event.Parked {
	p := &event.Parked{V: event.ParkedVersion, Migration: e.Migration, Generation: w.t.rules.generation, Stage: stage, Key: e.Key,
		Topic: r.Topic, Partition: w.n, Offset: r.Offset, Position: e.From, Reason: why.Error(), At: w.t.now()}
	w.parked.Put(p)
	w.t.stats.Parked.Add(1)
	w.t.log.Error("key parked", "migration", e.Migration, "stage", stage, "key", e.Key, "position", e.From, "offset", r.Offset, "reason", p.Reason)
	return p
}

// told gives the events of an entry.
func (w *worker) told(e *event.Entry) ([]*kgo.Record, error) {
	res, err := w.t.rules.Translate(e)
	if err != nil {
		return nil, err
	}
	for _, u := range res.Unmapped {
		w.t.log.Warn("no mapping for a row change", "migration", e.Migration, "table", u.Table, "op", u.Op, "position", u.Position)
	}
	w.t.stats.Unmapped.Add(int64(len(res.Unmapped)))
	w.t.stats.count(res.Events)
	out := make([]*kgo.Record, len(res.Events))
	for i := range res.Events {
		out[i] = kafka.EventRecord(w.t.Topic(), w.n, &res.Events[i])
	}
	return out, nil
}

// mark passes a mark on, with the keys that stopped here.
func (w *worker) mark(m *event.SettledMark) *kgo.Record {
	if w.parked.Len() > 0 {
		held := slices.Clone(m.Held)
		for _, p := range w.parked.All() {
			held = append(held, event.Held{Migration: w.t.rules.migration, Key: p.Key, From: p.Position})
		}
		m.Held = held
	}
	return kafka.Record(w.t.Topic(), w.n, event.KindSettledMark, "", event.Encode(m))
}
