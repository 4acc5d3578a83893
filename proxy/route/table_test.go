package route_test

import (
	"bytes"
	"maps"
	"strings"
	"testing"

	"banyan/legacyadapter/php"
	"banyan/proxy/event"
	"banyan/proxy/route"

	"github.com/google/go-cmp/cmp"
)

type head struct {
	method, target string
	fields         map[string]string
}

func (h head) Method() []byte { return []byte(h.method) }
func (h head) Target() []byte { return []byte(h.target) }
func (h head) Field(n string) []byte {
	if v, ok := h.fields[n]; ok {
		return []byte(v)
	}
	return nil
}

func get(target string) head {
	return head{"GET", target, map[string]string{"host": "game.example:8080"}}
}

func post(target, contentType, body string) (head, []byte) {
	return head{"POST", target, map[string]string{"host": "game.example", "content-type": contentType, "content-length": "9"}}, []byte(body)
}

const form = "application/x-www-form-urlencoded"

func table(t *testing.T, routes ...route.Route) *route.Table {
	t.Helper()
	tab, err := route.Compile(routes, php.Params{}, php.Nginx{})
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

func names(d *route.Decision) []string {
	var out []string
	for _, r := range d.Routes {
		out = append(out, r.Name)
	}
	return out
}

func move(m event.Migration) route.Route {
	return route.Route{Name: "move", Kind: route.Write, Migration: m,
		Match:  route.Match{Method: "POST", Path: "/index.php", Query: map[string]string{"page": "unit", "action": "move"}},
		Params: map[string]string{"unit": "form.unit", "match": "form.match|query.match"}}
}

func TestDispatchByParameter(t *testing.T) {
	tab := table(t, move("units"),
		route.Route{Name: "api-move", Kind: route.Write, Migration: "units", Match: route.Match{Method: "POST", Path: "/api.php", JSON: map[string]string{"action": "move"}},
			Params: map[string]string{"unit": "json.unit"}},
		route.Route{Name: "map", Kind: route.Read, Migration: "units", Match: route.Match{Method: "GET|HEAD", Path: "/api.php", Query: map[string]string{"action": "map"}}})
	var d route.Decision

	if v, err := tab.Match(&d, get("/api.php?action=map&match=1"), nil, false); v != route.Matched || err != nil || d.Routes[0].Name != "map" {
		t.Fatal(v, err, names(&d))
	}
	if v, _ := tab.Match(&d, get("/api.php?action=state"), nil, false); v != route.None {
		t.Fatal(v, names(&d))
	}
	h, body := post("/index.php?page=unit&action=move&match=3", form, "unit=4&unit=42")
	if v, _ := tab.Match(&d, h, nil, false); v != route.NeedBody {
		t.Fatalf("its parameters stand in the body: %v", v)
	}
	if v, _ := tab.Match(&d, h, body, true); v != route.Matched {
		t.Fatal(v)
	}
	if diff := cmp.Diff(map[string]string{"unit": "42", "match": "3"}, d.Params(0)); diff != "" {
		t.Fatal("last duplicate wins, alternatives in order:", diff)
	}
	h, body = post("/api.php", "application/json", `{"action":"move","unit":7}`)
	if v, _ := tab.Match(&d, h, body, true); v != route.Matched || d.Params(0)["unit"] != "7" {
		t.Fatal(v, names(&d))
	}
	h, body = post("/api.php", "application/json", `{"action":"attack"}`)
	if v, _ := tab.Match(&d, h, body, true); v != route.None {
		t.Fatal(v, names(&d))
	}
}

// The spellings run the same script, so they must find the same route; what legacy does not resolve to it must not.
func TestSpellings(t *testing.T) {
	tab := table(t, route.Route{Name: "r", Kind: route.Read, Migration: "m", Match: route.Match{Path: "/api.php"}})
	var d route.Decision
	for target, want := range map[string]route.Verdict{
		"/api.php": route.Matched, "//api.php": route.Matched, "/./api.php": route.Matched, "/a/%2e%2e/api.php": route.Matched, "/api%2ephp": route.Matched,
		"/api.php/extra": route.Matched, "/API.php": route.None, "/api.php5": route.None, "/x/api.php": route.None,
	} {
		if v, err := tab.Match(&d, get(target), nil, false); v != want || err != nil {
			t.Errorf("%s: %v, %v; want %v", target, v, err, want)
		}
	}
	for _, target := range []string{"/%00api.php", "/api.php%", "/%zz", "/../api.php"} {
		if v, err := tab.Match(&d, get(target), nil, false); err == nil {
			t.Errorf("%s: %v; want an error", target, v)
		}
	}
}

func TestTwoMigrations(t *testing.T) {
	tab := table(t, move("units"), move("economy"), route.Route{Name: "later", Kind: route.Write, Migration: "units", Match: route.Match{Path: "/index.php"}})
	h, body := post("/index.php?page=unit&action=move", form, "match=1")
	var d route.Decision
	if v, _ := tab.Match(&d, h, body, true); v != route.Matched || len(d.Routes) != 2 || d.Routes[0].Migration != "units" || d.Routes[1].Migration != "economy" {
		t.Fatal(v, names(&d))
	}
}

func TestOrder(t *testing.T) {
	tab := table(t, move("units"),
		route.Route{Name: "second", Kind: route.Write, Migration: "units", Match: route.Match{Path: "/index.php"}},
		route.Route{Name: "plain", Kind: route.Plain, Match: route.Match{Path: "/index.php", Query: map[string]string{"page": "alliance"}}})
	var d route.Decision
	h, body := post("/index.php?page=unit&action=move", form, "match=1")
	if _, _ = tab.Match(&d, h, body, true); len(d.Routes) != 1 || d.Routes[0].Name != "move" {
		t.Fatal(names(&d))
	}
	if _, _ = tab.Match(&d, get("/index.php?page=alliance"), nil, false); len(d.Routes) != 1 || d.Routes[0].Name != "plain" {
		t.Fatal(names(&d))
	}
}

func TestBodyTooLarge(t *testing.T) {
	tab := table(t, move("units"), route.Route{Name: "save", Kind: route.Write, Migration: "notes", Match: route.Match{Path: "/save.php", Form: map[string]string{"do": "save"}}})
	var d route.Decision
	h, body := post("/save.php", form, "do=sa")
	if v, _ := tab.Match(&d, h, body, false); v != route.Unclassified || len(d.Maybe) != 1 || d.Maybe[0] != "notes" {
		t.Fatal("which button was pressed cannot be known:", v, d.Maybe)
	}
	turn := move("economy")
	turn.Params = map[string]string{"match": "query.match", "unit": "query.unit|form.unit", "order": "query.order|form.order|query.x"}
	tab = table(t, move("units"), turn)
	h, body = post("/index.php?page=unit&action=move&match=7&unit=1&x=2", form, "match=9&order=3")
	if v, _ := tab.Match(&d, h, body, false); v != route.Matched || len(d.Routes) != 2 {
		t.Fatal("the head decides it:", v)
	}
	if diff := cmp.Diff(map[string]string{}, d.Params(0)); diff != "" {
		t.Fatal("another match may stand in the rest of the body:", diff)
	}
	if diff := cmp.Diff(map[string]string{"match": "7", "unit": "1"}, d.Params(1)); diff != "" {
		t.Fatal("the parameters in the query are there:", diff)
	}
}

func TestPathPatterns(t *testing.T) {
	tab := table(t,
		route.Route{Name: "unit", Kind: route.Read, Migration: "m", Match: route.Match{Path: "/match/{match}/unit/{unit}"}, Params: map[string]string{"u": "path.unit"}},
		route.Route{Name: "all", Kind: route.Plain, Match: route.Match{Path: "/alliances/**"}})
	var d route.Decision
	if v, _ := tab.Match(&d, get("/match/7/unit/42"), nil, false); v != route.Matched || d.Params(0)["u"] != "42" {
		t.Fatal(v)
	}
	for target, want := range map[string]route.Verdict{"/alliances": route.Matched, "/alliances/": route.Matched, "/alliances/a/b": route.Matched,
		"/alliancesx": route.None, "/match/7/unit": route.None, "/match/7/unit/1/x": route.None} {
		if v, _ := tab.Match(&d, get(target), nil, false); v != want {
			t.Errorf("%s: %v, want %v", target, v, want)
		}
	}
}

func TestHostHeaderCookie(t *testing.T) {
	tab := table(t, route.Route{Name: "r", Kind: route.Read, Migration: "m", Match: route.Match{Path: "/**", Host: "Game.example", Header: map[string]string{"X-Staff": "*"}, Cookie: map[string]string{"beta": "1"}}})
	h := get("/")
	var d route.Decision
	if v, _ := tab.Match(&d, h, nil, false); v != route.None {
		t.Fatal(v)
	}
	h.fields["x-staff"], h.fields["cookie"] = "x", "a=b; beta=1"
	if v, _ := tab.Match(&d, h, nil, false); v != route.Matched {
		t.Fatal(v)
	}
}

func TestCompileReportsEveryError(t *testing.T) {
	_, err := route.Compile([]route.Route{
		{Name: "a", Match: route.Match{Path: "x"}}, {Name: "b", Match: route.Match{Path: "/", Method: "get"}},
		{Name: "c", Match: route.Match{Path: "/a*"}}, {Name: "d", Match: route.Match{Path: "/"}, Params: map[string]string{"p": "post.x"}},
		{Name: "e", Match: route.Match{Path: "/"}}, {Name: "e", Match: route.Match{Path: "/"}},
	}, php.Params{}, php.Nginx{})
	for _, want := range []string{"route a", "route b", "route c", "params.p", "name is taken"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v\nlacks %q", err, want)
		}
	}
}

func TestPathsThatNoRequestHas(t *testing.T) {
	for _, bad := range []string{"//a", "/a/./b", "/a/../b", "/a%20b", "/a%3fb", "/a%", "/a?b=c", "/a#b"} {
		_, err := route.Compile([]route.Route{{Name: "r", Kind: route.Read, Migration: "m", Match: route.Match{Path: bad}}}, php.Params{}, php.Nginx{})
		if err == nil || !strings.Contains(err.Error(), "route r: match.path: no request has the path") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	table(t, route.Route{Name: "r", Kind: route.Read, Migration: "m", Match: route.Match{Path: "/a b%25%3F.php/é/"}})
}

func BenchmarkMatchNone(b *testing.B) {
	rs := make([]route.Route, 0, 100)
	for i := range 100 {
		r := move("units")
		r.Name, r.Match.Path = "r"+string(rune('0'+i%10))+string(rune('0'+i/10)), "/p"+string(rune('0'+i%10))+string(rune('0'+i/10))+".php"
		rs = append(rs, r)
	}
	tab, err := route.Compile(rs, php.Params{}, php.Nginx{})
	if err != nil {
		b.Fatal(err)
	}
	var d route.Decision
	var h route.Head = &target{[]byte("GET"), []byte("/static/app.js?v=1")}
	b.ReportAllocs()
	for b.Loop() {
		if v, _ := tab.Match(&d, h, nil, false); v != route.None {
			b.Fatal(v)
		}
	}
}

func BenchmarkMatchOpen(b *testing.B) {
	tab, err := route.Compile([]route.Route{{Name: "alliances", Kind: route.Plain, Match: route.Match{Path: "/alliances/**"}}, {Name: "unit", Kind: route.Plain, Match: route.Match{Path: "/match/{match}/unit"}}}, php.Params{}, php.Nginx{})
	if err != nil {
		b.Fatal(err)
	}
	var d route.Decision
	var h route.Head = &target{[]byte("GET"), []byte("/static/app.js?v=1")}
	b.ReportAllocs()
	for b.Loop() {
		if v, _ := tab.Match(&d, h, nil, false); v != route.None {
			b.Fatal(v)
		}
	}
}

// target is a head that costs nothing.
type target struct{ method, target []byte }

func (t *target) Method() []byte      { return t.method }
func (t *target) Target() []byte      { return t.target }
func (t *target) Field(string) []byte { return nil }

// session is a target with a cookie.
type session struct{ target }

func (*session) Field(n string) []byte {
	if n == "cookie" {
		return cookie
	}
	return nil
}

var cookie = []byte("PHPSESSID=0001m7r5t8u0w4x6y2z1a3b; lang=en; beta=1")

func TestPlainTargetsNeedNoMemory(t *testing.T) {
	tab := table(t, move("units"), route.Route{Name: "alliances", Kind: route.Plain, Match: route.Match{Path: "/alliances/**"}})
	var d route.Decision
	h := &target{[]byte("GET"), []byte("/static/app.js?v=1")}
	if n := testing.AllocsPerRun(100, func() { _, _ = tab.Match(&d, h, nil, false) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// What is matched by parameters costs none either, nor does looking at them.
func TestParametersNeedNoMemory(t *testing.T) {
	m := move("units")
	m.Match.Method, m.Match.Cookie = "", map[string]string{"beta": "1"}
	m.Params = map[string]string{"unit": "query.unit", "match": "query.match", "lang": "cookie.lang", "kind": "path.kind"}
	m.Match.Path = "/{kind}"
	tab := table(t, m)
	var d route.Decision
	params := map[string]string{}
	h := &session{target{[]byte("POST"), []byte("/index?page=unit&action=move&match=7&unit=42")}}
	if n := testing.AllocsPerRun(100, func() {
		if v, _ := tab.Match(&d, h, nil, false); v == route.Matched {
			d.View(params, 0)
			_, _ = d.Cookie("PHPSESSID")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if diff := cmp.Diff(map[string]string{"unit": "42", "match": "7", "lang": "en", "kind": "index"}, params); diff != "" {
		t.Error(diff)
	}
	if s, ok := d.Cookie("PHPSESSID"); string(s) != "0001m7r5t8u0w4x6y2z1a3b" || !ok {
		t.Errorf("%q %v", s, ok)
	}
}

// Params are kept by whoever asked: they are no part of the request, and not of the decision.
func TestParamsAreOnesOwn(t *testing.T) {
	m := move("units")
	m.Match = route.Match{Path: "/{kind}/{unit}"}
	m.Params = map[string]string{"kind": "path.kind", "unit": "path.unit", "match": "query.match", "to": "form.to", "x": "query.to[x]", "lang": "cookie.lang", "host": "header.host", "e": "query.e", "deep": "json.deep"}
	tab := table(t, m)
	want := map[string]string{"kind": "map", "unit": "a%b", "match": "7", "to": "9", "x": "1", "lang": "en", "host": "game.example", "e": "a b"}
	all := []byte("/map/a%25b?match=7&to[x]=1&e=a+bto=9&unit=1lang=en; PHPSESSID=abcgame.exampleapplication/x-www-form-urlencoded14")
	cut := func(from, to string) []byte {
		i, j := bytes.Index(all, []byte(from)), bytes.Index(all, []byte(to))
		return all[i:j:j]
	}
	h := &fields{target{[]byte("POST"), cut("/map", "to=9")}, map[string][]byte{"cookie": cut("lang", "game.ex"), "host": cut("game.ex", "appli"), "content-type": cut("appli", "14"), "content-length": []byte("11")}}
	var d route.Decision
	if v, err := tab.Match(&d, h, cut("to=9", "lang"), true); v != route.Matched || err != nil {
		t.Fatal(v, err)
	}
	params := d.Params(0)
	if diff := cmp.Diff(want, params); diff != "" {
		t.Fatal(diff)
	}
	views := map[string]string{"left": "over"}
	if d.View(views, 0); !maps.Equal(views, want) {
		t.Errorf("%v", views)
	}
	for i := range all {
		all[i] = '!'
	}
	if _, err := tab.Match(&d, get("/other/8?match=1&e=2&to[x]=3"), nil, false); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, params); diff != "" {
		t.Error(diff)
	}
}

type fields struct {
	target
	of map[string][]byte
}

func (f *fields) Field(n string) []byte { return f.of[n] }

func TestFormsArePosted(t *testing.T) {
	tab := table(t, route.Route{Name: "save", Kind: route.Write, Migration: "m", Match: route.Match{Path: "/save.php", Form: map[string]string{"do": "save"}}})
	var d route.Decision
	h, body := post("/save.php", form, "do=save")
	if v, _ := tab.Match(&d, h, body, true); v != route.Matched {
		t.Fatal(v)
	}
	for _, method := range []string{"PUT", "GET", "post"} {
		h.method = method
		if v, _ := tab.Match(&d, h, body, true); v != route.None {
			t.Errorf("%s fills no form in PHP: %v", method, v)
		}
	}
}

func TestElementsOfArrays(t *testing.T) {
	r := route.Route{Name: "order", Kind: route.Write, Migration: "m", Match: route.Match{Path: "/x.php"}, Params: map[string]string{"x": "form.to[x]|query.to[x]", "to": "form.to|query.to"}}
	tab := table(t, r)
	var d route.Decision
	h, body := post("/x.php?to=7", form, "to=1&to[x]=2&to[y]=3")
	if v, _ := tab.Match(&d, h, body, true); v != route.Matched {
		t.Fatal(v)
	}
	if diff := cmp.Diff(map[string]string{"x": "2", "to": "7"}, d.Params(0)); diff != "" {
		t.Fatal("an array is not there as a scalar:", diff)
	}
	for _, bad := range []string{"form.to[", "form.to[]", "form.[x]", "form.to[x", "form.to]", "form.to[x]y", "form.to[x][]", "query.to[[x]]"} {
		r.Params = map[string]string{"x": bad}
		if err := r.Validate(); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
}

// A path is decoded once, and stays what it is: nothing of it can pass for another.
func TestDoubleEncoding(t *testing.T) {
	tab := table(t, route.Route{Name: "u", Kind: route.Read, Migration: "m", Match: route.Match{Path: "/match/{match}/unit"}, Params: map[string]string{"match": "path.match"}},
		route.Route{Name: "all", Kind: route.Read, Migration: "n", Match: route.Match{Path: "/**"}})
	var d route.Decision
	for in, want := range map[string]string{"/match/7/unit": "7", "/match/%37/unit": "7", "/match/%2537/unit": "%37", "/match/a%3fb/unit": "a?b", "/match/100%25/unit": "100%"} {
		if v, err := tab.Match(&d, get(in), nil, false); v != route.Matched || len(d.Routes) != 2 || d.Params(0)["match"] != want {
			t.Errorf("%s: %v, %v, %v", in, v, err, d.Params(0))
		}
	}
	if v, err := tab.Match(&d, head{"OPTIONS", "*", nil}, nil, false); v != route.None || err != nil {
		t.Error("OPTIONS * is about no path:", v, err)
	}
}

func TestScriptAndAddress(t *testing.T) {
	tab := table(t, route.Route{Name: "front", Kind: route.Read, Migration: "m", Match: route.Match{Path: "/index.php"}},
		route.Route{Name: "root", Kind: route.Read, Migration: "n", Match: route.Match{Path: "/"}},
		route.Route{Name: "unit", Kind: route.Read, Migration: "o", Match: route.Match{Path: "/index.php/unit/{unit}"}, Params: map[string]string{"unit": "path.unit"}},
		route.Route{Name: "new", Kind: route.Plain, Match: route.Match{Path: "/dir/"}})
	var d route.Decision
	for in, want := range map[string]string{"/": "front,root", "/index.php": "front", "//?a=b": "front,root", "/index.php/unit/7": "front,unit", "/%2e/index.php//unit/7": "front,unit", "/dir/": "new", "/dir/index.php": "", "/unit/7": ""} {
		_, err := tab.Match(&d, get(in), nil, false)
		if got := strings.Join(names(&d), ","); got != want || err != nil {
			t.Errorf("%s: %q, %v; want %q", in, got, err, want)
		}
	}
	if _, _ = tab.Match(&d, get("/index.php/unit/7"), nil, false); d.Params(1)["unit"] != "7" {
		t.Errorf("%v", d.Params(1))
	}
}

func BenchmarkView(b *testing.B) {
	m := move("units")
	m.Params = map[string]string{"unit": "query.unit", "match": "query.match", "lang": "cookie.lang"}
	tab, err := route.Compile([]route.Route{m}, php.Params{}, php.Nginx{})
	if err != nil {
		b.Fatal(err)
	}
	var d route.Decision
	var h route.Head = &session{target{[]byte("POST"), []byte("/index.php?page=unit&action=move&match=7&unit=42")}}
	params := map[string]string{}
	b.ReportAllocs()
	for b.Loop() {
		if v, _ := tab.Match(&d, h, nil, false); v != route.Matched {
			b.Fatal(v)
		}
		d.View(params, 0)
	}
}

func BenchmarkMatchQuery(b *testing.B) {
	tab, err := route.Compile([]route.Route{{Name: "map", Kind: route.Read, Migration: "m", Match: route.Match{Path: "/api.php", Query: map[string]string{"action": "map"}}}}, php.Params{}, php.Nginx{})
	if err != nil {
		b.Fatal(err)
	}
	var d route.Decision
	var h route.Head = &target{[]byte("GET"), []byte("/api.php?match=7&action=map&player=3")}
	b.ReportAllocs()
	for b.Loop() {
		if v, _ := tab.Match(&d, h, nil, false); v != route.Matched {
			b.Fatal(v)
		}
	}
}
