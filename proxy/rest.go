package proxy

import (
	"runtime"
	"time"
)

// restBatch bounds how many connections a request may have to wait for, some microseconds each.
const restBatch = 64

// Rest makes idle connections smaller: a goroutine's stack that has grown to the 4 KiB of an exchange never shrinks again, so
// each goes on with a new one, of 2 KiB, until it gets the next request. Connections over TLS, HTTP/2 and those that
// have switched protocols stay as they are. It is meant for the end of a load; what it left to do has been done soon
// after it returns.
func (s *Server) Rest() {
	for all := s.grown(); len(all) > 0; {
		n := min(len(all), restBatch)
		s.rest(all[:n])
		all = all[n:]
		runtime.Gosched() // they are ahead of this one
	}
}

// grown lists the idle connections whose stacks have grown.
func (s *Server) grown() (all []*conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if c.grown.Load() && c.idleSince.Load() > 0 {
			all = append(all, c)
		}
	}
	return all
}

func (s *Server) rest(some []*conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range some {
		if since := c.idleSince.Load(); since > 0 && c.grown.Load() && c.idleSince.CompareAndSwap(since, resting) {
			c.nc.SetReadDeadline(time.Unix(1, 0))
		}
	}
}
