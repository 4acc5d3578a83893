package dispatch_test

import (
	"strings"
	"testing"
	"time"

	"banyan/proxy/event"
	"banyan/shadow/dispatch"
	"banyan/shadow/parked"
)

// standing waits until `.parked` is as asked for.
func (b *bench) standing(ok func([]*event.Parked) bool) []*event.Parked {
	b.t.Helper()
	for end := time.Now().Add(time.Minute); ; {
		k, _, err := parked.Read(b.t.Context(), b.kafka, parked.Owner{Stage: "dispatch", Migration: "economy", Generation: 1}, 0)
		if err != nil {
			b.t.Fatal(err)
		}
		if ok(k.All()) {
			return k.All()
		}
		if time.Now().After(end) {
			b.t.Fatal("it stays", string(event.Encode(k.All())))
		}
	}
}

func (b *bench) release(p *event.Parked) {
	b.t.Helper()
	if err := b.cl.ProduceSync(b.t.Context(), parked.Record(b.kafka, p.Release("ada", "mended", time.Now()))).FirstErr(); err != nil {
		b.t.Fatal(err)
	}
}

func TestAReleasedKeyIsDeliveredFromWhereItStopped(t *testing.T) {
	b := newBench(t)
	refuse := func(c *dispatch.Command) (int, string) {
		if c.Write == w(1) {
			return 422, "no such trade"
		}
		return 0, ""
	}
	b.answer = refuse
	b.start()
	b.settle(
		entry("match/1", []event.SettledChange{changed(4, 1, w(1))}, write(1, event.VerdictApplied, 4)),
		entry("match/2", []event.SettledChange{changed(5, 2, w(2))}, write(2, event.VerdictApplied, 5)),
		entry("match/1", []event.SettledChange{changed(6, 2, w(3))}, write(3, event.VerdictApplied, 6)),
		entry("match/1", []event.SettledChange{changed(7, 2, event.WriteID{})}), mark(7))
	b.topic(7)
	first := b.standing(func(ps []*event.Parked) bool { return len(ps) == 1 })[0]
	b.release(first) // the service has not been mended
	second := b.standing(func(ps []*event.Parked) bool { return len(ps) == 1 && !ps[0].Is(first.At) })[0]
	b.mu.Lock()
	b.answer = nil
	b.mu.Unlock()
	b.release(second)
	b.standing(func(ps []*event.Parked) bool { return len(ps) == 0 })
	b.settle(entry("match/1", []event.SettledChange{changed(8, 2, w(4))}, write(4, event.VerdictApplied, 8)), mark(8))
	got := b.topic(8)
	if !strings.HasSuffix(got, "svc.give@8 mark8") {
		t.Error(got)
	}
	at := 0
	for _, x := range []string{"@4", "@6", "adjusted@7", "@8"} { // the key's, in order, each once
		i := strings.Index(got, x)
		if i < at || strings.Count(got, x) != 1 {
			t.Fatalf("%s in %s", x, got)
		}
		at = i
	}
}
