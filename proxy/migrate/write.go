package migrate

import (
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"banyan/proxy"
	"banyan/proxy/event"
	"banyan/proxy/journal"
	"banyan/proxy/pending"
	"banyan/proxy/route"
	"banyan/proxy/stage"
	"banyan/proxy/upstream"
	"banyan/proxy/wire"
)

// write is one write on its way: its parts are the migrations that record it. Its memory is used again for another one
// once it is over, and so is all that it holds but for the addresses, which the journal hands on.
type write struct {
	parts  []part
	params map[string]string // of the first part; views, see [route.Decision.View]
	other  map[string]string // those of the others, one after another
	token  bool              // some migration is live: the session must read its own write

	h     *Handler
	c     *Config
	d     *route.Decision
	seq   journal.Seq
	id    event.WriteID
	ended bool // the outcome is recorded

	head *wire.Response // of the answer, while its rule is evaluated
	env  map[string]any // for the rule, see AnswerEnv in package config

	// What texts are made of: views of them stand in the intent.
	uuid    [36]byte
	parent  [len(traceparentForm)]byte
	session [32]byte
	idText  []byte
	add     [1]wire.Pair
}

type part struct {
	m     *Migration
	route *WriteRoute
	name  string
	key   event.OrderingKey // "" while it is not known
	state stage.State
}

var writes = sync.Pool{New: func() any {
	w := &write{params: map[string]string{}, other: map[string]string{}}
	w.env = map[string]any{"status": 0, "body": "", "params": w.params, "json": noJSON, "header": func(name string) string { return string(w.head.Field(strings.ToLower(name))) }}
	return w
}}

// forget leaves nothing of a request but memory.
func (w *write) forget() {
	clear(w.parts)
	clear(w.params)
	clear(w.other)
	w.parts, w.token = w.parts[:0], false
	w.h, w.c, w.d, w.head, w.ended = nil, nil, nil, nil, false
	w.env["body"], w.env["json"] = "", noJSON
}

// join adds the migration of the i-th route, if it records writes.
func (w *write) join(c *Config, d *route.Decision, i int) {
	r := d.Routes[i]
	m := c.Migrations[r.Migration]
	if m == nil {
		return
	}
	s := c.States(r.Migration)
	if !s.Stage.Writes() {
		return
	}
	params := w.params
	if len(w.parts) > 0 {
		params = w.other
	}
	d.View(params, i)
	key, ok := m.Key.Expand(func(n string) (string, bool) { v, ok := params[n]; return v, ok })
	if !ok {
		key = ""
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

// view is b as a string without a copy: for what is read before b changes, and kept by nobody.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// buffers hold journal payloads while they are encoded.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

func (h *Handler) write(x *proxy.Exchange, c *Config, d *route.Decision, w *write) {
	body, whole, err := x.Body(c.Inline)
	if err != nil {
		x.Fail(err)
		return
	}
	w.h, w.c, w.d = h, c, d
	t := h.trace(x, c, w.parts[0].m.Name, w.parts[0].state, "legacy")
	defer t.end()
	w.seq, err = w.record(x, body, whole, t)
	if err != nil {
		if !h.unrecorded(c, w, err) {
			_ = x.Reply(503, retryLater, []byte("writes cannot be recorded at the moment\n")) // the client may be gone
			return
		}
		h.legacy(x, c)
		return
	}
	w.id = event.WriteID{Replica: c.Replica, Epoch: event.Epoch(c.Journal.Epoch()), Seq: event.Seq(w.seq)}
	w.forward(x)
}

// record appends the intent, and ends a gap that was open. The intent is made of views: nothing of it but its addresses
// is there for longer than this.
func (w *write) record(x *proxy.Exchange, body []byte, whole bool, t traced) (journal.Seq, error) {
	r, c := x.Request, w.c
	contentType := view(r.Field("content-type"))
	in := event.Intent{UUID: view(appendUUID(w.uuid[:0])), Route: w.parts[0].name, Addresses: w.addresses(), Method: view(r.Method()), Host: view(r.Host()),
		Target: view(c.Redact.Target(r.Target())), ContentType: contentType, Params: w.params, BodyLength: int64(len(body)), Trace: view(t.appendParent(w.parent[:0])), At: time.Now()}
	if whole {
		in.Body = c.Redact.Body(contentType, body)
	} else {
		in.BodyLength = -1
	}
	if name := c.Sessions.Cookie; name != "" {
		if s, ok := w.d.Cookie(name); ok {
			in.Session = view(c.Redact.AppendSession(w.session[:0], s))
			if c.Sessions.Players != nil {
				in.Player = c.Sessions.Players.Player(in.Session)
			}
		}
	}
	b := buffers.Get().(*[]byte)
	*b = in.Append((*b)[:0])
	seq, err := c.Journal.AppendIntent(journal.Intent{Payload: *b, Ack: c.Ack, Key: in.Addresses})
	buffers.Put(b)
	if err == nil && w.h.gapOpen() {
		for _, p := range w.parts {
			w.h.closeGap(c, p.m)
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

func (w *write) forward(x *proxy.Exchange) {
	w.idText = w.id.AppendText(w.idText[:0])
	w.add[0] = wire.Pair{Name: "Banyan-Write", Value: w.idText}
	capture := 0
	for _, p := range w.parts {
		if p.route.NeedBody {
			capture = maxAppliedBody
		}
	}
	x.Slot = w
	res, err := x.Forward(w.c.Legacy, proxy.ForwardOptions{Add: w.add[:], Capture: capture, IgnoreClientGone: true, DropCookie: pending.OurCookies + "*", OnHead: writeHead, BeforeEnd: writeEnd})
	x.Slot = nil
	if !w.ended {
		w.h.outcome(w.c, w.seq, undecided(&res, err))
	}
	if err != nil {
		x.Fail(err)
	}
}

// writeHead sees the head of the answer to the write in the exchange's slot.
func writeHead(x *proxy.Exchange, r *wire.Response) proxy.Verdict {
	w := x.Slot.(*write)
	learnFrom(w.c, r)
	if w.token {
		r.Add("Set-Cookie", ownWrites(w.d, w, w.id))
	}
	return proxy.Pass
}

// writeEnd records the outcome before the answer's end is released.
func writeEnd(x *proxy.Exchange, r *proxy.Result) {
	w := x.Slot.(*write)
	w.ended = true
	w.h.outcome(w.c, w.seq, w.decide(x, r))
}

// ownWrites is the Set-Cookie value that lets the session wait for what it just wrote.
func ownWrites(d *route.Decision, w *write, id event.WriteID) []byte {
	old, _ := d.Cookie(pending.Cookie)
	t, now := pending.ParseTokens(string(old)), time.Now()
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

// decide judges a whole answer by the route's rule. The result holds views of the answer's head.
func (w *write) decide(x *proxy.Exchange, r *proxy.Result) event.Result {
	w.head = x.Response()
	out := event.Result{Outcome: event.Rejected, Reason: "rule", Status: r.Chosen, Location: view(w.head.Field("location")), BodyLength: r.BodyBytes,
		ClientGone: r.ClientGone, Forwarded: r.Forwarded, End: r.LastByte}
	applied, err := w.applied(r)
	switch {
	case err != nil: // the rule cannot tell: the change log will
		w.c.Log.Warn("the rule for applied cannot be evaluated; the write is unknown", "route", w.parts[0].name, "error", err)
		out.Outcome, out.Reason = event.Unknown, "rule failed"
	case applied:
		out.Outcome = event.Applied
	}
	return out
}

// applied is what the route's rule says. Most rules look at the status alone, and say the same of it each time.
func (w *write) applied(r *proxy.Result) (bool, error) {
	p := w.parts[0].route
	only := p.Applied.Only("status")
	if only {
		if v, known := p.verdicts.of(r.Chosen); known {
			return v, nil
		}
	}
	w.env["status"] = r.Chosen
	if p.NeedBody {
		w.env["body"], w.env["json"] = string(r.Captured), jsonObject(r.Captured)
	}
	v, err := p.Applied.True(w.env)
	if only && err == nil {
		p.verdicts.learn(r.Chosen, v)
	}
	return v, err
}

// noJSON is for rules that ask for none. Nobody writes to it.
var noJSON = map[string]any{}

func jsonObject(body []byte) map[string]any {
	m := map[string]any{}
	_ = json.Unmarshal(body, &m) // no JSON: an empty object, so that a rule can ask for a field and get nil
	if m == nil {
		return noJSON
	}
	return m
}

// verdicts are what a rule said of answers that are told apart by their status alone. The zero value knows none.
type verdicts struct{ known, applied [10]atomic.Uint64 }

func (v *verdicts) of(status int) (applied, known bool) {
	i, bit := uint(status)/64, uint64(1)<<(uint(status)%64)
	if i >= uint(len(v.known)) || v.known[i].Load()&bit == 0 {
		return false, false
	}
	return v.applied[i].Load()&bit != 0, true
}

// learn notes the verdict first, and then that there is one.
func (v *verdicts) learn(status int, applied bool) {
	i, bit := uint(status)/64, uint64(1)<<(uint(status)%64)
	if i >= uint(len(v.known)) {
		return
	}
	if applied {
		v.applied[i].Or(bit)
	}
	v.known[i].Or(bit)
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
