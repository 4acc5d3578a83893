package telemetry

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

type kind uint8

const (
	counter kind = iota
	gauge
	duration // a histogram of seconds
)

// instrument is a name, what it means, and the attributes that every value of it has, in order.
type instrument struct {
	name  string
	kind  kind
	unit  string
	about string
	attrs []string
}

const (
	aMigration  = "banyan.migration"
	aRoute      = "banyan.route"
	aComparison = "banyan.comparison"
	aOutcome    = "banyan.outcome"
	aSurface    = "banyan.surface"
	aUpstream   = "banyan.upstream.name"
	aInstance   = "banyan.upstream.instance" // its address, as configured
	aPartition  = "messaging.destination.partition.id"
)

// instruments are all there are beside those of [Requests]. The unit of a gauge that is no ratio is never "1": the
// exporter would call it one.
var instruments = []instrument{
	{"http.client.open_connections", gauge, "{connection}", "Connections to an upstream.", []string{aUpstream, "http.connection.state"}},
	{"banyan.upstream.instance.state", gauge, "", "State of an instance: 3 up, 2 draining, 1 ejected, 0 unhealthy.", []string{aUpstream, aInstance}},
	{"banyan.upstream.instance.active_requests", gauge, "{request}", "Requests under way at an instance.", []string{aUpstream, aInstance}},
	{"banyan.upstream.instance.requests", counter, "{request}", "Requests that an instance was chosen for.", []string{aUpstream, aInstance}},
	{"banyan.upstream.instance.failures", counter, "{request}", "Requests that an instance failed, as its ejection counts them.", []string{aUpstream, aInstance}},
	{"banyan.upstream.instance.ejections", counter, "{ejection}", "Times that an instance was left alone because it failed.", []string{aUpstream, aInstance}},
	{"banyan.upstream.sessions", gauge, "{session}", "Sessions that are bound to an instance.", []string{aUpstream, aInstance}},
	{"banyan.upstream.sessions.moved", counter, "{session}", "Sessions that went elsewhere because this instance, which holds them, was away.", []string{aUpstream, aInstance}},
	{"banyan.upstream.sessions.placed", counter, "{session}", "Sessions that came with an id that this proxy did not know, and were placed by its hash.", []string{aUpstream}},
	{"banyan.upstream.sessions.forgotten", counter, "{session}", "Sessions that were forgotten before their time because there were too many.", []string{aUpstream}},
	{"banyan.upstream.queue.size", gauge, "{request}", "Requests that wait for an instance.", []string{aUpstream}},
	{"banyan.upstream.queue.turned_away", counter, "{request}", "Requests that waited in vain, by reason: full, late, client_gone.", []string{aUpstream, "banyan.reason"}},
	{"banyan.upstream.breaker.open", gauge, "", "1 while the breaker is open and legacy answers instead.", []string{aUpstream}},
	{"banyan.server.connections", gauge, "{connection}", "Connections of clients.", nil},
	{"banyan.server.refused", counter, "{connection}", "Connections refused because there were too many.", nil},
	{"banyan.server.client.refused", counter, "{connection}", "Connections refused because their client had too many.", nil},
	{"banyan.server.proxy_header.failures", counter, "{connection}", "Connections closed because their PROXY header was missing or wrong.", nil},
	{"banyan.server.tunnels", gauge, "{connection}", "Connections of clients that have switched protocols (WebSocket) and are open.", nil},
	{"banyan.server.tunnels.ended", counter, "{connection}", "Connections that had switched protocols and have ended.", nil},
	{"banyan.server.tunnels.duration", counter, "s", "Time for which those that have ended were open, in all. Their requests' duration ends with the 101.", nil},
	{"banyan.server.tunnels.io", counter, "By", "Bytes through connections that have switched protocols, as the proxy's clients send (receive) and get (transmit) them.", []string{"network.io.direction"}},
	{"banyan.server.buffered", gauge, "By", "Memory of bodies that are held for routes, and of what HTTP/2 clients may send ahead.", nil},
	{"banyan.server.buffered.overflows", counter, "{request}", "Bodies that were not held because others took all the memory for it.", nil},

	{"banyan.route.requests", counter, "{request}", "Requests by what the routes say of them.", []string{"banyan.route.kind"}},
	{"banyan.route.fallbacks", counter, "{read}", "Reads in the candidate's share that legacy had to answer.", []string{aMigration, aRoute, "banyan.fallback.reason"}},
	{"banyan.route.weight", gauge, "1", "Share of ordering keys whose reads the candidate answers.", []string{aMigration, "banyan.target", "banyan.weight.kind"}},
	{"banyan.migration.stage", gauge, "", "Stage: 0 off, 1 dualwrite, 2 shadow, 3 live.", []string{aMigration}},

	{"banyan.config.reload", counter, "{reload}", "Reloads of the configuration, by outcome: applied, unchanged, bad, refused.", []string{aOutcome}},
	{"banyan.config.last_reload.success", gauge, "", "1 while the file that was read last serves, 0 while an older one does because that one has errors or was refused.", nil},
	{"banyan.config.revision", gauge, "{revision}", "How many configurations have served since the start.", nil},

	{"banyan.journal.backlog", gauge, "{record}", "Records that Kafka has not acknowledged.", nil},
	{"banyan.journal.oldest.age", gauge, "s", "Age of the oldest write without an outcome.", nil},
	{"banyan.journal.in_flight", gauge, "{write}", "Writes without an outcome.", nil},
	{"banyan.journal.size", gauge, "By", "Bytes on the disk.", nil},
	{"banyan.journal.writable", gauge, "", "1 while the journal takes records, 0 when it is full or has failed.", nil},
	{"banyan.journal.gaps.open", gauge, "{gap}", "Migrations whose writes are not being recorded.", nil},
	{"banyan.journal.gaps", counter, "{gap}", "Gaps that were opened.", nil},
	{"banyan.journal.unrecorded", counter, "{write}", "Writes that legacy served without a record.", nil},
	{"banyan.journal.lost_outcomes", counter, "{write}", "Writes whose outcome could not be recorded.", nil},
	{"banyan.journal.fsync.duration", duration, "s", "Duration of a flush to the disk.", nil},

	{"banyan.pairs.requests", counter, "{request}", "Reads by what became of their pair.", []string{aMigration, aRoute, aOutcome, "banyan.drop.reason"}},
	{"banyan.pairs.queue.size", gauge, "{request}", "Reads that wait for the other side.", nil},
	{"banyan.pairs.queue.usage", gauge, "By", "Bytes of answers that wait.", nil},

	{"banyan.events.published", counter, "{event}", "Domain events published.", []string{aMigration, "cloudevents.event_type", "banyan.schema.version"}},
	{"banyan.events.rejected", counter, "{event}", "Entries and events that parked their key.", []string{aMigration, "banyan.reason"}},
	{"banyan.compare.results", counter, "{comparison}", "Comparisons by result.", []string{aMigration, aComparison, aOutcome, aSurface}},
	{"banyan.findings.open", gauge, "{finding}", "Findings that are open or reopened.", []string{aMigration, aComparison, "banyan.finding.class", "banyan.finding.cause"}},
	{"banyan.projection.staleness", gauge, "s", "Age of the newest state that a read model holds completely.", []string{aMigration, aPartition}},
	{"banyan.kafka.consumer.lag", gauge, "{record}", "Records that a consumer group has not read.",
		[]string{"messaging.consumer.group.name", "messaging.destination.name", aPartition}},
	{"banyan.cutover.gate.state", gauge, "", "A gate of the next stage: 1 pass, 0 fail, -1 not enough data.", []string{aMigration, "banyan.stage", "banyan.gate"}},
}

// Value is one number and its attributes' values, in the order of the instrument.
type Value struct {
	N      float64
	Labels []string
}

// One is an instrument's only value.
func One[N int | int32 | int64 | uint64 | float64](n N) []Value { return []Value{{N: float64(n)}} }

// Values reads an instrument; it is called once per scrape and has a few seconds.
type Values func(ctx context.Context) []Value

func lookup(name string, kinds ...kind) (instrument, error) {
	i := slices.IndexFunc(instruments, func(i instrument) bool { return i.name == name })
	if i < 0 || !slices.Contains(kinds, instruments[i].kind) {
		return instrument{}, fmt.Errorf("telemetry: no instrument %q of that kind", name)
	}
	return instruments[i], nil
}

// set gives the attributes of a value; a value with the wrong number of them is left out by its caller.
func (i *instrument) set(labels []string) (attribute.Set, bool) {
	if len(labels) != len(i.attrs) {
		return attribute.Set{}, false
	}
	kv := make([]attribute.KeyValue, 0, len(labels))
	for n, l := range labels {
		if l != "" {
			kv = append(kv, attribute.String(i.attrs[n], l))
		}
	}
	return attribute.NewSet(kv...), true
}

// Observe registers a counter's or gauge's source.
func (p *Provider) Observe(name string, read Values) error {
	in, err := lookup(name, counter, gauge)
	if err != nil {
		return err
	}
	callback := func(ctx context.Context, o metric.Float64Observer) error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		for _, v := range read(ctx) {
			if set, ok := in.set(v.Labels); ok {
				o.Observe(v.N, metric.WithAttributeSet(set))
			}
		}
		return nil
	}
	if in.kind == counter {
		_, err = p.Meter().Float64ObservableCounter(in.name, metric.WithUnit(in.unit), metric.WithDescription(in.about), metric.WithFloat64Callback(callback))
	} else {
		_, err = p.Meter().Float64ObservableGauge(in.name, metric.WithUnit(in.unit), metric.WithDescription(in.about), metric.WithFloat64Callback(callback))
	}
	if err != nil {
		return fmt.Errorf("telemetry: %s: %w", name, err)
	}
	return nil
}

// secondsBounds fit a flush to the disk as well as a slow projection.
var secondsBounds = []float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30}

// Duration gives the function that records one of the durations. It is not for the request path: see [Requests].
func (p *Provider) Duration(name string) (func(d time.Duration, labels ...string), error) {
	in, err := lookup(name, duration)
	if err != nil {
		return nil, err
	}
	h, err := p.Meter().Float64Histogram(in.name, metric.WithUnit(in.unit), metric.WithDescription(in.about), metric.WithExplicitBucketBoundaries(secondsBounds...))
	if err != nil {
		return nil, fmt.Errorf("telemetry: %s: %w", name, err)
	}
	return func(d time.Duration, labels ...string) {
		if set, ok := in.set(labels); ok {
			h.Record(context.Background(), d.Seconds(), metric.WithAttributeSet(set))
		}
	}, nil
}
