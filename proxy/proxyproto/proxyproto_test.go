package proxyproto

import (
	"errors"
	"strings"
	"testing"
)

const sig = "\r\n\r\n\x00\r\nQUIT\n"

// v2 is a header of version 2 with a length that fits its body.
func v2(command, family byte, body string) string {
	return sig + string([]byte{command, family, byte(len(body) >> 8), byte(len(body))}) + body
}

var four = "\xC0\x00\x02\x01\xC0\x00\x02\x09\xDC\x04\x01\xBB" // 192.0.2.1:56324 to 192.0.2.9:443
var six = "\x20\x01\x0D\xB8" + strings.Repeat("\x00", 11) + "\x01" + "\x20\x01\x0D\xB8" + strings.Repeat("\x00", 11) + "\x09" + "\xDC\x04\x01\xBB"

func TestParse(t *testing.T) {
	for _, c := range []struct {
		name, in, client, server string
		err                      error
	}{
		{name: "version 1, IPv4", in: "PROXY TCP4 192.0.2.1 192.0.2.9 56324 443\r\n", client: "192.0.2.1:56324", server: "192.0.2.9:443"},
		{name: "version 1, IPv6", in: "PROXY TCP6 2001:db8::1 2001:db8::9 56324 443\r\n", client: "[2001:db8::1]:56324", server: "[2001:db8::9]:443"},
		{name: "version 1, mapped", in: "PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.9 1 2\r\n", client: "192.0.2.1:1", server: "192.0.2.9:2"},
		{name: "version 1, unknown", in: "PROXY UNKNOWN\r\n"},
		{name: "version 1, unknown with addresses", in: "PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n"},
		{name: "bare LF", in: "PROXY TCP4 192.0.2.1 192.0.2.9 56324 443\n", err: ErrText},
		{name: "two blanks", in: "PROXY TCP4  192.0.2.1 192.0.2.9 56324 443\r\n", err: ErrText},
		{name: "one address", in: "PROXY TCP4 192.0.2.1\r\n", err: ErrText},
		{name: "more than four parts", in: "PROXY TCP4 192.0.2.1 192.0.2.9 1 2 3\r\n", err: ErrText},
		{name: "families mixed", in: "PROXY TCP4 192.0.2.1 2001:db8::9 1 2\r\n", err: ErrText},
		{name: "port with a sign", in: "PROXY TCP4 192.0.2.1 192.0.2.9 +1 2\r\n", err: ErrText},
		{name: "port with a zero", in: "PROXY TCP4 192.0.2.1 192.0.2.9 01 2\r\n", err: ErrText},
		{name: "port above 65535", in: "PROXY TCP4 192.0.2.1 192.0.2.9 65536 2\r\n", err: ErrText},
		{name: "address with a zone", in: "PROXY TCP6 fe80::1%eth0 fe80::2 1 2\r\n", err: ErrText},
		{name: "lower case", in: "PROXY tcp4 192.0.2.1 192.0.2.9 1 2\r\n", err: ErrText},
		{name: "too long", in: "PROXY UNKNOWN " + strings.Repeat("x", 200) + "\r\n", err: ErrTooLong},
		{name: "a request", in: "GET / HTTP/1.1\r\n", err: ErrNone},
		{name: "another word", in: "PROXX TCP4", err: ErrNone},

		{name: "version 2, IPv4", in: v2(0x21, 0x11, four), client: "192.0.2.1:56324", server: "192.0.2.9:443"},
		{name: "version 2, IPv6", in: v2(0x21, 0x21, six), client: "[2001:db8::1]:56324", server: "[2001:db8::9]:443"},
		{name: "version 2 with extensions", in: v2(0x21, 0x11, four+"\x04\x00\x02ab"), client: "192.0.2.1:56324", server: "192.0.2.9:443"},
		{name: "version 2, local", in: v2(0x20, 0x00, "")},
		{name: "version 2, local with addresses", in: v2(0x20, 0x11, four)},
		{name: "version 2, unix", in: v2(0x21, 0x31, strings.Repeat("\x00", 216))},
		{name: "version 3", in: v2(0x31, 0x11, four), err: ErrBinary},
		{name: "unknown command", in: v2(0x22, 0x11, four), err: ErrBinary},
		{name: "unknown family", in: v2(0x21, 0x41, four), err: ErrBinary},
		{name: "addresses cut", in: v2(0x21, 0x11, four[:11]), err: ErrBinary},
		{name: "more than the limit", in: v2(0x21, 0x11, strings.Repeat("x", Max)), err: ErrTooLong},
	} {
		t.Run(c.name, func(t *testing.T) {
			const behind = "GET / HTTP/1.1\r\n"
			h, n, err := Parse([]byte(c.in + behind))
			if !errors.Is(err, c.err) {
				t.Fatalf("%v; want %v", err, c.err)
			}
			if err != nil {
				if n != 0 {
					t.Fatal("an error, and a length")
				}
				return
			}
			if n != len(c.in) {
				t.Fatalf("length %d, want %d", n, len(c.in))
			}
			if client, server := text(h.Client.IsValid(), h.Client), text(h.Server.IsValid(), h.Server); client != c.client || server != c.server {
				t.Fatalf("%s to %s", client, server)
			}
			for i := range len(c.in) { // every cut of it asks for more
				if _, n, err := Parse([]byte(c.in[:i])); n != 0 || err != nil {
					t.Fatalf("after %d bytes: %d, %v", i, n, err)
				}
				if m := Missing([]byte(c.in[:i])); m < 1 || m > len(c.in)-i {
					t.Fatalf("after %d bytes %d are missing, of %d", i, m, len(c.in)-i)
				}
			}
		})
	}
}

func text(valid bool, s interface{ String() string }) string {
	if !valid {
		return ""
	}
	return s.String()
}

// What is a header stays one whatever follows, and no bytes cause a panic.
func FuzzParse(f *testing.F) {
	f.Add([]byte("PROXY TCP4 192.0.2.1 192.0.2.9 56324 443\r\n"))
	f.Add([]byte(v2(0x21, 0x11, four)))
	f.Add([]byte(v2(0x21, 0x21, six)))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, n, err := Parse(b)
		switch {
		case err != nil && n != 0, n < 0, n > len(b), n > Max:
			t.Fatal(n, err)
		case err == nil && n == 0 && len(b) >= Max:
			t.Fatal("it asks for more than the limit")
		case n > 0:
			for i := range n {
				if m := Missing(b[:i]); m < 1 || m > n-i {
					t.Fatal(i, m, n)
				}
			}
			again, m, err := Parse(append(b[:n:n], "anything"...))
			if again != h || m != n || err != nil {
				t.Fatal(again, m, err)
			}
		}
		if h.Client.IsValid() != h.Server.IsValid() {
			t.Fatal("one address")
		}
	})
}

func BenchmarkParse(b *testing.B) {
	in := []byte("PROXY TCP4 192.0.2.1 192.0.2.9 56324 443\r\n")
	b.ReportAllocs()
	for b.Loop() {
		if _, n, err := Parse(in); n == 0 || err != nil {
			b.Fatal(err)
		}
	}
}
