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

// TestSoakSlowClientsAndUploads: what the machine does to everybody is told apart by asking past the proxy as well. Where
// the uploads, their clients and the origins share two cores, the proxy is at 2 to 5 of the relay's p99: it is busy, the
// relay is not, and so the kernel lets it wait longer. Large bodies that take no turns make it more than 100.
func TestSoakSlowClientsAndUploads(t *testing.T) {
	const most = 15
	s := besieged(t, 1000, 200, 64<<20)
	t.Logf("1000 slow clients and 200 uploads of 64 MiB: %v", s)
	if s.most > 300 {
		t.Errorf("%d MiB, want at most 300", s.most)
	}
	if x := float64(s.with.p99) / float64(s.relayed.p99); x > most {
		t.Errorf("others' p99 is %.1f times what it is past the proxy, want at most %d", x, most)
	}
}
