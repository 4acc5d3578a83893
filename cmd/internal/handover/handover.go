// Package handover replaces a running process by a newer binary without refusing or losing a connection.
//
// It promises: the successor gets the very sockets that its predecessor listens on, so that a connection that waits in
// one's queue is served by the other; the predecessor goes on until the successor has said that it serves, and if that
// never comes it goes on for good and says why. It leaves draining to the caller, and journals to the journal: each
// process owns the directory of its own epoch, and the successor ships what the predecessor leaves.
//
// It fails with an error that names the successor's exit or the wait that ran out; nothing has changed then.
//
// # Not obvious
//
//   - Giving a socket to a child makes it blocking for both, because the flag belongs to what they share: Accept would
//     keep a thread, and Close would not end it. The flag is set back at once. (TestTheSocketStaysNonblocking)
//   - A socket goes to the successor's listener of the same name only if that wants the same address: a changed address is
//     opened anew, and the old one is closed when the successor is ready.
package handover

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// env tells a successor what it inherits: names and addresses, joined by '=' and separated by blanks, of the descriptors
// from firstFile on. The last descriptor is the pipe on which it says that it serves.
const env = "BANYAN_HANDOVER"

const firstFile = 3

// Wait is how long a successor may take until it serves.
const Wait = 30 * time.Second

// Set is the named listeners of this process.
type Set struct {
	mu        sync.Mutex // guards what follows
	inherited map[string]inherited
	open      []named
	ready     *os.File // nil: nobody waits
}

type inherited struct {
	addr string
	l    net.Listener
}

type named struct {
	name, addr string
	l          net.Listener
}

// Inherit takes over what a predecessor gave; without one the set is empty. Call it once, before anything else opens files.
func Inherit() (*Set, error) {
	list, ok := os.LookupEnv(env)
	if !ok {
		return &Set{}, nil
	}
	if err := os.Unsetenv(env); err != nil { // not for grandchildren
		return nil, fmt.Errorf("handover: %w", err)
	}
	return inherit(list, firstFile)
}

func inherit(list string, fd uintptr) (*Set, error) {
	s := &Set{inherited: map[string]inherited{}}
	for field := range strings.FieldsSeq(list) {
		name, addr, ok := strings.Cut(field, "=")
		if !ok {
			return nil, fmt.Errorf("handover: %s=%q: want name=address, separated by blanks; only a process that hands over sets it", env, list)
		}
		f := os.NewFile(fd, name)
		fd++
		l, err := net.FileListener(f)
		if err != nil {
			return nil, fmt.Errorf("handover: descriptor of %s (%s): %w", name, addr, err)
		}
		_ = f.Close() // the listener has its own
		s.inherited[name] = inherited{addr, l}
	}
	s.ready = os.NewFile(fd, "ready")
	syscall.CloseOnExec(int(fd))
	return s, nil
}

// Listen gives the inherited listener of that name and address, or a new one of open.
func (s *Set) Listen(name, addr string, open func(addr string) (net.Listener, error)) (net.Listener, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	in, ok := s.inherited[name]
	l := in.l
	if ok && in.addr == addr {
		delete(s.inherited, name)
	} else {
		var err error
		if l, err = open(addr); err != nil {
			return nil, err
		}
	}
	s.open = append(s.open, named{name, addr, l})
	return l, nil
}

// Ready tells the predecessor, if there is one, that this process serves; what was inherited and not asked for is closed.
// A service manager that waits for it is told, too.
func (s *Set) Ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, in := range s.inherited {
		_ = in.l.Close() // nobody listens there any more
		delete(s.inherited, name)
	}
	if s.ready == nil {
		return notify("READY=1")
	}
	_, err := io.WriteString(s.ready, "ready\n")
	err = errors.Join(err, s.ready.Close())
	s.ready = nil
	if err != nil {
		return fmt.Errorf("handover: tell the predecessor that this process serves: %w; both serve now, end the older one", err)
	}
	return nil
}

// filer is a listener whose socket can be given away.
type filer interface {
	net.Listener
	File() (*os.File, error)
	syscall.Conn
}

// Successor starts this program again, as its file is now, with the same arguments and the listeners, and returns its
// process id once it serves. On an error the child has ended and nothing has changed.
func (s *Set) Successor(ctx context.Context) (pid int, err error) {
	exe, err := os.Executable()
	if err != nil {
		return 0, fmt.Errorf("handover: %w", err)
	}
	exe = strings.TrimSuffix(exe, " (deleted)") // a binary that was replaced: its successor has its name
	return s.successor(ctx, exec.Command(exe, os.Args[1:]...))
}

func (s *Set) successor(ctx context.Context, cmd *exec.Cmd) (pid int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	said, ready, err := os.Pipe()
	if err != nil {
		return 0, fmt.Errorf("handover: %w", err)
	}
	defer said.Close()
	var list []string
	for _, n := range s.open {
		f, ok := n.l.(filer)
		if !ok {
			return 0, errors.Join(fmt.Errorf("handover: the listener of %s is a %T and has no socket to give", n.name, n.l), ready.Close())
		}
		file, err := f.File()
		if err != nil {
			return 0, errors.Join(fmt.Errorf("handover: socket of %s: %w", n.name, err), ready.Close())
		}
		defer file.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, file)
		list = append(list, n.name+"="+n.addr)
	}
	cmd.ExtraFiles = append(cmd.ExtraFiles, ready)
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(slices.DeleteFunc(cmd.Env, func(v string) bool { return strings.HasPrefix(v, env+"=") }), env+"="+strings.Join(list, " "))
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	err = cmd.Start()
	for _, n := range s.open {
		nonblocking(n.l.(filer))
	}
	if err = errors.Join(err, ready.Close()); err != nil {
		return 0, fmt.Errorf("handover: start %s: %w", cmd.Path, err)
	}
	if err := await(ctx, said); err != nil {
		_ = cmd.Process.Kill() // it may have ended by itself
		return 0, fmt.Errorf("handover: the new process did not come up: %w; this one goes on", errors.Join(err, cmd.Wait()))
	}
	for _, n := range s.open {
		if u, ok := n.l.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(false) // the path is the successor's now
		}
	}
	go func() { _ = cmd.Wait() }() // ends with the successor, which mostly lives longer than this process
	return cmd.Process.Pid, notify(fmt.Sprintf("MAINPID=%d", cmd.Process.Pid))
}

// await reads the successor's word; the pipe ends with it.
func await(ctx context.Context, said *os.File) error {
	ctx, cancel := context.WithTimeoutCause(ctx, Wait, fmt.Errorf("not within %v", Wait))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = said.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	word, err := bufio.NewReader(said).ReadString('\n')
	switch {
	case word == "ready\n":
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err == io.EOF:
		return errors.New("it ended before it served; its messages are above")
	}
	return err
}

func nonblocking(f filer) {
	if c, err := f.SyscallConn(); err == nil {
		_ = c.Control(func(fd uintptr) { _ = syscall.SetNonblock(int(fd), true) }) // the socket is ours and open
	}
}

// notify tells systemd, where it asked to be told (sd_notify(3)); elsewhere it does nothing.
func notify(state string) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("handover: tell the service manager %s: %w", state, err)
	}
	defer c.Close()
	if _, err := c.Write([]byte(state)); err != nil {
		return fmt.Errorf("handover: tell the service manager %s: %w", state, err)
	}
	return nil
}
