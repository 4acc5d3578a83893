package ledger

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"banyan/proxy/event"

	"github.com/jackc/pgx/v5"
)

// Source counts changes of one column that no write explains. Inserted and deleted rows count under [InsertColumn] and
// [DeleteColumn].
type Source struct {
	Table, Column      string
	Dark, Unattributed int64
	Position           event.Position // of the last one
}

// The columns that stand for whole rows.
const (
	InsertColumn = "(insert)"
	DeleteColumn = "(delete)"
)

// Naming says what was decided about a source.
type Naming string

// The namings. A source without one blocks the flip to live.
const (
	Mapped     Naming = "mapped"       // its changes become events
	OutOfScope Naming = "out of scope" // no compared read and no projection shows it
)

// Declared names sources: one column of a table, or with Column "" all of it.
type Declared struct {
	Table, Column string
	Naming        Naming
}

// SourceEvidence is a source as it stands.
type SourceEvidence struct {
	Table        string         `json:"table"`
	Column       string         `json:"column"`
	Dark         int64          `json:"dark"`
	Unattributed int64          `json:"unattributed"`
	Naming       Naming         `json:"naming,omitempty"` // "": nobody decided
	First        time.Time      `json:"first"`
	Last         time.Time      `json:"last"`
	Position     event.Position `json:"position"`
}

// Declare replaces what is decided about the sources of a migration.
func (l *Ledger) Declare(ctx context.Context, m event.Migration, ds []Declared) error {
	err := pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `delete from declared where migration = $1`, m); err != nil {
			return err
		}
		for _, d := range ds {
			if _, err := tx.Exec(ctx, `insert into declared values ($1, $2, $3, $4) on conflict do nothing`, m, d.Table, d.Column, d.Naming); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("ledger: declare sources of %s: %w", m, err)
	}
	return nil
}

func (c *commit) sources(ctx context.Context) error {
	for _, s := range merged(slices.Clone(c.b.Sources)) {
		if _, err := c.tx.Exec(ctx, `insert into source values ($1, $2, $3, $4, $5, $6, $6, $7)
			on conflict (migration, "table", "column") do update set dark = source.dark + excluded.dark,
			unattributed = source.unattributed + excluded.unattributed, last_at = excluded.last_at,
			last_position = greatest(source.last_position, excluded.last_position)`,
			c.b.Migration, clip(s.Table, 200), clip(s.Column, 200), s.Dark, s.Unattributed, c.b.At, int64(s.Position)); err != nil {
			return err
		}
	}
	return nil
}

// Sources are the dark and unattributed sources of a migration, the busiest first.
func (l *Ledger) Sources(ctx context.Context, m event.Migration) ([]SourceEvidence, error) {
	rows, err := l.pool.Query(ctx, `select s."table", s."column", dark, unattributed, coalesce(a.status, b.status, ''), first_at, last_at, last_position
		from source s left join declared a on a.migration = s.migration and a."table" = s."table" and a."column" = s."column"
		left join declared b on b.migration = s.migration and b."table" = s."table" and b."column" = ''
		where s.migration = $1 order by dark + unattributed desc, 1, 2`, m)
	if err != nil {
		return nil, fmt.Errorf("ledger: sources of %s: %w", m, err)
	}
	out, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (s SourceEvidence, err error) {
		var at int64
		err = r.Scan(&s.Table, &s.Column, &s.Dark, &s.Unattributed, &s.Naming, &s.First, &s.Last, &at)
		s.Position = event.Position(at)
		return s, err
	})
	if err != nil {
		return nil, fmt.Errorf("ledger: sources of %s: %w", m, err)
	}
	return out, nil
}

// Gap is a time in which writes went unrecorded. A gap voids its migration's evidence until it is repaired.
type Gap struct {
	ID       string        `json:"id"` // the replica's name of it
	Replica  event.Replica `json:"replica,omitempty"`
	Reason   string        `json:"reason"`
	Opened   time.Time     `json:"opened"`
	Closed   *time.Time    `json:"closed,omitempty"`
	Writes   int64         `json:"writes"`
	AtLeast  bool          `json:"at_least,omitempty"` // a crash inside it: there may be more
	Repaired *time.Time    `json:"repaired,omitempty"` // by backfill and sweep
}

// PutGap enters a gap, or what is new of it.
func (l *Ledger) PutGap(ctx context.Context, m event.Migration, g Gap) error {
	_, err := l.pool.Exec(ctx, `insert into gap values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
		on conflict (migration, id) do update set closed_at = coalesce(excluded.closed_at, gap.closed_at),
		writes = greatest(gap.writes, excluded.writes), at_least = gap.at_least or excluded.at_least,
		repaired_at = coalesce(excluded.repaired_at, gap.repaired_at)`,
		m, g.ID, g.Replica, clip(g.Reason, 400), g.Opened, g.Closed, g.Writes, g.AtLeast, g.Repaired)
	if err != nil {
		return fmt.Errorf("ledger: gap %s of %s: %w", g.ID, m, err)
	}
	return nil
}

// Gaps are all gaps of a migration, the newest first.
func (l *Ledger) Gaps(ctx context.Context, m event.Migration) ([]Gap, error) {
	rows, err := l.pool.Query(ctx, `select id, replica, reason, opened_at, closed_at, writes, at_least, repaired_at from gap
		where migration = $1 order by opened_at desc, id`, m)
	if err != nil {
		return nil, fmt.Errorf("ledger: gaps of %s: %w", m, err)
	}
	out, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (g Gap, err error) {
		err = r.Scan(&g.ID, &g.Replica, &g.Reason, &g.Opened, &g.Closed, &g.Writes, &g.AtLeast, &g.Repaired)
		return g, err
	})
	if err != nil {
		return nil, fmt.Errorf("ledger: gaps of %s: %w", m, err)
	}
	return out, nil
}

// Projection is one partition of a read model, for people.
type Projection struct {
	Generation int            `json:"generation"`
	Partition  int32          `json:"partition"`
	State      string         `json:"state"` // as the projection calls it
	Position   event.Position `json:"position"`
	Note       string         `json:"note,omitempty"`
	At         time.Time      `json:"at"`
}

// PutProjections enters how projections stand.
func (l *Ledger) PutProjections(ctx context.Context, m event.Migration, ps []Projection) error {
	q := &pgx.Batch{}
	for _, p := range ps {
		q.Queue(`insert into projection values ($1, $2, $3, $4, $5, $6, $7) on conflict (migration, generation, partition)
			do update set state = excluded.state, position = excluded.position, note = excluded.note, at = excluded.at`,
			m, p.Generation, p.Partition, p.State, int64(p.Position), clip(p.Note, 1000), p.At)
	}
	if err := l.pool.SendBatch(ctx, q).Close(); err != nil {
		return fmt.Errorf("ledger: projections of %s: %w", m, err)
	}
	return nil
}

// Projections lists them by generation and partition.
func (l *Ledger) Projections(ctx context.Context, m event.Migration) ([]Projection, error) {
	rows, err := l.pool.Query(ctx, `select generation, partition, state, position, note, at from projection where migration = $1 order by 1, 2`, m)
	if err != nil {
		return nil, fmt.Errorf("ledger: projections of %s: %w", m, err)
	}
	out, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (p Projection, err error) {
		var at int64
		err = r.Scan(&p.Generation, &p.Partition, &p.State, &at, &p.Note, &p.At)
		p.Position = event.Position(at)
		return p, err
	})
	if err != nil {
		return nil, fmt.Errorf("ledger: projections of %s: %w", m, err)
	}
	return out, nil
}

// merged adds sources of one column together.
func merged(ss []Source) []Source {
	slices.SortFunc(ss, func(a, b Source) int {
		if a.Table != b.Table {
			return strings.Compare(a.Table, b.Table)
		}
		return strings.Compare(a.Column, b.Column)
	})
	out := ss[:0]
	for _, s := range ss {
		if n := len(out); n > 0 && out[n-1].Table == s.Table && out[n-1].Column == s.Column {
			out[n-1].Dark += s.Dark
			out[n-1].Unattributed += s.Unattributed
			out[n-1].Position = max(out[n-1].Position, s.Position)
			continue
		}
		out = append(out, s)
	}
	return out
}
