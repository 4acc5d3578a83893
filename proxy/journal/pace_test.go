package journal

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestSyncsKeepDistance: while writes are in flight a sync waits for others to share it, never for longer than
// Config.Pace, and not at all when nobody can join any more.
func TestSyncsKeepDistance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := small(t, t.TempDir())
		cfg.Pace, cfg.LazySync = 1600*time.Millisecond, time.Hour
		j := mustOpen(t, cfg)
		defer j.Close()
		start := func() (seq *Seq, done *atomic.Bool) { // an intent by somebody else
			seq, done = new(Seq), new(atomic.Bool)
			go func() { *seq = intent(t, j, "x"); done.Store(true) }() // ends with the sync
			synctest.Wait()
			return seq, done
		}
		began := time.Now()
		at := func(want time.Duration, what string) {
			t.Helper()
			if got := time.Since(began); got != want {
				t.Errorf("%s after %s, want %s", what, got, want)
			}
		}
		for range 5 {
			outcome(t, j, intent(t, j, "alone"), "y")
		}
		at(0, "writes one after the other are on the disk")

		first := intent(t, j, "first")
		second, done := start()
		time.Sleep(200*time.Millisecond - 1)
		if synctest.Wait(); done.Load() {
			t.Error("with two in flight the second sync does not wait an eighth of the pace")
		}
		time.Sleep(time.Nanosecond)
		if synctest.Wait(); !done.Load() {
			t.Error("with two in flight the second sync waits longer than an eighth of the pace")
		}
		third, done := start()
		outcome(t, j, first, "y")
		if synctest.Wait(); done.Load() {
			t.Error("a sync does not wait although the second write is in flight")
		}
		outcome(t, j, *second, "y")
		if synctest.Wait(); !done.Load() {
			t.Error("a sync waits although every write in flight waits for it")
		}
		at(200*time.Millisecond, "the third write is on the disk")
		outcome(t, j, *third, "y")
	})
}

// TestWritesShareASync: all that come while a sync keeps its distance become durable with it.
func TestWritesShareASync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var syncs atomic.Int64
		cfg := small(t, t.TempDir())
		cfg.Pace, cfg.LazySync = time.Second, time.Hour
		cfg.fs = &faultFS{sync: func(string) error { syncs.Add(1); return nil }}
		j := mustOpen(t, cfg)
		defer j.Close()
		atLegacy := make([]Seq, siblings)
		var wg sync.WaitGroup
		for i := range atLegacy {
			wg.Go(func() { atLegacy[i] = intent(t, j, "at legacy") })
		}
		wg.Wait()
		before, began := syncs.Load(), time.Now()
		for range 30 {
			wg.Go(func() { outcome(t, j, intent(t, j, "x"), "y") })
			time.Sleep(10 * time.Millisecond)
		}
		wg.Wait()
		if n := syncs.Load() - before; n != 1 {
			t.Errorf("30 writes within the pace took %d syncs, want 1", n)
		}
		if d := time.Since(began); d > time.Second {
			t.Errorf("they took %s, want at most the pace of 1s", d)
		}
		for _, seq := range atLegacy {
			outcome(t, j, seq, "y")
		}
	})
}
