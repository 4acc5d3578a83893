package migrate

import (
	"context"
	"strings"
	"time"

	"banyan/proxy"
	"banyan/proxy/capture"
	"banyan/proxy/event"
	"banyan/proxy/pending"
	"banyan/proxy/route"
	"banyan/proxy/stage"
	"banyan/proxy/wire"
)

// read is one read on its way.
type read struct {
	m      *Migration
	route  *ReadRoute
	name   string
	params map[string]string
	key    event.OrderingKey
	target string // at the candidate
	state  stage.State
	d      *route.Decision
	trace  traced
	why    string // legacy answers
}

func (h *Handler) read(x *proxy.Exchange, c *Config, d *route.Decision, i int) {
	m := c.Migrations[d.Routes[i].Migration]
	s := c.States(d.Routes[i].Migration)
	if m == nil || !s.Stage.Compares() {
		h.legacy(x, c)
		return
	}
	r := &read{m: m, name: d.Routes[i].Name, params: d.Params(i), state: s, d: d}
	if r.route = m.Reads[r.name]; r.route == nil { // the file names no path at the candidate
		h.legacy(x, c)
		return
	}
	if v, ok := h.player(c, d); ok {
		r.params["player"] = v // a declared parameter of that name cannot come from the client's bytes
	} else {
		delete(r.params, "player")
	}
	value := func(n string) (string, bool) { v, ok := r.params[n]; return v, ok }
	key, known := m.Key.Expand(value)
	target, askable := r.route.CandidateTarget.Expand(escaped(value))
	if !known || !askable {
		h.legacy(x, c)
		return
	}
	r.key, r.target = event.OrderingKey(key), target
	r.why = h.candidateMayAnswer(c, r)
	by := "candidate"
	if r.why != "" {
		by = "legacy"
	}
	r.trace = h.trace(x, c, m.Name, s, by)
	defer r.trace.end()
	if r.why == "" && h.byCandidate(x, c, r) {
		return
	}
	h.byLegacy(x, c, r)
}

// player is who the session belongs to, as legacy once said.
func (h *Handler) player(c *Config, d *route.Decision) (string, bool) {
	if c.Sessions.Cookie == "" || c.Sessions.Players == nil {
		return "", false
	}
	s, ok := d.Cookie(c.Sessions.Cookie)
	if !ok {
		return "", false
	}
	var hash [32]byte
	p := c.Sessions.Players.Player(view(c.Redact.AppendSession(hash[:0], s)))
	return p, p != ""
}

// candidateMayAnswer is "" or why legacy answers. Only reasons inside the share count as fallen back.
func (h *Handler) candidateMayAnswer(c *Config, r *read) string {
	if r.state.Stage != stage.Live || !r.state.Share.Chosen(r.key) {
		return notInShare
	}
	why := ""
	switch {
	case !c.Leased():
		why = "lease"
	case !c.Model.Serves(r.m.Name, r.key):
		why = "model"
	default:
		why = h.behind(c, r)
	}
	if why == "" && r.m.Allow != nil && !r.m.Allow() { // asked last: a yes is a turn to try, not to be wasted
		why = "breaker"
	}
	if why != "" {
		h.fellBack(c, r, why)
	}
	return why
}

const (
	notInShare = "share"
	// fellBackSeen: legacy has shown the session more than the read model holds.
	fellBackSeen = "seen"
)

// behind says whether the read model lacks something that the session wrote, or was shown by legacy. It waits for it for
// no longer than the route allows, and not at all if that is expected to be in vain.
func (h *Handler) behind(c *Config, r *read) string {
	ctx, patience := context.Background(), r.route.patience()
	until := time.Now().Add(patience)
	inVain := func(at time.Time) bool {
		return !at.IsZero() && c.Model.Expect(r.m.Name, r.key, at) > time.Until(until)
	}
	cookie, _ := r.d.Cookie(pending.Cookie)
	writes, at, all := pending.ParseTokens(string(cookie)).For(r.m.Name, r.key)
	switch {
	case !all:
		return "own_writes_unknown"
	case len(writes) == 0 || c.Model.Wait(ctx, r.m.Name, r.key, writes, 0):
	case inVain(at) || !c.Model.Wait(ctx, r.m.Name, r.key, writes, patience):
		return "own_writes"
	}
	seen, ok := sights(r.d).For(r.m.Name, r.key)
	if at = seen.At.Add(c.ClockError); !ok || !seen.Binds(time.Now()) || c.Model.Passed(ctx, r.m.Name, r.key, at, 0) {
		return ""
	}
	if inVain(at) || !c.Model.Passed(ctx, r.m.Name, r.key, at, time.Until(until)) {
		return fellBackSeen
	}
	return ""
}

func (h *Handler) fellBack(c *Config, r *read, why string) {
	h.Counters.FellBack.Add(1)
	c.Copies.FellBack(r.m.Name, r.name, why)
}

// byCandidate says whether the candidate answered the client.
func (h *Handler) byCandidate(x *proxy.Exchange, c *Config, r *read) bool {
	o := proxy.ForwardOptions{Target: []byte(r.target), Drop: []string{"cookie", "authorization"}, Repeatable: true,
		OnHead: func(_ *proxy.Exchange, a *wire.Response) proxy.Verdict {
			if a.Status() >= 500 {
				return proxy.Refuse
			}
			a.Add("Banyan-Served-By", []byte(capture.Candidate))
			return proxy.Pass
		}}
	if r.route.Repeatable && !x.Request.IsHead() && c.Copies.Room(r.m.Name, r.name, maxPairBody) {
		o.Capture = maxPairBody
	}
	res, err := x.Forward(r.m.Candidate, o)
	if err != nil && x.Answered() || res.ClientGone {
		if err != nil {
			x.Fail(err)
		}
		return true
	}
	if err != nil || res.Refused {
		why := "candidate_error"
		if err != nil {
			why = "candidate_" + res.Class.String()
		}
		h.fellBack(c, r, why)
		r.why = why
		return false
	}
	c.Copies.Served(r.m.Name, r.name, capture.Candidate, time.Since(x.Started()))
	if o.Capture > 0 {
		p := h.pair(x, c, r, capture.Candidate)
		p.Candidate = answer(x, r.target, &res)
		p.Legacy.Target = string(x.Request.Target())
		c.Copies.Offer(Read{Pair: p, Repeatable: true, Cookie: cookies(x), Host: string(x.Request.Field("host"))})
	}
	return true
}

func (h *Handler) byLegacy(x *proxy.Exchange, c *Config, r *read) {
	room := !x.Request.IsHead() && c.Copies.Room(r.m.Name, r.name, maxPairBody)
	o := proxy.ForwardOptions{DropCookie: pending.OurCookies + "*", OnHead: func(_ *proxy.Exchange, a *wire.Response) proxy.Verdict {
		learnFrom(c, a)
		if r.state.Stage == stage.Live {
			a.Add("Banyan-Served-By", []byte(capture.Legacy))
			if r.why != notInShare {
				r.shown(a)
			}
		}
		return proxy.Pass
	}}
	if room {
		o.Capture = maxPairBody
	}
	res, err := x.Forward(c.Legacy, o)
	if err != nil {
		x.Fail(err)
		return
	}
	c.Copies.Served(r.m.Name, r.name, capture.Legacy, time.Since(x.Started()))
	r.route.byLegacy(res.LastByte.Sub(res.Forwarded))
	if room && !res.ClientGone {
		p := h.pair(x, c, r, capture.Legacy)
		p.Legacy = answer(x, string(x.Request.Target()), &res)
		p.Candidate.Target = r.target
		c.Copies.Offer(Read{Pair: p, Repeatable: r.route.Repeatable})
	}
}

func (h *Handler) pair(x *proxy.Exchange, c *Config, r *read, by capture.Side) capture.Pair {
	return capture.Pair{V: capture.Version, ID: string(appendUUID(nil)), Migration: r.m.Name, Route: r.name, Key: r.key, Params: r.params, Stage: string(r.state.Stage),
		Served: by, Replica: c.Replica, Trace: string(r.trace.appendParent(nil))}
}

// answer copies what the exchange's buffers hold.
func answer(x *proxy.Exchange, target string, r *proxy.Result) capture.Answer {
	head := x.Response()
	a := capture.Answer{Target: target, Status: r.Status, ContentType: string(head.Field("content-type")), Encoding: string(head.Field("content-encoding")),
		Body: append([]byte(nil), r.Captured...), Length: r.BodyBytes, Start: r.Forwarded, End: r.LastByte}
	a.Before, a.After = Positions(string(head.Field("banyan-position")))
	a.Generation = Generation(string(head.Field("banyan-generation")))
	return a
}

// cookies are the client's but for our own.
func cookies(x *proxy.Exchange) string {
	var kept []string
	for c := range strings.SplitSeq(string(x.Request.Field("cookie")), ";") {
		if c = strings.TrimSpace(c); c != "" && !strings.HasPrefix(c, pending.OurCookies) {
			kept = append(kept, c)
		}
	}
	return strings.Join(kept, "; ")
}
