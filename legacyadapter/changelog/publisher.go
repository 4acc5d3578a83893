package changelog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"banyan/proxy/event"
	"banyan/proxy/kafka"
)

// Config is the publisher's.
type Config struct {
	Kafka    kafka.Config
	Mappings []Mapping
	// MarkEvery is the longest time between two marks in a partition. Default 50 ms, 10 ms to 1 s: settle's waits count
	// in marks.
	MarkEvery time.Duration
	// FenceEvery is the time between two fences. Default 20 ms, 5 ms to 1 s: it bounds how exactly a change's commit
	// is known.
	FenceEvery time.Duration
	// StartAtHead lets the reader start at the log's head although positions are lost: .changes expired, or the server
	// no longer keeps the log from where we stopped. Changes between are a gap, to be repaired by a backfill.
	StartAtHead bool
	// Checkpoints keep how far backfills are; nil: backfill is refused.
	Checkpoints Checkpoints
}

func (c Config) withDefaults() Config {
	c.Kafka = c.Kafka.WithDefaults()
	if c.MarkEvery == 0 {
		c.MarkEvery = 50 * time.Millisecond
	}
	if c.FenceEvery == 0 {
		c.FenceEvery = 20 * time.Millisecond
	}
	return c
}

// Validate names the field, the value and the bound of everything that is wrong.
func (c Config) Validate() error {
	c = c.withDefaults()
	_, err := byTable(c.Mappings)
	errs := []error{c.Kafka.Validate(), err}
	if c.MarkEvery < 10*time.Millisecond || c.MarkEvery > time.Second {
		errs = append(errs, fmt.Errorf("mark_every: %s: want 10ms to 1s", c.MarkEvery))
	}
	if c.FenceEvery < 5*time.Millisecond || c.FenceEvery > time.Second {
		errs = append(errs, fmt.Errorf("fence_every: %s: want 5ms to 1s", c.FenceEvery))
	}
	return errors.Join(errs...)
}

// State is what the reader is doing.
type State string

// The states.
const (
	Connecting State = "connecting" // to log and Kafka, or waiting to do so again
	Reading    State = "reading"
	Stopped    State = "stopped" // until somebody acts, or for good
)

// Stats are counters since the start, and where the reader is.
type Stats struct {
	State        State
	Err          string // why it is not reading
	Position     event.Position
	Transactions uint64 // with at least one mapped row
	Rows         uint64 // published, counted once per record
	Records      uint64
	Dropped      uint64 // row events and rows that no mapping names
	Repeated     uint64 // records not sent again after a restart
	Imported     uint64 // rows of backfills
	Marks        uint64
	Restarts     uint64
	LastReceived time.Time // of the last transaction
}

// Publisher reads one source and publishes its changes and marks. There is one per installation: the source's lock
// sees to it.
type Publisher struct {
	cfg     Config
	src     Source
	log     *slog.Logger
	onState func(State, error)
	tables  map[string][]Mapping
	skip    bool // to the head at the next session; Run's goroutine alone

	transactions, rows, records, dropped, repeated, imported, marks, restarts atomic.Uint64

	mu       sync.Mutex // guards all below
	state    State
	err      error
	position event.Position
	received time.Time
	current  *session
	changed  chan struct{} // closed and replaced when current changes
	filling  map[string]bool
}

// New checks the config. onState, which may be nil, hears every change of state; it must not block.
func New(cfg Config, src Source, log *slog.Logger, onState func(State, error)) (*Publisher, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("changelog: %w", err)
	}
	cfg = cfg.withDefaults()
	tables, err := byTable(cfg.Mappings)
	if err != nil {
		return nil, err
	}
	if onState == nil {
		onState = func(State, error) {}
	}
	return &Publisher{cfg: cfg, src: src, log: log, onState: onState, tables: tables,
		state: Connecting, changed: make(chan struct{}), filling: map[string]bool{}}, nil
}

// Run reads and publishes until the context ends, or until going on needs somebody to act (IsStop). Everything else is
// tried again, with a growing pause.
func (p *Publisher) Run(ctx context.Context) error {
	for pause := time.Duration(0); ; {
		began := time.Now()
		err := p.once(ctx)
		if ctx.Err() != nil {
			p.setState(Stopped, nil)
			return context.Cause(ctx)
		}
		if errors.Is(err, ErrGone) && p.cfg.StartAtHead {
			p.log.Error("change log: changes are missing from here to the head: backfill every migration", "position", p.Stats().Position.String())
			p.skip = true
		}
		if IsStop(err) && !p.skip {
			p.setState(Stopped, err)
			return fmt.Errorf("changelog: %w", err)
		}
		p.setState(Connecting, err)
		p.restarts.Add(1)
		if time.Since(began) > 10*time.Second {
			pause = 0
		}
		pause = min(max(2*pause, 100*time.Millisecond), 5*time.Second)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// setState tells once per change: of the state, or of its reason.
func (p *Publisher) setState(s State, err error) {
	p.mu.Lock()
	same := p.state == s && kind(p.err) == kind(err)
	p.state, p.err = s, err
	position := p.position
	p.mu.Unlock()
	if same {
		return
	}
	switch {
	case err != nil && s == Stopped:
		p.log.Error("change log: stopped, somebody has to act", "position", position.String(), "err", err)
	case err != nil:
		p.log.Warn("change log: not reading, will try again", "position", position.String(), "err", err)
	default:
		p.log.Info("change log: "+string(s), "position", position.String())
	}
	p.onState(s, err)
}

// kind is what an error is about, without the ports and positions that differ each time.
func kind(err error) string {
	if err == nil {
		return ""
	}
	k, _, _ := strings.Cut(err.Error(), ": ")
	return k
}

// setCurrent tells backfills which session reads now.
func (p *Publisher) setCurrent(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.current = s
	close(p.changed)
	p.changed = make(chan struct{})
}

// session waits for the session that reads.
func (p *Publisher) session(ctx context.Context) (*session, error) {
	for {
		p.mu.Lock()
		s, changed := p.current, p.changed
		p.mu.Unlock()
		if s != nil {
			return s, nil
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-changed:
		}
	}
}

// Stats tells where the reader is.
func (p *Publisher) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := Stats{State: p.state, Position: p.position, LastReceived: p.received,
		Transactions: p.transactions.Load(), Rows: p.rows.Load(), Records: p.records.Load(), Dropped: p.dropped.Load(),
		Repeated: p.repeated.Load(), Imported: p.imported.Load(), Marks: p.marks.Load(), Restarts: p.restarts.Load()}
	if p.err != nil {
		s.Err = p.err.Error()
	}
	return s
}
