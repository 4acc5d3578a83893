package ledger

import (
	"sync"
	"testing"
	"time"

	"banyan/proxy/stage"
)

// Those who ask within the time, together or one after the other, for evidence or gates, share one reading.
func TestRecent(t *testing.T) {
	l, c := open(t, Config{})
	const within = 10 * time.Second
	var all sync.WaitGroup
	got := make([]*Evidence, 4)
	for i := range got {
		all.Go(func() {
			e, err := l.Recent(t.Context(), "units", within)
			if err != nil {
				t.Error(err)
			}
			got[i] = e
		})
	}
	all.Wait()
	for _, e := range got[1:] {
		if e != got[0] {
			t.Fatal("callers at the same time read twice")
		}
	}
	if _, err := l.Outlook(t.Context(), "units", stage.State{Stage: stage.Shadow}, within); err != nil {
		t.Fatal(err)
	}
	c.tick(within - 1)
	if e := must(l.Recent(t.Context(), "units", within))(t); e != got[0] {
		t.Error("read again before its time")
	}
	if e := must(l.Recent(t.Context(), "other", within))(t); e.Migration != "other" {
		t.Errorf("the evidence of %s for another's", e.Migration)
	}
	if _, e, err := l.Decide(t.Context(), "units", stage.State{Stage: stage.Shadow}); err != nil || e == got[0] {
		t.Errorf("a flip was decided by evidence of before: %v", err)
	}
	c.tick(1)
	e := must(l.Recent(t.Context(), "units", within))(t)
	if e == got[0] || !e.At.Equal(c.t) {
		t.Errorf("evidence of %s at %s", e.At, c.t)
	}
	l.Close()
	c.tick(within)
	if e, err := l.Recent(t.Context(), "units", within); err == nil {
		t.Errorf("evidence of %s from a ledger that is away", e.At)
	}
}
