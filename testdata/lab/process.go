package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Options say where a server lives and who hears about it.
type Options struct {
	// Dir is the parent of the server's directory and is kept when the server ends: a
	// later start finds the data. It takes one server of a kind. Root runs PostgreSQL
	// as another user, who has to be let through to it (mode 0711 all the way).
	// Empty: a temporary directory that goes away with this program.
	Dir string
	// Log hears of starts and ends. Nil: nobody.
	Log *slog.Logger
}

// errShared is the answer of a server that another program started.
var errShared = errors.New("this server is shared with others and was started by another program; take a private one (New...)")

// Process is one server: its command, its directory, its life. The zero value
// stands for a server that another program started, which cannot be controlled here.
type Process struct {
	name       string
	dir        string
	command    func() *exec.Cmd
	ready      func(context.Context) error
	stopSignal syscall.Signal
	log        *slog.Logger

	mu      sync.Mutex // guards running
	running *running
}

// running is one life of the process.
type running struct {
	pid  int
	done chan struct{} // closed when the process has ended
	err  error         // why, valid after done
}

// newProcess makes the directory; the caller sets the command.
func newProcess(name string, opts Options) (*Process, error) {
	p := &Process{name: name, stopSignal: syscall.SIGTERM, log: opts.Log}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	if opts.Dir == "" {
		g, err := theGuard()
		if err != nil {
			return nil, err
		}
		p.dir, err = g.newDir(name)
		return p, err
	}
	dir, err := filepath.Abs(filepath.Join(opts.Dir, name))
	if err != nil {
		return nil, fmt.Errorf("directory of %s: %w", name, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("directory of %s: %w", name, err)
	}
	p.dir = dir
	return p, nil
}

// Dir is the server's directory, LogFile what it printed.
func (p *Process) Dir() string     { return p.dir }
func (p *Process) LogFile() string { return filepath.Join(p.dir, "log") }

// Pid is the id of the running process, or 0.
func (p *Process) Pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running == nil {
		return 0
	}
	return p.running.pid
}

// Start starts the server on its directory and address and returns when it answers.
// A running server stays as it is.
func (p *Process) Start(ctx context.Context) error {
	if !p.controlled() {
		return errShared
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running != nil && !p.running.ended() {
		return nil
	}
	begin := time.Now()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	r, err := p.launch()
	if err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	p.running = r
	if err := p.awaitReady(ctx, r); err != nil {
		p.endLocked(syscall.SIGKILL, 0)
		return fmt.Errorf("start %s: %w\n%s", p.name, err, tail(p.LogFile()))
	}
	p.log.Info("server started", "server", p.name, "pid", r.pid, "took", time.Since(begin).Round(time.Millisecond))
	return nil
}

func (p *Process) launch() (*running, error) {
	g, err := theGuard()
	if err != nil {
		return nil, err
	}
	out, err := os.OpenFile(p.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := p.command()
	cmd.Stdout, cmd.Stderr = out, out
	if cmd.Dir == "" {
		cmd.Dir = p.dir // by this, leftovers are found
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true // so that its children end with it, and Ctrl-C is ours to handle
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	r := &running{pid: cmd.Process.Pid, done: make(chan struct{})}
	if err := g.add(r.pid); err != nil {
		_ = syscall.Kill(-r.pid, syscall.SIGKILL)
		return nil, err
	}
	// Ends with the process.
	go func() {
		r.err = cmd.Wait()
		_ = g.drop(r.pid) // before the id can mean somebody else for long
		close(r.done)
	}()
	return r, nil
}

func (r *running) ended() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// awaitReady asks until the server answers; servers have no other signal in common.
func (p *Process) awaitReady(ctx context.Context, r *running) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := p.ready(attempt)
		cancel()
		if r.ended() { // then whoever answered was another
			return fmt.Errorf("it ended at once: %v", r.err)
		}
		if err == nil {
			return nil
		}
		select {
		case <-r.done:
		case <-ctx.Done():
			return fmt.Errorf("it does not answer: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Stop ends the server in order and returns when it has ended.
func (p *Process) Stop() error { return p.end(p.stopSignal, 10*time.Second) }

// Crash kills the server as a fault would. Start brings it back on the same data.
func (p *Process) Crash() error { return p.end(syscall.SIGKILL, 0) }

func (p *Process) end(sig syscall.Signal, patience time.Duration) error {
	if !p.controlled() {
		return errShared
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endLocked(sig, patience)
	return nil
}

// endLocked signals the process and its children, and kills them when patience is over.
func (p *Process) endLocked(sig syscall.Signal, patience time.Duration) {
	r := p.running
	if r == nil {
		return
	}
	p.running = nil
	// The group goes by the id of its leader, which is ours only while that one lives;
	// what the leader left behind is found by its directory below.
	if patience > 0 && !r.ended() {
		_ = syscall.Kill(-r.pid, sig)
		_ = syscall.Kill(-r.pid, syscall.SIGCONT) // a paused one has to wake up to end
		select {
		case <-r.done:
		case <-time.After(patience):
		}
	}
	if !r.ended() {
		_ = syscall.Kill(-r.pid, syscall.SIGKILL)
		<-r.done
	}
	p.awaitChildren()
	p.log.Info("server ended", "server", p.name, "pid", r.pid, "signal", sig.String())
}

// awaitChildren waits for processes that left the group, as PostgreSQL's do: they
// notice by themselves that their parent is gone, and a restart has to wait for it.
func (p *Process) awaitChildren() {
	for i := range 200 {
		left := workingIn(p.dir)
		if len(left) == 0 {
			return
		}
		if i == 100 {
			for _, pid := range left {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		time.Sleep(10 * time.Millisecond) // another's children cannot be waited for
	}
}

// Pause freezes the server and its children: connections stay open, nothing answers.
func (p *Process) Pause() error { return p.signal(syscall.SIGSTOP) }

// Resume lets a paused server go on.
func (p *Process) Resume() error { return p.signal(syscall.SIGCONT) }

func (p *Process) signal(sig syscall.Signal) error {
	if !p.controlled() {
		return errShared
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running == nil || p.running.ended() {
		return fmt.Errorf("%s does not run", p.name)
	}
	// Not only the group: PostgreSQL's children have groups of their own.
	for _, pid := range workingIn(p.dir) {
		_ = syscall.Kill(pid, sig)
	}
	if err := syscall.Kill(-p.running.pid, sig); err != nil {
		return fmt.Errorf("signal %s: %w", p.name, err)
	}
	return nil
}

// run runs one command to its end, for preparations.
func (p *Process) run(ctx context.Context, cmd *exec.Cmd) error {
	cmd.Dir = p.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", filepath.Base(cmd.Path), err, out)
	}
	return ctx.Err()
}

// tail is the end of a log, for an error message.
func tail(name string) string {
	f, err := os.Open(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	if fi, err := f.Stat(); err == nil && fi.Size() > 4096 {
		_, _ = f.Seek(-4096, io.SeekEnd)
	}
	text, _ := io.ReadAll(f)
	return strings.TrimSpace(string(text))
}

// retried starts a server up to three times, each time on new ports: between
// the choice of a free port and its use, somebody else may have taken it.
func retried[S interface{ Start(context.Context) error }](ctx context.Context, prepare func() (S, error)) (S, error) {
	var s S
	var err error
	for range 3 {
		if s, err = prepare(); err != nil {
			return s, err
		}
		if err = s.Start(ctx); err == nil || ctx.Err() != nil {
			return s, err
		}
	}
	return s, err
}

// controlled reports whether this program started the server.
func (p *Process) controlled() bool { return p.command != nil }
