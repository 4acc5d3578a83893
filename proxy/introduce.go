package proxy

import (
	"crypto/tls"
	"io"
	"net"
	"time"

	"banyan/proxy/proxyproto"
	"banyan/proxy/upstream"
)

// introduced reads the PROXY header of a connection that has to begin with one, and makes the client that it names the
// peer; false ends the connection. It takes no byte of what follows, which may be TLS.
func (c *conn) introduced() bool {
	nc := c.nc
	if t, ok := nc.(*tls.Conn); ok {
		nc = t.NetConn()
	}
	nc.SetReadDeadline(time.Now().Add(c.cfg.HeaderTimeout))
	h, err := readHeader(nc)
	if err != nil {
		if err != io.EOF { // a balancer that only looks whether the port is open
			c.stranger(err)
		}
		return false
	}
	nc.SetReadDeadline(time.Time{})
	if !h.Client.IsValid() { // the balancer speaks for itself, or for somebody whom it cannot name
		c.identify(c.peer, false)
		return true
	}
	c.local = h.Server
	c.identify(h.Client, c.cfg.trusts(h.Client.Addr()))
	if c.trusted {
		return true
	}
	c.srv.mu.Lock()
	c.client = clientOf(h.Client.Addr())
	ok := c.srv.admitLocked(c)
	c.srv.mu.Unlock()
	if !ok {
		c.srv.turned.Add(1)
		c.refuse()
	}
	return ok
}

func readHeader(nc net.Conn) (proxyproto.Header, error) {
	var room [128]byte // most headers; longer ones have extensions
	for b := room[:0]; ; {
		more := proxyproto.Missing(b)
		if len(b)+more > cap(b) {
			b = append(make([]byte, 0, proxyproto.Max), b...)
		}
		k, err := nc.Read(b[len(b) : len(b)+more])
		b = b[:len(b)+k]
		if k == 0 && err != nil {
			if err == io.EOF && len(b) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return proxyproto.Header{}, err
		}
		if h, n, err := proxyproto.Parse(b); n > 0 || err != nil {
			return h, err
		}
	}
}

// stranger notes a connection whose header is missing or wrong, in the log once a second at most: a balancer that is not
// configured to send it would fill it.
func (c *conn) stranger(err error) {
	s := c.srv
	n, now := s.strangers.Add(1), upstream.Now()
	if last := s.warned.Load(); (last == 0 || now-last >= int64(time.Second)) && s.warned.CompareAndSwap(last, now) {
		s.log.Warn("connection closed: no usable PROXY header", "peer", c.peer, "error", err, "so_far", n)
	}
}
