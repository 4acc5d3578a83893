// Package book keeps what has happened in each match, folded from the service's own topic: its events, and those that
// banyan publishes there for what no command explains. It is the only state that commands are decided on.
//
// It promises: a decision sees every event up to the offset that the caller names, and all that this process has
// published for the match; decisions of one match are taken one at a time; memory is bounded by the number of matches
// (the one that was not asked for longest is forgotten, and read again when it is). A match that is not in memory is read
// from the read model and the topic's rest behind it, or from the topic alone.
//
// It leaves to others: what events mean (economy), and publishing (command). It fails with an error when the read model
// or Kafka cannot be reached; nothing was decided then, and the caller may ask again. An event that cannot be folded
// makes every decision of its match fail until it is gone: deciding without it would be guessing.
package book

import (
	"container/list"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"banyan/cmd/gameservice/internal/economy"
	"banyan/proxy/event"
	"banyan/proxy/kafka"
	"banyan/shadow/stream"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Base is a match as the read model has it.
type Base struct {
	Match *economy.Match
	// From is the offset of the first event that is not in it; -1: read the topic from its beginning.
	From int64
	// Ahead are offsets above From that are in it already.
	Ahead []int64
}

// Loader reads a match from the read model.
type Loader interface {
	Load(ctx context.Context, key event.OrderingKey, partition int32) (Base, error)
}

// Config of a [Book].
type Config struct {
	Kafka   kafka.Config
	Topic   string
	Source  string // of the service's own events
	Matches int    // kept in memory at most; default 1000
	Loader  Loader // nil: the topic alone
	Log     *slog.Logger
}

// recall is how many records of the partition before a match's first event are looked at to recognise repeats.
const recall = 10000

// Book is the state of all matches. Safe for concurrent use.
type Book struct {
	cfg    Config
	cl     *kgo.Client
	cancel context.CancelFunc
	done   chan struct{}
	parts  []*part

	mu    sync.Mutex // guards the rest, and use of pages; never held together with a part's
	pages map[event.OrderingKey]*page
	order *list.List // of *page, the one asked for last in front
}

// part is one partition of the topic.
type part struct {
	mu    sync.Mutex // guards the rest and the contents of its pages
	next  int64      // all below is folded
	grown chan struct{}
	pages map[event.OrderingKey]*page
}

// page is one match.
type page struct {
	key   event.OrderingKey
	place *list.Element
	users int

	turn chan struct{} // holds one token: decisions one at a time; whoever has it may use next
	next int64         // all below must be folded before the next decision

	ready   bool
	waiting []stream.Record // that came while it was being read
	match   *economy.Match
	seen    *ids  // events
	causes  *ids  // commands that have events
	broken  error // an event that could not be folded
}

// Open reads the topic's end and follows it until Close.
func Open(ctx context.Context, cfg Config) (*Book, error) {
	if cfg.Matches == 0 {
		cfg.Matches = 1000
	}
	cl, err := cfg.Kafka.Client("gameservice-book")
	if err != nil {
		return nil, err
	}
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, cfg.Topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		cl.Close()
		return nil, fmt.Errorf("end of %s: %w; `banyan check` says which topics are missing", cfg.Topic, err)
	}
	b := &Book{cfg: cfg, cl: cl, done: make(chan struct{}), pages: map[event.OrderingKey]*page{}, order: list.New()}
	from := map[int32]kgo.Offset{}
	for n := range cfg.Kafka.Partitions {
		end, ok := ends.Lookup(cfg.Topic, n)
		if !ok {
			cl.Close()
			return nil, fmt.Errorf("topic %s has no partition %d: kafka.partitions must be banyan's", cfg.Topic, n)
		}
		b.parts = append(b.parts, &part{next: end.Offset, grown: make(chan struct{}), pages: map[event.OrderingKey]*page{}})
		from[n] = kgo.NewOffset().At(end.Offset)
	}
	cl.AddConsumePartitions(map[string]map[int32]kgo.Offset{cfg.Topic: from})
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	b.cancel = cancel
	go b.follow(run)
	return b, nil
}

// Close ends following. Decisions that wait fail by their contexts.
func (b *Book) Close() {
	b.cancel()
	<-b.done
	b.cl.Close()
}

// follow folds what comes; it ends with Close.
func (b *Book) follow(ctx context.Context) {
	defer close(b.done)
	for ctx.Err() == nil {
		fs := b.cl.PollFetches(ctx)
		fs.EachError(func(topic string, n int32, err error) {
			if ctx.Err() == nil {
				b.cfg.Log.Error("the topic cannot be read; commands wait", "topic", topic, "partition", n, "err", err)
			}
		})
		fs.EachPartition(func(p kgo.FetchTopicPartition) {
			if len(p.Records) > 0 {
				b.grow(p.Partition, p.Records)
			}
		})
	}
}

func (b *Book) grow(n int32, records []*kgo.Record) {
	p := b.parts[n]
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range records {
		p.next = r.Offset + 1
		g := p.pages[event.OrderingKey(r.Key)]
		if g == nil || kafka.KindOf(r) != "" {
			continue
		}
		rec := stream.Record{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Headers: kafka.Headers(r), Key: r.Key, Value: r.Value}
		if !g.ready {
			g.waiting = append(g.waiting, rec)
			continue
		}
		b.fold(g, &rec, true)
	}
	close(p.grown)
	p.grown = make(chan struct{})
}

// fold takes one event into a page; without apply it is only remembered. The part's mutex is held.
func (b *Book) fold(g *page, rec *stream.Record, apply bool) {
	ev, err := event.ParseEvent(rec.Headers, rec.Value)
	if err == nil && !g.seen.has(ev.ID) {
		g.seen.add(ev.ID, ev.Source)
		g.causes.add(ev.Cause, ev.Source)
		if apply {
			err = g.match.Apply(ev.Type, ev.Version, ev.Data)
		}
	}
	if err != nil && g.broken == nil && apply {
		g.broken = fmt.Errorf("%s/%d offset %d: %w", rec.Topic, rec.Partition, rec.Offset, err)
		b.cfg.Log.Error("an event cannot be folded; commands of its match wait", "key", g.key, "err", g.broken)
	}
}

// View is what a decision looks at.
type View struct {
	Match *economy.Match
	// Told is the source of the events that the command has already: "" if there are none.
	Told string
	seen *ids
}

// Published says whether the event is in the topic already.
func (v View) Published(id string) bool { return v.seen.has(id) }

// Decide shows the match of a key to decide, when it holds everything below the offset readTo, and then calls publish with
// no lock held but the key's turn. publish returns the offset after what it published, 0 for nothing.
func (b *Book) Decide(ctx context.Context, key event.OrderingKey, cause string, readTo int64, decide func(View) error, publish func() (next int64, err error)) error {
	n := event.Partition(key, b.cfg.Kafka.Partitions)
	p := b.parts[n]
	g := b.use(key)
	defer b.release(g)
	select {
	case <-g.turn:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { g.turn <- struct{}{} }()
	if err := b.read(ctx, p, n, g); err != nil {
		return err
	}
	if err := p.wait(ctx, max(readTo, g.next)); err != nil {
		return err
	}
	p.mu.Lock()
	err := g.broken
	if err == nil {
		err = decide(View{g.match, g.causes.source(cause), g.seen})
	}
	p.mu.Unlock()
	if err != nil {
		return err
	}
	next, err := publish()
	g.next = max(g.next, next)
	return err
}

// wait returns when everything below the offset is folded.
func (p *part) wait(ctx context.Context, readTo int64) error {
	for {
		p.mu.Lock()
		next, grown := p.next, p.grown
		p.mu.Unlock()
		if next >= readTo {
			return nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return fmt.Errorf("read up to offset %d, want %d: %w", next, readTo, ctx.Err())
		}
	}
}

// use finds or makes a page and keeps it from being forgotten.
func (b *Book) use(key event.OrderingKey) *page {
	b.mu.Lock()
	g := b.pages[key]
	if g == nil {
		g = &page{key: key, turn: make(chan struct{}, 1)}
		g.turn <- struct{}{}
		g.place = b.order.PushFront(g)
		b.pages[key] = g
	}
	b.order.MoveToFront(g.place)
	g.users++
	var gone []*page
	for e := b.order.Back(); e != nil && len(b.pages) > b.cfg.Matches; {
		old := e.Value.(*page)
		e = e.Prev()
		if old.users == 0 {
			b.order.Remove(old.place)
			delete(b.pages, old.key)
			gone = append(gone, old)
		}
	}
	b.mu.Unlock()
	for _, old := range gone {
		p := b.parts[event.Partition(old.key, b.cfg.Kafka.Partitions)]
		p.mu.Lock()
		if p.pages[old.key] == old {
			delete(p.pages, old.key)
		}
		p.mu.Unlock()
	}
	return g
}

func (b *Book) release(g *page) {
	b.mu.Lock()
	g.users--
	b.mu.Unlock()
}

// read fills a page that has just been made. What comes while it reads waits beside it.
func (b *Book) read(ctx context.Context, p *part, n int32, g *page) (err error) {
	p.mu.Lock()
	if g.ready {
		p.mu.Unlock()
		return nil
	}
	g.waiting, g.broken = nil, nil
	g.seen, g.causes = newIDs(recall), newIDs(recall)
	p.pages[g.key] = g
	here := p.next
	p.mu.Unlock()
	defer func() {
		if err != nil { // nobody would take what comes
			p.mu.Lock()
			delete(p.pages, g.key)
			p.mu.Unlock()
		}
	}()

	base := Base{economy.NewMatch(), -1, nil}
	if b.cfg.Loader != nil {
		if base, err = b.cfg.Loader.Load(ctx, g.key, n); err != nil {
			return fmt.Errorf("read %s: %w", g.key, err)
		}
	}
	records, err := b.records(ctx, n, g.key, base.From, here)
	if err != nil {
		return fmt.Errorf("read %s: %w", g.key, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	g.match = base.Match
	for _, rs := range [][]stream.Record{records, g.waiting} {
		for i := range rs {
			o := rs[i].Offset
			b.fold(g, &rs[i], o >= base.From && !slices.Contains(base.Ahead, o))
		}
	}
	g.waiting, g.ready = nil, true
	return nil
}

// records are a key's events below an offset, from some way before the first that is not in the base.
func (b *Book) records(ctx context.Context, n int32, key event.OrderingKey, from, to int64) ([]stream.Record, error) {
	start := max(from-recall, 0)
	if from < 0 || start == 0 {
		start = stream.Earliest
	}
	var out []stream.Record
	for rec, err := range stream.ReadTo(ctx, b.cfg.Kafka, b.cfg.Topic, n, start) {
		if err != nil {
			return nil, err
		}
		if rec.Offset >= to {
			break
		}
		if rec.Kind == "" && event.OrderingKey(rec.Key) == key {
			out = append(out, rec)
		}
	}
	return out, nil
}
