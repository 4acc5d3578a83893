package fastcgi

import (
	"bytes"
	"io"
	"net"
	"testing"

	"banyan/proxy"
)

// quickFPM answers each request at once: with answer, whatever was asked.
func quickFPM(t testing.TB, answer string) string {
	l, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the connection
				defer c.Close()
				buf, b := make([]byte, 64<<10), []byte(answer)
				for {
					if _, err := c.Read(buf); err != nil {
						return
					}
					if _, err := c.Write(b); err != nil {
						return
					}
				}
			}()
		}
	}()
	return "unix:" + l.Addr().String()
}

const browser = "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140 Safari/537.36|Accept: application/json, text/plain, */*|Accept-Language: en-GB,en;q=0.7|X-Requested-With: XMLHttpRequest|Referer: http://game.test/map.php?x=12&y=40|Cookie: PHPSESSID=3k2v9q1m7r5t8u0w4x6y2z1a3b; lang=en; seen=1"

// keepAlive makes a request of o on a connection that is kept, and gives what sends it and reads the answer.
func keepAlive(t testing.TB, addr string, o odd) (once func()) {
	raw := bytes.Replace([]byte(o.raw()), []byte("Connection: close\r\n"), nil, 1)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := c.Write(raw); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64<<10)
	size, err := c.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if _, err := c.Write(raw); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, buf[:size]); err != nil {
			t.Fatal(err)
		}
	}
}

func BenchmarkForward(b *testing.B) {
	addr, _ := front(b, Config{Address: quickFPM(b, out("Content-type: application/json\r\nContent-Length: 10\r\n\r\n{\"unit\":7}")+over()), Root: site(b)}, proxy.Config{}, proxy.ForwardOptions{})
	once := keepAlive(b, addr, odd{line: "GET /dump.php?unit=7", lines: browser})
	b.ReportAllocs()
	for b.Loop() {
		once()
	}
}
