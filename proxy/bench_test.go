package proxy_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"banyan/proxy"
)

// BenchmarkForward is one request at a time through client, proxy and origin in this process; testdata/bench measures
// the proxy alone. What it shows is that the proxy allocates nothing per request.
func BenchmarkForward(b *testing.B) {
	fields := "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140 Safari/537.36\r\nAccept: application/json, text/plain, */*\r\nAccept-Language: en-GB,en;q=0.7\r\nCookie: PHPSESSID=3k2v9q1m7r5t8u0w4x6y2z1a3b; lang=en; seen=1\r\n"
	for _, c := range []struct {
		name, request string
		answer        int
	}{
		{"get1k", "GET /1k HTTP/1.1\r\nHost: t\r\n" + fields + "\r\n", 1 << 10},
		{"post2k", "POST /post HTTP/1.1\r\nHost: t\r\n" + fields + "Content-Length: 2048\r\n\r\n" + strings.Repeat("a", 2048), 70},
		{"get64k", "GET /64k HTTP/1.1\r\nHost: t\r\n" + fields + "\r\n", 64 << 10},
	} {
		b.Run(c.name, func(b *testing.B) {
			answer := []byte(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", c.answer, strings.Repeat("x", c.answer)))
			o := newOrigin(b, func(nc net.Conn, r *bufio.Reader) {
				buf := make([]byte, 16<<10)
				for {
					if _, err := nc.Read(buf); err != nil { // a request leaves the proxy in one write
						return
					}
					if _, err := nc.Write(answer); err != nil {
						return
					}
				}
			})
			s := serve(b, proxy.Config{}, &proxy.Passthrough{Upstream: pool(b, o)})
			nc, err := net.Dial("tcp", s.addr)
			if err != nil {
				b.Fatal(err)
			}
			defer nc.Close()
			request, buf := []byte(c.request), make([]byte, len(answer))
			ask := func() {
				if _, err := nc.Write(request); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(nc, buf); err != nil {
					b.Fatal(err)
				}
			}
			ask()
			b.SetBytes(int64(len(request) + len(answer)))
			b.ReportAllocs()
			for b.Loop() {
				ask()
			}
		})
	}
}

// BenchmarkForwardHTTP2 is one request at a time over HTTP/2, its block as a client has it that repeats itself.
func BenchmarkForwardHTTP2(b *testing.B) {
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 1024\r\n\r\n" + strings.Repeat("x", 1024))
	o := newOrigin(b, func(nc net.Conn, r *bufio.Reader) {
		buf := make([]byte, 16<<10)
		for {
			if _, err := nc.Read(buf); err != nil {
				return
			}
			if _, err := nc.Write(answer); err != nil {
				return
			}
		}
	})
	s := serve(b, proxy.Config{}, &proxy.Passthrough{Upstream: pool(b, o)})
	f := s.prior(b)
	f.do(f.WriteWindowUpdate(0, 1<<30))
	lines := append(get("/1k"), "user-agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140 Safari/537.36", "accept: application/json, text/plain, */*", "cookie: PHPSESSID=3k2v9q1m7r5t8u0w4x6y2z1a3b", "cookie: lang=en")
	f.ask(1, true, lines...)
	f.answer(1)
	block := f.encode(lines...)
	f.nc.SetDeadline(time.Time{})
	frame := append([]byte{0, 0, byte(len(block)), 1, 5, 0, 0, 0, 0}, block...)
	in := make([]byte, 64<<10)
	b.ReportAllocs()
	for id := uint32(3); b.Loop(); id += 2 {
		binary.BigEndian.PutUint32(frame[5:], id)
		if _, err := f.nc.Write(frame); err != nil {
			b.Fatal(err)
		}
		for n := 0; n < 9+9+1024; { // both frames and the body; the head's block comes on top
			m, err := f.nc.Read(in)
			if err != nil {
				b.Fatal(err)
			}
			n += m
		}
	}
}
