package mirror

import (
	"context"
	"sync"
	"time"
)

// pulse tells when a mark to all partitions is due: each every, or while nothing is recorded each idle. It goes over to
// the long distance only linger after the last sign of a record, and back at once.
type pulse struct {
	every, idle, linger time.Duration
	records             func() bool

	due   time.Time // when the next mark to all is
	until time.Time // when what was recorded needs no short distance any more
	rests bool      // nothing is recorded
}

func newPulse(c Config) pulse {
	return pulse{every: c.MarkEvery, idle: c.IdleMarkEvery, linger: c.MaxExecution, records: c.Records}
}

// stir says that something was recorded or shipped.
func (p *pulse) stir(now time.Time) { p.until = now.Add(p.linger) }

// beat says whether all partitions get a mark now. busy: writes are in flight or were shipped. A change between the two
// distances is said at once.
func (p *pulse) beat(now time.Time, busy bool) bool {
	if busy || p.records() {
		p.stir(now)
	}
	was := p.rests
	p.rests = !now.Before(p.until)
	if p.rests == was && now.Before(p.due) {
		return false
	}
	p.due = now.Add(p.every)
	if p.rests {
		p.due = now.Add(p.idle)
	}
	return true
}

// missed says that the marks of this beat were not sent.
func (p *pulse) missed(now time.Time) { p.due = now.Add(p.every) }

// waker ends waits early.
type waker struct {
	mu    sync.Mutex // guards what follows
	woken bool       // since the last wait began
	end   context.CancelFunc
}

// wake ends the wait that is under way, or else the next one.
func (w *waker) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.woken = true
	if w.end != nil {
		w.end()
	}
}

// wait gives a context that ends at an instant, at a wake, or with ctx.
func (w *waker) wait(ctx context.Context, until time.Time) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithDeadline(ctx, until)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.woken {
		cancel()
	}
	w.woken, w.end = false, cancel
	return ctx, cancel
}
