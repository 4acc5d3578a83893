package mysql

import (
	"context"
	"database/sql/driver"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"banyan/legacyadapter/changelog"
	"banyan/proxy/event"
)

// snapshot is one transaction with a consistent snapshot, whose position the server tells exactly.
type snapshot struct {
	s  *Source
	c  *conn
	at event.Position
}

const openSQL = "START TRANSACTION WITH CONSISTENT SNAPSHOT; SHOW STATUS LIKE 'binlog_snapshot_%'"

// Snapshot implements [changelog.Source].
func (s *Source) Snapshot(ctx context.Context) (changelog.Snapshot, error) {
	c, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	at, err := look(ctx, c, openSQL)
	if err != nil {
		c.close()
		return nil, fmt.Errorf("open a snapshot: %w", err)
	}
	return &snapshot{s, c, at}, nil
}

func (n *snapshot) Low() event.Position  { return n.at }
func (n *snapshot) High() event.Position { return n.at }
func (n *snapshot) Close() error         { return n.c.close() }

// Query implements [changelog.Snapshot]. The statement is prepared: only then the server sends floats unrounded.
func (n *snapshot) Query(ctx context.Context, sql string, args ...any) (changelog.Rows, error) {
	stmt, err := n.c.c.PrepareContext(ctx, sql)
	if err != nil {
		return nil, fmt.Errorf("prepare: %w", err)
	}
	named := make([]driver.NamedValue, len(args))
	for i, a := range args {
		named[i] = driver.NamedValue{Ordinal: i + 1, Value: argument(a)}
	}
	q, ok := stmt.(driver.StmtQueryContext)
	if !ok {
		stmt.Close()
		return nil, errors.New("the mysql driver lacks what we use of it")
	}
	rs, err := q.QueryContext(ctx, named)
	if err != nil {
		stmt.Close()
		return nil, err
	}
	return newRows(stmt, rs), nil
}

// argument makes a value of ours one of the driver's.
func argument(a any) driver.Value {
	switch a := a.(type) {
	case json.Number:
		if i, err := strconv.ParseInt(string(a), 10, 64); err == nil {
			return i
		}
		if u, err := strconv.ParseUint(string(a), 10, 64); err == nil {
			return u
		}
		return string(a)
	case int:
		return int64(a)
	}
	return a
}

type rows struct {
	stmt    driver.Stmt
	rs      driver.Rows
	columns []string
	convert []func(driver.Value) any
	raw     []driver.Value
	values  []any
	err     error
}

func newRows(stmt driver.Stmt, rs driver.Rows) *rows {
	r := &rows{stmt: stmt, rs: rs, columns: rs.Columns()}
	n := len(r.columns)
	r.convert, r.raw, r.values = make([]func(driver.Value) any, n), make([]driver.Value, n), make([]any, n)
	types, _ := rs.(driver.RowsColumnTypeDatabaseTypeName)
	for i := range r.convert {
		name := ""
		if types != nil {
			name = types.ColumnTypeDatabaseTypeName(i)
		}
		r.convert[i] = converter(name)
	}
	return r
}

// converter makes of the driver's value the same that the log's column gives.
func converter(databaseType string) func(driver.Value) any {
	switch strings.TrimPrefix(databaseType, "UNSIGNED ") {
	case "BINARY", "VARBINARY", "BLOB", "TINYBLOB", "MEDIUMBLOB", "LONGBLOB", "GEOMETRY":
		return func(v driver.Value) any { return changelog.Binary(bytesOf(v)) }
	case "BIT":
		return func(v driver.Value) any {
			var n uint64
			for _, b := range bytesOf(v) {
				n = n<<8 | uint64(b)
			}
			return changelog.Uint(n)
		}
	case "DECIMAL":
		return func(v driver.Value) any { return changelog.Decimal(string(bytesOf(v))) }
	case "TINYINT", "SMALLINT", "MEDIUMINT", "INT", "BIGINT", "YEAR":
		return func(v driver.Value) any {
			switch v := v.(type) {
			case int64:
				return changelog.Int(v)
			case uint64:
				return changelog.Uint(v)
			}
			return json.Number(bytesOf(v))
		}
	case "FLOAT", "DOUBLE":
		return func(v driver.Value) any {
			switch v := v.(type) {
			case float32:
				return changelog.Float(float64(v), 32)
			case float64:
				return changelog.Float(v, 64)
			}
			return changelog.Text(bytesOf(v))
		}
	}
	return func(v driver.Value) any { return changelog.Text(bytesOf(v)) }
}

func bytesOf(v driver.Value) []byte {
	switch v := v.(type) {
	case []byte:
		return v
	case string:
		return []byte(v)
	}
	return fmt.Append(nil, v)
}

func (r *rows) Columns() []string { return r.columns }
func (r *rows) Values() []any     { return r.values }
func (r *rows) Err() error        { return r.err }

func (r *rows) Next() bool {
	if r.err != nil {
		return false
	}
	if err := r.rs.Next(r.raw); err != nil {
		if !errors.Is(err, io.EOF) {
			r.err = err
		}
		return false
	}
	for i, v := range r.raw {
		if v == nil {
			r.values[i] = nil
		} else {
			r.values[i] = r.convert[i](v)
		}
	}
	return true
}

func (r *rows) Close() error { return errors.Join(r.rs.Close(), r.stmt.Close()) }

// Page implements [changelog.Snapshot].
func (n *snapshot) Page(ctx context.Context, t changelog.Table, after []any, where string, limit int) (changelog.Rows, error) {
	schema, table := n.s.qualify(t.Name)
	types := map[string]string{}
	var columns, order []string
	for _, c := range t.Columns {
		columns = append(columns, ident(c.Name))
		types[c.Name] = c.Type
	}
	for _, k := range t.PrimaryKey {
		if !orderable[baseType(types[k])] {
			return nil, changelog.Stopf("primary key %s.%s is %s, whose order is not that of its values: it cannot be read in pages", t.Name, k, types[k])
		}
		order = append(order, ident(k))
	}
	var conditions []string
	var args []any
	if where != "" {
		conditions = append(conditions, "("+where+")")
	}
	if after != nil {
		if len(after) != len(t.PrimaryKey) {
			return nil, fmt.Errorf("%d key values for %d columns", len(after), len(t.PrimaryKey))
		}
		keys := make([]any, len(after))
		for i, a := range after {
			var err error
			if keys[i], err = keyArgument(a, types[t.PrimaryKey[i]]); err != nil {
				return nil, fmt.Errorf("key %s: %w", t.PrimaryKey[i], err)
			}
		}
		c, a := above(order, keys)
		conditions, args = append(conditions, c), a
	}
	sql := "SELECT " + strings.Join(columns, ",") + " FROM " + ident(schema) + "." + ident(table)
	if len(conditions) > 0 {
		sql += " WHERE " + strings.Join(conditions, " AND ")
	}
	return n.Query(ctx, sql+" ORDER BY "+strings.Join(order, ",")+" LIMIT "+strconv.Itoa(limit), args...)
}

// above is (a, b) > (x, y) in the form for which the server uses the index.
func above(columns []string, keys []any) (string, []any) {
	c, k := columns[0], keys[0]
	if len(columns) == 1 {
		return c + " > ?", []any{k}
	}
	rest, args := above(columns[1:], keys[1:])
	return c + " >= ? AND (" + c + " > ? OR " + rest + ")", append([]any{k, k}, args...)
}

var orderable = map[string]bool{"tinyint": true, "smallint": true, "mediumint": true, "int": true, "bigint": true, "decimal": true, "year": true,
	"char": true, "varchar": true, "binary": true, "varbinary": true, "date": true, "datetime": true, "timestamp": true, "time": true}

// baseType is "int" of "int(10) unsigned".
func baseType(t string) string {
	if i := strings.IndexAny(t, "( "); i >= 0 {
		return t[:i]
	}
	return t
}

func keyArgument(v any, columnType string) (any, error) {
	s, isText := v.(string)
	switch baseType(columnType) {
	case "binary", "varbinary":
		if !isText {
			break
		}
		return base64.StdEncoding.DecodeString(s)
	}
	if v == nil {
		return nil, errors.New("NULL in a primary key")
	}
	return v, nil
}
