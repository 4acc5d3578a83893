package footprint

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"testing"
)

// resident is how much of the program's file is, in KiB.
func resident(t *testing.T) (kib int) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(text, []byte("RssFile:"))
	if at < 0 {
		t.Fatalf("no RssFile in /proc/self/status:\n%s", text)
	}
	if _, err := fmt.Sscanf(string(text[at:]), "RssFile: %d kB", &kib); err != nil {
		t.Fatal(err)
	}
	return kib
}

// TestTrim: less of the file is resident, and the program goes on.
func TestTrim(t *testing.T) {
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	name, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if len(mappings(smaps, name)) == 0 {
		t.Fatalf("no mapping of %s is found in\n%s", name, smaps)
	}
	use := func() string { // code and tables of all kinds
		b, err := json.Marshal(map[string]any{"a": []int{1, 2}, "b": regexp.MustCompile(`^(\w+)\s*$`).FindStringSubmatch("word ")})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	before, want := resident(t), use()
	trim()
	if after := resident(t); after >= before {
		t.Errorf("%d KiB of the file are resident after, %d before", after, before)
	}
	if got := use(); got != want {
		t.Errorf("computes %s after, %s before", got, want)
	}
}

func TestMappings(t *testing.T) {
	const smaps = `00400000-01974000 r-xp 00000000 fe:00 9988447                            /opt/banyan
Size:              21968 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
01974000-03182000 r--p 01574000 fe:00 9988447                            /opt/banyan
Anonymous:             0 kB
03182000-03183000 r--p 02d82000 fe:00 9988447                            /opt/banyan
Anonymous:             4 kB
03183000-032e0000 rw-p 02d83000 fe:00 9988447                            /opt/banyan
Anonymous:             0 kB
032e0000-05337000 rw-p 00000000 00:00 0 
Anonymous:             0 kB
7f7585ebd000-7f758614f000 r--p 00000000 fe:00 12                         /lib/libc.so
Anonymous:             0 kB
7ffff7fc0000-7ffff7fc2000 r-xp 00000000 00:00 0                          [vdso]
Anonymous:             0 kB
`
	want := []mapping{{0x400000, 0x1974000}, {0x1974000, 0x3182000}}
	if got := mappings([]byte(smaps), "/opt/banyan"); !reflect.DeepEqual(got, want) {
		t.Errorf("gives %x, want %x", got, want)
	}
}
