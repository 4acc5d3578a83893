package footprint

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"
)

// cpuTime is what the process has taken of all CPUs.
func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // it knows no error of such a call
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// dropFile unmaps the pages of the program's file until they are used again. They stay in the page cache.
func dropFile() {
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return
	}
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	for _, m := range mappings(smaps, exe) {
		// The error has no use: pages that stay resident do no harm.
		_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, m.from, m.to-m.from, syscall.MADV_DONTNEED)
	}
}

// dropZeros unmaps the pages of b, which is made of whole ones and all zeros: those that the allocator had to clear.
func dropZeros(b []byte) { _ = syscall.Madvise(b, syscall.MADV_DONTNEED) } // pages that stay resident do no harm

type mapping struct{ from, to uintptr }

// mappings are those of a file that hold nothing but what is in the file: not writable, and without a private page, as
// relocations make them in mappings that were protected afterwards. See proc_pid_smaps(5).
func mappings(smaps []byte, file string) (ms []mapping) {
	var m mapping
	ours := false
	sc := bufio.NewScanner(bytes.NewReader(smaps))
	for sc.Scan() {
		line := sc.Text()
		if name, value, ok := strings.Cut(line, ":"); ok && !strings.Contains(name, " ") {
			if ours && name == "Anonymous" && strings.TrimSpace(value) == "0 kB" {
				ms = append(ms, m)
			}
			continue
		}
		var mode, path string
		var offset, device, inode string
		n, _ := fmt.Sscanf(line, "%x-%x %s %s %s %s %s", &m.from, &m.to, &mode, &offset, &device, &inode, &path)
		ours = n == 7 && path == file && !strings.Contains(mode, "w")
	}
	return ms
}
