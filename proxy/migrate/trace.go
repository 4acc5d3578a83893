package migrate

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"

	"banyan/proxy"
	"banyan/proxy/event"
	"banyan/proxy/stage"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// traced is the place of a migration's request in a trace. It has one also where nobody exports spans: that ties the log
// lines and records of all roles together.
type traced struct {
	span  trace.Span // nil without a tracer
	trace trace.TraceID
	id    trace.SpanID
	flags trace.TraceFlags
}

// trace starts the server span of a migration's request, if there is a tracer, and fills the exchange's trace slots.
func (h *Handler) trace(x *proxy.Exchange, c *Config, m event.Migration, s stage.State, variant string) traced {
	var t traced
	ctx := remoteParent(x)
	sc := trace.SpanContextFromContext(ctx)
	if c.Tracer != nil {
		_, t.span = c.Tracer.Start(ctx, string(x.Request.Method())+" "+x.Route, trace.WithSpanKind(trace.SpanKindServer))
		sc = t.span.SpanContext()
		t.id = sc.SpanID()
		if t.span.IsRecording() {
			t.span.SetAttributes(attribute.String("http.route", x.Route), attribute.String("banyan.migration", string(m)), attribute.String("banyan.stage", string(s.Stage)))
			t.span.AddEvent("feature_flag.evaluation", trace.WithAttributes(attribute.String("feature_flag.key", x.Route), attribute.String("feature_flag.provider.name", "banyan"),
				attribute.String("feature_flag.result.variant", string(s.Stage)), attribute.String("banyan.target", variant)))
		}
	} else {
		sc = sc.WithTraceFlags(sc.TraceFlags() &^ trace.FlagsSampled) // our span is not in it
	}
	t.trace, t.flags = sc.TraceID(), sc.TraceFlags()
	for !t.trace.IsValid() {
		binary.NativeEndian.PutUint64(t.trace[:8], rand.Uint64())
		binary.NativeEndian.PutUint64(t.trace[8:], rand.Uint64())
	}
	for !t.id.IsValid() {
		binary.NativeEndian.PutUint64(t.id[:], rand.Uint64())
	}
	x.TraceID, x.SpanID = t.trace, t.id
	return t
}

func (t *traced) end() {
	if t.span != nil {
		t.span.End()
	}
}

const traceparentForm = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-00"

// appendParent appends the request's place in W3C's form of a traceparent.
func (t *traced) appendParent(b []byte) []byte {
	b = append(hex.AppendEncode(append(b, "00-"...), t.trace[:]), '-')
	b = append(hex.AppendEncode(b, t.id[:]), '-')
	return hex.AppendEncode(b, []byte{byte(t.flags)})
}

// appendUUID appends a UUID of version 7 (RFC 9562, 5.7).
func appendUUID(b []byte) []byte {
	id := uuid.Must(uuid.NewV7()) // it fails without randomness, which the system always has
	for i, group := range [][]byte{id[:4], id[4:6], id[6:8], id[8:10], id[10:]} {
		if i > 0 {
			b = append(b, '-')
		}
		b = hex.AppendEncode(b, group)
	}
	return b
}

var w3c = propagation.TraceContext{}

// remoteParent continues a trusted peer's trace; anybody else's would let clients write into our traces.
func remoteParent(x *proxy.Exchange) context.Context {
	if !x.Trusted() {
		return context.Background()
	}
	tp := x.Request.Field("traceparent")
	if tp == nil {
		return context.Background()
	}
	ctx := w3c.Extract(context.Background(), propagation.MapCarrier{"traceparent": string(tp), "tracestate": string(x.Request.Field("tracestate"))})
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return context.Background()
	}
	return ctx
}
