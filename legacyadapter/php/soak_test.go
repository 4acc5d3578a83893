//go:build soak

package php

import (
	"math/rand/v2"
	"testing"
)

func TestSoakSpellings(t *testing.T) { randomSpellings(t, 20_000) }

func TestSoakParams(t *testing.T) {
	o := newOracle(t)
	r := rand.New(rand.NewPCG(5, 6))
	for range 500_000 {
		if o.compare(t, randomCase(r)); t.Failed() {
			return
		}
	}
}
