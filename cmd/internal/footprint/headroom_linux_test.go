package footprint

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"runtime/metrics"
	"testing"
)

// anonymous is how much memory that is not a file's is resident, in KiB.
func anonymous(t *testing.T) (kib int) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(text, []byte("RssAnon:"))
	if at < 0 {
		t.Fatalf("no RssAnon in /proc/self/status:\n%s", text)
	}
	if _, err := fmt.Sscanf(string(text[at:]), "RssAnon: %d kB", &kib); err != nil {
		t.Fatal(err)
	}
	return kib
}

// goal is the size of the heap at which the collector runs next.
func goal() uint64 {
	runtime.GC()
	s := []metrics.Sample{{Name: "/gc/heap/goal:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// TestMakeRoom: fewer collections, no resident memory; and whoever sets up the collector is obeyed.
func TestMakeRoom(t *testing.T) {
	defer func() { ballast = nil }()
	for _, name := range []string{"GOGC", "GOMEMLIMIT"} {
		t.Setenv(name, "100")
		if MakeRoom(); ballast != nil {
			t.Errorf("%s is set, and there is a ballast of %d bytes", name, len(ballast))
		}
		os.Unsetenv(name)
	}
	without, small := goal(), anonymous(t)
	MakeRoom()
	if n := anonymous(t); n > small+Headroom/4>>10 {
		t.Errorf("%d KiB are resident, %d before", n, small)
	}
	trim() // touches nothing of it, either
	if n := anonymous(t); n > small+Headroom/4>>10 {
		t.Errorf("%d KiB are resident after a trim, %d before", n, small)
	}
	if with := goal(); with < without+Headroom {
		t.Errorf("the collector runs at %d bytes, at %d without a ballast", with, without)
	}
}
