package migrate

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"banyan/legacyadapter/php"
	"banyan/proxy"
	"banyan/proxy/event"
	"banyan/proxy/expr"
	"banyan/proxy/journal"
	"banyan/proxy/route"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace"
)

// Writes use each other's memory, and nothing of one is in another's record, many at a time and one after another.
func TestWritesAreApart(t *testing.T) {
	b := newBench(t, dual)
	b.legacy = func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("unit") != "" { // else it is rejected
			w.Header().Set("Location", "index.php?msg=moved&unit="+r.URL.Query().Get("unit"))
		}
		w.WriteHeader(302)
	}
	const clients, each = 8, 30
	var all sync.WaitGroup
	for c := range clients {
		all.Go(func() {
			for i := range each {
				unit := fmt.Sprint("u", c, "x", strings.Repeat("y", i%7), i)
				target := "/index.php?page=unit&action=move&unit=" + unit
				if i%5 == 0 {
					target = "/index.php?page=unit&action=move&other=" + unit
				}
				b.do("POST", target, "match=m"+unit+"&unit="+unit, "PHPSESSID=s"+unit)
			}
		})
	}
	all.Wait()
	seen := map[string]bool{}
	for range clients * each {
		in, r := b.recorded()
		unit := in.Params["unit"]
		if seen[unit] || seen[in.UUID] || seen[in.Trace] || seen[in.Session] {
			t.Errorf("twice: %+v", in)
		}
		seen[unit], seen[in.UUID], seen[in.Trace], seen[in.Session] = true, true, true, true
		want := event.Intent{Route: "move", Addresses: []event.Address{{Migration: "units", Key: event.OrderingKey("match/m" + unit), Primary: true}}, Session: b.cfg.Redact.Session("s" + unit)}
		if in.Route != want.Route || len(in.Params) != 2 || in.Params["match"] != "m"+unit || string(in.Body) != "match=m"+unit+"&unit="+unit || in.Session != want.Session ||
			len(in.Addresses) != 1 || in.Addresses[0] != want.Addresses[0] || in.Host != strings.TrimPrefix(b.url, "http://") || in.Method != "POST" || in.ContentType != "application/x-www-form-urlencoded" {
			t.Errorf("%+v", in)
		}
		switch {
		case in.Target == "/index.php?page=unit&action=move&unit="+unit && r.Outcome == event.Applied && r.Location == "index.php?msg=moved&unit="+unit:
		case in.Target == "/index.php?page=unit&action=move&other="+unit && r.Outcome == event.Rejected && r.Location == "":
		default:
			t.Errorf("%s: %+v", in.Target, r)
		}
	}
}

// What is kept of a request has no part in its memory: pairs of reads, and the addresses of writes in flight, which the
// journal's marks hand on.
func TestWhatIsKeptStays(t *testing.T) {
	b := newBench(t, shadow, func(c *Config) { c.Sessions = Sessions{Cookie: "PHPSESSID"} })
	var mark journal.Mark
	b.legacy = func(w http.ResponseWriter, r *http.Request) {
		if mark.InFlight == nil {
			b.j.Mark(&mark)
		}
		fmt.Fprint(w, "ok")
	}
	c := b.raw("POST "+moveTarget, "match=777&unit=42")
	<-b.served
	was := fmt.Sprint(mark.InFlight)
	answers := bufio.NewReader(c)
	skip := func() {
		r, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, r.Body)
	}
	skip()
	if !strings.Contains(was, "match/777") {
		t.Fatal(was)
	}
	var pairs []string
	for i, read := range []string{"match=123&other=ab", "match=45678", "other=xyz&match=9"} { // on the same connection, in the same memory
		fmt.Fprintf(c, "GET /api.php?action=map&%s HTTP/1.1\r\nHost: host%d.example\r\nCookie: PHPSESSID=%d\r\n\r\n", read, i, i)
		skip()
		<-b.served
		pairs = append(pairs, fmt.Sprintf("%+v", b.copies.reads[i]))
	}
	for i, want := range []string{"123", "45678", "9"} {
		r := b.copies.reads[i]
		if r.Params["match"] != want || string(r.Key) != "match/"+want || fmt.Sprintf("%+v", r) != pairs[i] {
			t.Errorf("%+v\nwas %s", r, pairs[i])
		}
	}
	for i := range 5 {
		fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: t\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 17\r\n\r\nmatch=%03d&unit=43", moveTarget, i)
		skip()
		<-b.served
	}
	if now := fmt.Sprint(mark.InFlight); now != was {
		t.Errorf("%s, was %s", now, was)
	}
}

// A write of two migrations is one record: the keys are those that each has of its own parameters, which are the first's.
func TestTwoMigrationsOneRecord(t *testing.T) {
	b := newBench(t, dual, func(c *Config) {
		one := func(m event.Migration, match string, more string) route.Route {
			return route.Route{Name: "move", Kind: route.Write, Migration: m, Match: route.Match{Path: "/index.php"}, Params: map[string]string{"match": match, more: "form.unit"}}
		}
		var err error
		if c.Table, err = route.Compile([]route.Route{one("units", "form.match", "unit"), one("economy", "query.match", "u")}, php.Params{}, php.Nginx{}); err != nil {
			t.Fatal(err)
		}
		economy := *c.Migrations["units"]
		economy.Name = "economy"
		c.Migrations["economy"] = &economy
	})
	b.legacy = moved
	for i := range 3 {
		b.do("POST", fmt.Sprint("/index.php?match=1", i), fmt.Sprint("unit=42&match=2", i))
		in, _ := b.recorded()
		want := []event.Address{{Migration: "units", Key: event.OrderingKey(fmt.Sprint("match/2", i)), Primary: true}, {Migration: "economy", Key: event.OrderingKey(fmt.Sprint("match/1", i))}}
		if !slices.Equal(in.Addresses, want) || !maps.Equal(in.Params, map[string]string{"match": fmt.Sprint("2", i), "unit": "42"}) {
			t.Errorf("%+v", in)
		}
	}
}

// What a rule said once is said again only of what it looks at.
func TestRulesLookAtEachAnswer(t *testing.T) {
	for _, src := range []string{"status < 400 && status != 302", "true", "status == 302 && header(`Location`) contains `moved`", "status == 200 && params.unit == `1`", "body contains `ok`"} {
		applied, err := expr.CompileBool(src, map[string]any{"status": 0, "body": "", "header": func(string) string { return "" }, "params": map[string]string{}})
		if err != nil {
			t.Fatal(err)
		}
		b := newBench(t, dual, func(c *Config) {
			c.Migrations["units"].Writes["move"] = &WriteRoute{Applied: applied, NeedBody: strings.Contains(src, "body")}
		})
		for range 2 {
			for _, status := range []int{200, 302, 403, 799} {
				for _, unit := range []string{"1", "2"} {
					location, body := "", ""
					if unit == "1" {
						location, body = "moved", "ok"
					}
					b.legacy = func(w http.ResponseWriter, r *http.Request) {
						w.Header().Set("Location", location)
						w.WriteHeader(status)
						fmt.Fprint(w, body)
					}
					b.do("POST", moveTarget, "match=7&unit="+unit)
					want, err := applied.True(map[string]any{"status": status, "body": body, "params": map[string]string{"unit": unit}, "header": func(string) string { return location }})
					if err != nil {
						t.Fatal(err)
					}
					if _, r := b.recorded(); (r.Outcome == event.Applied) != want || r.Status != status || r.Location != location {
						t.Errorf("%s: %d, unit %s: %+v", src, status, unit, r)
					}
				}
			}
		}
	}
}

func TestVerdicts(t *testing.T) {
	var v verdicts
	rule := func(status int) bool { return status%3 == 0 }
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 2 {
				for status := -70; status < 1000; status++ {
					if applied, known := v.of(status); known && applied != rule(status) {
						t.Errorf("%d: %v", status, applied)
					}
					v.learn(status, rule(status))
					if _, known := v.of(status); known != (status >= 0 && status < 640) {
						t.Errorf("%d: known %v", status, known)
					}
				}
			}
		})
	}
	all.Wait()
}

// A write has a place in a trace also where nobody exports spans; a trusted peer's trace goes on, and nobody else's.
func TestTraceWithoutATracer(t *testing.T) {
	b := newBench(t, dual)
	b.legacy = moved
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	ask := func(peers ...netip.Prefix) (traceID [16]byte, spanID [8]byte, in event.Intent) {
		s, err := proxy.NewServer(proxy.Config{TrustedProxies: peers}, served(func(x *proxy.Exchange) {
			b.h.Serve(x)
			traceID, spanID = x.TraceID, x.SpanID
			b.served <- struct{}{}
		}), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		b.listen(s)
		b.raw("POST "+moveTarget, moveBody, "traceparent: "+parent)
		<-b.served
		in, _ = b.recorded()
		return
	}
	seen := map[string]bool{}
	for range 3 {
		id, span, in := ask()
		if want := "00-" + trace.TraceID(id).String() + "-" + trace.SpanID(span).String() + "-00"; in.Trace != want || id == [16]byte{} || span == [8]byte{} || seen[want] || in.Trace[3:35] == parent[3:35] {
			t.Errorf("%s in the record, %s for callbacks", in.Trace, want)
		}
		seen[in.Trace] = true
	}
	id, span, in := ask(netip.MustParsePrefix("127.0.0.0/8"))
	if want := parent[:36] + trace.SpanID(span).String() + "-00"; in.Trace != want || trace.TraceID(id).String() != parent[3:35] || in.Trace == parent {
		t.Errorf("%s in the record, want %s", in.Trace, want)
	}
}

type served func(*proxy.Exchange)

func (s served) Serve(x *proxy.Exchange) { s(x) }

func TestUUIDs(t *testing.T) {
	seen := map[string]bool{}
	for range 10_000 {
		before := time.Now().UnixMilli()
		text := string(appendUUID([]byte("x")))[1:]
		after := time.Now().UnixMilli()
		id, err := uuid.Parse(text)
		if err != nil || len(text) != 36 || id.String() != text || id.Version() != 7 || id.Variant() != uuid.RFC4122 || seen[text] {
			t.Fatal(text, err, id.Version(), id.Variant(), seen[text])
		}
		seen[text] = true
		if s, ns := id.Time().UnixTime(); s*1000+ns/1e6 < before || s*1000+ns/1e6 > after {
			t.Fatalf("%s is of %d.%d s, made from %d to %d ms", text, s, ns, before, after)
		}
	}
}
