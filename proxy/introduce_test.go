package proxy_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"banyan/proxy"
)

const (
	headerV1 = "PROXY TCP4 192.0.2.1 192.0.2.9 56324 443\r\n"
	headerV2 = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x11\xC0\x00\x02\x01\xC0\x00\x02\x09\xDC\x04\x01\xBB\x04\x00\x02ab"
	local    = "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
	plainGet = "GET / HTTP/1.1\r\nHost: t\r\nX-Forwarded-For: 6.6.6.6\r\nConnection: close\r\n\r\n"
)

func ranges(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// whoIs answers with what the exchange says of the client, and what an upstream would be told.
var whoIs = handler(func(x *proxy.Exchange) {
	trust := " untrusted"
	if x.Trusted() {
		trust = " trusted"
	}
	x.Reply(200, nil, []byte(x.Client().Addr().String()+" of "+x.Peer().String()+" at "+x.Local().String()+trust+"\n"))
})

// A listed peer's header names the client, for everything that depends on who he is.
func TestProxyHeader(t *testing.T) {
	lb := ranges("127.0.0.0/8")
	for _, c := range []struct {
		name, raw, want string
		trusts          []netip.Prefix
	}{
		{"version 1", headerV1 + plainGet, "192.0.2.1 of 192.0.2.1:56324 at 192.0.2.9:443 untrusted", nil},
		{"version 2 with extensions", headerV2 + plainGet, "192.0.2.1 of 192.0.2.1:56324 at 192.0.2.9:443 untrusted", nil},
		{"IPv6", "PROXY TCP6 2001:db8::1 2001:db8::9 5 443\r\n" + plainGet, "2001:db8::1 of [2001:db8::1]:5 at [2001:db8::9]:443 untrusted", nil},
		{"the balancer trusted: its clients are not", headerV1 + plainGet, "192.0.2.1 of 192.0.2.1:56324 at 192.0.2.9:443 untrusted", lb},
		{"the client trusted", headerV1 + plainGet, "6.6.6.6 of 192.0.2.1:56324 at 192.0.2.9:443 trusted", ranges("192.0.2.1/32")},
		{"local, not believed", local + plainGet, "127.0.0.1 of 127.0.0.1:", lb},
		{"unknown, not believed", "PROXY UNKNOWN\r\n" + plainGet, "127.0.0.1 of 127.0.0.1:", lb},
	} {
		for _, how := range []struct {
			name string
			wrap []func(net.Listener) net.Listener
		}{{"whole", nil}, {"byte by byte", []func(net.Listener) net.Listener{func(l net.Listener) net.Listener { return inPieces{Listener: l} }}}} {
			s := serve(t, proxy.Config{ProxyProtocol: lb, TrustedProxies: c.trusts}, whoIs, how.wrap...)
			got := s.talk(t, c.raw)
			if !strings.Contains(got, "\r\n\r\n"+c.want) || strings.HasPrefix(c.want, "127") && !strings.HasSuffix(got, " untrusted\n") {
				t.Errorf("%s, %s: %q, want %s", c.name, how.name, got, c.want)
			}
		}
	}
}

// The upstream is told of the client, not of the balancer.
func TestProxyHeaderForwarded(t *testing.T) {
	got, _ := one(t, proxy.Config{ProxyProtocol: ranges("127.0.0.0/8")}, proxy.ForwardOptions{}, headerV1+plainGet, ok)
	if want := "GET / HTTP/1.1\r\nHost: t\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: t\r\n\r\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// The header stands before TLS, and before HTTP/2's preface.
func TestProxyHeaderBeforeOthers(t *testing.T) {
	cfg := proxy.Config{ProxyProtocol: ranges("127.0.0.0/8")}
	want := "192.0.2.1 of 192.0.2.1:56324 at 192.0.2.9:443 untrusted\n"
	s := serve(t, cfg, whoIs)
	nc := s.dial(t)
	io.WriteString(nc, headerV2)
	f := over(t, nc)
	f.ask(1, true, get("/")...)
	if got := string(f.answer(1).body); got != want {
		t.Errorf("h2c: %q", got)
	}
	s = serve(t, cfg, whoIs, overTLS(t))
	for _, protocol := range []string{"h2", "http/1.1"} {
		nc := s.dial(t)
		io.WriteString(nc, headerV1)
		c := tls.Client(nc, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}})
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
		if protocol == "h2" {
			f := over(t, c)
			f.ask(1, true, get("/")...)
			if got := string(f.answer(1).body); got != want {
				t.Errorf("h2 over TLS: %q", got)
			}
			continue
		}
		io.WriteString(c, plainGet)
		if b, _ := io.ReadAll(c); !strings.HasSuffix(string(b), want) {
			t.Errorf("TLS: %q", b)
		}
	}
}

// From a listed peer the header is mandatory, from all others it is malformed; nothing of it is served.
func TestProxyHeaderRefused(t *testing.T) {
	s := serve(t, proxy.Config{ProxyProtocol: ranges("127.0.0.0/8"), HeaderTimeout: 30 * time.Millisecond}, whoIs)
	for i, raw := range []string{plainGet, "PROXY TCP4 1.2.3.4\r\n" + plainGet, "PROXY UNKNOWN " + strings.Repeat("x", 200), "\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff" + plainGet, headerV1[:20]} {
		if got := s.talk(t, raw); got != "" {
			t.Errorf("%.30q: %q", raw, got)
		}
		if n := s.Stats().Strangers; n != int64(i+1) {
			t.Errorf("%.30q: %d counted", raw, n)
		}
	}
	c := s.dial(t) // open, and silent
	io.WriteString(c, headerV1[:10])
	if b, err := io.ReadAll(c); len(b) > 0 || err != nil {
		t.Errorf("slow: %q, %v", b, err)
	}
	s = serve(t, proxy.Config{ProxyProtocol: ranges("10.0.0.0/8")}, whoIs)
	for _, header := range []string{headerV1, headerV2} {
		if got := s.talk(t, header+plainGet); !strings.HasPrefix(got, "HTTP/1.1 400 ") || strings.Count(got, "HTTP/1.1") != 1 {
			t.Errorf("not listed: %q", got)
		}
	}
}

// opened connects and is answered once; the connection stays.
func (s *running) opened(t *testing.T, header string) string {
	t.Helper()
	c := s.dial(t)
	io.WriteString(c, header+"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
	line, _ := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(line)
}

// A client has so many connections; another one is not hindered. An IPv6 client is a /64, behind a header too.
func TestConnectionsPerClient(t *testing.T) {
	const served, refused = "HTTP/1.1 200 OK", "HTTP/1.1 503 Service Unavailable"
	v6 := func(a string) string { return "PROXY TCP6 " + a + " 2001:db8::9 5 443\r\n" }
	v4 := func(a string) string { return "PROXY TCP4 " + a + " 192.0.2.9 5 443\r\n" }
	s := serve(t, proxy.Config{MaxConnsPerClient: 2, ProxyProtocol: ranges("127.0.0.0/8"), TrustedProxies: ranges("192.0.2.77/32")}, whoIs)
	for i, c := range []struct{ header, want string }{
		{v4("192.0.2.1"), served}, {v4("192.0.2.1"), served}, {v4("192.0.2.1"), refused}, {v4("192.0.2.2"), served},
		{v6("2001:db8::1"), served}, {v6("2001:db8::ffff:1"), served}, {v6("2001:db8:0:0:9::1"), refused}, {v6("2001:db8:0:1::1"), served},
		{v4("192.0.2.77"), served}, {v4("192.0.2.77"), served}, {v4("192.0.2.77"), served}, // a trusted proxy is many clients
		{local, served}, {local, served}, {local, served}, // so is whom the balancer does not name
	} {
		if got := s.opened(t, c.header); got != c.want {
			t.Errorf("connection %d, %q: %s, want %s", i+1, c.header, got, c.want)
		}
	}
	if got := s.Stats(); got.Turned != 2 || got.Refused != 0 {
		t.Errorf("%+v", got)
	}
	s = serve(t, proxy.Config{MaxConnsPerClient: 2}, whoIs)
	first := s.dial(t)
	io.WriteString(first, "GET / HTTP/1.1\r\nHost: t\r\n\r\n")
	if _, err := head(bufio.NewReader(first)); err != nil {
		t.Fatal(err)
	}
	if a, b := s.opened(t, ""), s.opened(t, ""); a != served || b != refused {
		t.Errorf("second %s, third %s", a, b)
	}
	first.Close()
	for deadline := time.Now().Add(wait); s.Stats().Conns > 1 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond) // the server sees the end of a connection in its own time
	}
	if a, b := s.opened(t, ""), s.opened(t, ""); a != served || b != refused {
		t.Errorf("after the first was closed: %s, then %s", a, b)
	}
}
