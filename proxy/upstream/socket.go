package upstream

import (
	"errors"
	"io"
	"net"
	"syscall"
	"unsafe"
)

// Socket does what net.Conn cannot: it looks at what has come, and waits for an answer in the same turn in which it
// writes the request. One goroutine uses it at a time.
//
// Not obvious: Exchange writes inside the wait for the answer. The wait starts by forgetting that the socket was
// readable; then a peek tells that nothing unasked is there, and the request is written. So whatever comes later wakes
// the wait, and the read that would only find an empty socket is spared: the peek costs no more than that read, and a
// connection that died while idle is found before a byte of the request is sent.
type Socket struct {
	rc     syscall.RawConn
	turnFn func(fd uintptr) bool // bound once: made for each call, they would be garbage
	takeFn func(fd uintptr) bool
	peek   [1]byte

	out, in       []byte // what turn writes, and where it and take read to
	peeked        bool
	written, read int
	err           error
}

// NewSocket is the socket of nc.
func NewSocket(nc net.Conn) (*Socket, error) {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return nil, errors.New("not a socket")
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &Socket{rc: rc}
	s.turnFn, s.takeFn = s.turn, s.take
	return s, nil
}

// stale is the reason why an idle connection cannot be used.
type stale struct{ error }

func (s stale) Unwrap() error { return s.error }

// IsStale tells that err is from an idle connection that was found unusable before anything was written to it.
func IsStale(err error) bool {
	_, ok := errors.AsType[stale](err)
	return ok
}

// Look tells how many bytes, 0 or 1, could be read without waiting: none without an error means that the backend has
// closed. It takes nothing.
func (s *Socket) Look() (n int, err error) {
	if e := s.rc.Read(func(fd uintptr) bool { n, err = s.look(fd); return true }); e != nil {
		return 0, e
	}
	return n, err
}

// look spares the address that syscall.Recvfrom allocates.
func (s *Socket) look(fd uintptr) (int, error) {
	n, _, err := syscall.Syscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&s.peek[0])), 1, syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
	if err != 0 {
		return 0, err
	}
	return int(n), nil
}

// Stale says why an idle connection cannot be used; nil while it is silent and open.
func (s *Socket) Stale() (err error) {
	if e := s.rc.Read(func(fd uintptr) bool { err = s.stale(fd); return true }); e != nil {
		return e
	}
	return err
}

func (s *Socket) stale(fd uintptr) error {
	switch n, err := s.look(fd); {
	case err == syscall.EAGAIN || err == syscall.EINTR:
		return nil
	case err != nil:
		return stale{err}
	case n > 0:
		return stale{errSpoke}
	}
	return stale{errStale}
}

// Exchange writes out and reads the first bytes of the answer into in; the read deadline bounds the wait. When the
// socket takes only a part of out, it returns at once, with nothing read and no error, and the rest is the caller's to
// write. The error may be IsStale, and io.EOF when the backend has closed.
func (s *Socket) Exchange(out, in []byte) (written, read int, err error) {
	s.out, s.in, s.peeked, s.written, s.read, s.err = out, in, false, 0, 0, nil
	err = s.rc.Read(s.turnFn)
	s.out, s.in = nil, nil // an idle connection holds no buffers
	if s.err != nil {
		err = s.err
	}
	return s.written, s.read, err
}

// turn is called with the socket, again each time it becomes readable: write the request, then read what comes.
func (s *Socket) turn(fd uintptr) bool {
	if !s.peeked {
		s.peeked = true
		if s.err = s.stale(fd); s.err != nil {
			return true
		}
		n, err := syscall.Write(int(fd), s.out)
		if err != nil && err != syscall.EAGAIN && err != syscall.EINTR {
			s.err = err
			return true
		}
		s.written = max(n, 0)
		return s.written < len(s.out) // the rest is written outside; else wait
	}
	n, err := syscall.Read(int(fd), s.in)
	if err == syscall.EAGAIN || err == syscall.EINTR {
		return false
	}
	if err == nil && n == 0 {
		err = io.EOF
	}
	s.read, s.err = max(n, 0), err
	return true
}

// Take reads what is there, without waiting: nothing, too, where there is an error or the end.
func (s *Socket) Take(b []byte) int {
	s.in, s.read = b, 0
	_ = s.rc.Read(s.takeFn) // the next read has the error
	s.in = nil
	return s.read
}

func (s *Socket) take(fd uintptr) bool {
	if n, err := syscall.Read(int(fd), s.in); err == nil {
		s.read = n
	}
	return true
}
