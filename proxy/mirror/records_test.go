package mirror

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"banyan/proxy/event"
	"banyan/proxy/journal"
	"banyan/proxy/kafka"
)

func TestAddresses(t *testing.T) {
	type as = []event.Address
	for name, c := range map[string]struct{ intent, told, want as }{
		"one":               {as{{Migration: "u", Key: "a", Primary: true}}, nil, as{{Migration: "u", Key: "a", Primary: true}}},
		"no primary":        {as{{Migration: "u", Key: "a"}, {Migration: "u", Key: "b"}}, nil, as{{Migration: "u", Key: "a", Primary: true}, {Migration: "u", Key: "b"}}},
		"told replaces":     {as{{Migration: "u", Primary: true}}, as{{Migration: "u", Key: "a"}}, as{{Migration: "u", Key: "a", Primary: true}}},
		"told adds":         {as{{Migration: "u", Key: "a", Primary: true}}, as{{Migration: "u", Key: "b"}, {Migration: "u", Key: "a"}}, as{{Migration: "u", Key: "a", Primary: true}, {Migration: "u", Key: "b"}}},
		"told nothing":      {as{{Migration: "u", Primary: true}}, as{{Migration: "u"}}, as{{Migration: "u", Primary: true}}},
		"two migrations":    {as{{Migration: "u", Key: "a", Primary: true}, {Migration: "e"}}, as{{Migration: "e", Key: "p"}}, as{{Migration: "u", Key: "a", Primary: true}, {Migration: "e", Key: "p"}}},
		"two primaries":     {as{{Migration: "u", Key: "a", Primary: true}, {Migration: "u", Key: "b", Primary: true}}, nil, as{{Migration: "u", Key: "a", Primary: true}, {Migration: "u", Key: "b"}}},
		"unknown and known": {as{{Migration: "u", Key: "a", Primary: true}, {Migration: "u"}}, nil, as{{Migration: "u", Key: "a", Primary: true}}},
	} {
		if got := addresses(c.intent, c.told); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func TestRecordsOfOddWrites(t *testing.T) {
	e := encoder{replica: "p1", topics: event.Topics{P: "x"}, partitions: partitions}
	item := func(change func(*journal.Item)) *journal.Item {
		it := &journal.Item{Kind: journal.ItemWrite, Epoch: 2, Seq: 3, Ship: 4, Intent: intentOf("match/1", "body"), Outcome: resultOf(event.Applied), Started: time.Now()}
		change(it)
		return it
	}
	w := func(m made) *event.Write {
		t.Helper()
		w, err := event.DecodeWrite(m.records[0].Value)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	big := e.write(item(func(it *journal.Item) { it.Intent = intentOf("match/1", strings.Repeat("x", 1<<20)) }))
	if got := w(big); !big.cut || len(got.Intent.Body) != 0 || got.Intent.BodyLength != 1<<20 || len(big.records[0].Value) > maxValue {
		t.Errorf("large: cut %v, %d bytes", big.cut, len(big.records[0].Value))
	}
	for name, change := range map[string]func(*journal.Item){
		"recovered": func(it *journal.Item) { it.Recovered, it.Outcome = true, nil },
		"bare":      func(it *journal.Item) { it.Bare, it.Outcome = true, nil },
		"foreign":   func(it *journal.Item) { it.Outcome = []byte{1, 0xff, 0xff} },
	} {
		if m := e.write(item(change)); !m.unknown || w(m).Result.Outcome != event.Unknown || w(m).Result.Reason == "" {
			t.Errorf("%s: %+v", name, w(m).Result)
		}
	}
	for name, change := range map[string]func(*journal.Item){
		"lost":    func(it *journal.Item) { it.IntentLost, it.Intent = true, nil },
		"foreign": func(it *journal.Item) { it.Intent = []byte{1, 0xff, 0xff} },
	} {
		m := e.write(item(change))
		g, err := event.DecodeGap(m.records[0].Value)
		if err != nil || !m.lost || kafka.KindOf(m.records[0]) != event.KindGap || g.From != 3 || g.Count != 1 || !g.AtLeast || g.Migration != "" {
			t.Errorf("%s: %v %+v", name, err, g)
		}
	}
}

func TestStateChangesAreSaidOnce(t *testing.T) {
	var said []string
	s := &sender{cfg: Config{Log: quiet(), Hooks: Hooks{Stalled: func(error) { said = append(said, "stalled") }, Resumed: func() { said = append(said, "resumed") }}}}
	for range 2 {
		s.resumed()
		s.stall(errSilent)
		s.stall(errSilent)
		s.resumed()
	}
	if got := strings.Join(said, " "); got != "stalled resumed stalled resumed" {
		t.Fatal(got)
	}
}
