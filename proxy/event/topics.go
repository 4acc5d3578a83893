package event

import "strconv"

// Kind tells what a record is without decoding it. It is the value of the header [HeaderKind].
type Kind string

// HeaderKind carries the [Kind] of every record but domain events, which are CloudEvents and have ce_ headers.
const HeaderKind = "banyan-kind"

// The kinds.
const (
	KindWrite       Kind = "write"
	KindReplicaMark Kind = "replica-mark"
	KindChange      Kind = "change"
	KindReaderMark  Kind = "reader-mark"
	KindEntry       Kind = "entry"
	KindSettledMark Kind = "settled-mark"
	KindProgress    Kind = "progress"
	KindAccount     Kind = "account"
	KindPair        Kind = "pair"
	KindTally       Kind = "tally"
	KindControl     Kind = "control"
	KindHeartbeat   Kind = "heartbeat"
	KindParked      Kind = "parked"
)

// Header is one Kafka record header, without a Kafka library in the signature.
type Header struct {
	Key   string
	Value []byte
}

// Topics names the topics of one installation. P is the prefix, 1 to 64 of [a-z0-9._-].
type Topics struct{ P string }

// Writes is where proxies publish write records and their marks.
func (t Topics) Writes() string { return t.P + ".writes" }

// Changes is where the change-log reader publishes row changes and its marks.
func (t Topics) Changes() string { return t.P + ".changes" }

// Settled is writes and changes joined.
func (t Topics) Settled() string { return t.P + ".settled" }

// Progress is the progress of every read model, one partition.
func (t Topics) Progress() string { return t.P + ".progress" }

// Pairs is where proxies publish pairs of answers and tallies.
func (t Topics) Pairs() string { return t.P + ".pairs" }

// Control is the control log: one partition, never compacted or deleted.
func (t Topics) Control() string { return t.P + ".control" }

// Replicas is the heartbeats of the proxies: one partition, compacted by replica.
func (t Topics) Replicas() string { return t.P + ".replicas" }

// Account is the loss account of every replica, one partition.
func (t Topics) Account() string { return t.P + ".account" }

// Parked holds records that stop their key: the record, the reason, where it stood.
func (t Topics) Parked() string { return t.P + ".parked" }

// Events is the domain events of one migration and generation, 1 being the first.
func (t Topics) Events(m Migration, generation int) string {
	return t.P + ".events." + string(m) + ".g" + strconv.Itoa(generation)
}
