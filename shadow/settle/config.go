package settle

import (
	"errors"
	"fmt"
	"time"

	"banyan/proxy/event"
)

// Config of the join. Zero values mean the defaults.
type Config struct {
	// AttributeWait bounds how long a change waits for the writes that may have made it, beyond MaxClockError.
	// Shorter: fresher read models, and more changes that stay unattributed. Default 250ms, 10ms to 10s.
	AttributeWait time.Duration `yaml:"attribute_wait"`
	// MaxClockError is how far clocks of proxies and of the change-log reader may differ. Default 250ms; 5ms is right
	// when all run on one host. Up to 10s. Every write takes that long to settle.
	MaxClockError time.Duration `yaml:"max_clock_error"`
	// MaxExecution is how long legacy may go on with a request nobody waits for. Default 30s, up to 1h.
	MaxExecution time.Duration `yaml:"max_execution"`
	// ReplicaWait is how long a proxy may send no mark before it counts as silent. Default 10s, 1s to 10m.
	ReplicaWait time.Duration `yaml:"replica_wait"`
	// Forget is when a replica that ended, or is silent, is forgotten: from then on its absence makes nothing
	// unattributed. Default 24h, at least ReplicaWait.
	Forget time.Duration `yaml:"forget"`
	// MarkEvery bounds the time between two settled marks. Default 50ms, 1ms to 10s.
	MarkEvery time.Duration `yaml:"-"`
	// MaxRows and MaxBytes bound an entry of several changes. Default 1000 rows, 512 KiB.
	MaxRows  int `yaml:"-"`
	MaxBytes int `yaml:"-"`
	// MaxPending bounds the changes that wait, per partition; above it heads go as if their wait had run out.
	// Default 100000.
	MaxPending int `yaml:"-"`
	// Claims says whether the route of a write can have made a change, by subject and by the columns that it sets.
	// Nil: every write of the key is a candidate. Where legacy annotates all its SQL, a Claims that is false for
	// every change makes those without annotation dark instead of guessed. It must be a function of its arguments.
	Claims func(w *event.Write, c *event.Change) bool `yaml:"-"`
	// Observe is told what was done since the last call, after each batch of a partition. Nil: not told.
	Observe func(partition int32, s Stats) `yaml:"-"`
}

// Stats are counts since the last call, and how things stand now.
type Stats struct {
	Effects, Dark, Unattributed, Imported int // changes by cause
	Writes                                int // settled
	Duplicates                            int // dropped: repeats of writes and changes
	Expired                               int // changes whose wait ran out
	Held                                  int // keys with changes that wait, now
	Unsettled                             int // writes that wait, now
	Silent                                int // replicas that send no marks, now
	Lag                                   time.Duration
}

// WithDefaults fills what is zero.
func (c Config) WithDefaults() Config {
	for _, d := range []struct {
		p *time.Duration
		v time.Duration
	}{{&c.AttributeWait, 250 * time.Millisecond}, {&c.MaxClockError, 250 * time.Millisecond}, {&c.MaxExecution, 30 * time.Second},
		{&c.ReplicaWait, 10 * time.Second}, {&c.Forget, 24 * time.Hour}, {&c.MarkEvery, 50 * time.Millisecond}} {
		if *d.p == 0 {
			*d.p = d.v
		}
	}
	for _, d := range []struct {
		p *int
		v int
	}{{&c.MaxRows, 1000}, {&c.MaxBytes, 512 << 10}, {&c.MaxPending, 100_000}} {
		if *d.p == 0 {
			*d.p = d.v
		}
	}
	return c
}

// Validate names the field, the value and the bound of everything that is wrong.
func (c Config) Validate() error {
	var errs []error
	c = c.WithDefaults()
	span := func(name string, v, lo, hi time.Duration) {
		if v < lo || v > hi {
			errs = append(errs, fmt.Errorf("%s: %s; want %s to %s", name, v, lo, hi))
		}
	}
	span("attribute_wait", c.AttributeWait, 10*time.Millisecond, 10*time.Second)
	span("max_clock_error", c.MaxClockError, time.Microsecond, 10*time.Second)
	span("max_execution", c.MaxExecution, time.Millisecond, time.Hour)
	span("replica_wait", c.ReplicaWait, time.Second, 10*time.Minute)
	span("forget", c.Forget, c.ReplicaWait, 365*24*time.Hour)
	span("mark_every", c.MarkEvery, time.Millisecond, 10*time.Second)
	if c.MaxRows < 1 || c.MaxBytes < 1 || c.MaxPending < 1 {
		errs = append(errs, fmt.Errorf("max_rows, max_bytes, max_pending: %d, %d, %d; want 1 or more", c.MaxRows, c.MaxBytes, c.MaxPending))
	}
	return errors.Join(errs...)
}
