package balance

import (
	"fmt"
	"log/slog"
	"strings"
	"time"

	"banyan/proxy/upstream"
)

// Instance is one of an upstream's backends.
type Instance struct {
	// Name is its address, as all proxies spell it: it decides which ids it gets, labels metrics and stands in logs.
	Name string
	// Upstream carries its requests. It must take Config.Limit requests at once without queueing, and one more for checks.
	Upstream upstream.Upstream
	// Draining keeps new sessions away from it, as Drain does, until it is given without.
	Draining bool
}

// Config describes a Balancer.
type Config struct {
	// Name is what routes call the upstream. Required.
	Name string
	// Instances are 1 to 64, each with another name. Required.
	Instances []Instance
	// Limit bounds the requests under way at one instance. Default 512.
	Limit int
	// Total bounds those at all instances together. Default Limit times instances.
	Total int
	// Queue holds the requests beyond.
	Queue Queue
	// Sticky keeps sessions at their instances. Nil: every request goes by load.
	Sticky *Sticky
	// Eject leaves failing instances alone.
	Eject Eject
	// Health asks each instance regularly. Nil: only requests tell.
	Health *Health
	// Breaker makes Allow say no while the whole upstream fails. Nil: Allow always says yes.
	Breaker *Breaker
	// SlowStart is how long an instance that comes back gets less than its share of requests that are not bound, growing
	// from a tenth. 0: none.
	SlowStart time.Duration
	// Dial bounds all attempts to connect for one request, pauses included. Default 10 s.
	Dial time.Duration
	// Log may be nil.
	Log *slog.Logger
	// Now is a clock in nanoseconds. Default upstream.Now.
	Now func() int64
}

// Queue is where requests wait that find every place taken.
type Queue struct {
	Length int           `yaml:"length"` // requests that wait at most, at all instances together; one more is answered with 503; default 1024
	Wait   time.Duration `yaml:"wait"`   // how long each may wait; then 503; default 5s
}

// Sticky tells what a session is.
type Sticky struct {
	Cookie   string `yaml:"cookie"`   // that carries legacy's session id: PHPSESSID, or with one or more '*' where a name has a varying part: sess_*
	Sessions int    `yaml:"sessions"` // that are remembered at most, 72 bytes each; default 200000
	// Remember is the name of a cookie of ours, such as banyan_at, that tells the client's instance. With it a proxy that
	// does not know a session, because it was restarted or another one served it before, asks the right instance; without
	// it the id's hash decides, which is right only by chance for a session that began at a request without an id. "":
	// no cookie is set.
	Remember string        `yaml:"remember"`
	Idle     time.Duration `yaml:"idle"` // how long after its last request a session is remembered: legacy's own lifetime of sessions or longer; default 1h
}

// Eject is when an instance is left alone, and for how long.
type Eject struct {
	Failures int           `yaml:"failures"` // in a row: no connection, no answer in time, an answer cut or malformed, or one of the statuses; default 3
	Statuses []int         `yaml:"statuses"` // answers that mean the instance and not the page; default 502, 503, 504
	For      time.Duration `yaml:"for"`      // the first time; each further time in a row doubles it; default 5s
	AtMost   time.Duration `yaml:"at_most"`  // the longest time; so long after it was back, an instance's past is forgotten; default 2m
}

// Health asks an instance whether it serves.
type Health struct {
	Path      string        `yaml:"path"`      // request target of a GET; a status below 400 is good
	Host      string        `yaml:"host"`      // the Host that it asks for; default: the instance's address
	Every     time.Duration `yaml:"every"`     // default 5s
	Timeout   time.Duration `yaml:"timeout"`   // default 2s, at most every
	Healthy   int           `yaml:"healthy"`   // good answers in a row that bring an instance back; default 2
	Unhealthy int           `yaml:"unhealthy"` // bad ones in a row that take it out; default 3
}

// Breaker is for an upstream that can be done without: the candidate, for which legacy answers.
type Breaker struct {
	Failures int           `yaml:"failures"` // in a row, as for eject, at any instance; default 5
	Open     time.Duration `yaml:"open"`     // until one request tries again; each failed try doubles it; default 1s
	AtMost   time.Duration `yaml:"at_most"`  // the longest pause; default 30s
}

const (
	maxInstances = 64 // a set has a bit for each

	factor      = 1.25 // see the package comment
	minBound    = 8
	maxCookies  = 4 // that match a pattern in one request or answer; more are not looked at
	retryPause  = 100 * time.Millisecond
	lookForGone = 250 * time.Millisecond
)

// WithDefaults fills what is zero.
func (c Config) WithDefaults() Config {
	num := func(n *int, v int) {
		if *n == 0 {
			*n = v
		}
	}
	dur := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	num(&c.Limit, 512)
	num(&c.Total, c.Limit*len(c.Instances))
	num(&c.Queue.Length, 1024)
	dur(&c.Queue.Wait, 5*time.Second)
	num(&c.Eject.Failures, 3)
	if c.Eject.Statuses == nil {
		c.Eject.Statuses = []int{502, 503, 504}
	}
	dur(&c.Eject.For, 5*time.Second)
	dur(&c.Eject.AtMost, max(2*time.Minute, c.Eject.For))
	dur(&c.Dial, 10*time.Second)
	if c.Sticky != nil {
		s := *c.Sticky
		num(&s.Sessions, 200_000)
		dur(&s.Idle, time.Hour)
		c.Sticky = &s
	}
	if c.Health != nil {
		h := *c.Health
		dur(&h.Every, 5*time.Second)
		dur(&h.Timeout, min(2*time.Second, h.Every))
		num(&h.Healthy, 2)
		num(&h.Unhealthy, 3)
		c.Health = &h
	}
	if c.Breaker != nil {
		b := *c.Breaker
		num(&b.Failures, 5)
		dur(&b.Open, time.Second)
		dur(&b.AtMost, max(30*time.Second, b.Open))
		c.Breaker = &b
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = upstream.Now
	}
	return c
}

// Validate names the first field that cannot be used, as the file spells it.
func (c Config) Validate() error {
	c = c.WithDefaults()
	names := map[string]bool{}
	for i, in := range c.Instances {
		if in.Name == "" {
			return fmt.Errorf("http[%d]: no address", i)
		}
		if names[in.Name] {
			return fmt.Errorf("http[%d]: %q is given twice: sessions there could not be told apart", i, in.Name)
		}
		names[in.Name] = true
	}
	if n := len(c.Instances); n < 1 || n > maxInstances {
		return fmt.Errorf("http: %d instances: want 1 to 64", n)
	}
	type bound struct {
		field   string
		v       int
		min, to int
	}
	ints := []bound{{"max_connections", c.Limit, 1, 1 << 20}, {"max_requests", c.Total, 1, 1 << 26}, {"queue.length", c.Queue.Length, 1, 1 << 20},
		{"eject.failures", c.Eject.Failures, 1, 1000}}
	type span struct {
		field   string
		v       time.Duration
		min, to time.Duration
	}
	ms, day := time.Millisecond, 24*time.Hour
	spans := []span{{"queue.wait", c.Queue.Wait, ms, 10 * time.Minute}, {"eject.for", c.Eject.For, ms, day}, {"eject.at_most", c.Eject.AtMost, c.Eject.For, day},
		{"slow_start", c.SlowStart, 0, time.Hour}}
	if s := c.Sticky; s != nil {
		if err := cookiePattern(s.Cookie); err != nil {
			return err
		}
		if i := strings.IndexFunc(s.Remember, func(r rune) bool {
			return r != '_' && r != '-' && (r < '0' || r > '9') && (r|0x20 < 'a' || r|0x20 > 'z')
		}); i >= 0 {
			return fmt.Errorf("sticky.remember: %q: want a name of letters, digits, '_' and '-', such as banyan_at", s.Remember)
		}
		if s.Remember != "" && matches(s.Cookie, []byte(s.Remember)) {
			return fmt.Errorf("sticky.remember: %q would be taken for legacy's session cookie", s.Remember)
		}
		ints = append(ints, bound{"sticky.sessions", s.Sessions, 16, 1 << 26})
		spans = append(spans, span{"sticky.idle", s.Idle, time.Second, 90 * day})
	}
	if h := c.Health; h != nil {
		if strings.ContainsAny(h.Host, " \r\n\t/") {
			return fmt.Errorf("health.host: %q: want a host's name, such as www.example.org", h.Host)
		}
		if !strings.HasPrefix(h.Path, "/") || strings.ContainsAny(h.Path, " \r\n\t") {
			return fmt.Errorf("health.path: %q: want a path, such as /health", h.Path)
		}
		ints = append(ints, bound{"health.healthy", h.Healthy, 1, 100}, bound{"health.unhealthy", h.Unhealthy, 1, 100})
		spans = append(spans, span{"health.every", h.Every, 10 * ms, time.Hour}, span{"health.timeout", h.Timeout, ms, h.Every})
	}
	if b := c.Breaker; b != nil {
		ints = append(ints, bound{"breaker.failures", b.Failures, 1, 1000})
		spans = append(spans, span{"breaker.open", b.Open, ms, time.Hour}, span{"breaker.at_most", b.AtMost, b.Open, time.Hour})
	}
	for _, f := range ints {
		if f.v < f.min || f.v > f.to {
			return fmt.Errorf("%s: %d is not between %d and %d", f.field, f.v, f.min, f.to)
		}
	}
	for _, f := range spans {
		if f.v < f.min || f.v > f.to {
			return fmt.Errorf("%s: %v is not between %v and %v", f.field, f.v, f.min, f.to)
		}
	}
	for _, s := range c.Eject.Statuses {
		if s < 500 || s > 599 {
			return fmt.Errorf("eject.statuses: %d is not between 500 and 599: others are answers about the request", s)
		}
	}
	if c.Name == "" {
		return fmt.Errorf("name: missing")
	}
	return nil
}

func cookiePattern(s string) error {
	if s == "" || strings.Trim(s, "*") == "" {
		return fmt.Errorf("sticky.cookie: %q: want the name of legacy's session cookie, such as PHPSESSID, or a pattern such as sess_*", s)
	}
	if i := strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune("=;,\"", r) }); i >= 0 {
		return fmt.Errorf("sticky.cookie: %q: %q cannot stand in a cookie's name", s, s[i])
	}
	return nil
}
