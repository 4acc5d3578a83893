package proxy

import (
	"syscall"
	"unsafe"

	"banyan/proxy/upstream"
)

// connect asks the upstream for a connection; one of several instances has to see the request.
func (x *Exchange) connect(u upstream.Upstream, o *ForwardOptions, m *upstream.Message, fresh bool) (upstream.Conn, error) {
	r, ok := u.(upstream.Router)
	if !ok {
		return u.Get(m.Timeouts, fresh)
	}
	x.demand = upstream.Demand{Request: &x.req, Timeouts: m.Timeouts, Fresh: fresh}
	if !o.IgnoreClientGone {
		x.demand.Gone = x.goneFn
	}
	return r.Route(&x.demand)
}

// gone tells whether the client has closed its side, which a request that only waits in a queue takes for leaving.
func (x *Exchange) gone() bool {
	c := x.conn
	if c.rc == nil || x.clientGone || x.n > x.r || !x.bodyDone { // TLS is not looked into; and more has come, or is to come
		return x.clientGone
	}
	_ = c.rc.Control(func(fd uintptr) { // an error says that it is closed here
		n, err := peek(fd)
		x.clientGone = err == 0 && n == 0 || err == syscall.ECONNRESET
	})
	return x.clientGone
}

// peek tells how many bytes, 0 or 1, a socket has to read, and neither waits nor takes them. None without an error means
// that the other side has closed.
func peek(fd uintptr) (n int, err syscall.Errno) {
	var b [1]byte
	r, _, err := syscall.Syscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&b[0])), 1, syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
	return int(r), err
}
