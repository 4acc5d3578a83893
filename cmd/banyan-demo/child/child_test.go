package child

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func shell(t *testing.T, script string) *Child {
	t.Helper()
	c, err := Start(Spec{Name: "child", Path: "/bin/sh", Args: []string{"-c", script}, Dir: t.TempDir(), Log: filepath.Join(t.TempDir(), "log")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Stop(syscall.SIGKILL, time.Second) })
	return c
}

// ready waits for the script to say so.
func ready(t *testing.T, c *Child) {
	t.Helper()
	for !strings.Contains(string(Tail(c.spec.Log)), "ready") {
		if err := c.Ended(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond) // another process writes a file: there is no signal
	}
}

func TestAChildEndsWithAllThatItStarted(t *testing.T) {
	c := shell(t, `sleep 1000 & echo $! > pid; trap 'exit 0' TERM; echo ready; wait`)
	ready(t, c)
	if err := c.Ended(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(c.spec.Dir, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Stop(syscall.SIGTERM, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	// The group got the signal, the grandchild included; whoever adopts it may take a moment.
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		state, err := os.ReadFile("/proc/" + strings.TrimSpace(string(b)) + "/stat")
		if err != nil || strings.Contains(string(state), ") Z ") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("it is still there: %s", state)
		}
	}
	if err := c.Stop(syscall.SIGTERM, time.Second); err != nil {
		t.Fatal("a second end:", err)
	}
}

func TestAStubbornChildIsKilledAndThatIsSaid(t *testing.T) {
	c := shell(t, `trap '' TERM; echo ready; while :; do sleep 1; done`)
	ready(t, c)
	if err := c.Stop(syscall.SIGTERM, 50*time.Millisecond); err == nil || !strings.Contains(err.Error(), "was killed") {
		t.Fatal(err)
	}
}

func TestAChildThatEndedTellsItsLastWords(t *testing.T) {
	c := shell(t, `echo the port is taken; exit 3`)
	<-c.Done()
	if err := c.Ended(); err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "the port is taken") {
		t.Fatal(err)
	}
}
