package diff

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Class is how two sides differ at a path.
type Class string

// The classes of a difference, seen from legacy.
const (
	ClassMissing Class = "missing" // legacy has it, the candidate does not
	ClassExtra   Class = "extra"   // the candidate has it, legacy does not
	ClassValue   Class = "value"   // same kind, another value
	ClassType    Class = "type"    // another kind
	ClassOrder   Class = "order"   // the same elements in another order
)

// Difference is one path at which the two sides disagree.
type Difference struct {
	Path      Path
	Class     Class
	Legacy    Value // Missing for ClassExtra
	Candidate Value // Missing for ClassMissing
	// Entity is what the nearest rule with an entity calls the object around.
	Entity string
	// Near says by how much a rule failed to cover the difference, or which
	// looseness would have.
	Near string
	// Group is the same for differences that look alike: the class, and the
	// path with every list element, and every name that looks like an id, as *.
	// It is stable, and made to be stored: "value /units/*/hp".
	Group string
}

// Use counts how often one rule made two values equal that were not.
type Use struct {
	Rule  string `json:"rule"`
	Kind  string `json:"kind"` // within, clock, …, or the kind of looseness
	Count int    `json:"count"`
}

// Note is something about the documents that a reader of the report should
// know, and that is not a difference.
type Note struct {
	Path Path   `json:"path"`
	Text string `json:"text"`
}

// Report is the outcome of a comparison. Every leaf of either side is in
// exactly one of Compared, Muted and Undecided; a subtree that one side lacks
// counts with the leaves of the other.
type Report struct {
	// Differences are the first Options.Keep, in the order of legacy's document.
	Differences []Difference
	// Total counts all differences, kept or not.
	Total int
	// Groups counts all differences by Difference.Group. Beyond 1,000 groups
	// the rest is counted under "…".
	Groups map[string]int

	Compared  int
	Muted     int // under an ignore rule: not evidence
	Undecided int // the caller said so: not evidence

	Used []Use
	// Notes are the first 100.
	Notes      []Note
	NotesTotal int
}

const (
	maxGroups   = 1000
	maxNotes    = 100
	otherGroups = "…"
)

// Equal reports whether there is no difference. Whether that is evidence,
// Compared tells: it may be 0.
func (r *Report) Equal() bool { return r.Total == 0 }

// Dropped is how many differences were counted but not kept.
func (r *Report) Dropped() int { return r.Total - len(r.Differences) }

// Summary is one line of counts.
func (r *Report) Summary() string {
	var b strings.Builder
	if r.Total == 0 {
		b.WriteString("equal")
	} else {
		fmt.Fprintf(&b, "%d %s", r.Total, plural(r.Total, "difference"))
	}
	fmt.Fprintf(&b, " in %d %s compared", r.Compared, plural(r.Compared, "value"))
	if r.Muted > 0 {
		fmt.Fprintf(&b, ", %d muted", r.Muted)
	}
	if r.Undecided > 0 {
		fmt.Fprintf(&b, ", %d undecided", r.Undecided)
	}
	tolerated := 0
	for _, u := range r.Used {
		if u.Kind != "ignore" {
			tolerated += u.Count
		}
	}
	if tolerated > 0 {
		fmt.Fprintf(&b, ", %d tolerated", tolerated)
	}
	if d := r.Dropped(); d > 0 {
		fmt.Fprintf(&b, ", %d not shown", d)
	}
	return b.String()
}

func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}

// GroupKeys lists the keys of Groups, the most frequent first.
func (r *Report) GroupKeys() []string {
	keys := slices.Collect(maps.Keys(r.Groups))
	slices.SortFunc(keys, func(a, b string) int {
		if d := r.Groups[b] - r.Groups[a]; d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	return keys
}

func (r *Report) add(d Difference, keep int) {
	r.Total++
	if len(r.Differences) < keep {
		r.Differences = append(r.Differences, d)
	}
	if r.Groups == nil {
		r.Groups = map[string]int{}
	}
	if _, ok := r.Groups[d.Group]; !ok && len(r.Groups) >= maxGroups {
		r.Groups[otherGroups]++
		return
	}
	r.Groups[d.Group]++
}

// looksLikeID tells names that are data (numbers, UUIDs, hashes) from those
// that a schema gives.
func looksLikeID(name string) bool {
	digits, hex := 0, true
	for i := range len(name) {
		switch c := name[i]; {
		case '0' <= c && c <= '9':
			digits++
		case 'a' <= c && c <= 'f', 'A' <= c && c <= 'F', c == '-' && i > 0:
		default:
			hex = false
		}
	}
	return digits > 0 && (digits == len(name) || hex && len(name) >= 16)
}
