package proxy_test

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"banyan/proxy"
	"banyan/proxy/upstream"
)

// resting lets a server's connections rest all the time until stop.
func resting(s *running) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				s.Rest()
			}
		}
	})
	return func() { close(done); wg.Wait() }
}

// TestRestLosesNoRequest: whatever moment of a connection Rest meets.
func TestRestLosesNoRequest(t *testing.T) {
	o, _ := answers(t, ok)
	s := serve(t, proxy.Config{}, &proxy.Passthrough{Upstream: pool(t, o, func(c *upstream.Config) { c.MaxConns = 8 })})
	defer resting(s)()
	var wg sync.WaitGroup
	for i := range 8 {
		c := s.dial(t)
		request := []string{"GET / HTTP/1.1\r\nHost: t\r\n\r\n", "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\nhi"}[i%2]
		wg.Go(func() {
			for n := range 300 {
				parts := []string{request[:1], request[1:], request + request} // one in two pieces, and two at once
				for i, answers := range []int{0, 1, 2} {
					_, err := io.WriteString(c, parts[i])
					if want := strings.Repeat(ok, answers); err == nil {
						buf := make([]byte, len(want))
						if _, err = io.ReadFull(c, buf); err == nil && string(buf) != want {
							t.Errorf("request %d: %q", n, buf)
						}
					}
					if err != nil {
						t.Errorf("request %d: %v", n, err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
}

// asked is a connection that has had an answer, and is idle.
func asked(t testing.TB, s *running) net.Conn {
	t.Helper()
	c := s.dial(t)
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: t\r\n\r\n")
	if _, err := io.ReadFull(c, make([]byte, len(ok))); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestRestDoesNotProlongIdleness: the time that a connection may be idle counts from its last answer.
func TestRestDoesNotProlongIdleness(t *testing.T) {
	const idle = time.Second
	o, _ := answers(t, ok)
	s := serve(t, proxy.Config{IdleTimeout: idle}, &proxy.Passthrough{Upstream: pool(t, o)})
	c := asked(t, s)
	time.Sleep(idle * 8 / 10) // late, so that a time that began anew would be told from the old one
	rested := time.Now()
	s.Rest()
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("%v, want the connection closed", err)
	}
	if d := time.Since(rested); d >= idle {
		t.Errorf("closed %v after it rested", d)
	}
}

// TestRestKeepsTheIntroduction: who goes on with a connection wants no second PROXY header.
func TestRestKeepsTheIntroduction(t *testing.T) {
	o, heads := answers(t, ok)
	s := serve(t, proxy.Config{ProxyProtocol: ranges("127.0.0.0/8")}, &proxy.Passthrough{Upstream: pool(t, o)})
	c := s.dial(t)
	defer resting(s)()
	buf := make([]byte, len(ok))
	for i, send := range []string{headerV1 + "GET / HTTP/1.1\r\nHost: t\r\n\r\n", "GET / HTTP/1.1\r\nHost: t\r\n\r\n", "GET / HTTP/1.1\r\nHost: t\r\n\r\n"} {
		io.WriteString(c, send)
		if _, err := io.ReadFull(c, buf); err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
	}
	for _, h := range heads() {
		if !strings.Contains(h, "X-Forwarded-For: 192.0.2.1\r\n") {
			t.Errorf("forwarded %q", h)
		}
	}
}

// TestRestAndDrain: connections that rest are drained as others are.
func TestRestAndDrain(t *testing.T) {
	o, _ := answers(t, ok)
	s := serve(t, proxy.Config{}, &proxy.Passthrough{Upstream: pool(t, o)})
	for range 20 {
		defer asked(t, s).Close()
	}
	defer resting(s)()
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}
