package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"banyan/proxy/event"

	"github.com/jackc/pgx/v5"
)

// MaxUnverified bounds the keys that a sweep lists as never verified.
const MaxUnverified = 100

// Sweep is how far a sweep over all rows of a state comparison is.
type Sweep struct {
	Comparison Comparison     `json:"comparison"`
	Started    time.Time      `json:"started"`
	From       event.Position `json:"from"`     // legacy's position at its first chunk
	Position   event.Position `json:"position"` // at its newest
	Cursor     []byte         `json:"-"`        // where it goes on
	Verified   int64          `json:"verified"` // rows compared for good, equal or not
	Different  int64          `json:"different"`
	Unverified int64          `json:"unverified"` // keys that could never be compared fairly
	Keys       []string       `json:"keys,omitempty"`
	Done       bool           `json:"done"`
	Ended      *time.Time     `json:"ended,omitempty"`
}

// Complete reports whether it is done and verified every key.
func (s *Sweep) Complete() bool { return s.Done && s.Unverified == 0 }

// sweeps enters progress. A finished one stays on record while the next runs. Findings with more places than are listed
// are settled by a complete sweep that began after the last of those places was seen.
func (c *commit) sweeps(ctx context.Context) error {
	for _, s := range c.b.Sweeps {
		if len(s.Keys) > MaxUnverified {
			s.Keys = s.Keys[:MaxUnverified]
		}
		keys, err := json.Marshal(s.Keys)
		if err != nil {
			return err
		}
		var completed []byte
		if s.Done {
			ended := c.b.At
			s.Ended = &ended
			if completed, err = json.Marshal(s); err != nil {
				return err
			}
		}
		if _, err := c.tx.Exec(ctx, `insert into sweep values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
			on conflict (migration, comparison) do update set fingerprint = excluded.fingerprint, started_at = excluded.started_at,
			start_position = excluded.start_position, cursor = excluded.cursor, verified = excluded.verified, different = excluded.different,
			unverified = excluded.unverified, unverified_keys = excluded.unverified_keys, position = excluded.position, updated_at = excluded.updated_at,
			completed_at = coalesce(excluded.completed_at, case when sweep.fingerprint = excluded.fingerprint then sweep.completed_at end),
			completed = coalesce(excluded.completed, case when sweep.fingerprint = excluded.fingerprint then sweep.completed end)`,
			c.b.Migration, s.Comparison, c.b.Fingerprint, s.Started, int64(s.From), s.Cursor, s.Verified, s.Different, s.Unverified,
			jsonText(keys), int64(s.Position), c.b.At, s.Ended, nullText(completed)); err != nil {
			return err
		}
		if s.Complete() {
			if err := c.overflowed(ctx, s); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *commit) overflowed(ctx context.Context, s Sweep) error {
	rows, err := c.tx.Query(ctx, `update finding set more_at = null where migration = $1 and comparison = $2 and more_at < $3 returning id`,
		c.b.Migration, s.Comparison, s.Started)
	if err != nil {
		return err
	}
	var id int64
	_, err = pgx.ForEachRow(rows, []any{&id}, func() error { c.touched[id] = struct{}{}; return nil })
	return err
}

func nullText(b []byte) *string {
	if b == nil {
		return nil
	}
	s := jsonText(b)
	return &s
}

// Sweep gives the running or last sweep of a comparison under a fingerprint, nil if there is none.
func (l *Ledger) Sweep(ctx context.Context, m event.Migration, c Comparison, fingerprint string) (*Sweep, error) {
	s := &Sweep{Comparison: c}
	var keys []byte
	var from, at int64
	err := l.pool.QueryRow(ctx, `select started_at, start_position, cursor, verified, different, unverified, unverified_keys, position,
		case when completed_at >= started_at then completed_at end from sweep where migration = $1 and comparison = $2 and fingerprint = $3`,
		m, c, fingerprint).Scan(&s.Started, &from, &s.Cursor, &s.Verified, &s.Different, &s.Unverified, &keys, &at, &s.Ended)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(keys, &s.Keys)
	}
	if err != nil {
		return nil, fmt.Errorf("ledger: sweep of %s: %w", c, err)
	}
	s.From, s.Position, s.Done = event.Position(from), event.Position(at), s.Ended != nil
	return s, nil
}
