package upstream_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"banyan/proxy/upstream"
)

// socket is a connection, and its other end.
func socket(t *testing.T) (*upstream.Socket, *net.TCPConn, *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	s, err := upstream.NewSocket(nc)
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute)
	if err := errors.Join(nc.SetDeadline(deadline), far.SetDeadline(deadline)); err != nil {
		t.Fatal(err)
	}
	return s, nc.(*net.TCPConn), far.(*net.TCPConn)
}

// readable waits until something has come to nc, and takes nothing.
func readable(t *testing.T, nc *net.TCPConn) {
	t.Helper()
	rc, err := nc.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = rc.Read(func(fd uintptr) bool {
		_, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		return err != syscall.EAGAIN
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestExchange(t *testing.T) {
	s, _, far := socket(t)
	buf := make([]byte, 100)
	for _, word := range []string{"one", "two"} {
		go func() { // ends with the answer
			b := make([]byte, len(word))
			if _, err := io.ReadFull(far, b); err == nil {
				far.Write(append(b, '!'))
			}
		}()
		written, n, err := s.Exchange([]byte(word), buf)
		if written != len(word) || string(buf[:n]) != word+"!" || err != nil {
			t.Fatalf("%d written, %q: %v", written, buf[:n], err)
		}
	}
	go func() { // ends with the request
		far.Read(make([]byte, 100))
		far.Close()
	}()
	if written, n, err := s.Exchange([]byte("three"), buf); written != 5 || n != 0 || err != io.EOF || upstream.IsStale(err) {
		t.Fatalf("%d written, %d read: %v", written, n, err)
	}
}

// Nothing is written to a connection that closed, or said something, while it was idle.
func TestExchangeOnAStaleConnection(t *testing.T) {
	for name, spoil := range map[string]func(far *net.TCPConn){
		"closed": func(far *net.TCPConn) { far.CloseWrite() },
		"spoke":  func(far *net.TCPConn) { far.Write([]byte("x")) },
	} {
		t.Run(name, func(t *testing.T) {
			s, nc, far := socket(t)
			if err := s.Stale(); err != nil {
				t.Fatal(err)
			}
			spoil(far)
			readable(t, nc)
			if err := s.Stale(); !upstream.IsStale(err) {
				t.Errorf("stale says %v", err)
			}
			if written, n, err := s.Exchange([]byte("request"), make([]byte, 100)); written != 0 || n != 0 || !upstream.IsStale(err) {
				t.Errorf("%d written, %d read: %v", written, n, err)
			}
			if n, err := s.Look(); err != nil || (n == 1) != (name == "spoke") {
				t.Errorf("look says %d: %v", n, err)
			}
			nc.Close()
			if got, err := io.ReadAll(far); len(got) > 0 {
				t.Errorf("the other end got %q: %v", got, err)
			}
		})
	}
}

// What the socket does not take at once is the caller's to write, who is told how much it is.
func TestExchangeOfMoreThanTheSocketTakes(t *testing.T) {
	s, nc, far := socket(t)
	out := bytes.Repeat([]byte("0123456789"), 2<<20)
	written, n, err := s.Exchange(out, make([]byte, 100))
	if written == 0 || written >= len(out) || n != 0 || err != nil {
		t.Fatalf("%d of %d written, %d read: %v", written, len(out), n, err)
	}
	go func() { // ends with the request
		nc.Write(out[written:])
		nc.CloseWrite()
	}()
	if got, err := io.ReadAll(far); !bytes.Equal(got, out) {
		t.Errorf("the other end got %d bytes: %v", len(got), err)
	}
}

func TestTake(t *testing.T) {
	s, nc, far := socket(t)
	buf := make([]byte, 100)
	if n := s.Take(buf); n != 0 {
		t.Errorf("%q from a silent socket", buf[:n])
	}
	far.Write([]byte("body"))
	readable(t, nc)
	if n := s.Take(buf); string(buf[:n]) != "body" {
		t.Errorf("%q", buf[:n])
	}
}
