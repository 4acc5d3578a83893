package h2

import (
	"runtime"
	"sync"

	"banyan/proxy/upstream"
)

const queueSize = 96 << 10 // queueMax, a frame, and heads

// queues are for what is to be written. A connection holds none while it has nothing to say.
var queues = sync.Pool{New: func() any { return new([queueSize]byte) }}

// room is the queue to append to.
func (c *Conn) room() []byte {
	if c.out == nil {
		if c.out, c.spare = c.spare, nil; c.out == nil {
			c.out = queues.Get().(*[queueSize]byte)[:0]
		}
	}
	return c.out
}

// flush writes what the reader has queued.
func (c *Conn) flush() {
	c.mu.Lock()
	c.kickLocked()
	c.mu.Unlock()
}

// kickLocked sees to it that the queue is written. A client that does not take the replies it asks for is cut.
func (c *Conn) kickLocked() {
	if len(c.out) > controlMax {
		c.nc.Close()
	}
	if !c.writing && len(c.out) > 0 && c.err == nil {
		c.writing = true
		go c.writeFn() // write; ends when the queue is empty, or a write has failed
	}
}

// write is the writer.
func (c *Conn) write() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.out) < queueMax/4 { // let those who have an answer too add theirs: one write for all
		c.mu.Unlock()
		runtime.Gosched()
		c.mu.Lock()
	}
	for len(c.out) > 0 && c.err == nil {
		b := c.out
		c.out = nil
		c.socket.since = upstream.Now()
		c.armLocked(c.socket.since + c.tick())
		c.mu.Unlock()
		n, err := c.nc.Write(b)
		c.mu.Lock()
		c.socket.since = 0
		c.socket.wrote += int64(n)
		if c.spare == nil {
			c.spare = b[:0]
		} else {
			giveBack(b)
		}
		if err != nil {
			c.err = ErrGone
			for _, s := range c.streams {
				c.dropLocked(s, ErrGone)
			}
			c.nc.Close() // the reader ends
			break
		}
		c.wakeLocked()
	}
	giveBack(c.spare)
	c.writing, c.spare = false, nil
	c.written.Broadcast()
}

// giveBack keeps a queue for whoever needs one next, unless it had to grow.
func giveBack(b []byte) {
	if cap(b) == queueSize {
		queues.Put((*[queueSize]byte)(b[:queueSize]))
	}
}
