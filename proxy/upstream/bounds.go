package upstream

import (
	"cmp"
	"fmt"
	"time"
)

// Bounds are those that every kind of upstream has.
type Bounds struct {
	// IdleTimeout is how long an unused connection is kept. It should be below the backend's own keep-alive time: a
	// request sent on a connection that the backend is just closing fails and is not sent again. Default 4 s, below
	// Apache's 5 s; 1 ms to 24 h.
	IdleTimeout time.Duration
	// Timeouts are the waits of a request that says nothing else. Defaults 5 s, 60 s, 60 s; 1 ms to 24 h.
	Timeouts Timeouts
	// MaxHead bounds an answer's head in bytes. Default 64 KiB; 1 KiB to 1 MiB.
	MaxHead int
}

// WithDefaults has the default of each field that is zero.
func (b Bounds) WithDefaults() Bounds {
	return Bounds{
		IdleTimeout: cmp.Or(b.IdleTimeout, 4*time.Second),
		Timeouts:    b.Timeouts.Or(Timeouts{Dial: 5 * time.Second, FirstByte: 60 * time.Second, BetweenBytes: 60 * time.Second}),
		MaxHead:     cmp.Or(b.MaxHead, 64<<10),
	}
}

// Validate names the first field that is out of its bounds, defaults taken.
func (b Bounds) Validate() error {
	b = b.WithDefaults()
	for _, f := range []struct {
		name string
		v    time.Duration
	}{{"idle_timeout", b.IdleTimeout}, {"timeouts.dial", b.Timeouts.Dial}, {"timeouts.first_byte", b.Timeouts.FirstByte}, {"timeouts.between_bytes", b.Timeouts.BetweenBytes}} {
		if f.v < time.Millisecond || f.v > 24*time.Hour {
			return fmt.Errorf("%s: %v is not between 1ms and 24h", f.name, f.v)
		}
	}
	if b.MaxHead < 1<<10 || b.MaxHead > 1<<20 {
		return fmt.Errorf("max_head: %d is not between 1 KiB and 1 MiB", b.MaxHead)
	}
	return nil
}

// Or has the fields of d where those of t are zero.
func (t Timeouts) Or(d Timeouts) Timeouts {
	return Timeouts{Dial: cmp.Or(t.Dial, d.Dial), FirstByte: cmp.Or(t.FirstByte, d.FirstByte), BetweenBytes: cmp.Or(t.BetweenBytes, d.BetweenBytes)}
}
