package h2

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/http2/hpack"

	"banyan/proxy/upstream"
)

const (
	inSize       = 32 << 10
	tableSize    = 4 << 10   // of the decoder: the protocol's default
	streamWindow = 128 << 10 // of a body that is not read, per stream
	freeWindow   = 65535     // of a connection: the protocol gives it unasked, so no budget can keep it back
	connWindow   = 1 << 20   // of a connection at most
	queueMax     = 64 << 10  // answers' bytes wait for room beyond it
	controlMax   = 256 << 10 // a queue so long is made of replies that the client does not read
	lingerFor    = time.Second
	maxFields    = 300 // the parser refuses fewer; more are not kept until then
)

// Config bounds a connection. All fields are required.
type Config struct {
	MaxStreams    int           // at a time
	MaxHead       int           // bytes of a header list, as RFC 9113 6.5.2 counts them
	HeaderTimeout time.Duration // for a header block, or what begins a connection
	IdleTimeout   time.Duration // without a stream
	BodyTimeout   time.Duration // between two pieces of a body
	WriteTimeout  time.Duration // over which a client that has answers to take is looked at
	// MinRate is how many bytes a second a client has to take of each stream that waits for it, on average over each
	// WriteTimeout of waiting. Of 0 it has to take something in that time.
	MinRate   int
	DrainIdle time.Duration // between saying that the connection ends and refusing streams
	// Hold asks for n bytes of memory for bodies, all or none; when n is negative, -n bytes are given back, and the result
	// means nothing. It is called with the connection's lock held and must not wait. nil: there is always some.
	Hold func(n int64) bool
	// Serve is called for each request on a goroutine of its own, and Stream.Finish once it has returned.
	Serve func(s *Stream)
}

// Conn is a client's connection.
type Conn struct {
	cfg *Config
	nc  net.Conn
	rc  syscall.RawConn // nil when nc is not a plain socket

	// The reader's alone.
	in      []byte // nil while the connection waits for bytes
	r, n    int
	small   [512]byte // waits for bytes where a large buffer would have to be held
	readErr error
	firstFn func(fd uintptr) bool
	readBy  upstream.Deadline
	partial int64 // since when a frame or a header block is incomplete, 0 if none is
	dec     *hpack.Decoder
	block   block
	calm    calm
	greeted bool // the client's SETTINGS came

	writeFn  func() // write
	handlers sync.WaitGroup

	mu         sync.Mutex // guards all below, and the streams
	streams    map[uint32]*Stream
	open       int // of streams, those that are neither reset nor ended
	lastID     uint32
	closed     ring
	out        []byte
	spare      []byte
	writing    bool
	written    sync.Cond // writing became false
	paid       int       // window updates that frames of bodies have paid for
	err        error     // why nothing can be written any more
	waiting    []*Stream
	needing    int // of waiting, those that need the window
	sendWindow int64
	initial    int64 // send window of a new stream
	recvWindow int64
	credit     int64 // what recvWindow is filled up to
	held       int64 // bytes of bodies, received and not read
	reserved   int64 // of Config.Hold
	short      bool  // Config.Hold has refused
	dry        drought
	socket     socket
	doom       error // why the connection has to end
	idleSince  int64
	drained    int // phases of Drain
	drainSince int64
	timer      *time.Timer
	timerAt    int64 // 0: the timer is off
}

// block is a header block that arrives.
type block struct {
	stream   uint32 // 0: none is under way
	end      bool   // END_STREAM
	self     bool   // it depends on itself
	size     int    // bytes of the block
	list     int    // bytes of the fields
	fields   []hpack.HeaderField
	excess   bool // too many bytes or fields: those are not kept
	trailers bool
}

// New makes a connection of nc. Serve runs it.
func New(cfg *Config, nc net.Conn) *Conn {
	c := &Conn{cfg: cfg, nc: nc, streams: map[uint32]*Stream{}, sendWindow: 65535, initial: 65535, recvWindow: freeWindow, credit: freeWindow}
	c.dec = hpack.NewDecoder(tableSize, c.field)
	c.dec.SetMaxStringLength(2 * cfg.MaxHead)
	if sc, ok := nc.(syscall.Conn); ok {
		c.rc, _ = sc.SyscallConn()
		c.firstFn = c.first
	}
	c.writeFn, c.written.L = c.write, &c.mu
	c.calm.reset()
	return c
}

// buffers are for reading and for writing.
var buffers = sync.Pool{New: func() any { return new([inSize]byte) }}

// Serve runs the connection until it ends, and all handlers have. first is what was read of it already. It gives why
// the connection ended: nil for an end that the client, a drain or idleness made between requests.
func (c *Conn) Serve(first []byte) error {
	c.mu.Lock()
	c.idleSince = upstream.Now()
	c.out = appendFrameHead(c.room(), 18, settings, 0, 0)
	c.out = appendSetting(c.out, settingStreams, uint32(c.cfg.MaxStreams))
	c.out = appendSetting(c.out, settingWindow, streamWindow)
	c.out = appendSetting(c.out, settingHeaderList, uint32(c.cfg.MaxHead))
	c.kickLocked()
	c.mu.Unlock()
	c.acquire()
	c.n = copy(c.in, first)
	err := c.preface()
	for err == nil {
		err = c.read()
	}
	return c.end(err)
}

var errPreface = fatal(ProtocolError, "connection does not start with the preface")

// preface takes the client's first bytes.
func (c *Conn) preface() error {
	for {
		n := min(c.n, len(Preface))
		if string(c.in[:n]) != Preface[:n] {
			return errPreface
		}
		if n == len(Preface) {
			c.r = n
			return nil
		}
		c.partial = max(c.partial, 1)
		if err := c.fill(); err != nil {
			return err
		}
	}
}

// read handles the frames that are there, and waits for more.
func (c *Conn) read() error {
	for c.n-c.r >= frameHead {
		b := c.in[c.r:c.n]
		size := payloadSize(b)
		if size > frameMax {
			return fatal(FrameSize, "frame is larger than SETTINGS_MAX_FRAME_SIZE")
		}
		if len(b) < frameHead+size {
			break
		}
		c.r += frameHead + size
		f := frame{kind: frameType(b[3]), flags: b[4], stream: (uint32(b[5])<<24 | uint32(b[6])<<16 | uint32(b[7])<<8 | uint32(b[8])) & maxID,
			payload: b[frameHead : frameHead+size]}
		if err := c.handle(&f); err != nil {
			return err
		}
		if c.block.stream == 0 {
			c.partial = 0
		}
	}
	return c.fill()
}

// errEnd ends a connection in good order.
var errEnd = errors.New("connection ends")

// fill waits for bytes.
func (c *Conn) fill() error {
	if c.r == c.n {
		c.r, c.n = 0, 0
	} else if c.r > 0 {
		c.n = copy(c.in, c.in[c.r:c.n])
		c.r = 0
	}
	c.flush()
	for {
		now := upstream.Now()
		limit := c.cfg.IdleTimeout
		if c.n > 0 || c.block.stream != 0 || !c.greeted {
			limit = c.partialLimit()
			if c.partial <= 1 {
				c.partial = now
			}
			if now-c.partial > int64(limit) {
				return fatal(EnhanceYourCalm, "client took too long to complete what it began")
			}
		} else {
			c.partial = 0
		}
		if err := c.verdict(); err != nil {
			return err
		}
		if c.partial > 0 {
			c.readBy.Forget()
		}
		if err := c.readBy.Extend(c.nc.SetReadDeadline, now, limit); err != nil {
			return err
		}
		err := c.await()
		if err == nil {
			return nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		c.readBy.Forget()
		if c.partial == 0 && c.idleTooLong() {
			return errEnd
		}
	}
}

// partialLimit is how long an incomplete frame may take: a body's is as slow as its client's line.
func (c *Conn) partialLimit() time.Duration {
	if c.block.stream == 0 && c.n >= frameHead && frameType(c.in[3]) == data {
		return max(c.cfg.HeaderTimeout, c.cfg.BodyTimeout)
	}
	return c.cfg.HeaderTimeout
}

// verdict says why nothing more is to be read.
func (c *Conn) verdict() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.drained == 3 {
		return errEnd
	}
	return c.doom
}

func (c *Conn) idleTooLong() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.drained == 3 || len(c.streams) == 0 && upstream.Now()-c.idleSince >= int64(c.cfg.IdleTimeout)
}

func (c *Conn) acquire() {
	if c.in == nil {
		c.in = buffers.Get().(*[inSize]byte)[:]
	}
}

func (c *Conn) release() {
	if c.in != nil {
		buffers.Put((*[inSize]byte)(c.in))
		c.in = nil
	}
}

// await reads. While nothing comes, no large buffer is held.
func (c *Conn) await() error {
	if c.rc == nil && c.n == 0 {
		c.release()
		n, err := c.nc.Read(c.small[:])
		if n > 0 {
			c.acquire()
			c.n = copy(c.in, c.small[:n])
			return nil
		}
		return err
	}
	if c.n > 0 {
		n, err := c.nc.Read(c.in[c.n:])
		if c.n += n; n > 0 {
			return nil
		}
		return err
	}
	c.release()
	c.readErr = nil
	if err := c.rc.Read(c.firstFn); err != nil {
		return err
	}
	return c.readErr
}

// first is called with the socket, again each time it becomes readable.
func (c *Conn) first(fd uintptr) bool {
	c.acquire()
	n, err := syscall.Read(int(fd), c.in)
	if err == syscall.EAGAIN || err == syscall.EINTR {
		c.release()
		return false
	}
	if err == nil && n == 0 {
		err = io.EOF
	}
	c.n = max(n, 0)
	if err != nil {
		c.readErr = err
	}
	return true
}

// end sends what is to be said, lets handlers know, and waits for them.
func (c *Conn) end(err error) error {
	var fault *connError
	c.mu.Lock()
	if errors.As(err, &fault) {
		c.out = appendGoAway(c.room(), c.lastID, fault.code)
		c.kickLocked()
	} else if err == errEnd && c.drained == 0 {
		c.out = appendGoAway(c.room(), c.lastID, NoError)
		c.kickLocked()
	}
	for _, s := range c.streams {
		c.dropLocked(s, ErrGone)
	}
	c.mu.Unlock()
	if fault != nil || err == errEnd {
		c.lastWords()
		c.linger()
	}
	c.nc.Close()
	c.mu.Lock()
	if c.err == nil {
		c.err = ErrGone
	}
	if c.timer != nil {
		c.timer.Stop()
	}
	c.awaitWriterLocked()
	c.mu.Unlock()
	c.handlers.Wait()
	c.settle()
	c.release()
	if err == errEnd || err == io.EOF {
		return nil
	}
	return err
}

// lastWords lets the writer finish, if the client takes what there is.
func (c *Conn) lastWords() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nc.SetWriteDeadline(time.Now().Add(lingerFor))
	c.awaitWriterLocked()
}

func (c *Conn) awaitWriterLocked() {
	for c.writing {
		c.written.Wait()
	}
}

// linger closes the sending side and reads on for a while, so that the kernel does not drop the last words with a reset.
func (c *Conn) linger() {
	h, ok := c.nc.(interface{ CloseWrite() error })
	if !ok || h.CloseWrite() != nil {
		return
	}
	c.nc.SetReadDeadline(time.Now().Add(lingerFor))
	c.acquire()
	for total := 0; total < 1<<20; {
		n, err := c.nc.Read(c.in)
		if err != nil {
			return
		}
		total += n
	}
}

// Drain moves the connection towards its end, without waiting; it is called again and again until Serve returns. First
// the client is told that it ends, so that it opens its next stream elsewhere; after Config.DrainIdle new streams are
// refused; when the last one has ended, the connection does.
func (c *Conn) Drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch now := upstream.Now(); c.drained {
	case 0:
		c.drained, c.drainSince = 1, now
		c.out = appendGoAway(c.room(), maxID, NoError)
	case 1:
		if now-c.drainSince < int64(c.cfg.DrainIdle) {
			return
		}
		c.drained = 2
		c.out = appendGoAway(c.room(), c.lastID, NoError)
	case 2:
		if len(c.streams) > 0 || c.writing {
			return
		}
		c.drained = 3
		fallthrough
	case 3:
		c.nc.SetReadDeadline(time.Unix(1, 0))
		return
	}
	c.kickLocked()
}

// Abort cuts the connection.
func (c *Conn) Abort() { c.nc.Close() }
