package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"
)

// piece is how much of one upload is moved before the next one's turn.
const piece = 256 << 10

// socketBuffer is asked for by both ends of an upload: grown as the kernel would, hundreds of buffers pass the bound that
// it has for all sockets (tcp_mem), and every connection of the machine then crawls.
const socketBuffer = 256 << 10

// besiegeMain is the clients that upload, each one body after the other on its connection, and those that are slow, who
// begin a head and send a byte of it twice a second. It listens once all are connected. One thread, until it is killed; an answer other than 200 ends it.
func besiegeMain(args []string) error {
	addr, name := args[0], args[1]
	runtime.LockOSThread()
	debug.SetGCPercent(-1)
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	ep, err := syscall.EpollCreate1(0)
	if err != nil {
		return err
	}
	senders, slow := map[int32]*sender{}, make([]int, siegeSlow)
	for i := range slow {
		if slow[i], err = dialFD(addr); err != nil {
			return err
		}
		if _, err := syscall.Write(slow[i], []byte("GET / HTTP/1.1\r\nHost: game.test\r\nX-Slow: ")); err != nil {
			return err
		}
	}
	for range siegeUploads {
		fd, err := dialFD(addr)
		if err != nil {
			return err
		}
		if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_SNDBUF, socketBuffer); err != nil {
			return err
		}
		if err := syscall.EpollCtl(ep, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLOUT, Fd: int32(fd)}); err != nil {
			return err
		}
		senders[int32(fd)] = &sender{fd: fd, head: uploadHead(), file: int(f.Fd())}
	}
	l, err := net.Listen("tcp", args[2]) // that says that all have begun
	if err != nil {
		return err
	}
	defer l.Close()
	const beat = 500 * time.Millisecond / siegeSlow
	events, next, due := make([]syscall.EpollEvent, siegeUploads), 0, time.Now()
	for {
		n, err := syscall.EpollWait(ep, events, 1)
		if err != nil && err != syscall.EINTR {
			return err
		}
		for _, e := range events[:max(n, 0)] {
			s := senders[e.Fd]
			wants, err := s.step()
			if err != nil {
				return err
			}
			if err := syscall.EpollCtl(ep, syscall.EPOLL_CTL_MOD, s.fd, &syscall.EpollEvent{Events: wants, Fd: e.Fd}); err != nil {
				return err
			}
		}
		for ; !time.Now().Before(due); due = due.Add(beat) {
			syscall.Write(slow[next], []byte("a")) // whoever was thrown out stays out
			next = (next + 1) % len(slow)
		}
	}
}

func uploadHead() []byte {
	return fmt.Appendf(nil, "POST /upload HTTP/1.1\r\nHost: game.test\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n", siegeBody)
}

// dialFD connects, and gives a socket that does not block.
func dialFD(addr string) (int, error) {
	ta, err := net.ResolveTCPAddr("tcp4", addr)
	if err != nil {
		return 0, err
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	if err := syscall.Connect(fd, &syscall.SockaddrInet4{Port: ta.Port, Addr: [4]byte(ta.IP.To4())}); err != nil {
		return 0, err
	}
	return fd, syscall.SetNonblock(fd, true)
}

// sender is one client that uploads.
type sender struct {
	fd, file int
	head     []byte
	began    bool
	sent     int64 // of the body
	answer   []byte
}

// step sends a piece or reads the answer, and tells what to wait for.
func (s *sender) step() (wants uint32, err error) {
	if !s.began {
		if n, err := syscall.Write(s.fd, s.head); n != len(s.head) {
			return 0, fmt.Errorf("an upload's head: %d bytes written: %v", n, err)
		}
		s.began, s.sent, s.answer = true, 0, s.answer[:0]
	}
	if s.sent < siegeBody {
		_, err := syscall.Sendfile(s.fd, s.file, &s.sent, min(piece, int(siegeBody-s.sent)))
		if err != nil && err != syscall.EAGAIN && err != syscall.EINTR {
			return 0, fmt.Errorf("an upload, at byte %d: %w", s.sent, err)
		}
		if s.sent < siegeBody {
			return syscall.EPOLLOUT, nil
		}
	}
	var b [4 << 10]byte
	n, err := syscall.Read(s.fd, b[:])
	if err == syscall.EAGAIN || err == syscall.EINTR {
		return syscall.EPOLLIN, nil
	}
	if err != nil || n == 0 {
		return 0, fmt.Errorf("an upload's answer: the end, behind %q: %v", s.answer, err)
	}
	s.answer = append(s.answer, b[:n]...)
	a, end, err := parse(s.answer)
	if err != nil || len(s.answer) < end {
		return syscall.EPOLLIN, err
	}
	if want := strconv.Itoa(siegeBody); a.status != 200 || string(a.body) != want {
		return 0, fmt.Errorf("an upload's answer is not 200 with %s: %.300q", want, s.answer)
	}
	s.began = false
	return syscall.EPOLLOUT, nil
}

// sinkMain is the origin of the uploads: it answers a body with how many bytes it had, and a request without one with how
// many all had until then. One thread, until it is killed.
func sinkMain(args []string) error {
	runtime.LockOSThread()
	debug.SetGCPercent(-1)
	ta, err := net.ResolveTCPAddr("tcp4", args[0])
	if err != nil {
		return err
	}
	l, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	if err := syscall.Bind(l, &syscall.SockaddrInet4{Port: ta.Port, Addr: [4]byte(ta.IP.To4())}); err != nil {
		return err
	}
	if err := syscall.SetsockoptInt(l, syscall.SOL_SOCKET, syscall.SO_RCVBUF, socketBuffer); err != nil { // of all that it accepts
		return err
	}
	if err := syscall.Listen(l, 4096); err != nil {
		return err
	}
	ep, err := syscall.EpollCreate1(0)
	if err != nil {
		return err
	}
	watch := func(fd int) error {
		return syscall.EpollCtl(ep, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)})
	}
	if err := watch(l); err != nil {
		return err
	}
	takers, total := map[int32]*taker{}, int64(0)
	for events := make([]syscall.EpollEvent, 256); ; {
		n, err := syscall.EpollWait(ep, events, -1)
		if err != nil && err != syscall.EINTR {
			return err
		}
		for _, e := range events[:max(n, 0)] {
			if int(e.Fd) == l {
				fd, _, err := syscall.Accept4(l, syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK)
				if err == nil {
					takers[int32(fd)], err = &taker{fd: fd}, watch(fd)
				}
				if err != nil && err != syscall.EAGAIN {
					return err
				}
			} else if !takers[e.Fd].step(&total) {
				syscall.Close(int(e.Fd))
				delete(takers, e.Fd)
			}
		}
	}
}

// taker is a connection to the origin of the uploads.
type taker struct {
	fd         int
	begun      []byte // of a head
	size, left int64  // of the body under way
}

// step takes what came of a head, or a piece of a body; false ends the connection.
func (t *taker) step(total *int64) bool {
	if t.left == 0 {
		return t.head(total)
	}
	// Of a TCP socket, that throws bytes away and copies none (tcp(7)).
	n, _, err := syscall.Syscall6(syscall.SYS_RECVFROM, uintptr(t.fd), 0, uintptr(min(piece, t.left)), syscall.MSG_TRUNC, 0, 0)
	if err == syscall.EAGAIN || err == syscall.EINTR {
		return true
	}
	return err == 0 && n > 0 && t.took(int64(n), total)
}

func (t *taker) took(n int64, total *int64) bool {
	t.left -= n
	*total += n
	return t.left > 0 || t.left == 0 && t.reply(t.size)
}

// head takes what came of a head; behind it may stand the beginning of its body.
func (t *taker) head(total *int64) bool {
	var b [4 << 10]byte
	n, err := syscall.Read(t.fd, b[:])
	if err == syscall.EAGAIN || err == syscall.EINTR {
		return true
	}
	if err != nil || n == 0 || len(t.begun) > len(b) {
		return false
	}
	t.begun = append(t.begun, b[:n]...)
	head, body, whole := bytes.Cut(t.begun, []byte("\r\n\r\n"))
	if !whole {
		return true
	}
	t.begun = t.begun[:0]
	_, v, ok := bytes.Cut(append(bytes.ToLower(head), '\r'), []byte("\r\ncontent-length:"))
	if !ok {
		return t.reply(*total)
	}
	v, _, _ = bytes.Cut(v, []byte("\r"))
	size, err := strconv.ParseInt(string(bytes.TrimSpace(v)), 10, 64)
	t.size, t.left = size, size
	return err == nil && size > 0 && t.took(int64(len(body)), total)
}

func (t *taker) reply(n int64) bool {
	text := strconv.FormatInt(n, 10)
	_, err := fmt.Fprintf(fdWriter(t.fd), "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
	return err == nil
}

type fdWriter int

func (w fdWriter) Write(p []byte) (int, error) { return syscall.Write(int(w), p) }
