package mirror

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"banyan/proxy/event"
	"banyan/proxy/journal"
	"banyan/proxy/kafka"
)

// Config of a mirror. The zero value of a field means its default, where it has one.
type Config struct {
	Journal *journal.Journal
	Replica event.Replica
	Kafka   kafka.Config
	// MaxExecution is the longest that legacy may run a request on its own; unknown writes of a process that ended are
	// listed in flight for so long. Default 30s.
	MaxExecution time.Duration
	// MarkEvery is the longest pause between marks while Kafka answers. Default 50ms.
	MarkEvery time.Duration
	// IdleMarkEvery is the same while nothing is recorded, see the package's doc. Default 1s, at least MarkEvery, and well
	// below settle's replica_wait, after which a proxy without marks counts as silent.
	IdleMarkEvery time.Duration
	// Records says whether writes are being recorded now, which they are not while every migration is off. Who makes it
	// true calls [Mirror.Wake]. It must not block. Nil: always.
	Records func() bool
	// Pace is the shortest time between two batches while each carries 32 records or more, and proportionally less with
	// fewer. Default 10ms; negative: none.
	Pace time.Duration
	// AccountEvery is the pause between accounts. Default 1s.
	AccountEvery time.Duration
	// StalledAfter is how long Kafka may not acknowledge before it is said to be stalled. Default 2s.
	StalledAfter time.Duration
	// Excluded, if set, gives the writes that the proxy saw and does not record, by reason.
	Excluded func() map[string]uint64
	Log      *slog.Logger
	Hooks    Hooks
	Now      func() time.Time
}

// Hooks are told what happens, for metrics. They must not block; nil ones are left out.
type Hooks struct {
	// Shipped: n writes were acknowledged; the oldest had been complete for age.
	Shipped func(n int, age time.Duration)
	// Stalled: Kafka has not acknowledged for a while, or refuses. Once per change of state.
	Stalled func(cause error)
	// Resumed: it acknowledges again.
	Resumed func()
}

func (c Config) withDefaults() Config {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.MaxExecution, 30*time.Second)
	def(&c.MarkEvery, 50*time.Millisecond)
	def(&c.IdleMarkEvery, max(time.Second, c.MarkEvery))
	def(&c.Pace, 10*time.Millisecond)
	def(&c.AccountEvery, time.Second)
	def(&c.StalledAfter, 2*time.Second)
	c.Kafka = c.Kafka.WithDefaults()
	if c.Records == nil {
		c.Records = func() bool { return true }
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// Validate names the field, its value and the bound.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	if c.Journal == nil {
		errs = append(errs, errors.New("mirror: no journal"))
	}
	errs = append(errs, c.Replica.Validate())
	for name, d := range map[string]time.Duration{"max_execution": c.MaxExecution, "mark_every": c.MarkEvery,
		"account_every": c.AccountEvery, "stalled_after": c.StalledAfter} {
		if d <= 0 {
			errs = append(errs, fmt.Errorf("mirror.%s: %s: want more than 0", name, d))
		}
	}
	if c.IdleMarkEvery < c.MarkEvery {
		errs = append(errs, fmt.Errorf("mirror.idle_mark_every: %s: want at least mark_every, %s", c.IdleMarkEvery, c.MarkEvery))
	}
	return errors.Join(errs...)
}
