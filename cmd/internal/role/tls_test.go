package role

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"banyan/cmd/internal/config"
)

func writeCertificate(t *testing.T, dir, host string, until time.Time) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: until.Add(-24 * time.Hour), NotAfter: until, DNSNames: []string{host}}
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

func tlsFile(t *testing.T, dir, legacy string) *config.File {
	t.Helper()
	f, err := config.Parse(filepath.Join(dir, "banyan.yaml"), []byte(fmt.Sprintf(`version: 1
upstreams: { legacy: { http: %q } }
proxy:
  listen: "127.0.0.1:0"
  tls: { listen: "localhost:0", certificates: [{ cert: site.pem, key: site.key }] }
`, legacy)), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// The second listener speaks HTTPS, legacy is told so, and a stop ends both listeners.
func TestProxyServesTLS(t *testing.T) {
	legacy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Header.Get("X-Forwarded-Proto")) }))
	defer legacy.Close()
	dir := t.TempDir()
	writeCertificate(t, dir, "site.test", time.Now().Add(time.Hour))
	p, err := StartProxy(t.Context(), tlsFile(t, dir, legacy.URL), Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	for url, want := range map[string]string{"http://" + p.Addr().String(): "1 http", "https://" + p.tls.Addr().String(): "2 https"} {
		a, err := (&http.Client{Transport: tr}).Get(url)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(a.Body)
		a.Body.Close()
		if got := fmt.Sprintf("%d %s", a.ProtoMajor, b); got != want {
			t.Errorf("%s: %s, want %s", url, got, want)
		}
	}
	tr.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := p.Stop(ctx); err != nil {
		t.Error(err)
	}
}

func TestCheckReadsCertificates(t *testing.T) {
	dir := t.TempDir()
	f := tlsFile(t, dir, "http://127.0.0.1:1")
	lacks := func() string { return fmt.Sprint(Check(t.Context(), f)) }
	if got := lacks(); !strings.Contains(got, "proxy.tls certificates[0]: cert: open ") {
		t.Errorf("no file: %s", got)
	}
	writeCertificate(t, dir, "site.test", time.Now().Add(-time.Hour))
	if got := lacks(); !strings.Contains(got, "certificate for site.test expired on ") {
		t.Errorf("expired: %s", got)
	}
	writeCertificate(t, dir, "site.test", time.Now().Add(time.Hour))
	if got := lacks(); got != "[]" {
		t.Errorf("good: %s", got)
	}
}
