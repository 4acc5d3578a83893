package balance

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"time"

	"banyan/proxy/upstream"
)

func (b *Balancer) cfg() *Config { return b.conf.Load() }

var errSlots = errors.New("http: too many of the instances that were taken out still answer; try again when their requests have ended")

// Fits says whether [Balancer.Update] would take this config now. It changes nothing.
func (b *Balancer) Fits(cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("upstream %s: %w", cfg.Name, err)
	}
	b.mu.Lock()
	defer b.unlock()
	return b.fitsLocked(cfg)
}

func (b *Balancer) fitsLocked(cfg Config) error {
	room := maxInstances - b.n
	named := map[string]bool{}
	for _, in := range cfg.Instances {
		if named[in.Name] = true; b.slotLocked(in.Name) < 0 {
			room--
		}
	}
	for i := range b.n {
		if in := b.ins[i]; !named[in.Name] && in.active == 0 {
			room++
		}
	}
	if room < 0 {
		return fmt.Errorf("upstream %s: %w", cfg.Name, errSlots)
	}
	return nil
}

// Update replaces the config while requests run. Instances are known by their names: one that stays keeps its sessions,
// its numbers and what is known of its health; one that is new begins slowly; one that is not in the config any more
// takes nothing from here on, and its sessions are placed anew as they come. Requests that wait are served under the new
// config. What an operator said by Drain holds on, unless the config says something new of that instance. An error
// leaves the old config.
func (b *Balancer) Update(cfg Config) error {
	if err := b.Fits(cfg); err != nil {
		return err
	}
	unbounded := cfg.Total == 0
	if cfg = cfg.WithDefaults(); unbounded { // each instance has its bound; those that go may still have theirs under way
		cfg.Total = cfg.Limit * maxInstances
	}
	b.mu.Lock()
	defer b.unlock()
	if err := b.fitsLocked(cfg); err != nil {
		return err
	}
	was := b.cfg()
	b.conf.Store(&cfg)
	now := cfg.Now()
	if s := cfg.Sticky; s != nil {
		b.sessions.Limit(s.Sessions, int64(s.Idle/time.Second))
	} else {
		b.sessions.Limit(0, 0)
	}
	named := map[string]bool{}
	for _, in := range cfg.Instances {
		named[in.Name] = true
	}
	for i := range b.n {
		if !named[b.ins[i].Name] {
			b.goneLocked(i)
		}
	}
	for _, in := range cfg.Instances {
		i := b.slotLocked(in.Name)
		if i < 0 || b.ins[i].gone {
			i = b.addLocked(in)
			b.ins[i].back, b.ins[i].ramping = now, cfg.SlowStart > 0
			b.sayLocked(false, "instance is new: it is asked from now on", "instance", in.Name)
			continue
		}
		before := b.ins[i].via.Swap(&in)
		if before.Draining != in.Draining {
			b.drainLocked(i, in.Draining)
		}
	}
	if !reflect.DeepEqual(was.Health, cfg.Health) {
		b.unwatchLocked()
	}
	if cfg.Health == nil {
		for i := range b.n {
			b.ins[i].unhealthy = false // nobody would say so again
		}
	}
	if cfg.Breaker == nil {
		b.breaker = breaker{}
	}
	b.watchLocked()
	b.dispatchLocked(now)
	return nil
}

// slotLocked is where an instance is, gone or not; below 0 if nowhere.
func (b *Balancer) slotLocked(name string) int {
	for i := range b.n {
		if b.ins[i].Name == name {
			return i
		}
	}
	return -1
}

// addLocked gives an instance a slot: the one that it had, a fresh one, or that of one that has ended.
func (b *Balancer) addLocked(in Instance) int {
	i := b.slotLocked(in.Name)
	if i >= 0 { // back, while what it had under way may not have ended
		b.ins[i].gone, b.ins[i].draining = false, in.Draining
		b.ins[i].via.Store(&in)
		b.all |= bit(i)
		return i
	}
	if b.n < maxInstances {
		i = b.n
		b.n++
	} else {
		for i = 0; !b.ins[i].gone || b.ins[i].active > 0; i++ { // fitsLocked has seen one
		}
		b.sessions.UnbindAll(i)
	}
	x := &instance{Name: in.Name, salt: hashOf([]byte(in.Name)), draining: in.Draining}
	x.tag = strconv.FormatUint(x.salt, 36)
	x.via.Store(&in)
	b.ins[i] = x
	b.all |= bit(i)
	return i
}

// goneLocked takes an instance out for good.
func (b *Balancer) goneLocked(i int) {
	in := b.ins[i]
	if in.gone {
		return
	}
	b.sayLocked(false, "instance is taken out: it gets nothing new", "instance", in.Name, "under_way", in.active, "sessions", b.boundToLocked(i, b.cfg().Now()))
	if in.ejected {
		in.ejected = false
		b.ejected--
	}
	in.gone, in.unhealthy, in.alone, in.probation, in.failures, in.streak, in.checks, in.episode = true, false, false, false, 0, 0, 0, 0
	if in.unwatch != nil {
		in.unwatch()
		in.unwatch = nil
	}
	b.all &^= bit(i)
	b.scatterLocked(i)
}

// watchLocked starts the checks that are missing.
func (b *Balancer) watchLocked() {
	if b.spawn == nil || b.cfg().Health == nil {
		return
	}
	for i := range b.n {
		if in := b.ins[i]; !in.gone && in.unwatch == nil {
			in.unwatch = b.spawn(i)
		}
	}
}

func (b *Balancer) unwatchLocked() {
	for i := range b.n {
		if in := b.ins[i]; in.unwatch != nil {
			in.unwatch()
			in.unwatch = nil
		}
	}
}

// get asks the instance for a connection, as it is configured now.
func (in *instance) get(t upstream.Timeouts, fresh bool) (upstream.Conn, error) {
	return in.via.Load().Upstream.Get(t, fresh)
}
