package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
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
	"syscall"
	"testing"
	"time"
)

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

// lastOf is the id of the process that serves, for the test to keep true: that one does not outlive a test that failed.
func (r *running) lastOf(t *testing.T) *int {
	at := new(r.cmd.Process.Pid)
	t.Cleanup(func() {
		if *at != 0 {
			_ = syscall.Kill(*at, syscall.SIGKILL)
		}
	})
	return at
}

// drained ends the process that serves, and waits until it has drained.
func (r *running) drained(t *testing.T, at *int) {
	t.Helper()
	if err := syscall.Kill(*at, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	r.awaitLog(t, `"msg":"drained"`)
	*at = 0
}

func TestUpgradesFailNoRequest(t *testing.T) {
	legacy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }))
	defer legacy.Close()
	p := start(t, "proxy", "--listen", "127.0.0.1:0", "--legacy", legacy.URL, "--admin", "127.0.0.1:0", "--token-file", t.TempDir()+"/token")
	v := visit(t, overHTTP1(8, p.addr)...)
	at := p.lastOf(t)
	for range 5 {
		*at = p.handOver(t, *at)
		v.await(t, 100) // the successor serves
	}
	v.end(t, "5 upgrades")
	p.drained(t, at)
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
	const each = 6
	v := visit(t, overHTTP2(each, secure)...)
	at := p.lastOf(t)
	for range 2 {
		v.await(t, 50) // the process serves
		*at = p.handOver(t, *at)
	}
	v.await(t, 50)
	v.end(t, "2 upgrades")
	if n := v.connections.Load(); n <= each {
		t.Errorf("%d connections of %d visitors: no process ended one", n, each)
	}
	p.drained(t, at)
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
