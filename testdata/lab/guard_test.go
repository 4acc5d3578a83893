package lab

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain lets this program play one that starts a server and is then killed.
func TestMain(m *testing.M) {
	if os.Getenv("LAB_TEST_VICTIM") == "" {
		os.Exit(m.Run())
	}
	s, err := StartRedis(context.Background(), Options{})
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	fmt.Println(s.Pid(), s.Dir())
	select {}
}

func TestServersEndWithTheProgramThatStartedThem(t *testing.T) {
	pid, dir := victim(t, os.TempDir())
	awaitGone(t, pid, dir)
}

func TestLeftoversOfARunWhoseWatchdogDiedAreSwept(t *testing.T) {
	tmp := t.TempDir()
	if err := os.Chmod(tmp, 0o755); err != nil {
		t.Fatal(err)
	}
	watchdogs := func() []int {
		var pids []int
		lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, line := range lines {
			text, _ := os.ReadFile(line)
			if args := strings.Split(string(text), "\x00"); len(args) > 4 && args[3] == "lab-watchdog" && strings.HasPrefix(args[4], tmp) {
				var pid int
				_, _ = fmt.Sscanf(line, "/proc/%d/", &pid)
				pids = append(pids, pid)
			}
		}
		return pids
	}
	pid, dir := victim(t, tmp, func() {
		for _, pid := range watchdogs() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	if !alive(pid) {
		t.Fatal("the server ended without its watchdog: this test shows nothing")
	}
	if err := sweep(tmp); err != nil {
		t.Fatal(err)
	}
	if !alive(pid) {
		t.Error("a directory that was made just now was swept: its owner may not have locked it yet")
	}
	old := time.Now().Add(-time.Minute)
	if err := os.Chtimes(filepath.Dir(dir), old, old); err != nil {
		t.Fatal(err)
	}
	if err := sweep(tmp); err != nil {
		t.Fatal(err)
	}
	awaitGone(t, pid, filepath.Dir(dir))
}

func TestASweepLeavesALivingOwnerAlone(t *testing.T) {
	tmp := t.TempDir()
	dir := filepath.Join(tmp, dirPattern+"1")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	old := time.Now().Add(-time.Minute)
	if err := os.Chtimes(dir, old, old); err != nil {
		t.Fatal(err)
	}
	if err := sweep(tmp); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Error("swept:", err)
	}
}

// victim starts this program as one that starts a server in tmp, kills it, and
// gives the server's process and directory.
func victim(t *testing.T, tmp string, beforeKill ...func()) (pid int, dir string) {
	t.Helper()
	if _, err := find("Redis", "redis-server", "valkey-server"); err != nil {
		must(t, err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "LAB_TEST_VICTIM=1", "TMPDIR="+tmp)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	if n, _ := fmt.Sscan(line, &pid, &dir); n != 2 {
		t.Fatalf("the victim says %q", line)
	}
	for _, f := range beforeKill {
		f()
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	return pid, dir
}

// alive is false for a process that has ended and that its new parent has not taken
// note of, which in a container without an init nobody ever does.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

func awaitGone(t *testing.T, pid int, dir string) {
	t.Helper()
	for range 1000 {
		_, err := os.Stat(dir)
		if !alive(pid) && os.IsNotExist(err) {
			return
		}
		time.Sleep(10 * time.Millisecond) // the end of a process that is not our child cannot be waited for
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
	t.Errorf("after 10 s: process %d alive %t, directory %s there", pid, alive(pid), dir)
}

func TestTheOwnersLockLastsAsLongAsTheOwner(t *testing.T) {
	g, err := theGuard()
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // a forgotten file is closed by the collector, and its lock goes
		runtime.GC()
	}
	if lock, err := lockDir(g.dir); err == nil {
		lock.Close()
		t.Error("another could take this process's directory away")
	}
}
