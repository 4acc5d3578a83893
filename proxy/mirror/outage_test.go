package mirror

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"banyan/proxy/event"
	"banyan/proxy/journal"
	"banyan/proxy/kafka"
	"banyan/testdata/lab"
)

const (
	childBrokers = "BANYAN_MIRROR_TEST_BROKERS"
	childPrefix  = "BANYAN_MIRROR_TEST_PREFIX"
	childDir     = "BANYAN_MIRROR_TEST_DIR"
)

// child is a journal with a mirror; it writes until it is killed, and says what it was promised.
func child() {
	die := func(err error) {
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
	}
	j, err := journal.Open(journal.Config{Dir: os.Getenv(childDir), SegmentSize: 4 << 20, Quota: 256 << 20, MaxRecord: 1 << 20, MaxInFlight: 1024, Unsynced: 1 << 20, Log: quiet()})
	die(err)
	m, err := New(Config{Journal: j, Replica: "p1", Kafka: config(strings.Split(os.Getenv(childBrokers), ","), os.Getenv(childPrefix)), Log: quiet(), MarkEvery: 5 * time.Millisecond})
	die(err)
	die(m.Start(context.Background()))
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				key := fmt.Sprintf("match/%d", (w+i)%7)
				seq, err := j.AppendIntent(journal.Intent{Payload: intentOf(key, "x"), Key: []event.Address{{Migration: "units", Key: event.OrderingKey(key)}}})
				die(err)
				fmt.Printf("intent %d %d\n", j.Epoch(), seq)
				if i%50 == 49 {
					continue // in flight until the end
				}
				_, err = j.AppendOutcome(seq, journal.Outcome{Payload: resultOf(event.Applied)})
				die(err)
			}
		})
	}
	wg.Wait()
}

// killed runs a child for a number of lines and gives the writes that it was promised.
func killed(t *testing.T, k kafka.Config, dir string, lines int) map[event.WriteID]bool {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childBrokers+"="+strings.Join(k.Brokers, ","), childPrefix+"="+k.Prefix, childDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	promised := map[event.WriteID]bool{}
	sc := bufio.NewScanner(out)
	for n := 0; sc.Scan(); n++ {
		id := event.WriteID{Replica: "p1"}
		if _, err := fmt.Sscanf(sc.Text(), "intent %d %d", &id.Epoch, &id.Seq); err == nil {
			promised[id] = true
		} else if strings.HasPrefix(sc.Text(), "error") {
			t.Error(sc.Text())
		}
		if n == lines {
			_ = cmd.Process.Kill()
		}
	}
	_ = cmd.Wait()
	return promised
}

// TestKilledUnderLoad: journal and mirror are killed again and again, and each time the next process ships what is
// left. Every promised write arrives, repeats are the same write, order and marks hold.
func TestKilledUnderLoad(t *testing.T) {
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	k := fake(t, "kill")
	dir := t.TempDir()
	promised := map[event.WriteID]bool{}
	for i := range rounds {
		for id := range killed(t, k, dir, 300+i*211) {
			promised[id] = true
		}
	}
	j := openJournal(t, dir)
	m := startMirror(t, j, k)
	r := read(t, k)
	seal(t, j, m)
	r.until("the end", func() bool { return r.ended(j.Epoch()) })
	r.mu.Lock()
	defer r.mu.Unlock()
	ids := r.ids()
	repeats := 0
	for id := range promised {
		if ids[id] == 0 {
			t.Fatalf("%s is lost", id)
		}
		repeats += ids[id] - 1
	}
	r.checkOrder()
	r.checkMarks()
	same := map[event.WriteID]string{}
	unknown := 0
	for _, ws := range r.writes {
		for _, w := range ws {
			text := fmt.Sprint(w.v.Ship, w.v.Key, w.v.Result.Outcome)
			if was, ok := same[w.v.ID]; ok && was != text {
				t.Fatalf("%s came as %s and as %s", w.v.ID, was, text)
			}
			same[w.v.ID] = text
			if w.v.Result.Outcome == event.Unknown {
				unknown++
			}
		}
	}
	t.Logf("%d rounds: %d promised, 0 lost, %d repeats, %d unknown", rounds, len(promised), repeats, unknown)
}

// TestBrokerPausedAndCrashed: a real broker stops under load and comes back, twice.
func TestBrokerPausedAndCrashed(t *testing.T) {
	server := lab.NewKafka(t)
	k := config(server.Brokers, lab.Prefix(t))
	topics(t, k)
	j := openJournal(t, t.TempDir())
	stalled, resumed := make(chan error, 16), make(chan struct{}, 16)
	m := startMirror(t, j, k, func(c *Config) {
		c.Hooks = Hooks{Stalled: func(err error) { stalled <- err }, Resumed: func() { resumed <- struct{}{} }}
	})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			tick := time.NewTicker(2 * time.Millisecond) // a load, not a wait
			defer tick.Stop()
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-tick.C:
				}
				write(t, j, fmt.Sprintf("match/%d", (w+i)%13), "x")
			}
		})
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(server.Pause())
	<-stalled
	must(server.Resume())
	<-resumed
	must(server.Crash())
	if err := <-stalled; err == nil {
		t.Fatal("no cause")
	}
	must(server.Start(t.Context()))
	<-resumed
	close(stop)
	wg.Wait()
	r := read(t, k)
	seal(t, j, m)
	r.until("the end", func() bool { return r.ended(j.Epoch()) })
	r.mu.Lock()
	defer r.mu.Unlock()
	r.checkOrder()
	r.checkMarks()
	if a := m.Account(); uint64(len(r.ids())) != a.Accepted || a.Pending != 0 {
		t.Fatalf("%d writes in Kafka, account %+v", len(r.ids()), a)
	}
	t.Logf("%d writes, nothing lost", len(r.ids()))
}

// TestDeadKafkaDoesNotSlowAppends compares the same load with Kafka there and gone, in turn.
func TestDeadKafkaDoesNotSlowAppends(t *testing.T) {
	alive, dead := fake(t, "slow"), config([]string{"127.0.0.1:1"}, "slow")
	load := func(k kafka.Config) time.Duration {
		j := openJournal(t, t.TempDir())
		m := startMirror(t, j, k)
		defer func() { m.Stop(); j.Close() }()
		var mu sync.Mutex
		var took []time.Duration
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 150 {
					start := time.Now()
					seq := intend(t, j, "match/1", "x")
					d := time.Since(start)
					if _, err := j.AppendOutcome(seq, journal.Outcome{Payload: resultOf(event.Applied)}); err != nil {
						t.Error(err)
					}
					mu.Lock()
					took = append(took, d)
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		slices.Sort(took)
		return took[len(took)/2]
	}
	var ratios []float64
	for range 3 {
		a, d := load(alive), load(dead)
		ratios = append(ratios, float64(d)/float64(a))
	}
	slices.Sort(ratios)
	t.Logf("median latency of an intent, Kafka dead to alive: %.2f (of %.2f)", ratios[1], ratios)
	if ratios[1] > 2 {
		t.Errorf("a dead Kafka makes intents %.1f times slower", ratios[1])
	}
}
