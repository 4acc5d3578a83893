// Package capture is the vocabulary of recorded answers: one exchange, the pair of a read's two answers, and the
// tallies that account for every pair that was asked for. It promises that records of an older version are read; it
// decides nothing and does no I/O. Bodies in it are decoded from transfer coding, not from content coding.
package capture

import (
	"encoding/json"
	"fmt"
	"time"

	"banyan/proxy/event"
)

// Side says whose answer it is.
type Side string

// The sides, named so on every screen and in every file.
const (
	Legacy    Side = "legacy"
	Candidate Side = "candidate"
)

// Answer is one side's answer to a read.
type Answer struct {
	Target      string    `json:"target"` // as that side was asked
	Status      int       `json:"status"` // 0: none came, see Error
	ContentType string    `json:"content_type,omitempty"`
	Encoding    string    `json:"encoding,omitempty"` // Content-Encoding
	Body        []byte    `json:"body,omitempty"`
	Length      int64     `json:"length"` // of the whole body; more than len(Body) if it was cut
	Start       time.Time `json:"start"`  // request about to be sent
	End         time.Time `json:"end"`    // last byte read
	Error       string    `json:"error,omitempty"`
	// Before and After are the read model's progress around the read, as the candidate reported it in Banyan-Position.
	Before event.Position `json:"before,omitzero"`
	After  event.Position `json:"after,omitzero"`
	// Generation of the read model that it was made from, as the candidate reported it in Banyan-Generation; 0: it did not.
	Generation int `json:"generation,omitempty"`
}

// Pair is a read's two answers.
type Pair struct {
	V           int               `json:"v"`
	ID          string            `json:"id"` // UUIDv7
	Migration   event.Migration   `json:"migration"`
	Route       string            `json:"route"`
	Key         event.OrderingKey `json:"key"`
	Params      map[string]string `json:"params,omitempty"`
	Stage       string            `json:"stage"`  // of the migration then
	Served      Side              `json:"served"` // who answered the client
	Legacy      Answer            `json:"legacy"`
	Candidate   Answer            `json:"candidate"`
	Replica     event.Replica     `json:"replica"`
	Fingerprint string            `json:"fingerprint"` // of config and rules: evidence is bound to it
	Trace       string            `json:"trace,omitempty"`
	Tries       int               `json:"tries"` // how often the candidate was asked
}

// Tally accounts for the pairs of one route at one replica since its epoch began: Asked = Equal + Sent + the sum of
// Dropped. The newest record of (replica, epoch, route) counts; N tells a hole.
type Tally struct {
	V           int               `json:"v"`
	N           uint64            `json:"n"`
	Replica     event.Replica     `json:"replica"`
	Epoch       event.Epoch       `json:"epoch"`
	Migration   event.Migration   `json:"migration"`
	Route       string            `json:"route"`
	Asked       uint64            `json:"asked"`
	Equal       uint64            `json:"equal"` // byte-equal bodies and equal status: counted at once, not published
	Sent        uint64            `json:"sent"`  // published as pairs
	Dropped     map[string]uint64 `json:"dropped,omitempty"`
	Waited      uint64            `json:"waited"`              // reads at live that waited for their own write
	ByLegacy    uint64            `json:"by_legacy"`           // reads at live in the share that legacy had to answer
	FellBack    map[string]uint64 `json:"fell_back,omitempty"` // them, by reason
	Fingerprint string            `json:"fingerprint"`
	Config      string            `json:"config,omitempty"` // of its reads: they were all served by the config with this fingerprint
	Latency     []Latency         `json:"latency,omitempty"`
	At          time.Time         `json:"at"`
}

// Latency is a histogram of one side's answers to clients since the epoch began.
type Latency struct {
	Served  Side     `json:"served"`
	Bounds  []int64  `json:"bounds"` // upper bounds in microseconds; the last bucket has none
	Buckets []uint64 `json:"buckets"`
}

// Version is what this build writes.
const Version = 1

// DecodePair reads the JSON form.
func DecodePair(b []byte) (*Pair, error) {
	var p Pair
	if err := decode(b, &p, event.KindPair); err != nil {
		return nil, err
	}
	return &p, check(p.V, event.KindPair)
}

// DecodeTally reads the JSON form.
func DecodeTally(b []byte) (*Tally, error) {
	var t Tally
	if err := decode(b, &t, event.KindTally); err != nil {
		return nil, err
	}
	return &t, check(t.V, event.KindTally)
}

func decode(b []byte, v any, k event.Kind) error {
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s record: %w", k, err)
	}
	return nil
}

func check(v int, k event.Kind) error {
	if v < 1 || v > Version {
		return fmt.Errorf("%s record: version %d, this build reads 1 to %d: update it before its peers", k, v, Version)
	}
	return nil
}
