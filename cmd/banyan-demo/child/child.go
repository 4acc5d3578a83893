// Package child runs the demo's programs as processes of their own.
//
// It promises that a child ends with [Child.Stop], by its id and with all that it started, and that a watchdog ends it
// when the demo itself is killed. What it prints goes to a file. It leaves to others when a child is ready, and fails with
// the end of that file when one ends that should not have.
package child

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"banyan/testdata/lab"
)

// Spec is a program with its surroundings.
type Spec struct {
	Name string
	Path string
	Args []string
	Env  []string // on top of this process's
	Dir  string
	Log  string              // file, appended to
	As   *syscall.Credential // nil: as ourselves
}

// Child is a running program.
type Child struct {
	spec   Spec
	pid    int
	done   chan struct{} // closed when it has ended
	err    error         // why, valid after done
	forget func()
}

// Start starts a program and does not wait for more.
func Start(s Spec) (*Child, error) {
	out, err := os.OpenFile(s.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Name, err)
	}
	defer out.Close()
	cmd := exec.Command(s.Path, s.Args...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = out, out, s.Dir
	cmd.Env = append(os.Environ(), s.Env...)
	// A group of its own: its children end with it, and Ctrl-C at the terminal is the demo's to handle.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: s.As}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Name, err)
	}
	c := &Child{spec: s, pid: cmd.Process.Pid, done: make(chan struct{})}
	if c.forget, err = lab.Watch(c.pid); err != nil {
		_ = syscall.Kill(-c.pid, syscall.SIGKILL)
		_ = cmd.Wait()
		return nil, fmt.Errorf("start %s: %w", s.Name, err)
	}
	// Ends with the process.
	go func() {
		c.err = cmd.Wait()
		c.forget() // before the id can mean somebody else for long
		close(c.done)
	}()
	return c, nil
}

// Pid is the id of the process.
func (c *Child) Pid() int { return c.pid }

// Done is closed when the process has ended.
func (c *Child) Done() <-chan struct{} { return c.done }

// Ended tells why a child that should run does not; nil while it does.
func (c *Child) Ended() error {
	select {
	case <-c.done:
		return fmt.Errorf("%s has ended (%v); %s says last:\n%s", c.spec.Name, c.err, c.spec.Log, Tail(c.spec.Log))
	default:
		return nil
	}
}

// Stop asks for the end with sig, and ends the child when patience is over. It says whether that was needed, or the end
// was not a good one.
func (c *Child) Stop(sig syscall.Signal, patience time.Duration) error {
	select {
	case <-c.done:
		return nil
	default:
	}
	_ = syscall.Kill(-c.pid, sig) // it may have ended by now
	select {
	case <-c.done:
		if c.err != nil {
			return fmt.Errorf("%s ended badly: %w", c.spec.Name, c.err)
		}
		return nil
	case <-time.After(patience):
	}
	_ = syscall.Kill(-c.pid, syscall.SIGKILL)
	<-c.done
	return fmt.Errorf("%s did not end within %s of %s and was killed", c.spec.Name, patience, sig)
}

// Tail is the end of a file, for people.
func Tail(name string) []byte {
	b, err := os.ReadFile(name)
	if err != nil {
		return []byte(err.Error())
	}
	const lines = 12
	b = bytes.TrimSpace(b)
	from := len(b)
	for range lines {
		if from = bytes.LastIndexByte(b[:from], '\n'); from < 0 {
			return b
		}
	}
	return b[from+1:]
}

// FreePort finds a loopback port that nobody listens on, below those that systems give to outgoing connections: while a
// child is being replaced, no client can sit on its port.
func FreePort() (int, error) {
	const lowest, highest = 10240, 32767
	for range 200 {
		port := lowest + rand.IntN(highest-lowest)
		l, err := net.Listen("tcp", Loopback(port))
		if err != nil {
			continue
		}
		l.Close()
		return port, nil
	}
	return 0, fmt.Errorf("no free port between %d and %d in 200 tries", lowest, highest)
}

// Loopback is the address of a port.
func Loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
