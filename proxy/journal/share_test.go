package journal

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// together ends n writes at once, of which each calls ended. begun is called when all are in flight.
func together(t *testing.T, j *Journal, n int, ended, begun func()) (all *sync.WaitGroup) {
	t.Helper()
	all = new(sync.WaitGroup)
	seqs := make([]Seq, n)
	for i := range seqs {
		all.Go(func() { seqs[i] = intent(t, j, fmt.Sprint(i)) })
	}
	all.Wait()
	begun()
	for _, seq := range seqs {
		all.Go(func() {
			outcome(t, j, seq, "done")
			ended()
		})
	}
	return all
}

// TestOutcomesShareAWrite: those that are appended at the same time go to the file together; one alone goes at once.
func TestOutcomesShareAWrite(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var writes atomic.Int64
	cfg := small(t, t.TempDir())
	cfg.LazySync = time.Hour
	cfg.fs = &faultFS{write: func(_ string, n int) (int, error) { writes.Add(1); return n, nil }}
	j := mustOpen(t, cfg)
	defer j.Close()
	for range siblings { // at legacy all the time
		intent(t, j, "x")
	}
	var before int64
	const n = 40
	together(t, j, n, func() {}, func() { before = writes.Load() }).Wait()
	if got := writes.Load() - before; got > n/4 {
		t.Errorf("%d outcomes took %d writes", n, got)
	}
	seq := intent(t, j, "alone")
	before = writes.Load()
	outcome(t, j, seq, "done")
	if got := writes.Load() - before; got != 1 {
		t.Errorf("one outcome took %d writes", got)
	}
}

// TestOutcomeReturnsWhenItIsWritten, also if somebody else writes it.
func TestOutcomeReturnsWhenItIsWritten(t *testing.T) {
	fs := &faultFS{}
	cfg := small(t, t.TempDir())
	cfg.fs, cfg.LazySync = fs, time.Hour
	j := mustOpen(t, cfg)
	defer j.Close()
	var first sync.Once
	var ended, early atomic.Int64
	all := together(t, j, 2*siblings, func() { ended.Add(1) }, func() {
		fs.set(func() {
			fs.write = func(_ string, n int) (int, error) {
				first.Do(func() {
					for j.Status().InFlight > 0 { // until all are in the buffer, or on their way to the file
						runtime.Gosched()
					}
					for range 1000 { // whoever can return does
						runtime.Gosched()
					}
					early.Store(ended.Load())
				})
				return n, nil
			}
		})
	})
	all.Wait()
	if n := early.Load(); n > 0 {
		t.Errorf("%d outcomes returned before anything was written", n)
	}
}
