package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	promexporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Config says who tells.
type Config struct {
	Service   string // "banyan-proxy", "banyan-shadow"
	Version   string // of the binary
	Instance  string // the replica
	Upstreams map[string]Upstream
	Log       *slog.Logger
	Getenv    func(string) string // default os.Getenv
}

// Provider is a process's telemetry.
type Provider struct {
	Requests *Requests // give it to proxy.NewServer as observer, and wrap the handler with its Active
	registry *prometheus.Registry
	meters   *sdkmetric.MeterProvider
	traces   *sdktrace.TracerProvider // nil: no span leaves the process
}

// New wires the SDK. Metrics are read by Prometheus from [Provider.Metrics]. Spans leave by OTLP over HTTP when
// OTEL_EXPORTER_OTLP_ENDPOINT (or …_TRACES_ENDPOINT) is set, sampled as OTEL_TRACES_SAMPLER says, by default all of
// them; without an endpoint there is no tracer. The resource is taken from OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME
// as well, which win.
func New(ctx context.Context, c Config) (*Provider, error) {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Getenv == nil {
		c.Getenv = os.Getenv
	}
	res, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(
		attribute.String("service.name", c.Service), attribute.String("service.version", c.Version), attribute.String("service.instance.id", c.Instance)),
		resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("telemetry: resource (check OTEL_RESOURCE_ATTRIBUTES): %w", err)
	}
	p := &Provider{Requests: NewRequests(c.Log, c.Upstreams), registry: prometheus.NewRegistry()}
	p.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})) // a new registry has neither
	reader, err := promexporter.New(promexporter.WithRegisterer(p.registry), promexporter.WithoutScopeInfo(), promexporter.WithProducer(p.Requests))
	if err != nil {
		return nil, fmt.Errorf("telemetry: metrics: %w", err)
	}
	p.meters = sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader), sdkmetric.WithResource(res))
	if c.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || c.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != "" {
		e, err := otlptracehttp.New(ctx)
		if err != nil {
			return nil, fmt.Errorf("telemetry: traces (check OTEL_EXPORTER_OTLP_ENDPOINT): %w", err)
		}
		p.traces = sdktrace.NewTracerProvider(sdktrace.WithResource(res), sdktrace.WithBatcher(&quiet{SpanExporter: e, log: c.Log}))
	}
	return p, nil
}

// Meter is for instruments; see [Register].
func (p *Provider) Meter() metric.Meter { return p.meters.Meter(scope) }

// Tracer is for spans; nil when none would leave the process.
func (p *Provider) Tracer() trace.Tracer {
	if p.traces == nil {
		return nil
	}
	return p.traces.Tracer(scope)
}

// Metrics answers Prometheus.
func (p *Provider) Metrics() http.Handler {
	return promhttp.HandlerFor(p.registry, promhttp.HandlerOpts{EnableOpenMetrics: true, MaxRequestsInFlight: 4, Timeout: 10 * time.Second})
}

// Stop sends what is left. Spans that cannot be sent before ctx ends are lost.
func (p *Provider) Stop(ctx context.Context) error {
	var err error
	if p.traces != nil {
		err = p.traces.Shutdown(ctx)
	}
	return errors.Join(err, p.meters.Shutdown(ctx))
}

// quiet says once that spans do not arrive, and once that they do again, where the SDK would print each failure to
// stderr by a global handler.
type quiet struct {
	sdktrace.SpanExporter
	log  *slog.Logger
	down atomic.Bool
	lost atomic.Int64
}

// ExportSpans implements trace.SpanExporter. What cannot be sent is dropped and counted.
func (q *quiet) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := q.SpanExporter.ExportSpans(ctx, spans)
	switch {
	case err != nil:
		q.lost.Add(int64(len(spans)))
		if !q.down.Swap(true) {
			q.log.Warn("spans do not arrive; requests are not affected", "error", err)
		}
	case q.down.Swap(false):
		q.log.Info("spans arrive again", "lost", q.lost.Swap(0))
	}
	return nil
}
