package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"banyan/cmd/internal/config"
)

// Exit statuses.
const (
	statusOK      = 0
	statusNo      = 1 // the command did its work, and the answer is no
	statusUsage   = 2 // usage or configuration
	statusMissing = 3 // something that the command depends on
)

// failure is an error with its exit status.
type failure struct {
	status int
	err    error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

func usage(format string, args ...any) error {
	return &failure{statusUsage, fmt.Errorf(format, args...)}
}

func missing(format string, args ...any) error {
	return &failure{statusMissing, fmt.Errorf(format, args...)}
}

func no(format string, args ...any) error { return &failure{statusNo, fmt.Errorf(format, args...)} }

// errNo is a no that has been explained on stdout already.
var errNo = &failure{statusNo, errors.New("")}

// Status is the exit status that belongs to an error of [Run].
func Status(err error) int {
	var f *failure
	var c config.Errors
	switch {
	case err == nil:
		return statusOK
	case errors.As(err, &f):
		return f.status
	case errors.As(err, &c):
		return statusUsage
	}
	return statusMissing
}

// Report tells a person what went wrong, and gives the exit status: 0 ok, 1 the answer is no, 2 usage or
// configuration, 3 something that the command depends on is missing.
func Report(w io.Writer, err error) int {
	var c config.Errors
	switch {
	case err == nil || err.Error() == "":
	case errors.As(err, &c):
		fmt.Fprint(w, c.Detail())
		fmt.Fprintln(w, plural(len(c), "error", "errors"), "in the configuration")
	default:
		fmt.Fprintln(w, "banyan:", strings.TrimSpace(err.Error()))
	}
	return Status(err)
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
