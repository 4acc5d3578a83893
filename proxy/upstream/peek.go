package upstream

import (
	"errors"
	"net"
	"syscall"
	"unsafe"
)

// RawConn is the socket of nc.
func RawConn(nc net.Conn) (syscall.RawConn, error) {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return nil, errors.New("not a socket")
	}
	return sc.SyscallConn()
}

// Peek looks at a socket without taking anything off it.
type Peek struct{ buf [1]byte }

// Look peeks at what can be read, without waiting. syscall.Recvfrom does the same with an allocation for an address.
func (p *Peek) Look(fd uintptr) (n int, err syscall.Errno) {
	r, _, err := syscall.Syscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&p.buf[0])), 1, syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
	return int(r), err
}

// Stale says why an idle connection cannot be used; nil while it is silent and open.
func (p *Peek) Stale(fd uintptr) error {
	switch n, err := p.Look(fd); {
	case err == syscall.EAGAIN || err == syscall.EINTR:
		return nil
	case err != 0:
		return err
	case n > 0:
		return errSpoke
	}
	return errStale
}
