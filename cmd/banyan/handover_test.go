package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// visit sends requests one after the other until ctx ends, on a new connection whenever it is told that the one it has
// closes, and gives their number.
func visit(ctx context.Context, addr string, served func()) error {
	for ctx.Err() == nil {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			return err
		}
		in := bufio.NewReader(nc)
		for n := 0; ctx.Err() == nil; n++ {
			body := fmt.Sprintf("request %d", n)
			fmt.Fprintf(nc, "POST /echo HTTP/1.1\r\nHost: game.test\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				return fmt.Errorf("request %d of its connection: %w", n, err)
			}
			got, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != 200 || string(got) != body {
				return fmt.Errorf("request %d of its connection: %d %q: %v", n, resp.StatusCode, got, err)
			}
			served()
			if resp.Close {
				break
			}
		}
		nc.Close()
	}
	return nil
}

var pid = regexp.MustCompile(`"pid":(\d+)`)

// handOver asks a process for a successor, waits until the process has drained, and gives the successor's id.
func (r *running) handOver(t *testing.T, from int) int {
	t.Helper()
	if err := syscall.Kill(from, syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	next := 0
	for r.stderr.Scan() {
		line := r.stderr.Text()
		if m := pid.FindStringSubmatch(line); m != nil && strings.Contains(line, "handed over") {
			next, _ = strconv.Atoi(m[1])
		}
		if strings.Contains(line, "not handed over") {
			t.Fatal(line)
		}
		if next != 0 && strings.Contains(line, `"msg":"drained"`) {
			return next
		}
	}
	t.Fatal("the log ended before the process had drained")
	return 0
}

func TestUpgradesFailNoRequest(t *testing.T) {
	legacy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }))
	defer legacy.Close()
	p := start(t, "proxy", "--listen", "127.0.0.1:0", "--legacy", legacy.URL, "--admin", "127.0.0.1:0", "--token-file", t.TempDir()+"/token")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	const visitors = 8
	served, errs := make(chan struct{}), make(chan error, visitors)
	var total atomic.Int64
	for i := range visitors {
		wg.Go(func() {
			err := visit(ctx, p.addr, func() {
				total.Add(1)
				select {
				case served <- struct{}{}:
				default:
				}
			})
			if err != nil {
				errs <- fmt.Errorf("visitor %d: %w", i, err)
			}
		})
	}
	at := p.cmd.Process.Pid
	t.Cleanup(func() {
		if at != 0 { // not drained: no successor outlives a test that failed
			_ = syscall.Kill(at, syscall.SIGKILL)
		}
	})
	for range 5 {
		at = p.handOver(t, at)
		for range 100 { // the successor serves
			select {
			case <-served:
			case err := <-errs:
				t.Fatal(err)
			}
		}
	}
	stop()
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	t.Logf("%d requests over 5 upgrades", total.Load())
	if err := syscall.Kill(at, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.awaitLog(t, `"msg":"drained"`)
	at = 0
}

func TestAnUpgradeThatCannotStartLeavesTheOldOne(t *testing.T) {
	legacy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }))
	defer legacy.Close()
	file := write(t, fmt.Sprintf("version: 1\nproxy: { listen: \"127.0.0.1:0\", admin: \"127.0.0.1:0\", journal: { dir: %q } }\nupstreams: { legacy: { http: %q } }\n", t.TempDir(), legacy.URL))
	p := start(t, "proxy", "-c", file)
	rewrite(t, file, "version: 1\nupstreams: { legacy: { http: nonsense } }\n")
	if err := p.cmd.Process.Signal(syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	p.awaitLog(t, "not handed over")
	resp, err := http.Post("http://"+p.addr+"/", "text/plain", strings.NewReader("still here"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, _ := io.ReadAll(resp.Body); string(got) != "still here" {
		t.Fatalf("%d %q", resp.StatusCode, got)
	}
}

func rewrite(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
