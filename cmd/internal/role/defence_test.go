package role

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"banyan/cmd/internal/config"
)

// What a configuration says of PROXY headers and of a client's connections holds on both listeners.
func TestProxyProtocolIsServed(t *testing.T) {
	legacy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Header.Get("X-Forwarded-Proto"), " ", r.Header.Get("X-Forwarded-For"))
	}))
	defer legacy.Close()
	dir := t.TempDir()
	writeCertificate(t, dir, "site.test", time.Now().Add(time.Hour))
	f, err := config.Parse(dir+"/banyan.yaml", []byte(fmt.Sprintf(`version: 1
upstreams: { legacy: { http: %q } }
proxy:
  listen: "127.0.0.1:0"
  tls: { listen: "localhost:0", certificates: [{ cert: site.pem, key: site.key }] }
  proxy_protocol: [127.0.0.1/32, "::1/128"]
  limits: { connections_per_client: 1 }
`, legacy.URL)), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	p, err := StartProxy(t.Context(), f, Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(addr net.Addr, header string, secure bool) string {
		nc, err := net.Dial("tcp", addr.String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		nc.SetDeadline(time.Now().Add(time.Minute))
		io.WriteString(nc, header)
		if secure {
			nc = tls.Client(nc, &tls.Config{InsecureSkipVerify: true})
		}
		io.WriteString(nc, "GET / HTTP/1.1\r\nHost: site.test\r\n\r\n")
		a, err := http.ReadResponse(bufio.NewReader(nc), nil)
		if err != nil {
			return err.Error()
		}
		b, _ := io.ReadAll(a.Body)
		return strings.TrimSpace(fmt.Sprint(a.StatusCode, " ", string(b)))
	}
	for _, c := range []struct {
		addr   net.Addr
		client string
		secure bool
		want   string
	}{
		{p.Addr(), "192.0.2.1", false, "200 http 192.0.2.1"},
		{p.tls.Addr(), "192.0.2.2", true, "200 https 192.0.2.2"},
		{p.Addr(), "192.0.2.2", false, "503"},
	} {
		if got := ask(c.addr, "PROXY TCP4 "+c.client+" 192.0.2.9 5 443\r\n", c.secure); got != c.want {
			t.Errorf("%s: %s, want %s", c.client, got, c.want)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := p.Stop(ctx); err != nil {
		t.Error(err)
	}
}
