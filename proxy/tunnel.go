package proxy

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
	"time"

	"banyan/proxy/upstream"
)

var errUpgrade = errors.New("upstream switched protocols, which nobody had asked for")

// switchProtocols passes a 101 on and joins the connections.
func (x *Exchange) switchProtocols(c upstream.Conn, o *ForwardOptions, res *Result) error {
	if !o.Upgrade || x.req.Upgrade() == nil || !x.bodyDone {
		c.Abort()
		res.Class = upstream.Malformed
		return &upstream.Error{Upstream: x.upstream, Doing: "read the answer's head", Class: upstream.Malformed, Sent: true, Answered: true, Err: errUpgrade}
	}
	if o.OnHead != nil && o.OnHead(x, &x.resp) == Refuse {
		res.Refused = true
		c.Abort()
		return nil
	}
	out := x.appendFields(x.appendStatus(x.out[:0]), 0)
	out = append(append(append(out, "Connection: Upgrade\r\nUpgrade: "...), x.resp.Field("upgrade")...), "\r\n\r\n"...)
	x.status, x.hijacked, x.broken = 101, true, true
	nc, first := c.Hijack()
	defer nc.Close()
	if err := x.send(append(out, first...), len(out), false); err != nil {
		return err
	}
	if _, err := nc.Write(x.in[x.r:x.n]); err != nil {
		return &upstream.Error{Upstream: x.upstream, Doing: "pass on what follows an upgrade", Class: upstream.Cut, Sent: true, Answered: true, Err: err}
	}
	t := tunnel{idle: x.conn.cfg.UpgradeTimeout}
	up := make(chan int64, 1)
	go func() { // ends when the client's side or the upstream's is closed, which the other direction's end causes
		up <- t.copy(nc, x.conn.nc)
	}()
	res.BodyBytes = t.copy(x.conn.nc, nc) + int64(len(first))
	x.taken = <-up
	x.sentBytes, res.LastByte = res.BodyBytes, time.Now()
	if o.BeforeEnd != nil {
		o.BeforeEnd(x, res)
	}
	return nil
}

// tunnel copies bytes both ways until both ends are done, one breaks, or neither has sent anything for idle.
type tunnel struct {
	idle time.Duration
	last atomic.Int64
}

func (t *tunnel) copy(dst, src net.Conn) (total int64) {
	buf := copyBuffers.Get().(*[copySize]byte)
	defer copyBuffers.Put(buf)
	t.last.Store(upstream.Now())
	var by, wby upstream.Deadline
	for {
		by.Extend(src.SetReadDeadline, upstream.Now(), t.idle)
		n, err := src.Read(buf[:])
		if n > 0 {
			t.last.Store(upstream.Now())
			wby.Extend(dst.SetWriteDeadline, upstream.Now(), t.idle)
			m, werr := dst.Write(buf[:n])
			total += int64(m)
			if werr != nil {
				break
			}
			continue
		}
		if errors.Is(err, os.ErrDeadlineExceeded) && upstream.Now()-t.last.Load() < int64(t.idle) {
			by.Forget()
			continue
		}
		if h, ok := dst.(interface{ CloseWrite() error }); ok && err != nil && !errors.Is(err, os.ErrDeadlineExceeded) && h.CloseWrite() == nil {
			return total // the other direction goes on until its own end
		}
		break
	}
	src.Close()
	dst.Close()
	return total
}
