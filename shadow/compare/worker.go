package compare

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"banyan/diff"
	"banyan/proxy/capture"
	"banyan/proxy/event"
	"banyan/shadow/explain"
	"banyan/shadow/ledger"
	"banyan/shadow/stream"
)

// Config of the comparison of one migration.
type Config struct {
	Migration   event.Migration
	Fingerprint string // of config and rules, as the proxies compute it; pairs of another are undecided
	Topics      event.Topics
	Generation  int // of the events that explanations look at; 0: none are read
	Routes      []Route
	Index       IndexConfig // Migration and WithEvents are set from here
	Ledger      Ledger
	Asker       Asker // nil: a lagging candidate is not asked again
	// Complete tells up to where the read model has everything of a key. A lagging candidate is asked again once it is
	// there, not before. Nil: after pauses that double.
	Complete func(event.OrderingKey) event.Position
	// States are told the entities of each settled entry.
	States []*State

	// ClockError between the proxies and the change-log reader. Default 250ms; same host: 5ms.
	ClockError time.Duration
	// MaxTries bounds how often the candidate is asked for one pair, the first time included. Default 4.
	MaxTries int
	// Asks bounds the questions under way per partition. Default 4.
	Asks int
	// MaxPending and MaxPendingBytes bound the pairs of a partition that wait for the log. The oldest are dropped, and
	// counted. Default 2000 and 32 MiB.
	MaxPending      int
	MaxPendingBytes int
	// Patience is how long a pair waits for the log before it is undecided. Default 1m.
	Patience time.Duration
	// CommitEvery bounds how often the ledger is written. Default 500ms.
	CommitEvery time.Duration
	// MaxBody bounds a decoded answer. Default 16 MiB.
	MaxBody int
	Now     func() time.Time // nil: time.Now
	Log     *slog.Logger
}

func (c Config) withDefaults() Config {
	setDefault(&c.ClockError, 250*time.Millisecond)
	setDefault(&c.MaxTries, 4)
	setDefault(&c.Asks, 4)
	setDefault(&c.MaxPending, 2000)
	setDefault(&c.MaxPendingBytes, 32<<20)
	setDefault(&c.Patience, time.Minute)
	setDefault(&c.CommitEvery, 500*time.Millisecond)
	setDefault(&c.MaxBody, 16<<20)
	c.Index.Migration, c.Index.WithEvents = c.Migration, c.Generation > 0
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Validate names the field, the value and the bound.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	if c.Migration == "" {
		bad("migration: none named")
	}
	if c.Ledger == nil {
		bad("ledger: none given")
	}
	seen := map[string]bool{}
	for _, r := range c.Routes {
		if seen[r.Name] {
			bad("reads: route %q twice", r.Name)
		}
		seen[r.Name] = true
	}
	for _, f := range []struct {
		name string
		n    int
	}{{"max_tries", c.MaxTries}, {"asks", c.Asks}, {"max_pending", c.MaxPending}, {"max_pending_bytes", c.MaxPendingBytes}, {"max_body", c.MaxBody}} {
		if f.n < 0 {
			bad("%s: %d; want 1 or more", f.name, f.n)
		}
	}
	for _, f := range []struct {
		name string
		d    time.Duration
	}{{"clock_error", c.ClockError}, {"patience", c.Patience}, {"commit_every", c.CommitEvery}} {
		if f.d < 0 {
			bad("%s: %s; want more than 0", f.name, f.d)
		}
	}
	return errors.Join(errs...)
}

// Comparer is the comparison of one migration. Its workers run in a [stream.Consumer] of Topics.
type Comparer struct {
	cfg    Config
	routes map[string]*route

	mu      sync.RWMutex // guards indexes
	indexes map[int32]*Index
}

// New checks the config.
func New(cfg Config) (*Comparer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("compare %s: %w", cfg.Migration, err)
	}
	c := &Comparer{cfg: cfg.withDefaults(), routes: map[string]*route{}, indexes: map[int32]*Index{}}
	for _, r := range cfg.Routes {
		c.routes[r.Name] = newRoute(r)
	}
	return c, nil
}

// Topics are what the workers read. All have the same number of partitions.
func (c *Comparer) Topics() []string {
	t := []string{c.cfg.Topics.Settled(), c.cfg.Topics.Pairs()}
	if c.cfg.Generation > 0 {
		t = append(t, c.cfg.Topics.Events(c.cfg.Migration, c.cfg.Generation))
	}
	return t
}

// Index of a partition that is worked here; nil if it is not.
func (c *Comparer) Index(partition int32) *Index {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.indexes[partition]
}

// place is what a checkpoint remembers of a partition.
type place struct {
	Settled int64 `json:"settled"` // oldest settled record that the index may need
	Counted int64 `json:"counted"` // next settled record whose sources are not counted yet
	Events  int64 `json:"events"`  // oldest event
	Pairs   int64 `json:"pairs"`   // oldest pair without a verdict
	// Generation is the one that Events is an offset of; 0 means 1.
	Generation int `json:"generation,omitempty"`
	// Judged are pairs above Pairs that have one: from, to (exclusive).
	Judged [][2]int64 `json:"judged,omitempty"`
}

func (p *place) judged(offset int64) bool {
	return offset < p.Pairs || slices.ContainsFunc(p.Judged, func(r [2]int64) bool { return r[0] <= offset && offset < r[1] })
}

// worker judges the pairs of one partition. All but the questions under way belongs to the consumer's goroutine.
type worker struct {
	c         *Comparer
	cfg       *Config
	partition int32
	index     *Index
	revision  int64
	start     place // at the open
	now       place // next to commit: offsets of what was handled
	saved     place // what was committed last

	settled []mark // offsets of settled records, with when they were read
	events  []mark
	pending []*pendingPair
	bytes   int
	pairs   int64 // next offset of .pairs

	batch     ledger.Batch
	committed time.Time
	open      map[ledger.Comparison][]ledger.OpenKey
	openAt    time.Time
	stale     bool // open has to be read again

	answers chan answer
	asking  int
	ctx     context.Context
	cancel  context.CancelFunc
	asks    sync.WaitGroup
}

type mark struct {
	offset int64
	read   time.Time
}

type pendingPair struct {
	*capture.Pair
	offset  int64
	size    int
	arrived time.Time
	tries   int
	next    time.Time // not to be asked before
	asked   bool      // a question is under way
	waited  bool      // for events
}

type answer struct {
	p   *pendingPair
	a   capture.Answer
	err error
}

// Open implements [stream.Opener].
func (c *Comparer) Open(ctx context.Context, partition int32) (stream.Worker, map[string]int64, error) {
	w := &worker{c: c, cfg: &c.cfg, partition: partition, answers: make(chan answer, c.cfg.Asks), stale: true}
	state, revision, err := c.cfg.Ledger.Checkpoint(ctx, w.name())
	if err != nil {
		return nil, nil, err
	}
	w.revision = revision
	start := map[string]int64{}
	if state != nil {
		if err := json.Unmarshal(state, &w.start); err != nil {
			return nil, nil, fmt.Errorf("checkpoint %s: %w", w.name(), err)
		}
		if max(w.start.Generation, 1) != c.cfg.Generation { // another one's events; older ones explain nothing
			w.start.Events, w.start.Generation = stream.Earliest, c.cfg.Generation
		}
		start[c.cfg.Topics.Settled()], start[c.cfg.Topics.Pairs()] = w.start.Settled, w.start.Pairs
		if c.cfg.Generation > 0 {
			start[c.cfg.Topics.Events(c.cfg.Migration, c.cfg.Generation)] = w.start.Events
		}
	} else {
		for _, t := range c.Topics() {
			start[t] = stream.Earliest
		}
	}
	w.start.Generation = c.cfg.Generation
	w.now, w.pairs = w.start, w.start.Pairs
	w.saved = w.start
	w.index = NewIndex(c.cfg.Index)
	// Cancelled by Close: a question may outlast the call of Handle that asked it.
	w.ctx, w.cancel = context.WithCancel(context.WithoutCancel(ctx))
	w.reset()
	c.mu.Lock()
	c.indexes[partition] = w.index
	c.mu.Unlock()
	return w, start, nil
}

// name of the checkpoint. It is one for all generations, and keeps the name that it had with the first: what was judged
// must not be judged once more after a swap, and whoever still compares the one before is fenced.
func (w *worker) name() string {
	return fmt.Sprintf("compare/%s/g1/%d", w.cfg.Migration, w.partition)
}

func (w *worker) reset() {
	w.batch = ledger.Batch{Migration: w.cfg.Migration, Fingerprint: w.cfg.Fingerprint}
}

// Handle implements [stream.Worker].
func (w *worker) Handle(ctx context.Context, records []stream.Record) error {
	now := w.cfg.Now()
	for i := range records {
		if err := w.record(&records[i], now); err != nil {
			return fmt.Errorf("%s/%d offset %d: %w", records[i].Topic, w.partition, records[i].Offset, err)
		}
	}
	w.collect(now)
	if err := w.keys(ctx, now); err != nil {
		return err
	}
	w.look(now)
	return w.commit(ctx, now, false)
}

// Close implements [stream.Worker].
func (w *worker) Close(ctx context.Context) {
	w.cancel()
	w.asks.Wait()
	if err := w.commit(ctx, w.cfg.Now(), true); err != nil && !errors.Is(err, ledger.ErrFenced) {
		w.cfg.Log.Warn("evidence not committed; it is judged again", "migration", w.cfg.Migration, "partition", w.partition, "err", err)
	}
	w.c.mu.Lock()
	if w.c.indexes[w.partition] == w.index {
		delete(w.c.indexes, w.partition)
	}
	w.c.mu.Unlock()
}

func (w *worker) record(r *stream.Record, now time.Time) error {
	switch {
	case r.Topic == w.cfg.Topics.Settled():
		return w.settledRecord(r, now)
	case r.Topic == w.cfg.Topics.Pairs():
		return w.pairRecord(r, now)
	default:
		return w.eventRecord(r, now)
	}
}

func (w *worker) settledRecord(r *stream.Record, now time.Time) error {
	if r.Offset == 0 {
		w.index.Begin()
	}
	w.settled = append(w.settled, mark{r.Offset, now})
	w.now.Counted = max(w.now.Counted, r.Offset+1)
	switch r.Kind {
	case event.KindSettledMark:
		m, err := event.DecodeSettledMark(r.Value)
		if err != nil {
			return err
		}
		w.index.Mark(m, now)
		if r.Offset >= w.start.Counted {
			w.batch.Reading = []ledger.Reading{{Partition: w.partition, Position: m.Position}}
		}
	case event.KindEntry:
		e, err := event.DecodeEntry(r.Value)
		if err != nil {
			return err
		}
		if e.Migration != w.cfg.Migration {
			return nil
		}
		fresh, withdrawn := w.index.Add(e, len(r.Value), now)
		if fresh && r.Offset >= w.start.Counted {
			w.sources(e, withdrawn)
			w.tell(e)
		}
	}
	return nil
}

// sources counts what no write explains, and takes back what a late write did after all.
func (w *worker) sources(e *event.Entry, withdrawn []Withdrawn) {
	for i := range e.Changes {
		c := &e.Changes[i]
		for j := range c.Rows {
			w.source(c.Cause, &c.Rows[j], c.Position, 1)
		}
	}
	for i := range withdrawn {
		w.source(withdrawn[i].Cause, &withdrawn[i].Row, 0, -1)
	}
}

func (w *worker) source(cause event.Cause, r *event.RowChange, at event.Position, n int64) {
	s := ledger.Source{Table: r.Table, Position: at}
	switch cause {
	case event.Dark:
		s.Dark = n
	case event.Unattributed:
		s.Unattributed = n
	default:
		return
	}
	switch r.Op {
	case event.Insert:
		s.Column = ledger.InsertColumn
	case event.Delete:
		s.Column = ledger.DeleteColumn
	default:
		for column := range r.After {
			if r.Changed(column) {
				s.Column = column
				w.batch.Sources = append(w.batch.Sources, s)
			}
		}
		return
	}
	w.batch.Sources = append(w.batch.Sources, s)
}

// tell queues the entities of an entry for the state comparisons. What was imported, the sweep looks at.
func (w *worker) tell(e *event.Entry) {
	for i := range e.Changes {
		c := &e.Changes[i]
		if c.Cause == event.Imported {
			continue
		}
		for j := range c.Rows {
			for _, image := range []event.Values{c.Rows[j].Before, c.Rows[j].After} {
				if image == nil {
					continue
				}
				if entity, ok := w.index.entity(c.Rows[j].Table, image); ok {
					for _, s := range w.cfg.States {
						s.Queue(entity)
					}
				}
			}
		}
	}
}

func (w *worker) eventRecord(r *stream.Record, now time.Time) error {
	if r.Offset == 0 {
		w.index.BeginEvents()
	}
	w.events = append(w.events, mark{r.Offset, now})
	switch r.Kind {
	case event.KindSettledMark:
		m, err := event.DecodeSettledMark(r.Value)
		if err != nil {
			return err
		}
		w.index.MarkEvents(m)
	case "":
		// What is no event stops the projection, not us: the finding will say that the model lacks it.
		if e, err := event.ParseEvent(r.Headers, r.Value); err == nil {
			w.index.AddEvent(e, len(r.Value), now)
		}
	}
	return nil
}

func (w *worker) pairRecord(r *stream.Record, now time.Time) error {
	w.pairs = max(w.pairs, r.Offset+1)
	if w.start.judged(r.Offset) {
		return nil
	}
	switch r.Kind {
	case event.KindTally:
		t, err := capture.DecodeTally(r.Value)
		if err != nil {
			return err
		}
		if t.Migration == w.cfg.Migration {
			w.batch.Tallies = append(w.batch.Tallies, t)
		}
	case event.KindPair:
		p, err := capture.DecodePair(r.Value)
		if err != nil {
			return err
		}
		if p.Migration != w.cfg.Migration {
			return nil
		}
		if w.c.routes[p.Route] == nil {
			w.count(p.Route, ledger.Undecided, "other config", 1)
			return nil
		}
		w.pending = append(w.pending, &pendingPair{Pair: p, offset: r.Offset, size: len(r.Value), arrived: now, tries: max(1, p.Tries)})
		w.bytes += len(r.Value)
		w.bound()
	}
	return nil
}

// bound drops the pairs that wait longest when there are too many.
func (w *worker) bound() {
	for len(w.pending) > w.cfg.MaxPending || w.bytes > w.cfg.MaxPendingBytes && len(w.pending) > 1 {
		p := w.pending[0]
		w.pending = w.pending[1:]
		w.bytes -= p.size
		w.count(p.Route, ledger.Dropped, "too many pairs wait", 1)
	}
}

func (w *worker) count(route string, counter ledger.Counter, detail string, n int) {
	if n != 0 {
		w.batch.Counts = append(w.batch.Counts, ledger.Count{Comparison: ledger.Route(route), Counter: counter, Detail: detail, N: int64(n)})
	}
}

// look judges what can be judged.
func (w *worker) look(now time.Time) {
	kept := w.pending[:0]
	for _, p := range w.pending {
		if p.asked || !w.judge(p, now) {
			kept = append(kept, p)
			continue
		}
		w.bytes -= p.size
	}
	clear(w.pending[len(kept):])
	w.pending = kept
}

// judge reports whether the pair is done with.
func (w *worker) judge(p *pendingPair, now time.Time) bool {
	j := judgement{w.cfg.Fingerprint, w.cfg.Generation, w.cfg.ClockError, w.cfg.MaxBody, w.cfg.Asker != nil && p.tries < w.cfg.MaxTries}
	r := w.c.routes[p.Route]
	v := j.judge(w.index, r, p.Pair)
	switch v.outcome {
	case wait:
		if now.Sub(p.arrived) < w.cfg.Patience {
			return false
		}
		v.outcome, v.reason = undecided, "the change log is not read so far"
	case ask:
		if w.cfg.Complete == nil || w.cfg.Complete(p.Key) >= v.reads {
			w.ask(p, now)
			return false
		}
		if now.Sub(p.arrived) < w.cfg.Patience {
			return false
		}
		v.outcome, v.reason = undecided, candidateLags
	case different:
		// The explanation looks at events: they follow the settled entries by a moment.
		if _, events, _ := w.index.Through(); events < v.high && !p.waited {
			p.waited = now.Sub(p.arrived) > w.cfg.Patience
			if !p.waited {
				return false
			}
		}
	}
	w.enter(p, r, &v, now)
	return true
}

// ask sends the question when its time has come and there is room for it.
func (w *worker) ask(p *pendingPair, now time.Time) {
	if p.next.IsZero() {
		p.next = now.Add(20 * time.Millisecond << p.tries)
	}
	if now.Before(p.next) || w.asking >= w.cfg.Asks {
		return
	}
	p.asked = true
	w.asking++
	p.tries++
	w.asks.Go(func() {
		a, err := w.cfg.Asker.Ask(w.ctx, p.Pair)
		w.answers <- answer{p, a, err} // has room for every question
	})
}

// collect takes the answers that came.
func (w *worker) collect(now time.Time) {
	for {
		select {
		case a := <-w.answers:
			w.asking--
			a.p.asked, a.p.next = false, now.Add(20*time.Millisecond<<a.p.tries)
			if a.err != nil {
				a.a = capture.Answer{Error: a.err.Error(), Start: now, End: now}
			}
			pair := *a.p.Pair // its first form may still be read by a hook of the asker
			pair.Candidate, pair.Tries = a.a, a.p.tries
			a.p.Pair = &pair
		default:
			return
		}
	}
}

// enter adds a verdict to the batch.
func (w *worker) enter(p *pendingPair, r *route, v *verdict, now time.Time) {
	if v.outcome == undecided {
		w.count(p.Route, ledger.Undecided, v.reason, 1)
		w.count(p.Route, ledger.ValuesUndecided, "", v.report.Undecided)
		return
	}
	c := ledger.Route(p.Route)
	counter := map[outcome]ledger.Counter{equal: ledger.Equal, tolerated: ledger.Tolerated, different: ledger.Different}[v.outcome]
	w.count(p.Route, ledger.Judged, "", 1)
	w.count(p.Route, counter, "", 1)
	w.count(p.Route, ledger.ValuesCompared, "", v.report.Compared)
	w.count(p.Route, ledger.ValuesMuted, "", v.report.Muted)
	w.count(p.Route, ledger.ValuesUndecided, "", v.report.Undecided)
	for _, u := range v.report.Used {
		w.count(p.Route, ledger.RuleUsed, u.Kind+": "+u.Rule, u.Count)
	}
	for _, l := range []struct {
		side capture.Side
		a    *capture.Answer
	}{{capture.Legacy, &p.Legacy}, {capture.Candidate, &p.Candidate}} {
		if d := l.a.End.Sub(l.a.Start); d > 0 {
			w.batch.Latency = append(w.batch.Latency, ledger.Latency{Comparison: c, Side: l.side, Took: d})
		}
	}
	subject := subjectOf(p.Params)
	seen := ledger.Seen{Comparison: c, Subject: digest(string(p.Key), subject), Version: v.version}
	for i := range v.differs {
		if i == maxExplained {
			break
		}
		seen.Found = append(seen.Found, len(w.batch.Found))
		w.batch.Found = append(w.batch.Found, w.found(p, v, &v.differs[i], c, subject, now))
	}
	w.batch.Seen = append(w.batch.Seen, seen)
	for _, k := range w.open[c] {
		if k.Key == p.Key && k.Subject == subject && v.shows(r, k.Class, k.Path, k.Entity) {
			w.batch.Verified = append(w.batch.Verified, k)
		}
	}
}

// maxExplained bounds the differences of one pair that become findings; the others look like them.
const maxExplained = 100

func (w *worker) found(p *pendingPair, v *verdict, d *diff.Difference, c ledger.Comparison, subject string, now time.Time) ledger.Found {
	k := w.index.Case(p.Key, event.Entity(d.Entity), v.high)
	k.Answer, k.Path, k.Legacy, k.Candidate = true, d.Path, d.Legacy, d.Candidate
	e := explain.Explain(&k)
	return ledger.Found{Comparison: c, Cause: e.Cause, Class: string(d.Class), Place: d.Group, Subject: subject, Example: ledger.Example{
		At: now, Key: p.Key, Entity: event.Entity(d.Entity), Path: string(d.Path), Legacy: rawValue(d.Legacy), Candidate: rawValue(d.Candidate),
		Why: e.Why, Writes: e.Writes, Pair: p.ID, Target: p.Legacy.Target, Low: v.low, High: v.high}}
}

// keys reads the open places again when they may have changed.
func (w *worker) keys(ctx context.Context, now time.Time) error {
	if len(w.pending) == 0 || !w.stale && now.Sub(w.openAt) < 5*time.Second {
		return nil
	}
	open := map[ledger.Comparison][]ledger.OpenKey{}
	for name := range w.c.routes {
		ks, err := w.cfg.Ledger.OpenKeys(ctx, w.cfg.Migration, ledger.Route(name), 10_000)
		if err != nil {
			return err
		}
		if len(ks) > 0 {
			open[ledger.Route(name)] = ks
		}
	}
	w.open, w.openAt, w.stale = open, now, false
	return nil
}

// commit writes the batch with the place from which a successor goes on. A place that moved by marks alone has time.
func (w *worker) commit(ctx context.Context, now time.Time, last bool) error {
	w.advance(now)
	every := w.cfg.CommitEvery
	if w.quiet() {
		every *= 10
	}
	if w.now.equals(&w.saved) && w.batch.Empty() || !last && now.Sub(w.committed) < every {
		return nil
	}
	state, err := json.Marshal(w.now)
	if err != nil {
		return err
	}
	w.batch.At = now
	w.batch.Checkpoint = &ledger.Checkpoint{Name: w.name(), State: state, Expect: w.revision}
	if err := w.cfg.Ledger.Commit(ctx, &w.batch); err != nil {
		return err
	}
	w.revision++
	w.stale = w.stale || len(w.batch.Found)+len(w.batch.Verified) > 0
	w.committed, w.saved = now, w.now
	w.reset()
	return nil
}

// quiet reports whether the batch tells no more than how far was read.
func (w *worker) quiet() bool {
	b := w.batch
	b.Reading, b.Checkpoint = nil, nil
	return b.Empty()
}

func (p *place) equals(o *place) bool {
	return p.Settled == o.Settled && p.Counted == o.Counted && p.Events == o.Events && p.Generation == o.Generation && p.Pairs == o.Pairs && slices.Equal(p.Judged, o.Judged)
}

// advance computes the place: records older than the index keeps are not needed again.
func (w *worker) advance(now time.Time) {
	retain := w.index.cfg.Retain
	w.settled, w.now.Settled = older(w.settled, w.now.Settled, now.Add(-retain))
	w.events, w.now.Events = older(w.events, w.now.Events, now.Add(-retain))
	w.now.Pairs, w.now.Judged = w.pairs, nil
	for i, p := range w.pending { // in the order of their offsets
		if i == 0 {
			w.now.Pairs = p.offset
		} else if from := w.pending[i-1].offset + 1; from < p.offset {
			w.now.Judged = append(w.now.Judged, [2]int64{from, p.offset})
		}
	}
	// Pairs that a predecessor judged, and that were not read again yet.
	for _, r := range w.start.Judged {
		if r[1] > w.pairs {
			w.now.Judged = append(w.now.Judged, [2]int64{max(r[0], w.pairs), r[1]})
		}
	}
	if n := len(w.pending); n > 0 {
		if from := w.pending[n-1].offset + 1; from < w.pairs {
			w.now.Judged = append(w.now.Judged, [2]int64{from, w.pairs})
		}
	}
}

// older forgets the marks read before t and gives the oldest offset that is still needed.
func older(ms []mark, oldest int64, t time.Time) ([]mark, int64) {
	n := 0
	for n < len(ms) && ms[n].read.Before(t) {
		n++
	}
	if n > 0 {
		oldest = max(oldest, ms[n-1].offset+1)
	}
	return ms[n:], oldest
}
