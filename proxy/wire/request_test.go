package wire

import (
	"errors"
	"strings"
	"testing"
)

// parse feeds head to r in pieces of step bytes (0: whole), moving the buffer each time as a growing reader would.
func parse(r interface{ Parse([]byte) (bool, error) }, head string, step int) (bool, error) {
	if step == 0 {
		return r.Parse([]byte(head))
	}
	for n := step; ; n += step {
		n = min(n, len(head))
		buf := make([]byte, n)
		copy(buf, head)
		done, err := r.Parse(buf)
		if done || err != nil || n == len(head) {
			return done, err
		}
	}
}

func TestRequestAccepted(t *testing.T) {
	for _, c := range []struct {
		name, head, method, target, host string
		length                           int64
		chunked, keep                    bool
	}{
		{"get", "GET /a?b=%zz HTTP/1.1\r\nHost: t\r\n\r\n", "GET", "/a?b=%zz", "t", -1, false, true},
		{"no space, odd case", "get //x HTTP/1.1\r\nhOST:t:80\r\n\r\n", "get", "//x", "t:80", -1, false, true},
		{"length", "POST / HTTP/1.1\r\nHost: t\r\nContent-Length:\t 05 \r\n\r\n", "POST", "/", "t", 5, false, true},
		{"chunked", "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: Chunked\r\n\r\n", "POST", "/", "t", -1, true, true},
		{"close", "GET / HTTP/1.1\r\nHost: t\r\nConnection: x , Close\r\n\r\n", "GET", "/", "t", -1, false, false},
		{"old", "GET / HTTP/1.0\r\n\r\n", "GET", "/", "", -1, false, false},
		{"old, wants to stay", "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "GET", "/", "", -1, false, false},
		{"absolute", "GET http://T:8/a?b HTTP/1.1\r\nHost: t:8\r\n\r\n", "GET", "/a?b", "t:8", -1, false, true},
		{"absolute without path", "GET HTTPS://t HTTP/1.1\r\nHost: t\r\n\r\n", "GET", "/", "t", -1, false, true},
		{"options", "OPTIONS * HTTP/1.1\r\nHost: t\r\n\r\n", "OPTIONS", "*", "t", -1, false, true},
		{"empty line before", "\r\nGET / HTTP/1.1\r\nHost: t\r\n\r\n", "GET", "/", "t", -1, false, true},
		{"IPv6", "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "GET", "/", "[::1]:80", -1, false, true},
		{"empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", "GET", "/", "", -1, false, true},
		{"raw bytes", "GET /caf\xc3\xa9 HTTP/1.1\r\nHost: t\r\nX: caf\xc3\xa9\r\n\r\n", "GET", "/caf\xc3\xa9", "t", -1, false, true},
	} {
		for _, step := range []int{0, 1, 7} {
			var r Request
			r.Reset()
			done, err := parse(&r, c.head, step)
			if !done || err != nil {
				t.Errorf("%s, step %d: done %v, err %v", c.name, step, done, err)
				continue
			}
			if string(r.Method()) != c.method || string(r.Target()) != c.target || string(r.Host()) != c.host ||
				r.Length() != c.length || r.Chunked() != c.chunked || r.KeepAlive() != c.keep || r.Size() != len(c.head) {
				t.Errorf("%s, step %d: %q %q %q %d %v %v %d", c.name, step, r.Method(), r.Target(), r.Host(), r.Length(), r.Chunked(), r.KeepAlive(), r.Size())
			}
		}
	}
}

func TestRequestRefused(t *testing.T) {
	ok := "GET / HTTP/1.1\r\nHost: t\r\n"
	for name, c := range map[string]struct {
		head   string
		status int
	}{
		"two spaces":                {"GET  / HTTP/1.1\r\nHost: t\r\n\r\n", 400},
		"tab":                       {"GET\t/\tHTTP/1.1\r\nHost: t\r\n\r\n", 400},
		"version 0.9":               {"GET /\r\n\r\n", 400},
		"version 2":                 {"PRI * HTTP/2.0\r\n\r\n", 505},
		"version case":              {"GET / http/1.1\r\nHost: t\r\n\r\n", 400},
		"method":                    {"G(T / HTTP/1.1\r\nHost: t\r\n\r\n", 400},
		"long method":               {strings.Repeat("A", 65) + " / HTTP/1.1\r\nHost: t\r\n\r\n", 400},
		"connect":                   {"CONNECT t:443 HTTP/1.1\r\nHost: t:443\r\n\r\n", 501},
		"asterisk":                  {"GET * HTTP/1.1\r\nHost: t\r\n\r\n", 400},
		"fragment":                  {"GET /#a HTTP/1.1\r\nHost: t\r\n\r\n", 400},
		"no slash":                  {"GET x HTTP/1.1\r\nHost: t\r\n\r\n", 400},
		"file":                      {"GET file:///x HTTP/1.1\r\nHost: t\r\n\r\n", 400},
		"other authority":           {"GET http://u/ HTTP/1.1\r\nHost: t\r\n\r\n", 400},
		"user":                      {"GET http://u@t/ HTTP/1.1\r\nHost: t\r\n\r\n", 400},
		"no host":                   {"GET / HTTP/1.1\r\n\r\n", 400},
		"two hosts":                 {ok + "Host: t\r\n\r\n", 400},
		"bad port":                  {"GET / HTTP/1.1\r\nHost: t:x\r\n\r\n", 400},
		"port too high":             {"GET / HTTP/1.1\r\nHost: t:65536\r\n\r\n", 400},
		"host with slash":           {"GET / HTTP/1.1\r\nHost: t/u\r\n\r\n", 400},
		"open bracket":              {"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400},
		"bare LF":                   {ok + "X: y\n\r\n", 400},
		"bare CR":                   {ok + "X: y\rZ: w\r\n\r\n", 400},
		"NUL":                       {ok + "X: y\x00\r\n\r\n", 400},
		"control byte":              {ok + "X: 0123456789\x010123456789\r\n\r\n", 400},
		"DEL":                       {ok + "X: 0123456789\x7f0123456789\r\n\r\n", 400},
		"fold":                      {ok + "X: y\r\n z\r\n\r\n", 400},
		"space before colon":        {ok + "X : y\r\n\r\n", 400},
		"no colon":                  {ok + "X\r\n\r\n", 400},
		"empty name":                {ok + ": y\r\n\r\n", 400},
		"length and chunked":        {ok + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
		"two lengths":               {ok + "Content-Length: 5\r\nContent-Length: 5\r\n\r\n", 400},
		"list of lengths":           {ok + "Content-Length: 5, 5\r\n\r\n", 400},
		"plus":                      {ok + "Content-Length: +5\r\n\r\n", 400},
		"empty length":              {ok + "Content-Length: \r\n\r\n", 400},
		"huge length":               {ok + "Content-Length: 9999999999999999999\r\n\r\n", 400},
		"other coding":              {ok + "Transfer-Encoding: gzip, chunked\r\n\r\n", 400},
		"coding twice":              {ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
		"empty coding":              {ok + "Transfer-Encoding:\r\n\r\n", 400},
		"coding in 1.0":             {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
		"expectation":               {ok + "Expect: 200-ok\r\n\r\n", 417},
		"two empty lines before":    {"\r\n\r\n" + ok + "\r\n", 400},
		"many fields":               {ok + strings.Repeat("X: y\r\n", MaxFields) + "\r\n", 431},
		"many names in Connection":  {ok + "Connection: " + strings.Repeat("a,", 33) + "\r\n\r\n", 400},
		"TLS":                       {"\x16\x03\x01\x02\x00\x01", 400},
		"LF only":                   {"GET / HTTP/1.1\nHost: t\n\n", 400},
		"absolute, query, no slash": {"GET http://t?a HTTP/1.1\r\nHost: t\r\n\r\n", 400},
	} {
		for _, step := range []int{0, 1, 5} {
			var r Request
			r.Reset()
			_, err := parse(&r, c.head, step)
			var e *Error
			if !errors.As(err, &e) || e.Status != c.status {
				t.Errorf("%s, step %d: %v, want status %d", name, step, err, c.status)
			}
		}
	}
}

// A head that can never become good is refused with the line that shows it, though no empty line ever comes.
func TestRequestRefusedEarly(t *testing.T) {
	for _, head := range []string{"GET / HTTP/1.1\n", "GET / HTTP/1.1\r\nHost: t\n", "GET /x\r\n", "GET / HTTP/1.1\r\nContent-Length : 5\r\n", "\x00"} {
		var r Request
		r.Reset()
		if _, err := r.Parse([]byte(head)); !IsMalformed(err) {
			t.Errorf("%q: %v", head, err)
		}
	}
}

func kinds(h *Head) (s string) {
	for i := range h.Len() {
		s += string("ohcTCHECfphqU"[h.Kind(i)])
	}
	return s
}

func TestConnectionCannotRemove(t *testing.T) {
	var r Request
	r.Reset()
	done, err := r.Parse([]byte("GET / HTTP/1.1\r\nHost: t\r\nConnection: host, X-Secret,content-length, cookie,x-forwarded-for\r\n" +
		"x-secret: 1\r\nX-Secret: 2\r\nContent-Length: 0\r\nCookie: a=b\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n"))
	if !done || err != nil {
		t.Fatal(err)
	}
	if got, want := kinds(&r.Head), "hCHHcCf"; got != want {
		t.Errorf("kinds %s, want %s", got, want)
	}
}

func TestKinds(t *testing.T) {
	var r Request
	r.Reset()
	head := "GET / HTTP/1.1\r\nHost: t\r\n"
	want := "h"
	for name, k := range map[string]string{"X_A": "U", "X.A": "U", "proxy": "U", "Banyan-Write": "U", "X-Banyan-Op": "U", "Forwarded": "q",
		"Client-IP": "q", "X-Real-Ip": "q", "X-Original-URL": "q", "X-Rewrite-Url": "q", "X-Forwarded-Port": "q", "X-Forwarded-Host": "h",
		"Upgrade": "H", "Proxy-Authorization": "H", "Keep-Alive": "H", "TE": "H", "Trailer": "H", "X-A": "o", "Content_Length": "U"} {
		head += name + ": v\r\n"
		want += k
	}
	if done, err := r.Parse([]byte(head + "\r\n")); !done || err != nil {
		t.Fatal(err)
	}
	if got := kinds(&r.Head); got != want {
		t.Errorf("%s\nkinds %s\nwant  %s", head, got, want)
	}
}

func TestFields(t *testing.T) {
	var r Request
	r.Reset()
	if done, err := r.Parse([]byte("GET / HTTP/1.1\r\nHost: t\r\nX-A:\r\nx-a: 2\r\nUpgrade: websocket\r\nConnection: keep-alive, UPGRADE\r\n\r\n")); !done || err != nil {
		t.Fatal(err)
	}
	if v := r.Field("x-a"); v == nil || len(v) != 0 {
		t.Errorf("first X-A: %q", v)
	}
	if r.Field("x-b") != nil {
		t.Error("a field that is not there was found")
	}
	if !r.Upgrades() || r.EachProtocol(func(p []byte) bool { return string(p) != "websocket" }) {
		t.Error("the upgrade is not seen")
	}
	n := 0
	for range r.All() {
		n++
	}
	if n != 5 || string(r.Line(2)) != "x-a: 2\r\n" {
		t.Errorf("%d fields, third %q", n, r.Line(2))
	}
}

func TestParseAllocatesNothing(t *testing.T) {
	var r Request
	head := []byte("GET /a HTTP/1.1\r\nHost: t\r\nConnection: x-a, close\r\nX-A: b\r\n\r\n")
	r.Reset()
	r.Parse(head)
	if n := testing.AllocsPerRun(100, func() { r.Reset(); r.Parse(head) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
