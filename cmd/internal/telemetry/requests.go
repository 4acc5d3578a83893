package telemetry

import (
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"banyan/proxy"
	"banyan/proxy/upstream"
)

// Requests counts what the request path did. It is a [proxy.Observer] that allocates nothing once it has seen a kind
// of request, and a source of metrics ([Requests.Produce]).
//
// The SDK's own histogram takes 1.4 us per record, three instruments would take more than the whole of what a request
// may cost; so one series per kind of request is kept here in plain atomics, and every instrument is a sum over series.
type Requests struct {
	named  atomic.Pointer[map[string]Upstream]
	log    *slog.Logger
	counts atomic.Bool // requests under way are counted
	active atomic.Int64
	routes atomic.Pointer[map[string]RouteInfo]
	series atomic.Pointer[map[key]*series]
	start  time.Time

	mu sync.Mutex // guards adding to series

	troubled   atomic.Int64 // when trouble was last logged, Unix seconds
	suppressed atomic.Int64 // and how many since
}

// RouteInfo is what a route's decisions are labelled with.
type RouteInfo struct {
	Migration string
	Stage     string
	Read      bool
}

// maxSeries bounds the kinds that are told apart; what comes later is counted as one kind.
const maxSeries = 4096

// Upstream is what requests to an upstream are labelled with.
type Upstream struct {
	Role    string // legacy or candidate; "": by its name, "legacy" is legacy
	Address string // host, or path of the socket
	Port    int    // 0 for a socket
}

// NewRequests makes it. log, which may be nil, gets upstreams' trouble, at most once a second.
func NewRequests(log *slog.Logger, named map[string]Upstream) *Requests {
	r := &Requests{log: log, start: time.Now()}
	r.SetUpstreams(named)
	r.routes.Store(&map[string]RouteInfo{})
	r.series.Store(&map[key]*series{})
	return r
}

// SetRoutes replaces what is known of routes: at the start, when the file was loaded again, and after each flip.
func (r *Requests) SetRoutes(m map[string]RouteInfo) {
	m = maps.Clone(m)
	r.routes.Store(&m)
}

// SetUpstreams replaces what is known of upstreams: at the start, and when the file was loaded again.
func (r *Requests) SetUpstreams(m map[string]Upstream) {
	m = maps.Clone(m)
	r.named.Store(&m)
}

// key is a kind of request. Everything in it has few values.
type key struct {
	route, upstream, stage string
	status                 uint16
	method                 uint8
	fault                  fault
}

// series is one kind's numbers.
type series struct {
	server, client histogram
}

// histogram has the bounds of HTTP's semantic conventions.
type histogram struct {
	buckets [len(bounds) + 1]atomic.Uint64
	nanos   atomic.Int64
}

var bounds = [...]float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}

func (h *histogram) add(d time.Duration) {
	i, s := 0, d.Seconds()
	for i < len(bounds) && s > bounds[i] {
		i++
	}
	h.buckets[i].Add(1)
	h.nanos.Add(int64(d))
}

// methods are those that are told apart; the last stands for all others.
var methods = [...]string{"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "_OTHER"}

func methodOf(b []byte) uint8 {
	for i, m := range methods {
		if string(b) == m {
			return uint8(i)
		}
	}
	return uint8(len(methods) - 1)
}

// fault is what went wrong: an upstream's class, or one of ours.
type fault uint8

const (
	clientGone fault = 100 + iota
	clientBad        // what the client sent, or how slowly
)

func (f fault) String() string {
	switch f {
	case clientGone:
		return "client_gone"
	case clientBad:
		return "client_error"
	}
	return upstream.Class(f).String()
}

func faultOf(o *proxy.Observation) fault {
	if o.Err == nil && !o.ClientGone {
		return 0
	}
	if c := upstream.ClassOf(o.Err); c != upstream.OK {
		return fault(c)
	}
	if o.ClientGone {
		return clientGone
	}
	return clientBad
}

var _ proxy.Observer = (*Requests)(nil)

// Done implements proxy.Observer.
func (r *Requests) Done(o *proxy.Observation) {
	k := key{route: o.Route, upstream: o.Upstream, status: uint16(o.Status), method: methodOf(o.Method), fault: faultOf(o)}
	if info, ok := (*r.routes.Load())[o.Route]; ok {
		k.stage = info.Stage
	}
	s := (*r.series.Load())[k]
	if s == nil {
		s = r.add(k)
	}
	s.server.add(o.Duration)
	if o.Upstream != "" {
		if d := o.FirstByte; d > 0 {
			s.client.add(d)
		} else {
			s.client.add(o.Duration)
		}
	}
	if k.fault > 0 && k.fault < clientGone {
		r.trouble(o)
	}
}

func (r *Requests) add(k key) *series {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := *r.series.Load()
	if len(old) >= maxSeries {
		k = key{route: "_other", method: uint8(len(methods) - 1)}
	}
	if s := old[k]; s != nil {
		return s
	}
	all := maps.Clone(old)
	all[k] = &series{}
	r.series.Store(&all)
	return all[k]
}

// trouble logs an upstream's trouble, once a second at most.
func (r *Requests) trouble(o *proxy.Observation) {
	if r.log == nil {
		return
	}
	now, last := o.Started.Unix(), r.troubled.Load()
	if now <= last || !r.troubled.CompareAndSwap(last, now) {
		r.suppressed.Add(1)
		return
	}
	r.log.Warn("upstream trouble", "upstream", o.Upstream, "route", o.Route, "status", o.Status, "error", o.Err, "more_since_last", r.suppressed.Swap(0))
}

// Active counts the requests in next that are under way. Without it that instrument is absent.
func (r *Requests) Active(next proxy.Handler) proxy.Handler {
	r.counts.Store(true)
	return &counted{r, next}
}

type counted struct {
	r    *Requests
	next proxy.Handler
}

// Serve implements proxy.Handler.
func (c *counted) Serve(x *proxy.Exchange) {
	c.r.active.Add(1)
	defer c.r.active.Add(-1) // a handler may panic
	c.next.Serve(x)
}

// role of an upstream.
func (r *Requests) role(upstream string) string {
	switch role := (*r.named.Load())[upstream].Role; {
	case role != "":
		return role
	case upstream == "legacy":
		return "legacy"
	}
	return "candidate"
}

// keysOf gives the series' keys in a fixed order.
func keysOf(all map[key]*series) []key {
	return slices.SortedFunc(maps.Keys(all), func(a, b key) int {
		return slices.Compare([]string{a.route, a.upstream, a.stage, a.statusText(), a.fault.String(), methods[a.method]},
			[]string{b.route, b.upstream, b.stage, b.statusText(), b.fault.String(), methods[b.method]})
	})
}

func (k *key) statusText() string { return strconv.Itoa(int(k.status)) }
