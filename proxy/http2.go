package proxy

import (
	"crypto/tls"
	"errors"
	"os"
	"runtime/debug"
	"time"

	"banyan/proxy/h2"
	"banyan/proxy/upstream"
)

// streamClient is the client of an exchange that is a stream of HTTP/2.
type streamClient struct{ s *h2.Stream }

var _ client = (*streamClient)(nil)

// receive implements client.
func (c *streamClient) receive(x *Exchange, p []byte) (n int, end bool, err error) {
	if x.req.Expects() && !x.asked {
		if ready, complete := c.s.Buffered(); ready == 0 && !complete {
			x.asked = true
			if err := x.send(proceed, len(proceed), false); err != nil {
				return 0, false, err
			}
		}
	}
	n, end, err = c.s.Receive(p)
	x.left -= int64(n)
	switch {
	case err == h2.ErrSlow:
		err = errSlow
	case err == h2.ErrCrowded:
		x.conn.srv.overflow.Add(1)
		err = errCrowded
	case err != nil:
		err = clientError(err)
	}
	return n, end, err
}

// send implements client.
func (c *streamClient) send(_ *Exchange, b []byte, head int, end bool) error {
	return c.s.Send(b, head, end)
}

// speaksHTTP2 tells whether the connection, whose first bytes were read, is one of HTTP/2: so it was agreed upon within
// TLS, or the client starts with the preface.
func (c *conn) speaksHTTP2() bool {
	if t, ok := c.nc.(*tls.Conn); ok && t.ConnectionState().NegotiatedProtocol == "h2" {
		return true
	}
	x := c.x
	for {
		n := min(x.n, len(h2.Preface))
		if string(x.in[:n]) != h2.Preface[:n] {
			return false
		}
		if n == len(h2.Preface) {
			return true
		}
		c.readBy.Forget()
		c.readBy.Extend(c.nc.SetReadDeadline, upstream.Now(), c.cfg.HeaderTimeout)
		if x.fill() != nil {
			return false // the parser will say what is wrong
		}
	}
}

// serveHTTP2 runs the connection from its first bytes to its end.
func (c *conn) serveHTTP2() {
	cfg := c.cfg
	h := h2.New(&h2.Config{MaxStreams: cfg.MaxStreams, MaxHead: cfg.MaxHead, HeaderTimeout: cfg.HeaderTimeout, IdleTimeout: cfg.IdleTimeout,
		BodyTimeout: cfg.BodyTimeout, WriteTimeout: cfg.WriteTimeout, MinRate: cfg.MinBodyRate, DrainIdle: cfg.DrainIdle, Hold: c.hold, Serve: c.serveStream}, c.nc)
	c.h2.Store(h)
	first := append([]byte(nil), c.x.in[:c.x.n]...)
	c.release()
	if err := h.Serve(first); err != nil && !errors.Is(err, os.ErrClosed) {
		c.srv.log.Debug("HTTP/2 connection ended", "peer", c.peer, "reason", err)
	}
}

// hold counts what the connection's clients may send ahead. It takes no more than half of what there is: the other half
// is for bodies that a handler needs, which are refused without it, while who sends ahead only has to wait.
func (c *conn) hold(n int64) bool {
	b := &c.srv.buffered
	if b.Add(n) > c.cfg.MaxBuffered/2 && n > 0 {
		b.Add(-n)
		return false
	}
	return true
}

// serveStream serves one request.
func (c *conn) serveStream(s *h2.Stream) {
	x := c.srv.exchanges.Get().(*Exchange)
	x.conn, x.h2.s, x.client, x.multiplexed = c, s, &x.h2, true
	defer func() {
		if p := recover(); p != nil {
			c.srv.log.Error("panic in a handler, stream reset", "panic", p, "stack", string(debug.Stack()))
			s.Reset(h2.InternalError)
			s.Finish() // the exchange is left: an upstream may still use its buffers
			return
		}
		if x.broken {
			s.Reset(h2.InternalError)
		}
		s.Finish()
		x.conn, x.client, x.h2.s, x.multiplexed = nil, nil, nil, false
		x.shrink()
		c.srv.exchanges.Put(x)
	}()
	x.begin()
	if err := x.parseHead(s.Head()); err != nil {
		x.Fail(err)
		x.observe()
		return
	}
	defer x.unreserve()
	c.srv.handler.Serve(x)
	if x.status == 0 {
		if x.err == nil {
			x.err = errNoAnswer
		}
		x.Fail(x.err)
	}
	x.observe()
}

// parseHead reads the head that a stream was translated to, by the rules of HTTP/1.1.
func (x *Exchange) parseHead(head []byte) error {
	if len(head) == 0 {
		return errHeadSize
	}
	done, err := x.req.Parse(head)
	switch {
	case err != nil:
		return err
	case !done:
		return errHeadCut
	case x.req.Size() > x.conn.cfg.MaxHead:
		return errHeadSize
	}
	x.started = time.Now()
	return x.beginBody()
}
