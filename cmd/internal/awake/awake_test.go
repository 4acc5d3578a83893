package awake

import (
	"slices"
	"testing"
)

func TestEnviron(t *testing.T) {
	for _, c := range []struct{ old, want []string }{
		{[]string{"A=1"}, []string{"A=1", "GODEBUG=" + setting}},
		{[]string{"GODEBUG=", "A=1"}, []string{"A=1", "GODEBUG=" + setting}},
		{[]string{"GODEBUG=gctrace=1,x=2", "A=1"}, []string{"A=1", "GODEBUG=gctrace=1,x=2," + setting}},
		{[]string{"GODEBUG=schedtrace=0"}, nil},
		{[]string{"A=1", "GODEBUG=gctrace=1,schedtrace=1000"}, nil},
		{[]string{"GODEBUG=" + setting}, nil},
	} {
		if got, ok := environ(c.old); ok != (c.want != nil) || !slices.Equal(got, c.want) {
			t.Errorf("%q: %q %v, want %q", c.old, got, ok, c.want)
		}
	}
}
