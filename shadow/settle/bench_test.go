package settle

import (
	"testing"
	"time"

	"banyan/proxy/event"
)

type discard struct{ entries, changes int }

func (d *discard) Entry(e *event.Entry)    { d.entries++; d.changes += len(e.Changes) }
func (d *discard) Mark(*event.SettledMark) {}

// encoded is one second of a busy partition, 10,000 writes of 500 keys with two changes each and marks every 20 and
// 50 ms, as records in the order in which they come.
type encoded struct {
	kind  event.Kind
	value []byte
	at    time.Time
}

func busySecond(annotated bool) (rs []encoded) {
	const writes = 10_000
	pos := event.Position(100)
	at := func(i int) time.Time { return epoch.Add(time.Duration(i) * 100 * time.Microsecond) }
	add := func(k event.Kind, v any, t time.Time) { rs = append(rs, encoded{k, event.Encode(v), t}) }
	mark := func(seq int, t time.Time) {
		add(event.KindReplicaMark, &event.ReplicaMark{V: 1, Replica: "a", Epoch: 1, Seq: event.Seq(seq), Clock: t}, t)
	}
	fence := func(t time.Time) {
		add(event.KindReaderMark, &event.ReaderMark{V: 1, Position: pos, Clock: t, Fences: []event.Fence{{Sent: t, Position: pos, Answered: t}}}, t)
	}
	for i := range writes {
		t := at(i)
		if i%500 == 0 {
			mark(i, t)
		}
		if i%200 == 0 {
			fence(t)
		}
		key := event.OrderingKey("match/" + string(rune('a'+i%25)) + string(rune('a'+i/25%20)))
		w := &event.Write{V: 1, ID: event.WriteID{Replica: "a", Epoch: 1, Seq: event.Seq(i + 1)}, Address: event.Address{Migration: "units", Key: key, Primary: true},
			Intent: event.Intent{UUID: "01890a5d-ac96-774b-bcce-b302099a8057", Route: "move", Method: "POST", Target: "/index.php?page=unit&action=move",
				Params: map[string]string{"unit": "42", "to": "9"}, Body: []byte("unit=42&to=9"), At: t},
			Result: event.Result{Outcome: event.Applied, Status: 302, Forwarded: t, End: t.Add(time.Millisecond)}}
		for range 2 {
			pos += 10
			c := &event.Change{V: 1, Migration: "units", Key: key, Position: pos, Part: 1, Parts: 1, Received: t,
				Rows: []event.RowChange{{Table: "units", Op: event.Update, Before: event.Values{"id": "42", "x": "7", "y": "8"}, After: event.Values{"id": "42", "x": "9", "y": "8"}}}}
			if annotated {
				c.Write = w.ID
			}
			add(event.KindChange, c, t)
		}
		add(event.KindWrite, w, t)
	}
	for i := range 20 {
		t := at(writes).Add(time.Duration(i) * 20 * time.Millisecond)
		mark(writes, t)
		fence(t)
	}
	return rs
}

func decodeAll(b *testing.B, rs []encoded, c *Core) {
	for i := range rs {
		r := &rs[i]
		var err error
		switch r.kind {
		case event.KindWrite:
			var x *event.Write
			if x, err = event.DecodeWrite(r.value); c != nil {
				c.Write(x, int64(i), len(r.value))
			}
		case event.KindChange:
			var x *event.Change
			if x, err = event.DecodeChange(r.value); c != nil {
				c.Change(x, int64(i), len(r.value))
			}
		case event.KindReplicaMark:
			var x *event.ReplicaMark
			if x, err = event.DecodeReplicaMark(r.value); c != nil {
				c.ReplicaMark(x, int64(i))
			}
		case event.KindReaderMark:
			var x *event.ReaderMark
			if x, err = event.DecodeReaderMark(r.value); c != nil {
				c.ReaderMark(x, int64(i))
			}
		}
		if err != nil {
			b.Fatal(err)
		}
		if c != nil && i%200 == 199 {
			c.Tick(r.at)
		}
	}
}

// BenchmarkCore gives the cost of the join itself, and its ratio to decoding the same records.
func BenchmarkCore(b *testing.B) {
	for name, annotated := range map[string]bool{"annotated": true, "plain": false} {
		b.Run(name, func(b *testing.B) {
			rs := busySecond(annotated)
			changes := 0
			var decode, both time.Duration
			for b.Loop() {
				t := time.Now()
				decodeAll(b, rs, nil)
				decode += time.Since(t)
				t = time.Now()
				d := &discard{}
				c := NewCore(Config{MaxClockError: 5 * time.Millisecond}, d)
				decodeAll(b, rs, c)
				c.Tick(rs[len(rs)-1].at)
				both += time.Since(t)
				if d.changes != 20_000 {
					b.Fatalf("%d changes, %d entries", d.changes, d.entries)
				}
				changes += d.changes
			}
			b.ReportMetric(float64(changes)/(both-decode).Seconds(), "changes/s")
			b.ReportMetric(float64(changes)/both.Seconds(), "decoded-changes/s")
			b.ReportMetric((both-decode).Seconds()/decode.Seconds(), "join/decode")
		})
	}
}
