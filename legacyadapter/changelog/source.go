package changelog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"banyan/proxy/event"
)

// Txn is one committed transaction of legacy's change log.
type Txn struct {
	Position event.Position    // of its commit
	Rows     []event.RowChange // of the source's tables, in the order of the log; none: only the position went on
	// Annotations are the write ids of the statements that made the rows, one per row; nil if no statement had one.
	Annotations []event.WriteID
	Received    time.Time // when its commit was read: an upper bound of the commit
	Dropped     int       // row events of other tables
}

// Source is a change log and the tables beside it. Its implementations are safe for concurrent use.
type Source interface {
	// Lock makes this process the one reader of the installation, or fails. The lock goes with the connection that
	// Fence uses: once it is lost, the next Fence fails, and Lock has to be called again.
	Lock(ctx context.Context) error
	// Head is a commit position at or above everything committed before the call.
	Head(ctx context.Context) (event.Position, error)
	// Stream calls emit for every committed transaction above from, in commit order, until emit or the log fails. It can
	// be resumed from every emitted position. Transactions without rows tell that the log went on.
	Stream(ctx context.Context, from event.Position, emit func(*Txn) error) error
	// Acknowledge says that everything up to the position is safe elsewhere, so the server need not keep it for us.
	Acknowledge(p event.Position)
	// Fence looks at the server's head once. It needs Lock.
	Fence(ctx context.Context) (event.Fence, error)
	// Snapshot opens a consistent read.
	Snapshot(ctx context.Context) (Snapshot, error)
	// Describe tells the columns and primary key of tables, in the order asked. A table that is not there is an error.
	Describe(ctx context.Context, tables []string) ([]Table, error)
	// Check names what the reader lacks for these tables, each with the statement that mends it.
	Check(ctx context.Context, tables []string) []Problem
}

// Snapshot is one consistent read of all tables: everything committed up to Low is in it, nothing above High is. What
// lies between may or may not be. On MariaDB they are equal. One goroutine, one open Rows at a time.
type Snapshot interface {
	Low() event.Position
	High() event.Position
	// Query streams the answer; arguments stand for ? on MariaDB and $1 on PostgreSQL.
	Query(ctx context.Context, sql string, args ...any) (Rows, error)
	// Page streams at most limit whole rows of the table in the order of its primary key, after the given key values
	// (nil: from the start), of those that where holds for (SQL text, "" for all).
	Page(ctx context.Context, t Table, after []any, where string, limit int) (Rows, error)
	Close() error
}

// Rows streams rows in flat memory; values are normalised as those of [event.RowChange] are.
type Rows interface {
	Columns() []string
	// Next reads the next row. Values, in column order, are overwritten by the next call.
	Next() bool
	Values() []any
	Err() error
	Close() error
}

// Table is what Describe tells.
type Table struct {
	Name       string // as configured: bare in the default schema, else schema.table
	Columns    []Column
	PrimaryKey []string // in key order; nil: the table has none
}

// Column is one column with the database's name of its type.
type Column struct {
	Name string
	Type string
}

// Problem is something that the reader lacks.
type Problem struct {
	What string // what is wrong, and what for
	Mend string // the statement or setting that mends it
}

func (p Problem) String() string { return p.What + ": " + p.Mend }

// Stop wraps an error after which reading again cannot help: somebody has to act. The text says how.
func Stop(err error) error { return &stopError{err} }

// Stopf is Stop of a formatted error.
func Stopf(format string, args ...any) error { return Stop(fmt.Errorf(format, args...)) }

// IsStop says that somebody has to act before the reader can go on.
func IsStop(err error) bool {
	var s *stopError
	return errors.As(err, &s)
}

// ErrGone says that the server no longer keeps the log from the position where we stopped. Sources wrap it in [Stop].
var ErrGone = errors.New("the server no longer keeps the change log from there")

type stopError struct{ err error }

func (s *stopError) Error() string { return s.err.Error() }
func (s *stopError) Unwrap() error { return s.err }

// RowOf is a row as a map.
func RowOf(columns []string, values []any) event.Values {
	v := make(event.Values, len(columns))
	for i, c := range columns {
		v[c] = values[i]
	}
	return v
}
