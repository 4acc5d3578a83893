package changelog

import (
	"encoding/json"

	"banyan/proxy/event"
)

// maxTracked bounds the rows that change while one chunk is read; above it the chunk is read again.
const maxTracked = 200_000

// tracker remembers the rows of one table that changed since a position. The session's order guards it.
type tracker struct {
	table string
	key   []string
	since event.Position // every change above it was seen
	rows  map[string]tracked
	lost  bool // the session ended, or too much changed
}

type tracked struct {
	position event.Position
	image    event.Values // nil: deleted
	moved    bool         // it came here from another primary key
}

func newTracker(t Table, since event.Position) *tracker {
	return &tracker{table: t.Name, key: t.PrimaryKey, since: since, rows: map[string]tracked{}}
}

func (t *tracker) see(txn *Txn) {
	for i := range txn.Rows {
		r := &txn.Rows[i]
		if r.Table != t.table {
			continue
		}
		before, after := "", ""
		if r.Before != nil {
			before = keyText(t.key, r.Before)
		}
		if r.After != nil {
			after = keyText(t.key, r.After)
		}
		moved := r.Op == event.Update && r.Before != nil && before != after
		if r.Op == event.Delete || moved {
			t.rows[before] = tracked{position: txn.Position}
		}
		if r.Op != event.Delete {
			t.rows[after] = tracked{position: txn.Position, image: r.After, moved: moved || t.rows[after].moved}
		}
	}
	if len(t.rows) > maxTracked {
		t.lose()
	}
}

func (t *tracker) lose() { t.lost, t.rows = true, nil }

// prune forgets what every later snapshot shows anyway.
func (t *tracker) prune(low event.Position) {
	t.since = max(t.since, low)
	for k, c := range t.rows {
		if c.position <= low {
			delete(t.rows, k)
		} else if c.moved {
			c.moved = false // it was imported just now
			t.rows[k] = c
		}
	}
}

// keyText is a primary key as text that no other key has.
func keyText(key []string, row event.Values) string {
	b := make([]byte, 0, 32)
	for _, c := range key {
		switch v := row[c].(type) {
		case json.Number:
			b = append(b, v...)
		case string:
			b = append(b, v...)
		case bool:
			if v {
				b = append(b, 't')
			}
		}
		b = append(b, 0)
	}
	return string(b)
}
