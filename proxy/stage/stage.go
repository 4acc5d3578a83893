// Package stage is the vocabulary of a migration's progress: the stages, the share, which flips are allowed, and the
// record of a flip. It promises that the share of a key never depends on the machine or the day, and that two flips
// which expect the same version cannot both count ([Log.Apply]). It leaves gates (may we?), leases (does everybody
// obey?) and storage to others.
//
// # Not obvious
//
//   - Going forward is one step, because every step has evidence of its own; going back is any number of steps,
//     because a rollback must never wait. (TestAllowed)
//   - A larger share keeps every key of the smaller one: a match that moved does not move back while ops turn the
//     dial up. (TestShareGrows)
//   - A flip of the stage leaves the generations alone, whatever its record says of them: it may have been decided by a
//     build that knows nothing of them. (TestFlipsAndStepsLeaveEachOtherAlone)
//   - A read without a key, or with several, is never in a partial share: part of its answer would come from a key
//     that stays on legacy. (TestShareNeedsOneKey)
package stage

import (
	"fmt"
	"slices"
	"strings"

	"banyan/proxy/event"

	"github.com/cespare/xxhash/v2"
)

// Stage is how far a migration has come.
type Stage string

// Rampdown and Complete move the authority over writes. They are words already, and refused until that is built.
const (
	Off       Stage = "off"
	DualWrite Stage = "dualwrite"
	Shadow    Stage = "shadow"
	Live      Stage = "live"
	Rampdown  Stage = "rampdown"
	Complete  Stage = "complete"
)

var order = []Stage{Off, DualWrite, Shadow, Live, Rampdown, Complete}

// Parse reads a stage and suggests the nearest word for a typing error.
func Parse(s string) (Stage, error) {
	if slices.Contains(order, Stage(s)) {
		return Stage(s), nil
	}
	words := make([]string, len(order))
	for i, o := range order {
		words[i] = string(o)
	}
	return "", fmt.Errorf("%q is not a stage; the stages are %s", s, strings.Join(words, ", "))
}

func (s Stage) rank() int { return slices.Index(order, s) }

// Writes says whether writes are recorded and mirrored at this stage.
func (s Stage) Writes() bool { return s.rank() >= DualWrite.rank() }

// Compares says whether reads are also sent to the other side and compared.
func (s Stage) Compares() bool { return s == Shadow || s == Live }

// Allowed says whether a flip may go from one state to the other, evidence aside: one step forward, any number back,
// a share only at live.
func Allowed(from, to State) error {
	if to.Stage == Rampdown || to.Stage == Complete {
		return fmt.Errorf("stage %s is not built: it moves the authority over writes away from legacy, which this version cannot prove safe; the last stage is live", to.Stage)
	}
	if to.Stage.rank() < 0 {
		_, err := Parse(string(to.Stage))
		return err
	}
	if err := to.Share.Validate(); err != nil {
		return err
	}
	if to.Stage != Live && !to.Share.IsZero() {
		return fmt.Errorf("a share belongs to stage live; stage %s has none", to.Stage)
	}
	if d := to.Stage.rank() - from.Stage.rank(); d > 1 {
		return fmt.Errorf("from %s to %s are %d steps: forward goes one step at a time, the next is %s", from.Stage, to.Stage, d, order[from.Stage.rank()+1])
	}
	return nil
}

// Forward says whether the flip gives the candidate more than it had, so that it needs its gates.
func Forward(from, to State) bool {
	if from.Stage != to.Stage {
		return to.Stage.rank() > from.Stage.rank()
	}
	return !to.Share.within(from.Share)
}

// State is what a migration's proxies obey. The zero version is the state before the first flip: off.
type State struct {
	Version uint64 `json:"version"` // number of records that counted
	Stage   Stage  `json:"stage"`
	Share   Share  `json:"share,omitzero"`
	Generations
}

// String is for people: "live 10%".
func (s State) String() string {
	if s.Stage != Live {
		return string(s.Stage)
	}
	return "live " + s.Share.String()
}

// Share chooses ordering keys at stage live.
type Share struct {
	Percent float64             `json:"percent,omitempty"` // 0 to 100, of keys by a stable hash; steps of 0.01
	Include []event.OrderingKey `json:"include,omitempty"` // always chosen
	Exclude []event.OrderingKey `json:"exclude,omitempty"` // never chosen, stronger than Include
}

// IsZero says that no key is chosen.
func (s Share) IsZero() bool { return s.Percent == 0 && len(s.Include) == 0 && len(s.Exclude) == 0 }

// Validate names the value and the bound.
func (s Share) Validate() error {
	if s.Percent < 0 || s.Percent > 100 || s.Percent != s.Percent {
		return fmt.Errorf("share %v%%: want 0 to 100", s.Percent)
	}
	return nil
}

// String is for people.
func (s Share) String() string {
	t := fmt.Sprintf("%g%%", s.Percent)
	if len(s.Include) > 0 {
		t += fmt.Sprintf(" +%v", s.Include)
	}
	if len(s.Exclude) > 0 {
		t += fmt.Sprintf(" -%v", s.Exclude)
	}
	return t
}

// Chosen says whether reads of exactly these keys go to the candidate.
func (s Share) Chosen(keys ...event.OrderingKey) bool {
	if len(keys) != 1 || keys[0] == "" {
		return s.Percent == 100 && len(s.Exclude) == 0
	}
	k := keys[0]
	if slices.Contains(s.Exclude, k) {
		return false
	}
	return slices.Contains(s.Include, k) || bucket(k) < s.Percent*100
}

// bucket is 0 to 9999, independent of [event.Partition]: the seed byte keeps a small share from landing in few
// partitions.
func bucket(k event.OrderingKey) float64 {
	return float64(xxhash.Sum64String("share\x00"+string(k)) % 10000)
}

func (s Share) within(o Share) bool {
	if s.Percent > o.Percent {
		return false
	}
	for _, k := range s.Include {
		if !o.Chosen(k) {
			return false
		}
	}
	for _, k := range o.Exclude {
		if s.Chosen(k) {
			return false
		}
	}
	return true
}
