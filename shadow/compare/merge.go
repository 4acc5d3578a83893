package compare

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"banyan/diff"
)

// merger walks two sequences of rows that are sorted by their first column, in memory that does not grow with them.
//
// The order is that of the ids' kind: numbers by value, texts by bytes. A sequence that does not ascend is an error, not a
// verdict: rows would be called missing that are merely elsewhere.
type merger struct {
	a, b    cursor
	rules   *diff.Rules
	columns []int // of b, in the order of a's
	first   bool
}

// cursor is one side, standing at a row.
type cursor struct {
	side string
	rows Rows
	id   id
	ok   bool
	any  bool // a row was read
}

// id is a row's first column.
type id struct {
	text   string
	number int64
	isNum  bool // number holds it
}

var errKind = errors.New("the id is a number on one side and text on the other: cast it in one of the two queries")

func idOf(v any) (id, error) {
	switch v := v.(type) {
	case json.Number:
		n, err := strconv.ParseInt(string(v), 10, 64)
		if err != nil {
			return id{}, fmt.Errorf("id %s is no whole number of 64 bits; select it as text", v)
		}
		return id{string(v), n, true}, nil
	case string:
		return id{text: v}, nil
	}
	return id{}, fmt.Errorf("id is %v; the first column has to be a number or text", v)
}

func (a *id) compare(b *id) (int, error) {
	switch {
	case a.isNum != b.isNum:
		return 0, errKind
	case !a.isNum:
		return strings.Compare(a.text, b.text), nil
	case a.number < b.number:
		return -1, nil
	case a.number > b.number:
		return 1, nil
	}
	return 0, nil
}

func (c *cursor) next() error {
	if !c.rows.Next() {
		c.ok = false
		if err := c.rows.Err(); err != nil {
			return fmt.Errorf("%s rows: %w", c.side, err)
		}
		return nil
	}
	now, err := idOf(c.rows.Values()[0])
	if err == nil && c.any {
		var order int
		if order, err = c.id.compare(&now); err == nil && order >= 0 {
			err = fmt.Errorf("id %s after %s: the first column has to be unique, and the order that of its bytes or numbers", now.text, c.id.text)
		}
	}
	if err != nil {
		return fmt.Errorf("%s rows: %w", c.side, err)
	}
	c.id, c.ok, c.any = now, true, true
	return nil
}

// newMerger matches the columns by name.
func newMerger(legacy, candidate Rows, rules *diff.Rules) (*merger, error) {
	m := &merger{a: cursor{side: "legacy", rows: legacy}, b: cursor{side: "candidate", rows: candidate}, rules: rules}
	have := candidate.Columns()
	at := map[string]int{}
	for i, c := range have {
		at[c] = i
	}
	names := legacy.Columns()
	for _, c := range names {
		i, ok := at[c]
		if !ok {
			return nil, fmt.Errorf("column %s is in legacy's query, and not in the candidate's", c)
		}
		m.columns = append(m.columns, i)
	}
	if len(at) != len(have) || len(names) != len(have) || len(names) == 0 || m.columns[0] != 0 {
		return nil, fmt.Errorf("columns %v and %v: both queries need the same names, each once, and the id first", names, have)
	}
	return m, nil
}

// side says which sides have a row.
type side int

const (
	both side = iota
	legacyOnly
	candidateOnly
)

// next goes to the next id. The rows are those at the cursors, valid until the next call; same says that all values of
// both are identical.
func (m *merger) next() (s side, same, ok bool, err error) {
	if !m.first {
		m.first = true
		err = errors.Join(m.a.next(), m.b.next())
	}
	if err != nil || !m.a.ok && !m.b.ok {
		return 0, false, false, err
	}
	order := 0
	switch {
	case !m.b.ok:
		order = -1
	case !m.a.ok:
		order = 1
	default:
		if order, err = m.a.id.compare(&m.b.id); err != nil {
			return 0, false, false, err
		}
	}
	switch {
	case order < 0:
		return legacyOnly, false, true, nil
	case order > 0:
		return candidateOnly, false, true, nil
	}
	return both, m.identical(), true, nil
}

// step leaves the row that next gave.
func (m *merger) step(s side) error {
	if s != candidateOnly {
		if err := m.a.next(); err != nil {
			return err
		}
	}
	if s != legacyOnly {
		return m.b.next()
	}
	return nil
}

// identical compares without making values; what is not identical may still be equal.
func (m *merger) identical() bool {
	a, b := m.a.rows.Values(), m.b.rows.Values()
	for i, j := range m.columns {
		if !sameScalar(a[i], b[j]) {
			return false
		}
	}
	return true
}

// sameScalar never compares types that cannot be compared, which would panic.
func sameScalar(a, b any) bool {
	switch a := a.(type) {
	case nil:
		return b == nil
	case string:
		b, ok := b.(string)
		return ok && a == b
	case json.Number:
		b, ok := b.(json.Number)
		return ok && a == b
	case bool:
		b, ok := b.(bool)
		return ok && a == b
	}
	return false
}

// compare makes values of the rows that stand at the cursors.
func (m *merger) compare(s side) (legacy, candidate diff.Value, report diff.Report, err error) {
	if s != candidateOnly {
		if legacy, err = rowValue(m.a.rows); err != nil {
			return
		}
	}
	if s != legacyOnly {
		if candidate, err = rowValue(m.b.rows); err != nil {
			return
		}
	}
	return legacy, candidate, diff.Compare(legacy, candidate, m.rules, diff.Options{}), nil
}

func rowValue(r Rows) (diff.Value, error) {
	columns := make([]diff.Column, len(r.Columns()))
	for i, c := range r.Columns() {
		columns[i] = diff.Column{Name: c, Value: r.Values()[i]}
	}
	return diff.FromRow(columns)
}
