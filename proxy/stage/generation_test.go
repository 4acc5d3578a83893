package stage

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"banyan/proxy/event"

	"pgregory.net/rapid"
)

// step is a record as somebody makes it who sees the state s.
func step(s State, what Step) *Flip {
	f := &Flip{V: 1, Migration: "units", Expect: s.Version, From: s, To: State{Version: s.Version + 1, Stage: s.Stage, Share: s.Share}, Step: what, Reason: "test", Start: []int64{0}}
	if to, err := f.Outcome(s); err == nil {
		f.To = to
	}
	return f
}

func TestGenerations(t *testing.T) {
	for _, c := range []struct {
		name    string
		steps   string
		want    Generations
		refused string // of the last one
	}{
		{"nothing happened", "", Generations{}, ""},
		{"a build", "build", Generations{Building: 2, Last: 2}, ""},
		{"a swap", "build swap", Generations{Generation: 2, Retiring: 1}, ""},
		{"retired", "build swap retire", Generations{Generation: 2}, ""},
		{"abandoned", "build abandon", Generations{Last: 2}, ""},
		{"built again after one that was abandoned", "build abandon build", Generations{Building: 3, Last: 3}, ""},
		{"swapped after one that was abandoned", "build abandon build swap retire build", Generations{Generation: 3, Building: 4, Last: 4}, ""},
		{"two builds", "build build", Generations{Building: 2, Last: 2}, "being built already"},
		{"a build while some read the one before", "build swap build", Generations{Generation: 2, Retiring: 1}, "still read by some"},
		{"a swap of nothing", "swap", Generations{}, "no generation is being built"},
		{"a swap twice", "build swap swap", Generations{Generation: 2, Retiring: 1}, "no generation is being built"},
		{"abandoned after the swap", "build swap abandon", Generations{Generation: 2, Retiring: 1}, "no generation is being built"},
		{"retired twice", "build swap retire retire", Generations{Generation: 2}, "no generation is retiring"},
		{"a step of a newer build", "explode", Generations{}, "not a step"},
	} {
		var l Log
		var e Entry
		for i, s := range strings.Fields(c.steps) {
			e = l.Apply(int64(i), step(l.State("units"), Step(s)))
		}
		if got := l.State("units").Generations; got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
		if (e.Void == "") != (c.refused == "") || !strings.Contains(e.Void, c.refused) {
			t.Errorf("%s: void %q, want %q", c.name, e.Void, c.refused)
		}
	}
}

func TestOnlyOneOfTwoConcurrentStepsCounts(t *testing.T) {
	var l Log
	seen := l.State("units")
	if e := l.Apply(0, step(seen, Build)); e.Void != "" {
		t.Fatal(e.Void)
	}
	if e := l.Apply(1, step(seen, Build)); !strings.Contains(e.Void, "another flip came first") {
		t.Fatalf("both counted: %+v", e)
	}
	seen = l.State("units")
	l.Apply(2, step(seen, Swap))
	if e := l.Apply(3, step(seen, Abandon)); e.Void == "" || l.State("units").Current() != 2 {
		t.Fatalf("abandoned what was swapped: %+v", e)
	}
}

// A flip that was decided on a screen without generations, or that lies about them, leaves them; a step leaves the stage.
func TestFlipsAndStepsLeaveEachOtherAlone(t *testing.T) {
	var l Log
	l.Apply(0, flip(0, Off, DualWrite))
	l.Apply(1, step(l.State("units"), Build))
	f := flip(2, DualWrite, Shadow)
	f.To.Generations = Generations{Generation: 9}
	if e := l.Apply(2, f); e.Void != "" || e.To.Building != 2 || e.To.Current() != 1 {
		t.Fatalf("%+v", e)
	}
	lie := step(l.State("units"), Swap)
	lie.To.Stage, lie.To.Generations = Off, Generations{Generation: 7}
	if e := l.Apply(3, lie); e.Void != "" || e.To.Stage != Shadow || e.To.Current() != 2 || e.To.Version != 4 {
		t.Fatalf("%+v", e)
	}
}

// What was written before there were generations means the first one, and is written as it was.
func TestStatesOfOldReadAndWrittenAsTheyWere(t *testing.T) {
	const old = `{"version":3,"stage":"live","share":{"percent":10}}`
	var s State
	if err := json.Unmarshal([]byte(old), &s); err != nil || s.Current() != 1 || s.Next() != 2 || !slices.Equal(s.Fed(), []int{1}) {
		t.Fatal(s, err)
	}
	if b := event.Encode(s); string(b) != old {
		t.Fatal(string(b))
	}
	f, err := DecodeFlip([]byte(`{"v":1,"id":"x","migration":"units","expect":0,"from":{"version":0,"stage":"off"},"to":{"version":1,"stage":"dualwrite"},"who":"a","reason":"b"}`))
	if err != nil || f.Step != "" {
		t.Fatal(f, err)
	}
	var l Log
	if e := l.Apply(0, f); e.Void != "" || l.State("units").Current() != 1 {
		t.Fatal(e)
	}
}

func TestANumberIsNeverGivenTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var l Log
		given := map[int]bool{1: true}
		for i := range rapid.IntRange(1, 40).Draw(t, "n") {
			s := l.State("units")
			e := l.Apply(int64(i), step(s, rapid.SampledFrom([]Step{Build, Swap, Abandon, Retire}).Draw(t, "step")))
			now := l.State("units")
			if e.Void == "" && e.Step == Build {
				if given[now.Building] || now.Building != s.Next() {
					t.Fatalf("generation %d was given before", now.Building)
				}
				given[now.Building] = true
			}
			if now.Building != 0 && now.Retiring != 0 || now.Retiring >= now.Current() || slices.Contains(now.Read(), now.Building) {
				t.Fatalf("%+v", now)
			}
		}
	})
}
