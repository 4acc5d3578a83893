package upstream

import (
	"net"
	"net/netip"
	"time"

	"banyan/proxy/wire"
)

// Upstream gives connections to one backend. Its methods may be called by many goroutines at once.
type Upstream interface {
	// Name is what configuration calls the backend.
	Name() string
	// Get gives a connection for one request, an idle one unless fresh is set.
	Get(t Timeouts, fresh bool) (Conn, error)
}

// Timeouts bound one request's waits. Zero fields are taken from the upstream's Config. They are upheld to an eighth:
// a wait ends between its time and 9/8 of it.
type Timeouts struct {
	Dial         time.Duration // for a connection, dialled or awaited
	FirstByte    time.Duration // from the request's last byte to the answer's head
	BetweenBytes time.Duration // between two pieces of a body, either way
}

// Message is a request as a Conn sends it.
type Message struct {
	Head     []byte // the whole head, framing fields included. A Conn may use its spare capacity, and replace it by a larger copy
	Body     []byte // the decoded body, or its beginning
	More     bool   // SendBody follows
	Chunked  bool   // the head announces chunks
	NoBody   bool   // the answer has no body: the method is HEAD
	Timeouts Timeouts
	Origin   Origin // who asked, for a Front; nil for a request that the proxy made up
}

// Origin tells of a request what its head does not. It is valid until the Conn is released.
type Origin interface {
	// Client is the client's address, as far as trusted proxies tell; then its port may be 0. Not valid on a unix socket.
	Client() netip.AddrPort
	// Local is the address that the client's connection was made to. Not valid on a unix socket.
	Local() netip.AddrPort
	// TLS tells whether that connection is encrypted.
	TLS() bool
	// Protocol is the version that the client spoke, "HTTP/1.1".
	Protocol() string
	// IDs name the exchange and its trace in logs; zero when they have none.
	IDs() (exchange, trace [16]byte)
}

// Front is an Upstream that takes the place of a web server: what it runs learns from Origin who asked. So the head that
// it is given has only those X-Forwarded fields that the client's side sent.
type Front interface {
	Upstream
	Front()
}

// Stead is a Conn that may answer in the backend's stead, with a file that a script only names.
type Stead interface {
	// Chosen is the status that the backend chose, after Receive; 0 where it is the answer's own.
	Chosen() int
}

// Inbox is the buffer an answer is read into; its owner keeps it between requests. Head and first bytes of the body stay
// in it until the Conn is released.
type Inbox struct {
	Buf  []byte
	r, n int
}

// Conn carries one request and its answer: Send, SendBody while Message.More, Receive until a final head, Body until its
// end, then Release; Abort at any point instead. It belongs to one goroutine.
type Conn interface {
	// Reused tells whether the connection carried a request before.
	Reused() bool
	// Send takes the request. Without More it may be written only by Receive.
	Send(m *Message) error
	// SendBody writes more of the decoded body; last ends it. ErrAnswered says that the backend answered already and the
	// rest need not be sent.
	SendBody(p []byte, last bool) error
	// Receive reads the next head into resp: interim ones, then the final one.
	Receive(resp *wire.Response, in *Inbox) error
	// Buffered tells whether Body has bytes without waiting.
	Buffered() bool
	// Body reads decoded bytes of the answer's body. n may be 0 before the end.
	Body(p []byte) (n int, end bool, err error)
	// Hijack hands the socket over after a 101, with what was read behind its head. Its place among the connections stays
	// taken until Abort, which is all that may still be called.
	Hijack() (c net.Conn, read []byte)
	// Release ends the use of the Conn. It is kept for another request only if answer and request were both complete.
	Release()
	// Abort closes the connection.
	Abort()
}
