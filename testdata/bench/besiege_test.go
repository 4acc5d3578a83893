package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// ends are the two of a connection, which do not block.
func ends(t *testing.T) (client, server int) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = dialFD(l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(client) })
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	rc, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	_ = rc.Control(func(fd uintptr) { server = int(fd) }) // it is open
	return client, server
}

// uploader is a client that uploads on fd.
func uploader(t *testing.T, fd int) *sender {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "upload"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(siegeBody); err != nil {
		t.Fatal(err)
	}
	return &sender{fd: fd, file: int(f.Fd()), head: uploadHead()}
}

// TestUploadsArrive: each is answered with its size, the origin counts what it threw away, and tells it.
func TestUploadsArrive(t *testing.T) {
	client, server := ends(t)
	s, o, total := uploader(t, client), &taker{fd: server}, int64(0)
	for range 2 {
		for begun := false; !begun || s.began; begun = true {
			if _, err := s.step(); err != nil {
				t.Fatal(err)
			}
			if !o.step(&total) {
				t.Fatalf("the origin ended the connection at byte %d", total)
			}
		}
	}
	if total != 2*siegeBody {
		t.Errorf("the origin counted %d bytes, want %d", total, 2*siegeBody)
	}
	if _, err := syscall.Write(client, []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n")); err != nil || !o.step(&total) {
		t.Fatal("the count: no answer", err)
	}
	var b [100]byte
	if n, _ := syscall.Read(client, b[:]); !strings.HasSuffix(string(b[:max(n, 0)]), "\r\n\r\n134217728") {
		t.Errorf("the count: %q", b[:max(n, 0)])
	}
}

// TestARefusedUploadEndsTheSiege: so that a proxy that refuses them is not measured beside nothing.
func TestARefusedUploadEndsTheSiege(t *testing.T) {
	for _, answer := range []string{
		"HTTP/1.1 413 Too Large\r\nContent-Length: 8\r\n\r\n67108864", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n0", "",
	} {
		client, server := ends(t)
		s := uploader(t, client)
		s.began, s.sent = true, siegeBody
		if answer == "" {
			_ = syscall.Shutdown(server, syscall.SHUT_WR) // the client sees its end
		} else if _, err := syscall.Write(server, []byte(answer)); err != nil {
			t.Fatal(err)
		}
		if wants, err := s.step(); err == nil {
			t.Errorf("%q: it went on, and waits for %#x", answer, wants)
		}
	}
}
