package balance

import (
	"fmt"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestStability: with one more instance no bound session moves, and of the others only those that the new one wins,
// about 1/n. Another balancer, with another order of the same instances, agrees on every id that it does not know.
func TestStability(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 8).Draw(rt, "instances")
		const ids = 2000
		salt := rapid.Uint32().Draw(rt, "salt")
		id := func(k int) string { return fmt.Sprintf("PHPSESSID=%08x%024d", salt, k) }
		before, after := newWorld(t, n, nil), newWorld(t, n+1, nil)
		other := newWorld(t, n, func(c *Config) {
			for i, j := 0, len(c.Instances)-1; i < j; i, j = i+1, j-1 {
				c.Instances[i], c.Instances[j] = c.Instances[j], c.Instances[i]
			}
		})
		moved, per := 0, make([]int, n+1)
		for k := range ids {
			at := before.at(t, id(k))
			if got := other.at(t, id(k)); other.ins[got].Name != before.ins[at].Name {
				rt.Fatalf("two balancers disagree on an id")
			}
			now := after.Where(id(k))
			if now != before.ins[at].Name {
				moved++
				if now != after.ins[n].Name {
					rt.Fatalf("an id moved to an instance that is not the new one")
				}
			}
			per[at]++
		}
		want := float64(ids) / float64(n+1)
		if slack := 5 * math.Sqrt(want); math.Abs(float64(moved)-want) > slack {
			rt.Fatalf("%d of %d moved with %d instances and one more, want about %.0f", moved, ids, n, want)
		}
		for i := range n {
			if w := float64(ids) / float64(n); math.Abs(float64(per[i])-w) > 5*math.Sqrt(w) {
				rt.Fatalf("instance %d of %d has %d of %d ids", i, n, per[i], ids)
			}
		}
	})
}

// TestChooserModel walks through random histories beside a model that knows what each session holds where.
func TestChooserModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 5).Draw(rt, "instances")
		w := newWorld(t, n, func(c *Config) {
			c.Health = &Health{Path: "/", Healthy: 1, Unhealthy: 1}
			c.Eject.Failures = rapid.IntRange(1, 3).Draw(rt, "failures")
			c.Sticky.Idle = 10 * time.Minute
		})
		type bound struct {
			at   int
			used int64
		}
		model := map[string]bound{}
		var leases []*lease
		var ids []string // of leases
		moved := int64(0)
		draining := make([]bool, n)
		away := func(i int) bool { return w.ins[i].ejected || w.ins[i].unhealthy }
		active := func() (per []int, sum int) {
			for i := range w.n {
				per = append(per, w.ins[i].active)
				sum += per[i]
			}
			return
		}
		ask := func(rt *rapid.T, id string) {
			w.mu.Lock()
			w.refreshLocked(w.now)
			w.unlock()
			usable := 0
			for i := range n {
				if !away(i) {
					usable++
				}
			}
			open := []int{}
			for i := range n {
				if (!away(i) || usable == 0) && !draining[i] {
					open = append(open, i)
				}
			}
			if len(open) == 0 { // the draining ones take it
				for i := range n {
					if !away(i) || usable == 0 {
						open = append(open, i)
					}
				}
			}
			per, _ := active()
			cookie := ""
			if id != "" {
				cookie = "a=b; PHPSESSID=" + id
			}
			l := w.ask(t, cookie)
			b, known := model[id]
			known = known && id != "" && w.now/1e9-b.used <= 600
			switch {
			case known && (usable == 0 || !away(b.at)):
				if l.i != b.at {
					rt.Fatalf("a bound session left its instance %d for %d", b.at, l.i)
				}
			default:
				if known {
					moved++
				}
				fits, sum := false, 1
				for _, i := range open {
					fits = fits || l.i == i
					sum += per[i]
				}
				if !fits {
					rt.Fatalf("placed at %d, of %v open ones (draining %v)", l.i, open, draining)
				}
				if limit := max(minBound, math.Ceil(factor*float64(sum)/float64(len(open)))); float64(per[l.i]+1) > limit {
					rt.Fatalf("placed at %d with %v under way, bound %v", l.i, per, limit)
				}
			}
			if id != "" {
				model[id] = bound{l.i, w.now / 1e9}
			}
			leases, ids = append(leases, l), append(ids, id)
		}
		name := rapid.Custom(func(t *rapid.T) string { return fmt.Sprintf("s%d", rapid.IntRange(0, 40).Draw(t, "id")) })
		finish := func(rt *rapid.T, f func(l *lease, id string)) {
			if len(leases) == 0 {
				rt.Skip()
			}
			k := rapid.IntRange(0, len(leases)-1).Draw(rt, "lease")
			l, id := leases[k], ids[k]
			leases, ids = append(leases[:k:k], leases[k+1:]...), append(ids[:k:k], ids[k+1:]...)
			f(l, id)
		}
		rt.Repeat(map[string]func(*rapid.T){
			"session":    func(rt *rapid.T) { ask(rt, name.Draw(rt, "id")) },
			"no session": func(rt *rapid.T) { ask(rt, "") },
			"burst": func(rt *rapid.T) {
				for range rapid.IntRange(1, 40).Draw(rt, "n") {
					ask(rt, name.Draw(rt, "id"))
				}
			},
			"answer": func(rt *rapid.T) { finish(rt, func(l *lease, _ string) { end(t, l, "") }) },
			"login": func(rt *rapid.T) {
				finish(rt, func(l *lease, _ string) {
					id := name.Draw(rt, "new id")
					model[id] = bound{l.i, w.now / 1e9}
					end(t, l, "PHPSESSID="+id)
				})
			},
			"logout": func(rt *rapid.T) {
				finish(rt, func(l *lease, id string) {
					if id != "" {
						delete(model, id)
					}
					end(t, l, "PHPSESSID=deleted")
				})
			},
			"cut": func(rt *rapid.T) {
				finish(rt, func(l *lease, _ string) {
					l.Conn.(*fakeConn).cut = true
					end(t, l, "")
				})
			},
			"drain": func(rt *rapid.T) {
				i := rapid.IntRange(0, n-1).Draw(rt, "instance")
				draining[i] = !draining[i]
				if err := w.Drain(w.ins[i].Name, draining[i]); err != nil {
					rt.Fatal(err)
				}
			},
			"check": func(rt *rapid.T) {
				var err error
				if rapid.Bool().Draw(rt, "fails") {
					err = errRefused
				}
				w.check(rapid.IntRange(0, n-1).Draw(rt, "instance"), err)
			},
			"time": func(rt *rapid.T) { w.advance(time.Duration(rapid.IntRange(1, 400).Draw(rt, "s")) * time.Second) },
			"": func(rt *rapid.T) {
				_, sum := active()
				if sum != len(leases) || w.total != sum {
					rt.Fatalf("%d under way, counted %d and %d", len(leases), sum, w.total)
				}
				ejected := 0
				for i := range w.n {
					if w.ins[i].ejected {
						ejected++
						if left := w.ins[i].until - w.now; left > int64(w.cfg().Eject.AtMost) {
							rt.Fatalf("ejected for %v", time.Duration(left))
						}
					}
				}
				if ejected == n || ejected != w.ejected {
					rt.Fatalf("%d of %d are ejected, counted %d", ejected, n, w.ejected)
				}
				got := int64(0)
				for _, s := range w.Stats().Instances {
					got += s.Moved
				}
				if got != moved {
					rt.Fatalf("%d sessions were moved, counted %d", moved, got)
				}
			},
		})
		for _, l := range leases {
			end(t, l, "")
		}
	})
}
