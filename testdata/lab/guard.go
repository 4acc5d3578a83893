package lab

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// watchdogScript outlives the program that started it. It reads what to end from
// its standard input; the end of that input is the death of the program, however it
// came. Process groups are told to stop, given three seconds, then killed. It has to
// read the same in every POSIX shell: dash, for one, knows no `kill --`.
const watchdogScript = `
trap '' HUP INT QUIT TERM
groups=' '; dir=$1
while read -r op group; do
  case $op in
    add) groups="$groups$group " ;;
    drop) groups="${groups% $group *} ${groups#* $group }" ;;
  esac
done
for g in $groups; do kill -TERM "-$g"; kill -CONT "-$g"; done
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
  alive=; for g in $groups; do kill -0 "-$g" && alive=1; done
  [ -z "$alive" ] && break
  sleep 0.2
done
for g in $groups; do kill -KILL "-$g"; done
sleep 0.1
rm -rf "$dir" || { sleep 1; rm -rf "$dir"; }
`

const dirPattern = "banyan-lab-"

// guard owns the directory of this process's servers and the watchdog.
type guard struct {
	dir  string
	lock *os.File // held, or the next program takes the directory for a leftover

	mu   sync.Mutex // guards pipe and next
	pipe io.Writer
	next int
}

// theGuard is the one guard of a process. It lives until the process ends.
var theGuard = sync.OnceValues(newGuard)

func newGuard() (*guard, error) {
	if err := sweep(os.TempDir()); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", dirPattern)
	if err != nil {
		return nil, fmt.Errorf("directory for servers: %w", err)
	}
	// A server may run as another user and has to pass through.
	if err := os.Chmod(dir, 0o711); err != nil {
		return nil, fmt.Errorf("directory for servers: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("/bin/sh", "-c", watchdogScript, "lab-watchdog", dir)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("watchdog: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("watchdog: %w", err)
	}
	return &guard{dir: dir, lock: lock, pipe: pipe}, nil
}

// newDir makes a directory that ends with this process.
func (g *guard) newDir(name string) (string, error) {
	g.mu.Lock()
	g.next++
	dir := filepath.Join(g.dir, name+"-"+strconv.Itoa(g.next))
	g.mu.Unlock()
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", fmt.Errorf("directory of %s: %w", name, err)
	}
	return dir, nil
}

// add has the watchdog end a process group after this process, drop forgets it.
func (g *guard) add(group int) error  { return g.tell("add", group) }
func (g *guard) drop(group int) error { return g.tell("drop", group) }

func (g *guard) tell(op string, group int) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, err := fmt.Fprintf(g.pipe, "%s %d\n", op, group); err != nil {
		return fmt.Errorf("watchdog: %w", err)
	}
	return nil
}

// Watch has the watchdog end a process group when this program is killed, and gives
// the way to forget it again, for when the group has ended.
func Watch(group int) (forget func(), err error) {
	g, err := theGuard()
	if err != nil {
		return nil, err
	}
	return func() { _ = g.drop(group) }, g.add(group)
}

// lockDir marks a directory as in use for as long as this process lives. The
// file is kept open: the lock goes with the process.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "owner.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return f, nil
}

// sweep removes what an earlier program and its watchdog both failed to remove:
// directories whose owner is gone, and the processes that work in them.
func sweep(tmp string) error {
	dirs, err := filepath.Glob(filepath.Join(tmp, dirPattern+"*"))
	if err != nil {
		return fmt.Errorf("leftovers: %w", err)
	}
	for _, dir := range dirs {
		// A directory that was just made has no lock for a moment, and one whose owner
		// was just killed belongs to its watchdog for some seconds.
		if fi, err := os.Stat(dir); err != nil || time.Since(fi.ModTime()) < 10*time.Second {
			continue
		}
		lock, err := lockDir(dir)
		if err != nil {
			continue // in use, or another user's
		}
		for _, pid := range workingIn(dir) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		_ = os.RemoveAll(dir) // what stays is tried again by the next one
		lock.Close()
	}
	return nil
}

// workingIn lists the processes whose working directory is dir or below.
func workingIn(dir string) []int {
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	var pids []int
	for _, link := range links {
		cwd, err := os.Readlink(link)
		if err != nil || (cwd != dir && !strings.HasPrefix(cwd, dir+"/")) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(link))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}
