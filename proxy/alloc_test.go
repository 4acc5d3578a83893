//go:build !race

package proxy_test

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"

	"banyan/proxy"
	"banyan/proxy/wire"
)

// A request costs no allocation, with callbacks, edits and a body too. (The race detector makes sync.Pool forget.)
func TestForwardAllocatesNothing(t *testing.T) {
	o := newOrigin(t, func(c net.Conn, r *bufio.Reader) {
		buf, answer := make([]byte, 16<<10), []byte(ok)
		for {
			if _, err := c.Read(buf); err != nil {
				return
			}
			if _, err := c.Write(answer); err != nil {
				return
			}
		}
	})
	p := pool(t, o)
	options := proxy.ForwardOptions{
		Add: []wire.Pair{{Name: "Banyan-Write", Value: []byte("1")}}, Drop: []string{"x-a"}, DropCookie: "b", Capture: 100,
		OnHead:    func(_ *proxy.Exchange, r *wire.Response) proxy.Verdict { r.Add("X", []byte("y")); return proxy.Pass },
		BeforeEnd: func(*proxy.Exchange, *proxy.Result) {},
	}
	s := serveObserved(t, proxy.Config{}, handler(func(x *proxy.Exchange) {
		if _, _, err := x.Body(1 << 20); err != nil {
			t.Error(err)
		}
		if res, err := x.Forward(p, options); err != nil || string(res.Captured) != "hi" {
			t.Errorf("%+v, %v", res, err)
		}
	}), silent{})
	c := s.dial(t)
	request := []byte("POST / HTTP/1.1\r\nHost: t\r\nX-A: b\r\nCookie: a=1; b=2\r\nContent-Length: 2048\r\n\r\n" + strings.Repeat("a", 2048))
	buf := make([]byte, len(ok)+len("X: y\r\n"))
	n := testing.AllocsPerRun(2000, func() {
		if _, err := c.Write(request); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, buf); err != nil {
			t.Fatal(err)
		}
	})
	if n > 0 {
		t.Errorf("%v allocations for a request", n)
	}
}

// Nor does one over HTTP/2, from a client that repeats itself as browsers do.
func TestForwardHTTP2AllocatesNothing(t *testing.T) {
	o := newOrigin(t, func(c net.Conn, r *bufio.Reader) {
		buf, answer := make([]byte, 16<<10), []byte(ok)
		for {
			if _, err := c.Read(buf); err != nil {
				return
			}
			if _, err := c.Write(answer); err != nil {
				return
			}
		}
	})
	s := serveObserved(t, proxy.Config{}, &proxy.Passthrough{Upstream: pool(t, o)}, silent{})
	f := s.prior(t)
	f.ask(1, true, get("/")...)
	f.answer(1)
	block := f.encode(get("/")...)
	frame := append([]byte{0, 0, byte(len(block)), 1, 5, 0, 0, 0, 0}, block...)
	id, in := uint32(1), make([]byte, 1<<10)
	ask := func() {
		id += 2
		binary.BigEndian.PutUint32(frame[5:], id)
		if _, err := f.nc.Write(frame); err != nil {
			t.Fatal(err)
		}
		for n := 0; n < 9+9+2; {
			m, err := f.nc.Read(in)
			if err != nil {
				t.Fatal(err)
			}
			n += m
		}
	}
	ask()
	if n := testing.AllocsPerRun(2000, ask); n > 0 {
		t.Errorf("%v allocations for a request", n)
	}
}

type silent struct{}

func (silent) Done(*proxy.Observation) {}
