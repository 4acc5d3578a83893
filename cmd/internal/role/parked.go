package role

import (
	"context"
	"fmt"
	"slices"
	"time"

	"banyan/proxy/admin"
	"banyan/proxy/event"
	"banyan/shadow/generation"
	"banyan/shadow/parked"

	"github.com/twmb/franz-go/pkg/kgo"
)

var _ admin.Parker = (*Ops)(nil)

// Parked implements admin.Parker.
func (o *Ops) Parked(ctx context.Context, m event.Migration) ([]admin.Parked, error) {
	names := []event.Migration{m}
	if m == "" {
		names = o.f.Names()
	} else if err := o.known(m); err != nil {
		return nil, err
	}
	out := []admin.Parked{}
	for _, name := range names {
		ps, err := o.standing(ctx, name)
		if err != nil {
			return nil, err
		}
		for i := range ps {
			out = append(out, stopped(&ps[i]))
		}
		o.count(ctx, name, out)
	}
	return out, nil
}

// standing are the parked keys of all generations that are fed.
func (o *Ops) standing(ctx context.Context, m event.Migration) ([]event.Parked, error) {
	if err := o.read(ctx); err != nil {
		return nil, err
	}
	var out []event.Parked
	for _, g := range o.follow.State(m).Fed() {
		ps, err := generation.Parked(ctx, o.f.Kafka, m, g)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", admin.ErrMissing, err)
		}
		out = append(out, ps...)
	}
	return out, nil
}

func stopped(p *event.Parked) admin.Parked {
	return admin.Parked{Migration: p.Migration, Generation: p.Generation, Stage: p.Stage, Key: p.Key, Since: p.At, Position: p.Position, Topic: p.Topic,
		Partition: p.Partition, Offset: p.Offset, Released: p.Released, Event: p.Event, Type: p.Type, Reason: p.Reason}
}

// count adds how many events wait, where this process has the tables that know.
func (o *Ops) count(ctx context.Context, m event.Migration, list []admin.Parked) {
	if o.shadow == nil {
		return
	}
	for _, model := range o.shadow.fed(m) {
		if model.Postgres == nil || !slices.ContainsFunc(list, func(p admin.Parked) bool {
			return p.Migration == m && p.Generation == model.Generation && p.Stage == "project"
		}) {
			continue
		}
		waiting, err := model.Postgres.Waiting(ctx)
		if err != nil {
			o.log.Warn("how many events of parked keys wait is not known", "migration", m, "error", err)
			continue
		}
		for i := range list {
			p := &list[i]
			if n, ok := waiting[p.Key]; ok && p.Migration == m && p.Generation == model.Generation && p.Stage == "project" {
				p.Waiting, p.Offset = &n.Waiting, n.FirstOffset
			}
		}
	}
}

// Release implements admin.Parker. The record in `.parked` is all there is to it: the owner of the partition obeys it.
func (o *Ops) Release(ctx context.Context, r admin.ReleaseRequest) ([]admin.Parked, error) {
	if err := o.known(r.Migration); err != nil {
		return nil, err
	}
	all, err := o.standing(ctx, r.Migration)
	if err != nil {
		return nil, err
	}
	var free []event.Parked
	for _, p := range all {
		if !p.Released && (r.All || slices.Contains(r.Keys, p.Key)) {
			free = append(free, p)
		}
	}
	for _, k := range r.Keys {
		if slices.ContainsFunc(free, func(p event.Parked) bool { return p.Key == k }) {
			continue
		}
		if slices.ContainsFunc(all, func(p event.Parked) bool { return p.Key == k }) {
			return nil, fmt.Errorf("%w: %s of %s is released already and catches up; nothing was released", admin.ErrConflict, k, r.Migration)
		}
		return nil, fmt.Errorf("%w: %s of %s is not parked; nothing was released. `banyan parked list %s` tells what is", admin.ErrConflict, k, r.Migration, r.Migration)
	}
	if len(free) == 0 {
		return nil, fmt.Errorf("%w: no key of %s is parked and waits for a release", admin.ErrConflict, r.Migration)
	}
	cl, err := o.f.Kafka.Producer("banyan-release")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", admin.ErrMissing, err)
	}
	defer cl.Close()
	out := make([]admin.Parked, 0, len(free))
	rs := make([]*kgo.Record, 0, len(free))
	for i := range free {
		p := &free[i]
		rs = append(rs, parked.Record(o.f.Kafka, p.Release(r.Who, r.Reason, time.Now().UTC())))
		p.Released = true
		out = append(out, stopped(p))
	}
	if err := cl.ProduceSync(ctx, rs...).FirstErr(); err != nil {
		return nil, fmt.Errorf("%w: release %d keys: %w", admin.ErrMissing, len(rs), err)
	}
	for _, p := range out {
		o.log.Info("release of a parked key", "migration", p.Migration, "generation", p.Generation, "stage", p.Stage, "key", p.Key, "who", r.Who, "reason", r.Reason)
	}
	return out, nil
}
