package proxy

import (
	"io"
	"net"
	"testing"
	"time"
)

// answered sends a request and gives the beginning of the status line.
func answered(t *testing.T, nc net.Conn, request string) string {
	t.Helper()
	if err := nc.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(nc, request); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 12)
	if _, err := io.ReadFull(nc, b); err != nil {
		t.Fatal(err)
	}
	rest := make([]byte, 4096)
	if _, err := nc.Read(rest); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

type helloer struct{}

func (helloer) Serve(x *Exchange) {
	if _, whole, err := x.Body(1 << 20); err != nil || !whole {
		x.Fail(err)
		return
	}
	_ = x.Reply(200, nil, []byte("hello")) // the test reads it
}

// A connection keeps the limits that it began with; the next one has the new ones. A connection that was not counted for
// its client is not taken off either.
func TestConfigureHoldsForNewConnections(t *testing.T) {
	s, err := NewServer(Config{MaxBody: 10}, helloer{}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }() // ends with Shutdown
	defer func() {
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		<-served
	}()
	dial := func() net.Conn {
		nc, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		return nc
	}
	const small, large = "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\n\r\nabc", "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 12\r\n\r\nabcdefghijkl"
	old := dial()
	if got := answered(t, old, small); got != "HTTP/1.1 200" {
		t.Fatal(got)
	}
	if err := s.Configure(Config{MaxBody: -1}); err == nil {
		t.Fatal("a bad config was taken")
	}
	if err := s.Configure(Config{MaxBody: 20, MaxConnsPerClient: 1}); err != nil {
		t.Fatal(err)
	}
	one := dial()
	if got := answered(t, one, large); got != "HTTP/1.1 200" {
		t.Fatalf("a new connection: %s", got)
	}
	if got := answered(t, old, large); got != "HTTP/1.1 413" {
		t.Fatalf("an old connection: %s", got)
	}
	old.Close()
	for s.Stats().Conns > 1 {
		time.Sleep(time.Millisecond) // until the server has seen that it is closed
	}
	if got := answered(t, dial(), ""); got != "HTTP/1.1 503" {
		t.Fatalf("the second of a client that may have one: %s", got)
	}
}
