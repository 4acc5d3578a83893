package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"banyan/proxy/capture"
	"banyan/proxy/event"
	"banyan/shadow/explain"

	"github.com/jackc/pgx/v5"
)

// Comparison names what is compared: a read route or a state comparison.
type Comparison string

// Route and State name comparisons.
func Route(name string) Comparison { return Comparison("route/" + name) }

// State is the comparison of rows of one kind of entity.
func State(name string) Comparison { return Comparison("state/" + name) }

// Counter is what a [Count] counts.
type Counter string

// Judged = Equal + Tolerated + Different. Of everything that came, Judged, Undecided and Dropped are all.
const (
	Judged    Counter = "judged"
	Equal     Counter = "equal"
	Tolerated Counter = "tolerated" // equal by a rule
	Different Counter = "different"
	Undecided Counter = "undecided" // detail: why it was not fair to judge
	Dropped   Counter = "dropped"   // detail: which bound
	// Distinct are judged subjects, each version counted once; of them those that differ, and those that differ only as
	// accepted.
	Distinct          Counter = "distinct"
	DistinctDifferent Counter = "distinct_different"
	DistinctAccepted  Counter = "distinct_accepted"
	// Values within what was judged.
	ValuesCompared  Counter = "values_compared"
	ValuesMuted     Counter = "values_muted"
	ValuesUndecided Counter = "values_undecided"
	RuleUsed        Counter = "rule" // detail: the rule, and the kind of tolerance
)

// Count adds to a counter.
type Count struct {
	Comparison Comparison
	Counter    Counter
	Detail     string
	N          int64
}

// Seen is one judged pair or row, for counting distinct ones.
type Seen struct {
	Comparison Comparison
	Subject    []byte         // digest of what was asked: parameters and key, or the entity
	Version    event.Position // of the state that it showed
	Found      []int          // indexes into Batch.Found; none: equal
}

// Example is one sighting of a difference.
type Example struct {
	At        time.Time         `json:"at"`
	Key       event.OrderingKey `json:"key"`
	Entity    event.Entity      `json:"entity,omitempty"`
	Path      string            `json:"path"`
	Legacy    json.RawMessage   `json:"legacy,omitempty"` // absent: not there
	Candidate json.RawMessage   `json:"candidate,omitempty"`
	Why       string            `json:"why,omitempty"`
	Writes    []event.WriteID   `json:"writes,omitempty"` // requests involved
	Pair      string            `json:"pair,omitempty"`
	Target    string            `json:"target,omitempty"` // as legacy was asked
	Low       event.Position    `json:"low"`              // both sides showed the state between these positions
	High      event.Position    `json:"high"`
}

// Found is one difference with its explanation. Findings group by comparison, cause, class and place.
type Found struct {
	Comparison Comparison
	Cause      explain.Cause
	Class      string
	Place      string // the path without what varies
	Subject    string // what was asked, beside the key; "" for state
	Example    Example
}

// OpenKey is a place that showed a finding and was not found equal since.
type OpenKey struct {
	Finding    int64
	Comparison Comparison
	Class      string
	Place      string
	Key        event.OrderingKey
	Subject    string
	Entity     event.Entity
	Path       string
	LastSeen   time.Time
}

// Checkpoint moves a reader's mark if nobody else has. Expect is the revision that the last Load or Commit gave; 0: none
// is there yet.
type Checkpoint struct {
	Name   string
	State  []byte
	Expect int64
}

// Batch is what commits together. At is the time of everything in it.
type Batch struct {
	Migration   event.Migration
	Fingerprint string
	At          time.Time
	Counts      []Count
	Seen        []Seen
	Found       []Found
	Verified    []OpenKey // compared again, and equal
	Sources     []Source
	Latency     []Latency
	Tallies     []*capture.Tally
	Reading     []Reading
	Sweeps      []Sweep
	Checkpoint  *Checkpoint
}

// Empty reports whether there is nothing to commit.
func (b *Batch) Empty() bool {
	return len(b.Counts)+len(b.Seen)+len(b.Found)+len(b.Verified)+len(b.Sources)+len(b.Latency)+len(b.Tallies)+len(b.Reading)+
		len(b.Sweeps) == 0 && b.Checkpoint == nil
}

// Reading says how far a partition of the settled stream was read.
type Reading struct {
	Partition int32
	Position  event.Position
}

// ErrFenced says that the checkpoint was moved by another reader: this one has lost its partition.
var ErrFenced = errors.New("another reader moved the checkpoint")

// Commit applies a batch once or, on any error, not at all.
func (l *Ledger) Commit(ctx context.Context, b *Batch) error {
	if b.At.IsZero() {
		b.At = l.cfg.Now()
	}
	err := pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error { return (&commit{l: l, tx: tx, b: b}).run(ctx) })
	if err != nil {
		return fmt.Errorf("ledger: commit for %s: %w", b.Migration, err)
	}
	return nil
}

// commit applies one batch. The lock makes commits of one migration one after another, so that they cannot deadlock
// over each other's counters, nor create a finding twice.
type commit struct {
	l       *Ledger
	tx      pgx.Tx
	b       *Batch
	counts  []Count // of the batch, and of what is distinct in it
	found   []int64 // finding of each Batch.Found
	touched map[int64]struct{}
}

func (c *commit) run(ctx context.Context) error {
	c.touched, c.counts = map[int64]struct{}{}, slices.Clone(c.b.Counts)
	if _, err := c.tx.Exec(ctx, `select pg_advisory_xact_lock(hashtextextended('banyan_ledger/' || $1, 0))`, c.b.Migration); err != nil {
		return err
	}
	for _, part := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"checkpoint", c.checkpoint}, {"findings", c.findings}, {"verified", c.verified}, {"sweeps", c.sweeps}, {"fixed", c.fixed},
		{"distinct", c.distinct}, {"counters", c.counters}, {"latency", c.latency}, {"sources", c.sources}, {"tallies", c.tallies},
		{"reading", c.reading},
	} {
		if err := part.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", part.what, err)
		}
	}
	return nil
}

func (c *commit) checkpoint(ctx context.Context) error {
	p := c.b.Checkpoint
	if p == nil {
		return nil
	}
	sql := `update checkpoint set state = $2, revision = revision + 1, at = now() where name = $1 and revision = $3`
	if p.Expect == 0 {
		sql = `insert into checkpoint select $1, $3::bigint + 1, $2, now() on conflict do nothing`
	}
	tag, err := c.tx.Exec(ctx, sql, p.Name, p.State, p.Expect)
	if err != nil {
		return err
	}
	if tag.RowsAffected() != 1 {
		return fmt.Errorf("%s: %w", p.Name, ErrFenced)
	}
	return nil
}

func (c *commit) counters(ctx context.Context) error {
	type key struct {
		comparison Comparison
		counter    Counter
		detail     string
	}
	sum := map[key]int64{}
	for _, n := range c.counts {
		sum[key{n.Comparison, n.Counter, clip(n.Detail, 200)}] += n.N
	}
	var comparisons, counters, details []string
	var ns []int64
	for k, n := range sum {
		if n != 0 {
			comparisons, counters, details = append(comparisons, string(k.comparison)), append(counters, string(k.counter)), append(details, k.detail)
			ns = append(ns, n)
		}
	}
	if len(ns) == 0 {
		return nil
	}
	_, err := c.tx.Exec(ctx, `insert into counter
		select $1, c, $2, k, d, n, $3, $3 from unnest($4::text[], $5::text[], $6::text[], $7::bigint[]) u(c, k, d, n)
		on conflict (migration, comparison, fingerprint, counter, detail)
		do update set n = counter.n + excluded.n, last_at = greatest(counter.last_at, excluded.last_at)`,
		c.b.Migration, c.b.Fingerprint, c.b.At, comparisons, counters, details, ns)
	return err
}

// distinct counts subjects whose version is newer than the one counted last. A subject that is seen again at the same
// version counts again only if it differs now: a version is different if it ever was.
func (c *commit) distinct(ctx context.Context) error {
	if len(c.b.Seen) == 0 {
		return nil
	}
	accepted, err := c.accepted(ctx)
	if err != nil {
		return err
	}
	verdict := func(s *Seen) string {
		if len(s.Found) == 0 {
			return "equal"
		}
		for _, i := range s.Found {
			if !accepted[c.found[i]] {
				return "different"
			}
		}
		return "accepted"
	}
	type key struct {
		comparison Comparison
		subject    string
	}
	type state struct {
		version event.Position
		verdict string
	}
	var comparisons []string
	var subjects [][]byte
	for _, s := range c.b.Seen {
		comparisons, subjects = append(comparisons, string(s.Comparison)), append(subjects, s.Subject)
	}
	rows, err := c.tx.Query(ctx, `select comparison, subject, version, verdict from seen join
		(select distinct c, s from unnest($3::text[], $4::bytea[]) u(c, s)) u on comparison = c and subject = s
		where migration = $1 and fingerprint = $2`, c.b.Migration, c.b.Fingerprint, comparisons, subjects)
	if err != nil {
		return err
	}
	have := map[key]state{}
	var comparison, old string
	var subject []byte
	var at int64
	if _, err := pgx.ForEachRow(rows, []any{&comparison, &subject, &at, &old}, func() error {
		have[key{Comparison(comparison), string(subject)}] = state{event.Position(at), old}
		return nil
	}); err != nil {
		return err
	}
	changed := map[key]state{}
	counter := map[string]Counter{"different": DistinctDifferent, "accepted": DistinctAccepted}
	for i := range c.b.Seen {
		s := &c.b.Seen[i]
		k, now := key{s.Comparison, string(s.Subject)}, state{s.Version, verdict(s)}
		old, ok := have[k]
		switch {
		case !ok || s.Version > old.version:
			c.counts = append(c.counts, Count{s.Comparison, Distinct, "", 1})
			if n := counter[now.verdict]; n != "" {
				c.counts = append(c.counts, Count{s.Comparison, n, "", 1})
			}
		case s.Version == old.version && now.verdict != "equal" && old.verdict != "different" && now.verdict != old.verdict:
			c.counts = append(c.counts, Count{s.Comparison, counter[now.verdict], "", 1})
			if n := counter[old.verdict]; n != "" {
				c.counts = append(c.counts, Count{s.Comparison, n, "", -1})
			}
		default:
			continue
		}
		have[k], changed[k] = now, now
	}
	comparisons, subjects = nil, nil
	var versions []int64
	var verdicts []string
	for k, s := range changed {
		comparisons, subjects = append(comparisons, string(k.comparison)), append(subjects, []byte(k.subject))
		versions, verdicts = append(versions, int64(s.version)), append(verdicts, s.verdict)
	}
	if _, err := c.tx.Exec(ctx, `insert into seen select $1, c, $2, s, v, d from unnest($3::text[], $4::bytea[], $5::bigint[], $6::text[]) u(c, s, v, d)
		on conflict (migration, comparison, fingerprint, subject) do update set version = excluded.version, verdict = excluded.verdict`,
		c.b.Migration, c.b.Fingerprint, comparisons, subjects, versions, verdicts); err != nil {
		return err
	}
	return nil
}

func (c *commit) accepted(ctx context.Context) (map[int64]bool, error) {
	out := map[int64]bool{}
	if len(c.found) == 0 {
		return out, nil
	}
	rows, err := c.tx.Query(ctx, `select id from finding where id = any($1) and state = 'accepted' and expires_at > $2`, c.found, c.b.At)
	if err != nil {
		return nil, err
	}
	var id int64
	_, err = pgx.ForEachRow(rows, []any{&id}, func() error { out[id] = true; return nil })
	return out, err
}

func (c *commit) reading(ctx context.Context) error {
	for _, r := range c.b.Reading {
		if _, err := c.tx.Exec(ctx, `insert into reading values ($1, $2, $3, $4)
			on conflict (migration, partition) do update set position = greatest(reading.position, excluded.position), at = excluded.at`,
			c.b.Migration, r.Partition, int64(r.Position), c.b.At); err != nil {
			return err
		}
	}
	return nil
}

// clip shortens without cutting a character, and takes out what PostgreSQL's text cannot hold.
func clip(s string, n int) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}
