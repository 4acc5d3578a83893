package proxy

import (
	"fmt"
	"net/netip"
	"time"
)

// Config is what a Server is bounded by. The zero value has usable defaults.
type Config struct {
	// MaxHead bounds a request's head in bytes; a longer one is answered with 431. Default 64 KiB.
	MaxHead int
	// MaxBody bounds a request's body in bytes; a longer one is answered with 413. Default 1 GiB.
	MaxBody int64
	// MaxConns bounds the clients' connections; one more is answered with 503 at once. Default 16384.
	MaxConns int
	// MaxStreams bounds the requests that an HTTP/2 connection may have at a time; one more is refused, for the client to
	// send again. Default 100.
	MaxStreams int
	// HeaderTimeout is how long a head may take from its first byte; then 408. Default 10 s.
	HeaderTimeout time.Duration
	// IdleTimeout is how long a connection may wait for its next request. Default 75 s.
	IdleTimeout time.Duration
	// BodyTimeout is how long the client may take between two pieces of a body; then 408. Default 30 s.
	BodyTimeout time.Duration
	// WriteTimeout is how long the client may take to make room for more of an answer, and over HTTP/2 the time over which
	// it is held to MinBodyRate. Default 60 s.
	WriteTimeout time.Duration
	// UpgradeTimeout is how long an upgraded connection may be silent both ways. Default 10 min.
	UpgradeTimeout time.Duration
	// DrainIdle is how long an idle connection stays open after Shutdown began: a client that is just sending its next
	// request gets its answer, with Connection: close. Default 1 s.
	DrainIdle time.Duration
	// MaxConnsPerClient bounds the connections of one client; one more is answered with 503 at once. A client is an IPv4
	// address or an IPv6 /64. TrustedProxies and peers on a unix socket stand for many clients, and are not bounded by it.
	// Default 0: no bound.
	MaxConnsPerClient int
	// MaxBuffered bounds the memory of all request bodies that are buffered because a handler or a route needs them. What
	// needs more is answered with 503; what does not streams. Half of it may be taken by what HTTP/2 connections may send
	// beyond 65,535 bytes each: when that is used up, they get no more window until somebody has read. Default 512 MiB.
	MaxBuffered int64
	// MinBodyRate is how many bytes a second of a body a client has to send while the proxy waits for it, on average over
	// each BodyTimeout of waiting; then 408. BodyTimeout alone is met by one byte at a time. Over HTTP/2 it is also how many
	// bytes a second of each answer a client has to take while the proxy waits for it, on average over each WriteTimeout of
	// waiting; then the stream is reset with ENHANCE_YOUR_CALM, or the connection closed if it lacks even that. Default 0:
	// no bound.
	MinBodyRate int
	// TrustedProxies are the peers whose X-Forwarded-… and similar fields are believed. A peer on a unix socket always
	// is. Behind ProxyProtocol the peer is the client that the header names, so that listing the balancer has no effect on
	// what its clients send. Default none.
	TrustedProxies []netip.Prefix
	// ProxyProtocol are the peers whose connections begin with a header of the PROXY protocol, version 1 or 2, before TLS;
	// from them it is mandatory, within HeaderTimeout. The client that it names is the connection's peer from then on. Of a
	// header that names none, as of a balancer's health check, the peer stays the balancer, whose X-Forwarded-… are not
	// believed. From all others, and on a unix socket, a header is a malformed request. Default none.
	ProxyProtocol []netip.Prefix
}

func (c Config) withDefaults() Config {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	if c.MaxHead == 0 {
		c.MaxHead = 64 << 10
	}
	if c.MaxBody == 0 {
		c.MaxBody = 1 << 30
	}
	if c.MaxConns == 0 {
		c.MaxConns = 16384
	}
	if c.MaxStreams == 0 {
		c.MaxStreams = 100
	}
	if c.MaxBuffered == 0 {
		c.MaxBuffered = 512 << 20
	}
	def(&c.HeaderTimeout, 10*time.Second)
	def(&c.IdleTimeout, 75*time.Second)
	def(&c.BodyTimeout, 30*time.Second)
	def(&c.WriteTimeout, 60*time.Second)
	def(&c.UpgradeTimeout, 10*time.Minute)
	def(&c.DrainIdle, time.Second)
	return c
}

// Validate names the first field that cannot be used.
func (c Config) Validate() error {
	d := c.withDefaults()
	switch {
	case d.MaxHead < 1<<10 || d.MaxHead > 1<<20:
		return fmt.Errorf("max_head: %d is not between 1 KiB and 1 MiB", d.MaxHead)
	case d.MaxBody < 0:
		return fmt.Errorf("max_body: %d is below 0", d.MaxBody)
	case d.MaxConns < 1:
		return fmt.Errorf("max_conns: %d is below 1", d.MaxConns)
	case d.MaxConnsPerClient < 0:
		return fmt.Errorf("max_conns_per_client: %d is below 0", d.MaxConnsPerClient)
	case d.MaxBuffered < 1<<20:
		return fmt.Errorf("max_buffered: %d is below 1 MiB", d.MaxBuffered)
	case d.MinBodyRate < 0:
		return fmt.Errorf("min_body_rate: %d is below 0", d.MinBodyRate)
	case d.MaxStreams < 1 || d.MaxStreams > 10000:
		return fmt.Errorf("max_streams: %d is not between 1 and 10000", d.MaxStreams)
	}
	for _, f := range []struct {
		name string
		v    time.Duration
	}{{"header_timeout", d.HeaderTimeout}, {"idle_timeout", d.IdleTimeout}, {"body_timeout", d.BodyTimeout},
		{"write_timeout", d.WriteTimeout}, {"upgrade_timeout", d.UpgradeTimeout}, {"drain_idle", d.DrainIdle}} {
		if f.v < time.Millisecond || f.v > 24*time.Hour {
			return fmt.Errorf("%s: %v is not between 1ms and 24h", f.name, f.v)
		}
	}
	for _, l := range []struct {
		name string
		v    []netip.Prefix
	}{{"trusted_proxies", d.TrustedProxies}, {"proxy_protocol", d.ProxyProtocol}} {
		for _, p := range l.v {
			if !p.IsValid() {
				return fmt.Errorf("%s: %q is not an address range", l.name, p)
			}
		}
	}
	return nil
}

func (c *Config) trusts(a netip.Addr) bool { return within(c.TrustedProxies, a) }

func within(ranges []netip.Prefix, a netip.Addr) bool {
	for _, p := range ranges {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
