package role

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"banyan/cmd/internal/config"
	"banyan/diff"
	"banyan/legacyadapter/changelog"
	"banyan/proxy/capture"
	"banyan/proxy/event"
	"banyan/proxy/expr"
	"banyan/proxy/pairs"
	"banyan/proxy/pending"
	"banyan/shadow/compare"
	"banyan/shadow/ledger"
	"banyan/shadow/project"
	"banyan/shadow/readmodel"
	"banyan/shadow/stream"
)

// startCompare judges one migration's pairs and rows, once the ledger and the projection are there.
func (s *Shadow) startCompare(ctx context.Context, name event.Migration, m config.Migration) error {
	entities, err := entityTemplates(m)
	if err != nil {
		return err
	}
	routes, err := compareRoutes(m)
	if err != nil {
		return err
	}
	states, err := stateTemplates(m)
	if err != nil {
		return err
	}
	s.wg.Go(func() {
		if !s.comparing(ctx, name) {
			return
		}
		for ctx.Err() == nil {
			s.compareCurrent(ctx, name, m, func(ctx context.Context, l *ledger.Ledger, model *Model) (func(), error) {
				return s.compare(ctx, name, m, l, model, entities, routes, states)
			})
		}
	})
	return nil
}

// comparing waits for a stage that compares: before it, the read model is not complete, and every missing row would be
// called a finding.
func (s *Shadow) comparing(ctx context.Context, name event.Migration) bool {
	for {
		changed := s.follow.Changed()
		if s.follow.State(name).Stage.Compares() {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// compareCurrent compares the current generation until another one is, or ctx ends.
func (s *Shadow) compareCurrent(ctx context.Context, name event.Migration, m config.Migration, start func(context.Context, *ledger.Ledger, *Model) (stop func(), err error)) {
	x := s.feedOf(name)
	x.mu.Lock()
	g, changed := x.current, x.changed
	x.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan struct{})
	defer func() { <-ended }()
	s.wg.Go(func() { // until there is another generation
		defer close(ended)
		defer cancel()
		for {
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
			x.mu.Lock()
			same := x.current == g
			changed = x.changed
			x.mu.Unlock()
			if !same {
				return
			}
		}
	})
	var stop func()
	ok := keep(ctx, s.o.Log, fmt.Sprintf("comparison of %s, generation %d", name, g), func(ctx context.Context) (err error) {
		l, model := s.Ledger(), x.generation(g)
		if l == nil || model == nil || model.Projector() == nil {
			return errors.New("its ledger or its read model is not there yet")
		}
		if err := s.bind(ctx, l, name, g); err != nil {
			return err
		}
		stop, err = start(ctx, l, model)
		return err
	})
	if ok {
		<-ctx.Done()
		stop()
	}
}

func (s *Shadow) compare(ctx context.Context, name event.Migration, m config.Migration, l *ledger.Ledger, model *Model,
	entities map[string]*expr.Template, routes []compare.Route, states []stateTemplate) (stop func(), err error) {
	tracker := pending.New(s.f.Kafka.Partitions, s.o.Log)
	if err := tracker.Start(ctx, s.f.Kafka); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			tracker.Stop()
		}
	}()
	g := model.Generation
	fingerprint := fingerprint(s.f, s.o.Build, g)
	p := model.Projector()
	var c *compare.Comparer
	index := func(n int32) *compare.Index { return c.Index(n) }
	var list []*compare.State
	for _, st := range states {
		sc := s.stateConfig(name, st, model, tracker)
		sc.Fingerprint, sc.Holder, sc.Ledger = fingerprint, holder{p}, l
		state, err := compare.NewState(sc, index)
		if err != nil {
			return nil, err
		}
		list = append(list, state)
	}
	c, err = compare.New(compare.Config{Migration: name, Fingerprint: fingerprint, Topics: s.f.Kafka.Topics(), Generation: g, Routes: routes, Ledger: l,
		Index: indexConfig(name, m, entities),
		Asker: newAsker(s.f.Upstreams[m.Candidate].HTTP...), Complete: func(k event.OrderingKey) event.Position {
			p, _ := tracker.Generation(name, g, event.Partition(k, s.f.Kafka.Partitions))
			return p.Complete(k)
		}, States: list, ClockError: s.f.Settle.MaxClockError, Log: s.o.Log})
	if err != nil {
		return nil, err
	}
	consumer, err := stream.New(stream.Config{Kafka: s.f.Kafka, Group: compareGroup(s.f.Kafka, name, g), Topics: c.Topics(), Log: s.o.Log}, c.Open)
	if err != nil {
		return nil, err
	}
	if err := consumer.Start(ctx); err != nil {
		return nil, err
	}
	var running sync.WaitGroup
	run, cancel := context.WithCancel(ctx)
	for _, st := range list {
		running.Go(func() { st.Run(run) }) // ends with run
	}
	return func() {
		cancel()
		running.Wait()
		consumer.Stop()
		tracker.Stop()
	}, nil
}

// stateConfig is a state comparison of a generation, without what it is compared for.
func (s *Shadow) stateConfig(name event.Migration, st stateTemplate, model *Model, tracker *pending.Tracker) compare.StateConfig {
	return compare.StateConfig{Migration: name, Name: st.name, LegacySQL: st.Legacy, ModelSQL: st.Candidate,
		Entity: st.entityOf, Key: st.keyOf, ID: st.idOf, Tables: st.Tables, Rules: st.rules, Partitions: s.f.Kafka.Partitions,
		Legacy:        legacyReader{s.Source, s.f.LegacyDB.MySQL != ""},
		Model:         modelReader{model.Postgres, tracker, name, model.Generation, s.f.Kafka.Partitions},
		RowsPerSecond: st.Sweep.RowsPerSecond, Every: st.Sweep.Every, Log: s.o.Log}
}

func indexConfig(name event.Migration, m config.Migration, entities map[string]*expr.Template) compare.IndexConfig {
	mapped := map[[2]string]bool{}
	for _, d := range declared(m) {
		mapped[[2]string{d.Table, d.Column}] = d.Naming == ledger.Mapped
	}
	return compare.IndexConfig{
		Migration: name,
		Entity:    func(table string, row event.Values) (event.Entity, bool) { return expand(entities[table], row) },
		Mapped: func(table, column string) bool {
			if column == "" {
				return mapped[[2]string{table, ledger.InsertColumn}] && mapped[[2]string{table, ledger.DeleteColumn}]
			}
			return mapped[[2]string{table, column}]
		},
	}
}

// fingerprint is what evidence of a generation is bound to. Rows of another one prove nothing about it.
func fingerprint(f *config.File, build string, g int) string {
	return pairs.Fingerprint(f.Fingerprint(build), g)
}

// entityTemplates name each mapped table's entities.
func entityTemplates(m config.Migration) (map[string]*expr.Template, error) {
	out := map[string]*expr.Template{}
	for table, t := range m.Rows {
		tpl, err := expr.ParseTemplate(t.Subject)
		if err != nil {
			return nil, err
		}
		out[table] = tpl
	}
	return out, nil
}

func expand(t *expr.Template, row event.Values) (event.Entity, bool) {
	if t == nil {
		return "", false
	}
	s, ok := t.Expand(func(n string) (string, bool) { return event.Text(row[n]) })
	return event.Entity(s), ok
}

func compareRoutes(m config.Migration) ([]compare.Route, error) {
	var out []compare.Route
	for _, r := range m.Reads {
		if r.CandidatePath == "" {
			continue
		}
		rules, err := diff.Compile(r.Compare)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", r.Name, err)
		}
		out = append(out, compare.Route{Name: r.Name, Tables: r.Tables, Rules: rules})
	}
	return out, nil
}

// stateTemplate is a state comparison made ready.
type stateTemplate struct {
	config.State
	name        string
	entity, key *expr.Template
	rules       *diff.Rules
}

func stateTemplates(m config.Migration) ([]stateTemplate, error) {
	var out []stateTemplate
	for _, st := range m.State {
		t := stateTemplate{State: st, name: stateName(st)}
		var errs [3]error
		t.entity, errs[0] = expr.ParseTemplate(st.Entity)
		t.key, errs[1] = expr.ParseTemplate(st.Key)
		t.rules, errs[2] = diff.Compile(st.Compare)
		if err := errors.Join(errs[:]...); err != nil {
			return nil, fmt.Errorf("state %s: %w", t.name, err)
		}
		out = append(out, t)
	}
	return out, nil
}

func (t stateTemplate) entityOf(row event.Values) (event.Entity, bool) { return expand(t.entity, row) }

func (t stateTemplate) keyOf(row event.Values) (event.OrderingKey, bool) {
	k, ok := expand(t.key, row)
	return event.OrderingKey(k), ok
}

// idOf is the id in "unit/42": a number where it is one, since the queries' first column decides how it is compared.
func (t stateTemplate) idOf(e event.Entity) (any, bool) {
	id, ok := strings.CutPrefix(string(e), t.name+"/")
	if !ok || id == "" {
		return nil, false
	}
	if n, err := strconv.ParseInt(id, 10, 64); err == nil {
		return n, true
	}
	return id, true
}

// legacyReader is the change log's source as compare reads it.
type legacyReader struct {
	src   changelog.Source
	mysql bool
}

var (
	_ compare.LegacyReader = legacyReader{}
	_ compare.ModelReader  = modelReader{}
	_ compare.Holder       = holder{}
	_ compare.Asker        = asker{}
)

func (r legacyReader) Snapshot(ctx context.Context) (compare.LegacySnapshot, error) {
	n, err := r.src.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	return legacySnapshot{n}, nil
}

func (r legacyReader) Dialect() compare.Dialect {
	if !r.mysql {
		return postgresDialect
	}
	return compare.Dialect{Placeholder: func(int) string { return "?" }, Binary: func(e string) string { return "CAST(" + e + " AS BINARY)" }}
}

var postgresDialect = compare.Dialect{Placeholder: func(n int) string { return "$" + strconv.Itoa(n) }, Binary: func(e string) string { return "(" + e + `) COLLATE "C"` }}

type legacySnapshot struct{ changelog.Snapshot }

func (n legacySnapshot) Query(ctx context.Context, sql string, args ...any) (compare.Rows, error) {
	return n.Snapshot.Query(ctx, sql, args...)
}

// modelReader is the read model as compare reads it.
type modelReader struct {
	pg         *readmodel.Postgres
	tracker    *pending.Tracker
	migration  event.Migration
	generation int
	partitions int32
}

func (r modelReader) Snapshot(ctx context.Context) (compare.ModelSnapshot, error) {
	// What was published before the snapshot is opened holds in it too. PostgreSQL's own progress may be older: while
	// nothing but marks come, the projector commits it now and then only.
	published := make([]event.Progress, r.partitions)
	for i := range published {
		published[i], _ = r.tracker.Generation(r.migration, r.generation, int32(i))
	}
	n, err := r.pg.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	// Read now: while a query of the snapshot streams its connection takes no other.
	m := modelSnapshot{Snapshot: n, ctx: ctx, progress: make([]*event.Progress, r.partitions)}
	for i := range m.progress {
		if m.progress[i], err = n.Progress(ctx, int32(i)); err != nil {
			return nil, errors.Join(err, m.Close())
		}
		if p := m.progress[i]; p != nil && p.Position < published[i].Position {
			m.progress[i] = &published[i]
		}
	}
	return m, nil
}

func (r modelReader) Dialect() compare.Dialect { return postgresDialect }

func (r modelReader) Wait(ctx context.Context, at event.Position) error {
	return r.tracker.Reached(ctx, r.migration, r.generation, at)
}

type modelSnapshot struct {
	*readmodel.Snapshot
	ctx      context.Context // of the round that opened it: closing must work although it has ended
	progress []*event.Progress
}

func (n modelSnapshot) Progress(_ context.Context, partition int32) (*event.Progress, error) {
	return n.progress[partition], nil
}

func (n modelSnapshot) Query(ctx context.Context, sql string, args ...any) (compare.Rows, error) {
	r, err := n.Snapshot.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return modelRows{r}, nil
}

func (n modelSnapshot) Close() error { return n.Snapshot.Close(context.WithoutCancel(n.ctx)) }

type modelRows struct{ *readmodel.Rows }

func (r modelRows) Columns() []string { return r.Rows.Columns }

func (r modelRows) Close() error {
	r.Rows.Close()
	return nil
}

// holder keeps a projector at a position until released.
type holder struct{ p *project.Projector }

func (h holder) Hold(ctx context.Context, partition int32, at func(context.Context) (event.Position, error)) (release func(), err error) {
	reached, done := make(chan struct{}), make(chan struct{})
	ended := make(chan error, 1)
	go func() { // ends when released, or at the projector's own bound
		ended <- h.p.Hold(ctx, partition, at,
			func(ctx context.Context, _ event.Progress) error {
				close(reached)
				select {
				case <-done:
				case <-ctx.Done():
				}
				return nil
			})
	}()
	select {
	case <-reached:
		return func() { close(done); <-ended }, nil
	case err := <-ended:
		if err == nil {
			err = errors.New("the hold ended before it began")
		}
		return nil, err
	}
}

// asker asks a candidate again: the first of its instances that answers.
type asker struct {
	client *http.Client
	bases  []string
}

func newAsker(bases ...string) asker {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxConnsPerHost, t.DisableCompression, t.Proxy = 16, true, nil
	return asker{&http.Client{Transport: t, Timeout: 10 * time.Second}, bases}
}

// Ask implements compare.Asker.
func (a asker) Ask(ctx context.Context, p *capture.Pair) (capture.Answer, error) {
	var ans capture.Answer
	for _, base := range a.bases {
		if ans = pairs.Ask(ctx, a.client, base, p.Candidate.Target); ans.Status != 0 {
			return ans, nil
		}
	}
	return ans, errors.New(ans.Error)
}
