package generation

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"banyan/proxy/event"
	"banyan/proxy/kafka"
	"banyan/proxy/stage"
	"banyan/shadow/ledger"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const partitions = 2

func bench(t *testing.T) (kafka.Config, *kgo.Client) {
	t.Helper()
	f, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	cfg := kafka.Config{Brokers: f.ListenAddrs(), Prefix: "t", Partitions: partitions, Replication: 1}.WithDefaults()
	cl, err := cfg.Producer("test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	if err := cfg.EnsureTopics(t.Context(), cl, cfg.Base()...); err != nil {
		t.Fatal(err)
	}
	return cfg, cl
}

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// settle puts one record per minute from noon into each partition.
func settle(t *testing.T, cfg kafka.Config, cl *kgo.Client, minutes int) {
	t.Helper()
	for n := range cfg.Partitions {
		for i := range minutes {
			r := kafka.Record(cfg.Topics().Settled(), n, event.KindEntry, "", []byte("x"))
			r.Timestamp = noon.Add(time.Duration(i) * time.Minute)
			if err := cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestStartIsBeforeTheLastCompleteImport(t *testing.T) {
	cfg, cl := bench(t)
	settle(t, cfg, cl, 60)
	at := func(minute int) time.Time { return noon.Add(time.Duration(minute) * time.Minute) }
	start := func(imports ...Import) (string, error) {
		s, err := Start(t.Context(), cfg, "units", imports)
		return fmt.Sprint(s), err
	}
	for _, c := range []struct {
		name    string
		imports []Import
		want    string
	}{
		{"of all tables the first", []Import{{"units", true, at(30)}, {"players", true, at(20)}}, "[20 20]"},
		{"in whatever order", []Import{{"players", true, at(20)}, {"units", true, at(30)}}, "[20 20]"},
		{"a moment earlier than recorded: clocks differ", []Import{{"units", true, at(20).Add(margin)}}, "[20 20]"},
		{"of a time that was not recorded", []Import{{"units", true, at(30)}, {"players", true, time.Time{}}}, "[0 0]"},
		{"later than everything", []Import{{"units", true, at(90)}}, "[60 60]"},
	} {
		if got, err := start(c.imports...); got != c.want || err != nil {
			t.Errorf("%s: %s %v, want %s", c.name, got, err, c.want)
		}
	}
	if _, err := start(Import{"units", true, at(30)}, Import{"players", false, time.Time{}}); !errors.Is(err, ErrUnreached) {
		t.Error("a table that was never imported:", err)
	}
	var to kadm.Offsets
	to.AddOffset(cfg.Topics().Settled(), 1, 25, -1)
	if _, err := kadm.NewClient(cl).DeleteRecords(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	if got, err := start(Import{"units", true, at(26)}); got != "[26 26]" || err != nil {
		t.Error("what was deleted is not needed:", got, err)
	}
	for name, i := range map[string]Import{"the import's start was deleted": {"units", true, at(24)}, "it may have been": {"units", true, time.Time{}}} {
		if _, err := start(i); !errors.Is(err, ErrUnreached) || !strings.Contains(err.Error(), "banyan backfill units --restart") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBeginIsTheBuildsThatCounted(t *testing.T) {
	state := func(g stage.Generations) stage.State { return stage.State{Generations: g} }
	entry := func(void string, g int, start ...int64) stage.Entry {
		return stage.Entry{Void: void, Flip: stage.Flip{Step: stage.Build, To: state(stage.Generations{Building: g}), Start: start}}
	}
	history := []stage.Entry{entry("another flip came first", 2, 1), entry("", 2, 7, 8), entry("", 3, 9)}
	for g, want := range map[int]string{1: "[]", 2: "[7 8]", 3: "[9]", 4: "[]"} {
		if got := fmt.Sprint(Begin(history, g)); got != want {
			t.Errorf("generation %d: %s, want %s", g, got, want)
		}
	}
}

func TestParkedOfAGeneration(t *testing.T) {
	cfg, cl := bench(t)
	put := func(n int32, g int, stageName, key string, released bool) {
		p := event.Parked{V: event.ParkedVersion, Migration: "units", Generation: g, Stage: stageName, Key: event.OrderingKey(key), Reason: "r", Released: released, Done: released}
		if err := cl.ProduceSync(t.Context(), kafka.Record(cfg.Topics().Parked(), n, event.KindParked, key, event.Encode(p))).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	put(0, 1, "project", "match/1", false)
	put(0, 2, "project", "match/2", false)
	put(0, 2, "project", "match/2", false) // told again after a crash
	put(1, 2, "translate", "match/3", false)
	put(1, 2, "translate", "match/4", false)
	put(1, 2, "translate", "match/4", true)
	put(1, 3, "translate", "match/5", false)
	got, err := Parked(t.Context(), cfg, "units", 2)
	if err != nil || len(got) != 2 || got[0].Key != "match/2" || got[1].Key != "match/3" {
		t.Fatal(got, err)
	}
}

// Nothing but a complete comparison without a difference is equal; no data are no pass.
func TestEqualNeedsEveryRow(t *testing.T) {
	good := Result{Comparisons: 1, Compared: 10, Complete: true}
	if !good.Equal() || good.Why() != "" {
		t.Fatal(good.Why())
	}
	for name, change := range map[string]func(*Result){
		"a difference":         func(r *Result) { r.Different = 1 },
		"a row not compared":   func(r *Result) { r.Unverified = 1 },
		"a key parked":         func(r *Result) { r.Parked = []event.Parked{{Key: "match/1"}} },
		"not swept to the end": func(r *Result) { r.Complete = false },
		"nothing is compared":  func(r *Result) { r.Comparisons, r.Compared = 0, 0 },
	} {
		r := good
		change(&r)
		if r.Equal() || r.Why() == "" {
			t.Errorf("%s is equal", name)
		}
	}
}

func TestTheNotebookCountsAndShowsSomeOfEach(t *testing.T) {
	n := &notebook{places: map[string]int{}}
	for i := range 30 {
		b := ledger.Batch{Counts: []ledger.Count{{Counter: ledger.Judged, N: 2}, {Counter: ledger.Equal, N: 1}, {Counter: ledger.Different, N: 1}}}
		b.Found = []ledger.Found{{Comparison: "state/unit", Place: fmt.Sprint("/", i%2), Example: ledger.Example{Path: fmt.Sprint(i)}}}
		if i == 29 {
			b.Sweeps = []ledger.Sweep{{Comparison: "state/unit", Done: true, Unverified: 3}}
		}
		if n.done("state/unit") {
			t.Fatal("done before its end")
		}
		if err := n.Commit(context.Background(), &b); err != nil {
			t.Fatal(err)
		}
	}
	r := n.result()
	if r.Compared != 60 || r.Different != 30 || r.Unverified != 3 || r.Comparisons != 1 || len(r.Examples) != 2*perPlace || !n.done("state/unit") {
		t.Fatalf("%+v", r)
	}
}
