package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"banyan/proxy/capture"
	"banyan/proxy/event"
	"banyan/proxy/stage"
)

// Gate is what a flip forward to a stage needs beside what every flip to it needs. Zero values ask for nothing.
type Gate struct {
	Pairs              int     `yaml:"pairs"`                // distinct pairs compared
	MismatchUpperBound float64 `yaml:"mismatch_upper_bound"` // share of them, 0 to 1, at 95 % confidence
	Undecided          float64 `yaml:"undecided"`            // share of all pairs asked that were undecided or dropped, 0 to 1
	Sweep              string  `yaml:"sweep"`                // complete: every key verified
	Unexplained        string  `yaml:"unexplained"`          // named: every dark and unattributed source is mapped or out of scope
	LatencyP99         float64 `yaml:"latency_p99"`          // candidate's p99 against legacy's, as a factor
}

// Validate names the field, the value and the bound.
func (g Gate) Validate() error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	if g.Pairs < 0 {
		bad("pairs: %d; want 0 or more", g.Pairs)
	}
	if g.MismatchUpperBound < 0 || g.MismatchUpperBound > 1 {
		bad("mismatch_upper_bound: %v; want 0%% to 100%%", g.MismatchUpperBound)
	}
	if g.Undecided < 0 || g.Undecided > 1 {
		bad("undecided: %v; want 0%% to 100%%", g.Undecided)
	}
	if g.Sweep != "" && g.Sweep != "complete" {
		bad("sweep: %q; want complete, or nothing", g.Sweep)
	}
	if g.Unexplained != "" && g.Unexplained != "named" {
		bad("unexplained: %q; want named, or nothing", g.Unexplained)
	}
	if g.LatencyP99 < 0 {
		bad("latency_p99: %v; want a factor above 0, as 1.0x", g.LatencyP99)
	}
	return errors.Join(errs...)
}

// Expected are the comparisons that a migration declares: one without evidence makes its gates inconclusive, however much
// the others have.
type Expected struct {
	Gates       map[stage.Stage]Gate
	Comparisons []Comparison
}

// GateConfig is what the gates of each migration ask, and what they are told from outside.
type GateConfig struct {
	Migrations map[event.Migration]Expected
	// Inputs tells what the ledger cannot know; nil: nothing is known.
	Inputs func(ctx context.Context, m event.Migration) (Inputs, error)
}

// Inputs is what others know. A nil answer is inconclusive.
type Inputs struct {
	Check   *Answer // `banyan check` of config, databases and Kafka
	Account *Answer // the loss account balances
	Marking *Answer // every live proxy is marking
}

// Answer is one of them.
type Answer struct {
	OK   bool
	Have string
	Why  string
}

// Result of a gate.
type Result string

// The results. Inconclusive is no pass: data are missing.
const (
	Pass         Result = "pass"
	Fail         Result = "fail"
	Inconclusive Result = "inconclusive"
)

// GateResult is one gate's answer.
type GateResult struct {
	Name   string `json:"name"`
	Result Result `json:"result"`
	Have   string `json:"have"`
	Want   string `json:"want"`
	Why    string `json:"why,omitempty"`
}

// Passed reports whether all did, and there is at least one.
func Passed(rs []GateResult) bool {
	return len(rs) > 0 && !slices.ContainsFunc(rs, func(r GateResult) bool { return r.Result != Pass })
}

// UseGates swaps what gates ask.
func (l *Ledger) UseGates(c GateConfig) { l.gates.Store(&c) }

// Gates says whether the evidence allows a flip to a state. It does not ask whether the flip is forward.
func (l *Ledger) Gates(ctx context.Context, m event.Migration, to stage.State) ([]GateResult, error) {
	rs, _, err := l.Decide(ctx, m, to)
	return rs, err
}

// Decide is Gates, with the evidence that they judged.
func (l *Ledger) Decide(ctx context.Context, m event.Migration, to stage.State) ([]GateResult, *Evidence, error) {
	e, err := l.Evidence(ctx, m)
	if err != nil {
		return nil, nil, err
	}
	rs, err := l.judge(ctx, e, to)
	if err != nil {
		return nil, nil, err
	}
	return rs, e, nil
}

// judge asks what the gates of e's migration ask, and those who know what evidence does not tell.
func (l *Ledger) judge(ctx context.Context, e *Evidence, to stage.State) ([]GateResult, error) {
	var in Inputs
	var x Expected
	if c := l.gates.Load(); c != nil {
		x = c.Migrations[e.Migration]
		if c.Inputs != nil {
			var err error
			if in, err = c.Inputs(ctx, e.Migration); err != nil {
				return nil, fmt.Errorf("gates of %s: %w", e.Migration, err)
			}
		}
	}
	return Judge(e, x, in, to), nil
}

// Judge is pure. Every flip to dualwrite needs the check; to shadow and beyond backfill, account and marks; to live also
// no open finding, no gap, and dark and unattributed sources named; and each what its [Gate] asks.
func Judge(e *Evidence, x Expected, in Inputs, to stage.State) []GateResult {
	j := &judge{e: e, x: x, g: x.Gates[to.Stage]}
	switch to.Stage {
	case stage.Off:
		return nil
	case stage.DualWrite:
		j.input("check", in.Check, "passes", "`banyan check` has not been run")
	case stage.Shadow, stage.Live:
		j.backfilled()
		j.input("account balanced", in.Account, "accepted = mirrored + pending + unresolved + parked + excluded + gaps", "the proxies' loss accounts have not been read")
		j.input("proxies marking", in.Marking, "every live proxy", "no proxy has been heard of")
	default:
		return []GateResult{{Name: "stage", Result: Fail, Have: string(to.Stage), Want: "at most live", Why: "this stage is not built"}}
	}
	j.pairs()
	j.mismatch()
	j.undecided()
	j.sweep()
	j.latency()
	if to.Stage == stage.Live {
		j.findings()
		j.gaps(in)
	}
	if to.Stage == stage.Live || j.g.Unexplained == "named" {
		j.sources()
	}
	return j.out
}

type judge struct {
	e   *Evidence
	x   Expected
	g   Gate
	out []GateResult
}

func (j *judge) add(name string, r Result, have, want, why string) {
	j.out = append(j.out, GateResult{name, r, have, want, why})
}

// verdict adds a pass or a fail; why explains the fail.
func (j *judge) verdict(name string, ok bool, have, want, why string) {
	if ok {
		j.add(name, Pass, have, want, "")
	} else {
		j.add(name, Fail, have, want, why)
	}
}

func (j *judge) input(name string, a *Answer, want, unknown string) {
	if a == nil {
		j.add(name, Inconclusive, "not known", want, unknown)
		return
	}
	j.verdict(name, a.OK, a.Have, want, a.Why)
}

func (j *judge) backfilled() {
	if j.e.Backfilled == nil {
		j.add("backfilled", Fail, "no", "yes", "`banyan backfill "+string(j.e.Migration)+"` imports what was there before the first event")
		return
	}
	j.add("backfilled", Pass, j.e.Backfilled.UTC().Format("2006-01-02 15:04:05"), "yes", "")
}

// expected are the comparisons of a kind that are declared, with their evidence; nil if there is none of one.
func (j *judge) expected(routes bool) (have []*ComparisonEvidence, without []string) {
	for _, name := range j.x.Comparisons {
		if name.IsRoute() != routes {
			continue
		}
		i := slices.IndexFunc(j.e.Comparisons, func(c ComparisonEvidence) bool { return c.Comparison == name })
		if i < 0 {
			without = append(without, string(name))
			continue
		}
		have = append(have, &j.e.Comparisons[i])
	}
	return have, without
}

// Each route has to have enough pairs for itself: a busy route says nothing of a quiet one. The wanted number is shared
// out evenly, and the sum has to reach it too.
func (j *judge) pairs() {
	want := int64(j.g.Pairs)
	if want == 0 {
		return
	}
	const name = "pairs"
	routes, without := j.expected(true)
	n, byteEqual := int64(0), uint64(0)
	for _, r := range routes {
		n += r.Distinct
		if r.Asked != nil {
			byteEqual += r.Asked.ByteEqual
		}
		if r.Distinct == 0 {
			without = append(without, string(r.Comparison))
		}
	}
	have := fmt.Sprintf("%d distinct", n)
	if byteEqual > 0 {
		have += fmt.Sprintf(" (and %d equal to the byte, not told apart by version)", byteEqual)
	}
	wanted := fmt.Sprintf("%d distinct, of every route", want)
	switch {
	case n == 0:
		j.add(name, Inconclusive, have, wanted, "no pair of answers was judged under this fingerprint")
	case len(without) > 0:
		j.add(name, Inconclusive, have, wanted, "none was judged of "+strings.Join(without, ", "))
	default:
		j.verdict(name, n >= want, have, wanted, "more reads have to be compared")
	}
}

func (j *judge) mismatch() {
	want := j.g.MismatchUpperBound
	if want == 0 {
		return
	}
	const name = "mismatch upper bound"
	routes, _ := j.expected(true)
	wanted := "at most " + percent(want) + " at 95 % confidence"
	var k, n int64
	var worse []string // routes whose own rate is above it: a busy route must not dilute a quiet one
	for _, r := range routes {
		k, n = k+r.DistinctDifferent, n+r.Distinct
		if r.Distinct > 0 && float64(r.DistinctDifferent)/float64(r.Distinct) > want {
			worse = append(worse, fmt.Sprintf("%s %d of %d", r.Comparison, r.DistinctDifferent, r.Distinct))
		}
	}
	bound := MismatchBound(k, n)
	have := fmt.Sprintf("%s (%d of %d distinct pairs, Clopper-Pearson)", percent(bound), k, n)
	switch {
	case n == 0:
		j.add(name, Inconclusive, "no pairs", wanted, "no pair of answers was judged under this fingerprint")
	case len(worse) > 0:
		j.add(name, Fail, have, wanted, "above it: "+strings.Join(worse, ", "))
	case bound <= want:
		j.add(name, Pass, have, wanted, "")
	default:
		j.add(name, Inconclusive, have, wanted, "too few pairs to tell: the rate seen is below it")
	}
}

func (j *judge) undecided() {
	want := j.g.Undecided
	if want == 0 && j.g.Pairs == 0 {
		return
	}
	if want == 0 {
		want = 0.2
	}
	const name = "undecided"
	routes, _ := j.expected(true)
	var all, not int64
	reasons := map[string]int64{}
	for _, r := range routes {
		all += r.Judged + sum(r.Undecided) + sum(r.Dropped)
		not += sum(r.Undecided) + sum(r.Dropped)
		for _, m := range []map[string]int64{r.Undecided, r.Dropped} {
			for why, n := range m {
				reasons[why] += n
			}
		}
		if r.Asked != nil {
			all += int64(r.Asked.ByteEqual)
			for why, n := range r.Asked.Dropped {
				all, not = all+int64(n), not+int64(n)
				reasons["proxy: "+why] += int64(n)
			}
		}
	}
	if all == 0 {
		j.add(name, Inconclusive, "no pairs", "at most "+percent(want), "no pair of answers came under this fingerprint")
		return
	}
	share := float64(not) / float64(all)
	j.verdict(name, share <= want, fmt.Sprintf("%s (%d of %d)", percent(share), not, all), "at most "+percent(want), "most: "+top(reasons))
}

func (j *judge) sweep() {
	if j.g.Sweep != "complete" {
		return
	}
	const name, want = "sweep complete", "every key verified"
	states, without := j.expected(false)
	if len(states)+len(without) == 0 {
		j.add(name, Inconclusive, "no state comparison", want, "none is declared: `state:` compares the rows themselves")
		return
	}
	var verified int64
	var keys []string
	for _, s := range states {
		if s.Sweep == nil {
			without = append(without, string(s.Comparison))
			continue
		}
		verified += s.Sweep.Verified
		if !s.Sweep.Complete() {
			keys = append(keys, fmt.Sprintf("%s: %d, as %s", s.Comparison, s.Sweep.Unverified, strings.Join(s.Sweep.Keys[:min(3, len(s.Sweep.Keys))], ", ")))
		}
	}
	have := fmt.Sprintf("%d keys verified", verified)
	switch {
	case len(without) > 0:
		j.add(name, Inconclusive, have, want, "not swept yet under this fingerprint: "+strings.Join(without, ", "))
	case len(keys) > 0:
		j.add(name, Fail, have, want, "never verified: "+strings.Join(keys, "; "))
	default:
		j.add(name, Pass, have, want, "")
	}
}

func (j *judge) findings() {
	var open []string
	for _, f := range j.e.Findings {
		if f.State != StateAccepted {
			open = append(open, f.ID)
		}
	}
	const name, want = "open findings", "0"
	have := fmt.Sprint(len(open))
	compared := slices.ContainsFunc(j.e.Comparisons, func(c ComparisonEvidence) bool { return c.Judged > 0 || c.Sweep != nil })
	switch {
	case len(open) > 0:
		j.add(name, Fail, have, want, strings.Join(open[:min(10, len(open))], ", "))
	case !compared:
		j.add(name, Inconclusive, have, want, "nothing was compared under this fingerprint")
	default:
		j.add(name, Pass, have, want, "")
	}
}

func (j *judge) gaps(in Inputs) {
	var open []string
	for _, g := range j.e.Gaps {
		if g.Repaired == nil {
			open = append(open, g.ID+" ("+g.Reason+")")
		}
	}
	const name, want = "gaps", "none unrepaired"
	have := fmt.Sprint(len(open))
	switch {
	case len(open) > 0:
		j.add(name, Fail, have, want, strings.Join(open[:min(5, len(open))], ", ")+": `banyan backfill` repairs them, a sweep verifies")
	case in.Account == nil:
		j.add(name, Inconclusive, have, want, "the proxies' loss accounts, which tell gaps, have not been read")
	default:
		j.add(name, Pass, have, want, "")
	}
}

func (j *judge) sources() {
	const name, want = "dark sources named", "every dark and unattributed (table, column) mapped or out of scope"
	if j.e.Partitions == 0 {
		j.add(name, Inconclusive, "nothing read", want, "the settled stream has not been read yet")
		return
	}
	var unnamed []string
	for _, s := range j.e.Sources {
		if s.Naming == "" {
			unnamed = append(unnamed, s.Table+"."+s.Column)
		}
	}
	j.verdict(name, len(unnamed) == 0, fmt.Sprintf("%d of %d", len(j.e.Sources)-len(unnamed), len(j.e.Sources)), want,
		"not named: "+strings.Join(unnamed[:min(10, len(unnamed))], ", ")+": map them under rows, or declare them out of scope")
}

// enough is how many answers of each side a p99 needs: one in a hundred has to be there ten times.
const enough = 1000

func (j *judge) latency() {
	want := j.g.LatencyP99
	if want == 0 {
		return
	}
	const name = "latency p99"
	wanted := fmt.Sprintf("candidate at most %gx legacy, route by route", want)
	routes, without := j.expected(true)
	var haves, worse []string
	for _, r := range routes {
		legacy, candidate, ok := r.sides()
		a, okA := legacy.Quantile(.99)
		b, okB := candidate.Quantile(.99)
		if !ok || !okA || !okB {
			without = append(without, fmt.Sprintf("%s (%d and %d answers)", r.Comparison, legacy.N(), candidate.N()))
			continue
		}
		ratio := float64(b) / float64(a)
		have := fmt.Sprintf("%s %.2fx (%s against %s)", r.Comparison, ratio, b.Round(10_000), a.Round(10_000))
		haves = append(haves, have)
		if ratio > want {
			worse = append(worse, have)
		}
	}
	have := strings.Join(haves, ", ")
	switch {
	case len(worse) > 0:
		j.add(name, Fail, have, wanted, "slower: "+strings.Join(worse, ", "))
	case len(without) > 0 || len(haves) == 0:
		j.add(name, Inconclusive, cmp.Or(have, "no route with enough answers"), wanted, fmt.Sprintf("fewer than %d answers of a side: %s", enough, strings.Join(without, ", ")))
	default:
		j.add(name, Pass, have, wanted, "")
	}
}

// sides are the answers to clients where both sides gave enough, else those of the pairs: one window for both in either.
func (c *ComparisonEvidence) sides() (legacy, candidate Histogram, ok bool) {
	if c.Asked != nil {
		legacy, candidate = c.Asked.Latency[capture.Legacy], c.Asked.Latency[capture.Candidate]
		if legacy.N() >= enough && candidate.N() >= enough {
			return legacy, candidate, true
		}
	}
	legacy, candidate = c.Pairs[capture.Legacy], c.Pairs[capture.Candidate]
	return legacy, candidate, legacy.N() >= enough && candidate.N() >= enough
}

func percent(f float64) string { return fmt.Sprintf("%.3g %%", 100*f) }

func top(m map[string]int64) string {
	most, n := "", int64(0)
	for k, v := range m {
		if v > n || v == n && k < most {
			most, n = k, v
		}
	}
	return most
}
