package migrate

import (
	"log/slog"
	"sync"
	"sync/atomic"

	"banyan/proxy"
	"banyan/proxy/event"
	"banyan/proxy/journal"
	"banyan/proxy/pending"
	"banyan/proxy/route"
)

// Handler applies a [Config]. Swap replaces it while requests run.
type Handler struct {
	cfg atomic.Pointer[inForce]

	mu   sync.Mutex // guards gaps
	gaps map[event.Migration]*journal.Gap

	Counters Counters
}

// Counters are what became of requests, for metrics; each only grows.
type Counters struct {
	Unrouted, Plain, Writes, Reads  atomic.Int64
	Unclassified, Refused, GapOpens atomic.Int64
	Unrecorded                      atomic.Int64 // writes served by legacy without a record
	FellBack                        atomic.Int64
	LostOutcomes                    atomic.Int64 // the journal did not take an outcome: the write will be unknown
}

var _ proxy.Handler = (*Handler)(nil)

// New checks the config.
func New(c *Config) (*Handler, error) {
	h := &Handler{gaps: map[event.Migration]*journal.Gap{}}
	return h, h.Swap(c)
}

// Swap replaces routes and everything else at once; a bad config leaves the old one. Exchanges under way end with the
// config that they began with, whose Retired is called after the last of them.
func (h *Handler) Swap(c *Config) error {
	if err := c.Validate(); err != nil {
		return err
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if old := h.cfg.Swap(&inForce{Config: c}); old != nil {
		old.replaced.Store(true)
		old.mayEnd()
	}
	return nil
}

// decisions are reused: one is as large as a cache line or four, and a request in flight needs one.
var decisions = sync.Pool{New: func() any { return new(route.Decision) }}

// Serve implements proxy.Handler.
func (h *Handler) Serve(x *proxy.Exchange) {
	t := h.enter()
	defer t.leave() // a handler may panic
	c := t.Config
	if c.Table.Empty() {
		h.Counters.Unrouted.Add(1)
		h.legacy(x, c)
		return
	}
	d := decisions.Get().(*route.Decision)
	if p, plain := h.decide(x, c, d); plain {
		decisions.Put(d) // before: the connection may switch protocols, and stay for days
		h.pass(x, c, p)
		return
	}
	decisions.Put(d)
}

// decide finds the request's routes and serves it, but for one of a plain route.
func (h *Handler) decide(x *proxy.Exchange, c *Config, d *route.Decision) (p Plain, plain bool) {
	verdict, err := c.Table.Match(d, x.Request, nil, false)
	if err != nil {
		h.Counters.Refused.Add(1)
		x.Route = "refused"
		_ = x.Reply(400, nil, []byte("the request target is ambiguous\n")) // the client may be gone: nothing to do
		return Plain{}, false
	}
	if verdict == route.NeedBody {
		body, whole, err := x.Body(c.Inline)
		if err != nil {
			x.Fail(err)
			return Plain{}, false
		}
		if body == nil {
			body = []byte{}
		}
		if verdict, err = c.Table.Match(d, x.Request, body, whole); err != nil {
			x.Fail(err)
			return Plain{}, false
		}
	}
	if len(d.Maybe) > 0 && !h.unclassified(x, c, d) {
		return Plain{}, false
	}
	switch {
	case verdict != route.Matched:
		h.Counters.Unrouted.Add(1)
		h.page(x, c, d)
	case d.Routes[0].Kind == route.Plain:
		h.Counters.Plain.Add(1)
		x.Route = d.Routes[0].Label()
		return c.Plain[x.Route], true
	default:
		h.migrated(x, c, d)
	}
	return Plain{}, false
}

// migrated serves a request of one or more migrations. A write of any of them makes it a write.
func (h *Handler) migrated(x *proxy.Exchange, c *Config, d *route.Decision) {
	x.Route = d.Routes[0].Label()
	w := writes.Get().(*write)
	for i, r := range d.Routes {
		if r.Kind == route.Write {
			w.join(c, d, i)
		}
	}
	if len(w.parts) > 0 {
		h.Counters.Writes.Add(1)
		h.write(x, c, d, w)
		w.forget()
		writes.Put(w)
		return
	}
	writes.Put(w)
	for i, r := range d.Routes {
		if r.Kind == route.Read {
			h.Counters.Reads.Add(1)
			h.read(x, c, d, i)
			return
		}
	}
	h.legacy(x, c) // a write at stage off
}

// legacy passes a request to legacy as it is.
func (h *Handler) legacy(x *proxy.Exchange, c *Config) { h.pass(x, c, Plain{To: c.Legacy}) }

// pass forwards and hides nothing but our own cookie, and whatever asks for a protocol that the route does not name.
func (h *Handler) pass(x *proxy.Exchange, c *Config, p Plain) {
	o := proxy.ForwardOptions{Upgrade: p.Upgrade}
	if c.Model != nil {
		o.DropCookie = pending.OurCookies + "*"
	}
	o.OnHead = h.learn(c)
	if _, err := x.Forward(p.To, o); err != nil {
		x.Fail(err)
	}
}

// unclassified: the body is too large to tell which route it is. Every migration that it may be a write of has a gap,
// unless it would rather refuse the write; it says whether the request goes on.
func (h *Handler) unclassified(x *proxy.Exchange, c *Config, d *route.Decision) bool {
	h.Counters.Unclassified.Add(1)
	x.Route = "unclassified"
	for _, name := range d.Maybe {
		m := c.Migrations[name]
		if m == nil || !c.States(name).Stage.Writes() {
			continue
		}
		if m.FailClosed {
			_ = x.Reply(503, retryLater, []byte("the body is too large for this write to be recorded\n")) // the client may be gone
			return false
		}
		h.openGap(c, m)
	}
	return true
}
