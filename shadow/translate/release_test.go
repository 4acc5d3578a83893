package translate

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"banyan/proxy/event"
	"banyan/proxy/kafka"
	"banyan/shadow/parked"
	"banyan/shadow/stream"

	"github.com/twmb/franz-go/pkg/kgo"
)

// standing are the parked keys of a partition as `.parked` has them, once it is as asked for.
func (s *settled) standing(n int32, ok func([]*event.Parked) bool) []*event.Parked {
	s.t.Helper()
	for end := time.Now().Add(time.Minute); ; {
		k, _, err := parked.Read(s.t.Context(), s.cfg, parked.Owner{Stage: stage, Migration: "units", Generation: 1}, n)
		if err != nil {
			s.t.Fatal(err)
		}
		if ok(k.All()) {
			return k.All()
		}
		if time.Now().After(end) {
			s.t.Fatal("it stays", string(event.Encode(k.All())))
		}
	}
}

func (s *settled) release(p *event.Parked) {
	s.t.Helper()
	if err := s.cl.ProduceSync(s.t.Context(), parked.Record(s.cfg, p.Release("ada", "mended", time.Now()))).FirstErr(); err != nil {
		s.t.Fatal(err)
	}
}

// A key stops, is released while it is still broken and stops again, is released by mended rules, and its events come in
// order, once, before any mark that does not list it as held.
func TestAReleasedKeyIsTranslatedFromWhereItStopped(t *testing.T) {
	eachBroker(t, func(s *settled) {
		const key, n = event.OrderingKey("match/7"), 1100 // of several pieces
		part := event.Partition(key, 2)
		damage := func(pos, hp int) event.SettledChange {
			return changed(pos, none, unit(42, 1, hp+1, "a"), unit(42, 1, hp, "a"))
		}
		broken := damage(6, 40)
		delete(broken.Rows[0].After, "hp")
		broken.Rows[0].After["health"] = num(40)
		s.put(keyed(key, damage(5, 50)), keyed(key, broken))
		var rs []*kgo.Record
		for i := range n {
			rs = append(rs, kafka.Record(s.cfg.Topics().Settled(), part, event.KindEntry, string(key), event.Encode(keyed(key, damage(7+i, 10000+i)))))
		}
		if err := s.cl.ProduceSync(t.Context(), rs...).FirstErr(); err != nil {
			t.Fatal(err)
		}
		s.put(mark(2000))
		tr := s.start(rules(t))
		s.until(part, 2000)
		first := s.standing(part, func(ps []*event.Parked) bool { return len(ps) == 1 })[0]
		s.release(first)
		second := s.standing(part, func(ps []*event.Parked) bool { return len(ps) == 1 && !ps[0].Is(first.At) })[0]
		if second.Offset != first.Offset || second.Released {
			t.Fatalf("%+v", second)
		}
		tr.Stop()

		s.start(rules(t, func(c *Config) { // legacy's column has got another name in that row
			c.Rows["units"].OnUpdate[0].Data["hp"] = "row.hp ?? row.health"
		}))
		s.put(mark(2001)) // they come all the time, and tell how far the others are
		s.release(second)
		s.standing(part, func(ps []*event.Parked) bool { return len(ps) == 0 })
		s.put(keyed(key, damage(3000, 1)), mark(3001))
		lines, m := s.until(part, 3001)
		if len(m.Held) != 1 {
			t.Fatal(m.Held)
		}
		var told []string
		for l := range strings.Lines(lines) {
			told = append(told, strings.TrimSpace(l))
		}
		if len(told) != n+3 {
			t.Fatal(len(told), "events, want", n+3)
		}
		for i := range n {
			if want := fmt.Sprintf(`"hp":%d`, 10000+i); !strings.Contains(told[2+i], want) {
				t.Fatal(i, told[2+i], want)
			}
		}
		s.marksNeverLie(part, key, n+2)
	})
}

// marksNeverLie reads the events: a mark that stands before the key's last missed event lists it as held.
func (s *settled) marksNeverLie(n int32, key event.OrderingKey, events int) {
	s.t.Helper()
	seen, parkedOnce := 0, false
	for r, err := range stream.ReadTo(s.t.Context(), s.cfg, s.cfg.Topics().Events("units", 1), n, 0) {
		if err != nil {
			s.t.Fatal(err)
		}
		if r.Kind != event.KindSettledMark {
			seen++
			continue
		}
		m, err := event.DecodeSettledMark(r.Value)
		if err != nil {
			s.t.Fatal(err)
		}
		held := false
		for _, h := range m.Held {
			held = held || h.Key == key
		}
		parkedOnce = parkedOnce || held
		if seen < events && m.Position >= 2000 && !held {
			s.t.Fatalf("after %d of %d events a mark does not list the key as held", seen, events)
		}
	}
	if !parkedOnce {
		s.t.Fatal("never held")
	}
}
