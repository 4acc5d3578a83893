package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// switchTo dials and switches to the echo of switching.
func switchTo(t *testing.T, addr string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	io.WriteString(c, "GET /chat HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	r := bufio.NewReader(c)
	a, err := http.ReadResponse(r, nil)
	if err != nil || a.StatusCode != 101 {
		t.Fatal(a, err)
	}
	return c, r
}

// A WebSocket that is open does not keep a hand-over from ending: it has the drain's time, then it is closed, and the
// client connects to the successor.
func TestWebSocketsAndAHandover(t *testing.T) {
	legacy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, buf, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
		io.Copy(c, buf)
	}))
	defer legacy.Close()
	dir := t.TempDir()
	file := filepath.Join(dir, "banyan.yaml")
	rewrite(t, file, fmt.Sprintf("version: 1\nproxy: { listen: \"127.0.0.1:0\", admin: \"127.0.0.1:0\", journal: { dir: %q }, limits: { drain: 2s } }\nupstreams: { legacy: { http: %q } }\nroutes: [{ match: { path: /chat }, to: legacy, upgrade: websocket }]\n",
		dir, legacy.URL))
	p := start(t, "proxy", "-c", file)
	at := p.lastOf(t)
	old, r := switchTo(t, p.addr)
	heard, ended := make(chan int, 1), make(chan error, 1)
	go func() { // ends with the connection
		for n := 0; ; n++ {
			_, err := io.WriteString(old, "x\n")
			if err == nil {
				_, err = r.ReadString('\n')
			}
			if err != nil {
				heard <- n
				ended <- err
				return
			}
			time.Sleep(10 * time.Millisecond) // between two words
		}
	}()
	began := time.Now()
	*at = p.handOver(t, *at)
	took := time.Since(began)
	if n := <-heard; took < 2*time.Second || n < 20 {
		t.Errorf("%d words in %v: it had not the drain's time", n, took)
	}
	if err := <-ended; err != io.EOF && !strings.Contains(err.Error(), "reset") && !strings.Contains(err.Error(), "pipe") {
		t.Error(err)
	}
	c, r := switchTo(t, p.addr)
	io.WriteString(c, "again\n")
	if l, err := r.ReadString('\n'); l != "again\n" {
		t.Errorf("%q, %v", l, err)
	}
	p.drained(t, at)
}
