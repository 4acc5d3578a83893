package proxy

import (
	"sync"
	"time"

	"banyan/proxy/upstream"
	"banyan/proxy/wire"
)

// copyBuffers are for bodies that do not fit behind their head.
var copyBuffers = sync.Pool{New: func() any { return new([copySize]byte) }}

// answer passes the answer on whose head stands in resp.
func (x *Exchange) answer(c upstream.Conn, o *ForwardOptions, res *Result) error {
	r := &x.resp
	res.Status, res.Chosen = r.Status(), r.Status()
	if s, ok := c.(upstream.Stead); ok && s.Chosen() != 0 {
		res.Chosen = s.Chosen()
	}
	if r.Status() == 101 {
		return x.switchProtocols(c, o, res)
	}
	if o.OnHead != nil && o.OnHead(x, r) == Refuse {
		res.Refused = true
		x.refuse(c)
		return nil
	}
	framing := r.Framing(x.req.IsHead())
	if framing == wire.ByLength && r.Length() == 0 {
		framing = wire.NoBody
	}
	chunked := !x.multiplexed && x.req.Minor() == 1 && (framing == wire.ByChunks || framing == wire.ByClosing)
	out := x.appendFields(x.appendStatus(x.out[:0]), framing)
	if framing == wire.ByClosing && chunked {
		out = append(out, "Transfer-Encoding: chunked\r\n"...)
	}
	if (framing == wire.ByChunks || framing == wire.ByClosing) && !chunked || !x.keep() || !x.bodyDone {
		x.closes = true
		out = append(out, "Connection: close\r\n"...)
	}
	out = append(out, "\r\n"...)
	p := pass{x: x, c: c, o: o, res: res, chunked: chunked, head: len(out)}
	err := p.run(out, framing == wire.NoBody)
	res.Captured = x.captured
	x.sentBytes = res.BodyBytes
	if err != nil {
		c.Abort()
		res.Class = upstream.ClassOf(err)
		return err
	}
	c.Release()
	return nil
}

// refuse gives up an answer that nobody will see. Only what has come already is read.
func (x *Exchange) refuse(c upstream.Conn) {
	for c.Buffered() {
		if _, end, err := c.Body(x.out[:cap(x.out)]); end {
			c.Release()
			return
		} else if err != nil {
			break
		}
	}
	c.Abort()
}

func (x *Exchange) appendStatus(dst []byte) []byte {
	return append(append(dst, "HTTP/1.1"...), x.resp.StatusLine()...)
}

// appendFields appends the answer's fields for the client.
func (x *Exchange) appendFields(dst []byte, framing wire.Framing) []byte {
	r := &x.resp
	raw, from, to := r.Raw(), 0, 0
	bare := r.Status() < 200 || r.Status() == 204
	for i := range r.Len() {
		switch r.Kind(i) {
		case wire.Connection, wire.Hop:
			continue
		case wire.ContentLength:
			if bare {
				continue
			}
		case wire.TransferEncoding:
			if bare || x.req.Minor() == 0 {
				continue
			}
		}
		if r.Dropped(i) {
			continue
		}
		start, end := r.Span(i)
		if start != to {
			dst = append(dst, raw[from:to]...)
			from = start
		}
		to = end
	}
	return append(append(dst, raw[from:to]...), r.Added()...)
}

// pass is the way of one answer's body to the client.
type pass struct {
	x       *Exchange
	c       upstream.Conn
	o       *ForwardOptions
	res     *Result
	head    int  // how much of what is sent next is the head
	chunked bool // towards the client
}

// run sends head and body. The first piece of the body leaves with the head if it has come.
func (p *pass) run(head []byte, bare bool) error {
	if bare {
		p.end()
		return p.send(head, true)
	}
	if p.c.Buffered() {
		out, end, err := p.append(head)
		p.x.out = out[:0]
		if err != nil {
			return err
		}
		if err := p.send(out, end); err != nil || end {
			return err
		}
	} else {
		p.x.out = head[:0]
		if err := p.send(head, false); err != nil {
			return err
		}
	}
	return p.copy()
}

// append reads the next piece of the body behind out, framed.
func (p *pass) append(out []byte) (b []byte, end bool, err error) {
	size, room := len(out), 0
	if p.chunked {
		room = wire.ChunkRoom
	}
	if cap(out)-size < room+wire.ChunkTail+4<<10 {
		out = append(make([]byte, 0, size+inSize+room+wire.ChunkTail), out...)
	}
	data := out[size+room : cap(out)-wire.ChunkTail]
	n, end, err := p.c.Body(data)
	if err != nil {
		return out, false, err
	}
	p.took(data[:n])
	if end {
		p.end()
	}
	if !p.chunked {
		return out[:size+n], end, nil
	}
	if n > 0 {
		at := wire.ChunkHead(out[size:size+room], n)
		n = copy(out[size:cap(out)], out[size+at:size+room+n])
		out = append(out[:size+n], "\r\n"...)
	}
	if end {
		out = append(out, wire.LastChunk...)
	}
	return out, end, nil
}

// copy passes the rest of the body on in large pieces, each as soon as it comes.
func (p *pass) copy() error {
	buf := copyBuffers.Get().(*[copySize]byte)
	defer copyBuffers.Put(buf)
	turns := fair{turns: p.x.conn.srv.turns}
	for {
		data := buf[wire.ChunkRoom : copySize-wire.ChunkTail]
		n, end, err := p.c.Body(data)
		if err != nil {
			return err
		}
		turns.pass(n)
		p.took(data[:n])
		if end {
			p.end()
		}
		piece := data[:n]
		if p.chunked {
			from := wire.ChunkRoom
			if n > 0 {
				from = wire.ChunkHead(buf[:wire.ChunkRoom], n)
				piece = append(buf[from:wire.ChunkRoom+n], "\r\n"...)
			}
			if end {
				piece = append(piece, wire.LastChunk...)
			}
		}
		if len(piece) > 0 || end && p.x.multiplexed {
			if err := p.send(piece, end); err != nil {
				return err
			}
		}
		if end {
			return nil
		}
	}
}

// took notes a piece of the decoded body.
func (p *pass) took(b []byte) {
	p.res.BodyBytes += int64(len(b))
	if p.o.Capture == 0 {
		return
	}
	n := min(len(b), p.o.Capture-len(p.x.captured))
	p.x.captured = append(p.x.captured, b[:n]...)
	p.res.Truncated = p.res.Truncated || n < len(b)
}

// end is called when the whole answer was read, before its last bytes are sent.
func (p *pass) end() {
	p.res.LastByte = time.Now()
	p.res.Captured = p.x.captured
	p.res.ClientGone = p.x.clientGone
	if p.o.BeforeEnd != nil {
		p.o.BeforeEnd(p.x, p.res)
	}
}

// send writes to the client. That it has left is an error unless the answer is read to its end anyhow, or has been.
func (p *pass) send(b []byte, end bool) error {
	x := p.x
	x.status = p.res.Status
	err := errClient
	if !x.clientGone {
		err = x.send(b, p.head, end)
	}
	p.head = 0
	if end || p.o.IgnoreClientGone {
		return nil
	}
	return err
}
