package stage

import (
	"errors"
	"fmt"
)

// Generation numbers the generations of a migration's events and read model, from 1.
type Generation = int

// Generations says which generation readers have, and which others are fed beside it. Records and files without it mean
// the first.
//
// One is made like this: [Build] begins a new number, which nobody reads; [Swap] makes it the current one, while the one
// before is still fed, because readers and proxies follow one after the other; [Retire] says that none of them uses that
// any more. [Abandon] ends a build instead. A number is never given twice: what an abandoned build left behind (events,
// progress, parked keys) must not be taken for a later one's.
type Generations struct {
	Generation Generation `json:"generation,omitempty"` // that readers have, or are about to; 0 means 1, see Current
	Building   Generation `json:"building,omitempty"`   // fed, and read by nobody; 0: none
	Retiring   Generation `json:"retiring,omitempty"`   // fed, and still read by some; 0: none
	Last       Generation `json:"last,omitempty"`       // highest number ever given, where it is above Generation
}

// Step is a change of the generations.
type Step string

// The steps.
const (
	Build   Step = "build"
	Swap    Step = "swap"
	Abandon Step = "abandon"
	Retire  Step = "retire"
)

// Current is the generation that readers have.
func (g Generations) Current() Generation { return max(g.Generation, 1) }

// Next is the number that a build gets.
func (g Generations) Next() Generation { return max(g.Current(), g.Last) + 1 }

// Fed are all that events are made for, the current one first.
func (g Generations) Fed() []Generation {
	out := g.Read()
	if g.Building != 0 {
		out = append(out, g.Building)
	}
	return out
}

// Read are those that some reader may be using, the current one first.
func (g Generations) Read() []Generation {
	out := []Generation{g.Current()}
	if g.Retiring != 0 {
		out = append(out, g.Retiring)
	}
	return out
}

// after does a step.
func (g Generations) after(s Step) (Generations, error) {
	switch s {
	case Build:
		switch {
		case g.Building != 0:
			return g, fmt.Errorf("generation %d is being built already", g.Building)
		case g.Retiring != 0:
			return g, fmt.Errorf("generation %d is still read by some: a build begins when it is retired", g.Retiring)
		}
		g.Building, g.Last = g.Next(), g.Next()
		return g, nil
	case Swap:
		if g.Building == 0 {
			return g, errNoBuild
		}
		return Generations{Generation: g.Building, Retiring: g.Current()}, nil
	case Abandon:
		if g.Building == 0 {
			return g, errNoBuild
		}
		g.Building = 0
		return g, nil
	case Retire:
		if g.Retiring == 0 {
			return g, errors.New("no generation is retiring")
		}
		g.Retiring = 0
		return g, nil
	}
	return g, fmt.Errorf("%q is not a step of generations: update this build before its peers", s)
}

var errNoBuild = errors.New("no generation is being built")
