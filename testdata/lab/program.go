package lab

import "testing"

// Program is the path of an installed program, for tests that ask it for the truth. names are names or glob patterns,
// the first that is found wins.
func Program(t testing.TB, names ...string) string {
	t.Helper()
	path, err := find(names[0], names...)
	must(t, err)
	return path
}
