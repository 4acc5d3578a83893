package event

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// Event is a domain event: a versioned business fact, a CloudEvent 1.0 in Kafka binary content mode (the attributes
// are ce_ headers, the value is Data).
type Event struct {
	ID          string          // derived from the cause, so a repeat has the same
	Source      string          // "/banyan/<migration>" or the squad's service
	Type        string          // "game.unit.moved"
	Version     int             // of its contract, from 1; header ce_schemaversion
	Subject     Entity          // "unit/42"
	Time        time.Time       //
	Key         OrderingKey     // ce_partitionkey and the record's key
	Data        json.RawMessage //
	Cause       string          // write id, or "dark:position.row", "import:position.row"; header ce_cause
	Position    Position        // of legacy's change log; header ce_legacyposition
	Sequence    int             // order of events at one position; header ce_sequence
	Traceparent string          // W3C; header ce_traceparent
}

// TypeVersion is how config and messages write a type with its version: "game.unit.moved@2".
func (e *Event) TypeVersion() string { return e.Type + "@" + strconv.Itoa(e.Version) }

// Headers are the record headers of the binary content mode.
func (e *Event) Headers() []Header {
	h := []Header{
		{"ce_specversion", []byte("1.0")},
		{"ce_id", []byte(e.ID)},
		{"ce_source", []byte(e.Source)},
		{"ce_type", []byte(e.Type)},
		{"ce_schemaversion", strconv.AppendInt(nil, int64(e.Version), 10)},
		{"ce_subject", []byte(e.Subject)},
		{"ce_time", e.Time.UTC().AppendFormat(nil, time.RFC3339Nano)},
		{"ce_partitionkey", []byte(e.Key)},
		{"ce_dataschema", []byte(e.Type + "/v" + strconv.Itoa(e.Version))},
		{"ce_cause", []byte(e.Cause)},
		{"ce_legacyposition", []byte(e.Position.String())},
		{"ce_sequence", strconv.AppendInt(nil, int64(e.Sequence), 10)},
		{"content-type", []byte("application/json")},
	}
	if e.Traceparent != "" {
		h = append(h, Header{"ce_traceparent", []byte(e.Traceparent)})
	}
	return h
}

// ParseEvent reads an event from a record's headers and value. A missing optional attribute is zero; a missing id,
// type or subject, or a number that is none, is an error that names the header.
func ParseEvent(headers []Header, value []byte) (*Event, error) {
	e := &Event{Data: value, Version: 1}
	for _, h := range headers {
		v := string(h.Value)
		var err error
		switch h.Key {
		case "ce_specversion":
			if v != "1.0" {
				err = fmt.Errorf("want 1.0")
			}
		case "ce_id":
			e.ID = v
		case "ce_source":
			e.Source = v
		case "ce_type":
			e.Type = v
		case "ce_schemaversion":
			if e.Version, err = strconv.Atoi(v); err == nil && e.Version < 1 {
				err = fmt.Errorf("want 1 or more")
			}
		case "ce_subject":
			e.Subject = Entity(v)
		case "ce_time":
			e.Time, err = time.Parse(time.RFC3339Nano, v)
		case "ce_partitionkey":
			e.Key = OrderingKey(v)
		case "ce_cause":
			e.Cause = v
		case "ce_legacyposition":
			e.Position, err = ParsePosition(v)
		case "ce_sequence":
			e.Sequence, err = strconv.Atoi(v)
		case "ce_traceparent":
			e.Traceparent = v
		}
		if err != nil {
			return nil, fmt.Errorf("event header %s: %q: %w", h.Key, clip(v), err)
		}
	}
	for _, must := range []struct{ name, value string }{{"ce_id", e.ID}, {"ce_type", e.Type}, {"ce_subject", string(e.Subject)}} {
		if must.value == "" {
			return nil, fmt.Errorf("event header %s is missing: not a CloudEvent in binary mode", must.name)
		}
	}
	return e, nil
}
