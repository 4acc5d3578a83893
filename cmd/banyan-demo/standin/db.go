package standin

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/text/encoding/charmap"
)

const (
	noDate = "0000-00-00 00:00:00"
	// now is NOW() of MariaDB, which knows whole seconds; the sessions' zone is UTC.
	now = "date_trunc('second', localtimestamp)"

	oidFloat4    = 700
	oidTimestamp = 1114
)

// row is a row by column, all text.
type row map[string]string

func (r row) int(column string) int64     { return toInt(r[column]) }
func (r row) float(column string) float64 { return toFloat(r[column]) }

// db is one script's connection. After an error nothing more is asked: the script ends
// there, as PHP's die() ends it. It keeps the context of its script, whose life it shares.
type db struct {
	ctx     context.Context
	conn    *pgconn.PgConn
	writeID string // put into the log in front of each write; "" without annotation
	err     error
}

// query runs SQL in one transaction and gives the rows of the last statement. SQL goes over the wire as text and comes
// back as text, glued together as in PHP, so that a REAL is read with the digits that a script sees.
func (d *db) query(sql string) []row {
	if d.err != nil {
		return nil
	}
	results, err := d.conn.Exec(d.ctx, sql).ReadAll()
	if err != nil {
		d.err = fmt.Errorf("%w in %s", err, sql)
		return nil
	}
	if len(results) == 0 {
		return nil
	}
	return rowsOf(results[len(results)-1])
}

func rowsOf(result *pgconn.Result) []row {
	rows := make([]row, 0, len(result.Rows))
	for _, values := range result.Rows {
		r := make(row, len(values))
		for i, f := range result.FieldDescriptions {
			r[f.Name] = columnText(f.DataTypeOID, values[i])
		}
		rows = append(rows, r)
	}
	return rows
}

func columnText(oid uint32, value []byte) string {
	switch {
	case value == nil && oid == oidTimestamp:
		return noDate
	case oid == oidFloat4 && strings.Contains(string(value), "e"): // MariaDB writes 0.00001
		return strconv.FormatFloat(toFloat(string(value)), 'f', -1, 64)
	}
	return string(value)
}

// row is the first row, nil if there is none.
func (d *db) row(sql string) row {
	if rows := d.query(sql); len(rows) > 0 {
		return rows[0]
	}
	return nil
}

// count is the value of SELECT COUNT(*).
func (d *db) count(sql string) string { return d.row(sql)["count"] }

// exec writes. Each statement is a transaction of its own.
func (d *db) exec(sql string) []row {
	if d.writeID != "" {
		sql = "SELECT pg_logical_emit_message(true, 'banyan', " + quote(d.writeID) + "); " + sql
	}
	return d.query(sql)
}

// insert writes a row and gives its new id.
func (d *db) insert(sql string) string {
	if rows := d.exec(sql + " RETURNING id"); len(rows) > 0 {
		return rows[0]["id"]
	}
	return ""
}

// quote makes a literal. What no text can hold is left out.
func quote(s string) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, ""), "\x00", "")
	return "'" + strings.ReplaceAll(s, "'", "''") + "'"
}

// id is a number as PHP's (int) reads it, for SQL.
func id(s string) string { return strconv.FormatInt(toInt(s), 10) }

// latin1 cuts a text as a latin1 column does without strict mode: other characters are
// question marks, what is too long is gone.
func latin1(s string, most int) string {
	var b strings.Builder
	for _, r := range s {
		if most == 0 {
			break
		}
		if _, ok := charmap.Windows1252.EncodeRune(r); !ok || r == utf8.RuneError {
			r = '?'
		}
		b.WriteRune(r)
		most--
	}
	return b.String()
}

// writeID is the id that banyan_write_id() of banyan.php would take.
var writeID = regexp.MustCompile(`\A[A-Za-z0-9._-]{1,100}\z`)
