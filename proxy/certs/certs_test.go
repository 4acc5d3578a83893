package certs

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// made is a certificate with its key.
type made struct {
	cert, key []byte // PEM
	pair      tls.Certificate
}

func issue(t *testing.T, name string, until time.Time, by *made) made {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: until.Add(-2500 * time.Hour), NotAfter: until, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	parent, signer := tmpl, any(key)
	if by != nil {
		parent, signer = by.pair.Leaf, by.pair.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	kder, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	m := made{cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: kder})}
	if m.pair, err = tls.X509KeyPair(m.cert, m.key); err != nil {
		t.Fatal(err)
	}
	return m
}

var ages time.Duration

// write writes a file that looks changed whatever the file system's clock.
func write(t *testing.T, name string, b []byte) string {
	t.Helper()
	ages += time.Second
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(name, time.Time{}, time.Now().Add(ages)); err != nil {
		t.Fatal(err)
	}
	return name
}

func (m made) files(t *testing.T, dir, name string) Pair {
	return Pair{write(t, filepath.Join(dir, name+".pem"), m.cert), write(t, filepath.Join(dir, name+".key"), m.key)}
}

// echo serves TLS connections that give back what they get.
func echo(t *testing.T, s *Store) (addr string) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", s.Config())
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { defer c.Close(); io.Copy(c, c) })
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().String()
}

// dial gives the name of the certificate that a client is shown.
func dial(t *testing.T, addr string, c *tls.Config) (*tls.Conn, string, error) {
	t.Helper()
	if c == nil {
		c = &tls.Config{}
	}
	c.InsecureSkipVerify = true
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	tc := tls.Client(nc, c)
	t.Cleanup(func() { tc.Close() })
	tc.SetDeadline(time.Now().Add(time.Minute))
	if err := talk(tc); err != nil {
		return nil, "", err
	}
	return tc, tc.ConnectionState().PeerCertificates[0].Subject.CommonName, nil
}

// talk says something and hears it: with TLS 1.3 a client learns only then that it was refused.
func talk(c net.Conn) error {
	if _, err := io.WriteString(c, "x"); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}

var later = time.Now().Add(100 * 24 * time.Hour)

func TestReload(t *testing.T) {
	dir := t.TempDir()
	var log bytes.Buffer
	s, err := New(Config{Pairs: []Pair{issue(t, "first", later, nil).files(t, dir, "site")}}, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	addr := echo(t, s)
	cache := tls.NewLRUClientSessionCache(1)
	shows := func(want string) *tls.Conn {
		t.Helper()
		c, name, err := dial(t, addr, &tls.Config{ClientSessionCache: cache, ServerName: "x"})
		if err != nil || name != want {
			t.Fatalf("shown %q, %v, want %s", name, err, want)
		}
		return c
	}
	old := shows("first")
	if !shows("first").ConnectionState().DidResume {
		t.Error("a second connection did not resume the session")
	}
	if changed, err := s.Reload(); changed || err != nil {
		t.Errorf("nothing changed: %v, %v", changed, err)
	}
	cache = tls.NewLRUClientSessionCache(1)
	second := issue(t, "second", later, nil)
	write(t, filepath.Join(dir, "site.pem"), second.cert) // the key is still the first's
	for range 3 {
		if changed, err := s.Reload(); changed || err == nil || !strings.Contains(err.Error(), "site.pem") {
			t.Errorf("half a pair: %v, %v", changed, err)
		}
	}
	if n := strings.Count(log.String(), "the old ones serve on"); n != 1 {
		t.Errorf("said %d times:\n%s", n, log.String())
	}
	shows("first")
	write(t, filepath.Join(dir, "site.key"), second.key)
	if changed, err := s.Reload(); !changed || err != nil {
		t.Errorf("the whole pair: %v, %v", changed, err)
	}
	cache = tls.NewLRUClientSessionCache(1)
	shows("second")
	if !shows("second").ConnectionState().DidResume {
		t.Error("no session is resumed after a reload")
	}
	if err := talk(old); err != nil {
		t.Errorf("the old connection: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "site.pem")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Reload(); err == nil {
		t.Error("a file is gone, and nobody says so")
	}
	shows("second")
}

func TestWatch(t *testing.T) {
	dir := t.TempDir()
	s, err := New(Config{Pairs: []Pair{issue(t, "first", later, nil).files(t, dir, "site")}, Every: time.Millisecond}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { s.Watch(ctx) })
	issue(t, "second", later, nil).files(t, dir, "site")
	for deadline := time.Now().Add(time.Minute); s.current.Load().Certificates[0].Leaf.Subject.CommonName != "second"; {
		if time.Now().After(deadline) {
			t.Fatal("the new certificate is not in use")
		}
		time.Sleep(time.Millisecond) // what another goroutine does by the clock cannot be waited for otherwise
	}
	cancel()
	wg.Wait()
}

func TestNames(t *testing.T) {
	dir := t.TempDir()
	s, err := New(Config{Pairs: []Pair{issue(t, "a.test", later, nil).files(t, dir, "a"), issue(t, "b.test", later, nil).files(t, dir, "b"), issue(t, "*.c.test", later, nil).files(t, dir, "c")}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	addr := echo(t, s)
	for asked, want := range map[string]string{"a.test": "a.test", "b.test": "b.test", "x.c.test": "*.c.test", "other.test": "a.test", "": "a.test"} {
		if _, name, err := dial(t, addr, &tls.Config{ServerName: asked}); err != nil || name != want {
			t.Errorf("%q is shown %q, %v, want %q", asked, name, err, want)
		}
	}
}

func TestProtocols(t *testing.T) {
	dir := t.TempDir()
	pairs := []Pair{issue(t, "a", later, nil).files(t, dir, "a")}
	for _, c := range []struct {
		min     string
		client  uint16
		offered []string
		want    string
	}{
		{"", tls.VersionTLS13, []string{"h2", "http/1.1"}, "h2"},
		{"", tls.VersionTLS13, []string{"http/1.1"}, "http/1.1"},
		{"", tls.VersionTLS12, []string{"http/1.1", "h2"}, "h2"},
		{"", tls.VersionTLS12, nil, ""},
		{"", tls.VersionTLS11, nil, "refused"},
		{"1.3", tls.VersionTLS12, nil, "refused"},
		{"1.3", tls.VersionTLS13, []string{"h2"}, "h2"},
	} {
		s, err := New(Config{Pairs: pairs, MinVersion: c.min}, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := "refused"
		if tc, _, err := dial(t, echo(t, s), &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: c.client, NextProtos: c.offered}); err == nil {
			got = tc.ConnectionState().NegotiatedProtocol
		}
		if got != c.want {
			t.Errorf("min %q, client %x with %q: %q, want %q", c.min, c.client, c.offered, got, c.want)
		}
	}
}

func TestClientCA(t *testing.T) {
	dir := t.TempDir()
	ca, other := issue(t, "ca", later, nil), issue(t, "other", later, nil)
	client, stranger := issue(t, "client", later, &ca), issue(t, "stranger", later, &other)
	s, err := New(Config{Pairs: []Pair{issue(t, "a", later, nil).files(t, dir, "a")}, ClientCA: write(t, filepath.Join(dir, "ca.pem"), ca.cert)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	addr, cache := echo(t, s), tls.NewLRUClientSessionCache(1)
	with := func(m ...made) error {
		c := &tls.Config{ClientSessionCache: cache, ServerName: "a"}
		for _, m := range m {
			c.Certificates = append(c.Certificates, m.pair)
		}
		_, _, err := dial(t, addr, c)
		return err
	}
	if err := with(client); err != nil {
		t.Errorf("a client of the authority: %v", err)
	}
	if with() == nil || with(stranger) == nil {
		t.Error("a client without a certificate, or with another's, was let in")
	}
	write(t, filepath.Join(dir, "ca.pem"), other.cert)
	if _, err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	if with(client) == nil {
		t.Error("a client of an authority that was taken out was let in")
	}
	if err := with(stranger); err != nil {
		t.Errorf("a client of the new authority: %v", err)
	}
}

func TestTrouble(t *testing.T) {
	dir := t.TempDir()
	good := issue(t, "good", later, nil)
	pair := good.files(t, dir, "good")
	mixed := Pair{pair.Cert, issue(t, "other", later, nil).files(t, dir, "other").Key}
	text := write(t, filepath.Join(dir, "text"), []byte("no PEM"))
	for name, c := range map[string]struct {
		cfg  Config
		want string
	}{
		"none":           {Config{}, "certificates: none"},
		"no file":        {Config{Pairs: []Pair{pair, {filepath.Join(dir, "missing.pem"), pair.Key}}}, "certificates[1]: cert: open "},
		"no key":         {Config{Pairs: []Pair{{pair.Cert, filepath.Join(dir, "missing.key")}}}, "certificates[0]: key: open "},
		"not a pair":     {Config{Pairs: []Pair{mixed}}, "private key does not match public key"},
		"not PEM":        {Config{Pairs: []Pair{{text, pair.Key}}}, "failed to find any PEM data in certificate input"},
		"version":        {Config{Pairs: []Pair{pair}, MinVersion: "1.1"}, `min_version: "1.1": want 1.2 or 1.3`},
		"no authority":   {Config{Pairs: []Pair{pair}, ClientCA: text}, "holds no certificate"},
		"authority gone": {Config{Pairs: []Pair{pair}, ClientCA: filepath.Join(dir, "missing")}, "client_ca: open "},
	} {
		if _, err := New(c.cfg, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	now := time.Now()
	for want, until := range map[string]time.Time{"expired on ": now.Add(-time.Hour), "is valid only from ": now.Add(3000 * time.Hour)} {
		refused, err := Check(Config{Pairs: []Pair{issue(t, "late", until, nil).files(t, dir, "late")}}, now)
		if err != nil || len(refused) != 1 || !strings.Contains(refused[0], "certificate for late "+want) {
			t.Errorf("%q, %v, want %s", refused, err, want)
		}
	}
	var log bytes.Buffer
	if _, err := New(Config{Pairs: []Pair{issue(t, "soon", now.Add(time.Hour), nil).files(t, dir, "soon")}}, slog.New(slog.NewTextHandler(&log, nil))); err != nil || !strings.Contains(log.String(), "certificate for soon expires on ") {
		t.Errorf("%v, %s", err, log.String())
	}
	if refused, err := Check(Config{Pairs: []Pair{pair}}, now); len(refused) > 0 || err != nil {
		t.Errorf("a good pair: %q, %v", refused, err)
	}
}
