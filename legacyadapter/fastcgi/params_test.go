package fastcgi

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"banyan/proxy/wire"
)

// who asked, for tests.
type who struct{ client, local string }

func (w who) Client() netip.AddrPort { a, _ := netip.ParseAddrPort(w.client); return a }
func (w who) Local() netip.AddrPort  { a, _ := netip.ParseAddrPort(w.local); return a }
func (w who) TLS() bool              { return true }
func (w who) Protocol() string       { return "HTTP/1.0" }
func (w who) IDs() (a, b [16]byte)   { return }

func pair(name string, n int) string { return name + ": " + strings.Repeat("v", n) + "\r\n" }

func request(lines string) []byte {
	return []byte("GET /a.php?x HTTP/1.1\r\nHost: a\r\n" + lines + "\r\n")
}

func has(m map[string]string, k string) bool { _, ok := m[k]; return ok }

func sizeOf(b []byte) (n, took int) {
	if b[0] < 128 {
		return int(b[0]), 1
	}
	return int(binary.BigEndian.Uint32(b) &^ (1 << 31)), 4
}

// params reads the records back: each holds whole parameters, and none is too large for php-fpm.
func params(t *testing.T, raw []byte) map[string]string {
	t.Helper()
	got := map[string]string{}
	for {
		if raw[0] != 1 || raw[1] != typeParams {
			t.Fatalf("record %v", raw[:8])
		}
		n := int(binary.BigEndian.Uint16(raw[4:]))
		b := raw[headSize : headSize+n]
		if raw = raw[headSize+n:]; n == 0 {
			if len(raw) > 0 {
				t.Fatalf("%d bytes behind the end", len(raw))
			}
			return got
		}
		if n > maxContent {
			t.Fatalf("record of %d bytes", n)
		}
		for len(b) > 0 {
			name, k := sizeOf(b)
			value, l := sizeOf(b[k:])
			b = b[k+l:]
			key := string(b[:name])
			if has(got, key) {
				t.Errorf("%s is given twice", key)
			}
			got[key] = string(b[name : name+value])
			b = b[name+value:]
		}
	}
}

func made(t *testing.T, cfg Config, head []byte, o who) (map[string]string, error) {
	t.Helper()
	cfg.Name, cfg.Address, cfg.Root = "legacy", "127.0.0.1:9000", "/srv/game"
	u, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	var r wire.Request
	r.Reset()
	if done, err := r.Parse(head); !done || err != nil {
		t.Fatal(done, err)
	}
	raw, err := u.appendParams(nil, &call{req: &r, query: []byte("x"), script: "/a.php", length: r.Length(), origin: o})
	if err != nil {
		return nil, err
	}
	return params(t, raw), nil
}

func TestParams(t *testing.T) {
	got, err := made(t, Config{ScriptRoot: "/app", ServerName: "game.test", Params: map[string]string{"HTTPS": "off", "APP_ENV": "prod", "HTTP_X_SECRET": "ours"}},
		request("Proxy: evil\r\nX_A: under\r\nX-A: 1\r\nx-a: 2\r\nCookie: a=1\r\nCookie: b=2\r\nX.B: dot\r\nX~C: tilde\r\nX-Secret: theirs\r\nX-Empty:\r\n"), who{"[2001:db8::1]:0", "192.0.2.1:443"})
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range map[string]string{
		"SCRIPT_FILENAME": "/app/a.php", "DOCUMENT_ROOT": "/app", "SCRIPT_NAME": "/a.php", "DOCUMENT_URI": "/a.php", "REQUEST_URI": "/a.php?x", "QUERY_STRING": "x",
		"PATH_INFO": "", "CONTENT_LENGTH": "", "CONTENT_TYPE": "", "SERVER_NAME": "game.test", "REQUEST_SCHEME": "https", "HTTPS": "off", "APP_ENV": "prod",
		"HTTP_X_A": "1, 2", "HTTP_COOKIE": "a=1; b=2", "HTTP_X_SECRET": "ours", "HTTP_X_EMPTY": "", "HTTP_HOST": "a", "REMOTE_ADDR": "2001:db8::1", "REMOTE_PORT": "",
		"SERVER_ADDR": "192.0.2.1", "SERVER_PORT": "443", "SERVER_PROTOCOL": "HTTP/1.0", "REDIRECT_STATUS": "200", "GATEWAY_INTERFACE": "CGI/1.1",
	} {
		if !has(got, k) || got[k] != v {
			t.Errorf("%s is %q (%v), want %q", k, got[k], has(got, k), v)
		}
	}
	for _, k := range []string{"HTTP_PROXY", "HTTP_X_B", "HTTP_X.B", "HTTP_X~C"} {
		if has(got, k) {
			t.Errorf("%s is %q: it must never be there", k, got[k])
		}
	}
}

// Many parameters make several records, none of which splits one; one that fits into none is refused.
func TestLargeParams(t *testing.T) {
	lines := ""
	for _, c := range "abcdefgh" {
		lines += pair("X-"+string(c), 30_000)
	}
	got, err := made(t, Config{}, request(lines), who{})
	if err != nil || len(got["HTTP_X_A"]) != 30_000 || len(got["HTTP_X_H"]) != 30_000 || got["REMOTE_ADDR"] != "unix:" {
		t.Errorf("%d parameters, %v", len(got), err)
	}
	if _, err := made(t, Config{}, request(pair("X-A", 65_600)), who{}); !errors.Is(err, errParamSize) {
		t.Error(err)
	}
}
