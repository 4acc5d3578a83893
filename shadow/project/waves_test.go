package project

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"banyan/proxy/event"

	"pgregory.net/rapid"
)

var (
	hSet   = &handler{name: "set@1", fold: true}
	hAdd   = &handler{name: "add@1"}
	hTwice = &handler{name: "twice@1", key: true} // touches everything of its key
)

// applyTo is what a statement does to a model: values by key and subject.
func applyTo(m map[event.OrderingKey]map[event.Entity]int, h *handler, e *event.Event) {
	of := m[e.Key]
	if of == nil {
		of = map[event.Entity]int{}
		m[e.Key] = of
	}
	switch h {
	case hSet:
		of[e.Subject] = e.Sequence
	case hAdd:
		of[e.Subject] += 3
	case hTwice:
		for s := range of {
			of[s] = of[s]*2 + 1
		}
	}
}

func TestWavesKeepOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		one, batch := map[event.OrderingKey]map[event.Entity]int{}, map[event.OrderingKey]map[event.Entity]int{}
		n := rapid.IntRange(1, 60).Draw(t, "n")
		w := newWaves()
		flush := func() {
			for _, x := range w.list {
				seen := map[event.Entity]bool{}
				for _, e := range x.events {
					if seen[e.Subject] {
						t.Fatalf("%s twice in a wave of %s", e.Subject, x.h.name)
					}
					seen[e.Subject] = true
					applyTo(batch, x.h, e)
				}
			}
			w = newWaves()
		}
		for i := range n {
			k := rapid.IntRange(0, 1).Draw(t, "key")
			e := &event.Event{Key: event.OrderingKey(fmt.Sprint("match/", k)), Sequence: i,
				Subject: event.Entity(fmt.Sprintf("unit/%d%d", k, rapid.IntRange(0, 2).Draw(t, "subject")))}
			h := rapid.SampledFrom([]*handler{hSet, hSet, hAdd, hTwice}).Draw(t, "type")
			applyTo(one, h, e)
			w.add(h, e)
			if rapid.IntRange(0, 20).Draw(t, "cut") == 0 {
				flush()
			}
		}
		flush()
		if got, want := fmt.Sprint(batch), fmt.Sprint(one); got != want {
			t.Fatalf("in waves %s, one by one %s", got, want)
		}
	})
}

func TestFewWaves(t *testing.T) {
	w := newWaves()
	for i := range 1000 {
		s := event.Entity(fmt.Sprint("unit/", i%100))
		w.add(hSet, &event.Event{Key: "k", Subject: s})
		w.add(hAdd, &event.Event{Key: "k", Subject: s})
	}
	if len(w.list) != 20 { // set, add, set, add, …: ten of each, whatever the number of subjects
		t.Errorf("%d waves, want 20", len(w.list))
	}
	w = newWaves()
	for i := range 1000 {
		w.add(hSet, &event.Event{Key: "k", Subject: event.Entity(fmt.Sprint("unit/", i%100))})
	}
	if len(w.list) != 1 || len(w.list[0].events) != 100 {
		t.Errorf("%d waves; want one, folded to 100 events", len(w.list))
	}
}

func TestRowsAddTheEnvelopeLast(t *testing.T) {
	e := &event.Event{Subject: `unit/"4`, Key: "match/7", Position: event.MakePosition(1, 2), Sequence: 3, Data: json.RawMessage(` {"_subject":"unit/1","a":1} `)}
	empty := &event.Event{Subject: "unit/5", Key: "k\u00e9", Data: json.RawMessage(`{ }`)}
	b := rows([]*event.Event{e, empty})
	var got []map[string]any
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	if got[0]["_subject"] != `unit/"4` || got[0]["a"] != 1.0 || got[0]["_position"] != "1/2" || got[0]["_seq"] != 3.0 || got[1]["_key"] != "ké" {
		t.Fatalf("%s", b)
	}
}

func TestKeyParser(t *testing.T) {
	for _, c := range []struct{ template, key, name, want string }{
		{"match/{match}", "match/7", "match", "7"}, {"{a}/{b}", "x/y", "b", "y"}, {"{a}/{b}", "x/y", "c", ""}, {"m.{a}", "mx7", "a", ""}, {"", "x", "a", ""},
	} {
		p, err := newKeyParser(c.template)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := p.value(event.OrderingKey(c.key), c.name); got != c.want || ok != (c.want != "") {
			t.Errorf("%v: %q", c, got)
		}
	}
}

func TestWindowForgetsTheOldest(t *testing.T) {
	w := newWindow(3)
	for _, id := range strings.Fields("a b a c d") {
		w.add(id)
	}
	if w.has("a") || !w.has("b") || !w.has("c") || !w.has("d") || len(w.ids) != 3 {
		t.Fatal(w.ring)
	}
}
