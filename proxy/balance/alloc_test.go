//go:build !race

package balance

import "testing"

// A request costs no allocation beyond its instance's, with and without a session. (The race detector makes sync.Pool
// forget.)
func TestBalancerAllocatesNothing(t *testing.T) {
	for _, sticky := range []bool{false, true} {
		one := bench(t, sticky)
		if n := testing.AllocsPerRun(2000, one); n > 0 {
			t.Errorf("sticky %v: %v allocations for a request", sticky, n)
		}
	}
}
