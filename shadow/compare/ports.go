package compare

import (
	"context"

	"banyan/proxy/capture"
	"banyan/proxy/event"
	"banyan/shadow/ledger"
)

// Ledger is where verdicts go.
type Ledger interface {
	Commit(ctx context.Context, b *ledger.Batch) error
	Checkpoint(ctx context.Context, name string) (state []byte, revision int64, err error)
	OpenKeys(ctx context.Context, m event.Migration, c ledger.Comparison, limit int, keys ...event.OrderingKey) ([]ledger.OpenKey, error)
	Sweep(ctx context.Context, m event.Migration, c ledger.Comparison, fingerprint string) (*ledger.Sweep, error)
}

var _ Ledger = (*ledger.Ledger)(nil)

// Asker asks the candidate once more for a pair's read. Its answer has the progress around the read.
type Asker interface {
	Ask(ctx context.Context, p *capture.Pair) (capture.Answer, error)
}

// Dialect is how a database writes what our queries need.
type Dialect struct {
	// Placeholder of the n-th argument, from 1: "?", "$1".
	Placeholder func(n int) string
	// Binary makes an expression over text that sorts by bytes.
	Binary func(expression string) string
}

// Rows streams rows. Values, in column order and as in [event.Values], are overwritten by the next call of Next.
type Rows interface {
	Columns() []string
	Next() bool
	Values() []any
	Err() error
	Close() error
}

// LegacyReader opens consistent reads of legacy's database.
type LegacyReader interface {
	Snapshot(ctx context.Context) (LegacySnapshot, error)
	Dialect() Dialect
}

// LegacySnapshot is one: everything committed up to Low is in it, nothing above High is.
type LegacySnapshot interface {
	Low() event.Position
	High() event.Position
	Query(ctx context.Context, sql string, args ...any) (Rows, error)
	Close() error
}

// ModelReader opens consistent reads of the read model's tables.
type ModelReader interface {
	Snapshot(ctx context.Context) (ModelSnapshot, error)
	Dialect() Dialect
	// Wait returns when every partition's progress is at or above the position.
	Wait(ctx context.Context, at event.Position) error
}

// ModelSnapshot is one. Progress is of its moment; nil: the partition has none yet.
type ModelSnapshot interface {
	Progress(ctx context.Context, partition int32) (*event.Progress, error)
	Query(ctx context.Context, sql string, args ...any) (Rows, error)
	Close() error
}

// Holder keeps a partition's projector at exactly a position until release is called. The position is asked for while
// the projector stands still, so that it cannot have passed it.
type Holder interface {
	Hold(ctx context.Context, partition int32, at func(context.Context) (event.Position, error)) (release func(), err error)
}
