package proxy

import (
	"time"

	"banyan/proxy/upstream"
)

// beginBody prepares for the body behind the head.
func (x *Exchange) beginBody() error {
	if x.left = max(0, x.req.Length()); x.left > x.conn.cfg.MaxBody {
		return errBodySize
	}
	if x.req.Chunked() {
		x.chunks.Reset()
	} else {
		x.bodyDone = x.left == 0 && (!x.multiplexed || x.h2.s.Bodiless())
	}
	return nil
}

// Body buffers up to limit bytes of the decoded request body and gives what there is; complete says that it is all.
// What is beyond limit stays on the connection, and Forward sends all of it. The bytes must not be changed.
func (x *Exchange) Body(limit int) (b []byte, complete bool, err error) {
	if x.bodyDone || len(x.body) >= limit || x.streamed {
		return x.body, x.bodyDone && !x.streamed, nil
	}
	if !x.multiplexed && !x.req.Chunked() && len(x.body) == 0 && x.left <= int64(limit) && x.left <= int64(len(x.in)-x.r) {
		err = x.bodyInPlace()
	} else {
		err = x.bodyInStore(limit)
	}
	if err != nil {
		x.err = err
	}
	return x.body, x.bodyDone, err
}

// bodyInPlace completes a body behind its head in the read buffer.
func (x *Exchange) bodyInPlace() error {
	for int64(x.n-x.r) < x.left {
		if err := x.awaitBody(); err != nil {
			return err
		}
		began, n := upstream.Now(), x.n
		if err := x.fill(); err != nil {
			return clientError(err)
		}
		if err := x.pace(x.n-n, began); err != nil && int64(x.n-x.r) < x.left {
			return err
		}
	}
	end := x.r + int(x.left)
	x.body, x.r, x.taken, x.left, x.bodyDone = x.in[x.r:end:end], end, x.left, 0, true
	return nil
}

func (x *Exchange) bodyInStore(limit int) error {
	if !x.reserve(cap(x.store)) {
		return errCrowded
	}
	for !x.bodyDone && len(x.store) < limit {
		if len(x.store) == cap(x.store) { // memory is taken for what came, not for what was announced
			size := max(storeMin, 2*cap(x.store))
			if x.left > 0 {
				size = int(min(int64(size), int64(len(x.store))+x.left))
			}
			if size = min(size, limit); !x.reserve(size) {
				return errCrowded
			}
			x.store = append(make([]byte, 0, size), x.store...)
		}
		n, _, err := x.readBody(x.store[len(x.store):min(cap(x.store), limit)])
		x.store = x.store[:len(x.store)+n]
		x.body = x.store
		if err != nil {
			return err
		}
	}
	return nil
}

// storeMin is what a body that does not fit behind its head takes first.
const storeMin = 8 << 10

// reserve counts n bytes of memory as this exchange's; false says that all exchanges together have too many.
func (x *Exchange) reserve(n int) bool {
	more, s := int64(n)-x.reserved, x.conn.srv
	if more <= 0 {
		return true
	}
	if s.buffered.Add(more) > x.conn.cfg.MaxBuffered {
		s.buffered.Add(-more)
		s.overflow.Add(1)
		return false
	}
	x.reserved = int64(n)
	return true
}

func (x *Exchange) unreserve() {
	x.conn.srv.buffered.Add(-x.reserved)
	x.reserved = 0
}

var proceed = []byte("HTTP/1.1 100 Continue\r\n\r\n")

// awaitBody is called before the body is read from the socket.
func (x *Exchange) awaitBody() error {
	c := x.conn
	if x.req.Expects() && !x.asked {
		x.asked = true
		if err := x.send(proceed, len(proceed), false); err != nil {
			return err
		}
	}
	return c.readBy.Extend(c.nc.SetReadDeadline, upstream.Now(), c.cfg.BodyTimeout)
}

// readBody takes decoded bytes of the body off the connection. n may be 0 before the end.
func (x *Exchange) readBody(p []byte) (n int, end bool, err error) {
	if x.bodyDone {
		return 0, true, nil
	}
	began := upstream.Now()
	n, x.bodyDone, err = x.client.receive(x, p)
	if x.taken += int64(n); x.taken > x.conn.cfg.MaxBody {
		err = errBodySize
	}
	if err == nil {
		err = x.pace(n, began)
	}
	return n, x.bodyDone, err
}

// pace refuses a body that comes more slowly than Config.MinBodyRate. Only time in which the client was waited for counts.
func (x *Exchange) pace(n int, began int64) error {
	cfg := x.conn.cfg
	if cfg.MinBodyRate == 0 || x.bodyDone {
		return nil
	}
	x.waited += upstream.Now() - began
	x.came += int64(n)
	if x.waited < int64(cfg.BodyTimeout) {
		return nil
	}
	slow := float64(x.came) < float64(cfg.MinBodyRate)*time.Duration(x.waited).Seconds()
	x.waited, x.came = 0, 0
	if slow && !(x.multiplexed && x.h2.s.Crowded()) {
		return errSlow
	}
	return nil
}

// receive implements client for HTTP/1.1.
func (c *conn) receive(x *Exchange, p []byte) (n int, end bool, err error) {
	if x.req.Chunked() {
		n, err = x.readChunks(p)
		return n, x.chunks.Done(), err
	}
	n, err = x.readLength(p)
	x.left -= int64(n)
	return n, x.left == 0, err
}

func (x *Exchange) readLength(p []byte) (int, error) {
	if int64(len(p)) > x.left {
		p = p[:x.left]
	}
	if x.r < x.n {
		n := copy(p, x.in[x.r:x.n])
		x.r += n
		return n, nil
	}
	if err := x.awaitBody(); err != nil {
		return 0, err
	}
	n, err := x.conn.nc.Read(p)
	if n > 0 {
		return n, nil
	}
	return 0, clientError(err)
}

// readChunks decodes by way of the read buffer: behind the last chunk stands perhaps another request.
func (x *Exchange) readChunks(p []byte) (int, error) {
	if x.r == x.n {
		x.r, x.n = x.req.Size(), x.req.Size()
		if len(x.in)-x.n < 4<<10 {
			x.growIn(len(x.in) + inSize)
		}
		if err := x.awaitBody(); err != nil {
			return 0, err
		}
		if err := x.fill(); err != nil {
			return 0, clientError(err)
		}
	}
	w, r, err := x.chunks.Decode(p, x.in[x.r:x.n])
	x.r += r
	return w, err
}
