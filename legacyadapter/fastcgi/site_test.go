package fastcgi

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"banyan/proxy"
)

// files makes a site whose scripts all answer "ran", by way of a php-fpm that is none.
func files(t *testing.T, change func(*Config)) (root, addr string) {
	t.Helper()
	u := fake(t, out(head+"ran")+over(), 1<<20)
	root = filepath.Join(t.TempDir(), "public")
	outside := filepath.Join(filepath.Dir(root), "outside")
	for name, text := range map[string]string{
		"public/index.php": "<?php", "public/x.php": "<?php", "public/style.css": "0123456789", "public/page.html": "page", "public/data": "data",
		"public/.env": "secret", "public/.git/config": "secret", "public/.well-known/acme": "token", "public/x.php~": "source", "public/x.php.bak": "source",
		"public/lib.inc": "source", "public/UP.PHP": "source", "public/old.phtml": "source", "public/pic.php.jpg": "source", "public/up/a.jpg": "jpg",
		"public/docs/index.php": "<?php", "public/plain/a.txt": "text", "outside/secret.txt": "secret", "outside/x.php": "<?php",
	} {
		file := filepath.Join(filepath.Dir(root), name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	changed := time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)
	if err := os.Chtimes(filepath.Join(root, "style.css"), changed, changed); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{"link.txt": filepath.Join(outside, "secret.txt"), "up/out": outside, "inside.css": "style.css", "rel.txt": "../outside/secret.txt"} {
		if err := os.Symlink(to, filepath.Join(root, from)); err != nil {
			t.Fatal(err)
		}
	}
	cfg := u.cfg
	cfg.Root, cfg.ScriptRoot = root, root
	if change != nil {
		change(&cfg)
	}
	addr, _ = front(t, cfg, proxy.Config{}, proxy.ForwardOptions{})
	return root, addr
}

func TestWhatAPathMeans(t *testing.T) {
	_, addr := files(t, nil)
	_, fronted := files(t, func(c *Config) { c.FrontController = true })
	for _, c := range []struct {
		line         string
		status       int
		body         string
		frontStatus  int // with a front controller; 0: the same
		contentType  string
		contentRange string
	}{
		{line: "GET /x.php", status: 200, body: "ran"},
		{line: "GET /x.php/more", status: 200, body: "ran"},
		{line: "GET /", status: 200, body: "ran"},
		{line: "GET /docs/", status: 200, body: "ran"},
		{line: "GET /style.css", status: 200, body: "0123456789", contentType: "text/css"},
		{line: "GET /inside.css", status: 200, body: "0123456789", contentType: "text/css"},
		{line: "GET /data", status: 200, body: "data", contentType: "application/octet-stream"},
		{line: "GET /.well-known/acme", status: 200, body: "token", contentType: "application/octet-stream"},
		{line: "HEAD /style.css", status: 200, contentType: "text/css"},
		{line: "POST /style.css", status: 405},
		{line: "GET /docs", status: 301},
		{line: "GET //docs", status: 301},
		{line: "GET /nothing", status: 404, frontStatus: 200},
		{line: "GET /nothing/", status: 404, frontStatus: 200},
		{line: "GET /plain/", status: 404, frontStatus: 200},
		{line: "GET /no.php", status: 404},
		{line: "GET /up/a.jpg/x.php", status: 404},
		{line: "GET /style.css/x.php/y", status: 404},
		{line: "GET /up/a.jpg%00.php", status: 400},
		{line: "GET /%zz", status: 400},
		{line: "GET /../x.php", status: 400},
		{line: "GET /.env", status: 404},
		{line: "GET /.git/config", status: 404},
		{line: "GET /%2egit/config", status: 404},
		{line: "GET /docs/../.env", status: 404},
		{line: "GET /x.php~", status: 404},
		{line: "GET /x.php.bak", status: 404},
		{line: "GET /lib.inc", status: 404},
		{line: "GET /UP.PHP", status: 404},
		{line: "GET /old.phtml", status: 404},
		{line: "GET /pic.php.jpg", status: 404},
		{line: "GET /link.txt", status: 404},
		{line: "GET /rel.txt", status: 404},
		{line: "GET /up/out/secret.txt", status: 404},
	} {
		for i, at := range []string{addr, fronted} {
			want, body := c.status, c.body
			if i == 1 && c.frontStatus != 0 {
				want, body = c.frontStatus, "ran"
			}
			resp, got := exchange(t, at, "", odd{line: c.line}.raw())
			if resp.StatusCode != want || body != "" && string(got) != body || c.contentType != "" && resp.Header.Get("Content-Type") != c.contentType {
				t.Errorf("%s: %d %q %q, want %d %q", c.line, resp.StatusCode, got, resp.Header.Get("Content-Type"), want, body)
			}
			if strings.Contains(string(got), "secret") || strings.Contains(string(got), "source") {
				t.Errorf("%s shows %q", c.line, got)
			}
			if l := resp.Header.Get("Location"); want == 301 && l != "/docs/" {
				t.Errorf("%s: moved to %q", c.line, l)
			}
		}
	}
}

func TestFilesAsNginxServesThem(t *testing.T) {
	root, addr := files(t, nil)
	resp, _ := exchange(t, addr, "", odd{line: "GET /style.css"}.raw())
	tag, date := resp.Header.Get("Etag"), resp.Header.Get("Last-Modified")
	if !strings.HasSuffix(tag, `-a"`) || date != "Fri, 02 Jan 2026 03:04:05 GMT" {
		t.Fatalf("%s %s", tag, date)
	}
	for _, c := range []struct {
		lines  string
		status int
		body   string
		span   string
	}{
		{"If-None-Match: " + tag, 304, "", ""},
		{"If-None-Match: \"a\", W/" + tag, 304, "", ""},
		{"If-None-Match: *", 304, "", ""},
		{"If-None-Match: \"a\"|If-Modified-Since: " + date, 200, "0123456789", ""},
		{"If-Modified-Since: " + date, 304, "", ""},
		{"If-Modified-Since: Thu, 01 Jan 2026 00:00:00 GMT", 200, "0123456789", ""},
		{"If-Match: " + tag, 200, "0123456789", ""},
		{"If-Match: \"a\", W/" + tag, 412, "the file is another one\n", ""},
		{"If-Unmodified-Since: Thu, 01 Jan 2026 00:00:00 GMT", 412, "the file is another one\n", ""},
		{"If-Modified-Since: nonsense", 200, "0123456789", ""},
		{"Range: bytes=0-0", 206, "0", "bytes 0-0/10"},
		{"Range: bytes=2-", 206, "23456789", "bytes 2-9/10"},
		{"Range: bytes=-3", 206, "789", "bytes 7-9/10"},
		{"Range: bytes=-300", 206, "0123456789", "bytes 0-9/10"},
		{"Range: bytes=5-99", 206, "56789", "bytes 5-9/10"},
		{"Range: bytes=10-", 416, "no such range\n", "bytes */10"},
		{"Range: bytes=-0", 416, "no such range\n", "bytes */10"},
		{"Range: bytes=5-2", 200, "0123456789", ""},
		{"Range: bytes=0-1,3-4", 200, "0123456789", ""},
		{"Range: bytes=99999999999999999999-", 200, "0123456789", ""},
		{"Range: lines=0-1", 200, "0123456789", ""},
		{"Range: bytes=0-1|If-Range: " + tag, 206, "01", "bytes 0-1/10"},
		{"Range: bytes=0-1|If-Range: " + date, 206, "01", "bytes 0-1/10"},
		{"Range: bytes=0-1|If-Range: \"old\"", 200, "0123456789", ""},
	} {
		resp, body := exchange(t, addr, "", odd{line: "GET /style.css", lines: c.lines}.raw())
		if resp.StatusCode != c.status || string(body) != c.body || resp.Header.Get("Content-Range") != c.span {
			t.Errorf("%s: %d %q %q", c.lines, resp.StatusCode, body, resp.Header.Get("Content-Range"))
		}
	}
	if err := os.WriteFile(filepath.Join(root, "empty.txt"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if resp, body := exchange(t, addr, "", odd{line: "GET /empty.txt"}.raw()); resp.StatusCode != http.StatusOK || len(body) != 0 || resp.ContentLength != 0 {
		t.Errorf("an empty file: %d %q", resp.StatusCode, body)
	}
}

// A deployment moves the link that the root is: the next request sees the new site.
func TestTheRootMayBeALinkThatMoves(t *testing.T) {
	dir := t.TempDir()
	for _, release := range []string{"1", "2"} {
		if err := os.Mkdir(filepath.Join(dir, release), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, release, "release.txt"), []byte(release), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	current := filepath.Join(dir, "current")
	if err := os.Symlink("1", current); err != nil {
		t.Fatal(err)
	}
	_, addr := files(t, func(c *Config) { c.Root = current })
	for _, release := range []string{"1", "2"} {
		next := filepath.Join(dir, "next")
		if err := os.Symlink(release, next); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, current); err != nil {
			t.Fatal(err)
		}
		if _, body := exchange(t, addr, "", odd{line: "GET /release.txt"}.raw()); string(body) != release {
			t.Errorf("release %s answers %q", release, body)
		}
	}
}

// What is not a script is the Static upstream's, if there is one.
func TestStaticUpstream(t *testing.T) {
	other := fake(t, out("Content-Type: text/plain\r\n\r\nelsewhere")+over(), 1<<20)
	_, addr := files(t, func(c *Config) { c.Static = other })
	for line, want := range map[string]string{"GET /x.php": "ran", "GET /": "ran", "GET /dump.php": "not found\n", "GET /.env": "not found\n"} {
		if _, body := exchange(t, addr, "", odd{line: line}.raw()); string(body) != want {
			t.Errorf("%s: %q, want %q", line, body, want)
		}
	}
	// The other upstream resolves for itself: it has style.css too, and this index.php.
	if resp, _ := exchange(t, addr, "", odd{line: "GET /style.css"}.raw()); resp.StatusCode != 200 || resp.ContentLength != 22 {
		t.Errorf("style.css is %d with %d bytes, not the other upstream's", resp.StatusCode, resp.ContentLength)
	}
}
