package changelog

import (
	"testing"
	"time"

	"banyan/proxy/event"
)

func TestMarkWaitsForAcknowledgement(t *testing.T) {
	l := newLanes(2)
	l.sent(0, 10, time.Time{})
	l.sent(0, 10, time.Time{})
	l.sent(0, 20, time.Time{})
	check := func(what string, lane int32, head, want, sent event.Position) {
		t.Helper()
		if p, s, _ := l.mark(lane, head); p != want || s != sent {
			t.Errorf("%s: mark %s, sent %s; want %s and %s", what, p, s, want, sent)
		}
	}
	check("nothing acknowledged", 0, 20, 0, 20)
	check("another partition", 1, 20, 20, 0)
	l.acked(0)
	check("half a transaction", 0, 20, 0, 20)
	l.acked(0)
	check("one transaction", 0, 20, 10, 20)
	check("still one", 0, 30, 10, 20)
	l.acked(0)
	check("all", 0, 30, 30, 20)
	l.sent(0, 40, time.Time{})
	check("a mark never goes back", 0, 40, 30, 40)
}

func TestAcknowledgeOnlyMarked(t *testing.T) {
	l := newLanes(2)
	l.sent(0, 10, time.Time{})
	l.acked(0)
	l.mark(0, 10)
	l.mark(1, 10)
	if p := l.safe(); p != 0 {
		t.Errorf("safe up to %s before a mark arrived", p)
	}
	l.markAcked(0, 10)
	if p := l.safe(); p != 0 {
		t.Errorf("safe up to %s before every partition has its mark", p)
	}
	l.markAcked(1, 7)
	l.markAcked(1, 5)
	if p := l.safe(); p != 7 {
		t.Errorf("safe up to %s, want 7", p)
	}
}

func TestFences(t *testing.T) {
	l := newLanes(2)
	fence := func(p event.Position) event.Fence { return event.Fence{Position: p, Sent: time.Unix(int64(p), 0)} }
	l.addFence(fence(5), time.Time{})
	l.addFence(fence(15), time.Time{})
	if _, _, fs := l.mark(0, 10); len(fs) != 1 || fs[0].Position != 5 {
		t.Errorf("fences %v, want the one at 5", fs)
	}
	if _, _, fs := l.mark(0, 12); len(fs) != 0 {
		t.Errorf("fences %v again", fs)
	}
	if _, _, fs := l.mark(1, 20); len(fs) != 2 {
		t.Errorf("fences %v, want two", fs)
	}
	l.trim()
	if len(l.fences) != 1 {
		t.Errorf("%d fences kept, want the one that lane 0 waits for", len(l.fences))
	}
	for p := range event.Position(5000) {
		l.addFence(fence(20+p), time.Time{})
	}
	if n := len(l.fences); n > maxFences {
		t.Errorf("%d fences kept, limit %d", n, maxFences)
	}
	last := event.Position(0)
	for _, f := range l.fences {
		if f.Position < last {
			t.Fatal("fences out of order")
		}
		last = f.Position
	}
	if last != 5019 {
		t.Errorf("the newest fence is %s", last)
	}
}

// Somebody waits for the first fence after a write: a hot lane gets every fence as soon as the log has reached it.
func TestAHotLaneGetsEachFenceAtOnce(t *testing.T) {
	l := newLanes(2)
	now := time.Unix(100, 0)
	fence := func(p event.Position) event.Fence { return event.Fence{Position: p, Sent: now} }
	if l.addFence(fence(5), now) || l.due(nil, 5, now) != nil {
		t.Fatal("nobody waits while nothing changes")
	}
	l.sent(1, 10, now)
	l.acked(1)
	l.mark(1, 10)
	if !l.addFence(fence(12), now) {
		t.Fatal("a change came: the next fence is waited for")
	}
	if due := l.due(nil, 10, now); due != nil || l.waited(10, now) {
		t.Fatalf("%v are due, but the log is not read up to the fence", due)
	}
	if due := l.due(nil, 12, now); len(due) != 1 || due[0] != 1 || !l.waited(12, now) {
		t.Fatalf("%v are due, want the lane of the change", due)
	}
	l.sent(1, 13, now)
	if l.waited(13, now) {
		t.Fatal("a mark must not go beyond what is acknowledged")
	}
	l.acked(1)
	l.mark(1, 13)
	if due := l.due(nil, 13, now); due != nil {
		t.Fatalf("%v are due, and have everything", due)
	}
	if later := now.Add(hotFor); l.addFence(fence(14), later) || l.due(nil, 14, later) != nil {
		t.Fatal("it is hot for ever")
	}
}
