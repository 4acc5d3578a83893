//go:build soak

package role

import (
	"testing"
	"time"

	"banyan/cmd/internal/play"
	"banyan/testdata/game"
)

// 200 players, with time to think, beside a cron that never rests, about a minute at each lag.
func TestSoakLag(t *testing.T) {
	l := newLagging(t, game.Size{Matches: 10, Players: 20, Provinces: 40, Units: 120}, 20*time.Second)
	for i, lag := range []time.Duration{0, 2 * time.Second, 10 * time.Second} {
		l.proves(lag, play.Config{Players: 200, Matches: 10, Rate: 30, Requests: 2200, Seed: uint64(10 + i)}, 4*time.Minute)
	}
}
