package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		child(dir) // never returns
	}
	goleak.VerifyTestMain(m)
}

// small is a config whose limits are reached quickly.
func small(t testing.TB, dir string) Config {
	return Config{Dir: dir, SegmentSize: 64 << 10, Quota: 16 << 20, MaxRecord: 4 << 10, MaxInFlight: 64, MaxGaps: 2, Unsynced: 16 << 10,
		Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
}

func mustOpen(t testing.TB, cfg Config) *Journal {
	t.Helper()
	j, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		j.Close()
		for _, g := range j.Adopted() {
			g.Close()
		}
	})
	return j
}

func intent(t testing.TB, j *Journal, payload string) Seq {
	t.Helper()
	seq, err := j.AppendIntent(Intent{Payload: []byte(payload)})
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

func outcome(t testing.TB, j *Journal, seq Seq, payload string) ShipSeq {
	t.Helper()
	ship, err := j.AppendOutcome(seq, Outcome{Payload: []byte(payload)})
	if err != nil {
		t.Fatal(err)
	}
	return ship
}

// drain reads a cursor to its end.
func drain(t testing.TB, c *Cursor) (items []Item) {
	t.Helper()
	for {
		var it Item
		err := c.Next(context.Background(), &it)
		if errors.Is(err, io.EOF) {
			return items
		}
		if err != nil {
			t.Fatal(err)
		}
		items = append(items, kept(it))
	}
}

// kept is an item that is good for longer than until the cursor's next.
func kept(it Item) Item {
	it.Intent, it.Outcome = slices.Clone(it.Intent), slices.Clone(it.Outcome)
	return it
}

// inherit opens the root again and drains what the process before left; it acknowledges nothing.
func inherit(t testing.TB, cfg Config) (*Journal, []Item) {
	t.Helper()
	j := mustOpen(t, cfg)
	var items []Item
	for _, g := range j.Adopted() {
		if err := g.Recover(context.Background()); err != nil {
			t.Fatal(err)
		}
		items = append(items, drain(t, g.Cursor())...)
	}
	return j, items
}

func TestWritesComeOutInShippingOrder(t *testing.T) {
	j := mustOpen(t, small(t, t.TempDir()))
	const writers, each = 16, 40
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				ack := AckJournal
				if i%3 == 0 {
					ack = AckMemory
				}
				body := fmt.Sprintf("%d/%d ", w, i)
				seq, err := j.AppendIntent(Intent{Payload: []byte(body), Ack: ack})
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := j.AppendOutcome(seq, Outcome{Payload: bytes.Repeat([]byte(body), 100), Sync: i%7 == 0}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := j.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	items := drain(t, j.Cursor())
	if len(items) != writers*each+1 {
		t.Fatalf("%d items, want %d", len(items), writers*each+1)
	}
	seen := map[Seq]bool{}
	for i, it := range items {
		if it.Ship != ShipSeq(i+1) || it.Epoch != j.Epoch() {
			t.Fatalf("item %d: ship %d epoch %d", i, it.Ship, it.Epoch)
		}
		if it.Kind == ItemEnd {
			if i != len(items)-1 || it.Recovered || it.LastSeq != writers*each {
				t.Fatalf("end: %+v at %d", it, i)
			}
			continue
		}
		if seen[it.Seq] || !bytes.Equal(it.Outcome, bytes.Repeat(it.Intent, 100)) || it.Completed.Before(it.Started) {
			t.Fatalf("item %d: seq %d intent %q outcome of %d bytes", i, it.Seq, it.Intent, len(it.Outcome))
		}
		seen[it.Seq] = true
	}
	segs := func() int { l, _ := filepath.Glob(filepath.Join(j.Dir(), "*.seg")); return len(l) }
	if segs() < 3 {
		t.Fatalf("%d segments: the test wants several", segs())
	}
	if err := j.Cursor().Ack(items[len(items)/2].Ship); err != nil {
		t.Fatal(err)
	}
	half := segs()
	if err := j.Cursor().Ack(items[len(items)-1].Ship); err != nil {
		t.Fatal(err)
	}
	if n := segs(); half == 0 || n != 1 {
		t.Fatalf("after ack of half %d segments, of all %d, want 1", half, n)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(j.Dir()); !os.IsNotExist(err) {
		t.Fatalf("shipped generation is still there: %v", err)
	}
}

func TestSuccessorShipsBeforeItsOwn(t *testing.T) {
	dir := t.TempDir()
	cfg := small(t, dir)
	a := mustOpen(t, cfg)
	one, two := intent(t, a, "one"), intent(t, a, "two")
	three := intent(t, a, "three")
	outcome(t, a, two, "2")
	outcome(t, a, one, "1")
	g, err := a.OpenGap("units")
	if err != nil {
		t.Fatal(err)
	}
	g.Add(5)
	var it Item
	if err := a.Cursor().Next(t.Context(), &it); err != nil || it.Seq != two {
		t.Fatalf("%v %+v", err, it)
	}
	if err := a.Cursor().Ack(it.Ship); err != nil {
		t.Fatal(err)
	}
	a.Close() // without Seal: as a crash would

	b, items := inherit(t, cfg)
	if b.Epoch() <= a.Epoch() {
		t.Fatalf("epoch %d after %d", b.Epoch(), a.Epoch())
	}
	type row struct {
		kind      ItemKind
		seq       Seq
		in, out   string
		recovered bool
	}
	var got []row
	for _, it := range items {
		got = append(got, row{it.Kind, it.Seq, string(it.Intent), string(it.Outcome), it.Recovered})
	}
	want := []row{{ItemWrite, one, "one", "1", false}, {kind: ItemGap}, {kind: ItemGap}, {ItemWrite, three, "three", "", true},
		{kind: ItemGap, recovered: true}, {kind: ItemEnd, recovered: true}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("got\n%v\nwant\n%v", got, want)
	}
	m := items[4].Gap
	if m.Migration != "units" || !m.Closed || !m.AtLeast || m.Count != 5 || m.From != three+1 {
		t.Fatalf("gap %+v", m)
	}
	if b.Adopted()[0].Unknown() != 1 || items[3].Started.IsZero() {
		t.Fatalf("unknown: %d, %+v", b.Adopted()[0].Unknown(), items[3])
	}
	c := b.Adopted()[0].Cursor()
	if err := c.Ack(items[len(items)-1].Ship); err != nil {
		t.Fatal(err)
	}
	if err := b.Adopted()[0].Close(); err != nil {
		t.Fatal(err)
	}
	b.Close()
	c3, left := inherit(t, cfg)
	if len(left) != 1 || left[0].Kind != ItemEnd { // of b, which held nothing
		t.Fatalf("left: %+v", left)
	}
	if c3.Epoch() <= b.Epoch() {
		t.Fatalf("epoch %d after %d", c3.Epoch(), b.Epoch())
	}
}

func TestEpochGrowsWithoutItsFile(t *testing.T) {
	dir := t.TempDir()
	cfg := small(t, dir)
	at := time.Unix(1_700_000_000, 0)
	cfg.Now = func() time.Time { return at }
	a := mustOpen(t, cfg)
	b := mustOpen(t, cfg)
	if a.Epoch() != 1_700_000_000 || b.Epoch() != a.Epoch()+1 || len(b.Adopted()) != 0 {
		t.Fatalf("epochs %d, %d, adopted %d", a.Epoch(), b.Epoch(), len(b.Adopted()))
	}
	b.Close()
	cfg.Dir = t.TempDir() // the volume was lost
	at = at.Add(time.Minute)
	if c := mustOpen(t, cfg); c.Epoch() <= b.Epoch() {
		t.Fatalf("epoch %d after %d", c.Epoch(), b.Epoch())
	}
	cfg.Dir, at = dir, at.Add(-time.Hour) // the clock went back
	d := mustOpen(t, cfg)
	if d.Epoch() != b.Epoch()+1 {
		t.Fatalf("epoch %d after %d", d.Epoch(), b.Epoch())
	}
	if err := os.WriteFile(filepath.Join(dir, "epoch"), []byte("epoch 7 crc 00000000\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(cfg); err == nil {
		t.Fatal("a damaged epoch file was believed")
	}
}

func TestMarkListsWhatIsInFlight(t *testing.T) {
	j := mustOpen(t, small(t, t.TempDir()))
	a, b, c := intent(t, j, "a"), intent(t, j, "b"), intent(t, j, "c")
	j.SetKey(c, "match/7")
	ship := outcome(t, j, b, "")
	var m Mark
	j.Mark(&m)
	if m.Seq != c || m.Ship != ship || len(m.InFlight) != 2 || m.InFlight[0].Seq != a || m.InFlight[1].Key != "match/7" {
		t.Fatalf("%+v", m)
	}
	if _, err := j.AppendOutcome(b, Outcome{}); !errors.Is(err, ErrNotInFlight) {
		t.Fatalf("second outcome: %v", err)
	}
}

// TestMarkIsConsistent reads marks while writers run: whatever a mark covers has a shipping sequence within it.
func TestMarkIsConsistent(t *testing.T) {
	j := mustOpen(t, small(t, t.TempDir()))
	var mu sync.Mutex
	ships := map[Seq]ShipSeq{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				seq, err := j.AppendIntent(Intent{Payload: []byte("x")})
				if err != nil {
					t.Error(err)
					return
				}
				ship, err := j.AppendOutcome(seq, Outcome{})
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				ships[seq] = ship
				mu.Unlock()
			}
		})
	}
	marks := make([]Mark, 200)
	for i := range marks {
		j.Mark(&marks[i])
	}
	wg.Wait()
	for _, m := range marks {
		listed := map[Seq]bool{}
		for _, f := range m.InFlight {
			listed[f.Seq] = true
		}
		for seq, ship := range ships {
			if seq <= m.Seq && !listed[seq] && ship > m.Ship {
				t.Fatalf("mark %d/%d covers %d, which shipped as %d", m.Seq, m.Ship, seq, ship)
			}
		}
	}
}

func TestLimits(t *testing.T) {
	cfg := small(t, t.TempDir())
	j := mustOpen(t, cfg)
	if _, err := j.AppendIntent(Intent{Payload: make([]byte, cfg.MaxRecord+1)}); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("large: %v", err)
	}
	var seqs []Seq
	for range cfg.MaxInFlight {
		seqs = append(seqs, intent(t, j, "x"))
	}
	if _, err := j.AppendIntent(Intent{}); !errors.Is(err, ErrBusy) {
		t.Fatalf("busy: %v", err)
	}
	if _, err := j.AppendOutcome(seqs[0], Outcome{Payload: make([]byte, cfg.MaxRecord+1)}); err != nil {
		t.Fatal(err)
	}
	var it Item
	if err := j.Cursor().Next(t.Context(), &it); err != nil || !it.Bare {
		t.Fatalf("large outcome: %v %+v", err, it)
	}
	if err := j.Cursor().Ack(it.Ship + 1); err == nil {
		t.Fatal("acknowledged what was not read")
	}
	for _, m := range []string{"a", "b"} {
		if _, err := j.OpenGap(m); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := j.OpenGap("c"); !errors.Is(err, ErrTooManyGaps) {
		t.Fatalf("gaps: %v", err)
	}
	for _, bad := range []Config{{}, {Dir: "x", SegmentSize: 1 << 20}, {Dir: "x", Quota: 64 << 20}, {Dir: "x", MaxRecord: -1}, {Dir: "x", LazySync: -1}} {
		if err := bad.Validate(); err == nil {
			t.Errorf("%+v is valid", bad)
		}
	}
}

func TestSealWaitsForWritesInFlight(t *testing.T) {
	j := mustOpen(t, small(t, t.TempDir()))
	seq := intent(t, j, "x")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("deadline of the drain"))
	if err := j.Seal(ctx); err == nil {
		t.Fatal("sealed with a write in flight")
	}
	if _, err := j.AppendIntent(Intent{}); !errors.Is(err, ErrSealed) {
		t.Fatalf("intent after seal: %v", err)
	}
	sealed := make(chan error)
	go func() { sealed <- j.Seal(context.Background()) }()
	outcome(t, j, seq, "done")
	if err := <-sealed; err != nil {
		t.Fatal(err)
	}
	if err := j.Seal(t.Context()); err != nil {
		t.Fatalf("second seal: %v", err)
	}
	if items := drain(t, j.Cursor()); len(items) != 2 || items[1].Kind != ItemEnd {
		t.Fatalf("%+v", items)
	}
}
