package event

import "time"

// Cause is why a change happened.
type Cause string

// Unattributed is never called explained: several writes could have made the change, or the wait ran out.
const (
	Effect       Cause = "effect"
	Dark         Cause = "dark" // no write explains it: cron, a ticking GET, an admin's SQL
	Unattributed Cause = "unattributed"
	Imported     Cause = "import" // backfill
)

// Verdict is what became of a write once the change log was asked.
type Verdict string

// A rejected write may still have effects (a counter, a log row).
const (
	VerdictApplied    Verdict = "applied"
	VerdictRejected   Verdict = "rejected"
	VerdictNotApplied Verdict = "not_applied" // unknown, and past max_execution without an effect
	VerdictUnresolved Verdict = "unresolved"  // unknown, and it cannot be told
)

// SettledChange is a change with its cause.
type SettledChange struct {
	Position   Position    `json:"position"`
	Rows       []RowChange `json:"rows"`
	Cause      Cause       `json:"cause"`
	Write      WriteID     `json:"write,omitzero"`       // of an effect
	Annotated  bool        `json:"annotated,omitempty"`  // the write's id stood in the SQL: exact
	Candidates []WriteID   `json:"candidates,omitempty"` // of an unattributed change
	Received   time.Time   `json:"received"`
}

// SettledWrite is a write with what legacy made of it.
type SettledWrite struct {
	Write   Write      `json:"write"`
	Verdict Verdict    `json:"verdict"`
	Effects []Position `json:"effects,omitempty"` // of this key, in order; may lie in earlier entries when Late
	Late    bool       `json:"late,omitempty"`    // changes went on before the outcome was there
	// Overlaps are other writes of the key whose interval touches this one's: their order is legacy's to tell.
	Overlaps []WriteID `json:"overlaps,omitempty"`
}

// Entry is the unit of the settled stream: consecutive changes of one ordering key, in commit order, closed under the
// writes that made them. Mostly one write with its few changes, or one dark change; writes whose changes interleave
// stand in one entry; a write without changes stands alone, with From = To = the position at which it was settled.
//
// Entries of a key ascend, and those with changes do not overlap: a reader that remembers To of the last one can drop
// repeats below it. At To itself others may follow that are no repeats: writes without changes, further parts of one
// large transaction, and import chunks taken while legacy was idle. They differ in their writes and in their rows' N.
type Entry struct {
	V         int             `json:"v"`
	Migration Migration       `json:"migration"`
	Key       OrderingKey     `json:"key"`
	From      Position        `json:"from"`
	To        Position        `json:"to"`
	Changes   []SettledChange `json:"changes,omitempty"`
	Writes    []SettledWrite  `json:"writes,omitempty"`
	Clock     time.Time       `json:"clock"`
}

// EntryVersion is the version that this build writes. Version 2 came with that of the writes in it, each of which says
// its own: a reader of version 1 would take a body for base64.
const EntryVersion = 2
