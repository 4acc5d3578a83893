package journal

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

const childDir = "BANYAN_JOURNAL_TEST_DIR"

// child writes as fast as it can and says on stdout what it was promised, until it is killed.
func child(dir string) {
	j, err := Open(Config{Dir: dir, SegmentSize: 256 << 10, MaxRecord: 4 << 10, MaxInFlight: 64, MaxGaps: 2, Unsynced: 64 << 10,
		Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	say := func(format string, a ...any) { fmt.Printf(format+"\n", a...) } // one write(2) each
	say("epoch %d", j.Epoch())
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := range 20 { // four of them stay in flight
				body := fmt.Appendf(nil, "%d-%d-%d %s", j.Epoch(), w, i, strings.Repeat("x", i%2000))
				ack := Ack(i % 2)
				seq, err := j.AppendIntent(Intent{Payload: body, Ack: ack})
				if err != nil {
					say("error %v", err)
					return
				}
				say("intent %d %d-%d-%d", seq, j.Epoch(), w, i)
				if i%5 == 4 {
					continue
				}
				if _, err := j.AppendOutcome(seq, Outcome{Payload: body[:8]}); err != nil {
					say("error %v", err)
					return
				}
				say("outcome %d", seq)
			}
		})
	}
	wg.Wait()
	select {}
}

// TestKillLosesNothing kills a process under load, again and again, in one directory. Whatever it was promised is
// there afterwards: intents with their payload, outcomes as outcomes, and no identity twice.
func TestKillLosesNothing(t *testing.T) {
	rounds := 30
	if testing.Short() {
		rounds = 5
	}
	dir := t.TempDir()
	intents, unknown := 0, 0
	for round := range rounds {
		promised, answered, epoch := runAndKill(t, dir, 20+round*9)
		j, err := Open(Config{Dir: dir, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		if len(j.Adopted()) != 1 || uint64(j.Adopted()[0].Epoch()) != epoch {
			t.Fatalf("adopted %d generations", len(j.Adopted()))
		}
		g := j.Adopted()[0]
		if err := g.Recover(context.Background()); err != nil {
			t.Fatal(err)
		}
		seen := map[Seq]bool{}
		last := ShipSeq(0)
		for _, it := range drain(t, g.Cursor()) {
			if it.Ship != last+1 {
				t.Fatalf("ship %d after %d", it.Ship, last)
			}
			last = it.Ship
			if it.Kind == ItemEnd {
				continue
			}
			if it.Kind != ItemWrite || seen[it.Seq] {
				t.Fatalf("round %d: %+v", round, it)
			}
			seen[it.Seq] = true
			name, _, _ := strings.Cut(string(it.Intent), " ")
			if want, ok := promised[it.Seq]; ok && name != want {
				t.Fatalf("round %d: write %d is %q, was %q", round, it.Seq, name, want)
			}
			if answered[it.Seq] && (it.Recovered || string(it.Outcome) != string(it.Intent[:8])) {
				t.Fatalf("round %d: outcome of %d is lost", round, it.Seq)
			}
			if it.Recovered {
				unknown++
			}
		}
		for seq := range promised {
			if !seen[seq] {
				t.Fatalf("round %d: acknowledged intent %d is lost", round, seq)
			}
		}
		intents += len(promised)
		if err := g.Cursor().Ack(last); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(g.Close(), j.Seal(t.Context())); err != nil {
			t.Fatal(err)
		}
		if items := drain(t, j.Cursor()); len(items) != 1 || j.Cursor().Ack(items[0].Ship) != nil {
			t.Fatalf("%+v", items)
		}
		j.Close()
	}
	t.Logf("%d rounds: %d acknowledged intents, 0 lost, %d unknown", rounds, intents, unknown)
}

// runAndKill ends the child after a number of lines and reads on to what it had said by then.
func runAndKill(t *testing.T, dir string, lines int) (promised map[Seq]string, answered map[Seq]bool, epoch uint64) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	promised, answered = map[Seq]string{}, map[Seq]bool{}
	sc := bufio.NewScanner(out)
	for n := 0; sc.Scan(); n++ {
		var seq Seq
		var name string
		line := sc.Text()
		switch {
		case strings.HasPrefix(line, "intent "):
			if _, err := fmt.Sscanf(line, "intent %d %s", &seq, &name); err == nil {
				promised[seq] = name
			}
		case strings.HasPrefix(line, "outcome "):
			if _, err := fmt.Sscanf(line, "outcome %d", &seq); err == nil {
				answered[seq] = true
			}
		case strings.HasPrefix(line, "epoch "):
			_, _ = fmt.Sscanf(line, "epoch %d", &epoch)
		case strings.HasPrefix(line, "error "):
			t.Error(line)
		}
		if n == lines {
			_ = cmd.Process.Kill()
		}
	}
	_ = cmd.Wait()
	return promised, answered, epoch
}
