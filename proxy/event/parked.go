package event

import "time"

// Parked says that an ordering key stopped at a record that cannot be used, or goes on (Released). It stands in the
// partition of the record, keyed by migration, stage and key.
type Parked struct {
	V          int         `json:"v"`
	Migration  Migration   `json:"migration"`
	Generation int         `json:"generation"`
	Stage      string      `json:"stage"` // translate, dispatch, project
	Key        OrderingKey `json:"key"`
	Topic      string      `json:"topic"` // where the record stands
	Partition  int32       `json:"partition"`
	Offset     int64       `json:"offset"`
	Position   Position    `json:"position,omitzero"`
	Event      string      `json:"event,omitempty"` // id
	Type       string      `json:"type,omitempty"`  // with version
	Reason     string      `json:"reason,omitempty"`
	Released   bool        `json:"released,omitempty"`
	At         time.Time   `json:"at"`
}

// ParkedVersion is the version that this build writes.
const ParkedVersion = 1

func (p *Parked) version() int { return p.V }

// DecodeParked reads the JSON form.
func DecodeParked(b []byte) (*Parked, error) { return decode[Parked](b, KindParked, ParkedVersion) }
