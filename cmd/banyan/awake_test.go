package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// switches is how often the threads of a process gave up their core by themselves.
func switches(t *testing.T, pid int) (n int) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(files) == 0 {
		t.Fatalf("threads of %d: %v", pid, err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue // the thread has ended
		}
		_, after, _ := strings.Cut(string(text), "\nvoluntary_ctxt_switches:")
		k, err := strconv.Atoi(strings.Fields(after)[0])
		if err != nil {
			t.Fatal(err)
		}
		n += k
	}
	return n
}

// A request that comes while nothing else is served wakes the threads that serve it, and not the runtime's monitor.
func TestMonitorIsNotWokenForEachRequest(t *testing.T) {
	const requests = 300
	legacy := sink(t)
	perRequest := func() float64 {
		p := start(t, "proxy", "--listen", "127.0.0.1:0", "--legacy", legacy)
		c, err := net.Dial("tcp", p.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		r := bufio.NewReader(c)
		began := 0
		for i := range requests + 10 { // the first ones start threads and connections
			if i == 10 {
				began = switches(t, p.cmd.Process.Pid)
			}
			time.Sleep(time.Millisecond) // until everybody sleeps, which is what this is about
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: game.test\r\n\r\n")
			a, err := http.ReadResponse(r, nil)
			if err != nil || a.StatusCode != 200 {
				t.Fatalf("%+v: %v", a, err)
			}
			io.Copy(io.Discard, a.Body)
		}
		return float64(switches(t, p.cmd.Process.Pid)-began) / requests
	}
	awake := perRequest()
	t.Setenv("GODEBUG", "schedtrace=0")
	asleep := perRequest()
	t.Logf("%.1f switches a request; %.1f with a monitor that sleeps deeply", awake, asleep)
	if awake > asleep*3/4 {
		t.Errorf("%.1f switches a request, want at most three quarters of %.1f", awake, asleep)
	}
}

// What the process says while it starts and serves is where it was asked to say it, and nothing else.
func TestStandardErrorIsKept(t *testing.T) {
	status, _, stderr := banyan(t, "proxy", "--listen", "nowhere", "--legacy", "http://127.0.0.1:1")
	if status != 2 || !strings.Contains(stderr, "nowhere") || strings.Contains(stderr, "SCHED") {
		t.Errorf("%d %q", status, stderr)
	}
	p := start(t, "proxy", "--listen", "127.0.0.1:0", "--legacy", "http://127.0.0.1:1")
	p.awaitLog(t, "legacy does not answer")
	to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/2", p.cmd.Process.Pid))
	if err != nil || !strings.HasPrefix(to, "pipe:") {
		t.Errorf("standard error leads to %q: %v", to, err)
	}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	same := 0
	for _, fd := range fds {
		if l, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", p.cmd.Process.Pid, fd.Name())); l == to {
			same++
		}
	}
	if same != 1 {
		t.Errorf("%d descriptors lead where standard error does", same)
	}
}
