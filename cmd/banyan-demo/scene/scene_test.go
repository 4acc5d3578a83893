package scene

import (
	"errors"
	"strings"
	"testing"
)

func TestReplaceFailsOnATextThatWasEditedSince(t *testing.T) {
	for _, c := range []struct {
		text, from string
		n          int
		want       string
	}{
		{"a b a", "a", 0, "x b x"}, {"a b a", "a", 2, "x b x"}, {"a b a", "a", 1, ""}, {"a b a", "c", 0, ""},
	} {
		got, err := Replace(c.text, c.from, "x", c.n)
		if (err == nil) != (c.want != "") || err == nil && got != c.want {
			t.Errorf("%+v: %q %v", c, got, err)
		}
	}
}

func TestStopEndsTheNewestFirstAndEverything(t *testing.T) {
	var order []string
	s := &Set{}
	for _, name := range []string{"database", "game"} {
		s.onStop(func() error { order = append(order, name); return errors.New(name) })
	}
	err := s.Stop()
	if strings.Join(order, " ") != "game database" || err == nil || !strings.Contains(err.Error(), "database") {
		t.Fatal(order, err)
	}
	if err := s.Stop(); err != nil || len(order) != 2 {
		t.Fatal("a second end:", order, err)
	}
}
