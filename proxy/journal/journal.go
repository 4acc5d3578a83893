package journal

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

type state uint8

const (
	stateOpen state = iota
	stateFull
	stateFailed
	stateClosed
)

// Journal is the log of this process. All methods may be called concurrently.
type Journal struct {
	cfg     Config
	gen     *generation
	seed    atomic.Uint32 // of the current segment; set under mu
	adopted []*Generation
	cursor  *Cursor

	kick  chan struct{} // to the syncer: somebody waits
	again atomic.Bool   // to the syncer: try to leave full or failed now
	lazy  chan struct{} // to the syncer: something is unsynced, nobody waits
	stop  chan struct{}
	done  chan struct{} // the syncer has ended

	closing sync.Once
	sealMu  sync.Mutex // one Seal at a time; guards ended
	ended   bool

	// mu guards what follows. It is never held across I/O.
	mu       sync.Mutex
	state    state
	sealing  bool
	failure  error     // why the state is failed or full
	buf      []byte    // framed, not yet taken by a writer
	fill     uint64    // its number, from 1
	free     [][]byte  // buffers to reuse
	batch    *batch    // ends with the sync that covers everything appended so far
	began    time.Time // of the last sync
	resting  bool      // the syncer waits for others to join the batch
	pos      int64     // end of the current segment once buf is written
	size     int64     // of the current segment
	rotate   bool      // the current segment is too full for somebody
	unsynced int64     // bytes not known to be on the disk, buf included
	seq      Seq       // last given
	ship     ShipSeq   // last given
	flying   map[Seq]flight
	idle     chan struct{} // made by Seal, closed when nothing is in flight
	gaps     map[string]*Gap

	written atomic.Uint64 // the buffer up to which the operating system has all; set under wmu

	// wmu serializes writes to the file and is taken before mu. It guards what follows.
	wmu    sync.Mutex
	cur    *segment
	off    int64    // where the next bytes go
	chunks [][]byte // what was written since the last sync that worked; a fresh segment gets them again
	broken error    // a write failed: nothing more goes to this file
}

// batch is what one sync makes durable together.
type batch struct {
	done chan struct{}
	err  error // valid once done is closed

	// Guarded by Journal.mu.
	kicked  bool
	told    bool // the syncer knows that there is something, though nobody waits
	waiting int  // how many wait for it to be on the disk
	urgent  bool // somebody waits for room
}

func newBatch() *batch { return &batch{done: make(chan struct{})} }

// flight is an intent without outcome.
type flight struct {
	start int64
	key   any
	lost  bool // its caller was told that it, or its outcome, could not be recorded
}

// Open gives this process a generation of its own and takes over those that ended ones have left. It does not read
// the latter: [Generation.Recover] does, so that a start never waits for a backlog.
func Open(cfg Config) (*Journal, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	used := &usage{quota: cfg.Quota}
	epoch, err := nextEpoch(cfg)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	adopted, err := adopt(cfg, used, epoch)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	j, err := start(cfg, epoch, used)
	if err != nil {
		for _, g := range adopted {
			g.Close()
		}
		return nil, fmt.Errorf("open journal: %w", err)
	}
	j.adopted = adopted
	return j, nil
}

func start(cfg Config, epoch Epoch, used *usage) (*Journal, error) {
	g, err := newGeneration(cfg, epoch, used)
	if err != nil {
		return nil, err
	}
	j := &Journal{
		cfg: cfg, gen: g,
		kick: make(chan struct{}, 1), lazy: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
		batch: newBatch(), fill: 1, flying: map[Seq]flight{}, gaps: map[string]*Gap{},
	}
	var seed [4]byte
	_, _ = rand.Read(seed[:]) // never fails
	j.seed.Store(binary.LittleEndian.Uint32(seed[:]))
	s, err := g.create(header{epoch: epoch, number: 1, seed: j.seed.Load()})
	if err == nil {
		if err = s.f.Sync(); err != nil {
			g.discard(s)
		}
	}
	if err != nil {
		g.close()
		os.RemoveAll(g.dir)
		return nil, fmt.Errorf("first segment: %w", err)
	}
	if why := noSyncInKernel(); why != nil { // which the first sync has found out
		cfg.Log.Warn("journal: the kernel does not sync files for this process; under load each sync may hold up requests: use Linux 4.18 or newer, and let the sandbox allow io_setup, io_submit and io_getevents",
			"error", why)
	}
	g.segs = []*segment{s}
	j.cur, j.off, j.pos, j.size = s, headerSize, headerSize, s.size
	j.cursor = newCursor(g)
	g.freed = j.Retry
	go j.syncer() // ends at Close
	return j, nil
}

// Epoch is this process's.
func (j *Journal) Epoch() Epoch { return j.gen.epoch }

// Dir is the directory of this process's generation.
func (j *Journal) Dir() string { return j.gen.dir }

// Adopted are the ended generations that were found at the start, oldest first. They are to be recovered, shipped to
// their end in this order, and closed by the caller.
func (j *Journal) Adopted() []*Generation { return j.adopted }

// Cursor is the one reader of this generation.
func (j *Journal) Cursor() *Cursor { return j.cursor }

// Seal refuses further intents, waits until none is in flight or ctx ends, and appends the end record. Writes still
// in flight when ctx ends are left to the next process, which records them as unknown; the error says how many.
func (j *Journal) Seal(ctx context.Context) error {
	j.mu.Lock()
	j.sealing = true
	if j.idle == nil {
		j.idle = make(chan struct{})
		if len(j.flying) == 0 {
			close(j.idle)
		}
	}
	idle := j.idle
	j.mu.Unlock()
	select {
	case <-idle:
	case <-ctx.Done():
		j.mu.Lock()
		n := len(j.flying)
		j.mu.Unlock()
		return fmt.Errorf("seal journal: %d writes still in flight become unknown: %w", n, context.Cause(ctx))
	}
	j.sealMu.Lock()
	defer j.sealMu.Unlock()
	if j.ended {
		return nil
	}
	for _, g := range j.openGaps() {
		if err := g.Close(); err != nil {
			return fmt.Errorf("seal journal: %w", err)
		}
	}
	return j.end()
}

// end appends the end record, durably.
func (j *Journal) end() error {
	r := record{kind: kindEnd, time: j.cfg.Now().UnixNano()}
	at, err := j.put(&r, nil, 0)
	if err == nil {
		err = j.wait(at.batch)
	}
	if err != nil {
		return fmt.Errorf("seal journal: %w", err)
	}
	j.ended = true
	j.gen.mu.Lock()
	j.gen.ended = true
	j.gen.mu.Unlock()
	j.gen.notify()
	return nil
}

// Close ends everything at once and gives the generation up; call Seal and drain the cursor before it. What is not
// shipped is found by the next process. Adopted generations are the caller's to close.
func (j *Journal) Close() error {
	var err error
	j.closing.Do(func() {
		j.mu.Lock()
		j.sealing = true
		j.mu.Unlock()
		close(j.stop)
		<-j.done
		err = j.cursor.close()
	})
	return err
}

// adopt takes over every generation older than before (0: every one) that no process owns.
func adopt(cfg Config, used *usage, before Epoch) ([]*Generation, error) {
	list, err := epochs(cfg.Dir)
	if err != nil {
		return nil, err
	}
	var gs []*Generation
	for _, e := range list {
		if before != 0 && e >= before {
			continue
		}
		g, err := openGeneration(cfg, e, used)
		switch {
		case errors.Is(err, ErrOwned) || errors.Is(err, os.ErrNotExist):
			continue // alive, or emptied by its owner this moment
		case err != nil:
			cfg.Log.Error("journal: an ended generation is left alone; its writes are not shipped",
				"dir", filepath.Join(cfg.Dir, dirName(e)), "error", err)
			continue
		}
		gs = append(gs, newEnded(g))
		segs, err := listSegments(g.dir)
		if err != nil {
			return gs, err
		}
		for _, s := range segs {
			if st, err := os.Stat(s.path); err == nil {
				used.add(st.Size())
			}
		}
	}
	return gs, nil
}

// Elders looks again at the generations that are older than this process's. It takes over those whose process has
// ended since the start, and names those that are still alive, as a predecessor is that drains beside us. Generations
// that an earlier call took over are to be closed before the next.
func (j *Journal) Elders() (ended []*Generation, alive []Epoch, err error) {
	ended, err = adopt(j.cfg, j.gen.used, j.gen.epoch)
	if err != nil {
		return ended, nil, err
	}
	mine := map[Epoch]bool{}
	for _, g := range append(ended, j.adopted...) {
		mine[g.Epoch()] = true
	}
	list, err := epochs(j.cfg.Dir)
	for _, e := range list {
		if e < j.gen.epoch && !mine[e] {
			alive = append(alive, e)
		}
	}
	return ended, alive, err
}

// Orphans takes over the ended generations below a directory without starting one, for shipping by hand.
func Orphans(cfg Config) ([]*Generation, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return adopt(cfg, &usage{quota: cfg.Quota}, 0)
}

// Status is a snapshot for metrics and health.
type Status struct {
	Full, Failed bool
	Cause        error         // why, if full or failed
	InFlight     int           // intents without outcome
	Backlog      uint64        // shipping sequences given and not acknowledged
	Oldest       time.Duration // age of the oldest intent in flight
	Bytes        int64         // allocated below the root by this process, adopted generations included
	OpenGaps     int
}

// Status looks at the journal; it does not block on the disk.
func (j *Journal) Status() Status {
	acked := j.gen.acked.get()
	j.gen.used.mu.Lock()
	bytes := j.gen.used.bytes
	j.gen.used.mu.Unlock()
	now := j.cfg.Now().UnixNano()
	j.mu.Lock()
	defer j.mu.Unlock()
	s := Status{Full: j.state == stateFull, Failed: j.state == stateFailed, Cause: j.failure, InFlight: len(j.flying),
		Backlog: uint64(j.ship - min(acked, j.ship)), Bytes: bytes, OpenGaps: len(j.gaps)}
	for _, f := range j.flying {
		s.Oldest = max(s.Oldest, time.Duration(now-f.start))
	}
	return s
}
