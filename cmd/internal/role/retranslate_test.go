package role

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"banyan/cmd/internal/config"
	"banyan/proxy/admin"
	"banyan/proxy/control"
	"banyan/proxy/event"
	"banyan/proxy/stage"
	"banyan/shadow/readmodel"
	"banyan/testdata/lab"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kfake"
)

// shadowProcess is a shadow role with its operator's side, as a process has them.
type shadowProcess struct {
	w      *world
	shadow *Shadow
	ops    *Ops
	cancel context.CancelFunc
}

// startShadowOf starts one with a mapping of units' health, and of a build; it ends with the test at the latest.
func (w *world) startShadowOf(hp, build string) *shadowProcess {
	w.t.Helper()
	f := load(w.t, w.env)
	mapHealth(f, hp)
	p := &shadowProcess{w: w}
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	p.cancel = cancel
	var err error
	if p.shadow, err = StartShadow(ctx, f, Options{Log: quiet(w.t), Build: build}); err != nil {
		w.t.Fatal(err)
	}
	if p.ops, err = newOpsWith(ctx, f, quiet(w.t), nil, p.shadow, time.Second); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(p.stop)
	for p.shadow.Ledger() == nil {
		time.Sleep(10 * time.Millisecond) // as whoever asks for readiness does
	}
	return p
}

// mapHealth changes what game.unit.fought tells: row.hp is right.
func mapHealth(f *config.File, hp string) {
	t := f.Migrations["units"].Rows["units"]
	for i, u := range t.OnUpdate {
		if slices.Contains(u.Columns, "hp") {
			t.OnUpdate[i].Data["hp"] = hp
		}
	}
}

func (p *shadowProcess) stop() {
	if p.cancel != nil {
		p.cancel()
		p.cancel = nil
		p.ops.stop()
		p.shadow.Stop()
	}
}

// state follows this process's control log until it is as wanted.
func (p *shadowProcess) until(what string, ok func(stage.State) bool) stage.State {
	p.w.t.Helper()
	late := time.After(60 * time.Second)
	for {
		changed := p.ops.follow.Changed()
		s := p.ops.follow.State("units")
		if ok(s) {
			return s
		}
		select {
		case <-changed:
		case <-late:
			p.w.t.Fatalf("%s: %+v", what, s)
		}
	}
}

// retranslate asks and waits for the end.
func (p *shadowProcess) retranslate(r admin.RetranslateRequest) admin.RetranslateStatus {
	p.w.t.Helper()
	p.ask(r)
	return p.await()
}

func (p *shadowProcess) ask(r admin.RetranslateRequest) {
	p.w.t.Helper()
	r.Migration, r.Who, r.Reason = "units", "test", "test"
	if _, err := p.ops.Retranslate(p.w.t.Context(), r); err != nil {
		p.w.t.Fatal(err)
	}
}

func (p *shadowProcess) await() admin.RetranslateStatus {
	p.w.t.Helper()
	for deadline := time.Now().Add(5 * time.Minute); ; { // on two cores that others use, too
		list, err := p.ops.Retranslations(p.w.t.Context())
		if err != nil || len(list) != 1 {
			p.w.t.Fatal(list, err)
		}
		if list[0].State != admin.Running {
			p.w.t.Logf("%+v", list[0])
			return list[0]
		}
		if time.Now().After(deadline) {
			p.w.t.Fatalf("it runs on: %+v\nnew generation: %s", list[0], p.w.stateOf(p.shadow, "units"))
		}
		time.Sleep(20 * time.Millisecond) // as the command does: the status tells nobody
	}
}

const legacyUnits = "SELECT id, concat_ws('|', match_id, player_id, province_id, type, hp, is_moving, client_ref) FROM units"
const modelUnits = "SELECT id::text, concat_ws('|', match_id, player_id, province_id, type, hp, is_moving::int, client_ref) FROM units"

// wound writes past the proxy: what is told of it goes by `rows:`.
func (w *world) wound(where string) {
	w.t.Helper()
	if _, err := w.legacy.ExecContext(w.t.Context(), "UPDATE units SET hp = hp - 1 WHERE "+where); err != nil {
		w.t.Fatal(err)
	}
}

// schemas are the generations that have tables.
func (w *world) schemas(m event.Migration) string {
	w.t.Helper()
	c, err := pgx.Connect(w.t.Context(), w.model)
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close(context.Background())
	var list string
	if err := c.QueryRow(w.t.Context(), "select string_agg(nspname, ' ' order by nspname) from pg_namespace where nspname like $1", "banyan_"+string(m)+"_g%").Scan(&list); err != nil {
		w.t.Fatal(err)
	}
	return list
}

// describe is what counted.
func describe(es []stage.Entry) string {
	var out []string
	for _, e := range es {
		if e.Void == "" {
			out = append(out, e.Describe())
		}
	}
	return strings.Join(out, ", ")
}

// passed waits until a generation holds all that legacy has committed by now.
func (w *world) passed(m event.Migration, generation int) {
	w.t.Helper()
	at := time.Now().Add(w.f.Settle.MaxClockError)
	for n := range w.f.Kafka.Partitions {
		for deadline := time.Now().Add(30 * time.Second); ; {
			p, news := w.proxy.Tracker.Generation(m, generation, n)
			if k := len(p.Fences); k > 0 && p.Fences[k-1].Sent.After(at) {
				break
			}
			select {
			case <-news:
			case <-time.After(time.Until(deadline)):
				w.t.Fatalf("partition %d of generation %d did not catch up: %+v", n, generation, p)
			}
		}
	}
}

// Of two processes that begin a build at the same moment one wins, and the other is told; and readers are not moved by the
// swap's record, but when the last live proxy has said that it obeys it.
func TestReadersMoveWhenEveryProxyObeys(t *testing.T) {
	k, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	f := load(t, map[string]string{"PROXY_LISTEN": "127.0.0.1:0", "PROXY_ADMIN": "127.0.0.1:0", "PROXY_JOURNAL": t.TempDir(), "LEGACY_HTTP": "http://127.0.0.1:1",
		"GAMESERVICE_HTTP": "http://127.0.0.1:1", "KAFKA": k.ListenAddrs()[0], "KAFKA_PREFIX": "t", "LEDGER_DSN": "postgres://127.0.0.1:1/x", "LEGACY_DSN": "x@tcp(127.0.0.1:1)/x",
		"READ_DSN": lab.Postgres(t).Database(t), "REDIS_URL": "redis://127.0.0.1:1"})
	f.Kafka.Replication = 1
	if err := ensureTopics(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var two [2]*Ops
	for i := range two {
		if two[i], err = newOpsWith(ctx, f, quiet(t), nil, nil, 10*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		defer two[i].stop()
		if err := two[i].read(ctx); err != nil {
			t.Fatal(err)
		}
	}
	defer cancel()
	var won [2]error
	var both sync.WaitGroup
	for i, o := range two {
		both.Go(func() {
			_, won[i] = o.step(ctx, stage.Flip{Migration: "units", From: stage.State{Stage: stage.Off}, Step: stage.Build, Start: []int64{0}, Who: "test", Reason: "test"})
		})
	}
	both.Wait()
	if (won[0] == nil) == (won[1] == nil) || !errors.Is(errors.Join(won[:]...), admin.ErrConflict) {
		t.Fatal("one of two builds wins:", won)
	}
	o := two[0]
	await := func(what string, ok func(stage.State) bool) stage.State {
		t.Helper()
		for {
			changed := o.follow.Changed()
			if s := o.follow.State("units"); ok(s) {
				return s
			}
			select {
			case <-changed:
			case <-time.After(30 * time.Second):
				t.Fatal(what)
			}
		}
	}
	built := await("no build", func(s stage.State) bool { return s.Building == 2 })
	var obeys atomic.Pointer[stage.State] // of a proxy that is slow to follow
	obeys.Store(&built)
	b, err := control.NewBeacon(f.Kafka, quiet(t), "slow", 1, "", func() map[event.Migration]stage.State { return map[event.Migration]stage.State{"units": *obeys.Load()} })
	if err != nil {
		t.Fatal(err)
	}
	b.Start(ctx)
	defer b.Stop()
	if err := o.watch.Seen(ctx, "slow", 1); err != nil {
		t.Fatal(err)
	}
	if _, err := o.step(ctx, stage.Flip{Migration: "units", From: built, Step: stage.Swap, Who: "test", Reason: "test"}); err != nil {
		t.Fatal(err)
	}
	p, err := readmodel.OpenPointer(ctx, readmodel.PointerConfig{Postgres: f.Migrations["units"].ReadModel.Postgres, Migration: "units"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	swapped := await("no swap", func(s stage.State) bool { return s.Retiring == 1 })
	led := make(chan bool, 1)
	go func() { led <- o.lead(ctx, "units", p, swapped) }()
	time.Sleep(underWay + 500*time.Millisecond) // in which it would have moved them
	if g, err := p.Get(ctx); g != 1 || err != nil {
		t.Fatal("readers were moved while a live proxy lets own writes count by the generation before alone:", g, err)
	}
	obeys.Store(&swapped)
	b.Wake()
	if !<-led {
		t.Fatal("not led to the end")
	}
	if g, err := p.Get(ctx); g != 2 || err != nil {
		t.Fatal(g, err)
	}
	await("not retired", func(s stage.State) bool { return s.Retiring == 0 && s.Current() == 2 })
}
