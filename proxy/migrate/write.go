package migrate

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"time"

	"banyan/proxy"
	"banyan/proxy/event"
	"banyan/proxy/journal"
	"banyan/proxy/pending"
	"banyan/proxy/route"
	"banyan/proxy/stage"
	"banyan/proxy/upstream"
	"banyan/proxy/wire"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// write is one write on its way: its parts are the migrations that record it.
type write struct {
	parts  []part
	params map[string]string // of the first part
	token  bool              // some migration is live: the session must read its own write
}

type part struct {
	m     *Migration
	route *WriteRoute
	name  string
	key   event.OrderingKey // "" while it is not known
	state stage.State
}

func (w *write) add(c *Config, r *route.Route, params map[string]string, s stage.State) {
	m := c.Migrations[r.Migration]
	if m == nil || !s.Stage.Writes() {
		return
	}
	key, ok := m.Key.Expand(func(n string) (string, bool) { v, ok := params[n]; return v, ok })
	if !ok {
		key = ""
	}
	if len(w.parts) == 0 {
		w.params = params
	}
	w.parts = append(w.parts, part{m, m.Writes[r.Name], r.Name, event.OrderingKey(key), s})
	w.token = w.token || s.Stage == stage.Live
}

func (w *write) addresses() []event.Address {
	out := make([]event.Address, len(w.parts))
	for i, p := range w.parts {
		out[i] = event.Address{Migration: p.m.Name, Key: p.key, Primary: i == 0}
	}
	return out
}

// buffers hold journal payloads while they are encoded.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

func (h *Handler) write(x *proxy.Exchange, c *Config, d *route.Decision, w *write) {
	body, whole, err := x.Body(c.Inline)
	if err != nil {
		x.Fail(err)
		return
	}
	span := h.span(x, c, d, w.parts[0].m.Name, w.parts[0].state, "legacy")
	defer span.End()
	in := h.intent(x, c, d, w, body, whole, span)
	seq, err := h.record(c, w, &in)
	if err != nil {
		if !h.unrecorded(c, w, err) {
			_ = x.Reply(503, retryLater, []byte("writes cannot be recorded at the moment\n")) // the client may be gone
			return
		}
		h.legacy(x, c)
		return
	}
	id := event.WriteID{Replica: c.Replica, Epoch: event.Epoch(c.Journal.Epoch()), Seq: event.Seq(seq)}
	h.forwardWrite(x, c, d, w, id, journal.Seq(seq))
}

func (h *Handler) intent(x *proxy.Exchange, c *Config, d *route.Decision, w *write, body []byte, whole bool, span trace.Span) event.Intent {
	r := x.Request
	contentType := string(r.Field("content-type"))
	in := event.Intent{UUID: uuidV7(), Route: w.parts[0].name, Addresses: w.addresses(), Method: string(r.Method()), Host: string(r.Host()),
		Target: string(c.Redact.Target(r.Target())), ContentType: contentType, Params: w.params, BodyLength: int64(len(body)), Trace: traceparent(span), At: time.Now()}
	if whole {
		in.Body = c.Redact.Body(contentType, body)
	} else {
		in.BodyLength = -1
	}
	if name := c.Sessions.Cookie; name != "" {
		if s, ok := d.Cookie(name); ok {
			in.Session = c.Redact.Session(s)
			if c.Sessions.Players != nil {
				in.Player = c.Sessions.Players.Player(in.Session)
			}
		}
	}
	return in
}

// record appends the intent, and ends a gap that was open.
func (h *Handler) record(c *Config, w *write, in *event.Intent) (journal.Seq, error) {
	b := buffers.Get().(*[]byte)
	*b = in.Append((*b)[:0])
	seq, err := c.Journal.AppendIntent(journal.Intent{Payload: *b, Ack: c.Ack, Key: in.Addresses})
	buffers.Put(b)
	if err == nil {
		h.mu.Lock()
		open := len(h.gaps) > 0
		h.mu.Unlock()
		if open {
			for _, p := range w.parts {
				h.closeGap(c, p.m)
			}
		}
	}
	return seq, err
}

// unrecorded says whether the write may go on without a record. The strictest migration decides.
func (h *Handler) unrecorded(c *Config, w *write, cause error) bool {
	for _, p := range w.parts {
		if p.m.FailClosed {
			c.Log.Error("a write is refused: it cannot be recorded, and the migration is fail_closed", "migration", p.m.Name, "error", cause)
			return false
		}
	}
	for _, p := range w.parts {
		h.openGap(c, p.m) // of each; legacy serves on also while the journal takes nothing at all
	}
	return true
}

func (h *Handler) forwardWrite(x *proxy.Exchange, c *Config, d *route.Decision, w *write, id event.WriteID, seq journal.Seq) {
	idText := id.AppendText(make([]byte, 0, 64))
	capture := 0
	for _, p := range w.parts {
		if p.route.NeedBody {
			capture = maxAppliedBody
		}
	}
	ended := false
	o := proxy.ForwardOptions{Add: []wire.Pair{{Name: "Banyan-Write", Value: idText}}, Capture: capture, IgnoreClientGone: true, DropCookie: pending.OurCookies + "*",
		OnHead: func(x *proxy.Exchange, r *wire.Response) proxy.Verdict {
			learnFrom(c, r)
			if w.token {
				r.Add("Set-Cookie", ownWrites(d, w, id))
			}
			return proxy.Pass
		},
		BeforeEnd: func(x *proxy.Exchange, r *proxy.Result) {
			ended = true
			h.outcome(c, seq, decide(x, c, w, r))
		}}
	res, err := x.Forward(c.Legacy, o)
	if !ended {
		h.outcome(c, seq, undecided(&res, err))
	}
	if err != nil {
		x.Fail(err)
	}
}

// ownWrites is the Set-Cookie value that lets the session wait for what it just wrote.
func ownWrites(d *route.Decision, w *write, id event.WriteID) []byte {
	old, _ := d.Cookie(pending.Cookie)
	t, now := pending.ParseTokens(old), time.Now()
	for _, p := range w.parts {
		if p.state.Stage != stage.Live {
			continue
		}
		key := p.key
		if key == "" {
			key = pending.AnyKey
		}
		t = t.Add(pending.Token{Migration: p.m.Name, Key: key, Write: id, At: now})
	}
	return []byte(pending.Cookie + "=" + t.String() + "; Path=/; Max-Age=300; HttpOnly; SameSite=Lax")
}

// decide judges a whole answer by the route's rule.
func decide(x *proxy.Exchange, c *Config, w *write, r *proxy.Result) event.Result {
	head := x.Response()
	out := event.Result{Outcome: event.Rejected, Reason: "rule", Status: r.Chosen, Location: string(head.Field("location")), BodyLength: r.BodyBytes,
		ClientGone: r.ClientGone, Forwarded: r.Forwarded, End: r.LastByte}
	applied, err := w.parts[0].route.Applied.True(map[string]any{
		"status": r.Chosen, "body": string(r.Captured), "params": w.params, "json": jsonObject(w.parts[0].route.NeedBody, r.Captured),
		"header": func(name string) string { return string(head.Field(strings.ToLower(name))) },
	})
	switch {
	case err != nil: // the rule cannot tell: the change log will
		c.Log.Warn("the rule for applied cannot be evaluated; the write is unknown", "route", w.parts[0].name, "error", err)
		out.Outcome, out.Reason = event.Unknown, "rule failed"
	case applied:
		out.Outcome = event.Applied
	}
	return out
}

func jsonObject(needed bool, body []byte) map[string]any {
	m := map[string]any{}
	if needed {
		_ = json.Unmarshal(body, &m) // no JSON: an empty object, so that a rule can ask for a field and get nil
		if m == nil {
			m = map[string]any{}
		}
	}
	return m
}

// undecided is the outcome of a write without a whole answer.
func undecided(r *proxy.Result, err error) event.Result {
	out := event.Result{Outcome: event.Unknown, Reason: "cut", Status: r.Chosen, ClientGone: r.ClientGone, Forwarded: r.Forwarded, End: time.Now()}
	if r.Class != upstream.OK {
		out.Reason = r.Class.String()
	}
	if !r.Sent && err != nil {
		out.Outcome, out.Reason = event.Rejected, "unsent: "+out.Reason
	}
	return out
}

func (h *Handler) outcome(c *Config, seq journal.Seq, r event.Result) {
	b := buffers.Get().(*[]byte)
	*b = r.Append((*b)[:0])
	_, err := c.Journal.AppendOutcome(seq, journal.Outcome{Payload: *b})
	buffers.Put(b)
	if err != nil && !errors.Is(err, journal.ErrNotInFlight) {
		h.Counters.LostOutcomes.Add(1)
		c.Log.Error("an outcome cannot be recorded; the write will be unknown", "seq", seq, "error", err)
	}
}

// span starts the server span of a migration's request and fills the exchange's trace slots.
func (h *Handler) span(x *proxy.Exchange, c *Config, d *route.Decision, m event.Migration, s stage.State, variant string) trace.Span {
	ctx := remoteParent(x)
	_, span := c.Tracer.Start(ctx, string(x.Request.Method())+" "+x.Route, trace.WithSpanKind(trace.SpanKindServer))
	sc := span.SpanContext()
	x.TraceID, x.SpanID = sc.TraceID(), sc.SpanID()
	if span.IsRecording() {
		span.SetAttributes(attribute.String("http.route", x.Route), attribute.String("banyan.migration", string(m)), attribute.String("banyan.stage", string(s.Stage)))
		span.AddEvent("feature_flag.evaluation", trace.WithAttributes(attribute.String("feature_flag.key", x.Route), attribute.String("feature_flag.provider.name", "banyan"),
			attribute.String("feature_flag.result.variant", string(s.Stage)), attribute.String("banyan.target", variant)))
	}
	return span
}

// traceparent gives the write a trace of its own where nobody exports spans: it ties the log lines and records of all
// roles together.
func traceparent(s trace.Span) string {
	sc := s.SpanContext()
	if !sc.IsValid() {
		var b [24]byte
		_, _ = rand.Read(b[:]) // never fails
		return "00-" + hex.EncodeToString(b[:16]) + "-" + hex.EncodeToString(b[16:]) + "-00"
	}
	return "00-" + sc.TraceID().String() + "-" + sc.SpanID().String() + "-" + sc.TraceFlags().String()
}

func uuidV7() string {
	id, err := uuid.NewV7()
	if err != nil {
		id = uuid.New() // no randomness for a moment: still unique
	}
	return id.String()
}
