package upstream

import (
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"
)

// Config describes a backend that speaks HTTP/1.1.
type Config struct {
	// Name is what routes call it. Required.
	Name string
	// URL is http://host:port or unix:/path/to/socket. It has no path: targets are forwarded as they came. Required.
	URL string
	// MaxConns bounds the connections in all; a request beyond waits for up to Timeouts.Dial. Default 1024.
	MaxConns int
	// MaxIdle bounds the connections kept for later. Default 256, at most MaxConns.
	MaxIdle int
	// IdleTimeout is how long an unused connection is kept. It should be below the backend's own keep-alive time: a
	// request sent on a connection that the backend is just closing fails and is not sent again. Default 4 s, below
	// Apache's 5 s; a `Keep-Alive: timeout=` in an answer lowers it.
	IdleTimeout time.Duration
	// Timeouts are the waits of a request that says nothing else. Defaults 5 s, 60 s, 60 s.
	Timeouts Timeouts
	// MaxHead bounds an answer's head in bytes. Default 64 KiB.
	MaxHead int
}

func (c Config) withDefaults() Config {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	num := func(n *int, v int) {
		if *n == 0 {
			*n = v
		}
	}
	num(&c.MaxConns, 1024)
	num(&c.MaxIdle, min(256, c.MaxConns))
	num(&c.MaxHead, 64<<10)
	def(&c.IdleTimeout, 4*time.Second)
	def(&c.Timeouts.Dial, 5*time.Second)
	def(&c.Timeouts.FirstByte, 60*time.Second)
	def(&c.Timeouts.BetweenBytes, 60*time.Second)
	return c
}

// Validate names the first field that cannot be used.
func (c Config) Validate() error {
	d := c.withDefaults()
	if c.Name == "" {
		return fmt.Errorf("name: missing")
	}
	if _, _, err := d.address(); err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		v    time.Duration
	}{{"idle_timeout", d.IdleTimeout}, {"timeouts.dial", d.Timeouts.Dial}, {"timeouts.first_byte", d.Timeouts.FirstByte}, {"timeouts.between_bytes", d.Timeouts.BetweenBytes}} {
		if f.v < time.Millisecond || f.v > 24*time.Hour {
			return fmt.Errorf("%s: %v is not between 1ms and 24h", f.name, f.v)
		}
	}
	switch {
	case d.MaxConns < 1:
		return fmt.Errorf("max_conns: %d is below 1", d.MaxConns)
	case d.MaxIdle < 0 || d.MaxIdle > d.MaxConns:
		return fmt.Errorf("max_idle: %d is not between 0 and max_conns (%d)", d.MaxIdle, d.MaxConns)
	case d.MaxHead < 1<<10 || d.MaxHead > 1<<20:
		return fmt.Errorf("max_head: %d is not between 1 KiB and 1 MiB", d.MaxHead)
	}
	return nil
}

// address gives what to dial.
func (c Config) address() (network, addr string, err error) {
	if path, ok := strings.CutPrefix(c.URL, "unix:"); ok {
		if !strings.HasPrefix(path, "/") {
			return "", "", fmt.Errorf("url: %q is not unix:/path/to/socket", c.URL)
		}
		return "unix", path, nil
	}
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "http" || u.Hostname() == "" || u.User != nil {
		return "", "", fmt.Errorf("url: %q is neither http://host:port nor unix:/path/to/socket", c.URL)
	}
	if u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		return "", "", fmt.Errorf("url: %q has a path: targets are forwarded as they came, so it would have no effect", c.URL)
	}
	port := u.Port()
	if port == "" {
		port = "80"
	}
	return "tcp", net.JoinHostPort(u.Hostname(), port), nil
}
