package role

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"banyan/cmd/internal/config"
	"banyan/legacyadapter/changelog"
	"banyan/proxy/admin"
	"banyan/proxy/control"
	"banyan/proxy/event"
	"banyan/proxy/stage"
	"banyan/shadow/ledger"
)

// Ops is what operators ask for, whichever roles this process has: it follows the control log and the heartbeats by
// itself, and asks the shadow role for evidence.
type Ops struct {
	f       *config.File
	log     *slog.Logger
	follow  *control.Follower
	watch   *control.Watch
	flipper *control.Flipper
	shadow  *Shadow // nil: no ledger here
	proxy   *Proxy  // nil: no request path here

	mu        sync.Mutex // guards backfills, and the contents of runs
	backfills map[event.Migration]*admin.BackfillStatus
	runs      map[event.Migration]*run
	wg        sync.WaitGroup
	ctx       context.Context // ends with the process: a backfill outlives the request that started it
	retire    time.Duration   // RetireAfter; tests cannot wait so long
}

var (
	_ admin.Stages     = (*Ops)(nil)
	_ admin.Flipper    = (*Ops)(nil)
	_ admin.Ledger     = (*Ops)(nil)
	_ admin.Backfiller = (*Ops)(nil)

	_ admin.Retranslator = (*Ops)(nil)
)

// newOps connects to nothing yet.
func newOps(ctx context.Context, f *config.File, log *slog.Logger, p *Proxy, s *Shadow) (*Ops, error) {
	return newOpsWith(ctx, f, log, p, s, RetireAfter)
}

func newOpsWith(ctx context.Context, f *config.File, log *slog.Logger, p *Proxy, s *Shadow, retire time.Duration) (*Ops, error) {
	o := &Ops{retire: retire, f: f, log: log, proxy: p, shadow: s, backfills: map[event.Migration]*admin.BackfillStatus{},
		runs: map[event.Migration]*run{}, ctx: ctx}
	var err error
	quiet := slog.New(slog.DiscardHandler) // the proxy's own follower says what there is to say
	if o.follow, err = control.Follow(ctx, control.FollowerConfig{Kafka: f.Kafka, Log: quiet}); err != nil {
		return nil, err
	}
	if o.watch, err = control.WatchReplicas(ctx, f.Kafka, quiet, f.Settle.MaxClockError); err != nil {
		o.follow.Stop()
		return nil, err
	}
	if o.flipper, err = control.NewFlipper(f.Kafka, o.follow); err != nil {
		o.watch.Stop()
		o.follow.Stop()
		return nil, err
	}
	if s != nil {
		for _, name := range f.Names() {
			if rm := f.Migrations[name].ReadModel; rm != nil {
				o.wg.Go(func() { o.attend(ctx, name, rm) })
			}
		}
	}
	return o, nil
}

func (o *Ops) stop() {
	o.wg.Wait()
	o.flipper.Close()
	o.watch.Stop()
	o.follow.Stop()
}

// known refuses migrations that the file does not declare.
func (o *Ops) known(m event.Migration) error {
	if _, ok := o.f.Migrations[m]; !ok {
		return fmt.Errorf("%w: no migration is named %q; the file declares %v", admin.ErrNotFound, m, o.f.Names())
	}
	return nil
}

// read waits for the control log to be read to its end: a flip decided on half of it would be void.
func (o *Ops) read(ctx context.Context) error {
	for _, ready := range []<-chan struct{}{o.follow.Ready(), o.watch.Ready()} {
		select {
		case <-ready:
		case <-ctx.Done():
			return fmt.Errorf("%w: Kafka does not answer: %w", admin.ErrMissing, ctx.Err())
		}
	}
	return nil
}

// Stages implements admin.Stages.
func (o *Ops) Stages(ctx context.Context) ([]admin.StageInfo, error) {
	if err := o.read(ctx); err != nil {
		return nil, err
	}
	var out []admin.StageInfo
	for _, m := range o.f.Names() {
		info := admin.StageInfo{Migration: m, State: o.follow.State(m), Proxies: o.proxies(m)}
		for _, e := range o.follow.History(m) {
			if e.Void == "" && e.Step == "" {
				info.Since, info.Who, info.Reason, info.Forced = e.At, e.Who, e.Reason, e.Forced
			}
		}
		out = append(out, info)
	}
	return out, nil
}

func (o *Ops) proxies(m event.Migration) []admin.Proxy {
	var out []admin.Proxy
	for _, h := range o.watch.Live() {
		out = append(out, admin.Proxy{Replica: h.Replica, Listen: h.Bound, Version: h.Obeys[m]})
	}
	return out
}

// History implements admin.Stages.
func (o *Ops) History(ctx context.Context, m event.Migration) ([]stage.Entry, error) {
	if err := errors.Join(o.known(m), o.read(ctx)); err != nil {
		return nil, err
	}
	return o.follow.History(m), nil
}

// Plan implements admin.Flipper.
func (o *Ops) Plan(ctx context.Context, m event.Migration, to stage.State) (admin.Plan, error) {
	if err := o.known(m); err != nil {
		return admin.Plan{}, err
	}
	if err := o.read(ctx); err != nil {
		return admin.Plan{}, err
	}
	from := o.follow.State(m)
	p := admin.Plan{Migration: m, From: from, To: to, Forward: stage.Forward(from, to)}
	if err := stage.Allowed(from, to); err != nil {
		return p, fmt.Errorf("%w: %w", admin.ErrInvalid, err)
	}
	if !p.Forward {
		return p, nil
	}
	if o.shadow == nil {
		return p, fmt.Errorf("%w: this process has no ledger, so it cannot ask the gates: send the flip to the admin address of the shadow role", admin.ErrMissing)
	}
	l := o.shadow.Ledger()
	if l == nil {
		return p, fmt.Errorf("%w: the ledger's database is not there yet", admin.ErrMissing)
	}
	results, evidence, err := l.Decide(ctx, m, to)
	if err != nil {
		return p, fmt.Errorf("%w: %w", admin.ErrMissing, err)
	}
	for _, r := range results {
		p.Gates = append(p.Gates, admin.Gate{Name: r.Name, Result: string(r.Result), Have: r.Have, Want: r.Want, Why: r.Why})
	}
	p.Evidence = event.Encode(evidence)
	return p, nil
}

// Outlook is what the gates would say of a flip of m, as of evidenceFor ago at most; nothing while the ledger is away.
// Only metrics ask it.
func (o *Ops) Outlook(ctx context.Context, m event.Migration, to stage.State) []ledger.GateResult {
	if o.shadow == nil {
		return nil
	}
	l := o.shadow.Ledger()
	if l == nil {
		return nil
	}
	results, err := l.Outlook(ctx, m, to, evidenceFor)
	if err != nil {
		return nil
	}
	return results
}

// Flip implements admin.Flipper.
func (o *Ops) Flip(ctx context.Context, f admin.Flip) (admin.Flipped, error) {
	start := time.Now()
	if o.proxy != nil { // without it a flip right after the start would be done before this very proxy obeys
		if err := o.watch.Seen(ctx, event.Replica(o.f.Proxy.Replica), event.Epoch(o.proxy.Journal.Epoch())); err != nil {
			return admin.Flipped{}, fmt.Errorf("%w: %w", admin.ErrMissing, err)
		}
	}
	e, err := o.flipper.Flip(ctx, stage.Flip{Migration: f.Migration, From: f.From, To: f.To, Who: f.Who, Reason: f.Reason, At: start, Evidence: f.Evidence, Forced: f.Forced})
	switch {
	case errors.Is(err, control.ErrLost):
		return admin.Flipped{Entry: e}, fmt.Errorf("%w: %w", admin.ErrConflict, err)
	case err != nil:
		return admin.Flipped{}, fmt.Errorf("%w: %w", admin.ErrMissing, err)
	}
	_, late := o.watch.Await(ctx, f.Migration, e.To.Version)
	out := admin.Flipped{Entry: e, TookMS: time.Since(start).Milliseconds()}
	for _, p := range o.proxies(f.Migration) {
		if p.Version >= e.To.Version {
			out.Obeyed = append(out.Obeyed, p)
		} else if late != nil {
			out.Late = append(out.Late, p.Replica)
		}
	}
	return out, nil
}

func (o *Ops) ledger() (*ledger.Ledger, error) {
	if o.shadow == nil {
		return nil, fmt.Errorf("%w: findings are kept by the shadow role: ask its admin address", admin.ErrMissing)
	}
	if l := o.shadow.Ledger(); l != nil {
		return l, nil
	}
	return nil, fmt.Errorf("%w: the ledger's database is not there yet", admin.ErrMissing)
}

// Findings implements admin.Ledger.
func (o *Ops) Findings(ctx context.Context, m event.Migration, states []string) ([]admin.Finding, error) {
	l, err := o.ledger()
	if err != nil {
		return nil, err
	}
	var want []ledger.FindingState
	for _, s := range states {
		want = append(want, ledger.FindingState(s))
	}
	names := []event.Migration{m}
	if m == "" {
		names = o.f.Names()
	} else if err := o.known(m); err != nil {
		return nil, err
	}
	out := []admin.Finding{}
	for _, n := range names {
		fs, err := l.Findings(ctx, n, want...)
		if err != nil {
			return nil, err
		}
		for i := range fs {
			out = append(out, finding(&fs[i]))
		}
	}
	return out, nil
}

// Finding implements admin.Ledger.
func (o *Ops) Finding(ctx context.Context, id string) (*admin.Finding, error) {
	l, err := o.ledger()
	if err != nil {
		return nil, err
	}
	f, err := l.Finding(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", admin.ErrNotFound, err)
	}
	out := finding(f)
	return &out, nil
}

// Accept implements admin.Ledger.
func (o *Ops) Accept(ctx context.Context, id string, a admin.Acceptance) error {
	l, err := o.ledger()
	if err != nil {
		return err
	}
	return l.Accept(ctx, id, ledger.Acceptance{Reason: a.Reason, Owner: a.Owner, At: time.Now(), Expires: a.Expires})
}

func finding(f *ledger.Finding) admin.Finding {
	out := admin.Finding{ID: f.ID, Migration: f.Migration, Comparison: string(f.Comparison), Cause: string(f.Cause), Class: f.Class, Place: f.Place, Why: f.Why,
		State: string(f.State), Count: f.Count, FirstSeen: f.FirstSeen, LastSeen: f.LastSeen, FixedAt: f.FixedAt, ReopenedAt: f.ReopenedAt, Differ: f.Differ, More: f.More}
	if f.Acceptance != nil {
		a := admin.Acceptance(*f.Acceptance)
		out.Acceptance = &a
	}
	for _, k := range f.Keys {
		out.Keys = append(out.Keys, admin.DifferingKey(k))
	}
	for _, e := range f.Examples {
		out.Examples = append(out.Examples, example(e))
	}
	return out
}

// Backfill implements admin.Backfiller: it starts one, or tells of the one that runs.
func (o *Ops) Backfill(_ context.Context, r admin.BackfillRequest) (admin.BackfillStatus, error) {
	if err := o.known(r.Migration); err != nil {
		return admin.BackfillStatus{}, err
	}
	if o.shadow == nil {
		return admin.BackfillStatus{}, fmt.Errorf("%w: backfills are done by the shadow role: ask its admin address", admin.ErrMissing)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if s := o.backfills[r.Migration]; s != nil && s.State == admin.Running {
		return *s, nil
	}
	s := &admin.BackfillStatus{Migration: r.Migration, State: admin.Running, Started: time.Now()}
	o.backfills[r.Migration] = s
	o.wg.Go(func() { o.backfill(r, s) })
	return *s, nil
}

func (o *Ops) backfill(r admin.BackfillRequest, s *admin.BackfillStatus) {
	before, inTable := int64(0), int64(0)
	var last event.Position
	err := o.shadow.Backfill(o.ctx, r.Migration, r.Restart, func(table string, p changelog.Progress) {
		o.mu.Lock()
		defer o.mu.Unlock()
		if s.Table != table {
			before += inTable
			s.Table = table
		}
		inTable, last = int64(p.Rows), p.Position
		s.Rows, s.Position = before+inTable, p.Position
	})
	if err == nil {
		if l := o.shadow.Ledger(); l != nil {
			err = l.SetBackfilled(o.ctx, r.Migration, last)
		} else {
			err = errNoLedger
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	s.Ended, s.State = time.Now(), admin.Done
	if err != nil {
		s.State, s.Error = admin.Failed, err.Error()
		o.log.Error("backfill failed; start it again and it goes on where it stopped", "migration", r.Migration, "error", err)
		return
	}
	o.log.Info("backfill done", "migration", r.Migration, "rows", s.Rows, "took", s.Ended.Sub(s.Started).Round(time.Millisecond))
}

// Backfills implements admin.Backfiller.
func (o *Ops) Backfills(context.Context) ([]admin.BackfillStatus, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := []admin.BackfillStatus{}
	for _, m := range o.f.Names() {
		if s := o.backfills[m]; s != nil {
			out = append(out, *s)
		}
	}
	return out, nil
}
