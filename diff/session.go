package diff

import "fmt"

// Session is what comparing one document teaches about the next of the same
// session: which opaque value stands for which, and how far counters have come.
// Without one each comparison begins afresh. It is not safe for concurrent use;
// a session's answers have an order anyway.
type Session struct {
	forward  map[token]bound // legacy's value → the candidate's
	backward map[token]bound
	last     [2]map[string]string // per side: path → the counter there
}

// token is an opaque value within the rule that calls it so.
type token struct{ rule, value string }

// bound is what a token stands for, and how to show it.
type bound struct{ value, shown string }

// maxSession bounds each of a session's tables. Beyond it new tokens are
// differences that say so, and new counters are taken as they come.
const maxSession = 100_000

// NewSession begins a session.
func NewSession() *Session {
	return &Session{
		forward: map[token]bound{}, backward: map[token]bound{},
		last: [2]map[string]string{{}, {}},
	}
}

// bind takes a for b within rule. It says what speaks against it, or "". With
// peek nothing is learned.
func (s *Session) bind(rule string, a, b *Value, peek bool) string {
	from, to := a.Canonical(), b.Canonical()
	other, known := s.forward[token{rule, from}]
	owner, taken := s.backward[token{rule, to}]
	switch {
	case known && other.value != to:
		return "opaque: legacy's value stands for " + other.shown + " already"
	case taken && owner.value != from:
		return "opaque: the candidate's value stands for " + owner.shown + " already"
	case known || peek:
		return ""
	case len(s.forward) >= maxSession:
		return fmt.Sprintf("opaque: the session holds %d values, no more are learned", maxSession)
	}
	s.forward[token{rule, from}] = bound{to, b.Short(40)}
	s.backward[token{rule, to}] = bound{from, a.Short(40)}
	return ""
}

// count moves both counters at path on. It says what speaks against it, or "".
func (s *Session) count(path, a, b string) string {
	for side, now := range [2]string{a, b} {
		before, ok := s.last[side][path]
		if !ok && len(s.last[side]) >= maxSession {
			continue
		}
		s.last[side][path] = now
		if ok && lessNumber(now, before) {
			return "counter: " + [2]string{"legacy", "the candidate"}[side] + " went down from " + before
		}
	}
	return ""
}

func lessNumber(a, b string) bool {
	x, okA := rational(a)
	y, okB := rational(b)
	return okA && okB && x.Cmp(y) < 0
}
