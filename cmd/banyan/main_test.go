package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var binary string

func TestMain(m *testing.M) {
	if os.Getenv(uploadsEnv) != "" {
		upload()
		return
	}
	if to := os.Getenv(relayEnv); to != "" {
		relay(to)
		return
	}
	dir, err := os.MkdirTemp("", "banyan")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = filepath.Join(dir, "banyan")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		os.Exit(1)
	}
	status := m.Run()
	os.RemoveAll(dir)
	os.Exit(status)
}

// banyan runs the binary to its end.
func banyan(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// running is a proxy that listens.
type running struct {
	cmd    *exec.Cmd
	addr   string
	stdout *bufio.Reader
	stderr *bufio.Scanner
}

func start(t *testing.T, args ...string) *running {
	t.Helper()
	r := &running{cmd: exec.Command(binary, args...)}
	stdout, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := r.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.cmd.Process.Kill(); r.cmd.Wait() })
	r.stderr = bufio.NewScanner(stderr)
	r.stdout = bufio.NewReader(stdout)
	line, err := r.stdout.ReadString('\n')
	if err != nil {
		rest, _ := io.ReadAll(stderr)
		t.Fatalf("no line that tells where it listens: %v\n%s", err, rest)
	}
	_, r.addr, _ = strings.Cut(line, "listens on http://")
	r.addr, _, _ = strings.Cut(r.addr, " ")
	return r
}

// admin is where its admin API is, of a process that was started with one.
func (r *running) admin(t *testing.T) string {
	t.Helper()
	line, err := r.stdout.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	_, admin, _ := strings.Cut(strings.TrimSpace(line), "admin API on ")
	return admin
}

// awaitLog reads until a line of the log has the word.
func (r *running) awaitLog(t *testing.T, word string) {
	t.Helper()
	for r.stderr.Scan() {
		if strings.Contains(r.stderr.Text(), word) {
			return
		}
	}
	t.Fatalf("the log ended without %q", word)
}

func (r *running) wait(t *testing.T) int {
	t.Helper()
	io.Copy(io.Discard, readerOf(r.stderr))
	r.cmd.Wait()
	return r.cmd.ProcessState.ExitCode()
}

func readerOf(s *bufio.Scanner) io.Reader {
	pr, pw := io.Pipe()
	go func() { // ends with the process, which closes its stderr
		for s.Scan() {
			fmt.Fprintln(pw, s.Text())
		}
		pw.Close()
	}()
	return pr
}

func TestDrainFailsNoRequest(t *testing.T) {
	release, arrived := make(chan struct{}), make(chan struct{})
	legacy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(arrived)
			<-release
		}
		io.Copy(w, r.Body)
	}))
	defer legacy.Close()
	p := start(t, "proxy", "--listen", "127.0.0.1:0", "--legacy", legacy.URL)

	slow := make(chan error, 1)
	go func() {
		resp, err := http.Post("http://"+p.addr+"/slow", "text/plain", strings.NewReader("slow"))
		if err == nil {
			got, e := io.ReadAll(resp.Body)
			if err = e; err == nil && string(got) != "slow" {
				err = fmt.Errorf("%d %q", resp.StatusCode, got)
			}
		}
		slow <- err
	}()
	<-arrived
	var wg, warm sync.WaitGroup
	const clients = 8
	warm.Add(clients)
	errs := make([]error, clients)
	for i := range clients {
		wg.Go(func() {
			_, errs[i] = client(p.addr, func(n int) bool {
				if n == 20 {
					warm.Done()
				}
				return true
			})
		})
	}
	warm.Wait()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.awaitLog(t, "draining")
	wg.Wait()
	close(release)
	if err := <-slow; err != nil {
		t.Errorf("the request that was under way: %v", err)
	}
	for i, err := range errs {
		if err != nil {
			t.Errorf("client %d: %v", i, err)
		}
	}
	if status := p.wait(t); status != 0 {
		t.Errorf("exit status %d, want 0", status)
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	arrived := make(chan struct{})
	end := make(chan struct{})
	legacy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(arrived)
		<-end
	}))
	defer legacy.Close()
	defer close(end)
	p := start(t, "proxy", "--listen", "127.0.0.1:0", "--legacy", legacy.URL)
	nc, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	io.WriteString(nc, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	<-arrived
	p.cmd.Process.Signal(syscall.SIGTERM)
	p.awaitLog(t, "draining")
	p.cmd.Process.Signal(syscall.SIGTERM)
	if status := p.wait(t); status != 128+int(syscall.SIGTERM) {
		t.Fatalf("exit status %d; want an end by the second signal", status)
	}
}

func TestLegacyDownIsAWarning(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	p := start(t, "proxy", "--listen", "127.0.0.1:0", "--legacy", "http://"+addr)
	p.awaitLog(t, "legacy does not answer")
	resp, err := http.Get("http://" + p.addr)
	if err != nil || resp.StatusCode != 502 {
		t.Fatalf("%v %v; want 502", resp, err)
	}
	resp.Body.Close()
}

func TestUsageErrors(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"unknown command":  {[]string{"prox"}, "did you mean `banyan proxy`?"},
		"unknown flag":     {[]string{"proxy", "--lisen", ":1"}, "unknown flag: --lisen"},
		"no legacy":        {[]string{"proxy", "--listen", ":0"}, "where is legacy?"},
		"no listen":        {[]string{"proxy", "--legacy", "http://127.0.0.1:1"}, "where to listen?"},
		"bad legacy":       {[]string{"proxy", "--listen", ":0", "--legacy", "127.0.0.1:80"}, "http://host:port"},
		"legacy's path":    {[]string{"proxy", "--listen", ":0", "--legacy", "http://127.0.0.1:80/game"}, "has a path"},
		"rootless php":     {[]string{"proxy", "--listen", ":0", "--legacy", "fastcgi:127.0.0.1:9000"}, "--root /srv/game/public"},
		"root for http":    {[]string{"proxy", "--listen", ":0", "--legacy", "http://127.0.0.1:80", "--root", "/srv"}, "--root and --front-controller belong to a php-fpm"},
		"bad fastcgi":      {[]string{"proxy", "--listen", ":0", "--legacy", "fastcgi:/run/php.sock", "--root", "/srv"}, "is neither host:port nor unix:/path"},
		"bad range":        {[]string{"proxy", "--listen", ":0", "--legacy", "http://127.0.0.1:80", "--trusted-proxy", "nginx"}, "10.0.0.0/8"},
		"bad level":        {[]string{"proxy", "--listen", ":0", "--legacy", "http://127.0.0.1:80", "--log-level", "loud"}, "debug, info, warn or error"},
		"bad address":      {[]string{"proxy", "--listen", "nowhere", "--legacy", "http://127.0.0.1:80"}, "host:port"},
		"metrics for whom": {[]string{"proxy", "--listen", ":0", "--legacy", "http://127.0.0.1:80", "--admin", "127.0.0.1:0"}, "--admin needs --token-file"},
		"cert alone":       {[]string{"proxy", "--listen", ":0", "--legacy", "http://127.0.0.1:80", "--tls-cert", "a.pem"}, "--tls-cert and --tls-key go together"},
		"no such cert":     {[]string{"proxy", "--listen", "127.0.0.1:0", "--legacy", "http://127.0.0.1:80", "--tls-cert", "missing.pem", "--tls-key", "missing.key"}, "open missing.pem"},
		"both":             {[]string{"proxy", "--listen", ":0", "-c", "banyan.yaml"}, "--listen has no effect with -c"},
		"no such file":     {[]string{"serve", "-c", "/not/there.yaml"}, "no such file"},
		"too many words":   {[]string{"proxy", "now"}, "banyan proxy"},
		"bad output":       {[]string{"version", "-o", "xml"}, "text or json"},
		"help of nothing":  {[]string{"help", "nothing"}, "`banyan --help` lists them"},
	} {
		t.Run(name, func(t *testing.T) {
			status, stdout, stderr := banyan(t, c.args...)
			if status != 2 || stdout != "" || !strings.Contains(stderr, c.want) {
				t.Fatalf("status %d, stdout %q, stderr %q; want 2, nothing, and %q", status, stdout, stderr, c.want)
			}
		})
	}
}

func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "banyan.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// get reads a page of the admin listener.
func get(t *testing.T, url, token string) (int, string) {
	t.Helper()
	r, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestConfigErrors(t *testing.T) {
	file := write(t, "version: 1\nproxy:\n  lisen: \":80\"\nupstreams: { legacy: { htp: \"x\" } }\n")
	for _, command := range []string{"check", "proxy", "shadow", "serve"} {
		status, stdout, stderr := banyan(t, command, "-c", file)
		for _, want := range []string{file + ":3:3: proxy.lisen: unknown key (did you mean listen?)", `  3 |   lisen: ":80"`, file + ":4:24: upstreams.legacy.htp", "2 errors"} {
			if status != 2 || stdout != "" || !strings.Contains(stderr, want) {
				t.Errorf("%s: status %d, stdout %q, stderr %q; want 2, nothing, and %q", command, status, stdout, stderr, want)
			}
		}
	}
	status, stdout, stderr := banyan(t, "check", "-c", file, "-o", "json")
	if status != 2 || stderr != "" || !strings.Contains(stdout, `"line": 3`) {
		t.Errorf("status %d, stdout %q, stderr %q", status, stdout, stderr)
	}
}

func legacyServer(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "legacy "+r.URL.Path) }))
	t.Cleanup(s.Close)
	return s.URL
}

// metered starts a proxy without a configuration, and gives where its metrics are and the token that reads them.
func metered(t *testing.T) (p *running, admin, token string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	p = start(t, "proxy", "--listen", "127.0.0.1:0", "--legacy", legacyServer(t), "--admin", "127.0.0.1:0", "--token-file", file)
	line, err := p.stdout.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	_, admin, _ = strings.Cut(line, "admin listener on ")
	admin, _, _ = strings.Cut(admin, ",")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return p, admin, strings.TrimSpace(string(text))
}

func TestPassthroughWithMetrics(t *testing.T) {
	p, admin, token := metered(t)
	for range 2 { // on one connection: the first is counted when the second is answered
		if status, body := get(t, "http://"+p.addr+"/map", ""); status != 200 || body != "legacy /map" {
			t.Fatalf("%d %q", status, body)
		}
	}
	status, body := get(t, admin+"/metrics", token)
	if want := `http_server_request_duration_seconds_count{http_request_method="GET",http_response_status_code="200"`; status != 200 || !strings.Contains(body, want) {
		t.Fatalf("%d: no %s in\n%s", status, want, body)
	}
	if status, _ := get(t, admin+"/metrics", ""); status != 401 {
		t.Fatalf("metrics without a token: %d", status)
	}
	if status, _ := get(t, admin+"/healthz", ""); status != 200 {
		t.Fatalf("health: %d", status)
	}
}

func TestProxyWithAConfiguration(t *testing.T) {
	file := write(t, "version: 1\nproxy: { listen: \"127.0.0.1:0\", admin: \"127.0.0.1:0\" }\nupstreams: { legacy: { http: \""+legacyServer(t)+"\" } }\n")
	p := start(t, "proxy", "-c", file)
	line, err := p.stdout.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	_, admin, _ := strings.Cut(line, "admin API on ")
	admin, _, _ = strings.Cut(strings.TrimSpace(admin), ",")
	if status, body := get(t, "http://"+p.addr+"/map", ""); status != 200 || body != "legacy /map" {
		t.Fatalf("%d %q", status, body)
	}
	if status, body := get(t, admin+"/readyz", ""); status != 200 {
		t.Fatalf("readiness: %d %s", status, body)
	}
	status, _, stderr := banyan(t, "stage", "show", "-c", file, "--admin", admin)
	if status != 2 || !strings.Contains(stderr, "at least one migration") {
		t.Fatalf("stages without migrations: %d %q", status, stderr)
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if status := p.wait(t); status != 0 {
		t.Fatalf("exit status %d", status)
	}
}

// TestEveryCommandExplainsItself walks the whole tree of commands.
func TestEveryCommandExplainsItself(t *testing.T) {
	var walk func(path ...string)
	walk = func(path ...string) {
		status, stdout, stderr := banyan(t, append(path, "--help")...)
		if status != 0 || stderr != "" || !strings.Contains(stdout, "Usage:\n  banyan") {
			t.Errorf("%v: status %d, stderr %q\n%s", path, status, stderr, stdout)
		}
		listing := false
		for line := range strings.Lines(stdout) {
			f := strings.Fields(line)
			switch {
			case !strings.HasPrefix(line, " "):
				listing = len(f) > 0 && strings.HasSuffix(strings.TrimSpace(line), ":") && !strings.Contains("Usage: Examples: Flags:", strings.TrimSpace(line)) && !strings.HasPrefix(line, "Global")
			case listing && len(f) == 1:
				t.Errorf("%v: %s is not explained", path, f[0])
			case listing && f[0] != "help" && f[0] != "completion" && strings.HasPrefix(line, "  ") && line[2] != ' ' && line[2] != '-':
				walk(append(path[:len(path):len(path)], f[0])...)
			}
		}
	}
	walk()
}
