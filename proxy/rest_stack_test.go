//go:build !race

package proxy_test

import (
	"net"
	"runtime"
	"runtime/metrics"
	"testing"
	"time"

	"banyan/proxy"
)

// stacks is what the stacks of all goroutines take, with those that are kept for new ones.
func stacks() int {
	s := []metrics.Sample{{Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(s)
	return int(s[0].Value.Uint64())
}

// TestRestHalvesStacks: a connection that was asked and rests takes the stack of one that never was. (The race detector's
// frames are larger.)
func TestRestHalvesStacks(t *testing.T) {
	o, _ := answers(t, ok)
	s := serve(t, proxy.Config{}, &proxy.Passthrough{Upstream: pool(t, o)})
	defer asked(t, s).Close() // what is begun once, at first
	const n = 400
	before := stacks()
	conns := make([]net.Conn, n)
	for i := range conns {
		conns[i] = asked(t, s)
	}
	each := func() int { return (stacks() - before) / n }
	if b := each(); b < 3<<10 {
		t.Fatalf("%d bytes of stack for each idle connection: there is nothing to shrink", b)
	}
	began := time.Now()
	for each() > 3<<10 {
		if time.Since(began) > wait {
			t.Fatalf("%d bytes of stack for each connection that rests, want 2 KiB", each())
		}
		s.Rest() // again, as one may not have been idle yet
		runtime.GC()
	}
	t.Logf("%d bytes of stack for each connection that rests", each())
	for _, c := range conns {
		c.Close()
	}
}
