// Package footprint keeps resident what serving needs, not what starting or a load needed.
//
// It promises that the program behaves the same before and after: only garbage and pages that the kernel reads again
// from the program's own file are given back. It leaves to others what is allocated while serving. It cannot fail; where
// the platform offers no way it does nothing.
package footprint

import (
	"runtime"
	"runtime/debug"
	"time"
)

// Every is how often [Keeper.Look] is to be called while there is a load, and at first.
const Every = 250 * time.Millisecond

// idleEvery is how often when there is none: to wake a process that sleeps costs a tenth of a millisecond.
const idleEvery = time.Second

const (
	quietLooks = 2    // in a row: a load is over
	quietPart  = 20   // in a quiet look the process takes less than a twentieth of one CPU; Kafka's clients take half of that
	worthPart  = 5    // a load that took less CPU than so many trims leaves too little behind
	sparePart  = 5000 // trims take at most a five thousandth of one CPU: where a load comes and goes each costs about 15 ms
)

// Keeper trims the process once it has started, and each time that a load is over: half a second after its end, or a
// second later if it was a short one, never under it. The price is that the first requests of the next load find the
// pages that they need in the page cache only, and no pooled buffer; so a process whose loads are short is trimmed
// seldom. One goroutine uses it.
type Keeper struct {
	clock func() (at, cpu time.Duration) // at grows with time, cpu with what the process takes of all CPUs
	trim  func()

	at, cpu time.Duration // at the last look
	quiet   int           // looks, since the last that was not
	busy    time.Duration // of CPU in looks that were not quiet, since the last trim
	trimmed time.Duration // when
	took    time.Duration // of CPU, for the last trim at the end of a load, beside which nothing ran; 0: there was none
}

// NewKeeper makes one for this process. rest, which may be nil, is called before each trim and lets go of what only a load
// needs.
func NewKeeper(rest func()) *Keeper {
	began := time.Now()
	return newKeeper(func() (at, cpu time.Duration) { return time.Since(began), cpuTime() }, func() {
		if rest != nil {
			rest()
		}
		trim()
	})
}

func newKeeper(clock func() (at, cpu time.Duration), trim func()) *Keeper {
	k := &Keeper{clock: clock, trim: trim}
	k.at, k.cpu = clock()
	return k
}

// Trim is to be called when all that the start began has ended. A start runs the init functions of every package and
// walks tables that nothing looks at again: of a binary of 69 MB they leave 31 MiB resident. Dropped, 13 to 19 MiB come
// back as requests are served, because each page that is used brings the 15 beside it.
func (k *Keeper) Trim() {
	k.trim()
	k.at, k.cpu = k.clock()
	k.trimmed, k.busy, k.quiet = k.at, 0, 0
}

// Look trims if a load is over, and tells when to look again.
func (k *Keeper) Look() (next time.Duration) {
	at, cpu := k.clock()
	if used := cpu - k.cpu; used*quietPart < at-k.at {
		k.quiet++
	} else {
		k.quiet = 0
		k.busy += used
	}
	k.at, k.cpu = at, cpu
	if k.quiet < quietLooks {
		return Every
	}
	if k.busy > worthPart*k.took && at-k.trimmed >= sparePart*k.took {
		k.Trim()
		k.took = k.cpu - cpu
	}
	return idleEvery
}

// trim takes some milliseconds.
func trim() {
	runtime.GC() // what pools hold is garbage only for the second collection
	debug.FreeOSMemory()
	dropFile()
}
