package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

// Visitors on HTTP/1.1 connections that they keep, and over HTTP/2, notice nothing when ten times an instance of legacy
// is drained by command, and ten times the process that serves drains, since another took its place.
func TestTenDrainsFailNoRequest(t *testing.T) {
	var came [3]atomic.Int64
	var instances []string
	for i := range came {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			came[i].Add(1)
			io.Copy(w, r.Body)
		}))
		t.Cleanup(s.Close)
		instances = append(instances, s.URL)
	}
	dir := t.TempDir()
	certificate(t, dir)
	secure := freePort(t)
	file := filepath.Join(dir, "banyan.yaml")
	rewrite(t, file, fmt.Sprintf("version: 1\nproxy: { listen: \"127.0.0.1:0\", tls: { listen: %q, certificates: [{ cert: site.pem, key: site.key }] }, admin: \"127.0.0.1:0\", token: %s, journal: { dir: %q } }\nupstreams: { legacy: { http: [%q, %q, %q], queue: { wait: 9s } } }\n",
		secure, operatorToken, dir, instances[0], instances[1], instances[2]))
	p := start(t, "proxy", "-c", file)
	admin := p.admin(t)
	t.Setenv("BANYAN_TOKEN", operatorToken)
	const each = 6
	v := visit(t, slices.Concat(overHTTP1(each, p.addr), overHTTP2(each, secure))...)
	at := p.lastOf(t)
	for n := range 10 {
		i := n % len(instances)
		for off := range 2 {
			args := []string{"upstream", "drain", "legacy", instances[i], "--admin", admin}
			if off == 1 {
				args = append(args, "--off")
			}
			if status, stdout, stderr := banyan(t, args...); status != 0 || strings.Contains(stdout, "draining") != (off == 0) {
				t.Fatalf("drain %d: status %d\n%s%s", n, status, stdout, stderr)
			}
			before := came[i].Load()
			v.await(t, 200)
			more := came[i].Load() - before // while it drains, no more than each visitor's one that was under way to it
			if few := more <= 2*each; few != (off == 0) {
				t.Fatalf("drain %d: %d of 200 requests came to the instance, off=%d", n, more, off)
			}
		}
		*at = p.handOver(t, *at)
		v.await(t, 50)
	}
	v.end(t, "10 drains of an instance and 10 of a process")
	if n := v.connections.Load(); n < 2*each*10 {
		t.Errorf("%d connections of %d visitors: not each process ended theirs", n, 2*each)
	}
	p.drained(t, at)
}
