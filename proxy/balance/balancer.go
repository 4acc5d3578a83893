package balance

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"banyan/proxy/session"
	"banyan/proxy/upstream"
	"banyan/proxy/wire"
)

// Balancer is an Upstream of several instances.
type Balancer struct {
	conf atomic.Pointer[Config]
	wg   sync.WaitGroup

	mu       sync.Mutex               // guards all below; slots of instances with requests under way may be read without
	ins      [maxInstances]*instance  // slots: one that was given to an instance is another's only once that has ended
	n        int                      // slots that were given
	all      set                      // those whose instances are not gone
	spawn    func(i int) (end func()) // starts an instance's checks; nil before Start and after Stop
	total    int                      // requests under way
	turn     int                      // breaks ties
	sessions *session.Bindings
	queue    queue // of requests that any instance may serve
	waiting  int   // in all queues
	seq      uint64
	nextBack int64 // when the next ejection ends
	ejected  int   // instances that are
	breaker  breaker
	stopped  bool
	notes    []note // to be logged once mu is released
	turned   Turned
	placed   int64 // sessions with an id that nobody knew
}

// Turned are requests that waited in vain; each only grows.
type Turned struct{ Full, Late, Gone int64 }

// instance is one backend's state.
type instance struct {
	Name      string
	via       atomic.Pointer[Instance] // as configured last
	gone      bool                     // it is no longer configured: it takes nothing, and ends with its last request
	unwatch   func()                   // ends its checks; nil: there are none
	salt      uint64
	tag       string // salt, as it stands in cookies
	active    int    // requests under way
	queue     queue  // of requests that are bound to it
	draining  bool
	failures  int   // in a row
	probation bool  // it was ejected, and nothing has succeeded since
	alone     bool  // it would be ejected if it were not the last; said so
	ejected   bool  //
	until     int64 // when ejected
	streak    int   // ejections in a row
	unhealthy bool
	checks    int   // in a row that contradict unhealthy
	back      int64 // when it last came back
	ramping   bool  // since then
	episode   int64 // sessions moved off it since it went

	requests, failed, ejections, moved int64
}

// note is a line for the log.
type note struct {
	warn bool
	text string
	args []any
}

var _ upstream.Router = (*Balancer)(nil)

// New makes a balancer. Start begins its checks.
func New(cfg Config) (*Balancer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("upstream %s: %w", cfg.Name, err)
	}
	cfg = cfg.WithDefaults()
	b := &Balancer{sessions: session.NewBindings(maxInstances, 0, 0)}
	b.conf.Store(&cfg)
	for _, in := range cfg.Instances {
		b.addLocked(in) // nobody else knows b yet
	}
	if s := cfg.Sticky; s != nil {
		b.sessions.Limit(s.Sessions, int64(s.Idle/time.Second))
	}
	return b, nil
}

// Name implements upstream.Upstream.
func (b *Balancer) Name() string { return b.cfg().Name }

// unlock releases mu and then logs what there is to say.
func (b *Balancer) unlock() {
	notes := b.notes
	b.notes = nil
	b.mu.Unlock()
	for _, n := range notes {
		args := append([]any{"upstream", b.cfg().Name}, n.args...)
		if n.warn {
			b.cfg().Log.Warn(n.text, args...)
		} else {
			b.cfg().Log.Info(n.text, args...)
		}
	}
}

func (b *Balancer) sayLocked(warn bool, text string, args ...any) {
	b.notes = append(b.notes, note{warn, text, args})
}

// Get implements upstream.Upstream, for requests of nobody's session.
func (b *Balancer) Get(t upstream.Timeouts, fresh bool) (upstream.Conn, error) {
	return b.Route(&upstream.Demand{Timeouts: t, Fresh: fresh})
}

// Route implements upstream.Router.
func (b *Balancer) Route(d *upstream.Demand) (upstream.Conn, error) {
	l := leases.Get().(*lease)
	if err := b.lease(l, d); err != nil {
		*l = lease{}
		leases.Put(l)
		return nil, err
	}
	return l, nil
}

func (b *Balancer) lease(l *lease, d *upstream.Demand) error {
	l.b = b
	if s := b.cfg().Sticky; s != nil && d.Request != nil {
		b.read(s, &l.t, d.Request)
	}
	var err error
	if l.i, err = b.admit(d, &l.t, 0); err != nil {
		return err
	}
	if l.Conn, err = b.ins[l.i].get(b.timeouts(d, int64(b.cfg().Dial)), d.Fresh); err != nil {
		l.i, l.Conn, err = b.elsewhere(d, &l.t, l.i, err)
	}
	return err
}

func (b *Balancer) read(s *Sticky, t *ticket, r *wire.Request) {
	for i := range r.Len() {
		if r.Kind(i) == wire.Cookie {
			t.read(r.Value(i), s.Cookie, b.sessions)
			b.claimed(s, t, r.Value(i))
		}
	}
}

// timeouts leaves a wait for a connection no more than what is left of all attempts' time.
func (b *Balancer) timeouts(d *upstream.Demand, left int64) upstream.Timeouts {
	t := d.Timeouts
	if t.Dial == 0 {
		t.Dial = b.cfg().Dial / 2
	}
	t.Dial = max(min(t.Dial, time.Duration(left)), time.Millisecond)
	return t
}

// elsewhere goes on after the first instance gave no connection: with the same instance as long as it is up and holds
// the request's session, with others else, until each was asked once.
func (b *Balancer) elsewhere(d *upstream.Demand, t *ticket, i int, err error) (int, upstream.Conn, error) {
	start := b.cfg().Now()
	for tried, again := set(0), 0; ; {
		usable, all := b.refused(i, t, err)
		left := int64(b.cfg().Dial) - (b.cfg().Now() - start)
		if left <= 0 || all == bit(i) || d.Gone != nil && d.Gone() {
			return 0, nil, err
		}
		if t.known && t.at == i && usable && again < b.cfg().Eject.Failures {
			again++
			time.Sleep(min(retryPause, time.Duration(left))) // a restart takes a moment, and a session is worth it
		} else if tried |= bit(i); all&^tried == 0 {
			return 0, nil, err
		}
		next, aerr := b.admit(d, t, tried)
		if aerr != nil {
			return 0, nil, aerr
		}
		c, cerr := b.ins[next].get(b.timeouts(d, left), d.Fresh)
		if cerr == nil {
			return next, c, nil
		}
		i, err = next, cerr
	}
}

// refused notes that an instance gave no connection, and tells whether it may still be asked, and which instances there
// are.
func (b *Balancer) refused(i int, t *ticket, err error) (usable bool, all set) {
	b.mu.Lock()
	defer b.unlock()
	now := b.cfg().Now()
	b.leaveLocked(i)
	if upstream.ClassOf(err) != upstream.Busy {
		b.failedLocked(i, now, err.Error())
	}
	if t.n > 0 && !t.known { // it was bound when it was placed
		if at, ok := b.sessions.Find(t.keys[t.use], now/int64(time.Second)); ok && at == i {
			b.sessions.Unbind(t.keys[t.use])
		}
	}
	b.dispatchLocked(now)
	return b.usableLocked().has(i), b.all
}

// takeLocked counts a request in, and binds its session.
func (b *Balancer) takeLocked(i int, t *ticket, now int64) {
	in := b.ins[i]
	in.active++
	b.total++
	in.requests++
	if t.n == 0 {
		return
	}
	if !t.known {
		b.placed++
	} else if t.at != i {
		from := b.ins[t.at]
		from.moved++
		if from.episode++; from.episode == 1 {
			b.sayLocked(true, "sessions lose what their instance held: it is away and they are moved as they come; this is said once", "instance", from.Name)
		}
		t.at = i
	}
	b.sessions.Bind(t.keys[t.use], i, now/int64(time.Second))
}

func (b *Balancer) leaveLocked(i int) {
	b.ins[i].active--
	b.total--
}

// done counts a request out.
func (b *Balancer) done(i int, v verdict, why error, status int) {
	b.mu.Lock()
	defer b.unlock()
	b.leaveLocked(i)
	now := b.cfg().Now()
	switch {
	case v == good:
		b.succeededLocked(i)
	case v == bad && why != nil:
		b.failedLocked(i, now, why.Error())
	case v == bad:
		b.failedLocked(i, now, fmt.Sprintf("status %d", status))
	}
	if b.waiting > 0 {
		b.dispatchLocked(now)
	}
}

// Drain takes an instance out for new sessions, or back in.
func (b *Balancer) Drain(name string, on bool) error {
	b.mu.Lock()
	defer b.unlock()
	i := b.slotLocked(name)
	if i < 0 || b.ins[i].gone {
		return fmt.Errorf("upstream %s: no instance %q", b.cfg().Name, name)
	}
	b.drainLocked(i, on)
	return nil
}

func (b *Balancer) drainLocked(i int, on bool) {
	in := b.ins[i]
	if in.draining == on {
		return
	}
	in.draining = on
	now := b.cfg().Now()
	if on {
		b.sayLocked(false, "instance drains: its sessions stay until they end, no new ones come", "instance", in.Name, "sessions", b.boundToLocked(i, now))
	} else {
		b.sayLocked(false, "instance drains no more", "instance", in.Name)
	}
	b.dispatchLocked(now)
}

func (b *Balancer) boundToLocked(i int, now int64) int {
	return b.sessions.Of(i, now/int64(time.Second))
}

// Where tells which instance a request with this Cookie field would go to, and changes nothing. Who copies a request
// for a comparison asks there.
func (b *Balancer) Where(cookie string) string {
	var t ticket
	if s := b.cfg().Sticky; s != nil {
		t.read([]byte(cookie), s.Cookie, b.sessions)
		b.claimed(s, &t, []byte(cookie))
	}
	b.mu.Lock()
	defer b.unlock()
	now := b.cfg().Now()
	b.refreshLocked(now)
	b.lookUpLocked(&t, now)
	if at, _ := b.placeLocked(&t, 0, now); at != anywhere {
		return b.ins[at].Name
	}
	if at := b.rankLocked(t.hash, b.openLocked(0), now, 1<<40); at != anywhere {
		return b.ins[at].Name
	}
	return b.ins[bits.TrailingZeros64(uint64(b.all))].Name
}

// lookUpLocked finds the binding of a ticket.
func (b *Balancer) lookUpLocked(t *ticket, now int64) {
	t.known = false
	for k := range t.n {
		if at, ok := b.sessions.Find(t.keys[k], now/int64(time.Second)); ok {
			t.use, t.known, t.at = k, true, at
			return
		}
	}
	if t.n > 0 && t.claim > 0 {
		t.use, t.known, t.at = 0, true, t.claim-1
	}
}

// Start begins the checks. They end with Stop.
func (b *Balancer) Start(ctx context.Context) {
	b.mu.Lock()
	defer b.unlock()
	if b.spawn != nil || b.stopped {
		return
	}
	b.spawn = func(i int) func() {
		ctx, end := context.WithCancel(ctx)
		in, h, after := b.ins[i], *b.cfg().Health, b.cfg().Health.Every*time.Duration(i)/time.Duration(b.n)
		b.wg.Go(func() { b.watch(ctx, in, h, after) })
		return end
	}
	b.watchLocked()
}

// Stop ends the checks. Instances' connections are their owner's to close.
func (b *Balancer) Stop() {
	b.mu.Lock()
	b.stopped, b.spawn = true, nil
	b.unwatchLocked()
	b.unlock()
	b.wg.Wait()
}

// State is what an instance is; see the package comment.
type State string

// States of an instance.
const (
	Up        State = "up"
	Draining  State = "draining"
	Ejected   State = "ejected"
	Unhealthy State = "unhealthy"
)

// InstanceStats are an instance's numbers at one moment. Requests, Failures, Ejections and Moved only grow.
type InstanceStats struct {
	Name      string `json:"name"`
	State     State  `json:"state"`
	Active    int    `json:"active"`   // requests under way
	Waiting   int    `json:"waiting"`  // requests that wait for this instance
	Sessions  int    `json:"sessions"` // bound to it
	Requests  int64  `json:"requests"`
	Failures  int64  `json:"failures"`
	Ejections int64  `json:"ejections"`
	Moved     int64  `json:"moved"` // sessions that were its, and are another's because it was away
}

// Stats are a balancer's numbers at one moment.
type Stats struct {
	Instances []InstanceStats `json:"instances"`
	Waiting   int             `json:"waiting"` // in all queues
	Turned    Turned          `json:"turned"`
	Placed    int64           `json:"placed"`    // sessions that came with an id that this proxy did not know
	Forgotten int64           `json:"forgotten"` // bindings that had not ended and made room for others
	Open      bool            `json:"open"`      // the breaker
}

// Stats tells the numbers.
func (b *Balancer) Stats() Stats {
	b.mu.Lock()
	defer b.unlock()
	now := b.cfg().Now()
	b.refreshLocked(now)
	s := Stats{Waiting: b.waiting, Turned: b.turned, Placed: b.placed, Open: b.breaker.open, Forgotten: b.sessions.Forgotten}
	for i := range b.n {
		in := b.ins[i]
		if in.gone {
			continue
		}
		s.Instances = append(s.Instances, InstanceStats{Name: in.Name, State: in.state(), Active: in.active, Waiting: in.queue.len(), Sessions: b.boundToLocked(i, now),
			Requests: in.requests, Failures: in.failed, Ejections: in.ejections, Moved: in.moved})
	}
	return s
}

func (in *instance) state() State {
	switch {
	case in.unhealthy:
		return Unhealthy
	case in.ejected:
		return Ejected
	case in.draining:
		return Draining
	}
	return Up
}

var (
	errFull = errors.New("the queue is full; check the instances' latency, or raise queue.length or max_connections")
	errLate = errors.New("no place became free in time; check the instances' latency, or raise queue.wait or max_connections")
	errGone = errors.New("the client left while the request waited")
)

func (b *Balancer) busy(err error) *upstream.Error {
	return &upstream.Error{Upstream: b.cfg().Name, Doing: "wait for an instance", Class: upstream.Busy, Err: err}
}
