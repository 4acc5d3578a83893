package main

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"banyan/testdata/lab"
)

// TestMain lets this program play itself.
func TestMain(m *testing.M) {
	if args := os.Getenv("WITH_TEST_RUN"); args != "" {
		os.Exit(run([]string{"/bin/sh", "-c", args}, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

func start(t *testing.T, script string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "WITH_TEST_RUN="+script)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, &out
}

func TestTheCommandFindsTheServersAndItsStatusIsReturned(t *testing.T) {
	cmd, out := start(t, `env | grep '^BANYAN_TEST_' | sort; exit 7`)
	_ = cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != 7 {
		t.Errorf("status %d, want 7", got)
	}
	for _, name := range []string{lab.EnvMariaDB, lab.EnvPostgres, lab.EnvKafka, lab.EnvRedis} {
		if !strings.Contains(out.String(), name+"=") && !strings.Contains(out.String(), "without") {
			t.Errorf("%s is not set for the command", name)
		}
	}
	if !strings.Contains(out.String(), "all servers ended") {
		t.Error("the servers were not ended")
	}
	if t.Failed() {
		t.Log(out)
	}
}

func TestATerminationReachesTheCommandAndEndsTheServers(t *testing.T) {
	// The command terminates this program; without the signal passed on it would last.
	cmd, out := start(t, `kill -TERM $PPID; sleep 300`)
	_ = cmd.Wait()
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.ExitStatus() != 1 {
		t.Errorf("status %v, want 1", status)
	}
	if !strings.Contains(out.String(), "all servers ended") {
		t.Errorf("the servers were not ended: %s", out)
	}
}
