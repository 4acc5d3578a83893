package h2

import (
	"cmp"
	"math"
	"net"
	"slices"
	"syscall"
	"time"

	"banyan/proxy/upstream"
)

func now() int64 { return upstream.Now() }

// drought is the wait for the connection's window.
type drought struct {
	since int64 // 0: no stream waits for it
	long  int64 // nanoseconds in which one did, since the client's rate was last looked at
	all   int64 // nanoseconds of all streams that did
	sent  int64 // bytes of bodies in that time
}

// socket is what of it is seen every now and then.
type socket struct {
	since   int64 // of the write under way, 0 without
	wrote   int64 // bytes
	at      int64 // since when somebody waits whenever it is looked at, 0: nobody does
	taken   int64 // by then
	streams int   // that waited, each time at least
}

// tick is how often the socket is looked at.
func (c *Conn) tick() int64 { return max(1, int64(c.cfg.WriteTimeout)/8) }

// armLocked sees to it that expire is called at a time, or before.
func (c *Conn) armLocked(at int64) {
	if c.timerAt != 0 && c.timerAt <= at {
		return
	}
	c.timerAt = at
	wait := time.Duration(max(0, at-now()))
	if c.timer == nil {
		c.timer = time.AfterFunc(wait, c.expire)
	} else {
		c.timer.Reset(wait)
	}
}

// expire ends the waits whose time is over.
func (c *Conn) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timerAt = 0; c.err != nil {
		return
	}
	t := now()
	for _, s := range c.streams {
		if s.until == 0 {
			continue
		}
		if s.until <= t {
			s.cond.Signal()
		} else {
			c.armLocked(s.until)
		}
	}
	if c.short {
		c.grantLocked(c.credit / 2)
	}
	c.patrolDryLocked(t)
	c.patrolSocketLocked(t)
	if c.doom != nil { // again and again: the reader may have been about to set its own deadline
		c.nc.SetReadDeadline(time.Unix(1, 0))
		c.armLocked(t + int64(10*time.Millisecond))
	}
	c.kickLocked()
}

// starveLocked waits for a window of the stream's own; false says that its client takes less than it has to.
func (c *Conn) starveLocked(s *Stream) bool {
	if s.starved == 0 {
		s.given = 0
	}
	began := now()
	c.waitLocked(s, c.cfg.WriteTimeout-time.Duration(s.starved))
	if s.starved += now() - began; s.starved < int64(c.cfg.WriteTimeout) {
		return true
	}
	enough := s.given > 0 && float64(s.given) >= c.due(s.starved)
	s.starved = 0
	return enough
}

// due is how much a client has to take in so many nanoseconds of one stream.
func (c *Conn) due(ns int64) float64 { return float64(c.cfg.MinRate) * float64(ns) / 1e9 }

// needLocked notes that more or fewer streams wait for the connection's window, or that it has changed.
func (c *Conn) needLocked(more int) {
	d := &c.dry
	if d.since == 0 && (c.sendWindow > 0 || c.needing+more == 0) {
		c.needing += more
		return
	}
	t := now()
	if d.since != 0 {
		d.long += t - d.since
		d.all += (t - d.since) * int64(c.needing)
		d.since = 0
	}
	if c.needing += more; c.sendWindow <= 0 && c.needing > 0 {
		if d.since = t; d.long == 0 {
			d.sent = 0
		}
		c.armLocked(t + max(0, int64(c.cfg.WriteTimeout)-d.long))
	}
}

func (c *Conn) patrolDryLocked(t int64) {
	d := &c.dry
	if d.since == 0 {
		return
	}
	c.needLocked(0)
	if d.long < int64(c.cfg.WriteTimeout) {
		return
	}
	enough := c.judgeLocked(d.sent, d.long, d.all)
	if d.long, d.all = 0, 0; !enough {
		c.doom = fatal(EnhanceYourCalm, "client makes no room for what it asked for")
		return
	}
	c.needLocked(0)
}

func (c *Conn) patrolSocketLocked(t int64) {
	k := &c.socket
	if k.since == 0 && len(c.waiting) == 0 {
		k.at = 0
		return
	}
	c.armLocked(t + c.tick())
	switch n := max(1, len(c.waiting)); {
	case len(c.waiting) == 0 && t-k.since < c.tick(): // the write that is under way has just begun
		k.at = 0
	case k.at == 0:
		k.at, k.taken, k.streams = t, c.takenLocked(), n
	default:
		k.streams = min(k.streams, n)
		if long := t - k.at; long >= int64(c.cfg.WriteTimeout) {
			taken := c.takenLocked()
			if !c.judgeLocked(taken-k.taken, long, long*int64(k.streams)) {
				c.bare().Close() // what is to be said could not be written, TLS's last word neither; the writer tells the streams
			}
			k.at, k.taken, k.streams = t, taken, n
		}
	}
}

// judgeLocked looks at what a client took in a time in which streams waited for it, all of them together for the time
// of all. What is not enough for one is the connection's end: false. What is not enough for all ends those that came
// last, so that it is for the rest.
func (c *Conn) judgeLocked(taken, long, all int64) bool {
	one := c.due(long)
	if taken <= 0 || float64(taken) < one {
		return false
	}
	lacks := c.due(all) - float64(taken)
	if lacks <= 0 {
		return true
	}
	last := slices.SortedFunc(slices.Values(c.waiting), func(a, b *Stream) int { return cmp.Compare(b.id, a.id) })
	for _, s := range last[:min(len(last), int(math.Ceil(lacks/one)))] {
		if s.err == nil {
			c.resetLocked(s, EnhanceYourCalm)
			c.dropLocked(s, ErrSlow)
		}
	}
	return true
}

// bare is the connection below TLS.
func (c *Conn) bare() net.Conn {
	if t, ok := c.nc.(interface{ NetConn() net.Conn }); ok {
		return t.NetConn()
	}
	return c.nc
}

// takenLocked is how many bytes the client's side has acknowledged, or if that is not known, how many were written in
// whole queues.
func (c *Conn) takenLocked() int64 {
	n, ok := int64(0), false
	if sc, has := c.bare().(syscall.Conn); has {
		if rc, err := sc.SyscallConn(); err == nil {
			_ = rc.Control(func(fd uintptr) { n, ok = acknowledged(fd) }) // an error leaves ok false
		}
	}
	if !ok {
		return c.socket.wrote
	}
	return n
}
