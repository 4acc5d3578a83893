package ledger

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"banyan/proxy/capture"
	"banyan/proxy/event"
	"banyan/proxy/stage"

	"github.com/google/go-cmp/cmp"
)

// Reference values from tables of the exact binomial.
func TestMismatchBound(t *testing.T) {
	for _, x := range []struct {
		k, n int64
		want float64
	}{
		{0, 0, 1}, {0, 1, 0.95}, {0, 100, 0.029513}, {0, 20000, 0.000149776}, {1, 20, 0.216106}, {2, 10, 0.506901}, {5, 5, 1},
	} {
		if got := MismatchBound(x.k, x.n); math.Abs(got-x.want) > 2e-6 {
			t.Errorf("%d of %d: %.7f, want %.7f", x.k, x.n, got, x.want)
		}
	}
}

// The bound has to hold at least 95 % of the time; the tail is summed without the beta function.
func TestMismatchBoundCovers(t *testing.T) {
	for _, n := range []int64{7, 50, 400} {
		for k := int64(0); k < n; k += 1 + n/9 {
			p, tail := MismatchBound(k, n), 0.0
			for i := int64(0); i <= k; i++ {
				a, _ := math.Lgamma(float64(n + 1))
				b, _ := math.Lgamma(float64(i + 1))
				c, _ := math.Lgamma(float64(n - i + 1))
				tail += math.Exp(a - b - c + float64(i)*math.Log(p) + float64(n-i)*math.Log1p(-p))
			}
			if math.Abs(tail-0.05) > 1e-6 {
				t.Errorf("%d of %d: P(X <= k) at the bound is %.7f", k, n, tail)
			}
		}
	}
}

func TestQuantile(t *testing.T) {
	h := Histogram{[]int64{100, 200, 400}, []uint64{50, 40, 10, 0}}
	for q, want := range map[float64]time.Duration{.5: 100 * time.Microsecond, .7: 150 * time.Microsecond, .95: 300 * time.Microsecond, 1: 400 * time.Microsecond} {
		if got, ok := h.Quantile(q); !ok || got != want {
			t.Errorf("%v: %s %v, want %s", q, got, ok, want)
		}
	}
	h.Buckets[3] = 5
	if _, ok := h.Quantile(.99); ok {
		t.Error("a quantile in the bucket without a bound")
	}
	if _, ok := (Histogram{}).Quantile(.5); ok {
		t.Error("a quantile of nothing")
	}
}

// full is evidence that passes everything.
func full() (*Evidence, Expected, Inputs) {
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	fast, slow := Histogram{bounds, make([]uint64, len(bounds)+1)}, Histogram{bounds, make([]uint64, len(bounds)+1)}
	fast.Buckets[10], slow.Buckets[20] = 5000, 5000
	e := &Evidence{Migration: "units", Fingerprint: "fp", Backfilled: &now, Partitions: 4, Comparisons: []ComparisonEvidence{
		{Comparison: Route("map"), Judged: 21000, Distinct: 20500, Undecided: map[string]int64{"lag": 100}, MismatchUpper: MismatchBound(0, 20500),
			Pairs: map[capture.Side]Histogram{capture.Legacy: slow, capture.Candidate: fast}},
		{Comparison: State("unit"), Judged: 5000, Sweep: &Sweep{Done: true, Verified: 4000}},
	}, Sources: []SourceEvidence{{Table: "units", Column: "hp", Dark: 5, Naming: Mapped}}, Gaps: []Gap{{ID: "a.1", Repaired: &now}}}
	x := Expected{Comparisons: []Comparison{Route("map"), State("unit")}, Gates: map[stage.Stage]Gate{stage.Live: {
		Pairs: 20000, MismatchUpperBound: 0.0002, Undecided: 0.05, Sweep: "complete", Unexplained: "named", LatencyP99: 1}}}
	yes := &Answer{OK: true, Have: "yes"}
	return e, x, Inputs{Check: yes, Account: yes, Marking: yes}
}

func TestGates(t *testing.T) {
	live := stage.State{Stage: stage.Live}
	for _, x := range []struct {
		name   string
		spoil  func(e *Evidence, x *Expected, in *Inputs)
		gate   string
		result Result
	}{
		{"not backfilled", func(e *Evidence, _ *Expected, _ *Inputs) { e.Backfilled = nil }, "backfilled", Fail},
		{"account out of balance", func(_ *Evidence, _ *Expected, in *Inputs) {
			in.Account = &Answer{Have: "a: 2 of 3", Why: "one is missing"}
		}, "account balanced", Fail},
		{"a proxy does not mark", func(_ *Evidence, _ *Expected, in *Inputs) { in.Marking = nil }, "proxies marking", Inconclusive},
		{"no pairs", func(e *Evidence, _ *Expected, _ *Inputs) { e.Comparisons[0].Distinct = 0 }, "pairs", Inconclusive},
		{"no route is declared", func(_ *Evidence, x *Expected, _ *Inputs) { x.Comparisons = x.Comparisons[1:] }, "pairs", Inconclusive},
		{"too few pairs", func(e *Evidence, _ *Expected, _ *Inputs) { e.Comparisons[0].Distinct = 19000 }, "pairs", Fail},
		{"a route without pairs", func(_ *Evidence, x *Expected, _ *Inputs) { x.Comparisons = append(x.Comparisons, Route("unit")) }, "pairs", Inconclusive},
		{"one mismatch: the bound is above, the rate below", func(e *Evidence, _ *Expected, _ *Inputs) { e.Comparisons[0].DistinctDifferent = 1 }, "mismatch upper bound", Inconclusive},
		{"mismatches", func(e *Evidence, _ *Expected, _ *Inputs) { e.Comparisons[0].DistinctDifferent = 10 }, "mismatch upper bound", Fail},
		{"a quiet route's mismatches are not diluted", func(e *Evidence, x *Expected, _ *Inputs) {
			x.Comparisons = append(x.Comparisons, Route("unit"))
			e.Comparisons = append(e.Comparisons, ComparisonEvidence{Comparison: Route("unit"), Judged: 100, Distinct: 100, DistinctDifferent: 1})
			e.Comparisons[0].Distinct = 1e6
		}, "mismatch upper bound", Fail},
		{"undecided", func(e *Evidence, _ *Expected, _ *Inputs) { e.Comparisons[0].Undecided["lag"] = 2000 }, "undecided", Fail},
		{"dropped by a proxy", func(e *Evidence, _ *Expected, _ *Inputs) {
			e.Comparisons[0].Asked = &Asked{Dropped: map[string]uint64{"busy": 2000}}
		}, "undecided", Fail},
		{"never swept", func(e *Evidence, _ *Expected, _ *Inputs) { e.Comparisons[1].Sweep = nil }, "sweep complete", Inconclusive},
		{"a key never verified", func(e *Evidence, _ *Expected, _ *Inputs) {
			e.Comparisons[1].Sweep = &Sweep{Done: true, Verified: 3999, Unverified: 1, Keys: []string{"unit/9"}}
		}, "sweep complete", Fail},
		{"an open finding", func(e *Evidence, _ *Expected, _ *Inputs) { e.Findings = []Finding{{ID: "f-1", State: StateReopened}} }, "open findings", Fail},
		{"an accepted finding", func(e *Evidence, _ *Expected, _ *Inputs) { e.Findings = []Finding{{ID: "f-1", State: StateAccepted}} }, "open findings", Pass},
		{"nothing compared", func(e *Evidence, _ *Expected, _ *Inputs) { e.Comparisons = nil }, "open findings", Inconclusive},
		{"an unattributed source without a name", func(e *Evidence, _ *Expected, _ *Inputs) {
			e.Sources = append(e.Sources, SourceEvidence{Table: "units", Column: "stock", Unattributed: 1})
		}, "dark sources named", Fail},
		{"the stream was not read", func(e *Evidence, _ *Expected, _ *Inputs) { e.Partitions, e.Sources = 0, nil }, "dark sources named", Inconclusive},
		{"a slower candidate", func(e *Evidence, _ *Expected, _ *Inputs) {
			p := e.Comparisons[0].Pairs
			p[capture.Legacy], p[capture.Candidate] = p[capture.Candidate], p[capture.Legacy]
		}, "latency p99", Fail},
		{"latency of one side", func(e *Evidence, _ *Expected, _ *Inputs) { delete(e.Comparisons[0].Pairs, capture.Candidate) }, "latency p99", Inconclusive},
		{"a gap", func(e *Evidence, _ *Expected, _ *Inputs) { e.Gaps[0].Repaired = nil }, "gaps", Fail},
		{"gaps cannot be known", func(e *Evidence, _ *Expected, in *Inputs) { in.Account = nil }, "gaps", Inconclusive},
	} {
		t.Run(x.name, func(t *testing.T) {
			e, want, in := full()
			if rs := Judge(e, want, in, live); !Passed(rs) {
				t.Fatalf("full evidence does not pass: %+v", rs)
			}
			x.spoil(e, &want, &in)
			rs := Judge(e, want, in, live)
			for _, r := range rs {
				if r.Name == x.gate {
					if r.Result != x.result || r.Have == "" || r.Want == "" || r.Why == "" && r.Result != Pass {
						t.Errorf("%+v, want %s", r, x.result)
					}
					if x.result != Pass && Passed(rs) {
						t.Error("all passed")
					}
					return
				}
			}
			t.Errorf("no gate %s in %+v", x.gate, rs)
		})
	}
}

func TestNoDataNeverPasses(t *testing.T) {
	_, x, _ := full()
	for _, s := range []stage.Stage{stage.DualWrite, stage.Shadow, stage.Live} {
		for _, r := range Judge(&Evidence{}, x, Inputs{}, stage.State{Stage: s}) {
			if r.Result == Pass {
				t.Errorf("%s: %+v", s, r)
			}
		}
	}
	if Passed(nil) {
		t.Error("no gate at all passed")
	}
	if rs := Judge(&Evidence{}, x, Inputs{}, stage.State{Stage: stage.Complete}); Passed(rs) {
		t.Error("a stage that is not built passed")
	}
}

func TestGateValidate(t *testing.T) {
	if err := (Gate{Pairs: 1, MismatchUpperBound: .1, Undecided: .2, Sweep: "complete", Unexplained: "named", LatencyP99: 1}).Validate(); err != nil {
		t.Error(err)
	}
	for _, g := range []Gate{{Pairs: -1}, {MismatchUpperBound: 2}, {Undecided: -1}, {Sweep: "all"}, {Unexplained: "x"}, {LatencyP99: -1}} {
		if g.Validate() == nil {
			t.Errorf("%+v", g)
		}
	}
}

func TestDecideReadsWhatWasCommitted(t *testing.T) {
	l, _ := open(t, Config{})
	if err := l.SetBackfilled(t.Context(), "units", 5); err != nil {
		t.Fatal(err)
	}
	l.mustCommit(t, Batch{Counts: []Count{{Route("map"), Judged, "", 3}, {Route("map"), Equal, "", 3}}, Reading: []Reading{{0, 9}},
		Seen:    []Seen{{Route("map"), []byte("a"), 1, nil}, {Route("map"), []byte("a"), 2, nil}, {Route("map"), []byte("b"), 2, nil}},
		Latency: []Latency{{Route("map"), capture.Legacy, time.Millisecond}, {Route("map"), capture.Legacy, time.Hour}}})
	l.mustCommit(t, Batch{Latency: []Latency{{Route("map"), capture.Legacy, time.Millisecond}}})
	l.UseGates(GateConfig{Migrations: map[event.Migration]Expected{"units": {Comparisons: []Comparison{Route("map")}, Gates: map[stage.Stage]Gate{stage.Live: {Pairs: 3}}}}})
	rs, e, err := l.Decide(t.Context(), "units", stage.State{Stage: stage.Live})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]Result{}
	for _, r := range rs {
		got[r.Name] = r.Result
	}
	want := map[string]Result{"backfilled": Pass, "account balanced": Inconclusive, "proxies marking": Inconclusive, "pairs": Pass, "undecided": Pass,
		"open findings": Pass, "gaps": Inconclusive, "dark sources named": Pass}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if n := e.Comparisons[0].Pairs[capture.Legacy].N(); n != 3 {
		t.Errorf("%d latencies", n)
	}
	if b, err := json.Marshal(e); err != nil || len(b) == 0 {
		t.Error(err)
	}
}
