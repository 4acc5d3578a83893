package explain

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"banyan/diff"
	"banyan/proxy/event"
)

// overlap reports whether two different writes made these changes, at the same time.
func (x *explainer) overlap(a, b *Change) bool {
	if a.Cause != event.Effect || b.Cause != event.Effect || a.Write == b.Write {
		return false
	}
	u, v := x.Writes[a.Write], x.Writes[b.Write]
	return u != nil && slices.Contains(u.Overlaps, b.Write) || v != nil && slices.Contains(v.Overlaps, a.Write)
}

// known reports whether the events of a change would be among Events if there were any.
func (x *explainer) known(ch *Change) bool { return x.EventsKnown && ch.Position > x.EventsFrom }

// eventsOf are the events that this change caused: of its write at or above it, or named by its position.
func (x *explainer) eventsOf(ch *Change) []*event.Event {
	if !x.EventsKnown {
		return nil
	}
	at := fmt.Sprintf(":%s.%d", ch.Position, ch.Row.N)
	var out []*event.Event
	for _, e := range x.Events {
		if ch.Cause == event.Effect && e.Cause == ch.Write.String() || strings.HasSuffix(e.Cause, at) {
			out = append(out, e)
		}
	}
	return out
}

func (x *explainer) unmapped(ch *Change, column string) bool {
	return x.Mapped != nil && !x.Mapped(ch.Row.Table, column)
}

// who names what made a change.
func who(ch *Change) (string, []event.WriteID) {
	switch ch.Cause {
	case event.Effect:
		return "write " + ch.Write.String(), []event.WriteID{ch.Write}
	case event.Unattributed:
		if len(ch.Candidates) == 0 {
			return "an unattributed change at " + ch.Position.String(), nil
		}
		names := make([]string, len(ch.Candidates))
		for i, w := range ch.Candidates {
			names[i] = w.String()
		}
		return "one of the writes " + strings.Join(names, ", "), ch.Candidates
	case event.Imported:
		return "the import at " + ch.Position.String(), nil
	default:
		return "a dark change at " + ch.Position.String(), nil
	}
}

func changedColumns(r *event.RowChange) int {
	n := 0
	for c := range r.After {
		if r.Changed(c) {
			n++
		}
	}
	return n
}

// carries reports whether the event's data say v: under the column's name if they have that, else anywhere.
func carries(e *event.Event, column string, v diff.Value) bool {
	data, err := diff.Decode(e.Data)
	if err != nil {
		return false
	}
	if m := data.Member(column); m.Kind() != diff.Missing {
		return alike(m, v)
	}
	return holds(data, v)
}

func carriesAnywhere(e *event.Event, v diff.Value) bool {
	data, err := diff.Decode(e.Data)
	return err == nil && holds(data, v)
}

func holds(data, v diff.Value) bool {
	for i := range data.Len() {
		if alike(data.MemberAt(i).Value, v) {
			return true
		}
	}
	return false
}

// likeness is what makes two notations of one value alike.
var likeness = func() *diff.Rules {
	r, err := diff.Compile([]diff.Rule{{At: "", Loose: diff.Words{"numeric_string", "bool_number"}}, {At: "", Clock: 1}})
	if err != nil {
		panic("explain: " + err.Error()) // a bug
	}
	return r
}()

func alike(a, b diff.Value) bool {
	if a.Kind() == diff.Missing || b.Kind() == diff.Missing {
		return a.Kind() == b.Kind()
	}
	if a.Kind() == diff.String && b.Kind() == diff.String {
		return a.Text() == b.Text()
	}
	r := diff.Compare(a, b, likeness, diff.Options{Keep: 1})
	return r.Equal()
}

// of makes a value of a row image's column.
func of(v any) diff.Value {
	switch v := v.(type) {
	case nil:
		return diff.NewNull()
	case bool:
		return diff.NewBool(v)
	case json.Number:
		if n, ok := diff.NewNumber(v.String()); ok {
			return n
		}
		return diff.NewString(v.String())
	case string:
		return diff.NewString(v)
	}
	return diff.NewString(fmt.Sprint(v))
}

// trivial values stand in too many columns to prove anything.
func trivial(v diff.Value) bool {
	switch v.Kind() {
	case diff.Number, diff.String:
		return slices.Contains([]string{"", "0", "1", "-1", "0.0", "1.0"}, v.Text())
	default:
		return true
	}
}

func short(v diff.Value) string {
	if v.Kind() == diff.Missing {
		return "nothing"
	}
	return v.Short(60)
}

func clipText(s string, n int) string {
	if len(s) > n {
		return strings.ToValidUTF8(s[:n], "") + "…"
	}
	return s
}
