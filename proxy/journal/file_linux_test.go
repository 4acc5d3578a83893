package journal

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// syncsWithout lets nothing be synced by the kernel's worker.
func syncsWithout(t *testing.T) {
	t.Helper()
	spare.Lock()
	defer spare.Unlock()
	list := spare.list
	spare.list, spare.absent = nil, syscall.ENOSYS
	t.Cleanup(func() {
		spare.Lock()
		defer spare.Unlock()
		spare.list, spare.absent = list, nil
	})
}

func realFile(t *testing.T) osFile {
	t.Helper()
	f, err := osFS{}.Create(filepath.Join(t.TempDir(), "segment"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Allocate(1 << 20); err != nil {
		t.Fatal(err)
	}
	return f.(osFile)
}

func writeAndSync(t *testing.T, f osFile) {
	t.Helper()
	if _, err := f.WriteAt([]byte("a record"), 4096); err != nil {
		t.Error(err)
	}
	if err := f.Sync(); err != nil {
		t.Error(err)
	}
}

// Several files are synced at once, each by a request of its own, which are used again.
func TestSyncInTheKernel(t *testing.T) {
	probe, err := newAsyncSync()
	if err != nil {
		if os.Getenv("BANYAN_REQUIRE") == "all" {
			t.Fatalf("this kernel takes no asynchronous syncs: %v", err)
		}
		t.Skipf("this kernel takes no asynchronous syncs: %v", err)
	}
	giveAsync(probe)
	const files = 8
	for range 3 {
		var wg sync.WaitGroup
		for range files {
			f := realFile(t)
			wg.Go(func() {
				for range 20 {
					writeAndSync(t, f)
				}
			})
		}
		wg.Wait()
	}
	spare.Lock()
	defer spare.Unlock()
	if n := len(spare.list); spare.absent != nil || n == 0 || n > files+1 {
		t.Errorf("%d requests are kept (absent: %v), want 1 to %d", n, spare.absent, files+1)
	}
}

// Where the kernel refuses, the system call is made, and its error is the answer.
func TestSyncByTheSystemCall(t *testing.T) {
	t.Run("refused", func(t *testing.T) {
		syncsWithout(t)
		writeAndSync(t, realFile(t))
	})
	t.Run("a file that cannot be synced", func(t *testing.T) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		defer w.Close()
		if err := (osFile{w}).Sync(); err != syscall.EINVAL {
			t.Errorf("%v, want %v", err, syscall.EINVAL)
		}
		spare.Lock()
		absent := spare.absent
		spare.absent = nil
		spare.Unlock()
		if absent == nil {
			t.Error("asked again for what was refused")
		}
		writeAndSync(t, realFile(t))
	})
	t.Run("a file that is closed", func(t *testing.T) {
		f := realFile(t)
		f.Close()
		if err := f.Sync(); err != syscall.EBADF {
			t.Errorf("%v, want %v", err, syscall.EBADF)
		}
		if why := noSyncInKernel(); why != nil {
			t.Errorf("one file's error is held against the kernel: %v", why)
		}
	})
}

// Only what says that it is not there ends asking; what may pass does not.
func TestSyncIsAskedForAgain(t *testing.T) {
	for errno, absent := range map[syscall.Errno]bool{syscall.ENOSYS: true, syscall.EINVAL: true, syscall.EOPNOTSUPP: true, syscall.EPERM: true,
		syscall.EAGAIN: false, syscall.ENOMEM: false, syscall.EMFILE: false, syscall.EINTR: false, syscall.EBADF: false, 0: false} {
		refused(errors.Join(errno, nil))
		spare.Lock()
		if got := spare.absent != nil; got != absent {
			t.Errorf("%v: given up %v, want %v", errno, got, absent)
		}
		spare.absent = nil
		spare.Unlock()
	}
}

// TestNoSyncInKernelIsSaid: requests then wait for the disk, which an operator can mend.
func TestNoSyncInKernelIsSaid(t *testing.T) {
	said := func() int {
		var log bytes.Buffer
		cfg := small(t, t.TempDir())
		cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
		j := mustOpen(t, cfg)
		for range 3 {
			outcome(t, j, intent(t, j, "x"), "y")
		}
		j.Close()
		return strings.Count(log.String(), "does not sync files")
	}
	t.Run("there", func(t *testing.T) {
		if n := said(); noSyncInKernel() == nil && n != 0 {
			t.Errorf("said %d times", n)
		}
	})
	t.Run("not there", func(t *testing.T) {
		syncsWithout(t)
		if n := said(); n != 1 {
			t.Errorf("said %d times, want once", n)
		}
	})
}
