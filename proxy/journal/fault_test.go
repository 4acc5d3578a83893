package journal

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// faultFS puts faults behind the files of a journal.
type faultFS struct {
	osFS
	mu     sync.Mutex
	create func() error            // before a segment is made
	sync   func(path string) error // instead of a sync, if it returns an error
	write  func(path string, n int) (int, error)
}

type faultFile struct {
	file
	fs   *faultFS
	path string
}

func (f *faultFS) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *faultFS) Create(path string) (file, error) {
	f.mu.Lock()
	hook := f.create
	f.mu.Unlock()
	if hook != nil {
		if err := hook(); err != nil {
			return nil, err
		}
	}
	in, err := f.osFS.Create(path)
	if err != nil {
		return nil, err
	}
	return &faultFile{file: in, fs: f, path: path}, nil
}

func (f *faultFile) Rename(from, to string) error {
	f.path = to
	return f.file.Rename(from, to)
}

func (f *faultFile) Sync() error {
	f.fs.mu.Lock()
	hook := f.fs.sync
	f.fs.mu.Unlock()
	if hook != nil {
		if err := hook(f.path); err != nil {
			return err
		}
	}
	return f.file.Sync()
}

func (f *faultFile) WriteAt(b []byte, at int64) (int, error) {
	f.fs.mu.Lock()
	hook := f.fs.write
	f.fs.mu.Unlock()
	if hook != nil {
		if n, err := hook(f.path, len(b)); err != nil {
			n, _ = f.file.WriteAt(b[:n], at)
			return n, err
		}
	}
	return f.file.WriteAt(b, at)
}

// writesOf checks that a generation yields exactly these intents, each once, and gives its items by sequence.
func writesOf(t *testing.T, items []Item, want map[Seq]string) map[Seq]Item {
	t.Helper()
	got := map[Seq]Item{}
	for i, it := range items {
		if it.Kind == ItemDamage {
			t.Fatalf("damage: %+v", it)
		}
		if i > 0 && it.Ship != items[i-1].Ship+1 {
			t.Fatalf("ship %d after %d", it.Ship, items[i-1].Ship)
		}
		if it.Kind != ItemWrite {
			continue
		}
		if _, twice := got[it.Seq]; twice {
			t.Fatalf("write %d twice", it.Seq)
		}
		got[it.Seq] = it
	}
	for seq, body := range want {
		if it, ok := got[seq]; !ok || string(it.Intent) != body {
			t.Fatalf("write %d: %+v, want %q", seq, it, body)
		}
	}
	return got
}

// TestFailedSyncMovesToFreshSegment: a flush fails once. Nobody is told, the file is never synced again, and the
// successor has everything, also what had been written to the first and not synced.
func TestFailedSyncMovesToFreshSegment(t *testing.T) {
	fs := &faultFS{}
	cfg := small(t, t.TempDir())
	cfg.fs, cfg.LazySync = fs, time.Hour // outcomes stay unsynced
	j := mustOpen(t, cfg)
	a := intent(t, j, "a")
	outcome(t, j, a, "A")
	var failed, again atomic.Int32
	first := filepath.Join(j.Dir(), segmentName(1))
	fs.set(func() {
		fs.sync = func(path string) error {
			if path != first {
				return nil
			}
			if failed.Add(1) > 1 {
				again.Add(1)
			}
			return syscall.EIO
		}
	})
	b := intent(t, j, "b")
	c := intent(t, j, "c")
	outcome(t, j, c, "C")
	if failed.Load() != 1 || again.Load() != 0 {
		t.Fatalf("sync failed %d times, was repeated %d times", failed.Load(), again.Load())
	}
	if s := j.Status(); s.Failed || s.Full {
		t.Fatalf("%+v", s)
	}
	// What the kernel dropped reads as anything: the old tail must not count.
	garbage(t, first, j.gen.segs[0].end)
	j.Close()
	cfg.fs = nil
	_, items := inherit(t, cfg)
	got := writesOf(t, items, map[Seq]string{a: "a", b: "b", c: "c"})
	if string(got[a].Outcome) != "A" || string(got[c].Outcome) != "C" || !got[b].Recovered || len(got) != 3 {
		t.Fatalf("%+v", got)
	}
}

func garbage(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(bytes.Repeat([]byte{0xa5}, 4096), at); err != nil {
		t.Fatal(err)
	}
}

// TestFailedThenHealed: the disk refuses every flush, then works again.
func TestFailedThenHealed(t *testing.T) {
	fs := &faultFS{}
	cfg := small(t, t.TempDir())
	cfg.fs, cfg.RetryAfter = fs, time.Hour // Retry alone ends it
	j := mustOpen(t, cfg)
	a, b := intent(t, j, "a"), intent(t, j, "b")
	fs.set(func() { fs.sync = func(string) error { return syscall.EIO } })
	if _, err := j.AppendIntent(Intent{Payload: []byte("told that it failed")}); !errors.Is(err, ErrFailed) || !errors.Is(err, syscall.EIO) {
		t.Fatalf("intent: %v", err)
	}
	if _, err := j.AppendIntent(Intent{}); !errors.Is(err, ErrFailed) {
		t.Fatalf("intent while failed: %v", err)
	}
	if _, err := j.AppendOutcome(a, Outcome{}); !errors.Is(err, ErrFailed) {
		t.Fatalf("outcome while failed: %v", err)
	}
	if _, err := j.OpenGap("units"); !errors.Is(err, ErrFailed) {
		t.Fatalf("gap while failed: %v", err)
	}
	if s := j.Status(); !s.Failed || s.InFlight != 3 || s.OpenGaps != 0 {
		t.Fatalf("%+v", s)
	}
	fs.set(func() { fs.sync = nil })
	j.Retry()
	var it Item // the two lost ones become unknown, which is the sign of health
	lost := map[Seq]bool{}
	for range 2 {
		if err := j.Cursor().Next(t.Context(), &it); err != nil || !it.Recovered {
			t.Fatalf("%v %+v", err, it)
		}
		lost[it.Seq] = true
	}
	if !lost[a] || !lost[3] {
		t.Fatalf("unknown: %v", lost)
	}
	c := intent(t, j, "c")
	if c != 4 {
		t.Fatalf("sequence %d", c)
	}
	outcome(t, j, b, "B")
	j.Close()
	cfg.fs = nil
	_, items := inherit(t, cfg)
	got := writesOf(t, items, map[Seq]string{a: "a", b: "b", 3: "told that it failed", c: "c"})
	if string(got[b].Outcome) != "B" || len(got) != 4 {
		t.Fatalf("%+v", got)
	}
}

// TestWriteFailsAtAnyByte: the disk takes only n more bytes, for n over two records.
func TestWriteFailsAtAnyByte(t *testing.T) {
	step := 13
	if testing.Short() {
		step = 31
	}
	for n := 0; n < 130; n += step {
		fs := &faultFS{}
		cfg := small(t, t.TempDir())
		cfg.fs = fs
		j := mustOpen(t, cfg)
		a := intent(t, j, "a")
		left := n
		var once atomic.Bool
		fs.set(func() {
			fs.write = func(_ string, size int) (int, error) {
				if once.Load() {
					return 0, nil
				}
				if size > left {
					once.Store(true)
					return left, syscall.ENOSPC
				}
				left -= size
				return 0, nil
			}
		})
		outcome(t, j, a, "A")
		b := intent(t, j, "b")
		j.Close()
		cfg.fs = nil
		_, items := inherit(t, cfg)
		got := writesOf(t, items, map[Seq]string{a: "a", b: "b"})
		if string(got[a].Outcome) != "A" || len(got) != 2 {
			t.Fatalf("at byte %d: %+v", n, got)
		}
	}
}

// fill writes until the journal is full, leaving every write in flight but the first ones.
func fill(t *testing.T, j *Journal) (flying []Seq) {
	t.Helper()
	for range 10_000 {
		seq, err := j.AppendIntent(Intent{Payload: make([]byte, 2000)})
		if errors.Is(err, ErrFull) {
			return flying
		}
		if err != nil {
			t.Fatal(err)
		}
		flying = append(flying, seq)
		if len(flying) > j.cfg.MaxInFlight/2 {
			outcome(t, j, flying[0], "x")
			flying = flying[1:]
		}
	}
	t.Fatal("never full")
	return nil
}

// TestFullKeepsOutcomes: the disk is full. New writes are refused, gap marks and outcomes still find room, and when
// there is room again the gap is closed with its exact count.
func TestFullKeepsOutcomes(t *testing.T) {
	fs := &faultFS{create: nil}
	cfg := small(t, t.TempDir())
	cfg.fs, cfg.RetryAfter = fs, time.Hour
	j := mustOpen(t, cfg)
	fs.set(func() { fs.create = func() error { return syscall.ENOSPC } })
	flying := fill(t, j)
	if s := j.Status(); !s.Full || !errors.Is(s.Cause, syscall.ENOSPC) {
		t.Fatalf("%+v", s)
	}
	g, err := j.OpenGap("units")
	if err != nil {
		t.Fatal(err)
	}
	again, err := j.OpenGap("units")
	if err != nil || again != g {
		t.Fatalf("second open: %v", err)
	}
	for range 1000 {
		g.Add(1)
	}
	for _, seq := range flying {
		if _, err := j.AppendOutcome(seq, Outcome{Payload: make([]byte, 4000)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := j.AppendIntent(Intent{}); !errors.Is(err, ErrFull) {
		t.Fatalf("still full: %v", err)
	}
	fs.set(func() { fs.create = nil })
	j.Retry()
	for j.Status().Full { // Retry does not wait; the syncer is on its way
		time.Sleep(time.Millisecond)
	}
	last := intent(t, j, "after")
	outcome(t, j, last, "")
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if err := j.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	bare, opened := 0, false
	items := drain(t, j.Cursor())
	got := writesOf(t, items, map[Seq]string{last: "after"})
	for _, it := range items {
		if it.Bare {
			bare++
		}
		if it.Kind == ItemGap && it.Gap.Opened {
			opened = true
			if it.Gap.From != last {
				t.Fatalf("gap from %d, the first write after it is %d", it.Gap.From, last)
			}
		}
		if it.Kind == ItemGap && it.Gap.Closed && (it.Gap.Count != 1000 || it.Gap.AtLeast) {
			t.Fatalf("%+v", it.Gap)
		}
	}
	if bare != len(flying) || !opened || len(got) != int(last) {
		t.Fatalf("%d bare of %d, opened %v, %d writes of %d", bare, len(flying), opened, len(got), last)
	}
}

// TestQuotaOpensWhenShipped: the quota is reached, and shipping makes room by itself.
func TestQuotaOpensWhenShipped(t *testing.T) {
	cfg := small(t, t.TempDir())
	cfg.Quota, cfg.RetryAfter = 3*cfg.SegmentSize, time.Hour
	j := mustOpen(t, cfg)
	for _, seq := range fill(t, j) {
		outcome(t, j, seq, "x")
	}
	if s := j.Status(); !s.Full || s.Bytes != cfg.Quota || !errors.Is(s.Cause, errQuota) {
		t.Fatalf("%+v", s)
	}
	ctx, cancel := context.WithCancel(t.Context())
	shipped := make(chan struct{})
	go func() {
		defer close(shipped)
		var it Item
		for j.Cursor().Next(ctx, &it) == nil {
			if err := j.Cursor().Ack(it.Ship); err != nil {
				t.Error(err)
			}
		}
	}()
	for {
		seq, err := j.AppendIntent(Intent{})
		if err == nil {
			outcome(t, j, seq, "")
			break
		}
		if !errors.Is(err, ErrFull) {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond) // until the shipper has removed a segment
	}
	cancel()
	<-shipped
}

func TestTwoOwnersAreImpossible(t *testing.T) {
	cfg := small(t, t.TempDir())
	j := mustOpen(t, cfg)
	if _, err := lockGeneration(j.Dir()); !errors.Is(err, ErrOwned) {
		t.Fatalf("%v", err)
	}
	gs, err := Orphans(cfg)
	if err != nil || len(gs) != 0 {
		t.Fatalf("adopted a living generation: %v %v", gs, err)
	}
	outcome(t, j, intent(t, j, "x"), "X")
	j.Close()
	if gs, err = Orphans(cfg); err != nil || len(gs) != 1 {
		t.Fatalf("%v %v", gs, err)
	}
	if other, err := Orphans(cfg); err != nil || len(other) != 0 {
		t.Fatalf("adopted twice: %v %v", other, err)
	}
	if err := gs[0].Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	items := drain(t, gs[0].Cursor())
	if len(items) != 2 || gs[0].Cursor().Ack(items[1].Ship) != nil || gs[0].Close() != nil {
		t.Fatalf("%+v", items)
	}
	if _, err := os.Stat(gs[0].Dir()); !os.IsNotExist(err) {
		t.Fatalf("shipped orphan is still there: %v", err)
	}
}

// TestOpenGapDoesNotHoldSegments: a gap of one migration stays open for long while the writes of another are shipped.
// Its record moves on, so the segments go, and a crash still knows the gap.
func TestOpenGapDoesNotHoldSegments(t *testing.T) {
	cfg := small(t, t.TempDir())
	j := mustOpen(t, cfg)
	g, err := j.OpenGap("units")
	if err != nil {
		t.Fatal(err)
	}
	g.Add(3)
	var it Item
	for range 200 { // about six segments
		ship := outcome(t, j, intent(t, j, string(make([]byte, 2000))), "")
		for it.Ship < ship {
			if err := j.Cursor().Next(t.Context(), &it); err != nil {
				t.Fatal(err)
			}
		}
		if err := j.Cursor().Ack(it.Ship); err != nil {
			t.Fatal(err)
		}
	}
	if n := j.Status().Bytes / cfg.SegmentSize; n > 2 {
		t.Fatalf("%d segments are held", n)
	}
	j.Close()
	_, items := inherit(t, cfg)
	last := items[len(items)-2]
	if last.Kind != ItemGap || !last.Gap.Closed || !last.Gap.AtLeast || last.Gap.Count != 3 {
		t.Fatalf("%+v", last)
	}
}
