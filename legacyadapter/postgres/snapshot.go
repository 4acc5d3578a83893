package postgres

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"banyan/legacyadapter/changelog"
	"banyan/proxy/event"

	"github.com/jackc/pgx/v5/pgconn"
)

type snapshot struct {
	s         *Source
	c         *pgconn.PgConn
	low, high event.Position
}

// Snapshot implements [changelog.Source]. Beside Fence it takes no time; alone, the first one waits MaxCommitDelay.
func (s *Source) Snapshot(ctx context.Context) (changelog.Snapshot, error) {
	c, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	n := &snapshot{s: s, c: c}
	if err := n.open(ctx); err != nil {
		closeConn(c)
		return nil, fmt.Errorf("open a snapshot: %w", err)
	}
	return n, nil
}

func (n *snapshot) open(ctx context.Context) error {
	s := n.s
	low, ok := s.heads.before(time.Now(), s.cfg.MaxCommitDelay)
	if !ok {
		at := time.Now()
		p, err := s.look(ctx, n.c)
		if err != nil {
			return err
		}
		s.heads.add(at, p, s.cfg.MaxCommitDelay)
		select { // a commit record below p may belong to a transaction that is not seen yet
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(s.cfg.MaxCommitDelay):
		}
		low = p
	}
	if _, err := texts(ctx, n.c, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"); err != nil {
		return err
	}
	high, err := s.look(ctx, n.c) // the statement takes the snapshot first, then looks
	if err != nil {
		return err
	}
	n.low, n.high = low, high
	return nil
}

func (n *snapshot) Low() event.Position  { return n.low }
func (n *snapshot) High() event.Position { return n.high }

func (n *snapshot) Close() error {
	closeConn(n.c)
	return nil
}

// Query implements [changelog.Snapshot].
func (n *snapshot) Query(ctx context.Context, sql string, args ...any) (changelog.Rows, error) {
	params := make([][]byte, len(args))
	for i, a := range args {
		params[i] = argument(a)
	}
	r := n.c.ExecParams(ctx, sql, params, nil, nil, nil)
	return newRows(r)
}

func argument(a any) []byte {
	switch a := a.(type) {
	case nil:
		return nil
	case string:
		return []byte(a)
	case json.Number:
		return []byte(a)
	case []byte:
		return []byte(`\x` + hex.EncodeToString(a))
	}
	return fmt.Append(nil, a)
}

type rows struct {
	r       *pgconn.ResultReader
	columns []string
	convert []convert
	values  []any
	closed  bool
	err     error
	first   bool // the first row was read already
	more    bool
}

// newRows reads up to the first row, because only then the columns are known.
func newRows(r *pgconn.ResultReader) (*rows, error) {
	x := &rows{r: r, first: true}
	x.more = r.NextRow()
	for _, f := range r.FieldDescriptions() {
		x.columns = append(x.columns, f.Name)
		x.convert = append(x.convert, converter(f.DataTypeOID))
	}
	x.values = make([]any, len(x.columns))
	if !x.more {
		if err := x.Close(); err != nil {
			return nil, err
		}
	}
	return x, nil
}

func (r *rows) Columns() []string { return r.columns }
func (r *rows) Values() []any     { return r.values }
func (r *rows) Err() error        { return r.err }

func (r *rows) Next() bool {
	if !r.first && r.more {
		r.more = r.r.NextRow()
	}
	r.first = false
	if !r.more {
		_ = r.Close()
		return false
	}
	for i, b := range r.r.Values() {
		if b == nil {
			r.values[i] = nil
		} else {
			r.values[i] = r.convert[i](b)
		}
	}
	return true
}

func (r *rows) Close() error {
	if !r.closed {
		r.closed, r.more = true, false
		_, r.err = r.r.Close()
	}
	return r.err
}

// Page implements [changelog.Snapshot].
func (n *snapshot) Page(ctx context.Context, t changelog.Table, after []any, where string, limit int) (changelog.Rows, error) {
	types := map[string]string{}
	var columns, order []string
	for _, c := range t.Columns {
		columns = append(columns, quoteIdent(c.Name))
		types[c.Name] = c.Type
	}
	for _, k := range t.PrimaryKey {
		if types[k] == "real" || types[k] == "double precision" {
			return nil, changelog.Stopf("primary key %s.%s is %s: it cannot be read in pages", t.Name, k, types[k])
		}
		order = append(order, quoteIdent(k))
	}
	var conditions []string
	var args []any
	if where != "" {
		conditions = append(conditions, "("+where+")")
	}
	if after != nil {
		if len(after) != len(order) {
			return nil, fmt.Errorf("%d key values for %d columns", len(after), len(order))
		}
		marks := make([]string, len(order))
		for i, a := range after {
			v, err := keyArgument(a, types[t.PrimaryKey[i]])
			if err != nil {
				return nil, fmt.Errorf("key %s: %w", t.PrimaryKey[i], err)
			}
			args = append(args, v)
			marks[i] = "$" + strconv.Itoa(i+1)
		}
		conditions = append(conditions, "("+strings.Join(order, ",")+") > ("+strings.Join(marks, ",")+")")
	}
	sql := "SELECT " + strings.Join(columns, ",") + " FROM " + ident(t.Name)
	if len(conditions) > 0 {
		sql += " WHERE " + strings.Join(conditions, " AND ")
	}
	return n.Query(ctx, sql+" ORDER BY "+strings.Join(order, ",")+" LIMIT "+strconv.Itoa(limit), args...)
}

func keyArgument(v any, columnType string) (any, error) {
	if v == nil {
		return nil, errors.New("NULL in a primary key")
	}
	s, ok := v.(string)
	switch {
	case ok && columnType == "bytea":
		return base64.StdEncoding.DecodeString(s)
	case ok && columnType == "timestamp with time zone":
		return s + "+00", nil
	}
	return v, nil
}

func quoteIdent(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

// ident is a configured table name in SQL.
func ident(name string) string {
	schema, table, ok := strings.Cut(name, ".")
	if !ok {
		schema, table = "public", name
	}
	return quoteIdent(schema) + "." + quoteIdent(table)
}
