package mirror

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

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
		if got := addresses(nil, c.intent, c.told); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func TestRecordsOfOddWrites(t *testing.T) {
	e := newEncoder("p1", event.Topics{P: "x"}, partitions)
	item := func(change func(*journal.Item)) *journal.Item {
		it := &journal.Item{Kind: journal.ItemWrite, Epoch: 2, Seq: 3, Ship: 4, Intent: intentOf("match/1", "body"), Outcome: resultOf(event.Applied), Started: time.Now()}
		change(it)
		return it
	}
	w := func(rs []*kgo.Record) *event.Write {
		t.Helper()
		w, err := event.DecodeWrite(rs[0].Value)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	rs, big := e.write(item(func(it *journal.Item) { it.Intent = intentOf("match/1", strings.Repeat("x", 1<<20)) }), nil)
	if got := w(rs); !big.cut || len(got.Intent.Body) != 0 || got.Intent.BodyLength != 1<<20 || len(rs[0].Value) > maxValue {
		t.Errorf("large: cut %v, %d bytes", big.cut, len(rs[0].Value))
	}
	quotes := strings.Repeat(`"`, 600<<10) // as text it would be too large, as base64 it never was
	if rs, m := e.write(item(func(it *journal.Item) { it.Intent = intentOf("match/1", quotes) }), nil); m.cut || string(w(rs).Intent.Body) != quotes {
		t.Errorf("escapes: cut %v, %d bytes", m.cut, len(rs[0].Value))
	}
	for name, change := range map[string]func(*journal.Item){
		"recovered": func(it *journal.Item) { it.Recovered, it.Outcome = true, nil },
		"bare":      func(it *journal.Item) { it.Bare, it.Outcome = true, nil },
		"foreign":   func(it *journal.Item) { it.Outcome = []byte{1, 0xff, 0xff} },
	} {
		if rs, m := e.write(item(change), nil); !m.unknown || w(rs).Result.Outcome != event.Unknown || w(rs).Result.Reason == "" {
			t.Errorf("%s: %+v", name, w(rs).Result)
		}
	}
	for name, change := range map[string]func(*journal.Item){
		"lost":    func(it *journal.Item) { it.IntentLost, it.Intent = true, nil },
		"foreign": func(it *journal.Item) { it.Intent = []byte{1, 0xff, 0xff} },
	} {
		rs, m := e.write(item(change), nil)
		g, err := event.DecodeGap(rs[0].Value)
		if err != nil || !m.lost || kafka.KindOf(rs[0]) != event.KindGap || g.From != 3 || g.Count != 1 || !g.AtLeast || g.Migration != "" {
			t.Errorf("%s: %v %+v", name, err, g)
		}
	}
}

// What a write leaves behind must not be parts of the item, whose bytes the next item takes.
func TestNextItemChangesNoRecord(t *testing.T) {
	e := newEncoder("p1", event.Topics{P: "x"}, partitions)
	it := &journal.Item{Kind: journal.ItemWrite, Epoch: 2, Seq: 3, Ship: 4, Started: time.Now()}
	next := func(key, body string, params map[string]string, keys ...event.Address) {
		in := event.Intent{UUID: body, Route: "move", Method: "POST", Target: "/" + body, Body: []byte(body), Params: params,
			Addresses: []event.Address{{Migration: "units", Key: event.OrderingKey(key), Primary: true}}}
		r := event.Result{Outcome: event.Applied, Reason: body, Location: "/" + body, Keys: keys}
		it.Intent, it.Outcome = in.Append(it.Intent[:0]), r.Append(it.Outcome[:0])
	}
	next("match/1", "first", map[string]string{"a": "first", "b": "first"}, event.Address{Migration: "units", Key: "match/8"})
	rs, m := e.write(it, nil)
	addresses := kept(m.addresses)
	next("match/2", "other", map[string]string{"a": "other"})
	rs, _ = e.write(it, rs)
	next("match/3", "third", nil)
	rs, _ = e.write(it, rs)
	want := []event.Address{{Migration: "units", Key: "match/1", Primary: true}, {Migration: "units", Key: "match/8"}}
	if !reflect.DeepEqual(addresses, want) {
		t.Errorf("addresses %v, want %v", addresses, want)
	}
	for i, want := range []struct {
		key, body string
		params    map[string]string
	}{{"match/1", "first", map[string]string{"a": "first", "b": "first"}}, {"match/8", "first", map[string]string{"a": "first", "b": "first"}},
		{"match/2", "other", map[string]string{"a": "other"}}, {"match/3", "third", nil}} {
		w, err := event.DecodeWrite(rs[i].Value)
		if err != nil || string(rs[i].Key) != want.key || string(w.Key) != want.key || string(w.Intent.Body) != want.body || w.Intent.UUID != want.body ||
			w.Intent.Target != "/"+want.body || !reflect.DeepEqual(w.Intent.Params, want.params) || w.Result.Location != "/"+want.body {
			t.Errorf("record %d: %v %q %+v, want %+v", i, err, rs[i].Key, w, want)
		}
	}
	if len(rs) != 4 {
		t.Errorf("%d records", len(rs))
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
