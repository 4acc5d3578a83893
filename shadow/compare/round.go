package compare

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"banyan/diff"
	"banyan/proxy/event"
	"banyan/shadow/explain"
	"banyan/shadow/ledger"
)

// selection says which rows: some entities, or a chunk in the order of ids.
type selection struct {
	entities []event.Entity
	chunk    bool
	after    any // id; nil: from the start
	upto     any // id; nil: to the end
	limit    int // 0: none
}

// busy is an entity that could not be compared.
type busy struct {
	entity    event.Entity
	partition int32 // -1: not known
	reason    string
}

// result of a round.
type result struct {
	began     uint64 // what was asked before it began
	low, high event.Position
	rows      int64 // compared for good
	different int64
	busy      []busy
	last      any // id of the last legacy row of a chunk
	full      bool
}

// errHold says that a projector could not be held: what was to be compared so is tried again.
var errHold = errors.New("the projector was not held")

// round compares a selection in one pair of snapshots. With hold, that partition's projector stands at legacy's position
// meanwhile.
func (s *State) round(ctx context.Context, sel selection, hold *int32) (*result, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Patience)
	defer cancel()
	soFar := s.soFar()
	var legacy LegacySnapshot
	open := func(ctx context.Context) (event.Position, error) {
		n, err := s.cfg.Legacy.Snapshot(ctx)
		if err != nil {
			return 0, fmt.Errorf("legacy snapshot: %w", err)
		}
		legacy = n
		return n.High(), nil
	}
	var err error
	if hold == nil {
		_, err = open(ctx)
	} else {
		var release func()
		if release, err = s.cfg.Holder.Hold(ctx, *hold, open); err == nil {
			defer release()
		} else {
			err = fmt.Errorf("partition %d: %w: %w", *hold, errHold, err)
		}
	}
	if legacy != nil {
		defer legacy.Close()
	}
	if err != nil {
		return nil, err
	}
	r := &rounder{State: s, result: &result{began: soFar, low: legacy.Low(), high: legacy.High()}, parts: map[int32]*part{}}
	rows, err := r.legacyRows(ctx, legacy, sel)
	if err != nil {
		return nil, err
	}
	if err := s.cfg.Model.Wait(ctx, legacy.High()); err != nil {
		return nil, fmt.Errorf("read model up to %s: %w", legacy.High(), err)
	}
	if r.model, err = s.cfg.Model.Snapshot(ctx); err != nil {
		return nil, fmt.Errorf("read model snapshot: %w", err)
	}
	defer r.model.Close()
	if err := r.compare(ctx, rows, sel); err != nil {
		return nil, err
	}
	return r.result, nil
}

// rounder is one round.
type rounder struct {
	*State
	*result
	model ModelSnapshot
	parts map[int32]*part
	seen  map[event.Entity]struct{}
	plain bool                // nothing moved but the rows in ids
	ids   map[string]struct{} // of rows that have to be named
}

// part is what a round knows of a partition: up to where the model is, and what moved since legacy's snapshot.
type part struct {
	at      event.Position
	reason  string // why nothing of it can be compared; "" otherwise
	keys    map[event.OrderingKey]Touched
	blocked map[event.OrderingKey]string // held or parked
	index   *Index
}

// heldWait is how long a round waits for the keys that settle holds: longer than settle itself does.
const heldWait = 2 * time.Second

// partition looks at one, once per round.
func (r *rounder) partition(ctx context.Context, n int32) (*part, error) {
	if p := r.parts[n]; p != nil {
		return p, nil
	}
	p := &part{blocked: map[event.OrderingKey]string{}, index: r.index(n)}
	r.parts[n] = p
	if p.index == nil {
		p.reason = "partition is compared elsewhere"
		return p, nil
	}
	progress, err := r.model.Progress(ctx, n)
	if err != nil {
		return nil, fmt.Errorf("progress of partition %d: %w", n, err)
	}
	if progress == nil || progress.Position < r.high {
		p.reason = "read model is behind"
		return p, nil
	}
	p.at = max(progress.Position, progress.Applied)
	if err := p.index.await(ctx, p.at); err != nil {
		return nil, fmt.Errorf("settled stream of partition %d up to %s: %w", n, p.at, err)
	}
	return p, r.known(ctx, p, progress)
}

// known finds what moved in a partition since legacy's snapshot. The model has everything of a held key from before the
// position from which it is held, and perhaps something of what follows; settle lets it go soon, and then the index knows
// what changed since. So its other rows are compared like any.
func (r *rounder) known(ctx context.Context, p *part, progress *event.Progress) error {
	held, err := p.index.awaitFree(ctx, p.at, heldWait)
	if err != nil {
		return err
	}
	for _, k := range held {
		p.blocked[k] = "key is held"
	}
	low := map[event.OrderingKey]event.Position{"": r.low}
	for _, h := range progress.Held {
		if h.Migration != r.cfg.Migration || h.From > p.at {
			continue
		}
		if from, ok := low[h.Key]; !ok || h.From <= from {
			low[h.Key] = min(r.low, h.From-1)
		}
	}
	for _, k := range progress.Parked {
		p.blocked[k] = "key is parked"
	}
	switch p.index.Knows("", low[""], p.at) {
	case Aged:
		p.reason = "too old to judge"
		return nil
	case Early: // a change without a key is held: it may touch any
		p.reason = "key is held"
		return nil
	}
	p.keys = p.index.TouchedKeys(low[""], p.at, r.tables)
	for k, from := range low {
		if k == "" || from >= low[""] || p.blocked[k] != "" {
			continue
		}
		if p.index.Knows(k, from, p.at) != Ready { // one that translate has parked, long ago
			p.blocked[k] = "key is held"
			continue
		}
		p.keys[k] = p.index.Touched(k, from, p.at, r.tables)
	}
	return nil
}

// awaitFree waits until no key is held at or below a position, for at most d. It gives those that still are.
func (x *Index) awaitFree(ctx context.Context, at event.Position, d time.Duration) ([]event.OrderingKey, error) {
	var timer *time.Timer
	for {
		_, _, news := x.Through()
		held := x.heldAt(at)
		if len(held) == 0 {
			return nil, nil
		}
		if timer == nil {
			timer = time.NewTimer(d)
			defer timer.Stop()
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-timer.C:
			return held, nil
		case <-news:
		}
	}
}

// await returns when the index was read up to a position, of the settled stream and of the events.
func (x *Index) await(ctx context.Context, at event.Position) error {
	for {
		settled, events, news := x.Through()
		if settled >= at && events >= at {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-news:
		}
	}
}

// heldAt lists the keys that are incomplete at a position.
func (x *Index) heldAt(at event.Position) (ks []event.OrderingKey) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for k, from := range x.held {
		if from <= at {
			ks = append(ks, k)
		}
	}
	return ks
}

// fair says why an entity of a key cannot be compared; "" if it can.
func (p *part) fair(s *State, k event.OrderingKey, e event.Entity) string {
	if p.reason != "" {
		return p.reason
	}
	for _, k := range []event.OrderingKey{k, ""} {
		if why := p.blocked[k]; why != "" {
			return why
		}
		t, ok := p.keys[k]
		if !ok {
			continue
		}
		if _, hit := t.Entities[e]; hit || t.Wild {
			return "changed in between"
		}
		for other := range t.Entities { // an entity that is no row here may show in any
			if _, ours := s.cfg.ID(other); !ours {
				return "changed in between"
			}
		}
	}
	return ""
}

// compare merges the two sides.
func (r *rounder) compare(ctx context.Context, legacy Rows, sel selection) error {
	rows, err := r.modelRows(ctx, sel)
	if err != nil {
		return err
	}
	defer rows.Close()
	m, err := newMerger(legacy, rows, r.cfg.Rules)
	if err != nil {
		return err
	}
	if err := r.survey(ctx); err != nil {
		return err
	}
	r.seen = map[event.Entity]struct{}{}
	equal := int64(0)
	for {
		s, same, ok, err := m.next()
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		if same && sel.chunk && r.plain && !r.named(m.a.id.text) {
			equal++ // most rows of most chunks
		} else if err := r.row(ctx, m, s, same); err != nil {
			return err
		}
		if err := m.step(s); err != nil {
			return err
		}
	}
	r.State.count(ledger.Judged, "", equal)
	r.State.count(ledger.Equal, "", equal)
	r.rows += equal
	return r.absent(ctx, sel)
}

func (r *rounder) named(id string) bool {
	_, ok := r.ids[id]
	return ok
}

// survey finds the rows that cannot be passed by when they are identical: those that moved, and those that somebody
// waits for. Identical rows beside them need not even be asked for their names.
func (r *rounder) survey(ctx context.Context) error {
	r.plain, r.ids = true, map[string]struct{}{}
	name := func(e event.Entity) bool {
		v, ours := r.cfg.ID(e)
		if ours {
			r.ids[fmt.Sprint(v)] = struct{}{}
		}
		return ours
	}
	for e := range r.openBy {
		name(e)
	}
	for e := range r.pending {
		name(e)
	}
	for n := range r.cfg.Partitions {
		p, err := r.partition(ctx, n)
		if err != nil {
			return err
		}
		r.plain = r.plain && p.reason == "" && len(p.blocked) == 0
		for _, t := range p.keys {
			r.plain = r.plain && !t.Wild
			for e := range t.Entities {
				r.plain = name(e) && r.plain
			}
		}
	}
	return nil
}

// row compares what stands at the cursors.
func (r *rounder) row(ctx context.Context, m *merger, s side, same bool) error {
	rows := m.a.rows
	if s == candidateOnly {
		rows = m.b.rows
	}
	values := valuesOf(rows)
	entity, ok := r.cfg.Entity(values)
	if !ok {
		return fmt.Errorf("row %v: its entity has no name; check entity of the state comparison", values)
	}
	r.seen[entity] = struct{}{}
	key, ok := r.cfg.Key(values)
	if !ok {
		return fmt.Errorf("%s: its ordering key cannot be told; check key of the state comparison", entity)
	}
	n := event.Partition(key, r.cfg.Partitions)
	p, err := r.partition(ctx, n)
	if err != nil {
		return err
	}
	if why := p.fair(r.State, key, entity); why != "" {
		r.busy = append(r.busy, busy{entity, n, why})
		return nil
	}
	r.State.count(ledger.Judged, "", 1)
	r.rows++
	if same {
		r.State.count(ledger.Equal, "", 1)
		r.settled(entity, nil)
		return nil
	}
	legacy, candidate, report, err := m.compare(s)
	if err != nil {
		return err
	}
	r.judged(p, key, entity, legacy, candidate, &report)
	return nil
}

// judged enters a row that needed a report.
func (r *rounder) judged(p *part, key event.OrderingKey, entity event.Entity, legacy, candidate diff.Value, report *diff.Report) {
	r.State.count(ledger.ValuesMuted, "", int64(report.Muted))
	for _, u := range report.Used {
		r.State.count(ledger.RuleUsed, u.Kind+": "+u.Rule, int64(u.Count))
	}
	switch {
	case report.Total > 0:
		r.different++
		r.State.count(ledger.Different, "", 1)
		for i := range report.Differences {
			r.batch.Found = append(r.batch.Found, r.found(p, key, entity, &report.Differences[i]))
		}
	case len(report.Used) > 0:
		r.State.count(ledger.Tolerated, "", 1)
	default:
		r.State.count(ledger.Equal, "", 1)
	}
	r.settled(entity, report)
}

func (r *rounder) found(p *part, key event.OrderingKey, entity event.Entity, d *diff.Difference) ledger.Found {
	k := p.index.Case(key, entity, p.at)
	k.Path, k.Legacy, k.Candidate = d.Path, d.Legacy, d.Candidate
	e := explain.Explain(&k)
	return ledger.Found{Comparison: r.name, Cause: e.Cause, Class: string(d.Class), Place: d.Group, Example: ledger.Example{
		At: r.cfg.Now(), Key: key, Entity: entity, Path: string(d.Path), Legacy: rawValue(d.Legacy), Candidate: rawValue(d.Candidate),
		Why: e.Why, Writes: e.Writes, Low: r.low, High: p.at}}
}

// settled takes an entity off the lists and verifies the places of findings that are equal now.
func (r *rounder) settled(entity event.Entity, report *diff.Report) {
	r.done(entity, r.began)
	for _, i := range r.openBy[entity] {
		k := r.open[i]
		if !r.rules.mutes(diff.Path(k.Path)) && !differsAt(report, k.Path) {
			r.batch.Verified = append(r.batch.Verified, k)
		}
	}
}

func differsAt(report *diff.Report, path string) bool {
	if report == nil {
		return false
	}
	if report.Dropped() > 0 {
		return true
	}
	for _, d := range report.Differences {
		if p := string(d.Path); p == path || strings.HasPrefix(path, p+"/") || strings.HasPrefix(p, path+"/") {
			return true
		}
	}
	return false
}

// absent settles the entities asked for that neither side has: both say the same. Their key is that of the open finding,
// if there is one; without it every partition has to be quiet about them.
func (r *rounder) absent(ctx context.Context, sel selection) error {
	for _, e := range sel.entities {
		if _, ok := r.seen[e]; ok {
			continue
		}
		why, at := "", int32(-1)
		for n := range r.cfg.Partitions {
			p, err := r.partition(ctx, n)
			if err != nil {
				return err
			}
			if why = p.absentFair(e); why != "" {
				at = n
				break
			}
		}
		if why != "" {
			r.busy = append(r.busy, busy{e, at, why})
			continue
		}
		r.settled(e, nil)
	}
	return nil
}

func (p *part) absentFair(e event.Entity) string {
	if p.reason != "" {
		return p.reason
	}
	for _, t := range p.keys {
		if _, hit := t.Entities[e]; hit {
			return "changed in between"
		}
	}
	return ""
}

func valuesOf(r Rows) event.Values {
	v := make(event.Values, len(r.Columns()))
	for i, c := range r.Columns() {
		v[c] = r.Values()[i]
	}
	return v
}

// legacyRows reads the legacy side of a selection: at most a chunk of rows, in memory.
func (r *rounder) legacyRows(ctx context.Context, snapshot LegacySnapshot, sel selection) (Rows, error) {
	q, err := r.query(ctx, 0, r.cfg.LegacySQL, r.cfg.Legacy.Dialect(), snapshot.Query, sel)
	if err != nil {
		return nil, fmt.Errorf("legacy: %w", err)
	}
	rows, err := snapshot.Query(ctx, q.sql, q.args...)
	if err != nil {
		return nil, fmt.Errorf("legacy rows: %w", err)
	}
	defer rows.Close()
	all := &memory{columns: append([]string(nil), rows.Columns()...)}
	for rows.Next() {
		all.rows = append(all.rows, append([]any(nil), rows.Values()...))
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("legacy rows: %w", err)
	}
	if n := len(all.rows); n > 0 {
		r.last = all.rows[n-1][0]
	}
	r.full = sel.chunk && len(all.rows) == sel.limit
	return all, nil
}

func (r *rounder) modelRows(ctx context.Context, sel selection) (Rows, error) {
	sel.limit = 0
	if r.full {
		sel.upto = r.last
	}
	q, err := r.query(ctx, 1, r.cfg.ModelSQL, r.cfg.Model.Dialect(), r.model.Query, sel)
	if err != nil {
		return nil, fmt.Errorf("candidate: %w", err)
	}
	rows, err := r.model.Query(ctx, q.sql, q.args...)
	if err != nil {
		return nil, fmt.Errorf("candidate rows: %w", err)
	}
	return rows, nil
}

// statement over a squad's query.
type statement struct {
	sql  string
	args []any
}

var plainName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// query wraps a squad's SELECT. Its id column is named by the query itself, and ordered by its values' kind.
func (s *State) query(ctx context.Context, side int, sql string, d Dialect, run func(context.Context, string, ...any) (Rows, error), sel selection) (*statement, error) {
	sql = strings.TrimRight(strings.TrimSpace(sql), ";")
	p := &s.ids[side]
	if !p.seen {
		if err := p.probe(ctx, sql, run); err != nil {
			return nil, err
		}
	}
	column := "banyan_rows." + p.name
	order, bound := column, func(p string) string { return p }
	if p.text {
		order, bound = d.Binary(column), d.Binary
	}
	q := &statement{}
	arg := func(v any) string {
		if n, ok := v.(json.Number); ok { // not every driver knows it
			if i, err := n.Int64(); err == nil {
				v = i
			}
		}
		q.args = append(q.args, v)
		return bound(d.Placeholder(len(q.args)))
	}
	var where []string
	if !sel.chunk {
		var in []string
		for _, e := range sel.entities {
			if v, ok := s.cfg.ID(e); ok {
				q.args = append(q.args, v)
				in = append(in, d.Placeholder(len(q.args)))
			}
		}
		if len(in) == 0 {
			in = append(in, "null")
		}
		where = append(where, column+" in ("+strings.Join(in, ",")+")")
	}
	if sel.after != nil {
		where = append(where, order+" > "+arg(sel.after))
	}
	if sel.upto != nil {
		where = append(where, order+" <= "+arg(sel.upto))
	}
	q.sql = "select * from (" + sql + ") as banyan_rows"
	if len(where) > 0 {
		q.sql += " where " + strings.Join(where, " and ")
	}
	q.sql += " order by " + order
	if sel.limit > 0 {
		q.sql += fmt.Sprintf(" limit %d", sel.limit)
	}
	return q, nil
}

// idColumn is what is known of the first column of one side's query.
type idColumn struct {
	name string
	text bool
	seen bool // a row was there, so text is known
}

func (p *idColumn) probe(ctx context.Context, sql string, run func(context.Context, string, ...any) (Rows, error)) error {
	rows, err := run(ctx, "select * from ("+sql+") as banyan_rows limit 1")
	if err != nil {
		return err
	}
	defer rows.Close()
	if len(rows.Columns()) == 0 || !plainName.MatchString(rows.Columns()[0]) {
		return errors.New("the first column, the id, needs a plain name: letters, digits and _")
	}
	p.name = rows.Columns()[0]
	if rows.Next() {
		_, p.text = rows.Values()[0].(string)
		p.seen = true
	}
	return rows.Err()
}

// memory is rows that were read.
type memory struct {
	columns []string
	rows    [][]any
	at      int // 1 + index
}

func (m *memory) Columns() []string { return m.columns }
func (m *memory) Next() bool {
	m.at++
	return m.at <= len(m.rows)
}
func (m *memory) Values() []any { return m.rows[m.at-1] }
func (m *memory) Err() error    { return nil }
func (m *memory) Close() error  { return nil }
