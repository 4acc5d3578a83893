package role

import (
	"context"
	"fmt"
	"strings"
	"time"

	"banyan/cmd/internal/config"
	"banyan/proxy/event"
	"banyan/proxy/stage"
	"banyan/shadow/ledger"
	"banyan/shadow/stream"
)

// gates tells the ledger what each migration's gates ask, and where to ask what it cannot know.
func (o *Ops) gates() ledger.GateConfig {
	c := ledger.GateConfig{Migrations: map[event.Migration]ledger.Expected{}, Inputs: o.inputs}
	for name, m := range o.f.Migrations {
		x := ledger.Expected{Gates: map[stage.Stage]ledger.Gate{}}
		for s, g := range m.Gates {
			x.Gates[stage.Stage(s)] = ledger.Gate{Pairs: g.Pairs, MismatchUpperBound: float64(g.MismatchUpperBound) / 100, Undecided: float64(g.Undecided) / 100,
				Sweep: g.Sweep, Unexplained: g.Unexplained, LatencyP99: float64(g.LatencyP99)}
		}
		for _, r := range m.Reads {
			if r.CandidatePath != "" {
				x.Comparisons = append(x.Comparisons, ledger.Route(r.Name))
			}
		}
		for _, s := range m.State {
			x.Comparisons = append(x.Comparisons, ledger.State(stateName(s)))
		}
		c.Migrations[name] = x
	}
	return c
}

// stateName is a state comparison's name: the kind of its entity.
func stateName(s config.State) string {
	kind, _, _ := strings.Cut(s.Entity, "/")
	return kind
}

// declared are the sources of dark writes that the file maps, or calls out of scope.
func declared(m config.Migration) []ledger.Declared {
	var out []ledger.Declared
	for table, t := range m.Rows {
		add := func(column string) {
			out = append(out, ledger.Declared{Table: table, Column: column, Naming: ledger.Mapped})
		}
		for _, u := range t.OnUpdate {
			for _, c := range u.Columns {
				add(c)
			}
		}
		if t.OnInsert != nil || t.Import != nil {
			add(ledger.InsertColumn)
		}
		if t.OnDelete != nil {
			add(ledger.DeleteColumn)
		}
	}
	for _, s := range m.OutOfScope {
		table, column, _ := strings.Cut(s, ".")
		out = append(out, ledger.Declared{Table: table, Column: column, Naming: ledger.OutOfScope})
	}
	return out
}

// inputs answers what the ledger asks of others.
func (o *Ops) inputs(ctx context.Context, m event.Migration) (ledger.Inputs, error) {
	var in ledger.Inputs
	in.Check = o.checked(ctx)
	in.Marking = o.marking(m)
	accounts, gaps, err := o.accounts(ctx)
	if err != nil {
		return in, err
	}
	in.Account = balanced(accounts)
	if l := o.shadow.Ledger(); l != nil {
		for _, g := range gaps {
			if g.Migration != m && g.Migration != "" {
				continue
			}
			if err := l.PutGap(ctx, m, ledgerGap(g)); err != nil {
				return in, err
			}
		}
	}
	return in, nil
}

func (o *Ops) checked(ctx context.Context) *ledger.Answer {
	problems := o.shadow.Source.Check(ctx, legacyTables(o.f))
	if len(problems) == 0 {
		return &ledger.Answer{OK: true, Have: "passes"}
	}
	return &ledger.Answer{Have: fmt.Sprintf("%d problems", len(problems)), Why: problems[0].String()}
}

// marking: every live proxy's epoch is in the read model's progress, so its marks come through the whole pipeline.
func (o *Ops) marking(m event.Migration) *ledger.Answer {
	live := o.watch.Live()
	if len(live) == 0 {
		return nil
	}
	if o.proxy == nil {
		return &ledger.Answer{OK: true, Have: fmt.Sprintf("%d of %d", len(live), len(live))}
	}
	p, _ := o.proxy.Tracker.Progress(m, "")
	n := 0
	for _, h := range live {
		if r, ok := p.Replicas[h.Replica]; ok && r.Epoch >= h.Epoch {
			n++
		}
	}
	a := &ledger.Answer{OK: n == len(live), Have: fmt.Sprintf("%d of %d", n, len(live))}
	if !a.OK {
		a.Why = "the marks of some proxy do not come through: is its mirror stalled, or the pipeline behind?"
	}
	return a
}

// accounts reads the newest account of every epoch, and all gaps.
func (o *Ops) accounts(ctx context.Context) (map[string]*event.Account, map[string]*event.Gap, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	accounts, gaps := map[string]*event.Account{}, map[string]*event.Gap{}
	for rec, err := range stream.ReadTo(ctx, o.f.Kafka, o.f.Kafka.Topics().Account(), 0, stream.Earliest) {
		if err != nil {
			return nil, nil, fmt.Errorf("read the accounts: %w", err)
		}
		switch rec.Kind {
		case event.KindAccount:
			a, err := event.DecodeAccount(rec.Value)
			if err != nil {
				return nil, nil, err
			}
			accounts[fmt.Sprintf("%s.%d", a.Replica, a.Epoch)] = a
		case event.KindGap:
			g, err := event.DecodeGap(rec.Value)
			if err != nil {
				return nil, nil, err
			}
			id := fmt.Sprintf("%s.%d.%s.%d", g.Replica, g.Epoch, g.Migration, g.From)
			if old := gaps[id]; old == nil || old.Ship <= g.Ship {
				gaps[id] = g
			}
		}
	}
	return accounts, gaps, nil
}

// balanced: nothing was lost, and all that was accepted is mirrored or on its way.
func balanced(accounts map[string]*event.Account) *ledger.Answer {
	if len(accounts) == 0 {
		return nil
	}
	var sum event.Account
	for _, a := range accounts {
		sum.Accepted += a.Accepted
		sum.Mirrored += a.Mirrored
		sum.Pending += a.Pending
		sum.Lost += a.Lost
	}
	have := fmt.Sprintf("%d accepted = %d mirrored + %d pending + %d lost", sum.Accepted, sum.Mirrored, sum.Pending, sum.Lost)
	return &ledger.Answer{OK: sum.Lost == 0 && sum.Accepted == sum.Mirrored+sum.Pending, Have: have}
}

func ledgerGap(g *event.Gap) ledger.Gap {
	out := ledger.Gap{ID: fmt.Sprintf("%s.%d.%d", g.Replica, g.Epoch, g.From), Replica: g.Replica, Reason: g.Reason, Opened: g.At, Writes: int64(g.Count), AtLeast: g.AtLeast}
	if g.Closed {
		at := g.At
		out.Closed = &at
	}
	return out
}
