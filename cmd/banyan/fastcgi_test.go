package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banyan/testdata/lab"
)

// phpSite is a site of two files and its php-fpm.
func phpSite(t *testing.T) (fpm *lab.PHPFPMServer, root string) {
	t.Helper()
	root = t.TempDir()
	for name, text := range map[string]string{"index.php": "<?php echo 'ran ', $_SERVER['PATH_INFO'] ?? '', $_SERVER['REMOTE_ADDR'];", "style.css": "css"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return lab.PHPFPM(t, lab.PHPFPMConfig{Root: root, Workers: 5}), root
}

// A script names a file: where it may, it is served; after a reload with another directory, from there; `check` looks.
func TestFastCGIInternal(t *testing.T) {
	fpm, root := phpSite(t)
	if err := os.WriteFile(filepath.Join(root, "get.php"), []byte("<?php header('X-Accel-Redirect: /protected/' . $_GET['f']);"), 0o644); err != nil {
		t.Fatal(err)
	}
	one, two := t.TempDir(), t.TempDir()
	for dir, text := range map[string]string{one: "one", two: "two"} {
		if err := os.WriteFile(filepath.Join(dir, "a.txt"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	state := t.TempDir()
	conf := func(internal string) string {
		return fmt.Sprintf("version: 1\nproxy: { listen: \"127.0.0.1:0\", admin: \"127.0.0.1:0\", token: %s, journal: { dir: %q } }\nupstreams: { legacy: { fastcgi: { address: \"unix:%s\", root: %q%s } } }\n", operatorToken, state, fpm.Socket, root, internal)
	}
	file := write(t, conf(""))
	p := start(t, "proxy", "-c", file)
	admin := p.admin(t)
	t.Setenv("BANYAN_TOKEN", operatorToken)
	for _, c := range []struct{ dir, want string }{{"", ""}, {one, "one"}, {two, "two"}, {one, "one"}} {
		internal, status := "", 502
		if c.dir != "" {
			internal, status = fmt.Sprintf(", internal: { /protected/: %q }", c.dir), 200
		}
		rewrite(t, file, conf(internal))
		if got, stdout, stderr := banyan(t, "reload", "--admin", admin); got != 0 {
			t.Fatalf("reload: %d %s%s", got, stdout, stderr)
		}
		if got, body := get(t, "http://"+p.addr+"/get.php?f=a.txt", ""); got != status || c.want != "" && body != c.want {
			t.Errorf("%s: %d %q, want %d %q", internal, got, body, status, c.want)
		}
		if got, _ := get(t, "http://"+p.addr+"/protected/a.txt", ""); got != 404 {
			t.Errorf("%s: a client gets %d", internal, got)
		}
	}
	p.awaitLog(t, "no location is declared: fastcgi.internal")
	if status, stdout, stderr := banyan(t, "check", "-c", file); status != 0 {
		t.Errorf("%d %s%s", status, stdout, stderr)
	}
	if err := os.RemoveAll(one); err != nil {
		t.Fatal(err)
	}
	if status, stdout, _ := banyan(t, "check", "-c", file); status != 3 || !strings.Contains(stdout, "upstreams.legacy.fastcgi: internal: ") {
		t.Errorf("the directory is gone: %d %s", status, stdout)
	}
}

// No web server, and no file: banyan before php-fpm, or with a file, which `check` looks at.
func TestFastCGI(t *testing.T) {
	fpm, root := phpSite(t)
	file := write(t, fmt.Sprintf("version: 1\nproxy: { listen: \"127.0.0.1:0\", admin: \"127.0.0.1:0\" }\nupstreams: { legacy: { fastcgi: { address: \"unix:%s\", root: %q, front_controller: true } } }\n", fpm.Socket, root))
	for name, args := range map[string][]string{
		"flags": {"proxy", "--listen", "127.0.0.1:0", "--legacy", "fastcgi:unix:" + fpm.Socket, "--root", root, "--front-controller"},
		"file":  {"proxy", "-c", file},
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, args...)
			for path, want := range map[string]string{"/": "ran 127.0.0.1", "/index.php": "ran 127.0.0.1", "/index.php/x": "ran /x127.0.0.1", "/style.css": "css", "/map/7": "ran 127.0.0.1"} {
				if status, body := get(t, "http://"+p.addr+path, ""); status != 200 || body != want {
					t.Errorf("%s: %d %q, want %q", path, status, body, want)
				}
			}
		})
	}
	if status, stdout, stderr := banyan(t, "check", "-c", file); status != 0 || !strings.Contains(stdout, "is fine") {
		t.Errorf("%d %s%s", status, stdout, stderr)
	}
	if err := fpm.Stop(); err != nil {
		t.Fatal(err)
	}
	if status, stdout, _ := banyan(t, "check", "-c", file); status != 3 || !strings.Contains(stdout, "upstreams.legacy.fastcgi: php-fpm does not answer") {
		t.Errorf("php-fpm is down: %d %s", status, stdout)
	}
	if status, stdout, stderr := banyan(t, "check", "--offline", "-c", file); status != 0 {
		t.Errorf("%d %s%s", status, stdout, stderr)
	}
	if err := os.RemoveAll(root); err != nil {
		t.Fatal(err)
	}
	if status, stdout, _ := banyan(t, "check", "-c", file); status != 3 || !strings.Contains(stdout, "upstreams.legacy.fastcgi: root: ") {
		t.Errorf("the root is gone: %d %s", status, stdout)
	}
}
