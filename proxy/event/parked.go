package event

import "time"

// Parked says that an ordering key stopped at a record that cannot be used (neither Released nor Done), that somebody let
// it go on (Released), how far it has caught up since (Released, with a higher Offset), and that it goes with the others
// again (Done). It stands in the partition of the record, keyed by migration, stage and key. Until Done the key is parked.
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
	Done       bool        `json:"done,omitempty"`
	Of         time.Time   `json:"of,omitzero"` // At of the stop that is released or done: no other is meant
	Who        string      `json:"who,omitempty"`
	Why        string      `json:"why,omitempty"` // it was released
	At         time.Time   `json:"at"`
}

// ParkedVersion is the version that this build writes. Before 2 nothing was released; a reader of version 1 would take a
// released key for one that has caught up.
const ParkedVersion = 2

// Is says whether the stop was made at this time; a database may keep less of it than the record.
func (p *Parked) Is(at time.Time) bool {
	return p.At.Truncate(time.Microsecond).Equal(at.Truncate(time.Microsecond))
}

// Release is the record that lets the stopped key go on.
func (p *Parked) Release(who, why string, at time.Time) *Parked {
	r := p.answer(at)
	r.Released, r.Who, r.Why = true, who, why
	return r
}

// CaughtUp is the record that says how far the released key has come: everything of it below the offset is done, or
// everything at all.
func (p *Parked) CaughtUp(offset int64, done bool, at time.Time) *Parked {
	r := p.answer(at)
	r.Released, r.Offset, r.Done = true, offset, done
	return r
}

func (p *Parked) answer(at time.Time) *Parked {
	return &Parked{V: ParkedVersion, Migration: p.Migration, Generation: p.Generation, Stage: p.Stage, Key: p.Key, Topic: p.Topic, Partition: p.Partition,
		Offset: p.Offset, Position: p.Position, Of: p.At, At: at}
}

func (p *Parked) version() int { return p.V }

// DecodeParked reads the JSON form.
func DecodeParked(b []byte) (*Parked, error) { return decode[Parked](b, KindParked, ParkedVersion) }
