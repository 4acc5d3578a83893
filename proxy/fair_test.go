package proxy

import (
	"runtime"
	"sync/atomic"
	"testing"

	"banyan/proxy/upstream"
)

// tireless is a client and an upstream that never have to be waited for, until so many pieces of a body have passed.
type tireless struct {
	upstream.Conn
	pieces int
}

func (c *tireless) next(p []byte) (n int, end bool, err error) {
	c.pieces--
	return len(p), c.pieces == 0, nil
}

func (c *tireless) receive(_ *Exchange, p []byte) (n int, end bool, err error) { return c.next(p) }
func (c *tireless) send(*Exchange, []byte, int, bool) error                    { return nil }
func (c *tireless) SendBody([]byte, bool) error                                { return nil }
func (c *tireless) Body(p []byte) (n int, end bool, err error)                 { return c.next(p) }

// TestOthersHaveTheirTurn: on one processor others run while a body passes that nothing ever stops.
func TestOthersHaveTheirTurn(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const pieces = 200
	for name, pass := range map[string]func(x *Exchange, c *tireless) error{
		"upload":   func(x *Exchange, c *tireless) error { return x.stream(c) },
		"download": func(x *Exchange, c *tireless) error { return (&pass{x: x, c: c, o: &x.opts, res: &x.res}).copy() },
	} {
		c := &tireless{pieces: pieces}
		x := newExchange()
		x.client, x.conn = c, &conn{cfg: &Config{MaxBody: 1 << 40}}
		var turns atomic.Int64
		done, ended := make(chan struct{}), make(chan struct{})
		go func() { // ends when the body has passed
			defer close(ended)
			for {
				select {
				case <-done:
					return
				default:
					turns.Add(1)
					runtime.Gosched()
				}
			}
		}()
		err := pass(x, c)
		n := turns.Load()
		close(done)
		<-ended
		if err != nil || n < pieces*3/4 || n > 2*pieces {
			t.Errorf("%s: others had %d turns while %d pieces of up to 64 KiB passed, want about as many: %v", name, n, pieces, err)
		}
	}
}
