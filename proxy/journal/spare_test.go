package journal

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// churn writes and ships until the journal is as wanted, and looks at what is shipped.
func churn(t *testing.T, j *Journal, until func() bool) {
	t.Helper()
	for i := 0; !until(); i++ {
		if i == 1000 {
			t.Fatal("a thousand writes later it is not so")
		}
		body := fmt.Sprintf("%d %s", i, strings.Repeat("x", i*37%3000))
		ship := outcome(t, j, intent(t, j, body), "of "+body)
		var it Item
		if err := j.Cursor().Next(t.Context(), &it); err != nil || it.Ship != ship || string(it.Intent) != body || string(it.Outcome) != "of "+body {
			t.Fatalf("shipped as %+v (%v), want %.20q", it, err, body)
		}
		if err := j.Cursor().Ack(ship); err != nil {
			t.Fatal(err)
		}
	}
}

// reusing opens a journal that has just begun to use a file again, and has another one. made counts the files.
func reusing(t *testing.T, change func(*Config)) (j *Journal, cfg Config, fs *faultFS, made *atomic.Int32) {
	t.Helper()
	made = new(atomic.Int32)
	fs = &faultFS{create: func() error { made.Add(1); return nil }}
	cfg = small(t, t.TempDir())
	cfg.fs = fs
	if change != nil {
		change(&cfg)
	}
	j = mustOpen(t, cfg)
	churn(t, j, func() bool { return j.cur.reused && j.off < cfg.SegmentSize/4 && j.gen.spare != nil })
	return j, cfg, fs, made
}

// While writes are shipped as they come, two files do for any number of segments.
func TestFilesAreUsedAgain(t *testing.T) {
	j, cfg, _, made := reusing(t, nil)
	from := j.cur.number
	churn(t, j, func() bool { return j.cur.number == from+20 })
	if n := made.Load(); n > 3 {
		t.Errorf("%d files were made for %d segments", n, from+20)
	}
	if s := j.Status(); s.Bytes > 3*cfg.SegmentSize {
		t.Errorf("%d bytes are allocated, want three segments at most", s.Bytes)
	}
	if err := j.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	items := drain(t, j.Cursor())
	if err := j.Cursor().Ack(items[len(items)-1].Ship); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(j.Dir()); !os.IsNotExist(err) {
		t.Errorf("what was shipped to its end is left: %v", err)
	}
}

// The next process finds what was not acknowledged, and nothing of what the file held before; and once more, if it ends
// before it has shipped that.
func TestOldRecordsDoNotCount(t *testing.T) {
	var log bytes.Buffer
	j, cfg, _, _ := reusing(t, func(c *Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	want := map[Seq]string{}
	for i := range 3 {
		body := fmt.Sprint("left ", i)
		seq := intent(t, j, body)
		want[seq] = body
		if i > 0 {
			outcome(t, j, seq, "answer")
		}
	}
	cfg.fs = nil
	j.Close()
	if _, err := os.Stat(filepath.Join(j.Dir(), spareName)); !os.IsNotExist(err) {
		t.Errorf("the spare file outlives the journal: %v", err)
	}
	if err := os.WriteFile(filepath.Join(j.Dir(), spareName), []byte("of a process that was killed"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		gs, err := Orphans(cfg)
		if err != nil || len(gs) != 1 {
			t.Fatal(len(gs), err)
		}
		if err := gs[0].Recover(t.Context()); err != nil {
			t.Fatal(err)
		}
		items := drain(t, gs[0].Cursor())
		if len(writesOf(t, items, want)) != len(want) {
			t.Fatalf("%d items, want %d writes and the end: %+v", len(items), len(want), items)
		}
		if _, err := os.Stat(filepath.Join(j.Dir(), spareName)); !os.IsNotExist(err) {
			t.Errorf("the spare file is left: %v", err)
		}
		gs[0].Close()
	}
	if strings.Contains(log.String(), "torn") {
		t.Errorf("what a file held before is called torn:\n%s", &log)
	}
}

// Records that are appended while the segment changes are the new one's.
func TestRecordsBetweenSegments(t *testing.T) {
	j, cfg, fs, _ := reusing(t, nil)
	const answer = "while the segment changed"
	early := intent(t, j, "early")
	hold, appended := j.cur.path, false
	fs.set(func() {
		fs.sync = func(path string) error {
			j.mu.Lock()
			turning := j.rotate && path == hold && !appended
			j.mu.Unlock()
			if !turning {
				return nil
			}
			appended = true
			go j.AppendOutcome(early, Outcome{Payload: []byte(answer)}) // it returns when the segment has changed
			for {
				j.mu.Lock()
				n := len(j.buf)
				j.mu.Unlock()
				if n > 0 {
					return nil
				}
				runtime.Gosched()
			}
		}
	})
	want := map[Seq]string{early: "early"}
	for from := j.cur.number; j.cur.number == from; {
		body := fmt.Sprintf("%d %s", len(want), strings.Repeat("z", 3000))
		seq := intent(t, j, body)
		want[seq] = body
		outcome(t, j, seq, "answer")
	}
	if !j.cur.reused || !appended {
		t.Fatalf("the next segment is of a file that was used: %v; a record came between: %v", j.cur.reused, appended)
	}
	j.Close()
	cfg.fs = nil
	_, items := inherit(t, cfg)
	if got := writesOf(t, items, want); string(got[early].Outcome) != answer {
		t.Errorf("%+v, want the outcome %q", got[early], answer)
	}
}

// The records of a file that is used again can be read though its header cannot, nor the page that it is in.
func TestReusedFileLosesItsHeader(t *testing.T) {
	j, cfg, _, _ := reusing(t, nil)
	hurt, want := j.cur, map[Seq]string{}
	const page = 4096
	for j.cur == hurt {
		body := fmt.Sprintf("%d %s", len(want), strings.Repeat("y", 3000))
		at := j.off
		seq := intent(t, j, body)
		if at >= page {
			want[seq] = body
		}
		outcome(t, j, seq, "answer")
	}
	j.Close()
	garbage := make([]byte, page)
	f, err := os.OpenFile(hurt.path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(garbage, 0); err != nil {
		t.Fatal(err)
	}
	f.Close()
	cfg.fs = nil
	_, items := inherit(t, cfg)
	if items[0].Kind != ItemDamage {
		t.Errorf("first %+v, want the damage", items[0])
	}
	writesOf(t, slices.DeleteFunc(items, func(it Item) bool { return it.Kind == ItemDamage || it.IntentLost }), want)
}

// A quiet journal's file is not used again: its pages are not in memory any more.
func TestOldFilesAreNotUsedAgain(t *testing.T) {
	var now atomic.Int64
	now.Store(time.Now().UnixNano())
	j, _, _, made := reusing(t, func(c *Config) { c.Now = func() time.Time { return time.Unix(0, now.Load()) } })
	next := func() {
		t.Helper()
		from := j.cur.number
		churn(t, j, func() bool { return j.cur.number > from && (j.gen.spare != nil || j.gen.segs[0] == j.cur) })
	}
	next()
	if j.gen.spare == nil {
		t.Fatal("the file of a segment that was just filled is not kept")
	}
	now.Add(int64(spareAge + time.Second))
	was := made.Load()
	if next(); j.cur.reused || made.Load() == was {
		t.Error("a file that grew old since it was shipped is used again")
	}
	now.Add(int64(spareAge + time.Second))
	if next(); j.gen.spare != nil {
		t.Error("a file that grew old until it was shipped is kept")
	}
}

// Where the spare file cannot be used, a new one is made.
func TestSpareThatFails(t *testing.T) {
	j, _, fs, made := reusing(t, nil)
	was, from, failed := made.Load(), j.cur.number, new(atomic.Int32)
	fs.set(func() {
		fs.sync = func(path string) error {
			if filepath.Base(path) != spareName {
				return nil
			}
			failed.Add(1)
			return syscall.EIO
		}
	})
	churn(t, j, func() bool { return j.cur.number == from+1 })
	if j.cur.reused || failed.Load() != 1 || made.Load() != was+1 {
		t.Errorf("the next segment is of a used file: %v, whose sync failed %d times; %d files were made", j.cur.reused, failed.Load(), made.Load()-was)
	}
	if s := j.Status(); s.Failed || s.Full || s.Bytes > 3*j.cur.size {
		t.Errorf("%+v", s)
	}
}

// A journal that needs a fresh file and has no room for it gives the spare one up.
func TestSpareMakesRoom(t *testing.T) {
	j, _, fs, _ := reusing(t, func(c *Config) { c.Quota = 2 * c.SegmentSize })
	from := j.cur.number
	churn(t, j, func() bool { return j.gen.spare != nil && j.cur.number > from })
	var failed atomic.Bool
	fs.set(func() {
		fs.sync = func(string) error {
			if failed.CompareAndSwap(false, true) {
				return syscall.EIO
			}
			return nil
		}
	})
	seq := intent(t, j, "after the disk has failed")
	if s := j.Status(); s.Failed || s.Full || !failed.Load() {
		t.Fatalf("%+v, the sync has failed: %v", s, failed.Load())
	}
	outcome(t, j, seq, "answer")
	var it Item
	if err := j.Cursor().Next(context.Background(), &it); err != nil || string(it.Intent) != "after the disk has failed" {
		t.Fatalf("%+v, %v", it, err)
	}
}
