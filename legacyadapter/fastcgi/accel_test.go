package fastcgi

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"banyan/proxy"
	"banyan/proxy/upstream"
	"banyan/testdata/lab"
)

// store makes a directory of files that scripts may name, beside one that they may not.
func store(t testing.TB) (dir string) {
	t.Helper()
	top := t.TempDir()
	dir = filepath.Join(top, "files")
	for name, text := range map[string]string{
		"files/a.txt": "0123456789", "files/a b.html": "pdf", "files/100%.txt": "percent", "files/a?b": "question", "files/empty.txt": "", "files/dir/s.txt": "sub", "files/plain": "plain",
		"files/x.php": "<?php // text here", "files/.dot": "dot", "files/ä.txt": "umlaut", "big/b.txt": "another directory", "outside/secret.txt": "secret",
	} {
		file := filepath.Join(top, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		changed := time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)
		if err := os.Chtimes(file, changed, changed); err != nil {
			t.Fatal(err)
		}
	}
	for from, to := range map[string]string{"out": "../outside/secret.txt", "outdir": "../outside", "abs": filepath.Join(top, "outside/secret.txt"), "up": "..", "in": "a.txt", "dirin": "dir", "loop": "loop"} {
		if err := os.Symlink(to, filepath.Join(dir, from)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func logger(b *buffer) *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }

// naming is a request for a script that answers with the fields of h.
func naming(method string, code int, lines string, h ...string) odd {
	q := url.Values{"how": {"named"}, "h[]": h}
	if code != 0 {
		q.Set("code", fmt.Sprint(code))
	}
	o := odd{line: method + " /answer.php?" + q.Encode(), lines: lines}
	if method == "POST" {
		o.lines = strings.TrimPrefix(lines+"|Content-Length: 0", "|")
	}
	return o
}

const (
	aTxt  = "X-Accel-Redirect: /protected/a.txt"
	aTag  = `"695735a5-a"`
	aDate = "Fri, 02 Jan 2026 03:04:05 GMT"
)

var everyField = []string{"Content-Type: application/pdf; charset=x", "Content-Disposition: attachment; filename=\"x\"", "Set-Cookie: a=1", "Set-Cookie: b=2", "Cache-Control: private",
	"Cache-Control: max-age=1", "Expires: 0", "ETag: \"mine\"", "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT", "X-Mine: 1", "Vary: Cookie", "Link: x", "Content-Encoding: foo", "Content-Language: de",
	"Location: /x", "Pragma: no-cache", "Refresh: 3", "Content-Length: 4", "WWW-Authenticate: x", "Content-Range: bytes 0-1/2", "Content-Security-Policy: x", "X-Accel-Limit-Rate: 1000000",
	"X-Accel-Buffering: no", "X-Accel-Expires: 3", "X-Accel-Charset: utf-8"}

// accelerated are requests to both, and where banyan means to differ from nginx: its status, and why.
var accelerated = []struct {
	name string
	o    odd
	ours int
	why  string
}{
	{name: "plain", o: naming("GET", 0, "", aTxt)},
	{name: "every field", o: naming("GET", 0, "", append(everyField, aTxt)...)},
	{name: "no type", o: naming("GET", 0, "", aTxt, "Content-Type:")},
	{name: "no type and no ending", o: naming("GET", 0, "", "X-Accel-Redirect: /protected/plain", "Content-Type:")},
	{name: "ranges are the script's business", o: naming("GET", 0, "", aTxt, "Accept-Ranges: none"), ours: 200, why: "nginx sends Accept-Ranges twice, of which the second is true"},
	{name: "status 201", o: naming("GET", 201, "", aTxt)},
	{name: "status 204", o: naming("GET", 204, "", aTxt)},
	{name: "status 206", o: naming("GET", 206, "", aTxt)},
	{name: "status 302", o: naming("GET", 302, "", aTxt, "Location: /x")},
	{name: "status 304", o: naming("GET", 304, "", aTxt)},
	{name: "status 403", o: naming("GET", 403, "", aTxt)},
	{name: "status 404, missing", o: naming("GET", 404, "", "X-Accel-Redirect: /protected/none")},
	{name: "status 503", o: naming("GET", 503, "", aTxt)},
	{name: "range", o: naming("GET", 0, "Range: bytes=2-4", append(everyField, aTxt)...)},
	{name: "range of a 201", o: naming("GET", 201, "Range: bytes=2-4", aTxt)},
	{name: "range from", o: naming("GET", 0, "Range: bytes=2-", aTxt)},
	{name: "last bytes", o: naming("GET", 0, "Range: bytes=-3", aTxt)},
	{name: "more last bytes than there are", o: naming("GET", 0, "Range: bytes=-300", aTxt)},
	{name: "past the end", o: naming("GET", 0, "Range: bytes=10-", append(everyField, aTxt)...)},
	{name: "no last bytes", o: naming("GET", 0, "Range: bytes=-0", aTxt)},
	{name: "other units", o: naming("GET", 0, "Range: lines=0-1", aTxt)},
	{name: "several ranges", o: naming("GET", 0, "Range: bytes=0-1,3-4", aTxt), ours: 200, why: "several ranges are the whole file (RFC 9110 14.2 allows it)"},
	{name: "backwards range", o: naming("GET", 0, "Range: bytes=5-2", aTxt), ours: 200, why: "an invalid range is none (RFC 9110 14.1.1)"},
	{name: "huge range", o: naming("GET", 0, "Range: bytes=99999999999999999999-", aTxt), ours: 200, why: "a number that does not fit is no range"},
	{name: "if-range, this one", o: naming("GET", 0, "Range: bytes=0-1|If-Range: "+aTag, aTxt)},
	{name: "if-range, its date", o: naming("GET", 0, "Range: bytes=0-1|If-Range: "+aDate, aTxt)},
	{name: "if-range, another", o: naming("GET", 0, "Range: bytes=0-1|If-Range: \"x\"", aTxt)},
	{name: "range of nothing", o: naming("GET", 0, "Range: bytes=0-1", "X-Accel-Redirect: /protected/empty.txt")},
	{name: "if-none-match", o: naming("GET", 0, "If-None-Match: "+aTag, append(everyField, aTxt)...)},
	{name: "if-none-match, weak, in a list", o: naming("GET", 0, "If-None-Match: \"x\", W/"+aTag, aTxt)},
	{name: "if-none-match, another", o: naming("GET", 0, "If-None-Match: \"mine\"|If-Modified-Since: "+aDate, aTxt, "ETag: \"mine\"")},
	{name: "if-modified-since", o: naming("GET", 0, "If-Modified-Since: "+aDate, aTxt)},
	{name: "if-modified-since, earlier", o: naming("GET", 0, "If-Modified-Since: Thu, 01 Jan 2026 03:04:05 GMT", aTxt)},
	{name: "if-modified-since, later", o: naming("GET", 0, "If-Modified-Since: Sat, 03 Jan 2026 03:04:05 GMT", aTxt), ours: 304, why: "it was not modified since (RFC 9110 13.1.3); nginx wants the exact date"},
	{name: "if-match", o: naming("GET", 0, "If-Match: "+aTag, aTxt)},
	{name: "if-match, another", o: naming("GET", 0, "If-Match: \"x\", W/"+aTag, aTxt)},
	{name: "if-match, a new session", o: naming("GET", 0, "If-Match: \"x\"", aTxt, "Set-Cookie: a=1"), ours: 412, why: "the cookie is set all the same; nginx drops it with this status alone"},
	{name: "if-unmodified-since", o: naming("GET", 0, "If-Unmodified-Since: Thu, 01 Jan 2026 03:04:06 GMT", aTxt)},
	{name: "if-unmodified-since, true", o: naming("GET", 0, "If-Unmodified-Since: "+aDate, aTxt)},
	{name: "HEAD", o: naming("HEAD", 0, "", append(everyField, aTxt)...)},
	{name: "HEAD, if-none-match", o: naming("HEAD", 0, "If-None-Match: "+aTag, aTxt)},
	{name: "HEAD, range", o: naming("HEAD", 0, "Range: bytes=2-4", aTxt), ours: 200, why: "ranges are for GET (RFC 9110 14.2)"},
	{name: "POST", o: naming("POST", 0, "", append(everyField, aTxt)...)},
	{name: "POST, range", o: naming("POST", 0, "Range: bytes=2-4", aTxt), ours: 200, why: "ranges are for GET (RFC 9110 14.2)"},
	{name: "POST, if-none-match", o: naming("POST", 0, "If-None-Match: "+aTag, aTxt), ours: 200, why: "a client that posts has no copy (RFC 9110 13.1.2)"},
	{name: "POST, missing", o: naming("POST", 0, "", "X-Accel-Redirect: /protected/none")},
	{name: "DELETE", o: naming("DELETE", 0, "", aTxt)},
	{name: "missing", o: naming("GET", 0, "", append(everyField, "X-Accel-Redirect: /protected/none")...)},
	{name: "symbolic link out", o: accel("/protected/out"), ours: 404, why: "no link is followed out of the directory"},
	{name: "symbolic link to a directory outside", o: accel("/protected/outdir/secret.txt"), ours: 404, why: "no link is followed out of the directory"},
	{name: "symbolic link to itself", o: accel("/protected/loop"), ours: 404, why: "it leads to no file; nginx says 403"},
	{name: "directory without its slash", o: accel("/protected/dir"), ours: 403, why: "nginx redirects the client to a URI that it cannot reach"},
	{name: "name of a location without its slash", o: accel("/protected"), ours: 502, why: "no other request is made for it"},
	{name: "another path", o: accel("/nothing/here"), ours: 502, why: "no other request is made for it"},
	{name: "a script", o: accel("/answer.php"), ours: 502, why: "no other request is made for it"},
	{name: "a named location", o: accel("@named"), ours: 502, why: "no other request is made for it"},
	{name: "a URL", o: accel("http://game.test/protected/a.txt"), ours: 502, why: "no other request is made for it"},
	{name: "another case", o: accel("/Protected/a.txt"), ours: 502, why: "no other request is made for it"},
	{name: "two slashes", o: accel("//protected/a.txt"), ours: 502, why: "no other request is made for it"},
	{name: "a dot", o: accel("/./protected/a.txt"), ours: 502, why: "no other request is made for it"},
	{name: "no path", o: accel("protected/a.txt"), ours: 502, why: "no other request is made for it"},
	{name: "nothing", o: accel(""), ours: 502, why: "no other request is made for it"},
	{name: "two files", o: naming("GET", 0, "", aTxt, "X-Accel-Redirect: /protected/plain"), ours: 502, why: "which is meant cannot be told; nginx takes the first"},
}

func accel(uri string) odd { return naming("GET", 0, "", "X-Accel-Redirect: "+uri, "Content-Type:") }

// uris mean the same file, or none, to both.
var uris = []string{"/protected/a%20b.html", "/protected/a b.html", "/protected/a+b.html", "/protected/a.txt?x=../y", "/protected/a.txt?", "/protected/a%2etxt", "/%70rotected/a.txt", "/protected%2fa.txt",
	"/protected/a.txt%00", "/protected/%zza.txt", "/protected/100%.txt", "/protected/100%25.txt", "/protected/a%3fb", "/protected/a?b", "/protected/a.txt#x", "/protected/in", "/protected/dirin/s.txt", "/protected/x.php",
	"/protected/empty.txt", "/protected/a.txt/", "/protected/a.txt/x", "/protected/.dot", "/protected/...", "/protected/./a.txt", "/protected//a.txt", "/protected/a.txt ", "/protected/dir%2fs.txt", "/protected/%C3%A4.txt",
	"/protected/ä.txt", "/protected/%e4.txt", "/protected/dir/", "/protected/", "/protected/..", "/protected/../outside/secret.txt", "/protected/%2e%2e/outside/secret.txt", "/protected/..%2foutside/secret.txt",
	"/protected/dir/../a.txt", "/protected/dir/..", "/protected/\\..\\outside", "/protected/big/b.txt", "/protected/big/../a.txt", "/protected/%2e%2e%00"}

// The same script names the same files to nginx and to banyan.
func TestFilesThatScriptsName(t *testing.T) {
	root, dir := site(t), store(t)
	big := filepath.Join(filepath.Dir(dir), "big")
	fpm := lab.PHPFPM(t, lab.PHPFPMConfig{Root: root, Workers: 4})
	conf := strings.Replace(fmt.Sprintf(nginxConf, root, "=404", fpm.Socket), "location / {",
		fmt.Sprintf("location ^~ /protected/ { internal; alias %q; }\n location ^~ /protected/big/ { internal; alias %q; }\n location / {", dir+"/", big+"/"), 1)
	nginx := lab.Nginx(t, conf)
	var log buffer
	addr, up := front(t, Config{Address: "unix:" + fpm.Socket, Root: root, MaxConns: 2, Internal: map[string]string{"/protected/": dir + "/", "/protected/big/": big}, Log: logger(&log)},
		proxy.Config{}, proxy.ForwardOptions{})
	cases := accelerated
	for _, u := range uris {
		cases = append(cases, accelerated[0])
		c := &cases[len(cases)-1]
		c.name, c.o = u, accel(u)
	}
	meant := 0
	for _, c := range cases {
		if c.why != "" {
			meant++
		}
		want, wantBody := exchange(t, nginx.Addr, "", c.o.raw())
		got, gotBody := exchange(t, addr, "", c.o.raw())
		diff := unlike(want, got, string(wantBody), string(gotBody))
		switch {
		case c.why == "" && diff != "":
			t.Errorf("%s: %s", c.name, diff)
		case c.why != "" && diff == "":
			t.Errorf("%s: no difference, though %s", c.name, c.why)
		case c.why != "" && got.StatusCode != c.ours:
			t.Errorf("%s: %d %q, want %d: %s", c.name, got.StatusCode, gotBody, c.ours, c.why)
		}
		if strings.Contains(string(gotBody), "secret") || strings.Contains(string(gotBody), "nobody sees") {
			t.Errorf("%s: %q", c.name, gotBody)
		}
	}
	t.Logf("%d requests, %d meant to differ", len(cases), meant)
	for _, line := range []string{"/protected/a.txt", "/protected/", "/protected/none", "/protected", "/%70rotected/a.txt", "//protected//a.txt", "/x/../protected/a.txt", "/protected/x.php", "/protected/x.php/y", "/protected/big/b.txt"} {
		want, _ := exchange(t, nginx.Addr, "", odd{line: "GET " + line}.raw())
		got, body := exchange(t, addr, "", odd{line: "GET " + line}.raw())
		if want.StatusCode != 404 || got.StatusCode != 404 || string(body) != "not found\n" {
			t.Errorf("a client's %s: %d %q, nginx %d", line, got.StatusCode, body, want.StatusCode)
		}
	}
	for _, part := range []string{"no location of fastcgi.internal", "file=/nothing/here", "script=/answer.php"} {
		if !strings.Contains(log.String(), part) {
			t.Errorf("the log lacks %q: %.600s", part, log.String())
		}
	}
	if s := quiet(t, up); s.Idle == 0 {
		t.Errorf("no connection is kept: %+v", s)
	}
}

// unlike tells how two answers differ, but for what is each server's own.
func unlike(want, got *http.Response, wantBody, gotBody string) string {
	if want.StatusCode != got.StatusCode {
		return fmt.Sprintf("status %d, nginx %d", got.StatusCode, want.StatusCode)
	}
	skip := []string{"Date", "Server", "Connection"}
	if want.StatusCode >= 400 {
		skip, wantBody, gotBody = append(skip, "Content-Type", "Content-Length"), "", ""
	}
	for _, h := range []http.Header{want.Header, got.Header} {
		for _, name := range skip {
			h.Del(name)
		}
	}
	if !maps.EqualFunc(want.Header, got.Header, slices.Equal) {
		return fmt.Sprintf("%v, nginx %v", got.Header, want.Header)
	}
	if wantBody != gotBody {
		return fmt.Sprintf("body %.100q, nginx %.100q", gotBody, wantBody)
	}
	return ""
}

// answering makes an upstream whose scripts all answer with the same.
func answering(t testing.TB, raw string, change func(*Config)) *Upstream {
	t.Helper()
	cfg := fake(t, out(raw)+over(), 1<<20).cfg
	change(&cfg)
	u, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.Close)
	return u
}

// X-Sendfile is what Apache's mod_xsendfile 0.12 and lighttpd 1.4.69 make of it, measured by hand: the fields that both
// keep, Apache's reading of the path, lighttpd's of the status.
func TestSendfile(t *testing.T) {
	dir := store(t)
	const more = "Content-Type: application/pdf\r\nX-Mine: 1\r\nVary: Cookie\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nETag: \"mine\"\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\nAccept-Ranges: none\r\nContent-Encoding: gzip\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
	fields := http.Header{"Content-Type": {"application/pdf"}, "X-Mine": {"1"}, "Vary": {"Cookie"}, "Set-Cookie": {"a=1", "b=2"}, "Etag": {aTag}, "Last-Modified": {aDate}}
	for _, c := range []struct {
		name   string
		head   string
		lines  string
		status int
		body   string
		more   http.Header // beside fields; nil: they are not looked at
	}{
		{"plain", more + "X-Sendfile: " + dir + "/a.txt", "", 200, "0123456789", http.Header{"Accept-Ranges": {"bytes"}, "Content-Length": {"10"}}},
		{"range", more + "X-Sendfile: " + dir + "/a.txt", "Range: bytes=2-4", 206, "234", http.Header{"Content-Range": {"bytes 2-4/10"}, "Content-Length": {"3"}}},
		{"a range that the script made", "Status: 206\r\nContent-Range: bytes 0-1/2\r\n" + more + "X-Sendfile: " + dir + "/a.txt", "Range: bytes=2-4", 206, "234", http.Header{"Content-Range": {"bytes 2-4/10"}, "Content-Length": {"3"}}},
		{"another status, whole", "Status: 403\r\n" + more + "X-Sendfile: " + dir + "/a.txt", "Range: bytes=2-4|If-None-Match: " + aTag, 403, "0123456789", http.Header{"Content-Length": {"10"}}},
		{"redirect", "Location: /x\r\n" + more + "X-Sendfile: " + dir + "/a.txt", "", 302, "0123456789", http.Header{"Content-Length": {"10"}, "Location": {"/x"}}},
		{"not changed", more + "X-Sendfile: " + dir + "/a.txt", "If-None-Match: " + aTag, 304, "", nil},
		{"type of the name", "X-Sendfile: " + dir + "/a.txt", "", 200, "0123456789", nil},
		{"percent is itself", "X-Sendfile: " + dir + "/100%.txt", "", 200, "percent", nil},
		{"escapes are none", "X-Sendfile: " + dir + "/100%25.txt", "", 404, "not found\n", nil},
		{"question mark is itself", "X-Sendfile: " + dir + "/a?b", "", 200, "question", nil},
		{"slashes", "X-Sendfile: " + dir + "//a.txt", "", 200, "0123456789", nil},
		{"link inside", "X-Sendfile: " + dir + "/in", "", 200, "0123456789", nil},
		{"link outside", "X-Sendfile: " + dir + "/out", "", 404, "not found\n", nil},
		{"missing", more + "X-Sendfile: " + dir + "/none", "", 404, "not found\n", nil},
		{"directory", "X-Sendfile: " + dir + "/dir", "", 403, "forbidden\n", nil},
		{"the directory itself", "X-Sendfile: " + dir + "/", "", 403, "forbidden\n", nil},
		{"up", "X-Sendfile: " + dir + "/../outside/secret.txt", "", 404, "not found\n", nil},
		{"up and back", "X-Sendfile: " + dir + "/dir/../a.txt", "", 404, "not found\n", nil},
		{"without a slash", "X-Sendfile: " + dir, "", 502, "*", nil},
		{"a neighbour's name", "X-Sendfile: " + dir + "2/a.txt", "", 502, "*", nil},
		{"elsewhere", "X-Sendfile: /etc/passwd", "", 502, "*", nil},
		{"relative", "X-Sendfile: a.txt", "", 502, "*", nil},
		{"nothing", "X-Sendfile:", "", 502, "*", nil},
		{"the other field", "X-Accel-Redirect: " + dir + "/a.txt", "", 502, "*", nil},
	} {
		u := answering(t, c.head+"\r\n\r\na body that nobody sees", func(cfg *Config) { cfg.Sendfile = []string{dir} })
		addr, _ := front(t, Config{Address: u.cfg.Address, Root: u.cfg.Root, Sendfile: u.cfg.Sendfile}, proxy.Config{}, proxy.ForwardOptions{})
		resp, body := exchange(t, addr, "", odd{line: "GET /dump.php", lines: c.lines}.raw())
		if resp.StatusCode != c.status || c.body != "*" && string(body) != c.body {
			t.Errorf("%s: %d %q, want %d %q", c.name, resp.StatusCode, body, c.status, c.body)
		}
		if strings.Contains(string(body), "secret") || strings.Contains(string(body), "nobody sees") {
			t.Errorf("%s: %q", c.name, body)
		}
		if c.more == nil {
			continue
		}
		if date := resp.Header["Date"]; len(date) != 1 || strings.Contains(date[0], "00:00:00") {
			t.Errorf("%s: dates %q", c.name, date)
		}
		want := maps.Clone(fields)
		maps.Copy(want, c.more)
		delete(resp.Header, "Date")
		delete(resp.Header, "Connection")
		if !maps.EqualFunc(resp.Header, want, slices.Equal) {
			t.Errorf("%s: %v, want %v", c.name, resp.Header, want)
		}
	}
}

// Of a directory that is part of the site, scripts may name files; clients reach none, and nobody gets a program.
func TestFilesOfTheSiteThatScriptsName(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"index.php": "<?php", "up/a.txt": "file", "up/x.php": "source", "up/x.php~": "source", "up/lib.inc": "source", "up/.env": "source", "sub/up/b.txt": "file", "sub/up/x.php": "source", "other.txt": "other"} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	beside := dir + "2"
	if err := os.MkdirAll(beside, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(beside) })
	if err := os.WriteFile(filepath.Join(beside, "x.php"), []byte("no program"), 0o644); err != nil {
		t.Fatal(err)
	}
	other := fake(t, out(head+"elsewhere")+over(), 1<<20)
	for _, static := range []upstream.Upstream{nil, other} {
		for raw, want := range map[string]string{
			"X-Accel-Redirect: /up/a.txt": "file", "X-Accel-Redirect: /up/x.php": "not found\n", "X-Accel-Redirect: /up/x.php~": "not found\n", "X-Accel-Redirect: /up/lib.inc": "not found\n", "X-Accel-Redirect: /up/.env": "not found\n",
			"X-Sendfile: " + dir + "/sub/up/b.txt": "file", "X-Sendfile: " + dir + "/sub/up/x.php": "not found\n",
			"X-Sendfile: " + beside + "/x.php": "no program", "X-Accel-Redirect: /beside/x.php": "no program",
		} {
			u := answering(t, raw+"\r\n\r\n", func(*Config) {})
			addr, _ := front(t, Config{Address: u.cfg.Address, Root: dir, FrontController: true, Static: static, Internal: map[string]string{"/up/": dir + "/up", "/beside/": beside}, Sendfile: []string{dir + "/sub/up/", beside}}, proxy.Config{}, proxy.ForwardOptions{})
			if _, body := exchange(t, addr, "", odd{line: "GET /index.php"}.raw()); string(body) != want {
				t.Errorf("%s: %q, want %q", raw, body, want)
			}
			for _, path := range []string{"/up/a.txt", "/up/x.php", "/up/none", "/up/", "/sub/up/b.txt", "/sub//up/./b.txt", "/sub/up/x.php", "/%75p/a.txt"} {
				if resp, body := exchange(t, addr, "", odd{line: "GET " + path}.raw()); resp.StatusCode != 404 || string(body) != "not found\n" {
					t.Errorf("a client's %s: %d %q", path, resp.StatusCode, body)
				}
			}
		}
	}
}

// While a client takes its time for a large file the script's child serves others, and memory does not grow with files.
func TestSlowClientOfAFileHoldsNoChild(t *testing.T) {
	dir := store(t)
	const size = 64 << 20
	if err := os.Truncate(filepath.Join(dir, "a.txt"), size); err != nil {
		t.Fatal(err)
	}
	fpm := lab.PHPFPM(t, lab.PHPFPMConfig{Root: site(t), Workers: 2})
	addr, up := front(t, Config{Address: "unix:" + fpm.Socket, Root: site(t), MaxConns: 1, Internal: map[string]string{"/protected/": dir}, Bounds: upstream.Bounds{IdleTimeout: time.Hour}}, proxy.Config{}, proxy.ForwardOptions{})
	get := "http://" + addr + strings.TrimPrefix(accel("/protected/a.txt").line, "GET ")
	grown := growth(func() {
		resp, err := http.Get(get)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if s := up.Stats(); s.Open != 1 || s.Idle != 1 {
			t.Errorf("while the file is sent: %+v", s)
		}
		expect(t, addr, odd{line: "GET /answer.php"}, 200, "ok")
		if n, err := io.Copy(io.Discard, resp.Body); n != size || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
	})
	if grown > 8<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
	resp, err := http.Get(get) // and leaves
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if s := quiet(t, up); s.Idle != 1 {
		t.Errorf("%+v", s)
	}
}

// A script that says much beside the file's name is cut off; what it says within the bound costs no connection.
func TestBodiesBesideAFile(t *testing.T) {
	dir := store(t)
	fpm := lab.PHPFPM(t, lab.PHPFPMConfig{Root: site(t), Workers: 4})
	for n, idle := range map[int]int{1: 1, 20_000: 1, 200_000: 0} {
		addr, up := front(t, Config{Address: "unix:" + fpm.Socket, Root: site(t), MaxConns: 1, Internal: map[string]string{"/protected/": dir}, Bounds: upstream.Bounds{IdleTimeout: time.Hour}}, proxy.Config{}, proxy.ForwardOptions{})
		o := accel("/protected/a.txt")
		o.line += fmt.Sprintf("&n=%d", n)
		for range 2 {
			expect(t, addr, o, 200, "0123456789")
		}
		if s := quiet(t, up); s.Open != idle || s.Idle != idle {
			t.Errorf("%d times 24 bytes: %+v, want %d kept", n, s, idle)
		}
	}
}

// What the script chose is told beside what the client gets, when the whole answer was read.
func TestWhatTheScriptChose(t *testing.T) {
	dir := store(t)
	for _, c := range []struct {
		raw            string
		status, chosen int
		body           string
	}{
		{"Status: 403\r\nX-Accel-Redirect: /protected/a.txt", 200, 403, "0123456789"},
		{"X-Accel-Redirect: /protected/none", 404, 200, "not found\n"},
		{"Location: /x\r\nX-Accel-Redirect: /protected/a.txt", 200, 302, "0123456789"},
		{"Status: 201\r\nX-Mine: 1", 201, 201, ""},
	} {
		u := answering(t, c.raw+"\r\n\r\n", func(*Config) {})
		ended := make(chan proxy.Result, 1)
		addr, _ := front(t, Config{Address: u.cfg.Address, Root: u.cfg.Root, Internal: map[string]string{"/protected/": dir}}, proxy.Config{}, proxy.ForwardOptions{Capture: 100, IgnoreClientGone: true,
			BeforeEnd: func(_ *proxy.Exchange, r *proxy.Result) { r.Captured = slices.Clone(r.Captured); ended <- *r }})
		exchange(t, addr, "", odd{line: "POST /dump.php", lines: "Content-Length: 0"}.raw())
		if r := <-ended; r.Status != c.status || r.Chosen != c.chosen || string(r.Captured) != c.body {
			t.Errorf("%q: %d, chosen %d, %q", c.raw, r.Status, r.Chosen, r.Captured)
		}
	}
}

// known is a client whose exchange has an id.
type known struct{ who }

func (known) IDs() (exchange, trace [16]byte) { return [16]byte{0xab}, [16]byte{0xcd} }

// A refusal tells in the log whose request it was.
func TestRefusalsAreLogged(t *testing.T) {
	dir := store(t)
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o666); err != nil {
		t.Fatal(err)
	}
	for raw, want := range map[string]string{
		"X-Accel-Redirect: /else": "no location of fastcgi.internal", "X-Accel-Redirect: @named": "no location of fastcgi.internal", "X-Accel-Redirect: /protected/../x": "leads up", "X-Accel-Redirect: /protected/%zz": "malformed",
		"X-Accel-Redirect: /protected/fifo": "it is no file", "X-Accel-Redirect: /protected/out": "escapes", "X-Accel-Redirect: /protected/dir": "it is a directory", "X-Sendfile: /else": "no directory of fastcgi.sendfile",
	} {
		var log buffer
		u := answering(t, raw+"\r\n\r\n", func(c *Config) {
			c.Internal, c.Sendfile, c.Log = map[string]string{"/protected/": dir}, []string{dir}, logger(&log)
		})
		c, err := u.Get(upstream.Timeouts{}, false)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = converse(c, &upstream.Message{Head: []byte("GET /dump.php HTTP/1.1\r\nHost: a\r\n\r\n"), Origin: known{}}, false)
		c.Abort()
		if err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", raw, err)
		}
		_, file, _ := strings.Cut(raw, ": ")
		for _, part := range []string{want, "file=" + file, "exchange=ab00", "trace_id=cd00", "script=/dump.php", "upstream=legacy"} {
			if !strings.Contains(log.String(), part) {
				t.Errorf("%s: the log lacks %q: %s", raw, part, log.String())
			}
		}
	}
}

// opened is what a value of a field makes an upstream serve: the file's real path, "" for none.
func opened(t testing.TB, u *Upstream, accel bool, value string) string {
	c := u.conns.Get().(*conn)
	defer c.back()
	c.req.Reset()
	if _, err := c.req.Parse([]byte("GET /dump.php HTTP/1.1\r\nHost: a\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	var err error
	if accel {
		err = c.accelerate(value)
	} else {
		err = c.sendfile(value, 200)
	}
	if c.own.file == nil {
		if err == nil && c.own.head == nil {
			t.Errorf("%q is answered with nothing", value)
		}
		return ""
	}
	if err != nil {
		t.Errorf("%q is served in spite of %v", value, err)
	}
	at, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", c.own.file.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// fenced is an upstream with directories whose files may be named, and the real paths of all that may be served.
func fenced(t testing.TB) (u *Upstream, dir string, within func(path string) error) {
	dir = store(t)
	root := t.TempDir()
	for _, name := range []string{"up/a.txt", "up/x.php", "other.txt", "index.php"} {
		if err := os.MkdirAll(filepath.Join(root, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte("site"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	u, err := New(Config{Name: "legacy", Address: "127.0.0.1:1", Root: root, Internal: map[string]string{"/protected/": dir, "/protected/sub/": dir + "/dir/", "/up/": root + "/up"}, Sendfile: []string{dir, root + "/up"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.Close)
	return u, dir, func(path string) error {
		if !strings.HasPrefix(path, dir+"/") && path != root+"/up/a.txt" {
			return errors.New("it is in none of the directories")
		}
		return nil
	}
}

// Whatever a field's value is made of, no file outside of the directories is served, and no program of the site.
func TestNoValueLeavesTheDirectories(t *testing.T) {
	u, dir, within := fenced(t)
	random := rand.New(rand.NewPCG(1, 2))
	starts := []string{"/protected/", "/protected/", "/protected/sub/", "/up/", "/", dir + "/", dir + "/", u.cfg.Root + "/up/", "/protected"}
	ends := []string{"a.txt", "s.txt", "/a.txt", "../a.txt", "secret.txt", "outside/secret.txt", "b.txt", "other.txt"}
	parts := []string{"", "./", "dir/", "up/files/", "dirin/../", "../files/", "/", "//", dir, "..", "../", "%2e%2e", "%2e.", "%2f", "/./", ".", "a.txt", "dir", "s.txt", "sub/", "out", "outdir", "outside", "secret.txt", "abs", "up", "in", "loop", "dirin",
		"%00", "\x00", "?", "#", "\\", "%5c", "etc/passwd", "x.php", "x.php%20", "files", "big", "b.txt", u.cfg.Root, "other.txt", "%252e%252e", "\xc0\xae", "proc/self/root", " ", "\t", "@"}
	served := map[string]int{}
	for range 60_000 {
		value := starts[random.IntN(len(starts))]
		for range 1 + random.IntN(4) {
			if value += parts[random.IntN(len(parts))]; random.IntN(2) == 0 {
				value += "/"
			}
		}
		if random.IntN(3) > 0 {
			value += ends[random.IntN(len(ends))]
		}
		for _, accel := range []bool{true, false} {
			if at := opened(t, u, accel, value); at != "" {
				if served[at]++; within(at) != nil {
					t.Fatalf("%q (accel %v) serves %s: %v", value, accel, at, within(at))
				}
			}
		}
	}
	if len(served) < 4 {
		t.Errorf("only %v were served", served)
	}
}

func FuzzNamedFiles(f *testing.F) {
	u, _, within := fenced(f)
	for _, s := range uris {
		f.Add(s)
	}
	for _, s := range []string{"/protected/out", "/protected/outdir/secret.txt", "/protected/abs", "/protected/up/outside/secret.txt", "/protected/sub/s.txt", "/up/x.php", "/up/a.txt"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		for _, v := range []string{value, u.named.sendfile[0].prefix + value, u.named.internal[0].prefix + value} {
			for _, accel := range []bool{true, false} {
				if at := opened(t, u, accel, v); at != "" && within(at) != nil {
					t.Errorf("%q (accel %v) serves %s: %v", v, accel, at, within(at))
				}
			}
		}
	})
}
