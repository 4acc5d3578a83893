package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
)

const operatorToken = "abcdefghijklmnopqrstuvwxyz0123456789"

// named is a backend that echoes bodies, and says its name to those who ask.
func named(t *testing.T, name string) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			io.WriteString(w, name)
			return
		}
		io.Copy(w, r.Body)
	}))
	t.Cleanup(s.Close)
	return s
}

// Visitors notice nothing of 20 reloads, by signal and by command, that change routes and instances, of which every third
// file is bad.
func TestReloadsFailNoRequest(t *testing.T) {
	a, b, c := named(t, "a"), named(t, "b"), named(t, "c")
	head := fmt.Sprintf("version: 1\nproxy: { listen: \"127.0.0.1:0\", admin: \"127.0.0.1:0\", token: %s, journal: { dir: %q } }\n", operatorToken, t.TempDir())
	texts := []string{
		head + fmt.Sprintf("upstreams: { legacy: { http: [%q, %q], queue: { wait: 9s } }, new: { http: %q }, same: { http: %q } }\nroutes: [{ match: { path: /which }, to: new }, { match: { path: /same }, to: same }]\n", a.URL, b.URL, c.URL, a.URL),
		head + fmt.Sprintf("upstreams: { legacy: { http: [%q, %q], queue: { wait: 9s } }, other: { http: %q }, same: { http: %q } }\nroutes: [{ match: { path: /which }, to: other }, { match: { path: /same }, to: same }]\n", c.URL, a.URL, b.URL, a.URL),
	}
	want := []string{"c", "b"}
	const bad = "version: 1\nupstreams:\n  legacy: { http: nonsense }\n"
	file := write(t, texts[0])
	p := start(t, "proxy", "-c", file)
	admin := p.admin(t)
	t.Setenv("BANYAN_TOKEN", operatorToken)

	v := visit(t, overHTTP1(8, p.addr)...)
	get := func(url string) string {
		t.Helper()
		req, err := http.NewRequest("GET", url, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+operatorToken)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("%d %q: %v", resp.StatusCode, got, err)
		}
		return string(got)
	}
	now := 0
	for n := range 20 {
		word, status, says := `"msg":"reloaded"`, 0, "revision"
		if n%3 == 2 {
			rewrite(t, file, bad)
			word, status, says = "the old configuration serves on", 2, file+":3:19: upstreams.legacy.http"
		} else {
			now = 1 - now
			rewrite(t, file, texts[now])
		}
		if n%2 == 0 {
			if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
			if status != 0 {
				p.awaitLog(t, file+":3:19: upstreams.legacy.http")
			}
		} else if got, stdout, stderr := banyan(t, "reload", "--admin", admin); got != status || !strings.Contains(stdout+stderr, says) {
			t.Fatalf("reload %d: status %d\n%s%s", n, got, stdout, stderr)
		}
		p.awaitLog(t, word)
		if got := get("http://" + p.addr + "/which"); got != want[now] {
			t.Fatalf("reload %d: %q answers, want %q", n, got, want[now])
		}
		if got := get("http://" + p.addr + "/same"); got != "a" {
			t.Fatalf("reload %d: %q answers where nothing changed", n, got)
		}
		v.await(t, 50) // it serves
	}
	v.end(t, "20 reloads")
	metrics := get(admin + "/metrics")
	for _, want := range []string{`banyan_config_reload_total{banyan_outcome="applied"} 14`, `banyan_config_reload_total{banyan_outcome="bad"} 6`,
		"banyan_config_last_reload_success 1", "banyan_config_revision"} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in the metrics:\n%s", want, only(metrics, "banyan_config"))
		}
	}
}

// only are the lines with a word.
func only(text, word string) string {
	var out []string
	for l := range strings.Lines(text) {
		if strings.Contains(l, word) {
			out = append(out, l)
		}
	}
	return strings.Join(out, "")
}

// A change that a running process cannot take over is refused by name, with all that stands beside it.
func TestARefusedReloadTakesNothingOver(t *testing.T) {
	a, b := named(t, "a"), named(t, "b")
	text := "version: 1\nproxy: { listen: \"127.0.0.1:0\", admin: %q, token: " + operatorToken + ", journal: { dir: " + fmt.Sprintf("%q", t.TempDir()) + " } }\nupstreams: { legacy: { http: %q } }\n"
	file := write(t, fmt.Sprintf(text, "127.0.0.1:0", a.URL))
	p := start(t, "proxy", "-c", file)
	admin := p.admin(t)
	t.Setenv("BANYAN_TOKEN", operatorToken)
	rewrite(t, file, fmt.Sprintf(text, "127.0.0.1:1", b.URL))
	status, stdout, stderr := banyan(t, "reload", "--admin", admin)
	if status != 2 || !strings.Contains(stderr, "proxy.admin") || !strings.Contains(stderr, "SIGUSR2") || strings.Contains(stderr, "legacy") {
		t.Fatalf("status %d\n%s%s", status, stdout, stderr)
	}
	resp, err := http.Get("http://" + p.addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, _ := io.ReadAll(resp.Body); string(got) != "a" {
		t.Fatalf("%q answers: half of the file was taken over", got)
	}
}
