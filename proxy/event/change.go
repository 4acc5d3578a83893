package event

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// Op is what happened to a row.
type Op string

// Import is a row of a backfill chunk: its state at a position that the reader has just passed.
const (
	Insert Op = "insert"
	Update Op = "update"
	Delete Op = "delete"
	Import Op = "import"
)

// Values are columns by name. A value is nil, bool, string or json.Number: numbers keep the digits that legacy
// wrote, instants and decimals are text, binary is base64 text. See the adapter's docs for each type.
type Values map[string]any

// UnmarshalJSON keeps numbers as text.
func (v *Values) UnmarshalJSON(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	m := map[string]any{}
	if err := d.Decode(&m); err != nil {
		return err
	}
	for k, x := range m {
		switch x.(type) {
		case nil, bool, string, json.Number:
		default:
			return fmt.Errorf("column %s: want a scalar", clip(k))
		}
	}
	*v = m
	return nil
}

// RowChange is one row change. Before and After hold all columns of the row.
type RowChange struct {
	N      int    `json:"n"` // number in its transaction, from 0; order of rows within one position
	Table  string `json:"table"`
	Op     Op     `json:"op"`
	Before Values `json:"before,omitempty"` // nil for insert and import
	After  Values `json:"after,omitempty"`  // nil for delete
}

// Image is the row as it is now: After, or Before of a deleted row.
func (r *RowChange) Image() Values {
	if r.Op == Delete {
		return r.Before
	}
	return r.After
}

// Changed says whether the column has another value after than before. Inserts, imports and deletes change all.
func (r *RowChange) Changed(column string) bool {
	if r.Op != Update {
		return true
	}
	return r.Before[column] != r.After[column]
}

// Change is the part of one committed transaction that belongs to one ordering key of one migration.
type Change struct {
	V         int         `json:"v"`
	Migration Migration   `json:"migration"`
	Key       OrderingKey `json:"key"` // "" is relevant to every key, and stands in every partition
	Position  Position    `json:"position"`
	Part      int         `json:"part"`            // k of n: this part, from 1
	Parts     int         `json:"parts"`           // of n parts of the transaction
	Write     WriteID     `json:"write,omitzero"`  // annotation; zero if there was none
	Other     []WriteID   `json:"other,omitempty"` // further annotations in the same transaction
	Rows      []RowChange `json:"rows"`
	Received  time.Time   `json:"received"` // by the reader: an upper bound of the commit
}

// ChangeVersion is the version that this build writes.
const ChangeVersion = 1

func (c *Change) version() int { return c.V }

// DecodeChange reads the JSON form.
func DecodeChange(b []byte) (*Change, error) { return decode[Change](b, KindChange, ChangeVersion) }

// Text is a column's value as text, for keys and templates; false for nil.
func Text(v any) (string, bool) {
	switch x := v.(type) {
	case string:
		return x, true
	case json.Number:
		return string(x), true
	case bool:
		if x {
			return "1", true
		}
		return "0", true
	}
	return "", false
}
