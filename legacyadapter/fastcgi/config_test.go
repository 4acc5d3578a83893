package fastcgi

import (
	"strings"
	"testing"
	"time"

	"banyan/proxy/upstream"
)

func TestValidate(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"good":        {func(*Config) {}, ""},
		"nameless":    {func(c *Config) { c.Name = "" }, "name: missing"},
		"address":     {func(c *Config) { c.Address = "unix:fpm.sock" }, "address: "},
		"root":        {func(c *Config) { c.Root = "public" }, "root: "},
		"script root": {func(c *Config) { c.ScriptRoot = "/srv/../public" }, "script_root: "},
		"index":       {func(c *Config) { c.Index = "index.html" }, "index: "},
		"param":       {func(c *Config) { c.Params = map[string]string{"A": "b\n"} }, "params.A: "},
		"conns":       {func(c *Config) { c.MaxConns = -1 }, "max_connections: -1"},
		"requests":    {func(c *Config) { c.RequestsPerConn = -1 }, "requests_per_connection: -1"},
		"idle":        {func(c *Config) { c.IdleTimeout = time.Microsecond }, "idle_timeout: 1µs"},
		"head":        {func(c *Config) { c.MaxHead = 2 << 20 }, "max_head: 2097152"},
	} {
		cfg := Config{Name: "php", Address: "unix:/run/fpm.sock", Root: "/srv/public"}
		c.change(&cfg)
		err := cfg.Validate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	d := Config{Root: "/srv/public"}.withDefaults()
	if d.MaxConns != 4 || d.ScriptRoot != d.Root || d.Bounds != (upstream.Bounds{}).WithDefaults() {
		t.Errorf("defaults: %+v", d)
	}
}
