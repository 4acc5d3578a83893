package event

import "time"

// Fence is one look at the server that PHP writes to: everything committed before Sent has a position <= Position,
// and everything with a position <= Position was committed before Answered.
type Fence struct {
	Sent     time.Time `json:"sent"`
	Position Position  `json:"position"`
	Answered time.Time `json:"answered"`
}

// InFlight is a write that the mark's sequence does not cover.
type InFlight struct {
	Seq       Seq       `json:"seq"`
	Addresses []Address `json:"addresses,omitempty"` // none: key not known yet, listed in every partition
	Start     time.Time `json:"start"`
	Until     time.Time `json:"until,omitzero"` // adopted unknowns: in flight until intent + max_execution
	Epoch     Epoch     `json:"epoch,omitzero"` // of an adopted write; 0 = the mark's own
}

// ReplicaMark says to one partition: every write of this replica up to Seq that belongs here and is not listed in
// flight has been acknowledged by Kafka.
type ReplicaMark struct {
	V        int        `json:"v"`
	Replica  Replica    `json:"replica"`
	Epoch    Epoch      `json:"epoch"`
	Seq      Seq        `json:"seq"`
	Clock    time.Time  `json:"clock"` // read before Seq was: writes that start later than Clock may not be listed
	InFlight []InFlight `json:"in_flight,omitempty"`
	Ended    bool       `json:"ended,omitempty"` // drained and shipped: nothing more comes of this epoch
	// Idle: the proxy records nothing, and will say so no more as soon as it begins to. Its marks are then far apart.
	Idle bool `json:"idle,omitempty"`
}

// ReaderMark says to one partition: every change of the log up to Position that belongs here stands before this mark.
type ReaderMark struct {
	V        int       `json:"v"`
	Position Position  `json:"position"`
	Fences   []Fence   `json:"fences,omitempty"` // taken since the last mark, in order, all with positions <= Position
	Clock    time.Time `json:"clock"`
}

// Held is a key whose changes are incomplete from a position on.
type Held struct {
	Migration Migration   `json:"migration"`
	Key       OrderingKey `json:"key"`
	From      Position    `json:"from"`
}

// Reached is how far one replica's writes are settled.
type Reached struct {
	Epoch Epoch `json:"epoch"`
	Seq   Seq   `json:"seq"`
	Ended bool  `json:"ended,omitempty"` // drained and shipped: nothing more comes of this epoch
}

// Unsettled is a write at or below a replica's Reached that is not settled yet.
type Unsettled struct {
	ID        WriteID   `json:"id"`
	Addresses []Address `json:"addresses,omitempty"`
}

// SettledMark says to one partition: all entries with changes up to Position stand before this mark, except those of
// the held keys from where each is held; all writes of each replica up to Reached are settled, except the listed.
type SettledMark struct {
	V         int                 `json:"v"`
	Position  Position            `json:"position"`
	Fences    []Fence             `json:"fences,omitempty"`
	Replicas  map[Replica]Reached `json:"replicas,omitempty"`
	Unsettled []Unsettled         `json:"unsettled,omitempty"`
	Held      []Held              `json:"held,omitempty"`
	Clock     time.Time           `json:"clock"` // of settle, for lag
	// Resume are the offsets of .writes and .changes from which a successor rebuilds the join.
	ResumeWrites  int64 `json:"resume_writes"`
	ResumeChanges int64 `json:"resume_changes"`
	// ResumeSettled is an offset of .settled: no entry below it holds a record at or above the other two.
	ResumeSettled int64 `json:"resume_settled"`
}

// MarkVersion is the version of all marks that this build writes.
const MarkVersion = 1

func (m *ReplicaMark) version() int { return m.V }
func (m *ReaderMark) version() int  { return m.V }
func (m *SettledMark) version() int { return m.V }

// DecodeReplicaMark reads the JSON form.
func DecodeReplicaMark(b []byte) (*ReplicaMark, error) {
	return decode[ReplicaMark](b, KindReplicaMark, MarkVersion)
}

// DecodeReaderMark reads the JSON form.
func DecodeReaderMark(b []byte) (*ReaderMark, error) {
	return decode[ReaderMark](b, KindReaderMark, MarkVersion)
}

// DecodeSettledMark reads the JSON form.
func DecodeSettledMark(b []byte) (*SettledMark, error) {
	return decode[SettledMark](b, KindSettledMark, MarkVersion)
}

// Progress is the position up to which one partition of a read model holds everything, published when PostgreSQL and
// Redis have it. Fields as in [SettledMark].
type Progress struct {
	V          int                 `json:"v"`
	Migration  Migration           `json:"migration"`
	Generation int                 `json:"generation"`
	Partition  int32               `json:"partition"`
	Position   Position            `json:"position"`
	Fences     []Fence             `json:"fences,omitempty"`
	Replicas   map[Replica]Reached `json:"replicas,omitempty"`
	Unsettled  []Unsettled         `json:"unsettled,omitempty"`
	Held       []Held              `json:"held,omitempty"`
	Parked     []OrderingKey       `json:"parked,omitempty"` // keys stopped by a poison event
	// Applied is the highest position of an applied event. It is above Position when events that follow the mark are in:
	// the read model then holds everything up to Position, and something of what lies between.
	Applied Position  `json:"applied,omitzero"`
	At      time.Time `json:"at"`
}

func (p *Progress) version() int { return p.V }

// DecodeProgress reads the JSON form.
func DecodeProgress(b []byte) (*Progress, error) {
	return decode[Progress](b, KindProgress, MarkVersion)
}

// Complete is the position up to which the read model holds everything of one key: below the partition's where the key
// is held, zero where it is parked.
func (p *Progress) Complete(k OrderingKey) Position {
	at := p.Position
	for _, h := range p.Held {
		if (h.Key == k || h.Key == "") && h.Migration == p.Migration && h.From <= at {
			at = h.From - 1
		}
	}
	for _, x := range p.Parked {
		if x == k {
			at = 0
		}
	}
	return at
}

// Holds says whether a read at this progress shows the write: it is settled, and its key is not held.
func (p *Progress) Holds(w WriteID, k OrderingKey) bool {
	r, ok := p.Replicas[w.Replica]
	if !ok || r.Epoch < w.Epoch || r.Epoch == w.Epoch && r.Seq < w.Seq {
		return false
	}
	for _, u := range p.Unsettled {
		if u.ID == w {
			return false
		}
	}
	for _, h := range p.Held {
		if (h.Key == k || h.Key == "") && h.Migration == p.Migration { // "" concerns every key
			return false
		}
	}
	for _, x := range p.Parked {
		if x == k {
			return false
		}
	}
	return true
}
