package compare

import (
	"testing"
	"time"

	"banyan/proxy/event"
)

// A fence bounds a read only if it was over before the read began, or began after the read was over.
func TestFencesAroundARead(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	at := func(ms int) time.Time { return now.Add(time.Duration(ms) * time.Millisecond) }
	x := NewIndex(IndexConfig{Migration: migration})
	x.Mark(&event.SettledMark{Position: 40, Fences: []event.Fence{
		{Sent: at(0), Position: 10, Answered: at(5)}, {Sent: at(10), Position: 20, Answered: at(15)}, {Sent: at(20), Position: 30, Answered: at(25)}}}, now)
	for _, c := range []struct {
		ms     int
		before event.Position // 0: none
		after  event.Position
	}{{0, 0, 20}, {5, 0, 20}, {6, 10, 20}, {10, 10, 30}, {12, 10, 30}, {15, 10, 30}, {16, 20, 30}, {20, 20, 0}, {26, 30, 0}} {
		before, ok := x.Before(at(c.ms))
		if before != c.before || ok != (c.before != 0) {
			t.Errorf("before %d ms: %d %v, want %d", c.ms, before, ok, c.before)
		}
		after, ok := x.After(at(c.ms))
		if after != c.after || ok != (c.after != 0) {
			t.Errorf("after %d ms: %d %v, want %d", c.ms, after, ok, c.after)
		}
	}
}

func TestAMovedRowTouchesBoth(t *testing.T) {
	x := NewIndex(IndexConfig{Migration: migration, Entity: entityOf})
	row := event.RowChange{Table: "units", Op: event.Update, Before: event.Values{"id": num(1)}, After: event.Values{"id": num(2)}}
	x.Add(&event.Entry{Key: match, From: 5, To: 5, Changes: []event.SettledChange{{Position: 5, Rows: []event.RowChange{row}}}}, 1, time.Time{})
	touched := x.Touched(match, 4, 5, nil)
	if len(touched.Entities) != 2 || touched.Wild {
		t.Fatalf("%+v", touched)
	}
	if keys := x.TouchedKeys(4, 5, nil); len(keys[match].Entities) != 2 {
		t.Fatalf("%+v", keys)
	}
}

// What has no key, or no entity, can show anywhere.
func TestAChangeWithoutAKeyTouchesEveryKey(t *testing.T) {
	x := NewIndex(IndexConfig{Migration: migration, Entity: entityOf})
	row := event.RowChange{Table: "rules", Op: event.Update, Before: event.Values{"x": num(1)}, After: event.Values{"x": num(2)}}
	x.Add(&event.Entry{Key: "", From: 5, To: 5, Changes: []event.SettledChange{{Position: 5, Rows: []event.RowChange{row}}}}, 1, time.Time{})
	if touched := x.Touched(match, 4, 5, nil); !touched.Wild {
		t.Fatalf("%+v", touched)
	}
	if touched := x.Touched(match, 4, 5, NewTables([]string{"units"})); touched.Any() {
		t.Fatalf("another table matters: %+v", touched)
	}
}

func TestTables(t *testing.T) {
	change := func(table string, op event.Op, column string) *event.RowChange {
		r := &event.RowChange{Table: table, Op: op, Before: event.Values{"a": num(1), "b": num(1)}, After: event.Values{"a": num(1), "b": num(1)}}
		r.After[column] = num(2)
		return r
	}
	for _, c := range []struct {
		tables []string
		row    *event.RowChange
		want   bool
	}{
		{nil, change("t", event.Update, "a"), true},
		{[]string{"t"}, change("t", event.Update, "a"), true},
		{[]string{"u"}, change("t", event.Update, "a"), false},
		{[]string{"t.a"}, change("t", event.Update, "a"), true},
		{[]string{"t.a"}, change("t", event.Update, "b"), false},
		{[]string{"t.a", "t.b"}, change("t", event.Update, "b"), true},
		{[]string{"t.a", "t"}, change("t", event.Update, "b"), true},
		{[]string{"t", "t.a"}, change("t", event.Update, "b"), true},
		{[]string{"t.a"}, change("t", event.Insert, "b"), true},
		{[]string{"t.a"}, change("t", event.Delete, "b"), true},
	} {
		if got := NewTables(c.tables).Matter(c.row); got != c.want {
			t.Errorf("%v of %v: %v", c.tables, c.row, got)
		}
	}
}

func TestIndexIsBoundedByBytes(t *testing.T) {
	x := NewIndex(IndexConfig{Migration: migration, Entity: entityOf, MaxBytes: 1000})
	x.Begin()
	now := time.Now()
	for i := range 100 {
		at := event.Position(i + 1)
		x.Add(&event.Entry{Key: match, From: at, To: at}, 100, now)
		x.AddEvent(&event.Event{Key: match, Position: at}, 100, now)
	}
	x.Mark(&event.SettledMark{Position: 100}, now)
	if x.bytes > 1000 || len(x.keys[match].entries) > 10 || len(x.keys[match].events) > 10 {
		t.Fatalf("%d bytes, %d entries", x.bytes, len(x.keys[match].entries))
	}
	if s := x.Knows(match, 50, 100); s != Aged {
		t.Fatal(s)
	}
	if s := x.Knows(match, 99, 100); s != Ready {
		t.Fatal(s)
	}
}
