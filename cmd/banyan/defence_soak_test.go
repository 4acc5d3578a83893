//go:build soak

package main

import "testing"

func TestSoakIdleConnections(t *testing.T) {
	got := idlers(t, 10_000)
	t.Logf("10000 idle connections: %d MiB", got)
	if got > 100 {
		t.Errorf("%d MiB, want at most 100", got)
	}
}

func TestSoakSlowClientsAndUploads(t *testing.T) {
	got, without, with := besieged(t, 1000, 200, 64<<20)
	t.Logf("1000 slow clients and 200 uploads of 64 MiB: at most %d MiB; others %v; without %v", got, with, without)
	if got > 300 {
		t.Errorf("%d MiB, want at most 300", got)
	}
}
