package compare

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"banyan/diff"
	"banyan/proxy/event"
	"banyan/shadow/ledger"
)

// StateConfig is one state comparison: two queries with the same columns, the id first.
type StateConfig struct {
	Migration   event.Migration
	Fingerprint string
	Name        string
	LegacySQL   string
	ModelSQL    string
	// Entity and Key name a row's entity and ordering key, from the query's columns.
	Entity func(event.Values) (event.Entity, bool)
	Key    func(event.Values) (event.OrderingKey, bool)
	// ID is the first column's value of an entity; false: it is not of this comparison.
	ID         func(event.Entity) (any, bool)
	Tables     []string // of legacy, that the query reads: "units" or "units.hp"; none: all
	Rules      *diff.Rules
	Partitions int32

	Legacy LegacyReader
	Model  ModelReader
	Holder Holder // nil: a key that stays busy is undecided
	Ledger Ledger

	// ChunkRows are swept in one pair of snapshots. Default 5000.
	ChunkRows int
	// RowsPerSecond spares the databases in a sweep. 0: as fast as it goes.
	RowsPerSecond int
	// Every is the time from the start of one sweep to the next. Default 10m.
	Every time.Duration
	// MaxQueue bounds the entities that wait to be looked at; more are counted, and left to the sweep. Default 100,000.
	MaxQueue int
	// Together is how many entities are looked at in one pair of snapshots. Default 500.
	Together int
	// MaxAttempts is how often a busy entity is looked at before its partition is held, then three times; after that it is
	// undecided. Default 10.
	MaxAttempts int
	// Pause is the shortest time between two rounds. Default 100ms.
	Pause time.Duration
	// Reverify is how often the places of open findings are looked at again. Default 30s.
	Reverify time.Duration
	// Patience is how long a round waits for the read model and the index. Default 30s.
	Patience time.Duration
	Now      func() time.Time
	Log      *slog.Logger
}

// Validate names the field, the value and the bound.
func (c StateConfig) Validate() error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	if c.Migration == "" || c.Name == "" {
		bad("state: no migration or no name")
	}
	if c.LegacySQL == "" || c.ModelSQL == "" {
		bad("state %s: legacy and candidate: two SELECTs with the same columns", c.Name)
	}
	if c.Entity == nil || c.Key == nil || c.ID == nil || c.Legacy == nil || c.Model == nil || c.Ledger == nil {
		bad("state %s: entity, key, readers or ledger missing", c.Name)
	}
	if c.Partitions < 1 {
		bad("state %s: partitions: %d; want 1 or more", c.Name, c.Partitions)
	}
	for _, f := range []struct {
		name string
		n    int
	}{{"chunk_rows", c.ChunkRows}, {"rows_per_second", c.RowsPerSecond}, {"max_queue", c.MaxQueue}, {"together", c.Together}, {"max_attempts", c.MaxAttempts}} {
		if f.n < 0 {
			bad("state %s: %s: %d; want 0 (the default) or more", c.Name, f.name, f.n)
		}
	}
	return errors.Join(errs...)
}

// State is a state comparison. Queue may be called by anybody; the rest by one goroutine, which is Run's if that runs.
type State struct {
	cfg    StateConfig
	name   ledger.Comparison
	rules  *route // for what rules mute
	tables Tables
	index  func(partition int32) *Index

	mu      sync.Mutex // guards queue, order, dropped and asked
	queue   map[event.Entity]*waiting
	order   []event.Entity
	dropped int64
	asked   uint64 // calls of Queue

	sweep     *ledger.Sweep
	pending   map[event.Entity]struct{} // seen by the sweep and not verified yet
	batch     ledger.Batch
	open      []ledger.OpenKey
	openBy    map[event.Entity][]int
	reverify  time.Time // when next
	nextChunk time.Time
	ids       [2]idColumn // of legacy's query and the candidate's
	wake      chan struct{}
}

// waiting is an entity that is to be looked at.
type waiting struct {
	first    time.Time
	attempts int
	due      time.Time
	asked    uint64 // the newest call of Queue for it
}

// NewState checks the config. index gives the partitions' indexes; a partition that it has not got is not compared here.
func NewState(cfg StateConfig, index func(partition int32) *Index) (*State, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	setDefault(&cfg.ChunkRows, 5000)
	setDefault(&cfg.Every, 10*time.Minute)
	setDefault(&cfg.MaxQueue, 100_000)
	setDefault(&cfg.Together, 500)
	setDefault(&cfg.MaxAttempts, 10)
	setDefault(&cfg.Pause, 100*time.Millisecond)
	setDefault(&cfg.Reverify, 30*time.Second)
	setDefault(&cfg.Patience, 30*time.Second)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	s := &State{cfg: cfg, name: ledger.State(cfg.Name), rules: newRoute(Route{Rules: cfg.Rules}), tables: NewTables(cfg.Tables), index: index,
		queue: map[event.Entity]*waiting{}, pending: map[event.Entity]struct{}{}, wake: make(chan struct{}, 1)}
	s.reset()
	return s, nil
}

func (s *State) reset() {
	s.batch = ledger.Batch{Migration: s.cfg.Migration, Fingerprint: s.cfg.Fingerprint}
}

// Queue has an entity looked at soon. Repeats coalesce. When the queue is full it is dropped and counted: the sweep will
// come by. Entities of other comparisons are ignored.
func (s *State) Queue(e event.Entity) {
	if _, ok := s.cfg.ID(e); !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if w := s.queue[e]; w != nil {
		w.asked = s.asked
		return
	}
	if len(s.queue) >= s.cfg.MaxQueue {
		s.dropped++
		return
	}
	now := s.cfg.Now()
	s.queue[e] = &waiting{first: now, due: now, asked: s.asked}
	s.order = append(s.order, e)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Waiting is how many entities wait to be looked at.
func (s *State) Waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queue)
}

func (s *State) waits(e event.Entity) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queue[e] != nil
}

// due takes entities whose time has come, at most Together.
func (s *State) due(now time.Time) (batch []event.Entity) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dropped > 0 {
		s.batch.Counts = append(s.batch.Counts, ledger.Count{Comparison: s.name, Counter: ledger.Dropped, Detail: "too many entities wait", N: s.dropped})
		s.dropped = 0
	}
	kept := s.order[:0]
	for _, e := range s.order {
		w := s.queue[e]
		switch {
		case w == nil: // done by a sweep
		case len(batch) < s.cfg.Together && !w.due.After(now):
			batch = append(batch, e)
			kept = append(kept, e)
		default:
			kept = append(kept, e)
		}
	}
	s.order = kept
	return batch
}

// soFar is the newest call of Queue. What is asked later than a round began, the round does not answer.
func (s *State) soFar() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// answered takes an entity off the queue, unless it was asked for again since.
func (s *State) answered(e event.Entity, soFar uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch w := s.queue[e]; {
	case w == nil:
	case w.asked > soFar:
		now := s.cfg.Now()
		*w = waiting{first: now, due: now, asked: w.asked}
	default:
		delete(s.queue, e)
	}
}

// done takes an entity off all lists: it was compared for good.
func (s *State) done(e event.Entity, soFar uint64) {
	s.answered(e, soFar)
	if _, swept := s.pending[e]; swept {
		delete(s.pending, e)
		s.sweep.Verified++
	}
}

// maxPause bounds the pause between two looks at a busy entity.
const maxPause = time.Second

// again puts an entity back: it was busy, or its key held. It gives how often it has been looked at, and since when; no
// is that there is no room.
func (s *State) again(e event.Entity, now time.Time) (attempts int, first time.Time, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.queue[e]
	if w == nil {
		if len(s.queue) >= s.cfg.MaxQueue {
			s.dropped++
			return 0, now, false
		}
		w = &waiting{first: now}
		s.queue[e] = w
		s.order = append(s.order, e)
	}
	w.attempts++
	w.due = now.Add(min(s.cfg.Pause<<min(w.attempts, 10), maxPause))
	return w.attempts, w.first, true
}

// attempts of a queued entity so far.
func (s *State) attempts(e event.Entity) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.queue[e]; w != nil {
		return w.attempts
	}
	return 0
}

// Run looks at queued entities as they come, and sweeps, until ctx ends. Errors are logged, and tried again: they mean
// that a database or Kafka is away.
func (s *State) Run(ctx context.Context) {
	for wait := time.Duration(0); ; {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		wait = s.cfg.Pause
		worked, err := s.Step(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			s.cfg.Log.Warn("state comparison waits", "comparison", s.name, "err", err)
			wait = 5 * time.Second
		case worked:
			wait = 0
		}
	}
}

// Step does one round: the entities that are due, then a chunk of the sweep if its time has come. It reports whether more
// can be done at once.
func (s *State) Step(ctx context.Context) (more bool, err error) {
	now := s.cfg.Now()
	if err := s.refresh(ctx, now); err != nil {
		return false, err
	}
	if batch := s.due(now); len(batch) > 0 {
		if err := s.targeted(ctx, batch); err != nil {
			return false, err
		}
	}
	if !now.Before(s.nextChunk) {
		if err := s.Sweep(ctx); err != nil {
			return false, err
		}
		more = s.nextChunk.IsZero() || !s.cfg.Now().Before(s.nextChunk)
	}
	return more, s.commit(ctx)
}

// refresh reads the open places, and queues them to be looked at again.
func (s *State) refresh(ctx context.Context, now time.Time) error {
	if now.Before(s.reverify) {
		return nil
	}
	open, err := s.cfg.Ledger.OpenKeys(ctx, s.cfg.Migration, s.name, 10_000)
	if err != nil {
		return err
	}
	s.setOpen(open)
	for _, k := range open {
		s.Queue(k.Entity)
	}
	s.reverify = now.Add(s.cfg.Reverify)
	return nil
}

func (s *State) setOpen(open []ledger.OpenKey) {
	s.open, s.openBy = open, map[event.Entity][]int{}
	for i, k := range open {
		s.openBy[k.Entity] = append(s.openBy[k.Entity], i)
	}
}

func (s *State) commit(ctx context.Context) error {
	if s.batch.Empty() {
		return nil
	}
	s.batch.At = s.cfg.Now()
	if err := s.cfg.Ledger.Commit(ctx, &s.batch); err != nil {
		return err
	}
	changed := len(s.batch.Found)+len(s.batch.Verified) > 0
	s.reset()
	if changed {
		open, err := s.cfg.Ledger.OpenKeys(ctx, s.cfg.Migration, s.name, 10_000)
		if err != nil {
			return err
		}
		s.setOpen(open)
	}
	return nil
}

// holds is how often an entity is looked at with its partition held, after MaxAttempts without.
const holds = 3

// targeted compares the entities, and those that were still busy after all attempts with their partition held.
func (s *State) targeted(ctx context.Context, entities []event.Entity) error {
	r, err := s.round(ctx, selection{entities: entities}, nil)
	if err != nil {
		return err
	}
	held := map[int32][]event.Entity{}
	for _, b := range r.busy {
		if s.attempts(b.entity)+1 >= s.cfg.MaxAttempts && s.cfg.Holder != nil && b.partition >= 0 {
			held[b.partition] = append(held[b.partition], b.entity)
			continue
		}
		s.wait(b, r.began, s.cfg.MaxAttempts)
	}
	for partition, es := range held {
		if err := s.holding(ctx, partition, es); err != nil {
			return err
		}
	}
	return nil
}

// holding compares entities of a partition that is held.
func (s *State) holding(ctx context.Context, partition int32, entities []event.Entity) error {
	soFar := s.soFar()
	r, err := s.round(ctx, selection{entities: entities}, &partition)
	if errors.Is(err, errHold) && ctx.Err() == nil {
		s.cfg.Log.Debug("state comparison", "comparison", s.name, "err", err)
		r = &result{began: soFar}
		for _, e := range entities {
			r.busy = append(r.busy, busy{e, partition, errHold.Error()})
		}
	} else if err != nil {
		return err
	}
	for _, b := range r.busy {
		s.wait(b, r.began, s.cfg.MaxAttempts+holds)
	}
	return nil
}

// wait puts a busy entity back, or gives it up: it counts as undecided, and what the sweep saw of it stays unverified.
func (s *State) wait(b busy, soFar uint64, most int) {
	now := s.cfg.Now()
	n, first, ok := s.again(b.entity, now)
	if ok && n < most {
		return
	}
	s.answered(b.entity, soFar)
	s.count(ledger.Undecided, b.reason, 1)
	if _, swept := s.pending[b.entity]; swept && s.sweep != nil {
		delete(s.pending, b.entity)
		s.unverified(b, n, first)
	}
}

// unverified lists an entity that the sweep has not verified, with what it was tried with.
func (s *State) unverified(b busy, attempts int, first time.Time) {
	s.sweep.Unverified++
	if len(s.sweep.Keys) < ledger.MaxUnverified {
		s.sweep.Keys = append(s.sweep.Keys, fmt.Sprintf("%s (%s; %d attempts since %s)", b.entity, b.reason, attempts, first.UTC().Format(time.TimeOnly)))
	}
}

func (s *State) count(c ledger.Counter, detail string, n int64) {
	if n != 0 {
		s.batch.Counts = append(s.batch.Counts, ledger.Count{Comparison: s.name, Counter: c, Detail: detail, N: n})
	}
}
