package role

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"banyan/cmd/internal/config"
	"banyan/proxy/admin"
	"banyan/proxy/control"
	"banyan/proxy/event"
	"banyan/proxy/pending"
	"banyan/proxy/stage"
	"banyan/shadow/compare"
	"banyan/shadow/generation"
	"banyan/shadow/ledger"
	"banyan/shadow/readmodel"
)

// RetireAfter is how long the generation before is fed after readers were told of the new one: until none of them may
// answer from it any more (readmodel.ReaderBound), and answers that were under way are out.
const RetireAfter = readmodel.ReaderBound + 10*time.Second

// underWay is how long a read takes at most from the proxy's decision to the service's look at its pointer.
const underWay = time.Second

// run is a retranslation that this process does, or did last.
type run struct {
	status admin.RetranslateStatus // guarded by Ops.mu, as the request is
	req    admin.RetranslateRequest
}

// refusedError is an answer of no.
type refusedError struct{ why string }

func (e *refusedError) Error() string { return e.why }

func refuse(format string, a ...any) error { return &refusedError{fmt.Sprintf(format, a...)} }

// errGone ends a run whose build is not the one that is built any more.
var errGone = errors.New("the build was ended or swapped by somebody else meanwhile")

// Retranslate implements admin.Retranslator: it starts one, or joins the one that runs.
func (o *Ops) Retranslate(ctx context.Context, r admin.RetranslateRequest) (admin.RetranslateStatus, error) {
	if err := o.known(r.Migration); err != nil {
		return admin.RetranslateStatus{}, err
	}
	if o.shadow == nil {
		return admin.RetranslateStatus{}, fmt.Errorf("%w: generations are made by the shadow role: ask its admin address", admin.ErrMissing)
	}
	if o.f.Migrations[r.Migration].ReadModel == nil {
		return admin.RetranslateStatus{}, fmt.Errorf("%w: migration %s has no read model: there is nothing that could be compared with legacy and swapped", admin.ErrInvalid, r.Migration)
	}
	if err := o.read(ctx); err != nil {
		return admin.RetranslateStatus{}, err
	}
	if r.Abandon {
		return o.abandon(ctx, r)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if x := o.runs[r.Migration]; x != nil && x.status.State == admin.Running {
		x.req.NoSwap, x.req.Force = r.NoSwap, x.req.Force || r.Force // what is asked last counts when it is decided
		return x.status, nil
	}
	st := o.follow.State(r.Migration)
	x := &run{req: r, status: admin.RetranslateStatus{Migration: r.Migration, State: admin.Running, Phase: "starting", From: st.Current(), To: st.Building,
		Partitions: int(o.f.Kafka.Partitions), Started: time.Now()}}
	o.runs[r.Migration] = x
	o.wg.Go(func() { o.run(x) })
	return x.status, nil
}

// Retranslations implements admin.Retranslator.
func (o *Ops) Retranslations(context.Context) ([]admin.RetranslateStatus, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := []admin.RetranslateStatus{}
	for _, m := range o.f.Names() {
		if x := o.runs[m]; x != nil {
			out = append(out, x.status)
		}
	}
	return out, nil
}

func (o *Ops) abandon(ctx context.Context, r admin.RetranslateRequest) (admin.RetranslateStatus, error) {
	st := o.follow.State(r.Migration)
	out := admin.RetranslateStatus{Migration: r.Migration, State: admin.Done, Phase: "abandoned", From: st.Current(), To: st.Building, Started: time.Now(), Ended: time.Now()}
	if st.Building == 0 {
		return out, fmt.Errorf("%w: no generation of %s is being built: there is nothing to abandon", admin.ErrConflict, r.Migration)
	}
	_, err := o.step(ctx, stage.Flip{Migration: r.Migration, From: st, Step: stage.Abandon, Who: r.Who, Reason: r.Reason})
	return out, err
}

// step appends a step of the generations.
func (o *Ops) step(ctx context.Context, f stage.Flip) (stage.Entry, error) {
	f.At = time.Now()
	e, err := o.flipper.Flip(ctx, f)
	switch {
	case errors.Is(err, control.ErrLost):
		return e, fmt.Errorf("%w: %w", admin.ErrConflict, err)
	case err != nil:
		return e, fmt.Errorf("%w: %w", admin.ErrMissing, err)
	}
	return e, nil
}

// tell changes the status.
func (o *Ops) tell(x *run, change func(*admin.RetranslateStatus)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	change(&x.status)
}

func (o *Ops) run(x *run) {
	err := o.retranslate(o.ctx, x)
	o.mu.Lock()
	defer o.mu.Unlock()
	s := &x.status
	s.Ended = time.Now()
	var no *refusedError
	switch {
	case err == nil:
		s.State, s.Phase = admin.Done, "done"
	case errors.As(err, &no), errors.Is(err, errGone), errors.Is(err, generation.ErrUnreached), errors.Is(err, admin.ErrConflict):
		s.State, s.Error = admin.Refused, err.Error()
	default:
		s.State, s.Error = admin.Failed, err.Error()
	}
	o.log.Info("retranslation ended", "migration", s.Migration, "state", s.State, "phase", s.Phase, "generation", s.To, "swapped", s.Swapped, "compared", s.Compared, "different", s.Different,
		"took", s.Ended.Sub(s.Started).Round(time.Millisecond), "error", s.Error)
}

// retranslate does what is left to do, from whatever state the control log is in.
func (o *Ops) retranslate(ctx context.Context, x *run) error {
	name := x.req.Migration
	st, err := o.retired(ctx, x)
	if err != nil {
		return err
	}
	if st.Building == 0 {
		if st, err = o.build(ctx, x, st); err != nil {
			return err
		}
	} else if err := o.sameConfig(x, st); err != nil {
		return err
	}
	g := st.Building
	o.tell(x, func(s *admin.RetranslateStatus) { s.From, s.To, s.Phase = st.Current(), g, "building" })
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	o.wg.Go(func() { // ends with the run
		for {
			changed := o.follow.Changed()
			if o.follow.State(name).Building != g {
				cancel(errGone)
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	})
	if err := o.shadow.drop(ctx, name, o.f.Migrations[name], st); err != nil {
		o.log.Warn("what older generations left cannot be removed yet; the next build tries again", "error", err)
	}
	tracker := pending.New(o.f.Kafka.Partitions, o.log)
	if err := tracker.Start(ctx, o.f.Kafka); err != nil {
		return err
	}
	defer tracker.Stop()
	model, err := o.caughtUp(ctx, x, g, tracker)
	if err != nil {
		return cause(ctx, err)
	}
	o.tell(x, func(s *admin.RetranslateStatus) { s.Phase = "verifying" })
	result, err := o.verify(ctx, x, model, tracker)
	if err != nil {
		return cause(ctx, err)
	}
	cancel(nil)
	return o.decide(o.ctx, x, g, result)
}

// cause is why a run was ended, where that says more.
func cause(ctx context.Context, err error) error {
	if c := context.Cause(ctx); errors.Is(c, errGone) {
		return c
	}
	return err
}

// retired waits until no generation is retiring: a build begins from a state in which readers have one.
func (o *Ops) retired(ctx context.Context, x *run) (stage.State, error) {
	for {
		changed := o.follow.Changed()
		st := o.follow.State(x.req.Migration)
		if st.Retiring == 0 {
			return st, nil
		}
		o.tell(x, func(s *admin.RetranslateStatus) {
			s.Phase = fmt.Sprintf("waiting until generation %d is retired", st.Retiring)
		})
		select {
		case <-changed:
		case <-ctx.Done():
			return st, context.Cause(ctx)
		}
	}
}

// begun is what a build's record says of itself.
type begun struct {
	Fingerprint string `json:"fingerprint"`
}

// build finds where to begin, and says so in the control log.
func (o *Ops) build(ctx context.Context, x *run, st stage.State) (stage.State, error) {
	name := x.req.Migration
	m := o.f.Migrations[name]
	var imports []generation.Import
	for _, table := range legacyTables(o.f) {
		t, mapped := m.Rows[table]
		if !mapped || t.Import == nil {
			continue
		}
		p, err := o.shadow.Publisher.Imported(ctx, name, table)
		if err != nil {
			return st, err
		}
		imports = append(imports, generation.Import{Table: table, Done: p.Done || !p.Complete.IsZero(), Complete: p.Complete})
	}
	start, err := generation.Start(ctx, o.f.Kafka, name, imports)
	if err != nil {
		return st, err
	}
	e, err := o.step(ctx, stage.Flip{Migration: name, From: st, Step: stage.Build, Start: start, Who: x.req.Who, Reason: x.req.Reason,
		Evidence: event.Encode(begun{o.f.Fingerprint(o.shadow.o.Build)})})
	return e.To, err
}

// sameConfig refuses to go on with a build that was begun under another configuration: a part of its events is of that.
func (o *Ops) sameConfig(x *run, st stage.State) error {
	now := o.f.Fingerprint(o.shadow.o.Build)
	for _, e := range o.follow.History(x.req.Migration) {
		var b begun
		if e.Void == "" && e.Step == stage.Build && e.To.Building == st.Building && json.Unmarshal(e.Evidence, &b) == nil && b.Fingerprint != now && !x.req.Force {
			return refuse("generation %d was begun with another configuration (%s at %s): end it with `banyan retranslate %s --abandon --reason …`, and begin anew; or --force to go on",
				st.Building, e.Who, e.At.UTC().Format(time.RFC3339), x.req.Migration)
		}
	}
	return nil
}

// caughtUp returns when the new generation has passed a position that was taken after it had caught up.
func (o *Ops) caughtUp(ctx context.Context, x *run, g int, tracker *pending.Tracker) (*Model, error) {
	for range 2 {
		head, err := o.shadow.Source.Head(ctx)
		if err != nil {
			return nil, fmt.Errorf("position of legacy's change log: %w", err)
		}
		if err := o.reached(ctx, x, g, tracker, head); err != nil {
			return nil, err
		}
	}
	fed := o.shadow.feedOf(x.req.Migration)
	for {
		fed.mu.Lock()
		model, changed := fed.fed[g], fed.changed
		fed.mu.Unlock()
		if model != nil && model.Projector() != nil {
			return model, nil
		}
		select {
		case <-changed:
		case <-time.After(100 * time.Millisecond): // a projector that comes up tells nobody
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// reached waits for every partition, and shows how many there are.
func (o *Ops) reached(ctx context.Context, x *run, g int, tracker *pending.Tracker, at event.Position) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		there := 0
		for n := range o.f.Kafka.Partitions {
			if p, _ := tracker.Generation(x.req.Migration, g, n); p.Position >= at && !p.At.IsZero() {
				there++
			}
		}
		o.tell(x, func(s *admin.RetranslateStatus) { s.CaughtUp, s.Head = there, at })
		if there == int(o.f.Kafka.Partitions) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// verify compares every row with legacy.
func (o *Ops) verify(ctx context.Context, x *run, model *Model, tracker *pending.Tracker) (*generation.Result, error) {
	name := x.req.Migration
	m := o.f.Migrations[name]
	entities, err := entityTemplates(m)
	if err != nil {
		return nil, err
	}
	states, err := stateTemplates(m)
	if err != nil {
		return nil, err
	}
	var list []compare.StateConfig
	for _, st := range states {
		sc := o.shadow.stateConfig(name, st, model, tracker)
		if p := model.Projector(); ownsAll(p, o.f.Kafka.Partitions) {
			sc.Holder = holder{p}
		}
		list = append(list, sc)
	}
	return generation.Verify(ctx, generation.VerifyConfig{Kafka: o.f.Kafka, Generation: model.Generation, Index: indexConfig(name, m, entities), States: list, Log: o.log,
		Told: func(r generation.Result) { o.tell(x, func(s *admin.RetranslateStatus) { found(s, &r) }) }})
}

// ownsAll says whether a projector here has every partition: only such a one can be held wherever a row stays busy.
func ownsAll(p interface {
	Progress(int32) (event.Progress, bool)
}, partitions int32) bool {
	for n := range partitions {
		if _, ok := p.Progress(n); !ok {
			return false
		}
	}
	return true
}

func found(s *admin.RetranslateStatus, r *generation.Result) {
	s.Comparisons, s.Compared, s.Different, s.Unverified, s.Examples = r.Comparisons, r.Compared, r.Different, r.Unverified, nil
	for _, e := range r.Examples {
		s.Examples = append(s.Examples, example(e))
	}
	s.Parked = nil
	for _, p := range r.Parked {
		s.Parked = append(s.Parked, admin.ParkedKey{Key: p.Key, Stage: p.Stage, Reason: p.Reason})
	}
	s.Parked = s.Parked[:min(len(s.Parked), 20)]
}

// decide swaps, or says why not.
func (o *Ops) decide(ctx context.Context, x *run, g int, r *generation.Result) error {
	why := r.Why()
	o.mu.Lock()
	req := x.req
	found(&x.status, r)
	x.status.Verified = why == ""
	o.mu.Unlock()
	if why != "" && !req.Force {
		return refuse("generation %d does not take over: %s. It goes on being fed and nobody reads it. Once the cause is mended, end it with `banyan retranslate %s --abandon --reason …` and begin anew; "+
			"the same command compares again; --force swaps all the same", g, why, req.Migration)
	}
	if req.NoSwap {
		return nil
	}
	o.tell(x, func(s *admin.RetranslateStatus) { s.Phase = "swapping" })
	var e stage.Entry
	for {
		st := o.follow.State(req.Migration)
		if st.Building != g {
			return errGone
		}
		var err error
		e, err = o.step(ctx, stage.Flip{Migration: req.Migration, From: st, Step: stage.Swap, Who: req.Who, Reason: req.Reason, Evidence: event.Encode(r), Forced: why != ""})
		if errors.Is(err, admin.ErrConflict) {
			continue // the stage was flipped, or somebody else swapped: look again
		}
		if err != nil {
			return err
		}
		break
	}
	o.tell(x, func(s *admin.RetranslateStatus) { s.Swapped, s.Forced = true, why != "" })
	wait, cancel := context.WithTimeout(ctx, swapWait)
	defer cancel()
	if _, err := o.watch.Await(wait, req.Migration, e.To.Version); err != nil {
		o.tell(x, func(s *admin.RetranslateStatus) { s.Late = err.Error() })
	}
	return nil
}

// swapWait is how long the command waits for the proxies; readers follow when they have obeyed, whoever waits.
const swapWait = 30 * time.Second

// attend moves the readers of a migration to its current generation, and retires the one before. Every shadow process does
// it, so that none has to live; what another has done already changes nothing.
func (o *Ops) attend(ctx context.Context, name event.Migration, rm *config.ReadModel) {
	var p *readmodel.Pointer
	ok := keep(ctx, o.log, "pointer to the current generation of "+string(name), func(ctx context.Context) (err error) {
		p, err = readmodel.OpenPointer(ctx, readmodel.PointerConfig{Postgres: rm.Postgres, Redis: rm.Redis, Prefix: o.f.Kafka.Prefix, Migration: name})
		return err
	})
	if !ok {
		return
	}
	defer p.Close()
	if o.read(ctx) != nil {
		return
	}
	for {
		changed := o.follow.Changed()
		st := o.follow.State(name)
		if !o.lead(ctx, name, p, st) {
			return
		}
		if o.follow.State(name).Version != st.Version {
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// lead does what a state asks for; false: the end.
func (o *Ops) lead(ctx context.Context, name event.Migration, p *readmodel.Pointer, st stage.State) bool {
	if st.Retiring != 0 {
		// Every proxy that may let the candidate answer knows of both generations; only then may a reader change over.
		if _, err := o.watch.Await(ctx, name, st.Version); err != nil {
			return false
		}
		if !sleep(ctx, underWay) {
			return false
		}
	}
	if !keep(ctx, o.log, "current generation of "+string(name), func(ctx context.Context) error { return p.Set(ctx, st.Current(), st.Version) }) {
		return false
	}
	if st.Retiring == 0 {
		return true
	}
	o.log.Info("readers are told of a generation", "migration", name, "generation", st.Current(), "before", st.Retiring, "retired_in", o.retire)
	wait := o.retire
	if !o.mine(name, st) {
		wait += o.retire / 2 // whoever swapped comes first, as long as it lives
	}
	if !sleep(ctx, wait) {
		return false
	}
	for {
		now := o.follow.State(name)
		if now.Retiring != st.Retiring {
			return true
		}
		_, err := o.step(ctx, stage.Flip{Migration: name, From: now, Step: stage.Retire, Who: "banyan shadow",
			Reason: fmt.Sprintf("proxies and readers have followed to generation %d", now.Current())})
		switch {
		case err == nil:
			return true
		case ctx.Err() != nil:
			return false
		case !errors.Is(err, admin.ErrConflict):
			o.log.Warn("a generation cannot be retired yet", "migration", name, "generation", now.Retiring, "error", err)
			if !sleep(ctx, time.Second) {
				return false
			}
		}
	}
}

// mine says whether this process made the swap that led to the state.
func (o *Ops) mine(name event.Migration, st stage.State) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	x := o.runs[name]
	return x != nil && x.status.Swapped && x.status.To == st.Current()
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// example of a difference, as the API has it.
func example(e ledger.Example) admin.Example {
	return admin.Example{At: e.At, Key: e.Key, Entity: e.Entity, Path: e.Path, Legacy: e.Legacy, Candidate: e.Candidate, Why: e.Why,
		Writes: e.Writes, Pair: e.Pair, Target: e.Target, Low: e.Low, High: e.High}
}

// generations is a part of the status: which are read, built and fed.
func (o *Ops) generations(context.Context) (any, error) {
	type told struct {
		Current  int    `json:"current"`
		Building int    `json:"building,omitempty"`
		Retiring int    `json:"retiring,omitempty"`
		Fed      []int  `json:"fed,omitempty"` // by this process
		Note     string `json:"note,omitempty"`
	}
	out := map[event.Migration]told{}
	for _, m := range o.f.Names() {
		st := o.follow.State(m)
		t := told{Current: st.Current(), Building: st.Building, Retiring: st.Retiring}
		if st.Building != 0 {
			t.Note = fmt.Sprintf("generation %d is being built and not read: `banyan retranslate %s` goes on with it", st.Building, m)
		}
		if o.shadow != nil {
			x := o.shadow.feedOf(m)
			x.mu.Lock()
			for g := range x.fed {
				t.Fed = append(t.Fed, g)
			}
			x.mu.Unlock()
			slices.Sort(t.Fed)
		}
		out[m] = t
	}
	return out, nil
}
