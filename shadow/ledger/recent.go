package ledger

import (
	"context"
	"time"

	"banyan/proxy/event"
	"banyan/proxy/stage"
)

// recent is the last evidence of a migration that was read for Recent.
type recent struct {
	turn chan struct{} // whoever fills it reads and writes e
	e    *Evidence
}

// Recent is Evidence read at most within ago, for those who ask all the time, as metrics do: callers at the same time
// share one reading. It is shared, so not to be changed. A reading that failed is not kept.
func (l *Ledger) Recent(ctx context.Context, m event.Migration, within time.Duration) (*Evidence, error) {
	l.mu.Lock()
	r := l.recent[m]
	if r == nil {
		r = &recent{turn: make(chan struct{}, 1)}
		l.recent[m] = r
	}
	l.mu.Unlock()
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if r.e != nil && l.cfg.Now().Sub(r.e.At) < within {
		return r.e, nil
	}
	e, err := l.Evidence(ctx, m)
	if err != nil {
		return nil, err
	}
	r.e = e
	return e, nil
}

// Outlook is Gates as of Recent. A flip asks Decide.
func (l *Ledger) Outlook(ctx context.Context, m event.Migration, to stage.State, within time.Duration) ([]GateResult, error) {
	e, err := l.Recent(ctx, m, within)
	if err != nil {
		return nil, err
	}
	return l.judge(ctx, e, to)
}
