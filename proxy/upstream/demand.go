package upstream

import "banyan/proxy/wire"

// Demand is a request that looks for a connection.
type Demand struct {
	Request  *wire.Request
	Timeouts Timeouts
	Fresh    bool // as for Upstream.Get
	// Gone tells whether the client has left, so that a request that waits need wait no longer. Nil: it stays, as a write
	// does whose intent is recorded.
	Gone func() bool
}

// Router is an Upstream that has to see the request to choose a connection, because it has several instances and
// sessions live in one of them. Get is for requests of nobody, such as probes.
type Router interface {
	Upstream
	// Route gives a connection for the request. An error is Unsent, whatever was tried.
	Route(d *Demand) (Conn, error)
}
