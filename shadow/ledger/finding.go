package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"banyan/proxy/event"
	"banyan/shadow/explain"

	"github.com/jackc/pgx/v5"
)

// FindingState is where a finding stands.
type FindingState string

// The states.
const (
	StateOpen     FindingState = "open"
	StateAccepted FindingState = "accepted" // with a reason, an owner and an expiry
	StateFixed    FindingState = "fixed"    // every place that showed it was found equal since
	StateReopened FindingState = "reopened" // was fixed, and came back
)

// Finding is differences grouped by cause.
type Finding struct {
	ID         string          `json:"id"` // "f-12"
	Migration  event.Migration `json:"migration"`
	Comparison Comparison      `json:"comparison"`
	Cause      explain.Cause   `json:"cause"`
	Class      string          `json:"class"`
	Place      string          `json:"place"` // the path without what varies
	Why        string          `json:"why"`   // of the newest sighting
	State      FindingState    `json:"state"`
	Count      int64           `json:"count"` // sightings
	FirstSeen  time.Time       `json:"first_seen"`
	LastSeen   time.Time       `json:"last_seen"`
	FixedAt    *time.Time      `json:"fixed_at,omitempty"`
	ReopenedAt *time.Time      `json:"reopened_at,omitempty"`
	Acceptance *Acceptance     `json:"acceptance,omitempty"`
	Differ     int             `json:"differ"`         // places that still differ
	More       bool            `json:"more,omitempty"` // and others that are not listed
	Keys       []DifferingKey  `json:"keys,omitempty"` // the newest of them; [Ledger.Finding] only
	Examples   []Example       `json:"examples,omitempty"`
}

// DifferingKey is a place that still differs.
type DifferingKey struct {
	Key      event.OrderingKey `json:"key"`
	Entity   event.Entity      `json:"entity,omitempty"`
	Subject  string            `json:"subject,omitempty"`
	Path     string            `json:"path"`
	Since    time.Time         `json:"since"`
	LastSeen time.Time         `json:"last_seen"`
	Count    int64             `json:"count"`
	Position event.Position    `json:"position"`
}

// Acceptance says that a finding is known and may stay until it expires.
type Acceptance struct {
	Reason  string    `json:"reason"`
	Owner   string    `json:"owner"`
	At      time.Time `json:"at"`
	Expires time.Time `json:"expires"`
}

// identity groups differences to findings.
type identity struct {
	comparison   Comparison
	cause        explain.Cause
	class, place string
}

func (f *Found) identity() identity {
	return identity{f.Comparison, f.Cause, clip(f.Class, 200), clip(f.Place, 400)}
}

func (c *commit) findings(ctx context.Context) error {
	if _, err := c.tx.Exec(ctx, `update finding set state = 'open' where migration = $1 and state = 'accepted' and expires_at <= $2`,
		c.b.Migration, c.b.At); err != nil {
		return err
	}
	c.found = make([]int64, len(c.b.Found))
	groups := map[identity][]int{}
	var order []identity
	for i := range c.b.Found {
		f := &c.b.Found[i]
		id, known, err := c.knownCause(ctx, f)
		if err != nil {
			return err
		}
		if known {
			c.found[i] = id
		}
		k := f.identity()
		if known {
			k = identity{place: "#" + strconv.FormatInt(id, 10)}
		}
		if groups[k] == nil {
			order = append(order, k)
		}
		groups[k] = append(groups[k], i)
	}
	for _, k := range order {
		if err := c.finding(ctx, groups[k]); err != nil {
			return err
		}
	}
	return nil
}

// knownCause finds the finding that explains this very place already, when this sighting explains nothing.
func (c *commit) knownCause(ctx context.Context, f *Found) (id int64, ok bool, err error) {
	if f.Cause != explain.Unknown {
		return 0, false, nil
	}
	k := f.identity()
	err = c.tx.QueryRow(ctx, `select id from finding join finding_key on finding = id
		where migration = $1 and comparison = $2 and class = $3 and place = $4 and cause <> $5 and state <> 'fixed'
		and key = $6 and subject = $7 and entity = $8 and path = $9 order by finding_key.last_seen desc limit 1`,
		c.b.Migration, k.comparison, k.class, k.place, explain.Unknown, clip(string(f.Example.Key), 400), clip(f.Subject, 400),
		clip(string(f.Example.Entity), 400), clip(f.Example.Path, 400)).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, false, nil
	}
	return id, err == nil, err
}

// finding enters sightings of one finding.
func (c *commit) finding(ctx context.Context, sightings []int) error {
	newest := &c.b.Found[sightings[len(sightings)-1]]
	id := c.found[sightings[0]]
	const state = `state = case when finding.state = 'fixed' then 'reopened' else finding.state end,
		reopened_at = case when finding.state = 'fixed' then $1 else finding.reopened_at end,
		fixed_at = case when finding.state = 'fixed' then null else finding.fixed_at end, last_seen = greatest(finding.last_seen, $1)`
	var err error
	if id != 0 {
		_, err = c.tx.Exec(ctx, `update finding set count = count + $2, `+state+` where id = $3`, c.b.At, len(sightings), id)
	} else {
		k := newest.identity()
		err = c.tx.QueryRow(ctx, `insert into finding (migration, comparison, cause, class, place, why, state, count, first_seen, last_seen, fingerprint)
			values ($2, $3, $4, $5, $6, $7, 'open', $8, $1, $1, $9)
			on conflict (migration, comparison, cause, class, place) do update set count = finding.count + excluded.count, why = excluded.why,
			fingerprint = excluded.fingerprint, `+state+` returning id`,
			c.b.At, c.b.Migration, k.comparison, k.cause, k.class, k.place, clip(newest.Example.Why, 2000), len(sightings), c.b.Fingerprint).Scan(&id)
	}
	if err != nil {
		return err
	}
	c.touched[id] = struct{}{}
	var listed int
	if err := c.tx.QueryRow(ctx, `select count(*) from finding_key where finding = $1`, id).Scan(&listed); err != nil {
		return err
	}
	for _, i := range sightings {
		c.found[i] = id
		f := &c.b.Found[i]
		fresh, err := c.key(ctx, id, f, listed < c.l.cfg.MaxKeys)
		if err != nil {
			return err
		}
		listed += fresh
	}
	return c.examples(ctx, id, sightings)
}

// key enters the place of a sighting, a new one only if there is room.
func (c *commit) key(ctx context.Context, id int64, f *Found, room bool) (fresh int, err error) {
	place := []any{id, clip(string(f.Example.Key), 400), clip(f.Subject, 400), clip(string(f.Example.Entity), 400), clip(f.Example.Path, 400),
		c.b.At, int64(f.Example.High)}
	tag, err := c.tx.Exec(ctx, `update finding_key set last_seen = $6, count = count + 1, position = $7
		where finding = $1 and key = $2 and subject = $3 and entity = $4 and path = $5`, place...)
	if err != nil || tag.RowsAffected() == 1 {
		return 0, err
	}
	if !room {
		_, err = c.tx.Exec(ctx, `update finding set more_at = $2 where id = $1`, id, c.b.At)
		return 0, err
	}
	_, err = c.tx.Exec(ctx, `insert into finding_key (finding, key, subject, entity, path, since, last_seen, count, position)
		values ($1, $2, $3, $4, $5, $6, $6, 1, $7)`, place...)
	return 1, err
}

// examples keeps the first one ever and the newest few.
func (c *commit) examples(ctx context.Context, id int64, sightings []int) error {
	var n int64
	if err := c.tx.QueryRow(ctx, `select coalesce(max(n), 0) from example where finding = $1`, id).Scan(&n); err != nil {
		return err
	}
	if keep := c.l.cfg.Examples; len(sightings) > keep+1 {
		sightings = append(slices.Clone(sightings[:1]), sightings[len(sightings)-keep:]...)
	}
	for _, i := range sightings {
		e := c.b.Found[i].Example
		e.Legacy, e.Candidate, e.Why = bounded(e.Legacy), bounded(e.Candidate), clip(e.Why, 2000)
		if e.At.IsZero() {
			e.At = c.b.At
		}
		body, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("example: %w", err)
		}
		n++
		if _, err := c.tx.Exec(ctx, `insert into example values ($1, $2, $3, $4)`, id, n, e.At, jsonText(body)); err != nil {
			return err
		}
	}
	_, err := c.tx.Exec(ctx, `delete from example where finding = $1 and n > 1 and n <= $2`, id, n-int64(c.l.cfg.Examples))
	return err
}

// maxValue is the length up to which an example holds a value itself.
const maxValue = 16 << 10

func bounded(v json.RawMessage) json.RawMessage {
	if len(v) <= maxValue {
		return v
	}
	b, _ := json.Marshal(fmt.Sprintf("%s… (%d bytes)", strings.ToValidUTF8(string(v[:maxValue/4]), "\uFFFD"), len(v)))
	return b
}

// jsonText makes JSON that PostgreSQL's jsonb takes: it knows no \u0000.
func jsonText(b []byte) string {
	return strings.ReplaceAll(strings.ToValidUTF8(string(b), "\uFFFD"), `\u0000`, `\ufffd`)
}

// verified strikes places out that were compared again and found equal, unless they were seen different since.
func (c *commit) verified(ctx context.Context) error {
	for _, k := range c.b.Verified {
		tag, err := c.tx.Exec(ctx, `delete from finding_key where finding = $1 and key = $2 and subject = $3 and entity = $4 and path = $5 and last_seen <= $6`,
			k.Finding, k.Key, k.Subject, k.Entity, k.Path, k.LastSeen)
		if err != nil {
			return err
		}
		if tag.RowsAffected() > 0 {
			c.touched[k.Finding] = struct{}{}
		}
	}
	return nil
}

// fixed closes findings of which no place is left.
func (c *commit) fixed(ctx context.Context) error {
	var ids []int64
	for id := range c.touched {
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		return nil
	}
	_, err := c.tx.Exec(ctx, `update finding set state = 'fixed', fixed_at = $2 where id = any($1) and state <> 'fixed' and more_at is null
		and not exists (select from finding_key where finding = id)`, ids, c.b.At)
	return err
}

// OpenKeys are the places of a comparison that showed a finding and were not found equal since, at most limit, those
// longest unseen first. With keys, only of those.
func (l *Ledger) OpenKeys(ctx context.Context, m event.Migration, c Comparison, limit int, keys ...event.OrderingKey) ([]OpenKey, error) {
	rows, err := l.pool.Query(ctx, `select id, class, place, key, subject, entity, path, finding_key.last_seen
		from finding join finding_key on finding = id where migration = $1 and comparison = $2 and ($3::text[] is null or key = any($3))
		order by finding_key.last_seen, id limit $4`, m, c, keys, limit)
	if err != nil {
		return nil, fmt.Errorf("ledger: open keys of %s: %w", c, err)
	}
	out, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (OpenKey, error) {
		k := OpenKey{Comparison: c}
		err := r.Scan(&k.Finding, &k.Class, &k.Place, &k.Key, &k.Subject, &k.Entity, &k.Path, &k.LastSeen)
		return k, err
	})
	if err != nil {
		return nil, fmt.Errorf("ledger: open keys of %s: %w", c, err)
	}
	return out, nil
}

const selectFinding = `select id, migration, comparison, cause, class, place, why,
	case when state = 'accepted' and expires_at <= $1 then 'open' else state end, count, first_seen, last_seen, fixed_at, reopened_at,
	reason, owner, accepted_at, expires_at, more_at is not null, (select count(*) from finding_key where finding = id) from finding`

func scanFinding(r pgx.CollectableRow) (Finding, error) {
	var f Finding
	var id int64
	var a Acceptance
	var at, expires *time.Time
	err := r.Scan(&id, &f.Migration, &f.Comparison, &f.Cause, &f.Class, &f.Place, &f.Why, &f.State, &f.Count, &f.FirstSeen, &f.LastSeen,
		&f.FixedAt, &f.ReopenedAt, &a.Reason, &a.Owner, &at, &expires, &f.More, &f.Differ)
	f.ID = "f-" + strconv.FormatInt(id, 10)
	if at != nil && expires != nil {
		a.At, a.Expires = *at, *expires
		f.Acceptance = &a
	}
	return f, err
}

// Findings lists findings of a migration, all for "", in these states, all for none; the newest first, without keys and
// examples.
func (l *Ledger) Findings(ctx context.Context, m event.Migration, states ...FindingState) ([]Finding, error) {
	rows, err := l.pool.Query(ctx, selectFinding+` where $2 in ('', migration) order by last_seen desc, id desc`, l.cfg.Now(), m)
	if err != nil {
		return nil, fmt.Errorf("ledger: findings: %w", err)
	}
	all, err := pgx.CollectRows(rows, scanFinding)
	if err != nil {
		return nil, fmt.Errorf("ledger: findings: %w", err)
	}
	return slices.DeleteFunc(all, func(f Finding) bool { return len(states) > 0 && !slices.Contains(states, f.State) }), nil
}

// ErrNotFound says that there is no such finding.
var ErrNotFound = errors.New("no such finding")

func parseFindingID(id string) (int64, error) {
	n, err := strconv.ParseInt(strings.TrimPrefix(id, "f-"), 10, 64)
	if err != nil || n < 1 || !strings.HasPrefix(id, "f-") {
		return 0, fmt.Errorf("finding %q: want an id like f-12: %w", clip(id, 80), ErrNotFound)
	}
	return n, nil
}

// Finding gives one with its examples, the first and then the newest, and up to 100 places that still differ.
func (l *Ledger) Finding(ctx context.Context, id string) (*Finding, error) {
	n, err := parseFindingID(id)
	if err != nil {
		return nil, err
	}
	rows, err := l.pool.Query(ctx, selectFinding+` where id = $2`, l.cfg.Now(), n)
	if err != nil {
		return nil, fmt.Errorf("ledger: finding %s: %w", id, err)
	}
	f, err := pgx.CollectExactlyOneRow(rows, scanFinding)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("finding %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("ledger: finding %s: %w", id, err)
	}
	rows, _ = l.pool.Query(ctx, `select body from example where finding = $1 order by n`, n)
	f.Examples, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (e Example, err error) {
		var b []byte
		if err = r.Scan(&b); err == nil {
			err = json.Unmarshal(b, &e)
		}
		return e, err
	})
	if err != nil {
		return nil, fmt.Errorf("ledger: examples of %s: %w", id, err)
	}
	rows, _ = l.pool.Query(ctx, `select key, entity, subject, path, since, last_seen, count, position from finding_key
		where finding = $1 order by last_seen desc limit 100`, n)
	f.Keys, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (k DifferingKey, err error) {
		var at int64
		err = r.Scan(&k.Key, &k.Entity, &k.Subject, &k.Path, &k.Since, &k.LastSeen, &k.Count, &at)
		k.Position = event.Position(at)
		return k, err
	})
	if err != nil {
		return nil, fmt.Errorf("ledger: keys of %s: %w", id, err)
	}
	return &f, nil
}

// Accept lets a finding stay until the acceptance expires. A fixed one needs no acceptance.
func (l *Ledger) Accept(ctx context.Context, id string, a Acceptance) error {
	n, err := parseFindingID(id)
	if err != nil {
		return err
	}
	now := l.cfg.Now()
	if strings.TrimSpace(a.Reason) == "" || strings.TrimSpace(a.Owner) == "" || !a.Expires.After(now) {
		return fmt.Errorf("accept %s: an acceptance has a reason, an owner, and an expiry in the future", id)
	}
	tag, err := l.pool.Exec(ctx, `update finding set state = 'accepted', reason = $2, owner = $3, accepted_at = $4, expires_at = $5
		where id = $1 and state <> 'fixed'`, n, clip(a.Reason, 2000), clip(a.Owner, 200), now, a.Expires)
	if err != nil {
		return fmt.Errorf("ledger: accept %s: %w", id, err)
	}
	if tag.RowsAffected() == 0 {
		return fmt.Errorf("accept %s: it is fixed, or there is none: %w", id, ErrNotFound)
	}
	return nil
}
