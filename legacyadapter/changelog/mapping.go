package changelog

import (
	"encoding/json"
	"errors"
	"fmt"

	"banyan/proxy/event"
)

// Mapping says that the rows of a table belong to a migration, and to which ordering key each does. Several migrations
// may map one table.
type Mapping struct {
	Migration event.Migration
	Table     string
	// Key is the ordering key of a row, from any of its columns. False: it cannot be told, so the row is relevant to
	// every key of the migration.
	Key func(row event.Values) (event.OrderingKey, bool)
}

func byTable(ms []Mapping) (map[string][]Mapping, error) {
	t := map[string][]Mapping{}
	var errs []error
	for _, m := range ms {
		if m.Migration == "" || m.Table == "" || m.Key == nil {
			errs = append(errs, fmt.Errorf("mapping of table %q to migration %q: want both names and a key", m.Table, m.Migration))
		}
		t[m.Table] = append(t[m.Table], m)
	}
	if len(ms) == 0 {
		errs = append(errs, errors.New("mappings: none; nothing would be published"))
	}
	return t, errors.Join(errs...)
}

// part is the rows of one migration and key in one transaction, encoded, so that a row which several parts hold is
// encoded once.
type part struct {
	migration event.Migration
	key       event.OrderingKey
	first     int // number of its first row: with position, migration and key its identity
	size      int
	rows      []json.RawMessage
	write     event.WriteID // the first annotation of its rows
}

type address struct {
	migration event.Migration
	key       event.OrderingKey
}

// splitter cuts transactions into parts. One goroutine.
type splitter struct {
	tables  map[string][]Mapping
	maxPart int // bytes of encoded rows in one record
	open    map[address]*part
}

func newSplitter(tables map[string][]Mapping, maxPart int) *splitter {
	return &splitter{tables: tables, maxPart: maxPart, open: map[address]*part{}}
}

// split gives the parts in the order of their first rows; dropped counts the rows that no mapping names.
func (s *splitter) split(t *Txn) (parts []*part, dropped int) {
	clear(s.open)
	for i := range t.Rows {
		r := &t.Rows[i]
		maps := s.tables[r.Table]
		if len(maps) == 0 {
			dropped++
			continue
		}
		raw := json.RawMessage(appendRow(nil, r))
		var id event.WriteID
		if t.Annotations != nil {
			id = t.Annotations[i]
		}
		for _, m := range maps {
			for _, k := range keysOf(m, r) {
				a := address{m.Migration, k}
				p := s.open[a]
				if p == nil || p.size+len(raw) > s.maxPart {
					p = &part{migration: m.Migration, key: k, first: r.N}
					s.open[a] = p
					parts = append(parts, p)
				}
				p.add(raw, id)
			}
		}
	}
	return parts, dropped
}

func (p *part) add(raw json.RawMessage, id event.WriteID) {
	p.rows = append(p.rows, raw)
	p.size += len(raw)
	if p.write.IsZero() {
		p.write = id
	}
}

// keysOf are the keys that a row change concerns: an update that moves the row concerns the key that it leaves, too.
func keysOf(m Mapping, r *event.RowChange) []event.OrderingKey {
	var keys []event.OrderingKey
	for _, image := range [...]event.Values{r.Before, r.After} {
		if image == nil {
			continue
		}
		k, ok := m.Key(image)
		if !ok || k == "" {
			return []event.OrderingKey{""}
		}
		if len(keys) == 0 || keys[0] != k {
			keys = append(keys, k)
		}
	}
	return keys
}

func appendNew(ids []event.WriteID, id event.WriteID) []event.WriteID {
	for _, x := range ids {
		if x == id {
			return ids
		}
	}
	return append(ids, id)
}

// record is the JSON form of [event.Change] with rows that are encoded already.
type record struct {
	V         int               `json:"v"`
	Migration event.Migration   `json:"migration"`
	Key       event.OrderingKey `json:"key"`
	Position  event.Position    `json:"position"`
	Part      int               `json:"part"`
	Parts     int               `json:"parts"`
	Write     event.WriteID     `json:"write,omitzero"`
	Other     []event.WriteID   `json:"other,omitempty"`
	Rows      []json.RawMessage `json:"rows"`
	Received  string            `json:"received"`
}

// encode gives each part's record. A part whose rows carry no annotation belongs to the transaction's, if that has
// exactly one: a transaction is one request's. All other annotations of the transaction are listed.
func encode(t *Txn, parts []*part) [][]byte {
	var all []event.WriteID
	for _, id := range t.Annotations {
		if !id.IsZero() {
			all = appendNew(all, id)
		}
	}
	received := t.Received.UTC().Format(rfc3339Nano)
	records := make([][]byte, len(parts))
	for i, p := range parts {
		r := record{V: event.ChangeVersion, Migration: p.migration, Key: p.key, Position: t.Position, Part: i + 1, Parts: len(parts),
			Write: p.write, Rows: p.rows, Received: received}
		if r.Write.IsZero() && len(all) == 1 {
			r.Write = all[0]
		}
		for _, id := range all {
			if id != r.Write {
				r.Other = append(r.Other, id)
			}
		}
		records[i] = event.Encode(&r)
	}
	return records
}

const rfc3339Nano = "2006-01-02T15:04:05.999999999Z07:00"

func appendRow(b []byte, r *event.RowChange) []byte { return append(b, event.Encode(r)...) }
