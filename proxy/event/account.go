package event

import "time"

// KindGap is a [Gap] in .account, beside the accounts.
const KindGap Kind = "gap"

// Account is what one epoch of a replica knows of its writes, published every second and at the epoch's end:
// Accepted = Mirrored + Pending + Lost. Excluded writes and those of gaps were never accepted. Whether a mirrored
// write is settled, unresolved or parked is known to its consumers.
type Account struct {
	V        int               `json:"v"`
	Replica  Replica           `json:"replica"`
	Epoch    Epoch             `json:"epoch"`
	Clock    time.Time         `json:"clock"`
	Accepted uint64            `json:"accepted"`           // intents; the highest sequence
	Mirrored uint64            `json:"mirrored"`           // acknowledged by Kafka
	Pending  uint64            `json:"pending"`            // in flight, or in the journal alone
	Lost     uint64            `json:"lost,omitempty"`     // in the journal, and unreadable; a Gap tells of each
	Unknown  uint64            `json:"unknown,omitempty"`  // of the mirrored: those without an outcome
	BodyCut  uint64            `json:"body_cut,omitempty"` // of the mirrored: those too large for a record, sent without body
	Ship     uint64            `json:"ship"`               // highest shipping sequence given
	Acked    uint64            `json:"acked"`              // highest acknowledged
	Excluded map[string]uint64 `json:"excluded,omitempty"` // by reason: seen by the proxy and not to be recorded
	Gaps     uint64            `json:"gaps,omitempty"`     // open ones
	Ended    bool              `json:"ended,omitempty"`    // nothing more comes of this epoch
}

// Gap says that writes are not recorded: of one migration, or of any (Migration ""). Its identity is (replica, epoch,
// migration, from), which is its key; the highest Ship is the newest word on it.
type Gap struct {
	V         int       `json:"v"`
	Replica   Replica   `json:"replica"`
	Epoch     Epoch     `json:"epoch"`
	Migration Migration `json:"migration,omitempty"`
	From      Seq       `json:"from"` // the first sequence that may have been given after it opened
	Ship      uint64    `json:"ship"`
	At        time.Time `json:"at"`
	Count     uint64    `json:"count"`
	AtLeast   bool      `json:"at_least,omitempty"` // the count is a lower bound
	Closed    bool      `json:"closed,omitempty"`
	Reason    string    `json:"reason,omitempty"`
}

// AccountVersion is the version of both that this build writes.
const AccountVersion = 1

func (a *Account) version() int { return a.V }
func (g *Gap) version() int     { return g.V }

// DecodeAccount reads the JSON form.
func DecodeAccount(b []byte) (*Account, error) {
	return decode[Account](b, KindAccount, AccountVersion)
}

// DecodeGap reads the JSON form.
func DecodeGap(b []byte) (*Gap, error) { return decode[Gap](b, KindGap, AccountVersion) }
