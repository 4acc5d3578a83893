package footprint

import (
	"testing"
	"time"
)

// rig is a process that has looks of load and of quiet, and whose trims take 10 ms.
type rig struct {
	*Keeper
	at, cpu time.Duration
	trims   int
}

func newRig() *rig {
	r := &rig{}
	r.Keeper = newKeeper(func() (at, cpu time.Duration) { return r.at, r.cpu }, func() {
		r.trims++
		r.at, r.cpu = r.at+10*time.Millisecond, r.cpu+10*time.Millisecond
	})
	return r
}

// look lets a number of looks pass in which the process takes this part of a CPU, in percent, and gives when the next is
// to be.
func (r *rig) look(times, percent int) (next time.Duration) {
	for range times {
		r.at += Every
		r.cpu += Every * time.Duration(percent) / 100
		next = r.Look()
	}
	return next
}

func (r *rig) want(t *testing.T, trims int, when string) {
	t.Helper()
	if r.trims != trims {
		t.Fatalf("%s: it was trimmed %d times, want %d", when, r.trims, trims)
	}
}

// TestKeeperAfterLoad: the process is trimmed once the load is over, once, and not under it.
func TestKeeperAfterLoad(t *testing.T) {
	r := newRig()
	r.Trim()
	r.want(t, 1, "at the start")
	r.look(40, 3)
	r.want(t, 1, "idle after the start")
	r.look(40, 90)
	r.want(t, 1, "under load")
	r.look(1, 3)
	r.look(4, 90)
	r.want(t, 1, "one quiet moment of a load")
	r.look(quietLooks, 3)
	r.want(t, 2, "after the load")
	r.look(400, 3)
	r.want(t, 2, "idle after the load")
	r.look(40, 90)
	r.look(quietLooks, 3)
	r.want(t, 3, "after the next load")
}

// TestKeeperSpares: loads that come and go have few trims, all of them a five thousandth of the time; a load that is
// short has none.
func TestKeeperSpares(t *testing.T) {
	r := newRig()
	r.Trim()
	r.look(1, 90)
	r.look(quietLooks, 3)
	r.want(t, 2, "what the first trim takes was not known")
	r.look(1, 19) // 47 ms
	r.look(100, 3)
	r.want(t, 2, "after too little load")
	before := r.at
	for range 100 {
		r.look(4, 90)
		r.look(4, 3)
	}
	if most := 1 + int((r.at-before)/(sparePart*10*time.Millisecond)); r.trims-2 > most || r.trims-2 < most/2 {
		t.Errorf("trimmed %d times in %v of loads that come and go, want at most %d, and not much less", r.trims-2, r.at-before, most)
	}
}

// TestKeeperSleepsWhenIdle: a process that has nothing to do is not woken four times a second to hear that; once there is a
// load, its end is not missed for long.
func TestKeeperSleepsWhenIdle(t *testing.T) {
	r := newRig()
	r.Trim()
	for _, c := range []struct {
		when           string
		times, percent int
		next           time.Duration
		trims          int
	}{
		{"at first", 1, 3, Every, 1},
		{"idle", quietLooks, 3, idleEvery, 1},
		{"still idle", 100, 3, idleEvery, 1},
		{"a load began", 1, 90, Every, 1},
		{"under load", 40, 90, Every, 1},
		{"it may be over", 1, 3, Every, 1},
		{"it is", 1, 3, idleEvery, 2},
	} {
		if next := r.look(c.times, c.percent); next != c.next {
			t.Errorf("%s: the next look is in %v, want %v", c.when, next, c.next)
		}
		r.want(t, c.trims, c.when)
	}
}
