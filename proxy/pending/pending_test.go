package pending

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"banyan/proxy/event"

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
	next := news(1, 11)
	next.Generation = 2
	tr.Put(next)
	tr.Put(news(9, 12))
	if tr.Wait(t.Context(), "units", key, []event.WriteID{write}, 0) {
		t.Fatal("a generation that is no longer served answered")
	}
}

func TestPassedNeedsAFenceSentLater(t *testing.T) {
	tr := tracker()
	n := news(1, 1)
	n.Fences = []event.Fence{{Sent: time.Unix(5, 0)}}
	tr.Put(n)
	if tr.Passed(t.Context(), "units", key, time.Unix(5, 0), 0) || !tr.Passed(t.Context(), "units", key, time.Unix(4, 0), 0) {
		t.Fatal("a fence sent at the instant proves nothing about it, one sent later does")
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
			want = want.Add(Token{event.Migration(rapid.StringMatching(`[a-z0-9_]{1,8}`).Draw(t, "m")), event.OrderingKey(rapid.String().Draw(t, "k")),
				event.WriteID{Replica: "r-1", Epoch: 1, Seq: event.Seq(i + 1)}})
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
		ts = ts.Add(Token{"units", event.OrderingKey(string(rune('a' + i))), write})
	}
	if _, all := ts.For("units", "a"); len(ts.List) != MaxTokens || all {
		t.Fatal("the oldest fell out, and that must be known")
	}
	ts = Tokens{}.Add(Token{"units", AnyKey, write})
	if w, all := ts.For("units", "x"); len(w) != 1 || !all {
		t.Fatal("a write whose key was not known concerns every key")
	}
	if w, _ := ts.For("economy", "x"); len(w) != 0 {
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
