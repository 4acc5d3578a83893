package ledger

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"banyan/proxy/capture"
	"banyan/proxy/event"

	"github.com/jackc/pgx/v5"
)

// Evidence is what is known of one migration under its present fingerprint: what was compared, how much, since when, and
// what was not. Its JSON goes into the record of a flip.
type Evidence struct {
	Migration   event.Migration      `json:"migration"`
	Fingerprint string               `json:"fingerprint"`
	Since       time.Time            `json:"since"`
	At          time.Time            `json:"at"`
	Backfilled  *time.Time           `json:"backfilled,omitempty"`
	Partitions  int                  `json:"partitions_read"` // partitions of the settled stream that were read
	Comparisons []ComparisonEvidence `json:"comparisons"`
	Findings    []Finding            `json:"findings,omitempty"` // all that are not fixed, without keys and examples
	Sources     []SourceEvidence     `json:"sources,omitempty"`
	Gaps        []Gap                `json:"gaps,omitempty"`
}

// ComparisonEvidence is that of one route or state comparison.
type ComparisonEvidence struct {
	Comparison Comparison `json:"comparison"`
	First      *time.Time `json:"first,omitempty"`
	Last       *time.Time `json:"last,omitempty"`
	Judged     int64      `json:"judged"`
	Equal      int64      `json:"equal"`
	Tolerated  int64      `json:"tolerated"`
	Different  int64      `json:"different"`
	// Undecided and Dropped by reason; Asked.Dropped has what the proxies dropped.
	Undecided map[string]int64 `json:"undecided,omitempty"`
	Dropped   map[string]int64 `json:"dropped,omitempty"`
	// Distinct subjects and versions among what was judged.
	Distinct          int64 `json:"distinct"`
	DistinctDifferent int64 `json:"distinct_different"`
	DistinctAccepted  int64 `json:"distinct_accepted"`
	// MismatchUpper is of DistinctDifferent in Distinct, at 95 %.
	MismatchUpper   float64                    `json:"mismatch_upper"`
	ValuesCompared  int64                      `json:"values_compared"`
	ValuesMuted     int64                      `json:"values_muted"`
	ValuesUndecided int64                      `json:"values_undecided"`
	Rules           map[string]int64           `json:"rules,omitempty"` // how often each tolerance was used
	Asked           *Asked                     `json:"asked,omitempty"` // by the proxies; routes only
	Pairs           map[capture.Side]Histogram `json:"-"`               // latency of the pairs' two answers
	Quantiles       map[string]Quantiles       `json:"latency,omitempty"`
	Sweep           *Sweep                     `json:"sweep,omitempty"` // the last that was done
}

// Quantiles of one side's answers in microseconds.
type Quantiles struct {
	N   uint64 `json:"n"`
	P50 int64  `json:"p50_us"`
	P95 int64  `json:"p95_us"`
	P99 int64  `json:"p99_us"`
}

// IsRoute reports whether it compares answers.
func (c Comparison) IsRoute() bool { return strings.HasPrefix(string(c), "route/") }

func sum(m map[string]int64) (n int64) {
	for _, v := range m {
		n += v
	}
	return n
}

// Evidence reads it, as of one moment.
func (l *Ledger) Evidence(ctx context.Context, m event.Migration) (*Evidence, error) {
	e := &Evidence{Migration: m, At: l.cfg.Now()}
	opt := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err := pgx.BeginTxFunc(ctx, l.pool, opt, func(tx pgx.Tx) error { return l.evidence(ctx, tx, e) })
	if err != nil {
		return nil, fmt.Errorf("ledger: evidence of %s: %w", m, err)
	}
	findings, err := l.Findings(ctx, m, StateOpen, StateAccepted, StateReopened)
	if err != nil {
		return nil, err
	}
	e.Findings = findings
	if e.Sources, err = l.Sources(ctx, m); err != nil {
		return nil, err
	}
	if e.Gaps, err = l.Gaps(ctx, m); err != nil {
		return nil, err
	}
	return e, nil
}

func (l *Ledger) evidence(ctx context.Context, tx pgx.Tx, e *Evidence) error {
	err := tx.QueryRow(ctx, `select fingerprint, since, backfilled_at from migration where migration = $1`, e.Migration).
		Scan(&e.Fingerprint, &e.Since, &e.Backfilled)
	if err == pgx.ErrNoRows {
		return nil
	}
	if err != nil {
		return err
	}
	if err := tx.QueryRow(ctx, `select count(*) from reading where migration = $1`, e.Migration).Scan(&e.Partitions); err != nil {
		return err
	}
	by := map[Comparison]*ComparisonEvidence{}
	of := func(c Comparison) *ComparisonEvidence {
		if by[c] == nil {
			by[c] = &ComparisonEvidence{Comparison: c, Undecided: map[string]int64{}, Dropped: map[string]int64{}, Rules: map[string]int64{}}
		}
		return by[c]
	}
	for _, read := range []func(context.Context, pgx.Tx, *Evidence, func(Comparison) *ComparisonEvidence) error{
		readCounters, readLatency, readSweeps,
	} {
		if err := read(ctx, tx, e, of); err != nil {
			return err
		}
	}
	asked, err := l.asked(ctx, tx, e.Migration, e.Fingerprint)
	if err != nil {
		return err
	}
	for c, a := range asked {
		of(c).Asked = a
	}
	for _, c := range by {
		c.finish()
		e.Comparisons = append(e.Comparisons, *c)
	}
	slices.SortFunc(e.Comparisons, func(a, b ComparisonEvidence) int { return strings.Compare(string(a.Comparison), string(b.Comparison)) })
	return nil
}

func readCounters(ctx context.Context, tx pgx.Tx, e *Evidence, of func(Comparison) *ComparisonEvidence) error {
	rows, err := tx.Query(ctx, `select comparison, counter, detail, n, first_at, last_at from counter where migration = $1 and fingerprint = $2`,
		e.Migration, e.Fingerprint)
	if err != nil {
		return err
	}
	var comparison Comparison
	var counter Counter
	var detail string
	var n int64
	var first, last time.Time
	_, err = pgx.ForEachRow(rows, []any{&comparison, &counter, &detail, &n, &first, &last}, func() error {
		c := of(comparison)
		if c.First == nil || first.Before(*c.First) {
			c.First = new(first)
		}
		if c.Last == nil || last.After(*c.Last) {
			c.Last = new(last)
		}
		c.count(counter, detail, n)
		return nil
	})
	return err
}

func (c *ComparisonEvidence) count(counter Counter, detail string, n int64) {
	to := map[Counter]*int64{Judged: &c.Judged, Equal: &c.Equal, Tolerated: &c.Tolerated, Different: &c.Different, Distinct: &c.Distinct,
		DistinctDifferent: &c.DistinctDifferent, DistinctAccepted: &c.DistinctAccepted, ValuesCompared: &c.ValuesCompared,
		ValuesMuted: &c.ValuesMuted, ValuesUndecided: &c.ValuesUndecided}[counter]
	switch {
	case to != nil:
		*to += n
	case counter == Undecided:
		c.Undecided[detail] += n
	case counter == Dropped:
		c.Dropped[detail] += n
	case counter == RuleUsed:
		c.Rules[detail] += n
	}
}

func readLatency(ctx context.Context, tx pgx.Tx, e *Evidence, of func(Comparison) *ComparisonEvidence) error {
	rows, err := tx.Query(ctx, `select comparison, side, buckets from latency where migration = $1 and fingerprint = $2`, e.Migration, e.Fingerprint)
	if err != nil {
		return err
	}
	var comparison Comparison
	var side capture.Side
	var buckets []int64
	_, err = pgx.ForEachRow(rows, []any{&comparison, &side, &buckets}, func() error {
		c := of(comparison)
		if c.Pairs == nil {
			c.Pairs = map[capture.Side]Histogram{}
		}
		h := Histogram{Bounds: bounds}
		for _, n := range buckets {
			h.Buckets = append(h.Buckets, uint64(n))
		}
		c.Pairs[side] = h
		return nil
	})
	return err
}

func readSweeps(ctx context.Context, tx pgx.Tx, e *Evidence, of func(Comparison) *ComparisonEvidence) error {
	rows, err := tx.Query(ctx, `select comparison, completed from sweep where migration = $1 and fingerprint = $2`, e.Migration, e.Fingerprint)
	if err != nil {
		return err
	}
	var comparison Comparison
	var completed []byte
	_, err = pgx.ForEachRow(rows, []any{&comparison, &completed}, func() error {
		c := of(comparison)
		if completed == nil {
			return nil
		}
		c.Sweep = &Sweep{}
		return json.Unmarshal(completed, c.Sweep)
	})
	return err
}

func (c *ComparisonEvidence) finish() {
	c.MismatchUpper = MismatchBound(c.DistinctDifferent, c.Distinct)
	c.Quantiles = map[string]Quantiles{}
	add := func(source string, hs map[capture.Side]Histogram) {
		for side, h := range hs {
			p50, _ := h.Quantile(.5)
			p95, _ := h.Quantile(.95)
			p99, ok := h.Quantile(.99)
			if ok {
				c.Quantiles[source+" "+string(side)] = Quantiles{h.N(), p50.Microseconds(), p95.Microseconds(), p99.Microseconds()}
			}
		}
	}
	add("pairs", c.Pairs)
	if c.Asked != nil {
		add("clients", c.Asked.Latency)
	}
}
