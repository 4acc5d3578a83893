package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// powerFS is a disk that forgets at a power cut what was not synced: of each such write all, a part or nothing
// survives, independently of the others.
type powerFS struct {
	osFS
	mu       sync.Mutex
	off      bool // the power: nothing reaches the disk any more
	unsynced map[string][]undo
	syncs    int // until a sync fails once; 0: none does
	full     bool
}

type undo struct {
	at  int64
	old []byte
}

type powerFile struct {
	file
	fs   *powerFS
	path string
}

func (p *powerFS) Create(path string) (file, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.off {
		return nil, syscall.EIO
	}
	if p.full {
		return nil, syscall.ENOSPC
	}
	f, err := p.osFS.Create(path)
	return &powerFile{file: f, fs: p, path: path}, err
}

func (f *powerFile) WriteAt(b []byte, at int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.fs.off {
		return len(b), nil
	}
	old := make([]byte, len(b))
	if _, err := f.ReadAt(old, at); err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	f.fs.unsynced[f.path] = append(f.fs.unsynced[f.path], undo{at, old})
	return f.file.WriteAt(b, at)
}

func (f *powerFile) Rename(from, to string) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.fs.off {
		return syscall.EIO
	}
	if list, ok := f.fs.unsynced[from]; ok {
		delete(f.fs.unsynced, from)
		f.fs.unsynced[to] = list
	}
	f.path = to
	return f.file.Rename(from, to)
}

func (f *powerFile) Sync() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.fs.off {
		return nil
	}
	if f.fs.syncs > 0 {
		if f.fs.syncs--; f.fs.syncs == 0 {
			return syscall.EIO
		}
	}
	delete(f.fs.unsynced, f.path)
	return nil
}

// cut loses what was not synced.
func (p *powerFS) cut(t *testing.T, rng *rand.Rand) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for path, list := range p.unsynced {
		raw, err := os.OpenFile(path, os.O_RDWR, 0)
		if errors.Is(err, os.ErrNotExist) {
			continue // removed since
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range slices.Backward(list) {
			keep := 0
			switch rng.IntN(3) {
			case 0:
				continue
			case 1:
				keep = rng.IntN(len(u.old) + 1)
			}
			if _, err := raw.WriteAt(u.old[keep:], u.at+int64(keep)); err != nil {
				t.Fatal(err)
			}
		}
		raw.Close()
	}
}

// model is what a journal was told and what it promised.
type model struct {
	t        *testing.T
	rng      *rand.Rand
	cfg      Config
	fs       *powerFS
	dir      string
	j        *Journal
	name     string
	intents  map[Seq]promise
	tried    map[string]bool // payloads that were refused: they may come back, as unknown
	flying   []Seq
	gaps     map[string]*Gap
	gapsOpen map[string]uint64
	shipped  []Item
	acked    ShipSeq
	counter  int
}

type promise struct {
	body     string
	memory   bool
	outcome  string
	answered bool
	synced   bool
}

// TestModel runs random operations against a model, with faults, kills and power cuts in between, and looks at what
// the next process ships.
func TestModel(t *testing.T) {
	seeds := 60
	if testing.Short() {
		seeds = 15
	}
	for seed := range seeds {
		name := fmt.Sprintf("seed %d", seed)
		m := &model{t: t, name: name, rng: rand.New(rand.NewPCG(uint64(seed), 1)), dir: t.TempDir()}
		for range 3 {
			m.life()
		}
		if t.Failed() {
			t.Fatal(name)
		}
	}
}

// life is one process, from its start to the check of what it left.
func (m *model) life() {
	m.intents, m.tried, m.flying, m.shipped, m.acked = map[Seq]promise{}, map[string]bool{}, nil, nil, 0
	m.gaps, m.gapsOpen = map[string]*Gap{}, map[string]uint64{}
	m.fs = &powerFS{unsynced: map[string][]undo{}}
	m.cfg = Config{Dir: m.dir, SegmentSize: 64 << 10, Quota: 512 << 10, MaxRecord: 4 << 10, MaxInFlight: 32, MaxGaps: 2, Unsynced: 16 << 10,
		RetryAfter: time.Millisecond, Log: slog.New(slog.DiscardHandler), fs: m.fs}
	m.j = mustOpen(m.t, m.cfg)
	for range 20 + m.rng.IntN(150) {
		m.step()
	}
	power := m.rng.IntN(2) == 0
	if power {
		m.fs.mu.Lock()
		m.fs.off = true
		m.fs.mu.Unlock()
	}
	m.j.Close()
	for _, g := range m.j.Adopted() {
		g.Close()
	}
	if power {
		m.fs.cut(m.t, m.rng)
	}
	m.cfg.fs = nil
	gs, err := Orphans(m.cfg)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, g := range gs {
		if err := g.Recover(context.Background()); err != nil {
			m.t.Fatal(m.name, err)
		}
		items := drain(m.t, g.Cursor())
		if g.Epoch() == m.j.Epoch() {
			m.check(items, power)
		}
		if len(items) > 0 {
			if err := g.Cursor().Ack(items[len(items)-1].Ship); err != nil {
				m.t.Fatal(err)
			}
		}
		if err := g.Close(); err != nil {
			m.t.Fatal(err)
		}
	}
}

func (m *model) step() {
	switch n := m.rng.IntN(100); {
	case n < 45:
		m.intent()
	case n < 80 && len(m.flying) > 0:
		m.outcome()
	case n < 84:
		m.fs.mu.Lock()
		m.fs.full = !m.fs.full
		m.fs.mu.Unlock()
	case n < 87:
		m.fs.mu.Lock()
		m.fs.syncs = 1 + m.rng.IntN(3)
		m.fs.mu.Unlock()
	case n < 92:
		m.gap()
	default:
		m.ship()
	}
}

func (m *model) intent() {
	m.counter++
	body := fmt.Sprintf("%d %s", m.counter, bytes.Repeat([]byte("x"), m.rng.IntN(4000)))
	ack := Ack(m.rng.IntN(2))
	seq, err := m.j.AppendIntent(Intent{Payload: []byte(body), Ack: ack})
	switch {
	case err == nil:
		if _, twice := m.intents[seq]; twice {
			m.t.Fatalf("%s: sequence %d twice", m.name, seq)
		}
		m.intents[seq] = promise{body: body, memory: ack == AckMemory}
		m.flying = append(m.flying, seq)
	case errors.Is(err, ErrFull) || errors.Is(err, ErrFailed) || errors.Is(err, ErrBusy):
		m.tried[body] = true
	default:
		m.t.Fatal(m.name, err)
	}
}

func (m *model) outcome() {
	i := m.rng.IntN(len(m.flying))
	seq := m.flying[i]
	m.flying = slices.Delete(m.flying, i, i+1)
	sync := m.rng.IntN(4) == 0
	p := m.intents[seq]
	p.outcome = fmt.Sprintf("outcome of %d %s", seq, bytes.Repeat([]byte("y"), m.rng.IntN(1000)))
	_, err := m.j.AppendOutcome(seq, Outcome{Payload: []byte(p.outcome), Sync: sync})
	p.answered, p.synced = err == nil, err == nil && sync
	if err != nil && !errors.Is(err, ErrFailed) {
		m.t.Fatal(m.name, err)
	}
	m.intents[seq] = p
}

func (m *model) gap() {
	name := []string{"units", "economy"}[m.rng.IntN(2)]
	if g := m.gaps[name]; g != nil {
		if m.rng.IntN(2) == 0 {
			g.Add(uint64(m.rng.IntN(10)))
			m.gapsOpen[name] = g.Count()
			return
		}
		_ = g.Close() // after an error the log may say either
		delete(m.gaps, name)
		delete(m.gapsOpen, name)
		return
	}
	if g, err := m.j.OpenGap(name); err == nil {
		m.gaps[name], m.gapsOpen[name] = g, g.Count() // it may be one whose close was refused
	}
}

// ship reads what is ready and acknowledges some of it.
func (m *model) ship() {
	for range m.rng.IntN(30) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		var it Item
		err := m.j.Cursor().Next(ctx, &it)
		cancel()
		if err != nil {
			break
		}
		m.shipped = append(m.shipped, kept(it))
	}
	if n := len(m.shipped); n > 0 {
		m.acked = max(m.acked, m.shipped[m.rng.IntN(n)].Ship)
		if err := m.j.Cursor().Ack(m.acked); err != nil {
			m.t.Fatal(m.name, err)
		}
	}
}

func (m *model) check(rest []Item, power bool) {
	t := m.t
	byShip := map[ShipSeq]Item{}
	for _, it := range m.shipped {
		byShip[it.Ship] = it
	}
	for _, it := range rest {
		if it.Kind == ItemDamage {
			if !power {
				t.Fatalf("%s: damage without a power cut: %+v", m.name, it)
			}
			continue
		}
		if it.Ship <= m.acked {
			t.Fatalf("%s: %d was acknowledged", m.name, it.Ship)
		}
		if was, ok := byShip[it.Ship]; ok && (was.Seq != it.Seq || was.Kind != it.Kind || !bytes.Equal(was.Intent, it.Intent) ||
			!bytes.Equal(was.Outcome, it.Outcome) || was.Recovered != it.Recovered) {
			t.Fatalf("%s: %d came back different:\n%+v\n%+v", m.name, it.Ship, was, it)
		}
		byShip[it.Ship] = it
	}
	writes, closed := map[Seq]Item{}, map[string]GapMark{}
	for _, ship := range slices.Sorted(maps.Keys(byShip)) {
		it := byShip[ship]
		switch it.Kind {
		case ItemWrite:
			if _, twice := writes[it.Seq]; twice {
				t.Fatalf("%s: write %d has two shipping sequences", m.name, it.Seq)
			}
			writes[it.Seq] = it
			m.checkWrite(it, power)
		case ItemGap:
			closed[it.Gap.Migration] = it.Gap
		}
	}
	for seq, p := range m.intents {
		it, ok := writes[seq]
		if !ok && !(p.memory && power) {
			t.Fatalf("%s: write %d is lost (power cut %v, %+v)", m.name, seq, power, p)
		}
		if ok && p.answered && (it.Recovered || it.Bare && len(p.outcome) == 0) && (p.synced || !power) {
			t.Fatalf("%s: outcome of %d is lost", m.name, seq)
		}
	}
	for name, count := range m.gapsOpen {
		g, ok := closed[name]
		if !ok || !g.Closed || !g.AtLeast || g.Count > count {
			t.Fatalf("%s: gap %s was open with %d, came back as %+v", m.name, name, count, g)
		}
	}
}

// checkWrite wants that a write was told to the journal as it comes back.
func (m *model) checkWrite(it Item, power bool) {
	p, ok := m.intents[it.Seq]
	switch {
	case it.IntentLost && power && (p.memory || !ok): // torn: it was not synced
	case it.IntentLost:
		m.t.Fatalf("%s: intent lost: %+v", m.name, it)
	case !ok && (!m.tried[string(it.Intent)] || !it.Recovered):
		m.t.Fatalf("%s: invented %+v", m.name, it)
	case ok && p.body != string(it.Intent):
		m.t.Fatalf("%s: write %d has another intent", m.name, it.Seq)
	case ok && !it.Recovered && !it.Bare && string(it.Outcome) != p.outcome:
		m.t.Fatalf("%s: write %d has another outcome", m.name, it.Seq)
	}
}
