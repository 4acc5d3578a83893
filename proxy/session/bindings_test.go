package session

import (
	"strconv"
	"testing"

	"pgregory.net/rapid"
)

func TestBindings(t *testing.T) {
	b := NewBindings(2, 16, 60)
	k := b.Key([]byte("3k2v9q"))
	if _, ok := b.Find(k, 0); ok {
		t.Fatal("found before it was bound")
	}
	b.Bind(k, 1, 0)
	if at, ok := b.Find(k, 60); !ok || at != 1 {
		t.Fatal(at, ok)
	}
	b.Bind(k, 0, 60)
	if at, ok := b.Find(k, 120); !ok || at != 0 || b.Of(0, 120) != 1 || b.Of(1, 120) != 0 {
		t.Fatal(at, ok, b.Of(0, 120), b.Of(1, 120))
	}
	if _, ok := b.Find(k, 121); ok || b.Len() != 0 {
		t.Fatal("found after its time")
	}
	b.Bind(k, 0, 200)
	if b.Unbind(k); b.Len() != 0 || b.Of(0, 200) != 0 {
		t.Fatal("bound after the end")
	}
}

// A crowd that never comes back displaces others of its kind, not those who do.
func TestACrowdDisplacesNobodyWhoComesBack(t *testing.T) {
	b := NewBindings(1, 100, 3600)
	key := func(n int) Key { return b.Key([]byte(strconv.Itoa(n))) }
	for n := range 60 {
		b.Bind(key(n), 0, 1)
		b.Bind(key(n), 0, 2)
	}
	for n := 1000; n < 10000; n++ {
		b.Bind(key(n), 0, 3)
	}
	for n := range 60 {
		if _, ok := b.Find(key(n), 4); !ok {
			t.Fatalf("%d was forgotten", n)
		}
	}
	if b.Len() != 100 || b.Forgotten != 9000-40 {
		t.Fatal(b.Len(), b.Forgotten)
	}
}

// TestBindingsModel compares with a map: what is found is right, nothing is found after its time, the bound holds.
func TestBindingsModel(t *testing.T) {
	type bound struct {
		at   int
		used int64
	}
	rapid.Check(t, func(rt *rapid.T) {
		const n, most, idle = 3, 16, 20
		b, model, now := NewBindings(n, most, idle), map[int]bound{}, int64(0)
		id := rapid.IntRange(0, 40)
		key := func(k int) Key { return b.Key([]byte(strconv.Itoa(k))) }
		rt.Repeat(map[string]func(*rapid.T){
			"bind": func(rt *rapid.T) {
				k, at := id.Draw(rt, "id"), rapid.IntRange(0, n-1).Draw(rt, "at")
				b.Bind(key(k), at, now)
				model[k] = bound{at, now}
				if got, ok := b.Find(key(k), now); !ok || got != at {
					rt.Fatal("not found right after it was bound")
				}
			},
			"unbind": func(rt *rapid.T) {
				k := id.Draw(rt, "id")
				b.Unbind(key(k))
				delete(model, k)
			},
			"time": func(rt *rapid.T) { now += int64(rapid.IntRange(1, 15).Draw(rt, "s")) },
			"": func(rt *rapid.T) {
				per, found := [n]int{}, 0
				for k := range 41 {
					at, ok := b.Find(key(k), now)
					if !ok {
						continue
					}
					found++
					per[at]++
					if m := model[k]; m.at != at || now-m.used > idle {
						rt.Fatalf("found at %d, %d s after %+v", at, now-m.used, m)
					}
				}
				if b.Len() > most || b.lists[fresh].n+b.lists[protected].n != b.Len() || b.lists[protected].n > most-most/4 || len(b.entries) > most+1 {
					rt.Fatal("out of bounds")
				}
				if found != b.Len() {
					rt.Fatalf("%d are found, of %d", found, b.Len())
				}
				for at := range n {
					if b.Of(at, now) != per[at] {
						rt.Fatalf("instance %d has %d, counted %d", at, per[at], b.Of(at, now))
					}
				}
			},
		})
	})
}
