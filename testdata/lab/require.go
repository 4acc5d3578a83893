package lab

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// missingError says that a server's software is not on this machine.
type missingError struct{ what string }

func (e *missingError) Error() string {
	return fmt.Sprintf("%s is not installed on this machine (`make deps` installs it)", e.what)
}

// IsMissing reports whether a server could not start because its software is
// not installed.
func IsMissing(err error) bool {
	var missing *missingError
	return errors.As(err, &missing)
}

// must ends the test when a server did not start: a server that is not installed
// skips it, unless the run requires all.
func must(t testing.TB, err error) {
	t.Helper()
	switch {
	case err == nil:
	case IsMissing(err) && os.Getenv("BANYAN_REQUIRE") != "all":
		t.Skip(err)
	default:
		t.Fatal(err)
	}
}

// find gives the path of a program from its names or glob patterns, in order. System
// directories are searched too, which are not on every user's PATH.
func find(what string, names ...string) (string, error) {
	path := append(filepath.SplitList(os.Getenv("PATH")), "/usr/local/sbin", "/usr/sbin", "/sbin")
	for _, name := range names {
		dirs := path
		if filepath.IsAbs(name) {
			dirs = []string{""}
		}
		for _, dir := range dirs {
			found, _ := filepath.Glob(filepath.Join(dir, name))
			slices.Sort(found)
			for _, program := range slices.Backward(found) { // the highest version
				if real, err := exec.LookPath(program); err == nil {
					return real, nil
				}
			}
		}
	}
	return "", &missingError{what}
}

// Prefix is a name that no other test uses: lower case, letters, digits and
// underscores, at most 40 bytes, good for topics, tables, databases and keys.
func Prefix(t testing.TB) string {
	t.Helper()
	return uniqueName(t.Name())
}

func uniqueName(base string) string {
	var random [5]byte
	_, _ = rand.Read(random[:]) // never fails
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '_'
	}, base)
	if len(name) > 28 {
		name = name[:28]
	}
	return "t" + strings.TrimPrefix(name, "test") + "_" + hex.EncodeToString(random[:])
}
