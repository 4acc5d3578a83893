//go:build soak

package proxy_test

import (
	"testing"
	"time"
)

// Ten minutes of streams and answers that no run has seen before, on both sides at a time. What fails is printed as a
// row for mutatedRows or mutatedAnswerRows, with the seed.
func TestSoakMutation(t *testing.T) {
	const ten = 10 * time.Minute
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	until := time.Now().Add(ten)
	for name, side := range map[string]func(*testing.T, uint64, int, time.Time) int{"requests": mutations, "answers": mutatedAnswers} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := side(t, seed, 1<<40, until)
			t.Logf("%d a second", n/int(ten.Seconds()))
		})
	}
}
