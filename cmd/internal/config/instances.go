package config

import (
	"slices"

	"banyan/proxy/balance"
)

// Instances are the addresses of an upstream; in the file one may stand alone.
type Instances []string

// alone implements the decoder's lone.
func (Instances) alone() {}

// Protocols are what a connection may be switched to; in the file one may stand alone.
type Protocols []string

// alone implements the decoder's lone.
func (Protocols) alone() {}

// First is the address that stands for the upstream where one has to; "" without any.
func (i Instances) First() string {
	if len(i) == 0 {
		return ""
	}
	return i[0]
}

// Balanced tells whether requests to the upstream need more than a pool of connections.
func (u *Upstream) Balanced() bool {
	return len(u.HTTP) > 1 || u.MaxRequests > 0 || u.Sticky != nil || u.Queue != nil || u.Health != nil || u.Breaker != nil
}

// Balance is the upstream's balancer, but for what carries the instances' requests.
func (u *Upstream) Balance(name string) balance.Config {
	c := balance.Config{Name: name, Limit: u.MaxConnections, Total: u.MaxRequests, Sticky: u.Sticky, Eject: u.Eject, Health: u.Health,
		Breaker: u.Breaker, SlowStart: u.SlowStart}
	if u.Queue != nil {
		c.Queue = *u.Queue
	}
	for _, a := range u.HTTP {
		c.Instances = append(c.Instances, balance.Instance{Name: a, Draining: slices.Contains(u.Drain, a)})
	}
	return c
}
