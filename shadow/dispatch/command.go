package dispatch

import (
	"strconv"
	"time"

	"banyan/proxy/event"
)

// CommandVersion is the version of [Command] that this build sends.
const CommandVersion = 1

// Command is the JSON body of a delivery: a write that legacy has decided, with what legacy did.
type Command struct {
	V int `json:"v"`
	// ID is the same at each delivery for a generation; also in the header Idempotency-Key. A new generation asks for the
	// events of old commands anew: a service that remembers keys must not take that for a repeat.
	ID         string            `json:"id"`
	Write      event.WriteID     `json:"write"` // cause of the events that it makes
	Migration  event.Migration   `json:"migration"`
	Generation int               `json:"generation"` // of the event topic
	Key        event.OrderingKey `json:"key"`
	Partition  int32             `json:"partition"`
	// ReadTo is the offset of the event topic's partition below which the service must have read before it decides.
	ReadTo   int64             `json:"read_to"`
	Verdict  event.Verdict     `json:"verdict"` // news must be made of an applied one only
	Route    string            `json:"route"`
	Params   map[string]string `json:"params,omitempty"`
	Player   string            `json:"player,omitempty"` // as the proxy learned it from legacy; "" if it does not know
	Position event.Position    `json:"position"`         // legacy's, of the last effect: that of the events
	Effects  []Effect          `json:"effects,omitempty"`
	Overlaps []event.WriteID   `json:"overlaps,omitempty"` // writes that ran at the same time
	Sent     time.Time         `json:"sent"`               // to legacy, by the proxy's clock
	Trace    string            `json:"trace,omitempty"`    // W3C traceparent; also a header
}

// Effect is what one transaction of the write changed in the migration's tables.
type Effect struct {
	Position event.Position    `json:"position"`
	Rows     []event.RowChange `json:"rows"`
}

// Reply may be the body of a 2xx answer.
type Reply struct {
	// ReadTo is one more than the highest offset of the events that the command made; absent if it made none.
	ReadTo int64 `json:"read_to,omitempty"`
	// ByRows asks that the write's changes are told by rows: the service made nothing of it, because it does not know
	// what the command speaks of. Before and during an import that is so.
	ByRows bool `json:"by_rows,omitempty"`
}

// IdempotencyHeader carries [Command.ID].
const IdempotencyHeader = "Idempotency-Key"

func command(e *event.Entry, w *event.SettledWrite, generation int) *Command {
	in := &w.Write.Intent
	sent, _ := w.Write.Interval()
	c := &Command{V: CommandVersion, ID: w.Write.ID.String() + ":" + string(e.Key), Write: w.Write.ID, Migration: e.Migration, Generation: generation,
		Key: e.Key, Verdict: w.Verdict, Route: in.Route, Params: in.Params, Player: in.Player, Position: e.To, Overlaps: w.Overlaps, Sent: sent, Trace: in.Trace}
	if generation > 1 {
		c.ID += ":g" + strconv.Itoa(generation)
	}
	for i := range e.Changes {
		x := &e.Changes[i]
		if x.Cause == event.Effect && x.Write == w.Write.ID {
			c.Effects = append(c.Effects, Effect{x.Position, x.Rows})
		}
	}
	if n := len(c.Effects); n > 0 {
		c.Position = c.Effects[n-1].Position
	}
	return c
}
