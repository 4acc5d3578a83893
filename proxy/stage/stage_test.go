package stage

import (
	"fmt"
	"strings"
	"testing"

	"banyan/proxy/event"

	"pgregory.net/rapid"
)

func TestAllowed(t *testing.T) {
	half := Share{Percent: 50}
	for _, c := range []struct {
		from, to State
		refused  string
	}{
		{State{Stage: Off}, State{Stage: DualWrite}, ""},
		{State{Stage: DualWrite}, State{Stage: Shadow}, ""},
		{State{Stage: Shadow}, State{Stage: Live, Share: half}, ""},
		{State{Stage: Live, Share: half}, State{Stage: Live, Share: Share{Percent: 100}}, ""},
		{State{Stage: Live, Share: half}, State{Stage: Off}, ""},
		{State{Stage: Live, Share: half}, State{Stage: Shadow}, ""},
		{State{Stage: Off}, State{Stage: Shadow}, "one step at a time, the next is dualwrite"},
		{State{Stage: DualWrite}, State{Stage: Live, Share: half}, "one step"},
		{State{Stage: Live}, State{Stage: Rampdown}, "not built"},
		{State{Stage: Live}, State{Stage: Complete}, "not built"},
		{State{Stage: Off}, State{Stage: DualWrite, Share: half}, "belongs to stage live"},
		{State{Stage: Shadow}, State{Stage: Live, Share: Share{Percent: 101}}, "0 to 100"},
		{State{Stage: Off}, State{Stage: "shaddow"}, "not a stage"},
	} {
		err := Allowed(c.from, c.to)
		if (err == nil) != (c.refused == "") || err != nil && !strings.Contains(err.Error(), c.refused) {
			t.Errorf("%s -> %s: %v; want %q", c.from, c.to, err, c.refused)
		}
	}
}

func TestForward(t *testing.T) {
	live := func(p float64, in, ex []event.OrderingKey) State { return State{Stage: Live, Share: Share{p, in, ex}} }
	key := []event.OrderingKey{"match/1"}
	for _, c := range []struct {
		from, to State
		want     bool
	}{
		{State{Stage: Shadow}, live(10, nil, nil), true},
		{live(10, nil, nil), State{Stage: Shadow}, false},
		{live(10, nil, nil), live(50, nil, nil), true},
		{live(50, nil, nil), live(10, nil, nil), false},
		{live(50, nil, nil), live(50, nil, nil), false},
		{live(0, nil, nil), live(0, key, nil), true},
		{live(0, key, nil), live(0, nil, nil), false},
		{live(100, nil, key), live(100, nil, nil), true},
		{live(100, nil, nil), live(100, nil, key), false},
	} {
		if got := Forward(c.from, c.to); got != c.want {
			t.Errorf("%s -> %s: forward %v, want %v", c.from, c.to, got, c.want)
		}
	}
}

func TestShareGrows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := event.OrderingKey(fmt.Sprintf("match/%d", rapid.IntRange(1, 1e6).Draw(t, "match")))
		p := rapid.Float64Range(0, 100).Draw(t, "p")
		q := rapid.Float64Range(p, 100).Draw(t, "q")
		if (Share{Percent: p}).Chosen(k) && !(Share{Percent: q}).Chosen(k) {
			t.Fatalf("%s is in %v%% but not in %v%%", k, p, q)
		}
	})
}

func TestShareIsNearItsPercentage(t *testing.T) {
	for _, p := range []float64{0, 1, 10, 50, 100} {
		n := 0
		for i := range 20000 {
			if (Share{Percent: p}).Chosen(event.OrderingKey(fmt.Sprintf("match/%d", i))) {
				n++
			}
		}
		if got := float64(n) / 200; got < p-1 || got > p+1 {
			t.Errorf("share %v%% chose %v%%", p, got)
		}
	}
}

func TestShareNeedsOneKey(t *testing.T) {
	s := Share{Percent: 99.99, Include: []event.OrderingKey{"match/1", "match/2"}}
	if s.Chosen() || s.Chosen("") || s.Chosen("match/1", "match/2") {
		t.Fatal("a read with no key or several was chosen below 100 %")
	}
	if s = (Share{Percent: 100}); !s.Chosen() || !s.Chosen("a", "b") {
		t.Fatal("100 % without exclusions takes every read")
	}
	if s.Exclude = []event.OrderingKey{"match/9"}; s.Chosen("a", "b") || s.Chosen("match/9") || !s.Chosen("match/8") {
		t.Fatal("an exclusion keeps its key, and reads of several keys, on legacy")
	}
}

func flip(expect uint64, from, to Stage) *Flip {
	return &Flip{V: 1, Migration: "units", Expect: expect, From: State{Version: expect, Stage: from}, To: State{Version: expect + 1, Stage: to}, Reason: "test"}
}

func TestOnlyOneOfTwoConcurrentFlipsCounts(t *testing.T) {
	var l Log
	if e := l.Apply(0, flip(0, Off, DualWrite)); e.Void != "" {
		t.Fatal(e.Void)
	}
	if e := l.Apply(1, flip(1, DualWrite, Shadow)); e.Void != "" {
		t.Fatal(e.Void)
	}
	if e := l.Apply(2, flip(1, DualWrite, Off)); !strings.Contains(e.Void, "another flip came first") {
		t.Fatalf("both counted: %+v", e)
	}
	if s := l.State("units"); s.Stage != Shadow || s.Version != 2 {
		t.Fatal(s)
	}
	if s := l.State("economy"); s.Stage != Off || s.Version != 0 {
		t.Fatal("a flip of one migration moved another", s)
	}
	if h := l.History("units"); len(h) != 3 || h[2].Void == "" {
		t.Fatal("the audit must hold void flips too", h)
	}
}

// A record that lies about where it starts cannot jump a step.
func TestApplyChecksTheStepFromTheRealState(t *testing.T) {
	var l Log
	if e := l.Apply(0, flip(0, DualWrite, Shadow)); e.Void == "" {
		t.Fatal("off to shadow in one step")
	}
	if f := flip(0, Off, DualWrite); f != nil {
		f.Reason = ""
		if e := l.Apply(1, f); !strings.Contains(e.Void, "reason") {
			t.Fatal("a flip without a reason counted")
		}
	}
}
