package event

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// Outcome is what became of a write, as far as the proxy could tell.
type Outcome string

// Unknown is never failure: legacy runs on after a timeout or a cut connection, and mostly commits. It is settled by
// the change log.
const (
	Applied  Outcome = "applied"
	Rejected Outcome = "rejected" // a rule of the route said so: PHP answers 200 with an error page
	Unknown  Outcome = "unknown"  // timeout, cut, crash
)

// Intent is what is known before legacy is asked.
type Intent struct {
	UUID        string            `json:"uuid"`                   // version 7
	Route       string            `json:"route"`                  // name of the write route
	Addresses   []Address         `json:"addresses"`              // one is primary; Key "" while it is not known
	Method      string            `json:"method"`                 //
	Host        string            `json:"host,omitempty"`         //
	Target      string            `json:"target"`                 // raw request target, secrets masked
	ContentType string            `json:"content_type,omitempty"` //
	Params      map[string]string `json:"params,omitempty"`       // what the route extracts, as text
	Body        []byte            `json:"body,omitempty"`         // decoded transfer, secrets masked; absent above inline_limit; see AppendJSON
	BodyLength  int64             `json:"body_length"`            // as received; -1 while it is streaming
	Session     string            `json:"session,omitempty"`      // keyed hash, never the cookie
	Player      string            `json:"player,omitempty"`       // resolved subject, if the route knows it
	Trace       string            `json:"trace,omitempty"`        // W3C traceparent
	At          time.Time         `json:"at"`                     // proxy's clock when the intent was appended
}

// Result is what is known after legacy answered, or did not.
type Result struct {
	Outcome    Outcome   `json:"outcome"`
	Reason     string    `json:"reason,omitempty"`   // rule or error class that decided it
	Status     int       `json:"status,omitempty"`   // HTTP status, 0 if none came
	Location   string    `json:"location,omitempty"` // of a redirect: PHP's success page
	BodyLength int64     `json:"response_length,omitempty"`
	ClientGone bool      `json:"client_gone,omitempty"`
	Keys       []Address `json:"keys,omitempty"` // ordering keys that only the answer told
	Forwarded  time.Time `json:"forwarded"`      // first byte sent to legacy; zero if none was
	End        time.Time `json:"end"`            // last byte of the answer, or when it was given up
}

// Write is a write record: an intent with its result, as published to one of its addresses. Its JSON form is that of
// [Write.AppendJSON].
type Write struct {
	V    int     `json:"v"`
	ID   WriteID `json:"id"`
	Ship uint64  `json:"ship"` // shipping sequence in its epoch: given when the outcome was appended
	Address
	Intent Intent `json:"intent"`
	Result Result `json:"result"`
}

// WriteVersion is the version that this build writes. In version 1 the body was base64 in `body`.
const WriteVersion = 2

// Interval is the time in which legacy may have run the request. For an unknown write the end is open: legacy may
// run on for its declared maximum execution time.
func (w *Write) Interval() (start, end time.Time) {
	start = w.Result.Forwarded
	if start.IsZero() {
		start = w.Intent.At
	}
	return start, w.Result.End
}

type versioned interface{ version() int }

// decode reads a JSON record and refuses versions newer than this build knows.
func decode[T any, P interface {
	*T
	versioned
}](b []byte, k Kind, newest int) (*T, error) {
	var t T
	if err := json.Unmarshal(b, &t); err != nil {
		return nil, fmt.Errorf("%s record: %w", k, err)
	}
	if v := P(&t).version(); v < 1 || v > newest {
		return nil, fmt.Errorf("%s record: version %d, this build reads 1 to %d: update it before its peers", k, v, newest)
	}
	return &t, nil
}

// Encode is the JSON form of any record of this package.
func Encode(v any) []byte {
	if a, ok := v.(interface{ AppendJSON([]byte) []byte }); ok {
		return a.AppendJSON(nil)
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // nobody could read a query or a form's body with \u0026 between its fields
	if err := e.Encode(v); err != nil {
		panic("event: " + err.Error()) // a bug: every record type here marshals
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
