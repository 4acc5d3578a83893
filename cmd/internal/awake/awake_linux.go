package awake

import (
	"os"
	"strconv"
	"syscall"
)

// Keep executes the process anew, unless that was done. It is to be called first of all in main.
func Keep() {
	if fd, err := strconv.Atoi(os.Getenv(stderrVar)); err == nil {
		restore(fd)
		_ = os.Unsetenv(stderrVar) // it can be unset
	}
	env, ok := environ(os.Environ())
	if !ok {
		return
	}
	program, err := os.Executable()
	if err != nil {
		return
	}
	fd, hidden := hide()
	if hidden {
		env = append(env, stderrVar+"="+strconv.Itoa(fd))
	}
	_ = syscall.Exec(program, os.Args, env) // returns only if it failed
	if hidden {
		restore(fd)
	}
}

// hide lets standard error lead nowhere while the runtime starts: for the program's packages that went well a moment ago.
// A descriptor that does not block is left alone, as [os.Stderr] looks at that early.
func hide() (fd int, ok bool) {
	flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(syscall.Stderr), syscall.F_GETFL, 0)
	if errno != 0 || flags&syscall.O_NONBLOCK != 0 {
		return 0, false
	}
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return 0, false
	}
	defer null.Close()
	if fd, err = syscall.Dup(syscall.Stderr); err != nil {
		return 0, false
	}
	if err := syscall.Dup3(int(null.Fd()), syscall.Stderr, 0); err != nil {
		_ = syscall.Close(fd)
		return 0, false
	}
	return fd, true
}

func restore(fd int) {
	_ = syscall.Dup3(fd, syscall.Stderr, 0) // an error says that somebody else has set the variable
	_ = syscall.Close(fd)
}
