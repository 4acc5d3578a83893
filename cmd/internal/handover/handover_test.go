package handover

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const childMode = "HANDOVER_TEST_CHILD"

// TestMain: this very binary is the successor, too.
func TestMain(m *testing.M) {
	if mode, ok := os.LookupEnv(childMode); ok {
		child(mode)
		return
	}
	os.Exit(m.Run())
}

// child serves each connection of "a" with its own name until its standard input ends.
func child(mode string) {
	s, err := Inherit()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if mode == "dies" {
		os.Exit(3)
	}
	addr, opened := os.Getenv("HANDOVER_TEST_ADDR"), false
	l, err := s.Listen("a", addr, func(string) (net.Listener, error) {
		opened = true
		return net.Listen("tcp", "127.0.0.1:0")
	})
	if err != nil {
		os.Exit(1)
	}
	if mode == "silent" {
		select {}
	}
	go greet(l, fmt.Sprintf("successor opened=%v\n", opened))
	if err := s.Ready(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func greet(l net.Listener, word string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.WriteString(c, word)
		_ = c.Close()
	}
}

func ask(t *testing.T, network, addr string) string {
	t.Helper()
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return line
}

// successor is a command that runs child, and what ends it.
func successor(t *testing.T, mode, addr string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childMode+"="+mode, "HANDOVER_TEST_ADDR="+addr)
	in, end, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin = in
	t.Cleanup(func() { end.Close(); in.Close() })
	return cmd
}

func TestTheSuccessorServesTheSameSocket(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			addr := "127.0.0.1:0"
			if network == "unix" {
				addr = filepath.Join(t.TempDir(), "s")
			}
			s := &Set{}
			l, err := s.Listen("a", addr, func(a string) (net.Listener, error) { return net.Listen(network, a) })
			if err != nil {
				t.Fatal(err)
			}
			// It waits in the queue while the process changes.
			queued, err := net.Dial(network, l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer queued.Close()
			if _, err := s.successor(t.Context(), successor(t, "serves", addr)); err != nil {
				t.Fatal(err)
			}
			l.Close()
			if line, err := bufio.NewReader(queued).ReadString('\n'); line != "successor opened=false\n" {
				t.Fatalf("who waited in the queue was told %q, %v", line, err)
			}
			if line := ask(t, network, l.Addr().String()); line != "successor opened=false\n" {
				t.Fatalf("who came later was told %q", line)
			}
		})
	}
}

func TestAnotherAddressIsOpenedAnew(t *testing.T) {
	s := &Set{}
	l, err := s.Listen("a", "127.0.0.1:0", func(a string) (net.Listener, error) { return net.Listen("tcp", a) })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.successor(t.Context(), successor(t, "serves", "elsewhere:1")); err != nil {
		t.Fatal(err)
	}
	l.Close()
	if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
		c.Close()
		t.Fatal("somebody still listens where nobody wants to")
	}
}

func TestASuccessorThatDoesNotComeUpChangesNothing(t *testing.T) {
	for mode, want := range map[string]string{"dies": "it ended before it served", "silent": "enough"} {
		t.Run(mode, func(t *testing.T) {
			s := &Set{}
			l, err := s.Listen("a", "127.0.0.1:0", func(a string) (net.Listener, error) { return net.Listen("tcp", a) })
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go greet(l, "predecessor\n")
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			if mode == "silent" {
				cancel(fmt.Errorf("enough"))
			}
			if _, err := s.successor(ctx, successor(t, mode, "127.0.0.1:0")); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "this one goes on") {
				t.Fatalf("%v; want %q", err, want)
			}
			if line := ask(t, "tcp", l.Addr().String()); line != "predecessor\n" {
				t.Fatalf("told %q", line)
			}
		})
	}
}

func TestTheSocketStaysNonblocking(t *testing.T) {
	s := &Set{}
	l, err := s.Listen("a", "127.0.0.1:0", func(a string) (net.Listener, error) { return net.Listen("tcp", a) })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.successor(t.Context(), exec.Command("false")); err == nil { // a child that leaves the socket as it got it
		t.Fatal("it cannot have come up")
	}
	c, err := l.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var flags uintptr
	if err := c.Control(func(fd uintptr) { flags, _, _ = syscall.Syscall(syscall.SYS_FCNTL, fd, syscall.F_GETFL, 0) }); err != nil {
		t.Fatal(err)
	}
	if flags&syscall.O_NONBLOCK == 0 {
		t.Fatal("the socket blocks: Accept keeps a thread, and Close does not end it")
	}
	ended := make(chan struct{})
	go func() { greet(l, ""); close(ended) }()
	l.Close()
	<-ended
}

func TestAListThatNobodyOfOursMade(t *testing.T) {
	if _, err := inherit("nonsense", 3); err == nil || !strings.Contains(err.Error(), "name=address") {
		t.Fatal(err)
	}
}

func TestTheServiceManagerIsTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	if err := (&Set{}).Ready(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64)
	n, err := c.Read(buf)
	if string(buf[:n]) != "READY=1" {
		t.Fatalf("%q, %v", buf[:n], err)
	}
}
