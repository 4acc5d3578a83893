package project

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"banyan/proxy/event"
	"banyan/testdata/lab"

	"pgregory.net/rapid"
)

// Whatever the events, however the topic is cut into batches, and wherever owners change: the tables are those of one
// event after the other. Poison and repeats are among the events.
func TestBatchesEqualOneByOne(t *testing.T) {
	cfg := config(t)
	cfg.On["unit.moved@1"] = Handler{SQL: "moved.sql"}
	batched, single := newBench(t, cfg), newBench(t, cfg)
	rapid.Check(t, func(t *rapid.T) {
		for _, b := range []*bench{batched, single} {
			b.exec("truncate banyan_units_g1.units, banyan_units_g1.banyan_partition, banyan_units_g1.banyan_parked")
			b.topic = nil
		}
		n := rapid.IntRange(5, 60).Draw(t, "n")
		for i := range n {
			match := rapid.IntRange(7, 8).Draw(t, "match")
			unit := 10*match + rapid.IntRange(0, 2).Draw(t, "unit")
			switch rapid.IntRange(0, 13).Draw(t, "what") {
			case 0, 1, 2:
				batched.imported(match, unit)
			case 3, 4, 5, 6:
				batched.moved(match, unit, i)
			case 7, 8, 9:
				batched.hit(match, unit, rapid.IntRange(1, 40).Draw(t, "by")) // below 0 is poison
			case 10, 11:
				batched.event(fmt.Sprint("match/", match), fmt.Sprint("match/", match), "match.stormed", fmt.Sprintf(`{"match":%d}`, match))
			case 12:
				if i > 0 { // a repeat
					r := batched.topic[rapid.IntRange(0, i-1).Draw(t, "again")]
					batched.put(r.Headers, r.Kind, string(r.Key), r.Value)
				} else {
					batched.mark(1)
				}
			case 13:
				batched.mark(event.Position(i))
			}
		}
		single.topic = batched.topic
		_, w := batched.open()
		for int(w.next) < n {
			end := min(n, int(w.next)+rapid.IntRange(1, 30).Draw(t, "cut"))
			if err := w.Handle(batched.t.Context(), batched.topic[w.next:end]); err != nil {
				t.Fatal(err)
			}
			if rapid.IntRange(0, 9).Draw(t, "owner") == 0 {
				_, w = batched.open()
			}
		}
		_, one := single.open()
		for i := range n {
			if err := one.Handle(single.t.Context(), single.topic[i:i+1]); err != nil {
				t.Fatal(err)
			}
		}
		if got, want := batched.state(), single.state(); got != want {
			t.Fatalf("in batches\n%sone by one\n%s", got, want)
		}
		summary := func(w *worker) string {
			s := fmt.Sprint(w.progress.Position, w.progress.Applied, w.progress.Parked)
			for _, k := range w.progress.Parked {
				p := w.parked[k]
				s += fmt.Sprint(p.FirstOffset, p.Waiting, p.LastOffset)
			}
			return s
		}
		if got, want := summary(w), summary(one); got != want {
			t.Fatalf("in batches %s, one by one %s", got, want)
		}
	})
}

// benchTopic is n moves of units units in matches matches, imports first.
func benchTopic(b *bench, n, units int) {
	for i := range units {
		b.imported(i%50, i)
	}
	for i := range n {
		u := i * 7919 % units
		b.moved(u%50, u, i)
		if i%500 == 499 {
			b.mark(event.Position(len(b.topic)))
		}
	}
}

// BenchmarkProject applies moves in batches of 5,000: of 10,000 units, no two events of one batch alike, and of 1,000 units
// with folding; both without and with a document per unit; and one transaction per event for the ratio.
func BenchmarkProject(b *testing.B) {
	for _, c := range []struct {
		name            string
		batch, n, units int
		docs, fold      bool
	}{{"batches", 5000, 100000, 10000, false, false}, {"folded", 5000, 100000, 1000, false, true}, {"folded, documents", 5000, 100000, 1000, true, true},
		{"a document per event", 5000, 100000, 10000, true, false}, {"one by one", 1, 2000, 10000, false, false}} {
		b.Run(c.name, func(b *testing.B) {
			cfg := config(b)
			cfg.On["unit.moved@1"] = Handler{SQL: "moved.sql", Fold: map[bool]string{true: "last"}[c.fold]}
			if c.docs {
				cfg.Documents = map[string]Document{"unit": {Key: "unit:{unit}", SQL: "unit.sql", Types: []string{"unit.moved@1"}}}
			}
			var cpu, pgCPU float64
			for b.Loop() {
				b.StopTimer()
				x := newBench(b, cfg)
				benchTopic(x, c.n, c.units)
				_, w := x.open()
				x.handleN(w, 5000, c.units)
				cpu0, pg0 := ownCPU(b), treeCPU(lab.Postgres(b).Pid())
				b.StartTimer()
				x.handleN(w, c.batch, len(x.topic))
				b.StopTimer()
				cpu, pgCPU = cpu+ownCPU(b)-cpu0, pgCPU+treeCPU(lab.Postgres(b).Pid())-pg0
				b.StartTimer()
			}
			events := float64(c.n) * float64(b.N)
			b.ReportMetric(events/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(cpu/events*1e6, "us-go/event")
			b.ReportMetric(pgCPU/events*1e6, "us-postgres/event")
		})
	}
}

// ownCPU is this process's CPU time in seconds. The machine is shared: CPU per event says more than events per second.
func ownCPU(b *testing.B) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// treeCPU is the CPU time in seconds of a process and its children, ended ones included; 0 if there is no such process.
func treeCPU(pid int) float64 {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	var ticks float64
	for _, name := range stats {
		raw, err := os.ReadFile(name)
		if err != nil {
			continue // ended meanwhile
		}
		_, rest, _ := strings.Cut(string(raw), ") ") // state ppid … utime stime cutime cstime
		f := strings.Fields(rest)
		self := name == fmt.Sprintf("/proc/%d/stat", pid)
		if len(f) < 15 || !self && f[1] != strconv.Itoa(pid) {
			continue
		}
		for i, s := range f[11:15] {
			if n, err := strconv.ParseFloat(s, 64); err == nil && (i < 2 || self) {
				ticks += n
			}
		}
	}
	return ticks / 100
}

func (b *bench) handleN(w *worker, n, end int) {
	b.t.Helper()
	for i := int(w.next); i < end; i += n {
		if err := w.Handle(b.t.Context(), b.topic[i:min(i+n, end)]); err != nil {
			b.t.Fatal(err)
		}
	}
	if err := w.shownUp(b.t.Context(), true); err != nil {
		b.t.Fatal(err)
	}
}

func BenchmarkPlan(b *testing.B) {
	x := &bench{t: b, cfg: config(b)}
	benchTopic(x, 5000, 2500)
	p, err := New(x.cfg, nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	w := &worker{p: p, seen: newWindow(20000)}
	b.ReportAllocs()
	for b.Loop() {
		pl := w.plan(w.items(x.topic[2500:7500]))
		if batch := w.batchOf(pl, 1, nil); len(batch.Statements) == 0 || !json.Valid(batch.Statements[0].Rows) {
			b.Fatal("nothing to do")
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/5000, "ns/event")
}
