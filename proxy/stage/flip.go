package stage

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"banyan/proxy/event"
)

// Flip is one record of the control log: who changed what, when, why, on which evidence. It counts only if it expects
// the version that its migration has when its turn comes. A flip of the stage leaves the generations as they are, and a
// [Step] of the generations leaves stage and share.
type Flip struct {
	V         int             `json:"v"`
	ID        string          `json:"id"` // so that a client that timed out can recognise its own record
	Migration event.Migration `json:"migration"`
	Expect    uint64          `json:"expect"` // version of the state it was decided on
	From      State           `json:"from"`
	To        State           `json:"to"` // To.Version = Expect + 1
	Who       string          `json:"who"`
	Reason    string          `json:"reason"`
	At        time.Time       `json:"at"`
	Evidence  json.RawMessage `json:"evidence,omitempty"` // what the gates said at that moment
	Forced    bool            `json:"forced,omitempty"`   // gates were not passed; marked for ever
	Step      Step            `json:"step,omitempty"`     // of the generations; "" is a flip of the stage
	// Start is where a build begins to read the settled stream: an offset for each partition.
	Start []int64 `json:"start,omitempty"`
}

// FlipVersion is the version that this build writes.
const FlipVersion = 1

// DecodeFlip reads the JSON form.
func DecodeFlip(b []byte) (*Flip, error) {
	var f Flip
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("control record: %w", err)
	}
	if f.V < 1 || f.V > FlipVersion {
		return nil, fmt.Errorf("control record: version %d, this build reads 1 to %d: update it before its peers", f.V, FlipVersion)
	}
	return &f, nil
}

// Validate checks what can be checked without the log.
func (f *Flip) Validate() error {
	var errs []error
	if f.Migration == "" {
		errs = append(errs, errors.New("migration: none named"))
	}
	if f.Reason == "" {
		errs = append(errs, errors.New("reason: none given; the audit needs one"))
	}
	if f.To.Version != f.Expect+1 {
		errs = append(errs, fmt.Errorf("version: %d expects %d", f.To.Version, f.Expect))
	}
	if f.Step == Build && len(f.Start) == 0 {
		errs = append(errs, errors.New("start: a build says where it begins to read"))
	}
	return errors.Join(append(errs, Allowed(f.From, f.To))...)
}

// Outcome is the state that the record makes of the one it meets; what it is not about stays as it is.
func (f *Flip) Outcome(now State) (State, error) {
	to := f.To
	if f.Step == "" {
		to.Generations = now.Generations
		return to, Allowed(now, to)
	}
	var err error
	to.Stage, to.Share = now.Stage, now.Share
	to.Generations, err = now.Generations.after(f.Step)
	return to, err
}

// Describe is what the record did, for people: "live 10%", "build generation 2".
func (f *Flip) Describe() string {
	switch f.Step {
	case "":
		return f.To.String()
	case Build:
		return fmt.Sprintf("build generation %d", f.To.Building)
	case Swap:
		return fmt.Sprintf("generation %d is current", f.To.Current())
	case Abandon:
		return fmt.Sprintf("generation %d abandoned", f.From.Building)
	case Retire:
		return fmt.Sprintf("generation %d retired", f.From.Retiring)
	}
	return string(f.Step)
}

// Entry is a flip with what became of it.
type Entry struct {
	Flip
	Offset int64  `json:"offset"`
	Void   string `json:"void,omitempty"` // why it does not count; "" if it does
}

// Log folds the control log. Every reader that applies the same records in the same order has the same states.
// It is not safe for concurrent use.
type Log struct {
	states  map[event.Migration]State
	entries []Entry
}

// State of a migration; off before its first flip.
func (l *Log) State(m event.Migration) State {
	if s, ok := l.states[m]; ok {
		return s
	}
	return State{Stage: Off}
}

// Apply folds in the record at offset and says whether it counts.
func (l *Log) Apply(offset int64, f *Flip) Entry {
	e := Entry{Flip: *f, Offset: offset}
	now := l.State(f.Migration)
	if err := f.Validate(); err != nil {
		e.Void = err.Error()
	} else if now.Version != f.Expect {
		e.Void = fmt.Sprintf("expected version %d, but it was %d: another flip came first", f.Expect, now.Version)
	} else if to, err := f.Outcome(now); err != nil {
		e.Void = err.Error()
	} else {
		if l.states == nil {
			l.states = map[event.Migration]State{}
		}
		e.To = to // as everybody has it, whatever the record says of what it is not about
		l.states[f.Migration] = to
	}
	l.entries = append(l.entries, e)
	return e
}

// History is every record of one migration, oldest first; all of them for "".
func (l *Log) History(m event.Migration) []Entry {
	var out []Entry
	for _, e := range l.entries {
		if m == "" || e.Migration == m {
			out = append(out, e)
		}
	}
	return out
}
