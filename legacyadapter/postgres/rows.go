package postgres

import (
	"fmt"

	"banyan/legacyadapter/changelog"
	"banyan/proxy/event"

	"github.com/jackc/pglogrepl"
)

// relation is how the rows of one table are turned into values.
type relation struct {
	name    string // as configured; "" if nobody asked for it
	columns []column
}

type column struct {
	name  string
	value convert
}

// tableName is the name as in the config.
func tableName(schema, table string) string {
	if schema == "public" {
		return table
	}
	return schema + "." + table
}

func (r *reader) relation(m *pglogrepl.RelationMessage) error {
	l := &relation{name: tableName(m.Namespace, m.RelationName)}
	if !r.s.tables[l.name] {
		l.name = ""
	}
	for _, c := range m.Columns {
		oid, err := r.s.types.resolve(r.ctx, r.s, c.DataType)
		if err != nil {
			return err
		}
		l.columns = append(l.columns, column{c.Name, converter(oid)})
	}
	r.relations[m.RelationID] = l
	return nil
}

func (r *reader) row(relationID uint32, op event.Op, before *pglogrepl.TupleData, beforeType uint8, after *pglogrepl.TupleData, size int) error {
	l := r.relations[relationID]
	if l == nil || r.txn == nil {
		return fmt.Errorf("a row of an unknown table after %s", r.at)
	}
	if l.name == "" {
		r.txn.Dropped++
		return nil
	}
	if r.size += int64(size); r.size > r.s.cfg.MaxTransaction {
		return changelog.Stopf("the transaction after %s holds more than %d bytes of rows: raise changelog.max_transaction (it needs ten times that in memory), "+
			"or set changelog.start_at_head to pass it and backfill", r.at, r.s.cfg.MaxTransaction)
	}
	c := event.RowChange{N: len(r.txn.Rows), Table: l.name, Op: op}
	var err error
	if before != nil && beforeType == pglogrepl.UpdateMessageTupleTypeOld {
		if c.Before, err = l.image(before, nil); err != nil {
			return err
		}
	} else if op != event.Insert {
		r.incomplete(l)
		if op == event.Delete { // the key alone, which is better than nothing
			if c.Before, err = l.key(before); err != nil {
				return err
			}
		}
	}
	if after != nil {
		if c.After, err = l.image(after, c.Before); err != nil {
			return err
		}
	}
	if !r.annotation.IsZero() && r.txn.Annotations == nil {
		r.txn.Annotations = make([]event.WriteID, len(r.txn.Rows), len(r.txn.Rows)+1)
	}
	if r.txn.Annotations != nil {
		r.txn.Annotations = append(r.txn.Annotations, r.annotation)
	}
	r.txn.Rows = append(r.txn.Rows, c)
	return nil
}

// incomplete says once per table that what it was before is not known.
func (r *reader) incomplete(l *relation) {
	if !r.warned[l.name] {
		r.warned[l.name] = true
		r.s.log.Error("change log: rows of a table come without what they were before", "table", l.name,
			"mend", "ALTER TABLE "+ident(l.name)+" REPLICA IDENTITY FULL")
	}
}

// image reads a row. An unchanged large column is not sent again; it is as it was before.
func (l *relation) image(t *pglogrepl.TupleData, before event.Values) (event.Values, error) {
	if len(t.Columns) != len(l.columns) {
		return nil, fmt.Errorf("row of %s: %d values for %d columns", l.name, len(t.Columns), len(l.columns))
	}
	v := make(event.Values, len(t.Columns))
	for i, x := range t.Columns {
		c := &l.columns[i]
		switch x.DataType {
		case pglogrepl.TupleDataTypeNull:
			v[c.name] = nil
		case pglogrepl.TupleDataTypeToast:
			if old, ok := before[c.name]; ok {
				v[c.name] = old
			}
		case pglogrepl.TupleDataTypeText:
			v[c.name] = c.value(x.Data)
		default:
			return nil, fmt.Errorf("row of %s: column %s in form %q", l.name, c.name, x.DataType)
		}
	}
	return v, nil
}

// key reads the key columns of a deleted row; the others are sent as NULL.
func (l *relation) key(t *pglogrepl.TupleData) (event.Values, error) {
	if t == nil {
		return event.Values{}, nil
	}
	v, err := l.image(t, nil)
	for name, x := range v {
		if x == nil {
			delete(v, name)
		}
	}
	return v, err
}
