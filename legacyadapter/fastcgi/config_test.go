package fastcgi

import (
	"os"
	"path/filepath"
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
		"internal": {func(c *Config) {
			c.Internal = map[string]string{"/protected/": "/srv/files/", "/protected/big/": "/mnt/big", "/up/": "/srv/public/up/"}
		}, ""},
		"no slash":    {func(c *Config) { c.Internal = map[string]string{"/protected": "/srv/files"} }, "internal./protected: \"/protected\" is not the beginning of URIs"},
		"no path":     {func(c *Config) { c.Internal = map[string]string{"protected/": "/srv/files"} }, "internal.protected/: "},
		"all URIs":    {func(c *Config) { c.Internal = map[string]string{"/": "/srv/files"} }, "internal./: "},
		"encoded":     {func(c *Config) { c.Internal = map[string]string{"/a%20b/": "/srv/files"} }, "internal./a%20b/: "},
		"up":          {func(c *Config) { c.Internal = map[string]string{"/a/../b/": "/srv/files"} }, "internal./a/../b/: "},
		"two slashes": {func(c *Config) { c.Internal = map[string]string{"//a/": "/srv/files"} }, "internal.//a/: "},
		"named":       {func(c *Config) { c.Internal = map[string]string{"@named": "/srv/files"} }, "internal.@named: "},
		"relative":    {func(c *Config) { c.Internal = map[string]string{"/protected/": "files/"} }, "internal./protected/: \"files/\" is not a clean absolute directory"},
		"no dir":      {func(c *Config) { c.Internal = map[string]string{"/protected/": ""} }, "internal./protected/: \"\" is not a clean absolute directory"},
		"not clean":   {func(c *Config) { c.Internal = map[string]string{"/protected/": "/srv//files"} }, "internal./protected/: "},
		"all files":   {func(c *Config) { c.Internal = map[string]string{"/protected/": "/"} }, "internal./protected/: "},
		"the root":    {func(c *Config) { c.Internal = map[string]string{"/protected/": "/srv/public/"} }, "holds the root, /srv/public, whose programs"},
		"above":       {func(c *Config) { c.Internal = map[string]string{"/protected/": "/srv"} }, "holds the root, /srv/public, whose programs"},
		"beside":      {func(c *Config) { c.Internal = map[string]string{"/protected/": "/srv/public2", "/x/": "/srv/pub"} }, ""},
		"below":       {func(c *Config) { c.Internal = map[string]string{"/protected/": "/srv/public/up/"} }, "or name it by its own path, /up/"},
		"sendfile":    {func(c *Config) { c.Sendfile = []string{"/srv/files", "/srv/public/up/"} }, ""},
		"sendfile 2":  {func(c *Config) { c.Sendfile = []string{"/srv/files", "more"} }, "sendfile[1]: \"more\" is not a clean absolute directory"},
		"sendfile 3":  {func(c *Config) { c.Sendfile = []string{"/srv/public"} }, "sendfile[0]: \"/srv/public\" holds the root"},
		"sendfile 4":  {func(c *Config) { c.Sendfile = []string{"/srv/../etc"} }, "sendfile[0]: "},
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

// A directory that is missing, or that a link makes a part of the site, is told before the first request.
func TestLookAtNamedDirectories(t *testing.T) {
	top := t.TempDir()
	for _, dir := range []string{"public/up", "files"} {
		if err := os.MkdirAll(filepath.Join(top, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for from, to := range map[string]string{"same": "public", "inside": "public/up", "current": "public", "elsewhere": "files"} {
		if err := os.Symlink(to, filepath.Join(top, from)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(top, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{"files": "", "elsewhere": "", "current/up": "", "missing": "no such file", "file": "not a directory", "same": "is in truth", "inside": "is in truth", "public/up": "is in truth"} {
		for _, c := range []Config{{Internal: map[string]string{"/up/": filepath.Join(top, dir)}}, {Sendfile: []string{filepath.Join(top, dir)}}} {
			c.Root = filepath.Join(top, "current")
			err := c.lookNamed()
			if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("%s: %v, want %q", dir, err, want)
			}
		}
	}
}
