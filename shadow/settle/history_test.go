package settle

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"time"

	"banyan/proxy/event"

	"pgregory.net/rapid"
)

// The truth of a history, and the two streams that it makes. Times are milliseconds of one true clock; what a proxy
// says about time is off by less than the clock error.
type history struct {
	annotated bool
	writes    []*truth
	changes   []*truthChange // by position
	fences    []event.Fence
	streams   [2][]sent // .writes, .changes
	end       int
}

type truth struct {
	w       *event.Write
	start   int // true
	end     int // true: when legacy was done with it
	answer  int // true: when the proxy knew the outcome
	shipped int // the record stands in the stream
	acked   int // the proxy knows that
	noKey   bool
	changes []*truthChange
}

type truthChange struct {
	c    *event.Change
	by   *truth // nil: dark
	at   int    // commit
	sent int    // published
}

// sent is a record of a stream: when it was published, and how a core takes it.
type sent struct {
	at   int
	feed func(c *Core, offset int64)
	id   *event.WriteID // of a write record
}

const (
	clockError = 5
	execution  = 300
	waitFor    = 100
)

func testConfig(annotated bool) Config {
	c := Config{MaxClockError: clockError * time.Millisecond, AttributeWait: waitFor * time.Millisecond, MaxExecution: execution * time.Millisecond,
		ReplicaWait: 2 * time.Second, MaxRows: 5}
	if annotated {
		c.Claims = func(*event.Write, *event.Change) bool { return false } // what is not annotated was made by no write
	}
	return c
}

var testKeys = []event.OrderingKey{"match/1", "match/2", "match/3"}

func genHistory(t *rapid.T) *history {
	h := &history{annotated: rapid.Bool().Draw(t, "annotated"), end: 2500}
	num := func(lo, hi int, what string) int { return rapid.IntRange(lo, hi).Draw(t, what) }
	key := rapid.SampledFrom(testKeys)
	replicas := num(1, 3, "replicas")
	var offset [3]int
	var crash [3]int
	for r := range replicas {
		offset[r] = num(-2, 2, "clock offset")
		if num(0, 3, "crashes") == 0 {
			crash[r] = num(200, 900, "crash")
		}
	}
	clock := func(r, at int) time.Time { return ms(at + offset[r]) }
	type started struct{ r, at int }
	var starts []started
	for range num(1, 25, "writes") {
		starts = append(starts, started{num(0, replicas-1, "replica"), num(0, 1000, "start")})
	}
	sort.SliceStable(starts, func(i, j int) bool { return starts[i].at < starts[j].at })
	var seq [3][3]event.Seq // by replica, epoch
	for _, s := range starts {
		ep := event.Epoch(1)
		if c := crash[s.r]; c > 0 && s.at >= c {
			if s.at < c+100 {
				continue // it is down
			}
			ep = 2
		}
		seq[s.r][ep]++
		x := &truth{start: s.at, noKey: num(0, 4, "key known late") == 0}
		x.end = s.at + num(1, 90, "takes")
		if num(0, 9, "is long") == 0 {
			x.end += num(100, 200, "long")
		}
		x.answer = x.end
		w := &event.Write{V: 1, ID: event.WriteID{Replica: event.Replica(rune('a' + s.r)), Epoch: ep, Seq: seq[s.r][ep]},
			Address: event.Address{Migration: "units", Key: key.Draw(t, "key"), Primary: true}}
		w.Intent.At, w.Result.Forwarded = clock(s.r, s.at), clock(s.r, s.at)
		w.Result.Outcome = event.Applied
		switch k := num(0, 7, "outcome"); {
		case ep == 1 && crash[s.r] > 0 && x.end >= crash[s.r]:
			x.answer = crash[s.r] + 90 // recovery
			w.Result = event.Result{Outcome: event.Unknown}
		case k == 0:
			w.Result.Outcome = event.Rejected
		case k == 1: // legacy runs on after the time-out
			x.answer = s.at + num(1, x.end-s.at, "time-out")
			w.Result.Outcome = event.Unknown
		}
		if !w.Result.Forwarded.IsZero() {
			w.Result.End = clock(s.r, x.answer)
		}
		x.shipped = x.answer + num(0, 30, "shipped after")
		if ep == 1 && crash[s.r] > 0 && x.shipped >= crash[s.r] {
			x.shipped = crash[s.r] + 90 + num(0, 9, "adopted after")
		}
		x.acked = x.shipped + 1
		x.w = w
		effects := num(0, 4, "effects")
		for range effects {
			c := &truthChange{by: x, at: num(x.start, x.end, "commit")}
			c.c = &event.Change{V: 1, Migration: "units", Key: w.Key}
			if h.annotated {
				c.c.Write = w.ID
				if num(0, 5, "other key") == 0 {
					c.c.Key = key.Draw(t, "key of effect")
				}
			}
			x.changes = append(x.changes, c)
			h.changes = append(h.changes, c)
		}
		h.writes = append(h.writes, x)
	}
	for range num(0, 12, "dark changes") {
		h.changes = append(h.changes, &truthChange{at: num(0, 1200, "dark at"), c: &event.Change{V: 1, Migration: "units", Key: key.Draw(t, "dark key")}})
	}
	sort.SliceStable(h.changes, func(i, j int) bool { return h.changes[i].at < h.changes[j].at })
	last := 0
	for i, c := range h.changes {
		c.sent = max(last, c.at+num(0, 15, "reader's delay"))
		last = c.sent
		c.c.Position, c.c.Part, c.c.Parts, c.c.Received = event.Position(10+10*i), 1, 1, ms(c.sent)
		c.c.Rows = []event.RowChange{{N: i % 3, Table: "units", Op: event.Update}}
	}
	h.readerStream(num(0, 19, "phase of fences"))
	for r := range replicas {
		h.replicaMarks(r, crash[r], offset[r], num(0, 49, "phase of marks"))
	}
	for _, x := range h.writes {
		w := x.w
		h.streams[0] = append(h.streams[0], sent{x.shipped, func(c *Core, o int64) { c.Write(w, o, 100) }, &w.ID})
		if num(0, 9, "repeat") == 0 {
			h.streams[0] = append(h.streams[0], sent{x.shipped + num(1, 200, "repeated after"), func(c *Core, o int64) { c.Write(w, o, 100) }, nil})
		}
	}
	sort.SliceStable(h.streams[0], func(i, j int) bool { return h.streams[0][i].at < h.streams[0][j].at })
	return h
}

func (h *history) readerStream(phase int) {
	for _, c := range h.changes {
		x := c.c
		h.streams[1] = append(h.streams[1], sent{c.sent, func(k *Core, o int64) { k.Change(x, o, 100) }, nil})
	}
	for at := phase; at < h.end; at += 20 {
		f := event.Fence{Sent: ms(at), Answered: ms(at + 1)}
		pub := at + 1
		for _, c := range h.changes {
			if c.at < at {
				f.Position = c.c.Position
				pub = max(pub, c.sent)
			}
		}
		h.fences = append(h.fences, f)
		var head event.Position
		for _, c := range h.changes {
			if c.sent <= pub {
				head = c.c.Position
			}
		}
		m := &event.ReaderMark{V: 1, Position: head, Clock: ms(pub), Fences: []event.Fence{f}}
		h.streams[1] = append(h.streams[1], sent{pub, func(k *Core, o int64) { k.ReaderMark(m, o) }, nil})
	}
	sort.SliceStable(h.streams[1], func(i, j int) bool { return h.streams[1][i].at < h.streams[1][j].at })
}

func (h *history) replicaMarks(r, crash, offset, phase int) {
	name := event.Replica(rune('a' + r))
	for at := 0; at < h.end; at += 50 {
		now := at
		if at > 0 {
			now += phase
		}
		ep := event.Epoch(1)
		if crash > 0 && now >= crash {
			if now < crash+101 {
				continue
			}
			ep = 2
		}
		m := &event.ReplicaMark{V: 1, Replica: name, Epoch: ep, Clock: ms(now + offset)}
		for _, x := range h.writes {
			if x.w.ID.Replica != name || x.start > now {
				continue
			}
			if x.w.ID.Epoch == ep {
				m.Seq = max(m.Seq, x.w.ID.Seq)
			}
			until := x.acked
			if x.w.ID.Epoch < ep && x.w.Result.Forwarded.IsZero() {
				until = max(until, x.start+execution) // adopted
			}
			if now > until {
				continue
			}
			f := event.InFlight{Seq: x.w.ID.Seq, Start: x.w.Intent.At}
			if x.w.ID.Epoch != ep {
				f.Epoch = x.w.ID.Epoch
			}
			if !x.noKey || now >= x.answer {
				f.Addresses = []event.Address{x.w.Address}
			}
			m.InFlight = append(m.InFlight, f)
		}
		h.streams[0] = append(h.streams[0], sent{now, func(c *Core, o int64) { c.ReplicaMark(m, o) }, nil})
	}
}

// candidates by the truth: every write of the key whose interval, as told, meets the span of the change.
func (h *history) candidates(c *truthChange) (ids []event.WriteID) {
	var from time.Time
	for _, f := range h.fences {
		if f.Position < c.c.Position {
			from = f.Sent
		}
	}
	for _, x := range h.writes {
		start, end := x.w.Interval()
		if end.IsZero() {
			end = x.w.Intent.At
		}
		if x.w.Result.Outcome == event.Unknown {
			end = end.Add(execution * time.Millisecond)
		}
		e := clockError * time.Millisecond
		if x.w.Key == c.c.Key && !start.Add(-e).After(c.c.Received) && !end.Add(e).Before(from) {
			ids = append(ids, x.w.ID)
		}
	}
	return ids
}

// run gives the streams to a core, each in its order, with delays, in batches, and kills it now and then. It gives
// what stands in .settled at the end.
func (h *history) run(t *rapid.T, maxDelay int, kills bool) (log []any) {
	r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "schedule"), 0))
	type at struct{ t, stream, i int }
	var plan []at
	for s := range h.streams {
		last, delay := 0, 0
		for i, x := range h.streams[s] {
			if i%7 == 0 {
				delay = r.IntN(maxDelay + 1)
			}
			last = max(last, x.at+delay)
			plan = append(plan, at{last, s, i})
		}
	}
	sort.SliceStable(plan, func(i, j int) bool { return plan[i].t < plan[j].t })
	p := &published{trail: trail{}}
	p.core = NewCore(testConfig(h.annotated), p)
	var next [2]int // of each stream, by offset
	feed := func(s, upto int) {
		for ; next[s] <= upto; next[s]++ {
			h.streams[s][next[s]].feed(p.core, int64(next[s]))
		}
	}
	tick := func(now int) {
		p.core.Tick(ms(now))
		if kills && r.IntN(20) == 0 {
			// Of what it said last, a part was appended.
			p.log = append(p.log, p.out[:r.IntN(len(p.out)+1)]...)
			next = p.restart(testConfig(h.annotated))
			return
		}
		p.log, p.out = append(p.log, p.out...), nil
	}
	now := 0
	for len(plan) > 0 {
		n := 1 + r.IntN(min(len(plan), 12))
		for _, x := range plan[:n] {
			for ; now+25 < x.t; now += 25 {
				tick(now + 25)
			}
			feed(x.stream, x.i)
			now = max(now, x.t)
		}
		tick(now)
		plan = plan[n:]
	}
	kills = false
	for s := range h.streams {
		feed(s, len(h.streams[s])-1)
	}
	for range 30 {
		now += 25
		tick(now)
	}
	return p.log
}

// published is .settled.
type published struct {
	core    *Core
	trail   trail
	log     []any
	out     []any
	entries bool
	read    [2]int64 // offsets after all that any core was given
}

func (p *published) Entry(e *event.Entry) { p.out, p.entries = append(p.out, e), true }

func (p *published) Mark(m *event.SettledMark) {
	m.ResumeSettled = p.trail.resume(int64(len(p.log)), p.entries, p.core, m)
	p.out, p.entries = append(p.out, m), false
}

func (p *published) restart(cfg Config) (next [2]int) {
	var mark *event.SettledMark
	for _, x := range slices.Backward(p.log) {
		if m, ok := x.(*event.SettledMark); ok {
			mark = m
			break
		}
	}
	from := int64(0)
	if mark != nil {
		from, next = mark.ResumeSettled, [2]int{int(mark.ResumeWrites), int(mark.ResumeChanges)}
	}
	p.read = [2]int64{max(p.read[0], p.core.nextWrites), max(p.read[1], p.core.nextChanges)}
	p.out, p.entries = nil, false
	p.core = NewCore(cfg, p)
	p.core.Restore(mark, func(yield func(*event.Entry) bool) {
		for _, x := range p.log[from:] {
			if e, ok := x.(*event.Entry); ok && !yield(decoded(e)) {
				return
			}
		}
	})
	p.trail = trail{{from, p.read[0], p.read[1], p.core.highest}}
	return next
}

// decoded is the entry as a successor reads it.
func decoded(e *event.Entry) *event.Entry {
	x, err := event.DecodeEntry(event.Encode(e))
	if err != nil {
		panic(err)
	}
	return x
}

// script prints a history so that a failing one can be read.
func (h *history) script() string {
	s := ""
	for _, x := range h.writes {
		s += fmt.Sprintf("write %s %s [%d %d] answer %d shipped %d %s noKey=%v\n", x.w.ID, x.w.Key, x.start, x.end, x.answer, x.shipped, x.w.Result.Outcome, x.noKey)
	}
	for _, c := range h.changes {
		by := "dark"
		if c.by != nil {
			by = c.by.w.ID.String()
		}
		s += fmt.Sprintf("change %d %s at %d sent %d by %s\n", c.c.Position, c.c.Key, c.at, c.sent, by)
	}
	return s
}
