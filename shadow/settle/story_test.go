package settle

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"banyan/proxy/event"

	"github.com/google/go-cmp/cmp"
)

var epoch = time.Unix(1_700_000_000, 0).UTC()

// ms is a time of a story.
func ms(n int) time.Time { return epoch.Add(time.Duration(n) * time.Millisecond) }

// story drives one core: what came, in order, with all times in milliseconds, and what it said, as text.
type story struct {
	t           *testing.T
	c           *Core
	writes      int64
	changes     int64
	said        []string
	entries     []*event.Entry
	last        *event.SettledMark
	marks       int
	defaultMove event.Migration
}

func tell(t *testing.T, change ...func(*Config)) *story {
	cfg := Config{MaxClockError: 5 * time.Millisecond, AttributeWait: 250 * time.Millisecond, MaxExecution: time.Second}
	for _, f := range change {
		f(&cfg)
	}
	s := &story{t: t, defaultMove: "units"}
	s.c = NewCore(cfg, s)
	return s
}

func (s *story) Entry(e *event.Entry) {
	s.entries = append(s.entries, e)
	s.said = append(s.said, show(e))
}

func (s *story) Mark(m *event.SettledMark) { s.last = m; s.marks++ }

// show prints an entry: key from-to | position cause … | write verdict effects …
func show(e *event.Entry) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d-%d", e.Key, e.From, e.To)
	for _, c := range e.Changes {
		fmt.Fprintf(&b, " | %d %s", c.Position, c.Cause)
		if !c.Write.IsZero() {
			fmt.Fprintf(&b, " %s", c.Write)
		}
		if c.Annotated {
			b.WriteString("!")
		}
		if len(c.Candidates) > 0 {
			fmt.Fprintf(&b, " %v", c.Candidates)
		}
	}
	for _, w := range e.Writes {
		fmt.Fprintf(&b, " | %s %s", w.Write.ID, w.Verdict)
		if len(w.Effects) > 0 {
			fmt.Fprintf(&b, " %d", w.Effects)
		}
		if w.Late {
			b.WriteString(" late")
		}
		if len(w.Overlaps) > 0 {
			fmt.Fprintf(&b, " overlaps %v", w.Overlaps)
		}
	}
	return b.String()
}

// want compares what was said since the last want. Positions print as decimals.
func (s *story) want(lines ...string) {
	s.t.Helper()
	if diff := cmp.Diff(lines, s.said); diff != "" {
		s.t.Fatalf("said (-want +got):\n%s", diff)
	}
	s.said = nil
}

func id(s string) event.WriteID {
	if s == "" {
		return event.WriteID{}
	}
	w, err := event.ParseWriteID(s)
	if err != nil {
		panic(err)
	}
	return w
}

func (s *story) write(w string, key event.OrderingKey, start, end int, more ...func(*event.Write)) {
	x := &event.Write{V: 1, ID: id(w), Address: event.Address{Migration: s.defaultMove, Key: key, Primary: true},
		Intent: event.Intent{At: ms(start)}, Result: event.Result{Outcome: event.Applied, Forwarded: ms(start), End: ms(end)}}
	for _, f := range more {
		f(x)
	}
	s.c.Write(x, s.writes, 100)
	s.writes++
}

func unknown(w *event.Write)  { w.Result.Outcome = event.Unknown }
func rejected(w *event.Write) { w.Result.Outcome = event.Rejected }

// mark is a proxy's mark. in flight: "seq key start" each, or "seq * start" while the key is not known; or "idle".
func (s *story) mark(replica event.Replica, seq event.Seq, clock int, inFlight ...string) {
	s.markEpoch(replica, 1, seq, clock, false, inFlight...)
}

func (s *story) markEpoch(replica event.Replica, ep event.Epoch, seq event.Seq, clock int, ended bool, inFlight ...string) {
	m := &event.ReplicaMark{V: 1, Replica: replica, Epoch: ep, Seq: seq, Clock: ms(clock), Ended: ended}
	if len(inFlight) == 1 && inFlight[0] == "idle" {
		m.Idle, inFlight = true, nil
	}
	for _, x := range inFlight {
		var f event.InFlight
		var key string
		var start int
		if _, err := fmt.Sscan(strings.ReplaceAll(x, ".", " "), &f.Epoch, &f.Seq, &key, &start); err != nil {
			f.Epoch = 0
			if _, err := fmt.Sscan(x, &f.Seq, &key, &start); err != nil {
				s.t.Fatal(x, err)
			}
		}
		f.Start = ms(start)
		if key == "-" { // addressed to its migration, key not known
			f.Addresses = []event.Address{{Migration: s.defaultMove, Primary: true}}
		} else if key != "*" {
			f.Addresses = []event.Address{{Migration: s.defaultMove, Key: event.OrderingKey(key), Primary: true}}
		}
		m.InFlight = append(m.InFlight, f)
	}
	s.c.ReplicaMark(m, s.writes)
	s.writes++
}

func (s *story) change(key event.OrderingKey, pos event.Position, received int, more ...func(*event.Change)) {
	x := &event.Change{V: 1, Migration: s.defaultMove, Key: key, Position: pos, Part: 1, Parts: 1, Received: ms(received),
		Rows: []event.RowChange{{N: 0, Table: "units", Op: event.Update}}}
	for _, f := range more {
		f(x)
	}
	s.c.Change(x, s.changes, 200)
	s.changes++
}

func by(w string) func(*event.Change) { return func(x *event.Change) { x.Write = id(w) } }

func imported(row int) func(*event.Change) {
	return func(x *event.Change) { x.Rows[0].Op, x.Rows[0].N = event.Import, row }
}

// reader is a mark of the reader with one fence, which was sent then and found that position.
func (s *story) reader(pos event.Position, sent int) {
	s.c.ReaderMark(&event.ReaderMark{V: 1, Position: pos, Clock: ms(sent + 1),
		Fences: []event.Fence{{Sent: ms(sent), Position: pos, Answered: ms(sent + 1)}}}, s.changes)
	s.changes++
}

func (s *story) tick(at int) { s.c.Tick(ms(at)) }

func (s *story) held() string {
	var b []string
	for _, h := range s.last.Held {
		b = append(b, fmt.Sprintf("%s@%d", h.Key, h.From))
	}
	return strings.Join(b, " ")
}

func (s *story) unsettled() string {
	var b []string
	for _, u := range s.last.Unsettled {
		b = append(b, u.ID.String())
	}
	return strings.Join(b, " ")
}

// begin: a proxy and the reader are known, at position 100.
func (s *story) begin() *story {
	s.mark("a", 0, 0)
	s.reader(100, 0)
	s.tick(1)
	return s
}
