package upstream

import (
	"cmp"
	"fmt"
	"net"
	"net/url"
	"strings"
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
	// Bounds are the waits and sizes. A `Keep-Alive: timeout=` in an answer lowers IdleTimeout.
	Bounds
}

func (c Config) withDefaults() Config {
	c.MaxConns = cmp.Or(c.MaxConns, 1024)
	c.MaxIdle = cmp.Or(c.MaxIdle, min(256, c.MaxConns))
	c.Bounds = c.Bounds.WithDefaults()
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
	switch {
	case d.MaxConns < 1:
		return fmt.Errorf("max_conns: %d is below 1", d.MaxConns)
	case d.MaxIdle < 0 || d.MaxIdle > d.MaxConns:
		return fmt.Errorf("max_idle: %d is not between 0 and max_conns (%d)", d.MaxIdle, d.MaxConns)
	}
	return d.Bounds.Validate()
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
