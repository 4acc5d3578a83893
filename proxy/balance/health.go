package balance

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"banyan/proxy/upstream"
	"banyan/proxy/wire"
)

// failedLocked counts a failure of an instance, and ejects it if it was one too many.
func (b *Balancer) failedLocked(i int, now int64, why string) {
	b.breaker.failedLocked(b, now, why)
	in := b.ins[i]
	in.failed++
	if in.ejected || in.gone { // what was under way when it went
		return
	}
	in.failures++
	if in.failures < b.cfg().Eject.Failures && !in.probation {
		return
	}
	others := false
	for k := range b.n {
		others = others || k != i && !b.ins[k].ejected && !b.ins[k].unhealthy && !b.ins[k].gone
	}
	if !others {
		if !in.alone && b.all != bit(i) {
			in.alone = true
			b.sayLocked(true, "the last instance fails: it is asked all the same", "instance", in.Name, "error", why)
		}
		return
	}
	if in.streak > 0 && now-in.back > int64(b.cfg().Eject.AtMost) {
		in.streak = 0
	}
	pause := b.cfg().Eject.For << min(in.streak, 20)
	if pause <= 0 || pause > b.cfg().Eject.AtMost {
		pause = b.cfg().Eject.AtMost
	}
	in.streak++
	in.ejections++
	in.ejected, in.until, in.episode = true, now+int64(pause), 0
	if b.ejected++; b.ejected == 1 || in.until < b.nextBack {
		b.nextBack = in.until
	}
	b.sayLocked(true, "instance is left alone for a while: it failed", "instance", in.Name, "error", why, "for", pause, "in_a_row", in.failures)
	b.scatterLocked(i)
}

func (b *Balancer) succeededLocked(i int) {
	b.breaker.succeededLocked(b)
	if in := b.ins[i]; !in.ejected {
		in.failures, in.probation, in.alone = 0, false, false
	}
}

// refreshLocked ends ejections whose time is over.
func (b *Balancer) refreshLocked(now int64) {
	if b.ejected == 0 || now < b.nextBack {
		return
	}
	b.nextBack = 1<<63 - 1
	for i := range b.n {
		in := b.ins[i]
		if in.ejected && in.until > now {
			b.nextBack = min(b.nextBack, in.until)
		} else if in.ejected {
			in.ejected, in.failures, in.probation = false, 0, true
			b.ejected--
			b.backLocked(i, now)
		}
	}
	b.dispatchLocked(now)
}

// backLocked is called when an instance is no longer away for one reason.
func (b *Balancer) backLocked(i int, now int64) {
	in := b.ins[i]
	if in.ejected || in.unhealthy {
		return
	}
	in.back, in.ramping = now, b.cfg().SlowStart > 0
	b.sayLocked(false, "instance is asked again", "instance", in.Name, "sessions_moved", in.episode)
	in.episode = 0
}

// watch checks one instance until ctx ends. Checks of several are spread over time.
func (b *Balancer) watch(ctx context.Context, in *instance, h Health, after time.Duration) {
	timer := time.NewTimer(after)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		b.checked(ctx, in, h, Probe(*in.via.Load(), h))
		timer.Reset(h.Every)
	}
}

// Probe asks an instance once whether it serves.
func Probe(in Instance, h Health) error {
	t := upstream.Timeouts{Dial: h.Timeout, FirstByte: h.Timeout, BetweenBytes: h.Timeout}
	c, err := in.Upstream.Get(t, true)
	if err != nil {
		return err
	}
	defer c.Abort()
	host := h.Host
	if u, err := url.Parse(in.Name); host == "" && err == nil {
		host = u.Host
	}
	if host == "" {
		host = "localhost"
	}
	m := upstream.Message{Head: []byte("GET " + h.Path + " HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: banyan-health\r\nConnection: close\r\n\r\n"), Timeouts: t}
	var resp wire.Response
	var inbox upstream.Inbox
	if err := c.Send(&m); err != nil && !errors.Is(err, upstream.ErrAnswered) {
		return err
	}
	for range 8 {
		if err := c.Receive(&resp, &inbox); err != nil {
			return err
		}
		if !resp.Interim() {
			if resp.Status() >= 400 {
				return fmt.Errorf("GET %s: status %d", h.Path, resp.Status())
			}
			return nil
		}
	}
	return fmt.Errorf("GET %s: no final answer", h.Path)
}

// checked notes a check's result.
func (b *Balancer) checked(ctx context.Context, in *instance, h Health, err error) {
	b.mu.Lock()
	defer b.unlock()
	i := b.slotLocked(in.Name)
	if ctx.Err() != nil || i < 0 { // these checks ended while it was being asked
		return
	}
	if (err != nil) == in.unhealthy {
		in.checks = 0
		return
	}
	in.checks++
	now := b.cfg().Now()
	switch {
	case err != nil && in.checks >= h.Unhealthy:
		in.unhealthy, in.checks = true, 0
		if !in.ejected {
			in.episode = 0
		}
		b.sayLocked(true, "instance is unhealthy: its checks fail", "instance", in.Name, "error", err)
		if b.usableLocked() == b.all && b.all != bit(i) {
			b.sayLocked(true, "no instance passes its checks or answers: all are asked as if they did")
		}
		b.scatterLocked(i)
		b.dispatchLocked(now)
	case err == nil && in.checks >= h.Healthy:
		in.unhealthy, in.checks = false, 0
		b.backLocked(i, now)
		b.dispatchLocked(now)
	}
}

// breaker is the state of Config.Breaker.
type breaker struct {
	open     bool
	trying   bool // Allow let one through since
	failures int  // in a row
	next     int64
	pause    time.Duration
	refused  int64 // since it opened
}

// Allow tells whether a request that somebody else can answer should come here. While the breaker is open one does from
// time to time, to see. It is a question and no refusal: Route serves whoever comes.
func (b *Balancer) Allow() bool {
	if b.cfg().Breaker == nil {
		return true
	}
	b.mu.Lock()
	defer b.unlock()
	k := &b.breaker
	if !k.open {
		return true
	}
	if now := b.cfg().Now(); now >= k.next {
		k.next, k.trying = now+int64(k.pause), true
		return true
	}
	k.refused++
	return false
}

func (k *breaker) failedLocked(b *Balancer, now int64, why string) {
	c := b.cfg().Breaker
	if c == nil {
		return
	}
	k.failures++
	switch {
	case k.open && k.trying:
		k.trying = false
		k.pause = min(2*k.pause, c.AtMost)
		k.next = now + int64(k.pause)
	case !k.open && k.failures >= c.Failures:
		k.open, k.trying, k.pause, k.refused = true, false, c.Open, 0
		k.next = now + int64(k.pause)
		b.sayLocked(true, "breaker opens: legacy answers instead", "failures_in_a_row", k.failures, "error", why)
	}
}

func (k *breaker) succeededLocked(b *Balancer) {
	if k.failures = 0; k.open {
		k.open = false
		b.sayLocked(false, "breaker closes: it answers again", "answered_by_legacy", k.refused)
	}
}
