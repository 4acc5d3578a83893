package pending

import (
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"banyan/proxy/event"
	"banyan/proxy/stage"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func tracker() *Tracker { return New(4, slog.New(slog.DiscardHandler)) }

var write = event.WriteID{Replica: "a", Epoch: 1, Seq: 7}

const key = event.OrderingKey("match/7")

func news(seq event.Seq, at int64) *event.Progress {
	return &event.Progress{Migration: "units", Generation: 1, Partition: event.Partition(key, 4), At: time.Unix(at, 0),
		Replicas: map[event.Replica]event.Reached{"a": {Epoch: 1, Seq: seq}}}
}

func TestWaitReturnsWhenTheModelHoldsTheWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := tracker()
		tr.Put(news(6, 1))
		go func() {
			time.Sleep(30 * time.Millisecond) // the bubble's clock: no real time passes
			tr.Put(news(7, 2))
		}()
		start := time.Now()
		if !tr.Wait(t.Context(), "units", key, []event.WriteID{write}, 100*time.Millisecond) || time.Since(start) != 30*time.Millisecond {
			t.Fatal("held after", time.Since(start))
		}
	})
}

func TestWaitGivesUpInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := tracker()
		start := time.Now()
		if tr.Wait(t.Context(), "units", key, []event.WriteID{write}, 100*time.Millisecond) || time.Since(start) != 100*time.Millisecond {
			t.Fatal("without news nothing is known to hold anything; waited", time.Since(start))
		}
		if tr.Wait(t.Context(), "units", key, []event.WriteID{write}, 0) {
			t.Fatal("held")
		}
	})
}

func TestOlderNewsIsDropped(t *testing.T) {
	tr := tracker()
	tr.Put(news(7, 10))
	tr.Put(news(3, 9))
	if !tr.Wait(t.Context(), "units", key, []event.WriteID{write}, 0) {
		t.Fatal("older news took back what newer said")
	}
}

// of is news of a generation.
func of(generation int, seq event.Seq, at int64) *event.Progress {
	n := news(seq, at)
	n.Generation = generation
	return n
}

func TestABuildingGenerationSaysNothing(t *testing.T) {
	tr := tracker()
	var g stage.Generations
	tr.Read(func(event.Migration) []int { return g.Read() })
	holds := func() bool { return tr.Wait(t.Context(), "units", key, []event.WriteID{write}, 0) }
	tr.Put(of(1, 6, 1))
	g.Building = 2
	tr.Put(of(2, 9, 2))
	if holds() {
		t.Fatal("a generation that nobody reads answered for one that lacks the write")
	}
	behind := of(2, 1, 3)
	behind.Parked = []event.OrderingKey{key}
	tr.Put(behind)
	tr.Put(of(1, 7, 4))
	if !holds() || !tr.Serves("units", key) {
		t.Fatal("a generation that nobody reads took back what readers have")
	}
	if p, _ := tr.Progress("units", key); p.Generation != 1 {
		t.Fatal(p.Generation)
	}
}

// Readers follow a swap one after the other: until the generation before is retired, a write counts when both hold it.
func TestBothGenerationsHoldFromTheSwapOn(t *testing.T) {
	g := stage.Generations{Building: 2, Last: 2}
	for _, c := range []struct {
		name     string
		state    stage.Generations
		one, two event.Seq
		holds    bool
	}{
		{"before the swap, only the new one lacks it", g, 7, 6, true},
		{"before the swap, only the old one lacks it", g, 6, 7, false},
		{"from the swap on, the new one lacks it", stage.Generations{Generation: 2, Retiring: 1}, 7, 6, false},
		{"from the swap on, the old one lacks it", stage.Generations{Generation: 2, Retiring: 1}, 6, 7, false},
		{"from the swap on, both have it", stage.Generations{Generation: 2, Retiring: 1}, 7, 7, true},
		{"retired, the old one lacks it", stage.Generations{Generation: 2}, 6, 7, true},
		{"retired, the new one lacks it", stage.Generations{Generation: 2}, 7, 6, false},
	} {
		tr := tracker()
		tr.Read(func(event.Migration) []int { return c.state.Read() })
		tr.Put(of(1, c.one, 1))
		tr.Put(of(2, c.two, 1))
		if got := tr.Wait(t.Context(), "units", key, []event.WriteID{write}, 0); got != c.holds {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// Somebody who waits while the swap happens waits for both from then on.
func TestASwapWhileSomebodyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := tracker()
		var swapped atomic.Bool
		tr.Read(func(event.Migration) []int {
			if swapped.Load() {
				return stage.Generations{Generation: 2, Retiring: 1}.Read()
			}
			return stage.Generations{Building: 2}.Read()
		})
		tr.Put(of(1, 6, 1))
		tr.Put(of(2, 6, 1))
		go func() {
			time.Sleep(10 * time.Millisecond) // the bubble's clock
			swapped.Store(true)
			tr.Put(of(1, 7, 2))
			time.Sleep(20 * time.Millisecond)
			tr.Put(of(2, 7, 2))
		}()
		start := time.Now()
		if !tr.Wait(t.Context(), "units", key, []event.WriteID{write}, 100*time.Millisecond) || time.Since(start) != 30*time.Millisecond {
			t.Fatal("held after", time.Since(start))
		}
	})
}

func TestPassedNeedsAFenceSentLater(t *testing.T) {
	tr := tracker()
	passed := func(sec int64) bool { return tr.Passed(t.Context(), "units", key, time.Unix(sec, 0), 0) }
	n := news(1, 1)
	n.Position, n.Fences = 20, []event.Fence{{Sent: time.Unix(5, 0), Position: 10}, {Sent: time.Unix(7, 0), Position: 20}}
	tr.Put(n)
	if passed(7) || !passed(6) || !passed(4) {
		t.Fatal("a fence sent at the instant proves nothing about it, one sent later does")
	}
	n = news(2, 2) // news without fences: what was passed stays so, unless the key was not complete
	n.Position = 30
	tr.Put(n)
	if passed(7) || !passed(6) {
		t.Fatal("the fence was forgotten")
	}
	n = news(2, 3)
	n.Position, n.Held = 40, []event.Held{{Migration: "units", Key: key, From: 15}}
	tr.Put(n)
	if passed(6) || !passed(4) {
		t.Fatal("the key is complete below 15 only")
	}
}

func TestFencesAreBounded(t *testing.T) {
	tr := tracker()
	for i := range int64(3 * maxFences) {
		n := news(1, i)
		n.Position, n.Fences = event.Position(i), []event.Fence{{Sent: time.Unix(i, 0), Position: event.Position(i)}}
		tr.Put(n)
	}
	s := tr.parts[part{"units", event.Partition(key, 4), 1}]
	if len(s.fences) != maxFences || s.fences[0].Position != 2*maxFences {
		t.Fatal(len(s.fences), s.fences[0])
	}
	if p, ok := s.after(time.Unix(1, 0)); !ok || p != 2*maxFences {
		t.Fatal(p, "the oldest that is known stands in for older ones")
	}
}

func TestServes(t *testing.T) {
	tr := tracker()
	if tr.Serves("units", key) {
		t.Fatal("nothing is known of it")
	}
	n := news(1, 1)
	n.Parked = []event.OrderingKey{key}
	tr.Put(n)
	if tr.Serves("units", key) {
		t.Fatal("its key is parked")
	}
}

func TestTokensSurviveTheCookie(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var want Tokens
		for i := range rapid.IntRange(0, 12).Draw(t, "n") {
			n := Token{Migration: event.Migration(rapid.StringMatching(`[a-z0-9_]{1,8}`).Draw(t, "m")), Key: event.OrderingKey(rapid.String().Draw(t, "k")),
				Write: event.WriteID{Replica: "r-1", Epoch: 1, Seq: event.Seq(i + 1)}}
			if ms := rapid.Int64Range(0, 1<<42).Draw(t, "at"); ms > 0 {
				n.At = time.UnixMilli(ms)
			}
			want = want.Add(n)
		}
		s := want.String()
		for i := range len(s) {
			if c := s[i]; c <= ' ' || c >= 0x7f || c == ';' || c == ',' || c == '"' || c == '\\' {
				t.Fatalf("%q cannot stand in a cookie", s)
			}
		}
		if d := cmp.Diff(want, ParseTokens(s)); d != "" {
			t.Fatal(d)
		}
	})
}

func TestMoreKeysThanTokens(t *testing.T) {
	var ts Tokens
	for i := range MaxTokens + 1 {
		ts = ts.Add(Token{Migration: "units", Key: event.OrderingKey(string(rune('a' + i))), Write: write})
	}
	if _, _, all := ts.For("units", "a"); len(ts.List) != MaxTokens || all {
		t.Fatal("the oldest fell out, and that must be known")
	}
	ts = Tokens{}.Add(Token{Migration: "units", Key: AnyKey, Write: write, At: time.Unix(9, 0)})
	if w, at, all := ts.For("units", "x"); len(w) != 1 || !all || !at.Equal(time.Unix(9, 0)) {
		t.Fatal("a write whose key was not known concerns every key")
	}
	if w, _, _ := ts.For("economy", "x"); len(w) != 0 {
		t.Fatal(w)
	}
}

func TestGarbageIsOverflowNotNothing(t *testing.T) {
	for _, s := range []string{"x", "a~b", "a~%zz~r.1.1", "a~b~r.1", "more"} {
		if ts := ParseTokens(s); !ts.Overflow || len(ts.List) != 0 {
			t.Errorf("%q: %+v", s, ts)
		}
	}
}

func FuzzParseTokens(f *testing.F) {
	f.Add("units~match%2F7~a.1.7:more")
	f.Fuzz(func(t *testing.T, s string) {
		ts := ParseTokens(s)
		if d := cmp.Diff(ts, ParseTokens(ts.String())); d != "" {
			t.Fatal(d)
		}
	})
}

// How long a read would wait is told by how far the read model was behind lately.
func TestExpect(t *testing.T) {
	tr := tracker()
	now := time.Unix(100, 0)
	tr.now = func() time.Time { return now }
	if d := tr.Expect("units", key, now); d != 0 {
		t.Fatal(d, "nothing is known")
	}
	for i := range int64(50) { // news of what was 60 ms ago, each 20 ms
		n := news(1, i+1)
		n.Position, n.Fences = event.Position(10*(i+1)), []event.Fence{{Sent: now.Add(-60 * time.Millisecond), Position: event.Position(10 * (i + 1))}}
		tr.Put(n)
		now = now.Add(20 * time.Millisecond)
	}
	if d := tr.Expect("units", key, now); d != 60*time.Millisecond {
		t.Fatal(d)
	}
	if d := tr.Expect("units", key, now.Add(-45*time.Millisecond)); d != 15*time.Millisecond {
		t.Fatal(d)
	}
	if d := tr.Expect("units", key, now.Add(-time.Second)); d != 0 {
		t.Fatal(d, "that should be there")
	}
	n := news(1, 100)
	n.Position, n.Fences = 501, []event.Fence{{Sent: now.Add(-860 * time.Millisecond), Position: 501}}
	tr.Put(n) // older than what was known of legacy: no fence that would tell of a lag
	if d := tr.Expect("units", key, now); d > 70*time.Millisecond {
		t.Fatal(d)
	}
}
