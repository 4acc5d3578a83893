package balance

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"banyan/proxy/upstream"
)

// instances are the world's fakes by number, as a config lists them.
func (w *world) instances(ns ...int) []Instance {
	var out []Instance
	for _, n := range ns {
		for len(w.fakes) <= n {
			w.fakes = append(w.fakes, &fake{})
		}
		out = append(out, Instance{Name: fmt.Sprintf("http://10.0.0.%d:80", n+1), Upstream: w.fakes[n]})
	}
	return out
}

func (w *world) update(t testing.TB, ns []int, change func(*Config)) {
	t.Helper()
	c := *w.cfg()
	c.Total, c.Instances = 0, w.instances(ns...)
	if change != nil {
		change(&c)
	}
	if err := w.Update(c); err != nil {
		t.Fatal(err)
	}
}

func (w *world) name(i int) string { return w.ins[i].Name }

// Sessions of instances that stay are found, also those that began in a request that was under way; those of one that
// went are placed anew; and one that comes back is asked again.
func TestUpdateKeepsSessions(t *testing.T) {
	w := newWorld(t, 3, nil)
	at := map[string]string{}
	for i := range 60 {
		id := fmt.Sprintf("PHPSESSID=s%d", i)
		at[id] = w.name(end(t, w.ask(t, ""), id))
	}
	gone := w.name(1)
	var begins []*lease // logins under way
	for range 6 {
		begins = append(begins, w.ask(t, ""))
	}
	w.update(t, []int{3, 2, 0}, nil)
	for i, l := range begins {
		id := fmt.Sprintf("PHPSESSID=late%d", i)
		at[id] = w.name(end(t, l, id))
	}
	for id, name := range at {
		if got := w.name(w.at(t, id)); got == gone || name != gone && got != name {
			t.Fatalf("%s was at %s, is at %s", id, name, got)
		}
	}
	if s := w.Stats(); len(s.Instances) != 3 || slices.ContainsFunc(s.Instances, func(i InstanceStats) bool { return i.Name == gone || i.Active != 0 }) {
		t.Fatalf("%+v", s)
	}
	w.update(t, []int{1}, nil)
	for id := range at {
		if got := w.name(w.at(t, id)); got != gone {
			t.Fatalf("%s is at %s, of which the config knows nothing", id, got)
		}
	}
}

// A request that waits for an instance that goes is served by another, and one that was to fail everywhere is not.
func TestUpdateMovesThoseThatWait(t *testing.T) {
	w := newWorld(t, 2, func(c *Config) { c.Limit, c.Now, c.Queue.Wait = 1, upstream.Now, time.Minute })
	first := w.ask(t, "")
	id := "PHPSESSID=x"
	at := end(t, first, id)
	busy := w.ask(t, id)
	var wg sync.WaitGroup
	wg.Go(func() {
		if got := w.at(t, id); got == at {
			t.Errorf("it was served by the instance that went")
		}
	})
	for w.Stats().Waiting == 0 {
		time.Sleep(time.Millisecond) // for the other goroutine to wait; nothing tells when it does
	}
	w.update(t, []int{1 - at}, nil)
	wg.Wait()
	busy.Abort()
	if w.total != 0 || w.waiting != 0 {
		t.Fatalf("%d under way, %d wait", w.total, w.waiting)
	}
}

// What the config says of draining counts where it is new; what an operator said stays until then.
func TestUpdateDrains(t *testing.T) {
	w := newWorld(t, 2, nil)
	state := func(i int) State { return w.Stats().Instances[i].State }
	drain := func(on bool) func(*Config) { return func(c *Config) { c.Instances[0].Draining = on } }
	w.update(t, []int{0, 1}, drain(true))
	if state(0) != Draining || state(1) != Up {
		t.Fatal(state(0), state(1))
	}
	if err := w.Drain(w.name(0), false); err != nil {
		t.Fatal(err)
	}
	w.update(t, []int{0, 1}, drain(true))
	if state(0) != Up {
		t.Fatal("the config said nothing new, and undid what an operator had said")
	}
	w.update(t, []int{0, 1}, drain(false))
	w.update(t, []int{0, 1}, drain(true))
	if state(0) != Draining {
		t.Fatal("the config is not heard")
	}
}

// Checks come and go with the config, and their verdict with them. That none is left is told by TestMain.
func TestUpdateChecks(t *testing.T) {
	w := newWorld(t, 2, func(c *Config) { c.Now = upstream.Now })
	w.Start(t.Context())
	defer w.Stop()
	w.fakes[0].set(true)
	health := &Health{Path: "/", Every: 10 * time.Millisecond, Timeout: 10 * time.Millisecond, Unhealthy: 1, Healthy: 1}
	w.update(t, []int{0, 1}, func(c *Config) { c.Health = health })
	for w.Stats().Instances[0].State != Unhealthy {
		time.Sleep(time.Millisecond) // until it was checked
	}
	w.update(t, []int{0, 1, 2}, nil)
	w.update(t, []int{0, 2}, func(c *Config) { c.Health = nil })
	if got := w.Stats().Instances[0].State; got != Up {
		t.Fatalf("%s, and nobody would say otherwise", got)
	}
}

// Slots of instances that have ended are given again; of those that have not, none.
func TestUpdateReusesSlots(t *testing.T) {
	w := newWorld(t, 1, nil)
	held := w.ask(t, "")
	end(t, w.ask(t, ""), "PHPSESSID=of0")
	next := 1
	for range 10 {
		var ns []int
		for range 40 {
			ns = append(ns, next)
			next++
		}
		if next < 300 {
			w.update(t, ns[:20], nil)
			w.at(t, fmt.Sprintf("PHPSESSID=s%d", next))
		}
	}
	if !w.ins[0].gone || w.ins[0].active != 1 {
		t.Fatal("the slot of an instance that still answers was given away")
	}
	var many []int
	for i := range maxInstances {
		many = append(many, 1000+i)
	}
	c := *w.cfg()
	c.Total, c.Instances = 0, w.instances(many...)
	if err := w.Update(c); err == nil {
		t.Fatal("64 instances and one that still answers fit")
	}
	held.Abort()
	if err := w.Update(c); err != nil {
		t.Fatal(err)
	}
	if w.n != maxInstances || w.total != 0 {
		t.Fatal(w.n, w.total)
	}
	if got := w.name(w.at(t, "PHPSESSID=of0")); !slices.ContainsFunc(c.Instances, func(i Instance) bool { return i.Name == got }) {
		t.Fatalf("at %s", got)
	}
}

// Requests run while the config changes: with -race this is what is read without the lock.
func TestUpdateUnderLoad(t *testing.T) {
	w := newWorld(t, 3, func(c *Config) { c.Now = upstream.Now; c.Sticky.Remember = "at" })
	w.instances(0, 1, 2, 3) // the fakes are made before anybody looks
	done := make(chan struct{})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				id := fmt.Sprintf("PHPSESSID=s%d.%d", g, i%50)
				end(t, w.ask(t, id), id)
				w.Where(id)
			}
		})
	}
	for i := range 200 {
		w.update(t, [][]int{{0, 1, 2}, {2, 3}, {1}}[i%3], func(c *Config) {
			if i%7 == 0 {
				c.Sticky = nil
			} else {
				c.Sticky = &Sticky{Cookie: "PHPSESSID", Remember: "at"}
			}
		})
	}
	close(done)
	wg.Wait()
	if s := w.Stats(); w.total != 0 || s.Turned != (Turned{}) {
		t.Fatalf("%d under way, %+v", w.total, s.Turned)
	}
}
