package proxy_test

import (
	"net/netip"
	"strings"
	"testing"

	"banyan/proxy"
	"banyan/proxy/wire"
)

const claims = "GET / HTTP/1.1\r\nHost: t\r\nX-Forwarded-For: 6.6.6.6\r\nX-FORWARDED-FOR: 7.7.7.7, 127.0.0.2\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 443\r\n" +
	"Forwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nClient-IP: 6.6.6.6\r\nX-Original-URL: /admin\r\nX-Rewrite-URL: /admin\r\nProxy: evil\r\nX_Forwarded_For: 6.6.6.6\r\nBanyan-Write: 1\r\nX-A: b\r\nConnection: close\r\n\r\n"

func TestForwardedFields(t *testing.T) {
	got, _ := one(t, proxy.Config{}, proxy.ForwardOptions{}, claims, ok)
	if want := "GET / HTTP/1.1\r\nHost: t\r\nX-A: b\r\nX-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: t\r\n\r\n"; got != want {
		t.Errorf("untrusted:\n%q\nwant\n%q", got, want)
	}
	trusted := proxy.Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	got, _ = one(t, trusted, proxy.ForwardOptions{}, claims, ok)
	want := "GET / HTTP/1.1\r\nHost: t\r\nX-Forwarded-For: 6.6.6.6\r\nX-FORWARDED-FOR: 7.7.7.7, 127.0.0.2, 127.0.0.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 443\r\n" +
		"Forwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nClient-IP: 6.6.6.6\r\nX-Original-URL: /admin\r\nX-Rewrite-URL: /admin\r\nX-A: b\r\nX-Forwarded-Host: t\r\n\r\n"
	if got != want {
		t.Errorf("trusted:\n%q\nwant\n%q", got, want)
	}
}

func TestClientAddress(t *testing.T) {
	for _, c := range []struct{ trusted, want string }{{"10.0.0.0/8", "127.0.0.1"}, {"127.0.0.0/8", "7.7.7.7"}} {
		var got netip.AddrPort
		s := serve(t, proxy.Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix(c.trusted)}}, handler(func(x *proxy.Exchange) {
			got = x.Client()
			x.Reply(200, nil, nil)
		}))
		s.talk(t, claims)
		if got.Addr().String() != c.want {
			t.Errorf("trusting %s: %v, want %s", c.trusted, got, c.want)
		}
	}
}

func TestForwardEdits(t *testing.T) {
	got, _ := one(t, proxy.Config{}, proxy.ForwardOptions{
		Target: []byte("/other?x"), Drop: []string{"x-a"}, DropCookie: "banyan",
		Add: []wire.Pair{{Name: "Banyan-Write", Value: []byte("id")}, {Name: "X-B", Value: []byte("ours")}, {Name: "X-C", Value: []byte("a\r\nX-D: b")}},
	}, "POST /a HTTP/1.1\r\nHost: t\r\nX-A: 1\r\nx-b: theirs\r\nCookie: a=b;banyan=1; banyans=2; c=d\r\nCookie: banyan=3\r\nBanyan-Write: forged\r\ncookie:x=y\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", ok)
	want := "POST /other?x HTTP/1.1\r\nHost: t\r\nCookie: a=b; banyans=2; c=d\r\ncookie:x=y\r\nContent-Length: 0\r\n" +
		"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: t\r\nBanyan-Write: id\r\nX-B: ours\r\n\r\n"
	if got != want {
		t.Errorf("%q\nwant\n%q", got, want)
	}
}

func TestForwardDropsCookiesByTheirBeginning(t *testing.T) {
	got, _ := one(t, proxy.Config{}, proxy.ForwardOptions{DropCookie: "banyan_*"},
		"GET /a HTTP/1.1\r\nHost: t\r\nCookie: banyan=1; banyan_=2; banyan_a=3;a=banyan_b=4\r\nConnection: close\r\n\r\n", ok)
	if want := "Cookie: banyan=1; a=banyan_b=4\r\n"; !strings.Contains(got, want) || strings.Contains(got, "banyan_a") || strings.Contains(got, "banyan_=") {
		t.Errorf("%q\nwant\n%q", got, want)
	}
}

func TestAnswerEdits(t *testing.T) {
	_, got := one(t, proxy.Config{}, proxy.ForwardOptions{OnHead: func(x *proxy.Exchange, r *wire.Response) proxy.Verdict {
		r.Drop("x-a")
		r.Add("Set-Cookie", []byte("banyan=1"))
		return proxy.Pass
	}}, "GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 OK\r\nX-A: b\r\nSet-Cookie: a=b\r\nContent-Length: 2\r\n\r\nhi")
	if want := "HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 2\r\nSet-Cookie: banyan=1\r\nConnection: close\r\n\r\nhi"; got != want {
		t.Errorf("%q\nwant\n%q", got, want)
	}
}

func TestLimits(t *testing.T) {
	o, _ := answers(t, ok)
	s := serve(t, proxy.Config{MaxHead: 2048, MaxBody: 100}, &proxy.Passthrough{Upstream: pool(t, o)})
	for name, c := range map[string]struct {
		request string
		status  string
	}{
		"head":    {"GET / HTTP/1.1\r\nHost: t\r\nX: " + strings.Repeat("a", 3000) + "\r\n\r\n", "431"},
		"line":    {"GET /" + strings.Repeat("a", 3000), "431"},
		"body":    {"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 101\r\n\r\n", "413"},
		"chunks":  {"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n70\r\n" + strings.Repeat("a", 0x70) + "\r\n0\r\n\r\n", "413"},
		"expect":  {"GET / HTTP/1.1\r\nHost: t\r\nExpect: x\r\n\r\n", "417"},
		"version": {"GET / HTTP/1.2\r\nHost: t\r\n\r\n", "505"},
		"connect": {"CONNECT t:1 HTTP/1.1\r\nHost: t:1\r\n\r\n", "501"},
	} {
		if got := s.talk(t, c.request); !strings.HasPrefix(got, "HTTP/1.1 "+c.status+" ") || !strings.Contains(got, "Connection: close\r\n") {
			t.Errorf("%s: %q, want %s", name, got, c.status)
		}
	}
	if o.accepted() > 0 {
		t.Error("something was forwarded")
	}
}
