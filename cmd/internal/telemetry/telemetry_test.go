package telemetry

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"banyan/proxy"
	"banyan/proxy/balance"
	"banyan/proxy/capture"
	"banyan/proxy/event"
	"banyan/proxy/journal"
	"banyan/proxy/migrate"
	"banyan/proxy/stage"
	"banyan/proxy/upstream"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/trace"
)

var update = flag.Bool("update", false, "rewrite the files below testdata")

func provider(t *testing.T, log *slog.Logger) *Provider {
	t.Helper()
	p, err := New(t.Context(), Config{Service: "banyan-proxy", Version: "1.2.3", Instance: "a", Log: log,
		Upstreams: map[string]Upstream{"units": {Address: "units.svc", Port: 8080}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return p
}

func scrape(t *testing.T, p *Provider) string {
	t.Helper()
	w := httptest.NewRecorder()
	p.Metrics().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

var sample = regexp.MustCompile(`^([a-z_]+)(?:\{(.*)\})? `)
var labelName = regexp.MustCompile(`([a-z_]+)="`)

// shape is every metric with its type and the names of its labels.
func shape(text string) string {
	types, labels := map[string]string{}, map[string]string{}
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); strings.HasPrefix(line, "# TYPE ") {
			types[f[2]] = f[3]
			continue
		}
		m := sample.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		name := m[1]
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base, ok := strings.CutSuffix(name, suffix); ok && types[base] == "histogram" {
				name = base
			}
		}
		var names []string
		for _, l := range labelName.FindAllStringSubmatch(m[2], -1) {
			if l[1] != "le" {
				names = append(names, l[1])
			}
		}
		slices.Sort(names)
		if s := strings.Join(names, " "); len(s) >= len(labels[name]) {
			labels[name] = s
		}
	}
	var out []string
	for name, kind := range types {
		if !strings.HasPrefix(name, "go_") && !strings.HasPrefix(name, "process_") {
			out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s %s", name, kind, labels[name])))
		}
	}
	slices.Sort(out)
	return strings.Join(out, "\n") + "\n"
}

// TestMetricNames: dashboards and alerts of others are written against these names.
func TestMetricNames(t *testing.T) {
	p := provider(t, nil)
	if text := scrape(t, p); strings.Contains(text, "active_requests") {
		t.Error("requests under way are told, and nobody counts them")
	}
	p.Requests.Active(nil)
	p.Requests.SetRoutes(map[string]RouteInfo{"units/map": {"units", "live", true}})
	p.Requests.Done(&proxy.Observation{Method: []byte("GET"), Route: "units/map", Upstream: "units", Status: 500, Duration: time.Millisecond, FirstByte: time.Microsecond})
	for _, in := range instruments {
		labels := make([]string, len(in.attrs))
		for i := range labels {
			labels[i] = "x"
		}
		if in.kind == duration {
			record, err := p.Duration(in.name)
			if err != nil {
				t.Fatal(err)
			}
			record(time.Millisecond, labels...)
			continue
		}
		if err := p.Observe(in.name, func(context.Context) []Value { return []Value{{1, labels}, {1, append(labels, "one too many")}} }); err != nil {
			t.Fatal(err)
		}
	}
	got := shape(scrape(t, p))
	file := filepath.Join("testdata", "metrics.txt")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Fatalf("the names changed (-want +got); run with -update if that is meant:\n%s", d)
	}
	if err := p.Observe("banyan.nothing", nil); err == nil {
		t.Error("an instrument that the table does not have")
	}
	if _, err := p.Duration("banyan.journal.backlog"); err == nil {
		t.Error("a gauge as a duration")
	}
}

func TestRequestsByWhatDecided(t *testing.T) {
	var logged bytes.Buffer
	p := provider(t, slog.New(slog.NewTextHandler(&logged, nil)))
	p.Requests.SetRoutes(map[string]RouteInfo{"units/map": {"units", "live", true}, "units/move": {"units", "live", false}})
	cut := &upstream.Error{Upstream: "legacy", Doing: "read", Class: upstream.Cut, Sent: true, Err: io.ErrUnexpectedEOF}
	for range 3 {
		p.Requests.Done(&proxy.Observation{Method: []byte("GET"), Route: "units/map", Upstream: "units", Status: 200, Duration: 30 * time.Millisecond, FirstByte: 20 * time.Millisecond})
	}
	for _, o := range []proxy.Observation{
		{Method: []byte("GET"), Route: "units/map", Upstream: "legacy", Status: 200, Duration: time.Second, FirstByte: time.Second},
		{Method: []byte("POST"), Route: "units/move", Upstream: "legacy", Status: 502, Duration: time.Second, Err: cut, Started: time.Unix(10, 0)},
		{Method: []byte("POST"), Route: "units/move", Upstream: "legacy", Status: 502, Duration: time.Second, Err: cut, Started: time.Unix(10, 1)},
		{Method: []byte("BREW"), Upstream: "legacy", Status: 418},
		{Method: []byte("GET"), Status: 400, Err: errors.New("malformed")},
		{Method: []byte("GET"), Upstream: "legacy", ClientGone: true},
	} {
		p.Requests.Done(&o)
	}
	text := scrape(t, p)
	for _, want := range []string{
		`banyan_route_decisions_total{banyan_migration="units",banyan_route="units/map",banyan_stage="live",banyan_target="candidate",feature_flag_result_reason="split"} 3`,
		`banyan_route_decisions_total{banyan_migration="units",banyan_route="units/map",banyan_stage="live",banyan_target="legacy",feature_flag_result_reason="split"} 1`,
		`banyan_route_decisions_total{banyan_migration="units",banyan_route="units/move",banyan_stage="live",banyan_target="legacy",feature_flag_result_reason="static"} 2`,
		`banyan_route_decisions_total{banyan_route="default",banyan_target="legacy",feature_flag_result_reason="default"} 2`,
		`http_server_request_duration_seconds_count{banyan_migration="units",http_request_method="GET",http_response_status_code="200",http_route="units/map",network_protocol_version="1.1",url_scheme="http"} 4`,
		`http_server_request_duration_seconds_bucket{banyan_migration="units",http_request_method="GET",http_response_status_code="200",http_route="units/map",network_protocol_version="1.1",url_scheme="http",le="0.05"} 3`,
		`http_server_request_duration_seconds_count{banyan_migration="units",error_type="cut",http_request_method="POST",http_response_status_code="502",http_route="units/move",network_protocol_version="1.1",url_scheme="http"} 2`,
		`http_client_request_duration_seconds_count{banyan_upstream_name="legacy",banyan_upstream_role="legacy",error_type="cut",http_request_method="POST"} 2`,
		`http_client_request_duration_seconds_bucket{banyan_upstream_name="units",banyan_upstream_role="candidate",http_request_method="GET",http_response_status_code="200",server_address="units.svc",server_port="8080",le="0.025"} 3`,
		`http_request_method="_OTHER",http_response_status_code="418"`,
		`http_server_request_duration_seconds_count{error_type="client_error",http_request_method="GET",http_response_status_code="400"`,
		`http_server_request_duration_seconds_count{error_type="client_gone",http_request_method="GET",network`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("not told: %s", want)
		}
	}
	if n := strings.Count(logged.String(), "upstream trouble"); n != 1 {
		t.Errorf("trouble was logged %d times in one second:\n%s", n, &logged)
	}
	if t.Failed() {
		t.Log(text)
	}
}

func TestKindsAreBounded(t *testing.T) {
	r := NewRequests(nil, nil)
	for i := range 3 * maxSeries {
		r.Done(&proxy.Observation{Method: []byte("GET"), Route: fmt.Sprint(i), Status: 200})
	}
	all := *r.series.Load()
	if len(all) > maxSeries+1 {
		t.Fatalf("%d series", len(all))
	}
	if n := all[key{route: "_other", method: uint8(len(methods) - 1)}].server.count(); n != 2*maxSeries {
		t.Fatalf("%d requests of other kinds; want %d", n, 2*maxSeries)
	}
}

func TestDoneAllocatesNothing(t *testing.T) {
	r := NewRequests(nil, nil)
	r.SetRoutes(map[string]RouteInfo{"units/map": {"units", "live", true}})
	o := &proxy.Observation{Method: []byte("GET"), Route: "units/map", Upstream: "units", Status: 200, Duration: time.Millisecond, FirstByte: time.Millisecond}
	if n := testing.AllocsPerRun(1000, func() { r.Done(o) }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

type handlerFunc func(*proxy.Exchange)

func (f handlerFunc) Serve(x *proxy.Exchange) { f(x) }

func TestActiveComesBackAfterAPanic(t *testing.T) {
	r := NewRequests(nil, nil)
	h := r.Active(handlerFunc(func(*proxy.Exchange) {
		if n := r.active.Load(); n != 1 {
			t.Errorf("%d under way", n)
		}
		panic("planted")
	}))
	func() {
		defer func() { _ = recover() }()
		h.Serve(nil)
	}()
	if n := r.active.Load(); n != 0 {
		t.Fatalf("%d under way after the end", n)
	}
}

func TestProxySources(t *testing.T) {
	p := provider(t, nil)
	c := &migrate.Counters{}
	c.Writes.Store(5)
	err := p.ObserveProxy(Sources{
		Server: func() proxy.Stats {
			return proxy.Stats{Conns: 3, Turned: 4, Strangers: 5, Buffered: 6, Overflow: 7,
				Tunnels: proxy.TunnelStats{Open: 8, Ended: 9, Received: 10, Sent: 11, Time: 12 * time.Second}}
		},
		Upstreams: func() map[string]upstream.Stats { return map[string]upstream.Stats{"legacy": {Open: 4, Idle: 1}} },
		Balancers: func() map[string]balance.Stats {
			return map[string]balance.Stats{"legacy": {Waiting: 2, Turned: balance.Turned{Full: 7}, Open: true, Instances: []balance.InstanceStats{
				{Name: "http://10.0.0.1", State: balance.Up, Sessions: 40}, {Name: "http://10.0.0.2", State: balance.Ejected, Moved: 3}}}}
		},
		Journal:  func() journal.Status { return journal.Status{Backlog: 9, Full: true, Oldest: 1500 * time.Millisecond} },
		Counters: c,
		Tallies: func() []capture.Tally {
			return []capture.Tally{{Migration: "units", Route: "map", Equal: 6, Dropped: map[string]uint64{"queue_full": 2}, ByLegacy: 1, FellBack: map[string]uint64{"seen": 1}}}
		},
		Stages: func() map[event.Migration]stage.State {
			return map[event.Migration]stage.State{"units": {Stage: stage.Live, Share: stage.Share{Percent: 25}}, "economy": {Stage: stage.Shadow}}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	text := scrape(t, p)
	for _, want := range []string{
		`banyan_server_connections 3`,
		`banyan_server_client_refused_total 4`,
		`banyan_server_proxy_header_failures_total 5`,
		`banyan_server_buffered_bytes 6`,
		`banyan_server_buffered_overflows_total 7`,
		`banyan_server_tunnels 8`,
		`banyan_server_tunnels_ended_total 9`,
		`banyan_server_tunnels_duration_seconds_total 12`,
		`banyan_server_tunnels_io_bytes_total{network_io_direction="receive"} 10`,
		`banyan_server_tunnels_io_bytes_total{network_io_direction="transmit"} 11`,
		`http_client_open_connections{banyan_upstream_name="legacy",http_connection_state="active"} 3`,
		`banyan_upstream_instance_state{banyan_upstream_instance="http://10.0.0.1",banyan_upstream_name="legacy"} 3`,
		`banyan_upstream_instance_state{banyan_upstream_instance="http://10.0.0.2",banyan_upstream_name="legacy"} 1`,
		`banyan_upstream_sessions{banyan_upstream_instance="http://10.0.0.1",banyan_upstream_name="legacy"} 40`,
		`banyan_upstream_sessions_moved_total{banyan_upstream_instance="http://10.0.0.2",banyan_upstream_name="legacy"} 3`,
		`banyan_upstream_queue_size{banyan_upstream_name="legacy"} 2`,
		`banyan_upstream_queue_turned_away_total{banyan_reason="full",banyan_upstream_name="legacy"} 7`,
		`banyan_upstream_breaker_open{banyan_upstream_name="legacy"} 1`,
		`banyan_journal_backlog 9`,
		`banyan_journal_writable 0`,
		`banyan_journal_oldest_age_seconds 1.5`,
		`banyan_route_requests_total{banyan_route_kind="write"} 5`,
		`banyan_pairs_requests_total{banyan_drop_reason="queue_full",banyan_migration="units",banyan_outcome="dropped",banyan_route="map"} 2`,
		`banyan_pairs_requests_total{banyan_migration="units",banyan_outcome="equal",banyan_route="map"} 6`,
		`banyan_route_fallbacks_total{banyan_fallback_reason="seen",banyan_migration="units",banyan_route="map"} 1`,
		`banyan_route_weight_ratio{banyan_migration="units",banyan_target="candidate",banyan_weight_kind="set"} 0.25`,
		`banyan_migration_stage{banyan_migration="economy"} 2`,
		`target_info{service_instance_id="a",service_name="banyan-proxy",service_version="1.2.3"`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("not told: %s", want)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

func TestNoTracerWithoutAnExporter(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "")
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")
	p := provider(t, nil)
	if tr := p.Tracer(); tr != nil {
		t.Fatalf("%T: spans are made for nobody", tr)
	}
}

func TestSpansLeaveByOTLP(t *testing.T) {
	var status = 500
	got := make(chan string, 16)
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/x-protobuf")
		w.WriteHeader(status)
		if status == 200 && bytes.Contains(b, []byte("GET units/map")) {
			got <- r.URL.Path
		}
	}))
	defer collector.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	t.Setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
	var logged bytes.Buffer
	p := provider(t, slog.New(slog.NewTextHandler(&logged, nil)))
	if p.Tracer() == nil {
		t.Fatal("an endpoint is set and spans do not leave")
	}
	for _, s := range []int{400, 400, 200} { // 4xx is not tried again by the exporter
		status = s
		_, span := p.Tracer().Start(t.Context(), "GET units/map")
		span.End()
		if err := p.traces.ForceFlush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if path := <-got; path != "/v1/traces" {
		t.Fatalf("sent to %s", path)
	}
	if down, up := strings.Count(logged.String(), "do not arrive"), strings.Count(logged.String(), "arrive again"); down != 1 || up != 1 {
		t.Fatalf("%d, %d:\n%s", down, up, &logged)
	}
}

func TestLog(t *testing.T) {
	var out bytes.Buffer
	log := NewLog(&out, slog.LevelInfo)
	ctx := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}}))
	log.DebugContext(ctx, "hidden")
	log.With("write", "a.1.7").InfoContext(ctx, "shown", "in", 1500*time.Millisecond)
	want := `"msg":"shown","write":"a.1.7","in":"1.5s","trace_id":"01000000000000000000000000000000","span_id":"0200000000000000"}`
	if !strings.Contains(out.String(), want) || strings.Contains(out.String(), "hidden") {
		t.Fatal(out.String())
	}
	if _, err := ParseLevel("loud"); err == nil {
		t.Fatal("a level that there is not")
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if IsTerminal(null) || IsTerminal(&out) {
		t.Fatal("nobody sits there")
	}
}
