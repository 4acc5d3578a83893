package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"banyan/cmd/internal/footprint"
)

// A process that serves collects garbage less often than the runtime would by itself.
func TestServingHasHeadroom(t *testing.T) {
	_, admin, token := metered(t)
	goal := 0.0
	for end := time.Now().Add(time.Minute); goal < footprint.Headroom && time.Now().Before(end); time.Sleep(10 * time.Millisecond) { // until the start is trimmed
		_, body := get(t, admin+"/metrics", token)
		_, after, _ := strings.Cut(body, "\ngo_memstats_next_gc_bytes ")
		if _, err := fmt.Sscan(after, &goal); err != nil {
			t.Fatalf("no go_memstats_next_gc_bytes in\n%s", body)
		}
	}
	if goal < footprint.Headroom {
		t.Errorf("the collector runs at %.0f bytes", goal)
	}
}
