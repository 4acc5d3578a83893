package migrate

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"banyan/proxy"
	"banyan/proxy/event"
	"banyan/proxy/expr"

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
