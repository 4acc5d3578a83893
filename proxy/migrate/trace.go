package migrate

import (
	"context"

	"banyan/proxy"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

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
