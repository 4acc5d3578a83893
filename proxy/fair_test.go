package proxy

import (
	"runtime"
	"sync/atomic"
	"testing"
)

// TestOthersHaveTheirTurn: on one processor others run while a body passes that nothing ever stops.
func TestOthersHaveTheirTurn(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var others atomic.Int64
	done := make(chan struct{})
	go func() { // ends when the body has passed
		for {
			select {
			case <-done:
				return
			default:
				others.Add(1)
				runtime.Gosched()
			}
		}
	}()
	var f fair
	for range 100 * fairShare / copySize {
		f.pass(copySize)
	}
	n := others.Load()
	close(done)
	if n < 90 || n > 200 {
		t.Errorf("others had %d turns while 100 shares passed, want about 100", n)
	}
}
