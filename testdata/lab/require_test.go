package lab

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// verdict is a test that notes how it was ended.
type verdict struct {
	testing.TB
	got string
}

func (v *verdict) Helper()           {}
func (v *verdict) Skip(args ...any)  { v.got = "skip: " + fmt.Sprint(args...) }
func (v *verdict) Fatal(args ...any) { v.got = "fatal: " + fmt.Sprint(args...) }

func TestAMissingServerSkipsUnlessAllAreRequired(t *testing.T) {
	_, missing := find("Nothing", "no-such-program")
	broken := errors.New("broken")
	for _, test := range []struct {
		require string
		err     error
		want    string
	}{
		{"", nil, ""},
		{"", fmt.Errorf("start: %w", missing), "skip: start: Nothing is not installed"},
		{"all", missing, "fatal: Nothing is not installed"},
		{"", broken, "fatal: broken"},
		{"all", nil, ""},
	} {
		t.Setenv("BANYAN_REQUIRE", test.require)
		v := &verdict{TB: t}
		must(v, test.err)
		if !strings.HasPrefix(v.got, test.want) || test.want == "" && v.got != "" {
			t.Errorf("require %q, %v: %q, want %q", test.require, test.err, v.got, test.want)
		}
		if strings.HasPrefix(v.got, "skip") && !strings.Contains(v.got, "make deps") {
			t.Errorf("%q does not say how to get it", v.got)
		}
	}
}
