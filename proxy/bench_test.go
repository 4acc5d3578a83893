package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

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
