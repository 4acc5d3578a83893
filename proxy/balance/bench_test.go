package balance

import (
	"testing"

	"banyan/proxy/upstream"
	"banyan/proxy/wire"
)

// answered is what the conn says without work.
type answered struct{ *fakeConn }

func (answered) Receive(*wire.Response, *upstream.Inbox) error { return nil }

func bench(t testing.TB, sticky bool) (one func()) {
	w := newWorld(t, 3, func(c *Config) {
		if !sticky {
			c.Sticky = nil
		}
		for i := range c.Instances {
			c.Instances[i].Upstream = ready{}
		}
	})
	w.cfg().Now = upstream.Now
	d := &upstream.Demand{Request: request(t, "lang=en; seen=1; PHPSESSID=3k2v9q1m7r5t8u0w4x6y2z1a3b; theme=dark")}
	var resp wire.Response
	resp.Reset()
	if done, err := resp.Parse([]byte("HTTP/1.1 200 OK\r\nDate: Sat, 28 Nov 2026 20:00:00 GMT\r\nServer: Apache\r\nContent-Type: text/html\r\nContent-Length: 0\r\n\r\n")); !done || err != nil {
		t.Fatal(done, err)
	}
	return func() {
		c, err := w.Route(d)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Receive(&resp, nil); err != nil {
			t.Fatal(err)
		}
		c.Release()
	}
}

var theConn upstream.Conn = answered{&fakeConn{f: &fake{}}}

type ready struct{}

func (ready) Name() string                                       { return "ready" }
func (ready) Get(upstream.Timeouts, bool) (upstream.Conn, error) { return theConn, nil }

// BenchmarkBalancer is what a request costs beyond its instance's connection.
func BenchmarkBalancer(b *testing.B) {
	for name, sticky := range map[string]bool{"load": false, "sticky": true} {
		b.Run(name, func(b *testing.B) {
			one := bench(b, sticky)
			b.ReportAllocs()
			for b.Loop() {
				one()
			}
		})
	}
}
