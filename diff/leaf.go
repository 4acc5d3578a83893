package diff

import (
	"fmt"
	"math"
	"strconv"
)

// leaf compares two values that are not both objects nor both lists.
func (w *walker) leaf(s *scope, a, b *Value) {
	scalars := a.kind != Object && a.kind != List && b.kind != Object && b.kind != List
	if s.n.opaque != nil && scalars {
		w.opaque(s, a, b)
		return
	}
	if s.n.counter != nil {
		if x, y, ok := numbers(s, a, b); ok {
			w.counter(s, a, b, x, y)
			return
		}
	}
	if same(a, b) {
		w.equal(1)
		return
	}
	near := ""
	if c := s.n.clock; c != nil {
		ok, why := w.clock(c, a, b)
		if ok {
			w.use(c, "clock")
			w.equal(1)
			return
		}
		near = why
	}
	if c := s.n.countdown; c != nil {
		ok, why := w.countdown(c, a, b)
		if ok {
			w.use(c, "countdown")
			w.equal(1)
			return
		}
		near = why
	}
	if c := s.n.within; c != nil {
		if x, y, ok := numbers(s, a, b); ok {
			ok, over := c.within.within(x, y)
			if ok {
				w.use(c, "within")
				w.equal(1)
				return
			}
			near = "within " + c.within.text + " does not reach"
			if over != "" {
				near = "within " + c.within.text + " exceeded by " + over
			}
		}
	}
	if l := looseEqual(a, b); l != 0 && s.allows(l) {
		w.use(s.loose, looseName(l))
		w.equal(1)
		return
	}
	if near == "" {
		near = looseHint(s, a, b)
	}
	class := ClassValue
	if a.kind != b.kind {
		class = ClassType
	}
	w.differ(s, class, a, b, near)
}

// opaque learns, so it also takes values that are equal.
func (w *walker) opaque(s *scope, a, b *Value) {
	if a.kind != b.kind {
		if l := looseEqual(a, b); l == 0 || !s.allows(l) {
			w.differ(s, ClassType, a, b, "opaque takes values of one kind")
			return
		}
	}
	why := w.learned().bind(s.n.opaque.text, a, b, w.probe)
	if why != "" {
		w.differ(s, ClassValue, a, b, why)
		return
	}
	if !same(a, b) {
		w.use(s.n.opaque, "opaque")
	}
	w.equal(1)
}

func (w *walker) learned() *Session {
	if w.session == nil {
		w.session = NewSession()
	}
	return w.session
}

func (w *walker) counter(s *scope, a, b *Value, x, y string) {
	if !w.probe {
		if why := w.learned().count(string(w.path()), x, y); why != "" {
			w.differ(s, ClassValue, a, b, why)
			return
		}
	}
	if !same(a, b) {
		w.use(s.n.counter, "counter")
	}
	w.equal(1)
}

func (w *walker) clock(c *compiled, a, b *Value) (bool, string) {
	x, okA := instant(a)
	y, okB := instant(b)
	if !okA || !okB {
		return false, "clock: not an instant"
	}
	later := y.Sub(x)
	apart := min(later.Abs(), (later - w.opt.Elapsed).Abs())
	if apart <= c.rule.Clock {
		return true, ""
	}
	return false, fmt.Sprintf("clock %s exceeded by %s", c.rule.Clock, apart-c.rule.Clock)
}

// countdown takes seconds that run down to zero, and ran on between the two answers.
func (w *walker) countdown(c *compiled, a, b *Value) (bool, string) {
	x, errA := strconv.ParseFloat(a.text, 64)
	y, errB := strconv.ParseFloat(b.text, 64)
	if a.kind != Number || b.kind != Number || errA != nil || errB != nil {
		return false, "countdown: not a number"
	}
	bound := c.rule.Countdown.Seconds()
	apart := min(math.Abs(x-y), math.Abs(max(0, x-w.opt.Elapsed.Seconds())-y))
	if apart <= bound {
		return true, ""
	}
	return false, fmt.Sprintf("countdown %s exceeded by %gs", c.rule.Countdown, apart-bound)
}

// numbers reads both values as numbers: two numbers, two strings that hold
// numbers as a database writes decimals, or one of each where looseness allows.
func numbers(s *scope, a, b *Value) (x, y string, ok bool) {
	if !numeric(a) || !numeric(b) || a.kind != b.kind && !s.allows(numericString) {
		return "", "", false
	}
	return a.text, b.text, true
}

func numeric(v *Value) bool {
	return v.kind == Number || v.kind == String && isNumber(v.text)
}

// looseEqual says which kind of looseness makes a and b equal, or 0. It is
// symmetric, and each pair of values has one kind at most.
func looseEqual(a, b *Value) loose {
	if a.kind > b.kind {
		a, b = b, a
	}
	switch {
	case a.kind == Missing && b.kind == Null:
		return nullMissing
	case a.kind == Null && b.kind == String && b.text == "":
		return nullEmpty
	case a.kind == Number && b.kind == String && isNumber(b.text) && compareDecimals(a.text, b.text):
		return numericString
	case a.kind == List && b.kind == Object && len(a.items) == 0 && len(b.items) == 0:
		return emptyContainer
	case a.kind == Bool && b.kind == Number && compareDecimals(b.text, boolDigit(a)):
		return boolNumber
	case a.kind == Bool && b.kind == String && (b.text == boolDigit(a) || b.text == "" && a.text == "false"):
		return boolNumber
	}
	return 0
}

func boolDigit(v *Value) string {
	if v.text == "true" {
		return "1"
	}
	return "0"
}

// looseHint names the looseness that would have made a difference equal.
func looseHint(s *scope, a, b *Value) string {
	if l := looseEqual(a, b); l != 0 && !s.allows(l) {
		return "loose " + looseName(l) + " would take it"
	}
	return ""
}
