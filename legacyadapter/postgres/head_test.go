package postgres

import (
	"testing"
	"time"

	"banyan/proxy/event"
)

// A head behind a page's header is where the page starts; elsewhere it stays.
func TestPageStart(t *testing.T) {
	const segment = 16 << 20
	for p, want := range map[event.Position]event.Position{
		3*8192 + 24:    3 * 8192,
		2*segment + 40: 2 * segment,
		3*8192 + 40:    3*8192 + 40, // the end of a record that began on the page before
		3 * 8192:       3 * 8192,
		12345:          12345,
	} {
		if got := pageStart(p, segment); got != want {
			t.Errorf("%s: %s, want %s", p, got, want)
		}
	}
}

// A snapshot's Low is a head that is old enough, and not one of long ago.
func TestHeads(t *testing.T) {
	const delay = 200 * time.Millisecond
	var h heads
	at := time.Now()
	for i := range 100 {
		h.add(at.Add(time.Duration(i)*20*time.Millisecond), event.Position(i+1), delay)
	}
	now := at.Add(99 * 20 * time.Millisecond)
	if p, ok := h.before(now, delay); !ok || p != 90 {
		t.Errorf("%d, %v; want the head of %s ago, 90", p, ok, delay)
	}
	if n := len(h.all); n > 15 {
		t.Errorf("%d heads kept", n)
	}
	if _, ok := h.before(now.Add(time.Minute), delay); ok {
		t.Error("a head of a minute ago was taken")
	}
	if _, ok := new(heads).before(now, delay); ok {
		t.Error("a head from nowhere")
	}
}
