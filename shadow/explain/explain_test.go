package explain

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"banyan/diff"
	"banyan/proxy/event"
)

func id(s string) event.WriteID {
	w, err := event.ParseWriteID(s)
	if err != nil {
		panic(err)
	}
	return w
}

func js(s string) diff.Value {
	v, err := diff.Decode([]byte(s))
	if err != nil {
		panic(err)
	}
	return v
}

func row(s string) event.Values {
	if s == "" {
		return nil
	}
	var v event.Values
	if err := json.Unmarshal([]byte(s), &v); err != nil {
		panic(err)
	}
	return v
}

// by is a change of units made by a write, "dark", or "one of" writes.
func by(who string, at event.Position, before, after string) Change {
	c := Change{Position: at, Row: event.RowChange{Table: "units", Op: event.Update, Before: row(before), After: row(after)}}
	switch {
	case before == "":
		c.Row.Op = event.Insert
	case after == "":
		c.Row.Op = event.Delete
	}
	switch names, several := strings.CutPrefix(who, "one of "); {
	case who == "dark":
		c.Cause = event.Dark
	case several:
		c.Cause = event.Unattributed
		for _, n := range strings.Fields(names) {
			c.Candidates = append(c.Candidates, id(n))
		}
	default:
		c.Cause, c.Write = event.Effect, id(who)
	}
	return c
}

func writes(ws ...event.SettledWrite) map[event.WriteID]*event.SettledWrite {
	m := map[event.WriteID]*event.SettledWrite{}
	for _, w := range ws {
		m[w.Write.ID] = &w
	}
	return m
}

func write(name string, verdict event.Verdict, overlaps ...string) event.SettledWrite {
	w := event.SettledWrite{Verdict: verdict}
	w.Write.ID = id(name)
	for _, o := range overlaps {
		w.Overlaps = append(w.Overlaps, id(o))
	}
	return w
}

func made(cause, data string) *event.Event {
	return &event.Event{ID: "e-" + cause, Type: "game.unit.moved", Version: 2, Subject: "unit/1", Cause: cause, Data: json.RawMessage(data)}
}

var nothingMapped = func(string, string) bool { return false }

type story struct {
	name string
	Case
	cause Cause
	says  []string // of the sentence
}

// each case is the smallest that shows its rule; the ones beside it show what must not be claimed.
var stories = []story{
	{"legacy answers twice", Case{Answer: true, Legacy: js(`5`), Candidate: js(`6`), Again: new(js(`7`))}, Nondeterminism, []string{"5", "7"}},
	{"legacy answers the same twice", Case{Answer: true, Legacy: js(`5`), Candidate: js(`60`), Again: new(js(`"5"`))}, Unknown, nil},
	{"the tables agree with legacy", Case{Answer: true, Legacy: js(`5`), Candidate: js(`60`), Model: new(js(`"5"`))}, StaleCache, []string{"5", "60"}},
	{"rows have no cache", Case{Legacy: js(`5`), Candidate: js(`60`), Model: new(js(`5`))}, Unknown, nil},

	{"a write's value is missing", Case{Legacy: js(`97`), Candidate: js(`100`),
		Changes: []Change{by("a.1.1", 10, `{"hp":100}`, `{"hp":97}`)}}, MissingWrite, []string{"a.1.1", "100", "97"}},
	{"two writes are missing: the first is named", Case{Legacy: js(`90`), Candidate: js(`100`),
		Changes: []Change{by("a.1.1", 10, `{"hp":100}`, `{"hp":97}`), by("a.1.2", 11, `{"hp":97}`, `{"hp":90}`)}}, MissingWrite, []string{"a.1.1"}},
	{"one of several writes is missing", Case{Legacy: js(`97`), Candidate: js(`100`),
		Changes: []Change{by("one of a.1.1 b.1.1", 10, `{"hp":100}`, `{"hp":97}`)}}, MissingWrite, []string{"one of", "a.1.1", "b.1.1"}},
	{"no event was made", Case{Legacy: js(`97`), Candidate: js(`100`), EventsKnown: true,
		Changes: []Change{by("a.1.1", 10, `{"hp":100}`, `{"hp":97}`)}}, MissingWrite, []string{"no event"}},
	{"the event is older than what is known", Case{Legacy: js(`97`), Candidate: js(`100`), EventsKnown: true, EventsFrom: 10,
		Changes: []Change{by("a.1.1", 10, `{"hp":100}`, `{"hp":97}`)}}, MissingWrite, []string{"does not have it"}},
	{"the event is there, the model lacks it", Case{Legacy: js(`97`), Candidate: js(`100`), EventsKnown: true,
		Changes: []Change{by("a.1.1", 10, `{"hp":100}`, `{"hp":97}`)}, Events: []*event.Event{made("a.1.1", `{"hp":97}`)}}, MissingWrite, []string{"e-a.1.1", "the model does not"}},
	{"the key is parked", Case{Legacy: js(`97`), Candidate: js(`100`), Parked: "no such column: hp",
		Changes: []Change{by("a.1.1", 10, `{"hp":100}`, `{"hp":97}`)}}, MissingWrite, []string{"no such column"}},
	{"the value is nowhere in the history", Case{Legacy: js(`97`), Candidate: js(`55`),
		Changes: []Change{by("a.1.1", 10, `{"hp":100}`, `{"hp":97}`)}}, Unknown, nil},
	{"the row's insert is missing", Case{Legacy: js(`{"id":1}`), Entity: "unit/1",
		Changes: []Change{by("a.1.1", 10, ``, `{"id":1}`)}}, MissingWrite, []string{"a.1.1", "inserted unit/1"}},
	{"the row's delete is missing", Case{Candidate: js(`{"id":1}`), Entity: "unit/1",
		Changes: []Change{by("a.1.1", 10, `{"id":1}`, ``)}}, MissingWrite, []string{"a.1.1", "deleted unit/1"}},

	{"an event of a rejected write", Case{Legacy: js(`97`), Candidate: js(`42`), Entity: "unit/1", EventsKnown: true,
		Events: []*event.Event{made("a.1.1", `{"hp":42}`)}, Writes: writes(write("a.1.1", event.VerdictRejected))}, ExtraWrite, []string{"a.1.1", "was rejected", "42"}},
	{"a row by a write without effect", Case{Candidate: js(`{"id":1}`), Entity: "unit/1", EventsKnown: true,
		Events: []*event.Event{made("a.1.1", `{}`)}, Writes: writes(write("a.1.1", event.VerdictApplied))}, ExtraWrite, []string{"a.1.1", "changed nothing"}},
	{"a row that nobody recorded", Case{Candidate: js(`{"id":1}`), Entity: "unit/1"}, Unknown, nil},
	{"an event of a write that did it", Case{Candidate: js(`{"id":1}`), Entity: "unit/1", EventsKnown: true,
		Changes: []Change{by("a.1.1", 10, `{"hp":1}`, `{"hp":2}`)}, Events: []*event.Event{made("a.1.1", `{}`)},
		Writes: writes(write("a.1.1", event.VerdictApplied))}, Unknown, nil},

	{"the event has another value", Case{Legacy: js(`97`), Candidate: js(`42`), EventsKnown: true,
		Changes: []Change{by("a.1.1", 10, `{"hp":100}`, `{"hp":97}`)}, Events: []*event.Event{made("a.1.1", `{"hp":42}`)}}, Translation, []string{"a.1.1", "e-a.1.1", "42"}},
	{"the event has the value from before", Case{Legacy: js(`97`), Candidate: js(`100`), EventsKnown: true,
		Changes: []Change{by("a.1.1", 10, `{"hp":100}`, `{"hp":97}`)}, Events: []*event.Event{made("a.1.1", `{"hp":100}`)}}, Translation, []string{"a.1.1", `{"hp":100}`}},
	{"the event of a dark change", Case{Legacy: js(`97`), Candidate: js(`42`), EventsKnown: true,
		Changes: []Change{by("dark", 10, `{"hp":100}`, `{"hp":97}`)}, Events: []*event.Event{made("dark:0/A.0", `{"hp":42}`)}}, Translation, []string{"0/A", "42"}},
	{"the candidate has another column's value", Case{Path: "/province", Legacy: js(`5`), Candidate: js(`77`),
		Changes: []Change{by("a.1.1", 10, `{"province_id":4,"target_id":0}`, `{"province_id":5,"target_id":77}`)}}, Translation, []string{"a.1.1", "target_id"}},
	{"0 stands in many columns", Case{Path: "/province", Legacy: js(`5`), Candidate: js(`0`),
		Changes: []Change{by("a.1.1", 10, `{"province_id":4,"target_id":9}`, `{"province_id":5,"target_id":0}`)}}, Unknown, nil},

	{"the event is right, what applies it is not", Case{Path: "/name", Legacy: js(`"a long name"`), Candidate: js(`"a lon"`), EventsKnown: true,
		Changes: []Change{by("a.1.1", 10, `{"name":"x"}`, `{"name":"a long name"}`)}, Events: []*event.Event{made("a.1.1", `{"name":"a long name"}`)}}, Projection, []string{"a.1.1", "e-a.1.1", "game.unit.moved@2", "a lon"}},
	{"an answer may be wrong behind the tables", Case{Answer: true, Path: "/name", Legacy: js(`"a long name"`), Candidate: js(`"a lon"`), EventsKnown: true,
		Changes: []Change{by("a.1.1", 10, `{"name":"x"}`, `{"name":"a long name"}`)}, Events: []*event.Event{made("a.1.1", `{"name":"a long name"}`)}}, Unknown, nil},
	{"whether there was an event is not known", Case{Path: "/name", Legacy: js(`"a long name"`), Candidate: js(`"a lon"`),
		Changes: []Change{by("a.1.1", 10, `{"name":"x"}`, `{"name":"a long name"}`)}, Events: []*event.Event{made("a.1.1", `{"name":"a long name"}`)}}, Unknown, nil},

	{"two overlapping writes the other way round", Case{Path: "/to", Legacy: js(`8`), Candidate: js(`7`), EventsKnown: true,
		Changes: []Change{by("a.1.1", 10, `{"to":5}`, `{"to":7}`), by("b.1.1", 11, `{"to":7}`, `{"to":8}`)},
		Events:  []*event.Event{made("b.1.1", `{"to":8}`), made("a.1.1", `{"to":7}`)},
		Writes:  writes(write("a.1.1", event.VerdictApplied, "b.1.1"))}, Ordering, []string{"a.1.1", "b.1.1"}},
	{"three, of which the first came last", Case{Path: "/to", Legacy: js(`9`), Candidate: js(`7`),
		Changes: []Change{by("a.1.1", 10, `{"to":5}`, `{"to":7}`), by("b.1.1", 11, `{"to":7}`, `{"to":8}`), by("c.1.1", 12, `{"to":8}`, `{"to":9}`)},
		Writes:  writes(write("a.1.1", event.VerdictApplied, "b.1.1", "c.1.1"))}, Ordering, []string{"a.1.1", "c.1.1"}},
	{"the last of them has no event", Case{Path: "/to", Legacy: js(`8`), Candidate: js(`7`), EventsKnown: true,
		Changes: []Change{by("a.1.1", 10, `{"to":5}`, `{"to":7}`), by("b.1.1", 11, `{"to":7}`, `{"to":8}`)},
		Events:  []*event.Event{made("a.1.1", `{"to":7}`)},
		Writes:  writes(write("a.1.1", event.VerdictApplied, "b.1.1"))}, MissingWrite, []string{"b.1.1"}},
	{"a write that changed it twice", Case{Path: "/to", Legacy: js(`8`), Candidate: js(`7`),
		Changes: []Change{by("a.1.1", 10, `{"to":5}`, `{"to":7}`), by("a.1.1", 11, `{"to":7}`, `{"to":8}`)},
		Writes:  writes(write("a.1.1", event.VerdictApplied, "b.1.1"))}, MissingWrite, []string{"a.1.1"}},
	{"they do not overlap", Case{Path: "/to", Legacy: js(`8`), Candidate: js(`7`),
		Changes: []Change{by("a.1.1", 10, `{"to":5}`, `{"to":7}`), by("b.1.1", 11, `{"to":7}`, `{"to":8}`)},
		Writes:  writes(write("a.1.1", event.VerdictApplied))}, MissingWrite, []string{"b.1.1"}},

	{"a dark change nobody maps", Case{Legacy: js(`97`), Candidate: js(`100`), Mapped: nothingMapped,
		Changes: []Change{by("dark", 10, `{"hp":100}`, `{"hp":97}`)}}, DarkWrite, []string{"units.hp", "100", "97"}},
	{"a dark change after others", Case{Legacy: js(`97`), Candidate: js(`31`), Mapped: nothingMapped,
		Changes: []Change{by("dark", 10, `{"hp":100}`, `{"hp":97}`)}}, DarkWrite, []string{"units.hp"}},
	{"a dark insert", Case{Legacy: js(`{"id":1}`), Entity: "unit/1", Mapped: nothingMapped,
		Changes: []Change{by("dark", 10, ``, `{"id":1}`)}}, DarkWrite, []string{"inserted"}},
	{"a dark change that is mapped", Case{Legacy: js(`97`), Candidate: js(`100`), Mapped: func(table, column string) bool { return table == "units" && column == "hp" },
		Changes: []Change{by("dark", 10, `{"hp":100}`, `{"hp":97}`)}}, MissingWrite, []string{"dark change"}},
	{"whether it is mapped is not known", Case{Legacy: js(`97`), Candidate: js(`31`),
		Changes: []Change{by("dark", 10, `{"hp":100}`, `{"hp":97}`)}}, Unknown, nil},

	{"a whole row written back", Case{Path: "/name", Legacy: js(`"old"`), Candidate: js(`"new"`),
		Changes: []Change{by("a.1.1", 10, `{"name":"old","hp":1}`, `{"name":"new","hp":1}`), by("b.1.1", 11, `{"name":"new","hp":1}`, `{"name":"old","hp":2}`)},
		Writes:  writes(write("b.1.1", event.VerdictApplied, "a.1.1"))}, LostUpdate, []string{"a.1.1", "b.1.1", "old"}},
	{"one column set back is an order", Case{Path: "/name", Legacy: js(`"old"`), Candidate: js(`"new"`),
		Changes: []Change{by("a.1.1", 10, `{"name":"old","hp":1}`, `{"name":"new","hp":1}`), by("b.1.1", 11, `{"name":"new","hp":1}`, `{"name":"old","hp":1}`)},
		Writes:  writes(write("b.1.1", event.VerdictApplied, "a.1.1"))}, Ordering, nil},
	{"a purse that forgot one order", Case{Path: "/gold", Legacy: js(`80.5`), Candidate: js(`"70.50"`), EventsKnown: true,
		Changes: []Change{by("a.1.1", 10, `{"gold":100.5}`, `{"gold":90.5}`), by("b.1.1", 11, `{"gold":90.5}`, `{"gold":80.5}`)},
		Events:  []*event.Event{made("a.1.1", `{"spent":10}`), made("b.1.1", `{"spent":20}`)},
		Writes:  writes(write("a.1.1", event.VerdictApplied, "b.1.1"))}, LostUpdate, []string{"a.1.1", "b.1.1", "lacks exactly"}},
	{"the candidate may have counted it twice", Case{Path: "/gold", Legacy: js(`80`), Candidate: js(`70`),
		Changes: []Change{by("a.1.1", 10, `{"gold":100}`, `{"gold":90}`), by("b.1.1", 11, `{"gold":90}`, `{"gold":80}`)},
		Writes:  writes(write("a.1.1", event.VerdictApplied, "b.1.1"))}, Unknown, nil},

	{"two events of one order", Case{Path: "/gold", Legacy: js(`80`), Candidate: js(`70`), EventsKnown: true,
		Changes: []Change{by("a.1.1", 10, `{"gold":100}`, `{"gold":90}`), by("b.1.1", 11, `{"gold":90}`, `{"gold":80}`)},
		Events:  []*event.Event{made("a.1.1", `{"spent":10}`), made("a.1.1", `{"spent":10}`), made("b.1.1", `{"spent":10}`)},
		Writes:  writes(write("a.1.1", event.VerdictApplied, "b.1.1"))}, Unknown, nil},
	{"an order whose events are not all known", Case{Path: "/gold", Legacy: js(`80`), Candidate: js(`70`), EventsKnown: true, EventsFrom: 10,
		Changes: []Change{by("a.1.1", 10, `{"gold":100}`, `{"gold":90}`), by("b.1.1", 11, `{"gold":90}`, `{"gold":80}`)},
		Events:  []*event.Event{made("a.1.1", `{"spent":10}`), made("b.1.1", `{"spent":10}`)},
		Writes:  writes(write("a.1.1", event.VerdictApplied, "b.1.1"))}, Unknown, nil},

	{"a 32-bit float", Case{Legacy: js(`12345.67`), Candidate: js(`12345.669921875`)}, Rounding, nil},
	{"rounded to two places", Case{Legacy: js(`0.125`), Candidate: js(`0.13`)}, Rounding, nil},
	{"cut to an integer", Case{Legacy: js(`812.9`), Candidate: js(`812`)}, Rounding, nil},
	{"a cent apart is no rounding", Case{Legacy: js(`812.91`), Candidate: js(`812.92`)}, Unknown, nil},
	{"whole numbers are not rounded", Case{Legacy: js(`16777217`), Candidate: js(`16777216`)}, Unknown, nil},
	{"one hour off", Case{Legacy: js(`"2026-03-01 12:00:00"`), Candidate: js(`"2026-03-01T13:00:00Z"`)}, TimeZone, []string{"1 hours"}},
	{"two hours off in seconds", Case{Legacy: js(`1772366400`), Candidate: js(`1772359200`)}, TimeZone, []string{"-2 hours"}},
	{"ten minutes off are no zone", Case{Legacy: js(`"2026-03-01 12:00:00"`), Candidate: js(`"2026-03-01 12:10:00"`)}, Unknown, nil},
	{"a day off is no zone", Case{Legacy: js(`"2026-03-01 12:00:00"`), Candidate: js(`"2026-03-02 12:00:00"`)}, Unknown, nil},
	{"3600 gold more are no hour", Case{Legacy: js(`5000`), Candidate: js(`8600`)}, Unknown, nil},
	{"UTF-8 read as Latin-1", Case{Legacy: js(`"Düne"`), Candidate: js(`"DÃ¼ne"`)}, Charset, nil},
	{"the other side misread", Case{Legacy: js(`"DÃ¼ne"`), Candidate: js(`"Düne"`)}, Charset, nil},
	{"UTF-8 read as Windows-1252", Case{Legacy: js(`"5 €"`), Candidate: js(`"5 â‚¬"`)}, Charset, nil},
	{"letters lost", Case{Legacy: js(`"Düne"`), Candidate: js(`"D?ne"`)}, Charset, nil},
	{"other letters", Case{Legacy: js(`"Düne"`), Candidate: js(`"Dane"`)}, Unknown, nil},

	{"columns that tell different stories", Case{Path: "/x", Legacy: js(`97`), Candidate: js(`100`), Mapped: nothingMapped,
		Changes: []Change{by("a.1.1", 10, `{"hp":100,"mp":5}`, `{"hp":97,"mp":5}`), by("dark", 11, `{"hp":97,"mp":100}`, `{"hp":97,"mp":97}`)}}, Unknown, []string{"different stories"}},
}

func TestStories(t *testing.T) {
	for _, s := range stories {
		t.Run(s.name, func(t *testing.T) {
			if s.Path == "" && (s.Legacy.Kind() == diff.Missing || s.Legacy.Kind() != diff.Object) && s.Candidate.Kind() != diff.Object {
				s.Path = "/hp"
			}
			e := Explain(&s.Case)
			if e.Cause != s.cause {
				t.Fatalf("%s: %s; want %s", e.Cause, e.Why, s.cause)
			}
			for _, word := range s.says {
				if !strings.Contains(e.Why, word) {
					t.Errorf("%q does not say %q", e.Why, word)
				}
			}
			for _, w := range e.Writes {
				if !strings.Contains(e.Why, w.String()) {
					t.Errorf("%q does not name %s", e.Why, w)
				}
			}
		})
	}
}

func TestEveryCauseHasAStory(t *testing.T) {
	for _, c := range []Cause{MissingWrite, ExtraWrite, Translation, Projection, Ordering, DarkWrite, LostUpdate, Nondeterminism, StaleCache, Rounding, TimeZone, Charset, Unknown} {
		if !slices.ContainsFunc(stories, func(s story) bool { return s.cause == c }) {
			t.Errorf("%s has none", c)
		}
	}
}

// No values cause a panic, and the same case gives the same explanation.
func FuzzExplain(f *testing.F) {
	f.Add(`97`, `100`, `{"hp":100}`, `{"hp":97}`, `{"hp":97}`, "/hp")
	f.Add(`{"id":1}`, ``, `{}`, `{"id":1}`, `[]`, "")
	f.Add(`1e99`, `"1e999999999"`, `{"a":"2026-03-01 12:00:00"}`, `{"a":null}`, `{`, "/a/~0b")
	f.Fuzz(func(t *testing.T, legacy, candidate, before, after, data, path string) {
		c := Case{Path: diff.Path(path), Entity: "unit/1", EventsKnown: true, Mapped: nothingMapped, Events: []*event.Event{made("a.1.1", data)},
			Writes: writes(write("a.1.1", event.VerdictApplied, "b.1.1"))}
		c.Legacy, _ = diff.Decode([]byte(legacy))
		c.Candidate, _ = diff.Decode([]byte(candidate))
		var b, a event.Values
		_, _ = json.Unmarshal([]byte(before), &b), json.Unmarshal([]byte(after), &a)
		for i, w := range []event.WriteID{id("a.1.1"), id("b.1.1")} {
			c.Changes = append(c.Changes, Change{Position: event.Position(i + 1), Cause: event.Effect, Write: w, Row: event.RowChange{Table: "t", Op: event.Update, Before: b, After: a}})
			a, b = b, a
		}
		e := Explain(&c)
		if e.Cause == "" || e.Why == "" {
			t.Fatalf("%+v", e)
		}
		if again := Explain(&c); again.Why != e.Why {
			t.Fatalf("%q, then %q", e.Why, again.Why)
		}
	})
}
