package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"banyan/cmd/internal/role"
)

// Two instances behind a process: each of its proxies' sessions stays, one is drained by command, check sees one that is
// gone.
func TestSeveralInstances(t *testing.T) {
	instance := func(name string) *httptest.Server {
		var n atomic.Int64
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, err := r.Cookie("PHPSESSID"); err != nil && r.URL.Path != "/health" {
				http.SetCookie(w, &http.Cookie{Name: "PHPSESSID", Value: fmt.Sprint(name, n.Add(1))})
			}
			io.WriteString(w, name)
		}))
		t.Cleanup(s.Close)
		return s
	}
	a, b := instance("a"), instance("b")
	dir := t.TempDir()
	file := filepath.Join(dir, "banyan.yaml")
	text := fmt.Sprintf(`version: 1
proxy: { listen: "127.0.0.1:0", admin: "127.0.0.1:0", token: abcdefghijklmnopqrstuvwxyz0123456789 }
upstreams: { legacy: { http: [%q, %q], sticky: { cookie: PHPSESSID }, health: { path: /health, every: 1h } } }
`, a.URL, b.URL)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := load(file)
	if err != nil {
		t.Fatal(err)
	}
	p, err := role.Start(t.Context(), f, role.Roles{Proxy: true}, role.Options{Log: slog.New(slog.DiscardHandler)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := p.Stop(ctx); err != nil {
			t.Error(err)
		}
	}()
	ask := func(cookie string) (at, session string) {
		t.Helper()
		req, _ := http.NewRequest("GET", "http://"+p.Proxy.Addr().String()+"/", nil) // cannot fail
		if cookie != "" {
			req.Header.Set("Cookie", "PHPSESSID="+cookie)
		}
		tr := &http.Transport{DisableKeepAlives: true}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range resp.Cookies() {
			session = c.Value
		}
		return string(body), session
	}
	sessions, count := map[string]string{}, map[string]int{}
	for range 20 {
		at, s := ask("")
		sessions[s] = at
		count[at]++
	}
	// Not exactly in turn: an answer may be read here before its request is no longer under way there.
	if len(sessions) != 20 || count["a"] == 0 || count["b"] == 0 {
		t.Fatal(count, sessions)
	}
	run := func(want int, args ...string) string {
		t.Helper()
		t.Setenv("BANYAN_TOKEN", "abcdefghijklmnopqrstuvwxyz0123456789")
		var out, errs bytes.Buffer
		if status := Report(&errs, Run(t.Context(), args, nil, &out, &errs)); status != want {
			t.Fatalf("%v: status %d\n%s%s", args, status, &out, &errs)
		}
		return out.String() + errs.String()
	}
	admin := "http://" + p.Admin.Addr().String()
	if out := run(0, "upstream", "drain", "legacy", a.URL, "--admin", admin); !strings.Contains(out, "draining") {
		t.Error(out)
	}
	for s, at := range sessions {
		if got, _ := ask(s); got != at {
			t.Errorf("session %s went from %s to %s", s, at, got)
		}
	}
	for range 10 {
		if at, _ := ask(""); at != "b" {
			t.Error("a new session came to the drained instance")
		}
	}
	if out := run(0, "upstream", "show", "--admin", admin); !strings.Contains(out, a.URL) || !strings.Contains(out, fmt.Sprintf("draining  %d ", count["a"])) || !strings.Contains(out, fmt.Sprintf("up        %d ", count["b"]+10)) {
		t.Error(out)
	}
	run(0, "upstream", "drain", "legacy", a.URL, "--off", "--admin", admin)
	if out := run(2, "upstream", "drain", "legacy", "http://nobody", "--admin", admin); !strings.Contains(out, `no instance "http://nobody"`) {
		t.Error(out)
	}
	run(0, "check", "-c", file)
	b.Close()
	if out := run(3, "check", "-c", file); !strings.Contains(out, "upstreams.legacy: instance "+b.URL) || !strings.Contains(out, "refused") {
		t.Error(out)
	}
}
