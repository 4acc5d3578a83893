//go:build !race

package role

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	"banyan/cmd/internal/config"
	"banyan/cmd/internal/telemetry"
)

// stacks is what the stacks of all goroutines take, with those that are kept for new ones.
func stacks() int {
	s := []metrics.Sample{{Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(s)
	return int(s[0].Value.Uint64())
}

// TestAnExchangeFitsInto4KiBOfStack: a stack that has grown stays so large while its connection is idle, and the next size
// is 8 KiB. An exchange passes through everything that an installation has: routes whose path matches and whose query
// does not, sessions kept at one of two instances, metrics, traces. (The race detector's frames are larger.)
func TestAnExchangeFitsInto4KiBOfStack(t *testing.T) {
	legacy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hi") }))
	defer legacy.Close()
	f, err := config.Parse(filepath.Join(t.TempDir(), "banyan.yaml"), fmt.Appendf(nil, `version: 1
proxy: { listen: "127.0.0.1:0", replica: a, journal: { dir: journal }, sessions: { cookie: PHPSESSID } }
upstreams:
  legacy: { http: [%q, "http://%s"], sticky: { cookie: PHPSESSID } }
  candidate: { http: %[1]q }
kafka: { brokers: ["127.0.0.1:1"], prefix: stack, partitions: 1, replication: 1 }
migrations:
  units:
    candidate: candidate
    order_by: "match/{match}"
    writes:
      - { name: move, match: { path: /page, query: { action: move } }, params: { match: query.match } }
    reads:
      - { name: view, match: { path: /page, query: { action: view } }, params: { match: query.match }, candidate_path: "/matches/{match}" }
`, legacy.URL, strings.Replace(legacy.Listener.Addr().String(), "127.0.0.1", "localhost", 1)), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	tel, err := telemetry.New(t.Context(), telemetry.Config{Service: "banyan-proxy", Instance: "a", Upstreams: map[string]telemetry.Upstream{"legacy": {Role: "legacy"}}, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	p, err := StartProxy(t.Context(), f, Options{Log: log, Tracer: tel.Tracer(), Observer: tel.Requests})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		_ = p.Stop(ctx) // there is no Kafka that could take the last marks
	}()

	// A collection would halve the stacks that are 8 KiB large, as most of one is free while a connection is idle.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	const n = 400
	ask := func(i int) net.Conn {
		c, err := net.Dial("tcp", p.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "GET /page?action=look&match=7 HTTP/1.1\r\nHost: game.test\r\nAccept: */*\r\nCookie: PHPSESSID=%d\r\n\r\n", i)
		r, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(r.Body); string(b) != "hi" || err != nil {
			t.Fatalf("%d %q, %v", r.StatusCode, b, err)
		}
		return c
	}
	defer ask(0).Close() // what is begun once, at first
	before := stacks()
	for i := range n {
		defer ask(i).Close()
	}
	each := float64(stacks()-before) / n
	t.Logf("%.0f bytes of stack for each idle connection", each)
	if each > 5<<10 {
		t.Errorf("%.0f bytes of stack for each of %d idle connections, want 4 KiB", each, n)
	}
}
