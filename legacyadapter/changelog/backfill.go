package changelog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"banyan/proxy/event"

	"github.com/cespare/xxhash/v2"
)

// Checkpoints keep how far a backfill is, so that it goes on after a restart.
type Checkpoints interface {
	// Load gives what was saved last, nil if nothing was.
	Load(ctx context.Context, name string) ([]byte, error)
	Save(ctx context.Context, name string, state []byte) error
}

// BackfillRequest says what to import.
type BackfillRequest struct {
	Migration event.Migration
	Table     string
	// Where restricts the rows, as SQL text over the table's columns, e.g. "match_id = 7". Empty: all rows.
	Where string
	// ChunkRows are read in one snapshot. Default 1000, 1 to 50,000: a chunk is held in memory.
	ChunkRows int
	// RowsPerSecond spares the database. Zero: as fast as it goes.
	RowsPerSecond int
	// Again starts from the first row although an earlier backfill finished or was cut off.
	Again bool
}

func (r BackfillRequest) withDefaults() BackfillRequest {
	if r.ChunkRows == 0 {
		r.ChunkRows = 1000
	}
	return r
}

// name is that of the checkpoint: another restriction is another backfill.
func (r BackfillRequest) name() string {
	n := "backfill/" + string(r.Migration) + "/" + r.Table
	if r.Where != "" {
		n += "/" + strconv.FormatUint(xxhash.Sum64String(r.Where), 16)
	}
	return n
}

// Progress is how far a backfill is.
type Progress struct {
	Rows     uint64         `json:"rows"`     // imported
	Fresher  uint64         `json:"fresher"`  // of them, taken from the change log because they changed while they were read
	LeftOut  uint64         `json:"left_out"` // deleted while they were read
	Position event.Position `json:"position"` // of the last chunk
	After    []any          `json:"after"`    // primary key of its last row
	Done     bool           `json:"done"`
	Started  time.Time      `json:"started,omitzero"` // before its first chunk was read
	// Complete is when the last import that was done had started: this one's once it is done, before that an earlier one's.
	Complete time.Time `json:"complete,omitzero"`
}

var (
	errLost  = errors.New("the reader started again in between")
	errEarly = errors.New("the snapshot is older than what was watched")
)

// chunkAttempts is how often a chunk is tried before the backfill gives up; it can be resumed.
const chunkAttempts = 8

// Backfill imports the rows of a table, chunk by chunk. Each chunk stands in the stream at the position that the reader
// has just passed, and holds each row as it is there: one that changed while it was read comes from the change log, one
// that was deleted is left out. So an import never overwrites something newer, and the stream never waits for it.
//
// It needs Run beside it. It returns when all rows are imported and acknowledged; called again, it goes on after the
// last saved chunk. Rows whose primary key is changed while it is not running may be missed by it.
func (p *Publisher) Backfill(ctx context.Context, req BackfillRequest, progress func(Progress)) error {
	req = req.withDefaults()
	if err := p.backfill(ctx, req, progress); err != nil {
		return fmt.Errorf("backfill %s of %s: %w", req.Table, req.Migration, err)
	}
	return nil
}

func (p *Publisher) backfill(ctx context.Context, req BackfillRequest, progress func(Progress)) error {
	release, err := p.claim(req)
	if err != nil {
		return err
	}
	defer release()
	tables, err := p.src.Describe(ctx, []string{req.Table})
	if err != nil {
		return err
	}
	if len(tables[0].PrimaryKey) == 0 {
		return fmt.Errorf("the table has no primary key, so its rows cannot be told apart: ALTER TABLE %s ADD PRIMARY KEY (…)", req.Table)
	}
	f := &filler{p: p, req: req, table: tables[0], only: p.only(req)}
	defer f.leave()
	if err := f.load(ctx); err != nil {
		return err
	}
	for attempt := 0; !f.at.Done; {
		began := time.Now()
		n, err := f.chunk(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil:
			attempt = 0
			if err := f.save(ctx); err != nil {
				return err
			}
			if progress != nil {
				progress(f.at)
			}
		case attempt+1 >= chunkAttempts || IsStop(err):
			return fmt.Errorf("after row %v (start it again to go on): %w", f.at.After, err)
		default:
			attempt++
			n = 0
			if errors.Is(err, errEarly) { // a snapshot's low is max_commit_delay old: it has to pass what is watched
				began = began.Add(100 * time.Millisecond)
			} else {
				began = began.Add(min(100*time.Millisecond<<attempt, 5*time.Second))
			}
		}
		rest := time.Until(began)
		if req.RowsPerSecond > 0 && n > 0 {
			rest = time.Until(began.Add(time.Duration(n) * time.Second / time.Duration(req.RowsPerSecond)))
		}
		if rest > 0 {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(rest):
			}
		}
	}
	return nil
}

// claim sees that a table is filled once at a time.
func (p *Publisher) claim(req BackfillRequest) (release func(), err error) {
	if p.cfg.Checkpoints == nil {
		return nil, errors.New("no place for checkpoints is configured")
	}
	if req.ChunkRows < 1 || req.ChunkRows > 50_000 {
		return nil, fmt.Errorf("chunk rows: %d: want 1 to 50000; a chunk is held in memory", req.ChunkRows)
	}
	if req.RowsPerSecond < 0 {
		return nil, fmt.Errorf("rows per second: %d: want 0 or more", req.RowsPerSecond)
	}
	if len(p.only(req)) == 0 {
		return nil, errors.New("the migration maps no such table")
	}
	name := req.name()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.filling[name] {
		return nil, errors.New("it is already running")
	}
	p.filling[name] = true
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.filling, name)
	}, nil
}

// only are the mappings that the request concerns.
func (p *Publisher) only(req BackfillRequest) map[string][]Mapping {
	only := map[string][]Mapping{}
	for _, m := range p.tables[req.Table] {
		if m.Migration == req.Migration {
			only[req.Table] = append(only[req.Table], m)
		}
	}
	return only
}

// filler is one running backfill. One goroutine, but for what emit does under the session's order.
type filler struct {
	p     *Publisher
	req   BackfillRequest
	table Table
	only  map[string][]Mapping
	at    Progress

	s *session
	t *tracker
}

func (f *filler) load(ctx context.Context) error {
	var err error
	if f.at, err = f.p.load(ctx, f.req.name()); err != nil {
		return err
	}
	if f.req.Again {
		f.at = Progress{Complete: f.at.Complete}
	}
	if f.at.Position == 0 && !f.at.Done {
		f.at.Started = time.Now()
	}
	return nil
}

func (p *Publisher) load(ctx context.Context, name string) (at Progress, err error) {
	b, err := p.cfg.Checkpoints.Load(ctx, name)
	if err != nil || len(b) == 0 {
		return at, err
	}
	if err := json.Unmarshal(b, &at); err != nil {
		return at, fmt.Errorf("checkpoint %s: %w", name, err)
	}
	return at, nil
}

// Imported tells of the import of all rows of a table: nothing at all if there never was one.
func (p *Publisher) Imported(ctx context.Context, m event.Migration, table string) (Progress, error) {
	return p.load(ctx, BackfillRequest{Migration: m, Table: table}.name())
}

func (f *filler) save(ctx context.Context) error {
	b, err := json.Marshal(f.at)
	if err != nil {
		return err
	}
	if err := f.p.cfg.Checkpoints.Save(ctx, f.req.name(), b); err != nil {
		return fmt.Errorf("save checkpoint: %w", err)
	}
	return nil
}

// join starts watching the table in the session that reads now.
func (f *filler) join(ctx context.Context) error {
	s, err := f.p.session(ctx)
	if err != nil {
		return err
	}
	s.order.Lock()
	defer s.order.Unlock()
	if f.s == s && !f.t.lost {
		return nil
	}
	if s.trackers == nil {
		return errLost
	}
	f.s, f.t = s, newTracker(f.table, s.head)
	s.trackers[f.t] = struct{}{}
	return nil
}

func (f *filler) leave() {
	if f.s != nil {
		f.s.order.Lock()
		delete(f.s.trackers, f.t)
		f.s.order.Unlock()
	}
}

// chunk imports the next rows and says how many it read.
func (f *filler) chunk(ctx context.Context) (int, error) {
	if err := f.join(ctx); err != nil {
		return 0, err
	}
	low, high, rows, err := f.read(ctx)
	if err != nil {
		return 0, err
	}
	next := f.at
	if len(rows) > 0 {
		last := rows[len(rows)-1]
		next.After = make([]any, len(f.table.PrimaryKey))
		for i, c := range f.table.PrimaryKey {
			next.After[i] = last[c]
		}
	}
	if next.Done = len(rows) < f.req.ChunkRows; next.Done {
		next.Complete = next.Started
	}
	if err := f.publish(ctx, low, high, rows, &next); err != nil {
		return 0, err
	}
	f.at = next
	return len(rows), nil
}

// read reads one chunk in a snapshot.
func (f *filler) read(ctx context.Context) (low, high event.Position, rows []event.Values, err error) {
	snap, err := f.p.src.Snapshot(ctx)
	if err != nil {
		return 0, 0, nil, err
	}
	defer snap.Close()
	low, high = snap.Low(), snap.High()
	f.s.order.Lock()
	since := f.t.since
	f.s.order.Unlock()
	// A commit can be in the log, and read from there, before a snapshot shows it. Such a change would be missing both
	// in the rows and in what was watched.
	if low < since {
		return 0, 0, nil, errEarly
	}
	r, err := snap.Page(ctx, f.table, f.at.After, f.req.Where, f.req.ChunkRows)
	if err != nil {
		return 0, 0, nil, err
	}
	defer r.Close()
	columns := r.Columns()
	for r.Next() {
		rows = append(rows, RowOf(columns, r.Values()))
	}
	return low, high, rows, r.Err()
}

// publish waits until the reader has passed the snapshot, and emits the chunk between two transactions.
func (f *filler) publish(ctx context.Context, low, high event.Position, rows []event.Values, at *Progress) error {
	s := f.s
	arrived := make(chan struct{})
	failed := make(chan error, 1)
	act := func(head event.Position) {
		if err := f.emit(head, low, rows, at, arrived); err != nil {
			failed <- err
		}
	}
	s.order.Lock()
	above := high
	for i := range s.tails { // no partition may be ahead of the import's position
		above = max(above, s.tails[i].mark)
	}
	switch {
	case s.trackers == nil:
		s.order.Unlock()
		return errLost
	case s.head >= above:
		act(s.head)
	default:
		s.waiting = append(s.waiting, waiter{above, act})
	}
	s.order.Unlock()
	select {
	case <-arrived:
		return nil
	case err := <-failed:
		return err
	case <-s.ctx.Done():
		return errLost
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// emit runs under the session's order. arrived is closed when Kafka has all records.
func (f *filler) emit(head, low event.Position, rows []event.Values, at *Progress, arrived chan struct{}) error {
	if f.t.lost {
		return errLost
	}
	txn := &Txn{Position: head, Received: time.Now()}
	add := func(image event.Values) {
		txn.Rows = append(txn.Rows, event.RowChange{N: f.number(image), Table: f.table.Name, Op: event.Import, After: image})
	}
	seen := map[string]bool{}
	for _, row := range rows {
		k := keyText(f.table.PrimaryKey, row)
		seen[k] = true
		switch c, ok := f.t.rows[k]; {
		case !ok || c.position <= low:
			add(row)
		case c.image == nil:
			at.LeftOut++
		default:
			add(c.image)
			at.Fresher++
		}
	}
	// A row that got another primary key may have left the part that is still to be read.
	for k, c := range f.t.rows {
		if c.moved && c.image != nil && !seen[k] {
			add(c.image)
			at.Fresher++
		}
	}
	at.Rows += uint64(len(txn.Rows))
	at.Position = head
	f.t.prune(low)
	return f.send(txn, arrived)
}

func (f *filler) send(txn *Txn, arrived chan struct{}) error {
	s := f.s
	parts, _ := newSplitter(f.only, partBytes).split(txn)
	values := encode(txn, parts)
	for i, v := range values {
		if len(v) > maxRecord {
			return Stopf("a row makes a record of %d bytes, limit %d (migration %s)", len(v), maxRecord, parts[i].migration)
		}
	}
	var left atomic.Int64
	left.Store(1)
	done := func() {
		if left.Add(-1) == 0 {
			close(arrived)
		}
	}
	for i, p := range parts {
		to := []int32{event.Partition(p.key, int32(len(s.tails)))}
		if p.key == "" {
			to = to[:0]
			for n := range s.tails {
				to = append(to, int32(n))
			}
		}
		left.Add(int64(len(to)))
		for _, n := range to {
			s.produce(n, txn.Position, p.key, values[i], done)
		}
	}
	s.p.imported.Add(uint64(len(txn.Rows)))
	done()
	return nil
}

// number is a row number that only this row can have at any position: two chunks, of two runs even, may stand at the
// same position when legacy is idle, and ids of events are derived from position and number. Above all numbers of real
// row changes, and exact in JSON.
func (f *filler) number(row event.Values) int {
	h := xxhash.Sum64String(f.table.Name + "\x00" + keyText(f.table.PrimaryKey, row))
	return int(h>>12 | 1<<52)
}

// UnmarshalJSON keeps the digits of numbers in After.
func (p *Progress) UnmarshalJSON(b []byte) error {
	type plain Progress
	var raw struct {
		plain
		After []json.RawMessage `json:"after"`
	}
	if err := json.Unmarshal(b, &raw); err != nil {
		return err
	}
	*p = Progress(raw.plain)
	p.After = nil
	for _, r := range raw.After {
		var v event.Values
		if err := json.Unmarshal(slices.Concat([]byte(`{"v":`), r, []byte("}")), &v); err != nil {
			return err
		}
		p.After = append(p.After, v["v"])
	}
	return nil
}
