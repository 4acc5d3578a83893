package proxy

import (
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"banyan/proxy/upstream"
)

// tireless is a client and an upstream that never have to be waited for, until so many pieces of a body have passed.
type tireless struct {
	upstream.Conn
	pieces int
	sent   func() error // called with each piece
}

func (c *tireless) next(p []byte) (n int, end bool, err error) {
	c.pieces--
	return len(p), c.pieces == 0, nil
}

func (c *tireless) receive(_ *Exchange, p []byte) (n int, end bool, err error) { return c.next(p) }
func (c *tireless) send(*Exchange, []byte, int, bool) error                    { return c.sent() }
func (c *tireless) SendBody([]byte, bool) error                                { return c.sent() }
func (c *tireless) Body(p []byte) (n int, end bool, err error)                 { return c.next(p) }

// ways are those of a large body.
var ways = map[string]func(x *Exchange, c *tireless) error{
	"upload":   func(x *Exchange, c *tireless) error { return x.stream(c) },
	"download": func(x *Exchange, c *tireless) error { return (&pass{x: x, c: c, o: &x.opts, res: &x.res}).copy() },
}

// bulk is an exchange whose body passes by way of c.
func bulk(s *Server, c *tireless) *Exchange {
	x := newExchange()
	x.client, x.conn = c, &conn{srv: s, cfg: &Config{MaxBody: 1 << 40}}
	return x
}

func turnsOnly() *Server { return &Server{turns: newTurns()} }

const pieces, bulkAfter = 400, bulkMin / copySize

// TestOthersAreNoticed: on one processor whoever waits for the network is served while a body passes that nothing ever
// stops, and mostly before its next piece. The machine may keep the thread that serves from running in the middle of a
// system call, which looks the same: so the best of several passages counts.
func TestOthersAreNoticed(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const most, often = 2*bulkAfter + 4, pieces / 10
	for name, way := range ways {
		late, times := unserved(t, way)
		for n := 1; n < 20 && (late > most || times > often); n++ {
			l, m := unserved(t, way)
			late, times = min(late, l), min(times, m)
		}
		if late > most || times > often {
			t.Errorf("%s: of requests made at each piece, up to %d were not served yet when the next piece passed, want at most %d; so it was at %d pieces of %d, want at most %d",
				name, late, most, times, pieces, often)
		}
	}
}

// unserved is how many of the requests that are made at each piece of a large body had not been served when the next
// piece passed, at most, and at how many pieces there were any.
func unserved(t *testing.T, way func(x *Exchange, c *tireless) error) (late, times int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	here, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	there, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	var served atomic.Int64
	ended := make(chan struct{})
	go func() { // ends with the connection
		defer close(ended)
		for b := make([]byte, 1); ; served.Add(1) {
			if _, err := there.Read(b); err != nil {
				return
			}
		}
	}()
	asked := int64(0)
	c := &tireless{pieces: pieces}
	c.sent = func() error {
		if c.pieces < pieces-2*bulkAfter {
			n := asked - served.Load()
			late, times = max(late, n), times+min(n, 1)
		}
		asked++
		_, err := here.Write([]byte{0})
		return err
	}
	if err := way(bulk(turnsOnly(), c), c); err != nil {
		t.Fatal(err)
	}
	here.Close()
	<-ended
	return late, times
}

// TestLargeBodiesAdvanceEvenly: when one of several has passed, the others have nearly.
func TestLargeBodiesAdvanceEvenly(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const pieces, bodies = 200, 8
	s := turnsOnly()
	var least atomic.Int64
	least.Store(pieces)
	var wg sync.WaitGroup
	var sent [bodies]atomic.Int64
	var once sync.Once
	s.turns.next <- struct{}{} // nobody goes on before all have come
	for i := range bodies {
		wg.Go(func() {
			c := &tireless{pieces: pieces}
			c.sent = func() error { sent[i].Add(1); return nil }
			if err := ways["upload"](bulk(s, c), c); err != nil {
				t.Error(err)
			}
			once.Do(func() {
				for j := range sent {
					least.Store(min(least.Load(), sent[j].Load()))
				}
			})
		})
	}
	for i := range sent {
		for sent[i].Load() < bulkMin/copySize {
			runtime.Gosched()
		}
	}
	<-s.turns.next
	wg.Wait()
	if n := least.Load(); n < pieces-8 {
		t.Errorf("when the first of %d bodies had passed, another was at piece %d of %d", bodies, n, pieces)
	}
}

// TestAStalledBodyStopsNobody: while one waits for its upstream in its turn, and after one was given up in its, others pass.
func TestAStalledBodyStopsNobody(t *testing.T) {
	const pieces = 50
	for name, way := range ways {
		s := turnsOnly()
		stalled, goOn := make(chan struct{}), make(chan struct{})
		first := &tireless{pieces: pieces}
		first.sent = func() error {
			if first.pieces == pieces/2 {
				close(stalled)
				<-goOn
				return os.ErrClosed
			}
			return nil
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := way(bulk(s, first), first); err == nil {
				t.Errorf("%s: no error of the body that was cut", name)
			}
		})
		<-stalled
		pass := func() {
			c := &tireless{pieces: pieces, sent: func() error { return nil }}
			if err := way(bulk(s, c), c); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		pass()
		close(goOn)
		wg.Wait()
		pass()
	}
}

// TestTurnsAllocateNothing: but the pipe, once.
func TestTurnsAllocateNothing(t *testing.T) {
	tu := newTurns()
	tu.await()
	if n := testing.AllocsPerRun(100, tu.await); n != 0 {
		t.Errorf("%v allocations a turn", n)
	}
	if tu.rc == nil {
		t.Error("no pipe")
	}
}

// TestSmallBodiesTakeNoTurn: their way never looks whose turn it is.
func TestSmallBodiesTakeNoTurn(t *testing.T) {
	s := turnsOnly()
	s.turns.next <- struct{}{} // for good
	for name, way := range ways {
		c := &tireless{pieces: bulkMin / copySize, sent: func() error { return nil }}
		if err := way(bulk(s, c), c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestWithoutDescriptorsBodiesPass: turns are taken without the pipe.
func TestWithoutDescriptorsBodiesPass(t *testing.T) {
	s := turnsOnly()
	s.turns.await()
	s.turns.r.Close()
	c := &tireless{pieces: 50, sent: func() error { return nil }}
	if err := ways["upload"](bulk(s, c), c); err != nil {
		t.Error(err)
	}
}
