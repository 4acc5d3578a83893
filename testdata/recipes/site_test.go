package recipes

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"banyan/testdata/lab"
)

// site is an nginx with php-fpm whose configuration is exchanged, on one public address all the time.
type site struct {
	dir    string // of the configuration
	public string // host:port that clients know
	inner  string // of the nginx behind banyan
	front  string // of banyan behind nginx
	tls    bool
	nginx  *lab.NginxServer
	fpm    *lab.PHPFPMServer
	fill   *strings.Replacer // from the addresses and paths of the files to those of this test
}

const (
	publicIP = "127.0.0.2" // all of 127/8 is loopback: so PHP can tell the public address,
	clientIP = "127.0.0.9" // the client
	// and everybody on 127.0.0.1 apart.
)

func newSite(t *testing.T, conf string, secure bool) *site {
	t.Helper()
	root, err := filepath.Abs("public")
	if err != nil {
		t.Fatal(err)
	}
	at := func(ip string) string { return fmt.Sprintf("%s:%d", ip, lab.FreePort(t)) }
	s := &site{dir: t.TempDir(), public: at(publicIP), inner: at("127.0.0.1"), front: at("127.0.0.1"), tls: secure}
	s.fpm = lab.PHPFPM(t, lab.PHPFPMConfig{Root: root, Workers: 4, Ini: map[string]string{"upload_max_filesize": "32M", "post_max_size": "32M"}})
	_, port, _ := net.SplitHostPort(s.public)
	s.fill = strings.NewReplacer(
		"listen 443", "listen "+s.public, "listen 80;", "listen "+s.public+";", "SERVER_PORT 443", "SERVER_PORT "+port, "SERVER_PORT 80", "SERVER_PORT "+port,
		"127.0.0.1:8080", s.front, "127.0.0.1:8081", s.inner, "/srv/game/public", root, "/etc/ssl", s.dir, "/run/php/php-fpm.sock", s.fpm.Socket,
		"include ", "include "+s.dir+"/")
	certificate(t, s.dir)
	for _, name := range []string{"php.conf", "fastcgi.conf"} {
		s.write(t, name, read(t, name))
	}
	s.write(t, "site.conf", read(t, conf))
	s.nginx = lab.Nginx(t, "server { listen {{.Addr}}; return 204; }\ninclude "+s.dir+"/site.conf;")
	return s
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func (s *site) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(s.fill.Replace(text)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// use gives nginx another configuration, as `nginx -s reload` does. It returns before the last old worker has ended.
func (s *site) use(t *testing.T, conf string) {
	t.Helper()
	s.write(t, "site.conf", conf)
	if err := syscall.Kill(s.nginx.Pid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
}

// restart gives nginx another configuration for sure.
func (s *site) restart(t *testing.T, conf string) {
	t.Helper()
	s.write(t, "site.conf", conf)
	if err := s.nginx.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := s.nginx.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func certificate(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "game.example"}, DNSNames: []string{"game.example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	k, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]*pem.Block{"crt": {Type: "CERTIFICATE", Bytes: der}, "key": {Type: "EC PRIVATE KEY", Bytes: k}} {
		if err := os.WriteFile(filepath.Join(dir, "game.example."+name), pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// binary is banyan, built once.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "banyan-recipes-")
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "banyan")
	if out, err := exec.Command("go", "build", "-o", file, "banyan/cmd/banyan").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build banyan: %w\n%s", err, out)
	}
	return file, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if file, err := binary(); err == nil {
		_ = os.RemoveAll(filepath.Dir(file))
	}
	os.Exit(code)
}

// proxy is a running banyan.
type proxy struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer
	forget func()
}

// start runs the built banyan until the test ends or stop. It is ready when it has said where it listens.
func start(t *testing.T, env []string, args ...string) *proxy {
	t.Helper()
	file, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{cmd: exec.Command(file, args...)}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.Stderr = &p.stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if p.forget, err = lab.Watch(p.cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		_ = p.cmd.Wait()
		t.Fatalf("banyan %s: %v\n%s", strings.Join(args, " "), err, &p.stderr)
	}
	go io.Copy(io.Discard, out) // ends with the process
	t.Cleanup(func() { p.stop(t) })
	t.Log(strings.TrimSpace(line))
	return p
}

// stop drains and ends banyan.
func (p *proxy) stop(t *testing.T) {
	t.Helper()
	if p.forget == nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	err := p.cmd.Wait()
	p.forget()
	p.forget = nil
	if err != nil {
		t.Errorf("banyan: %v\n%s", err, &p.stderr)
	}
}

// ask sends one request as it stands, from clientIP, and gives the answer and the client's port.
func (s *site) ask(method, target, head string, body []byte) (*http.Response, []byte, int, error) {
	return exchange(s.public, s.tls, method, target, head, body)
}

func exchange(addr string, secure bool, method, target, head string, body []byte) (*http.Response, []byte, int, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(clientIP)}, Timeout: time.Minute}
	c, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, nil, 0, err
	}
	defer c.Close()
	port := c.LocalAddr().(*net.TCPAddr).Port
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if secure {
		c = tls.Client(c, &tls.Config{ServerName: "game.example", InsecureSkipVerify: true}) //nolint:gosec // the test's own certificate
	}
	sent := make(chan struct{})
	go func() { // ends when all is sent or the connection is closed
		defer close(sent)
		var b bytes.Buffer
		fmt.Fprintf(&b, "%s %s HTTP/1.1\r\n%s", method, target, head)
		if body != nil {
			fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
		}
		b.WriteString("Connection: close\r\n\r\n")
		b.Write(body)
		_, _ = c.Write(b.Bytes()) // who refuses a body may stop reading it
	}()
	r, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		return nil, nil, port, err
	}
	got, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode < 400 {
		<-sent
	}
	return r, got, port, err
}
