//go:build !race

package migrate

import (
	"testing"

	"banyan/proxy/stage"
)

// A request that is matched by its parameters costs no allocation, and a recorded write those of what is kept of it: the
// ordering key, the addresses, and what the journal takes. (The race detector makes sync.Pool forget.)
func TestAllocations(t *testing.T) {
	for _, c := range []struct {
		name, rule string
		stage      stage.State
		most       float64
	}{{"off", "status < 400", stage.State{Stage: stage.Off}, 0}, {"recorded", "status < 400", dual, 6}, {"by a field of the answer", `header("Content-Type") contains "html" && params.match != ""`, dual, 10}} {
		ask := asker(t, c.stage, c.rule)
		for range 100 {
			ask()
		}
		if n := testing.AllocsPerRun(2000, ask); n > c.most {
			t.Errorf("%s: %v allocations, want at most %v", c.name, n, c.most)
		}
	}
}
