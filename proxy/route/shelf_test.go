package route_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"banyan/legacyadapter/php"
	"banyan/proxy/event"
	"banyan/proxy/route"
)

// TestManyRoutesOfOnePath: however the routes of a table are found, the outcome is that of asking each route alone, in
// order, and taking the first of each migration.
func TestManyRoutesOfOnePath(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	matched := 0
	for range 60 {
		var routes []route.Route
		var alone []*route.Table
		for i := range 5 + r.IntN(30) {
			m := route.Match{Path: pick("/a", "/b", "/{x}", "/**", "/v/{x}"), Method: pick("", "GET", "GET|POST"), Query: map[string]string{}}
			for _, name := range []string{"action", "page"} {
				if want := pick("none", "", "*", "act1", "act2", "act3", fmt.Sprint("act", r.IntN(20))); want != "none" {
					m.Query[name] = want
				}
			}
			one := route.Route{Name: fmt.Sprint("r", i), Kind: route.Write, Migration: event.Migration(pick("m", "n", "o")), Match: m}
			routes, alone = append(routes, one), append(alone, table(t, one))
		}
		all := table(t, routes...)
		for range 100 {
			h := get(pick("/a", "/b", "/c", "/v/1", "/a/") + pick("", "?", fmt.Sprint("?action=act", r.IntN(22)), "?action=", "?action[]=act1", "?page=act1", fmt.Sprint("?page=act2&action=act", r.IntN(4)), "?action=x"))
			var want []string
			var d route.Decision
			taken := map[event.Migration]bool{}
			for i, one := range alone {
				if v, err := one.Match(&d, h, nil, false); err != nil {
					t.Fatal(err)
				} else if v == route.Matched && !taken[routes[i].Migration] {
					taken[routes[i].Migration] = true
					want = append(want, routes[i].Name)
				}
			}
			if _, err := all.Match(&d, h, nil, false); err != nil {
				t.Fatal(err)
			}
			if got := names(&d); !slices.Equal(got, want) {
				t.Fatalf("%s gives %v; each alone: %v; of %+v", h.target, got, want, routes)
			}
			matched += len(want)
		}
	}
	if matched < 1000 {
		t.Errorf("%d matches: too few to tell", matched)
	}
}

// BenchmarkMatchOneOfMany is a dispatch by parameter over 25 routes of one path.
func BenchmarkMatchOneOfMany(b *testing.B) {
	var routes []route.Route
	for i := range 25 {
		routes = append(routes, route.Route{Name: fmt.Sprint("r", i), Kind: route.Write, Migration: "m", Match: route.Match{Path: "/index.php", Query: map[string]string{"action": fmt.Sprint("act", i)}}})
	}
	t, err := route.Compile(routes, php.Params{}, php.Nginx{})
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct{ name, target string }{{"none", "/index.php?page=map&action=view&match=7"}, {"last", "/index.php?page=map&action=act24&match=7"}} {
		b.Run(c.name, func(b *testing.B) {
			h := &target{[]byte("GET"), []byte(c.target)}
			var d route.Decision
			b.ReportAllocs()
			for b.Loop() {
				if _, err := t.Match(&d, h, nil, false); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
