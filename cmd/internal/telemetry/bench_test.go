package telemetry

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"banyan/proxy"
	"banyan/proxy/upstream"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
)

var benchObservation = proxy.Observation{Method: []byte("GET"), Route: "units/map", Upstream: "units", Status: 200, Duration: time.Millisecond, FirstByte: time.Millisecond}

// BenchmarkObserver is what telemetry costs a request, and what one histogram of the SDK would.
func BenchmarkObserver(b *testing.B) {
	b.Run("ours", func(b *testing.B) {
		r := NewRequests(nil, nil)
		r.SetRoutes(map[string]RouteInfo{"units/map": {"units", "live", true}})
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			o := benchObservation
			for pb.Next() {
				r.active.Add(1)
				r.Done(&o)
				r.active.Add(-1)
			}
		})
	})
	b.Run("one-sdk-histogram", func(b *testing.B) {
		mp := sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))
		h, err := mp.Meter("bench").Float64Histogram("http.server.request.duration")
		if err != nil {
			b.Fatal(err)
		}
		opts := []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(attribute.String("http.request.method", "GET"), attribute.String("http.route", "units/map"),
			attribute.Int("http.response.status_code", 200), attribute.String("url.scheme", "http"), attribute.String("network.protocol.version", "1.1")))}
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				h.Record(context.Background(), 0.001, opts...)
			}
		})
	})
}

// BenchmarkProxied is whole requests through the proxy, without and with telemetry. cpu-us/req is of client, proxy and
// upstream together, which are the same in both; the difference is telemetry's.
func BenchmarkProxied(b *testing.B) {
	for _, with := range []bool{false, true, false, true} {
		name := "off"
		if with {
			name = "on"
		}
		b.Run(name, func(b *testing.B) { proxied(b, with) })
	}
}

func proxied(b *testing.B, with bool) {
	backend, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 1024)) })}
	go srv.Serve(backend) // ends with Close
	defer srv.Close()
	pool, err := upstream.New(upstream.Config{Name: "legacy", URL: "http://" + backend.Addr().String()})
	if err != nil {
		b.Fatal(err)
	}
	defer pool.Close()
	var h proxy.Handler = &proxy.Passthrough{Upstream: pool}
	var observer proxy.Observer
	if with {
		r := NewRequests(nil, nil)
		h, observer = r.Active(h), r
	}
	s, err := proxy.NewServer(proxy.Config{}, h, observer, nil)
	if err != nil {
		b.Fatal(err)
	}
	l, err := proxy.Listen("127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go s.Serve(l) // ends with Shutdown
	defer s.Shutdown(context.Background())
	var wg sync.WaitGroup
	const clients = 8
	before := cpu()
	b.ResetTimer()
	for range clients {
		wg.Go(func() { exchange(b, l.Addr().String(), b.N/clients+1) })
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64((cpu()-before).Microseconds())/float64(b.N), "cpu-us/req")
}

func exchange(b *testing.B, addr string, n int) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		b.Error(err)
		return
	}
	defer nc.Close()
	in := bufio.NewReader(nc)
	for range n {
		io.WriteString(nc, "GET /api.php?action=map HTTP/1.1\r\nHost: game.test\r\n\r\n")
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			b.Error(err)
			return
		}
		io.Copy(io.Discard, resp.Body)
	}
}

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // cannot fail with these arguments
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
