package report

import (
	"bytes"
	"strings"
	"testing"
)

func TestAFailedCheckIsSaidAndRemembered(t *testing.T) {
	var b bytes.Buffer
	p := New(&b, false)
	p.Act("one", "because")
	if !p.Check(true, "n is %d", 3) || p.Check(false, "no write is missing: %d", 7) {
		t.Fatal("Check does not give what it was given")
	}
	checks, failed, _ := p.Result()
	if checks != 2 || len(failed) != 1 || failed[0] != "act 1: no write is missing: 7" {
		t.Fatal(checks, failed)
	}
	if got := b.String(); !strings.Contains(got, "     ok   n is 3\n") || !strings.Contains(got, "     FAIL no write is missing: 7\n") {
		t.Fatalf("%s", got)
	}
}

func TestAWaitingLineIsOverwrittenOnATerminalAlone(t *testing.T) {
	var b bytes.Buffer
	p := New(&b, true)
	p.Waiting("for %s", "Godot")
	p.Say("he came")
	if got := b.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "\r") {
		t.Fatalf("%q", got)
	}
	b.Reset()
	p = New(&b, false)
	p.Waiting("for %s", "Godot")
	p.Waiting("for %s", "Godot") // at once: not said again
	if got := b.String(); got != "          ... for Godot\n" {
		t.Fatalf("%q", got)
	}
}
