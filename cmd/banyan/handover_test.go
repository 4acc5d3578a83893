package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
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

// certificate writes site.pem and site.key.
func certificate(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"site.test"}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	kder, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]*pem.Block{"site.pem": {Type: "CERTIFICATE", Bytes: der}, "site.key": {Type: "PRIVATE KEY", Bytes: kder}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// freePort is an address that was free a moment ago: the listener for HTTPS is not announced.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Visitors over HTTP/2 and TLS keep their connections, which each process ends with GOAWAY, and no request fails.
func TestUpgradesFailNoRequestOverTLS(t *testing.T) {
	legacy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }))
	defer legacy.Close()
	dir := t.TempDir()
	certificate(t, dir)
	secure := freePort(t)
	file := filepath.Join(dir, "banyan.yaml")
	rewrite(t, file, fmt.Sprintf("version: 1\nproxy: { listen: \"127.0.0.1:0\", tls: { listen: %q, certificates: [{ cert: site.pem, key: site.key }] }, admin: \"127.0.0.1:0\", journal: { dir: %q } }\nupstreams: { legacy: { http: %q } }\n",
		secure, dir, legacy.URL))
	p := start(t, "proxy", "-c", file)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	const visitors = 6
	var wg sync.WaitGroup
	var total, connections atomic.Int64
	served, errs := make(chan struct{}), make(chan error, visitors)
	for i := range visitors {
		wg.Go(func() {
			tr := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
				DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
					connections.Add(1)
					return new(net.Dialer).DialContext(ctx, network, addr)
				}}
			defer tr.CloseIdleConnections()
			for n := 0; ctx.Err() == nil; n++ {
				body := fmt.Sprintf("visitor %d, request %d", i, n)
				// A body that Go's client cannot send again: none is, behind the test's back.
				q, _ := http.NewRequest("POST", "https://"+secure+"/echo", io.MultiReader(strings.NewReader(body)))
				a, err := tr.RoundTrip(q)
				if err != nil {
					errs <- fmt.Errorf("%s: %w", body, err)
					return
				}
				got, err := io.ReadAll(a.Body)
				a.Body.Close()
				if err != nil || a.ProtoMajor != 2 || a.StatusCode != 200 || string(got) != body {
					errs <- fmt.Errorf("%s: %s %d %q: %v", body, a.Proto, a.StatusCode, got, err)
					return
				}
				total.Add(1)
				select {
				case served <- struct{}{}:
				default:
				}
			}
		})
	}
	at := p.cmd.Process.Pid
	t.Cleanup(func() {
		if at != 0 { // not drained: no successor outlives a test that failed
			_ = syscall.Kill(at, syscall.SIGKILL)
		}
	})
	for range 2 {
		for range 50 { // the process serves
			select {
			case <-served:
			case err := <-errs:
				t.Fatal(err)
			}
		}
		at = p.handOver(t, at)
	}
	for range 50 {
		select {
		case <-served:
		case err := <-errs:
			t.Fatal(err)
		}
	}
	stop()
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	if n := connections.Load(); n <= visitors {
		t.Errorf("%d connections of %d visitors: no process ended one", n, visitors)
	}
	t.Logf("%d requests on %d connections over 2 upgrades", total.Load(), connections.Load())
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
