//go:build !race

package fastcgi

import (
	"testing"

	"banyan/proxy"
)

// A request costs next to no garbage: its path as a string, and little else. (The race detector makes sync.Pool forget.)
func TestForwardAllocatesLittle(t *testing.T) {
	addr, _ := front(t, Config{Address: quickFPM(t, out("Content-type: a/b\r\nContent-Length: 2\r\n\r\nhi")+over()), Root: site(t)}, proxy.Config{}, proxy.ForwardOptions{})
	once := keepAlive(t, addr, odd{line: "GET /dump.php?unit=7", lines: browser})
	if n := testing.AllocsPerRun(2000, once); n > 3 {
		t.Errorf("%v allocations for a request", n)
	}
}
