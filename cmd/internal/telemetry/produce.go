package telemetry

import (
	"context"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

const scope = "banyan"

var _ sdkmetric.Producer = (*Requests)(nil)

// Produce implements metric.Producer: the instruments of the request path.
func (r *Requests) Produce(context.Context) ([]metricdata.ScopeMetrics, error) {
	now := time.Now()
	all := *r.series.Load()
	server, client, decided := newSum[*points](), newSum[*points](), newSum[*int64]()
	for _, k := range keysOf(all) {
		s := all[k]
		r.addServer(server, k, &s.server)
		if k.upstream != "" {
			r.addClient(client, k, &s.client)
			n, _ := decided.at(r.decision(k), func() *int64 { return new(int64) })
			*n += int64(s.server.count())
		}
	}
	metrics := []metricdata.Metrics{
		{Name: "http.server.request.duration", Unit: "s", Description: "Duration of requests of clients, to the last byte of the answer.", Data: r.histogram(server, now)},
		{Name: "http.client.request.duration", Unit: "s", Description: "Duration of requests to upstreams, to the head of the answer.", Data: r.histogram(client, now)},
		{Name: "http.server.active_requests", Unit: "{request}", Description: "Requests of clients under way.", Data: r.underWay(now)},
		{Name: "banyan.route.decisions", Unit: "{decision}", Description: "Requests by the side that answered.", Data: r.decisions(decided, now)},
	}
	kept := metrics[:0]
	for _, m := range metrics {
		if m.Data != nil {
			kept = append(kept, m)
		}
	}
	return []metricdata.ScopeMetrics{{Scope: instrumentation.Scope{Name: scope}, Metrics: kept}}, nil
}

// count is the number of values.
func (h *histogram) count() (n uint64) {
	for i := range h.buckets {
		n += h.buckets[i].Load()
	}
	return n
}

// points is a histogram that several series add up to.
type points struct {
	buckets [len(bounds) + 1]uint64
	nanos   int64
}

func (p *points) add(h *histogram) {
	for i := range h.buckets {
		p.buckets[i] += h.buckets[i].Load()
	}
	p.nanos += h.nanos.Load()
}

// sum adds series up that have equal attributes, in the order in which they came.
type sum[T any] struct {
	order []attribute.Set
	of    map[attribute.Distinct]T
}

func newSum[T any]() *sum[T] { return &sum[T]{of: map[attribute.Distinct]T{}} }

func (s *sum[T]) at(set attribute.Set, fresh func() T) (v T, is bool) {
	d := set.Equivalent()
	if v, ok := s.of[d]; ok {
		return v, true
	}
	v = fresh()
	s.of[d] = v
	s.order = append(s.order, set)
	return v, false
}

func (r *Requests) addServer(to *sum[*points], k key, h *histogram) {
	kv := []attribute.KeyValue{attribute.String("http.request.method", methods[k.method]), attribute.String("url.scheme", "http"),
		attribute.String("network.protocol.version", "1.1")}
	if k.route != "" {
		kv = append(kv, attribute.String("http.route", k.route))
	}
	if info := (*r.routes.Load())[k.route]; info.Migration != "" {
		kv = append(kv, attribute.String("banyan.migration", info.Migration))
	}
	if k.status != 0 {
		kv = append(kv, attribute.Int("http.response.status_code", int(k.status)))
	}
	switch {
	case k.fault != 0:
		kv = append(kv, attribute.String("error.type", k.fault.String()))
	case k.status >= 500:
		kv = append(kv, attribute.String("error.type", strconv.Itoa(int(k.status))))
	}
	p, _ := to.at(attribute.NewSet(kv...), func() *points { return new(points) })
	p.add(h)
}

func (r *Requests) addClient(to *sum[*points], k key, h *histogram) {
	kv := []attribute.KeyValue{attribute.String("http.request.method", methods[k.method]),
		attribute.String("banyan.upstream.name", k.upstream), attribute.String("banyan.upstream.role", r.role(k.upstream))}
	if u := (*r.named.Load())[k.upstream]; u.Address != "" {
		kv = append(kv, attribute.String("server.address", u.Address))
		if u.Port != 0 {
			kv = append(kv, attribute.Int("server.port", u.Port))
		}
	}
	switch {
	case k.fault != 0 && k.fault < clientGone: // the status is ours
		kv = append(kv, attribute.String("error.type", k.fault.String()))
	case k.status != 0:
		kv = append(kv, attribute.Int("http.response.status_code", int(k.status)))
		if k.status >= 500 {
			kv = append(kv, attribute.String("error.type", strconv.Itoa(int(k.status))))
		}
	}
	p, _ := to.at(attribute.NewSet(kv...), func() *points { return new(points) })
	p.add(h)
}

// decision labels a series: which side answered, at which stage, and what decided it.
func (r *Requests) decision(k key) attribute.Set {
	info := (*r.routes.Load())[k.route]
	route, why := k.route, "static"
	switch {
	case k.route == "":
		route, why = "default", "default" // no route names it
	case k.stage == "live" && info.Read:
		why = "split"
	}
	kv := []attribute.KeyValue{attribute.String("banyan.route", route), attribute.String("banyan.target", r.role(k.upstream)),
		attribute.String("feature_flag.result.reason", why)}
	if k.stage != "" {
		kv = append(kv, attribute.String("banyan.stage", k.stage))
	}
	if info.Migration != "" {
		kv = append(kv, attribute.String("banyan.migration", info.Migration))
	}
	return attribute.NewSet(kv...)
}

func (r *Requests) histogram(s *sum[*points], now time.Time) metricdata.Aggregation {
	if len(s.order) == 0 {
		return nil
	}
	h := metricdata.Histogram[float64]{Temporality: metricdata.CumulativeTemporality}
	for _, set := range s.order {
		p := s.of[set.Equivalent()]
		d := metricdata.HistogramDataPoint[float64]{Attributes: set, StartTime: r.start, Time: now, Bounds: bounds[:],
			BucketCounts: p.buckets[:], Sum: time.Duration(p.nanos).Seconds()}
		for _, n := range p.buckets {
			d.Count += n
		}
		h.DataPoints = append(h.DataPoints, d)
	}
	return h
}

func (r *Requests) decisions(s *sum[*int64], now time.Time) metricdata.Aggregation {
	if len(s.order) == 0 {
		return nil
	}
	out := metricdata.Sum[int64]{Temporality: metricdata.CumulativeTemporality, IsMonotonic: true}
	for _, set := range s.order {
		out.DataPoints = append(out.DataPoints, metricdata.DataPoint[int64]{Attributes: set, StartTime: r.start, Time: now, Value: *s.of[set.Equivalent()]})
	}
	return out
}

func (r *Requests) underWay(now time.Time) metricdata.Aggregation {
	if !r.counts.Load() {
		return nil
	}
	return metricdata.Sum[int64]{Temporality: metricdata.CumulativeTemporality, DataPoints: []metricdata.DataPoint[int64]{
		{Attributes: attribute.NewSet(attribute.String("url.scheme", "http")), StartTime: r.start, Time: now, Value: r.active.Load()}}}
}
