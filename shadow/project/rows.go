package project

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"banyan/proxy/event"
)

// rows is $1 of a statement: the events' data with what the envelope knows. The envelope's fields come last, so that
// data cannot speak in its name: of equal names jsonb keeps the last.
func rows(events []*event.Event) []byte {
	size := 2
	for _, e := range events {
		size += len(e.Data) + 160
	}
	b := append(make([]byte, 0, size), '[')
	for i, e := range events {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendRow(b, e)
	}
	return append(b, ']')
}

func appendRow(b []byte, e *event.Event) []byte {
	data := bytes.TrimSpace(e.Data)
	b = append(b, data[:len(data)-1]...)
	if len(bytes.TrimSpace(data[1:len(data)-1])) > 0 {
		b = append(b, ',')
	}
	b = append(b, `"_subject":`...)
	b = appendString(b, string(e.Subject))
	b = append(b, `,"_key":`...)
	b = appendString(b, string(e.Key))
	b = append(b, `,"_position":"`...)
	b = append(b, e.Position.String()...)
	b = append(b, `","_time":"`...)
	b = e.Time.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, `","_seq":`...)
	b = strconv.AppendInt(b, int64(e.Sequence), 10)
	return append(b, '}')
}

func appendString(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= 0x7f {
			j, _ := json.Marshal(s) // strings always marshal
			return append(b, j...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

var errNoObject = errors.New("data are not a JSON object")
