package readmodel

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"iter"
	"strings"

	"banyan/proxy/event"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// Snapshot is one moment of the read model. Close it soon: PostgreSQL keeps dead rows for it.
type Snapshot struct {
	schema string
	tx     pgx.Tx
}

// Snapshot opens a REPEATABLE READ, READ ONLY transaction and fixes its moment.
func (p *Postgres) Snapshot(ctx context.Context) (*Snapshot, error) {
	tx, err := p.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, fmt.Errorf("read model %s: snapshot: %w", p.schema, err)
	}
	// PostgreSQL takes the snapshot at the first statement, not at BEGIN: a caller that releases a hold after this
	// returns must not see what comes later.
	if _, err := tx.Exec(ctx, "select 1"); err != nil {
		_ = tx.Rollback(ctx)
		return nil, fmt.Errorf("read model %s: snapshot: %w", p.schema, err)
	}
	return &Snapshot{p.schema, tx}, nil
}

// Close ends the snapshot.
func (s *Snapshot) Close(ctx context.Context) error { return s.tx.Rollback(ctx) }

// Progress is of the snapshot's moment; nil if the partition has none yet.
func (s *Snapshot) Progress(ctx context.Context, partition int32) (*event.Progress, error) {
	var b []byte
	err := s.tx.QueryRow(ctx, "select (select progress from banyan_partition where partition = $1)", partition).Scan(&b)
	if err != nil {
		return nil, fmt.Errorf("read model %s: progress of partition %d: %w", s.schema, partition, err)
	}
	return decodeProgress(b)
}

// Rows is an open query.
type Rows struct {
	Columns []string // in the statement's order
	schema  string
	rows    pgx.Rows
	values  []any
	err     error
}

// Query runs a squad's SELECT. Values are those of [event.Values]: booleans, integers and floats as such, NULL as nil,
// binary as base64 text, everything else (decimals, instants, json) as PostgreSQL's text; instants with a zone are UTC.
func (s *Snapshot) Query(ctx context.Context, sql string, args ...any) (*Rows, error) {
	rows, err := s.tx.Query(ctx, sql, append([]any{pgx.QueryResultFormats{pgx.TextFormatCode}}, args...)...)
	if err != nil {
		return nil, fmt.Errorf("read model %s: %w", s.schema, err)
	}
	r := &Rows{schema: s.schema, rows: rows}
	for _, f := range rows.FieldDescriptions() {
		r.Columns = append(r.Columns, f.Name)
	}
	return r, nil
}

// All yields the rows; check Err afterwards. It closes the query when the loop ends, however it does.
func (r *Rows) All() iter.Seq[event.Values] {
	return func(yield func(event.Values) bool) {
		defer r.Close()
		for r.Next() {
			v := make(event.Values, len(r.values))
			for i, c := range r.Columns {
				v[c] = r.values[i]
			}
			if !yield(v) {
				return
			}
		}
	}
}

// Next reads the next row into Values and says whether there is one; check Err afterwards, and Close.
func (r *Rows) Next() bool {
	if r.err != nil || !r.rows.Next() {
		return false
	}
	fields := r.rows.FieldDescriptions()
	if r.values == nil {
		r.values = make([]any, len(fields))
	}
	for i, raw := range r.rows.RawValues() {
		if r.values[i], r.err = value(fields[i].DataTypeOID, raw); r.err != nil {
			r.err = fmt.Errorf("column %s: %w", fields[i].Name, r.err)
			return false
		}
	}
	return true
}

// Values are the row's in column order; the next call of Next overwrites them.
func (r *Rows) Values() []any { return r.values }

// Close ends the query.
func (r *Rows) Close() { r.rows.Close() }

// Err is what ended the rows, nil if it was their end.
func (r *Rows) Err() error {
	err := r.err
	if err == nil {
		err = r.rows.Err()
	}
	if err != nil {
		return fmt.Errorf("read model %s: %w", r.schema, err)
	}
	return nil
}

func value(oid uint32, raw []byte) (any, error) {
	if raw == nil {
		return nil, nil
	}
	s := string(raw)
	switch oid {
	case pgtype.BoolOID:
		return s == "t", nil
	case pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID, pgtype.OIDOID:
		return json.Number(s), nil
	case pgtype.Float4OID, pgtype.Float8OID:
		if strings.ContainsAny(s, "IN") { // Infinity, NaN
			return s, nil
		}
		return json.Number(s), nil
	case pgtype.ByteaOID:
		b, err := hex.DecodeString(strings.TrimPrefix(s, `\x`))
		if err != nil {
			return nil, fmt.Errorf("bytea: %w", err)
		}
		return base64.StdEncoding.EncodeToString(b), nil
	}
	return s, nil
}
