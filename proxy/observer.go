package proxy

import "time"

// Observer is told of every exchange when its answer has ended, of one that switched protocols when its tunnel has. Done
// must not block, and must not keep o or its slices.
type Observer interface {
	Done(o *Observation)
}

// Observation is one exchange, for metrics and access logs.
type Observation struct {
	Method        []byte        // as it came; anything at all
	Route         string        // Exchange.Route
	Upstream      string        // who was asked last, empty for a local answer
	Status        int           // sent to the client, 0 when none was
	Started       time.Time     // when the request's head was complete
	Duration      time.Duration // until the answer's last byte was handed over; until a 101 was
	Tunnel        time.Duration // from then on, that a connection which switched protocols was open; 0 without a switch
	FirstByte     time.Duration // until the upstream's head came, 0 without one
	RequestBytes  int64         // of the body, as far as it was read; of all that came through a tunnel
	ResponseBytes int64         // of the body; of all that went through a tunnel
	ClientGone    bool
	Err           error // what went wrong, at the client or upstream
}
