package migrate

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"banyan/proxy/capture"
	"banyan/proxy/event"
	"banyan/proxy/expr"
	"banyan/proxy/journal"
	"banyan/proxy/redact"
	"banyan/proxy/route"
	"banyan/proxy/session"
	"banyan/proxy/stage"
	"banyan/proxy/upstream"

	"go.opentelemetry.io/otel/trace"
)

// Config is everything that a [Handler] works with.
type Config struct {
	Table      *route.Table
	Legacy     upstream.Upstream
	Plain      map[string]Plain // by the route's name
	Migrations map[event.Migration]*Migration
	Sessions   Sessions

	Journal *journal.Journal // nil: no write can be recorded, stages that record are refused by the control side
	Ack     journal.Ack
	Replica event.Replica
	Redact  *redact.Redactor
	Inline  int // bytes of a body that are read before legacy is asked

	States func(event.Migration) stage.State
	Leased func() bool
	Model  Model
	// ClockError is how far the clock of the change-log reader, which takes the fences, may be from ours.
	ClockError time.Duration
	Copies     Copies
	Tracer     trace.Tracer // nil: no spans; requests of migrations have ids of a trace all the same
	Log        *slog.Logger
	// Retired is called once this config has been replaced and no exchange works with it any more, on the goroutine of
	// the last of them: it must not block. What only this config used can be closed. Nil: nobody asks.
	Retired func()
}

// Plain is where a plain route leads.
type Plain struct {
	To      upstream.Upstream
	Upgrade []string // the protocols that may be switched to
}

// Sessions tells where legacy keeps the session and names the player.
type Sessions struct {
	Cookie  string // legacy's session cookie, e.g. PHPSESSID
	Player  string // cookie that legacy sets at login with the player's id; "" if none
	Players *session.Players
}

// Model answers what is known of read models; package pending does.
type Model interface {
	Wait(ctx context.Context, m event.Migration, k event.OrderingKey, writes []event.WriteID, d time.Duration) bool
	Serves(m event.Migration, k event.OrderingKey) bool
	Expect(m event.Migration, k event.OrderingKey, at time.Time) time.Duration
	// Passed says whether the read model holds everything of the key that legacy had committed at an instant.
	Passed(ctx context.Context, m event.Migration, k event.OrderingKey, at time.Time, d time.Duration) bool
}

// Copies takes reads that are to be compared; package pairs does. Its methods must not block.
type Copies interface {
	// Room says whether an offer of that many bytes would be taken now, so that nothing is copied in vain. A no is counted.
	Room(m event.Migration, route string, bytes int64) bool
	// Offer hands over a read with one side's answer; the other side is asked off the client's path.
	Offer(r Read)
	// Served counts an answer to a client.
	Served(m event.Migration, route string, by capture.Side, took time.Duration)
	// FellBack counts a read in the share that legacy had to answer, and why.
	FellBack(m event.Migration, route, why string)
}

// Read is a read that was answered to a client, to be compared with the other side's answer.
type Read struct {
	capture.Pair
	Repeatable bool // legacy may be asked for it
	// Cookie and Host are what the client sent, for a copy to legacy, which answers nobody it does not know. They are
	// kept in memory alone.
	Cookie, Host string
}

// Migration is one migration's part of the request path.
type Migration struct {
	Name       event.Migration
	Candidate  upstream.Upstream
	Allow      func() bool    // the candidate's breaker: whether a read that legacy can answer may ask it; nil: always
	Key        *expr.Template // the ordering key, over the route's parameters
	FailClosed bool           // when a write cannot be recorded: 503, not a gap
	Writes     map[string]*WriteRoute
	Reads      map[string]*ReadRoute
}

// WriteRoute is a write route.
type WriteRoute struct {
	Applied  *expr.Program // condition on the answer, see AnswerEnv in package config
	NeedBody bool          // the condition looks at the answer's body

	verdicts verdicts // of a condition that looks at the status alone
}

// ReadRoute is a read route.
type ReadRoute struct {
	CandidateTarget *expr.Template
	Repeatable      bool
	// Wait is how long a read may wait for the read model; 0: for as long as legacy takes to answer it, see patience.
	Wait time.Duration

	took atomic.Int64 // smoothed nanoseconds of legacy's answers to clients, 0 while there was none
}

// patience is how long a read waits for the read model at most. Unless the file says otherwise that is what legacy would
// take: who waits longer would have been better off there.
func (r *ReadRoute) patience() time.Duration {
	if r.Wait > 0 {
		return r.Wait
	}
	took := time.Duration(r.took.Load())
	if took == 0 {
		return mostPatience
	}
	return min(max(took, leastPatience), mostPatience)
}

// byLegacy learns how long legacy took. Readers race for the newest value; any of theirs will do.
func (r *ReadRoute) byLegacy(d time.Duration) {
	old := r.took.Load()
	if old == 0 {
		old = int64(d)
	}
	r.took.Store(max(1, old+(int64(d)-old)/16))
}

// Bounds of a patience that nobody declared.
const (
	leastPatience = 2 * time.Millisecond
	mostPatience  = 100 * time.Millisecond
)

// maxCapture bounds what is copied of an answer, for conditions and for pairs.
const (
	maxAppliedBody = 64 << 10
	maxPairBody    = 1 << 20
)

// Validate says what a handler cannot work without.
func (c *Config) Validate() error {
	if c.Legacy == nil {
		return fmt.Errorf("migrate: no upstream legacy")
	}
	for name, m := range c.Migrations {
		if m.Key == nil {
			return fmt.Errorf("migration %s: no ordering key", name)
		}
		for r, read := range m.Reads {
			if read.CandidateTarget == nil || m.Candidate == nil {
				return fmt.Errorf("migration %s: read %s: no candidate to ask", name, r)
			}
		}
		if len(m.Writes) > 0 && c.Journal == nil {
			return fmt.Errorf("migration %s: writes without a journal", name)
		}
	}
	return nil
}
