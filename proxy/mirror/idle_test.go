package mirror

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"banyan/proxy/event"
	"banyan/proxy/journal"
	"banyan/proxy/kafka"
)

// idler is a mirror whose marks are an hour apart while nothing is recorded: one that comes then is one too many.
type idler struct {
	*reader
	m       *Mirror
	j       *journal.Journal
	records atomic.Bool
}

func startIdler(t *testing.T, k kafka.Config, execution time.Duration) *idler {
	x := &idler{j: openJournal(t, t.TempDir()), reader: read(t, k)}
	x.m = startMirror(t, x.j, k, func(c *Config) {
		c.MarkEvery, c.IdleMarkEvery, c.MaxExecution, c.Records = time.Millisecond, time.Hour, execution, x.records.Load
	})
	return x
}

// flip is what the proxy does when it obeys one.
func (x *idler) flip(records bool) {
	x.records.Store(records)
	x.m.Wake()
}

// rest waits for marks that say idle, after n others in each partition, and for proof that no more of them come: accounts
// go on.
func (x *idler) rest() {
	x.t.Helper()
	last := func(p int32) (m event.ReplicaMark) {
		if n := len(x.marks[p]); n > 0 {
			m = x.marks[p][n-1].v
		}
		return m
	}
	x.until("idle marks", func() bool {
		for p := range int32(partitions) {
			if !last(p).Idle {
				return false
			}
		}
		return true
	})
	marks, accounts := x.count(), 0
	x.until("accounts", func() bool {
		if accounts == 0 {
			accounts = len(x.accounts)
		}
		return len(x.accounts) >= accounts+10
	})
	if n := x.count(); n != marks {
		x.t.Fatalf("%d marks while nothing is recorded", n-marks)
	}
}

func (x *idler) count() (n int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, ms := range x.marks {
		n += len(ms)
	}
	return n
}

// close waits for marks that are close together, in each partition, and do not say idle.
func (x *idler) close() {
	x.t.Helper()
	from := map[int32]int{}
	x.until("marks at the short distance", func() bool {
		for p := range int32(partitions) {
			if from[p] == 0 {
				from[p] = len(x.marks[p])
			}
			if len(x.marks[p]) < from[p]+5 {
				return false
			}
			for _, m := range x.marks[p][from[p]+1:] { // the first may have been on its way
				if m.v.Idle {
					x.t.Fatalf("partition %d: idle marks while there is something to record", p)
				}
			}
		}
		return true
	})
}

// TestIdleMarksAreFarApart: with nothing to record there is one mark; a flip has the short distance back at once, and
// another one ends it.
func TestIdleMarksAreFarApart(t *testing.T) {
	x := startIdler(t, fake(t, "idle"), time.Millisecond)
	x.rest()
	for range 2 {
		x.flip(true)
		x.close()
		x.flip(false)
		x.rest()
	}
}

// TestAFlipBackLeavesNoWriteBehind: what is in flight at a flip to off keeps marks close until it is shipped, and no
// mark says idle before.
func TestAFlipBackLeavesNoWriteBehind(t *testing.T) {
	x := startIdler(t, fake(t, "back"), time.Millisecond)
	x.flip(true)
	x.close()
	seq := intend(t, x.j, "match/1", "")
	x.flip(false)
	x.close()
	if _, err := x.j.AppendOutcome(seq, journal.Outcome{Payload: resultOf(event.Applied)}); err != nil {
		t.Fatal(err)
	}
	x.rest()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.checkMarks()
	home := event.Partition("match/1", partitions)
	if len(x.writes[home]) != 1 {
		t.Fatalf("%d writes", len(x.writes[home]))
	}
	for _, m := range x.marks[home] {
		if m.v.Idle && m.v.Seq >= event.Seq(seq) && m.offset < x.writes[home][0].offset {
			t.Errorf("the mark at %d says idle, the write comes at %d", m.offset, x.writes[home][0].offset)
		}
	}
}

// TestALateWriteEndsTheRest: a request that began before a flip to off may be recorded long after it.
func TestALateWriteEndsTheRest(t *testing.T) {
	x := startIdler(t, fake(t, "late"), time.Millisecond)
	x.rest()
	seq := write(t, x.j, "match/1", "x")
	x.until("a mark that covers it", func() bool {
		ms := x.marks[event.Partition("match/1", partitions)]
		m := ms[len(ms)-1].v
		return m.Seq >= event.Seq(seq)
	})
	x.rest()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.checkMarks()
	for _, m := range x.marks[event.Partition("match/1", partitions)] {
		if m.v.Seq >= event.Seq(seq) && !m.v.Idle {
			return
		}
	}
	t.Error("the mark after a write says idle")
}

// TestInheritedWritesKeepMarksClose: what a predecessor left is not forgotten as soon as it is shipped.
func TestInheritedWritesKeepMarksClose(t *testing.T) {
	k, dir := fake(t, "heir"), t.TempDir()
	a := openJournal(t, dir)
	write(t, a, "match/1", "x")
	a.Close()
	x := &idler{j: openJournal(t, dir), reader: read(t, k)}
	x.m = startMirror(t, x.j, k, func(c *Config) {
		c.MarkEvery, c.IdleMarkEvery, c.MaxExecution, c.Records = time.Millisecond, time.Hour, time.Hour, x.records.Load
	})
	x.close()
}

// TestALeftOutMarkIsMadeUpFor: while the last marks are on their way no new ones are sent, which must not leave the news
// that the mirror rests to the end of the long distance.
func TestALeftOutMarkIsMadeUpFor(t *testing.T) {
	cfg := Config{MarkEvery: time.Millisecond, IdleMarkEvery: time.Hour, Records: func() bool { return false }}
	m := &Mirror{cfg: cfg, pulse: newPulse(cfg), alone: true}
	m.marking.Store(1)
	m.mark(t.Context(), &journal.Mark{})
	if d := time.Until(m.pulse.due); d > cfg.MarkEvery {
		t.Errorf("the next mark comes in %s", d)
	}
}

// TestPulse: the distances, to the moment.
func TestPulse(t *testing.T) {
	const ms = time.Millisecond
	records := false
	start := time.Now()
	p := newPulse(Config{MarkEvery: 50 * ms, IdleMarkEvery: 1000 * ms, MaxExecution: 300 * ms, Records: func() bool { return records }})
	for _, step := range []struct {
		at            time.Duration // since the start
		records, busy bool
		all           bool
		due           time.Duration
	}{
		{at: 0, all: true, due: 1000 * ms}, // the first is due at once
		{at: 999 * ms, due: 1000 * ms},
		{at: 1000 * ms, all: true, due: 2000 * ms},
		{at: 1010 * ms, records: true, all: true, due: 1060 * ms}, // a flip
		{at: 1059 * ms, records: true, due: 1060 * ms},
		{at: 1060 * ms, records: true, all: true, due: 1110 * ms},
		{at: 1100 * ms, busy: true, due: 1110 * ms}, // off, with a write in flight
		{at: 1300 * ms, busy: true, all: true, due: 1350 * ms},
		{at: 1350 * ms, all: true, due: 1400 * ms}, // it lingers
		{at: 1599 * ms, all: true, due: 1649 * ms},
		{at: 1600 * ms, all: true, due: 2600 * ms}, // that it rests is said at once
		{at: 2500 * ms, busy: true, all: true, due: 2550 * ms},
	} {
		records = step.records
		if all, due := p.beat(start.Add(step.at), step.busy), p.due.Sub(start); all != step.all || due != step.due {
			t.Fatalf("at %s: to all %t, due %s; want %t, %s", step.at, all, due, step.all, step.due)
		}
	}
}

// TestWakeEndsAWait: the one that is under way, or the next.
func TestWakeEndsAWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w waker
		wait := func() time.Duration {
			start := time.Now()
			ctx, cancel := w.wait(t.Context(), start.Add(time.Hour))
			defer cancel()
			<-ctx.Done()
			return time.Since(start)
		}
		time.AfterFunc(time.Minute, w.wake)
		if d := wait(); d != time.Minute {
			t.Errorf("woken after a minute, a wait took %s", d)
		}
		_ = wait() // a wake just as a wait ends may end the next one, too
		w.wake()
		if d := wait(); d != 0 {
			t.Errorf("woken before it began, a wait took %s", d)
		}
		if d := wait(); d != time.Hour {
			t.Errorf("a wake ends two waits: the second took %s", d)
		}
	})
}
