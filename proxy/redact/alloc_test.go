//go:build !race

package redact

import "testing"

// (The race detector makes sync.Pool forget.)
func TestRedactAllocatesNothing(t *testing.T) {
	r, body, target, id := redactor(t), []byte("match=7&unit[x]=42&Order=9"), []byte("/index.php?page=map&action=act7&match=7"), []byte("0001m7r5t8u0w4x6y2z1a3b")
	dst := make([]byte, 0, 32)
	if n := testing.AllocsPerRun(1000, func() {
		r.Body(form, body)
		r.Target(target)
		r.AppendSession(dst, id)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
