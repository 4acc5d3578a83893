package proxy

// client is who asks, as an exchange deals with him. All else about an exchange is the same whatever protocol he speaks.
type client interface {
	// receive takes decoded bytes of the request's body off the connection; end says that it is complete. n may be 0
	// before the end.
	receive(x *Exchange, p []byte) (n int, end bool, err error)
	// send hands b over, of which the first head bytes are the lines of one head, interim or final, as HTTP/1.1 has
	// them. end says that nothing follows. An error means that the client is gone.
	send(x *Exchange, b []byte, head int, end bool) error
}

var _ client = (*conn)(nil)
