package play

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"
	"time"
)

// Totals is what happened, over a run or a window of it.
type Totals struct {
	Requests int
	Errors   int
	Refused  int
	Done     int // writes that were done
	Missed   int // reads that did not show the reader's own write
	Back     int // reads that were older than an earlier one of the same player, in what others did
	Examples []string
	Rows     []Row // by endpoint and side
}

// Row is one endpoint, as one side served it.
type Row struct {
	Endpoint      string
	ServedBy      string // legacy or candidate
	Count         int
	Errors        int
	Refused       int
	P50, P95, P99 time.Duration // upper bounds, 5 % above at most

	took *latencies
}

// maxExamples bounds the examples kept of errors and misses.
const maxExamples = 10

// Side sums the rows of one side whose endpoint is wanted; nil wants all.
func (t Totals) Side(servedBy string, want func(endpoint string) bool) Row {
	sum := Row{ServedBy: servedBy, took: &latencies{}}
	for _, r := range t.Rows {
		if r.ServedBy != servedBy || (want != nil && !want(r.Endpoint)) {
			continue
		}
		sum.Count += r.Count
		sum.Errors += r.Errors
		sum.Refused += r.Refused
		sum.took.merge(r.took)
	}
	sum.quantiles()
	return sum
}

func (r *Row) quantiles() {
	r.P50, r.P95, r.P99 = r.took.quantile(0.50), r.took.quantile(0.95), r.took.quantile(0.99)
}

// Print writes a table for people.
func (t Totals) Print(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "endpoint\tserved by\tcount\terrors\trefused\tp50\tp95\tp99\t")
	for _, r := range t.Rows {
		fmt.Fprintf(tw, "%s\t%s\t%d\t%d\t%d\t%s\t%s\t%s\t\n", r.Endpoint, r.ServedBy, r.Count, r.Errors, r.Refused, ms(r.P50), ms(r.P95), ms(r.P99))
	}
	fmt.Fprintf(tw, "total\t\t%d\t%d\t%d\t\t\t\t\n", t.Requests, t.Errors, t.Refused)
	if err := tw.Flush(); err != nil {
		return fmt.Errorf("print totals: %w", err)
	}
	for _, example := range t.Examples {
		if _, err := fmt.Fprintln(w, example); err != nil {
			return fmt.Errorf("print totals: %w", err)
		}
	}
	return nil
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2fms", float64(d)/1e6) }

// tally counts. Its owner keeps it from being used by two at once.
type tally struct {
	requests, errors, refused int
	done, missed, backwards   int
	rows                      map[[2]string]*row
	examples                  []string
}

type row struct {
	count, errors, refused int
	took                   latencies
}

func (t *tally) exchange(e Exchange) {
	if t.rows == nil {
		t.rows = map[[2]string]*row{}
	}
	key := [2]string{e.Endpoint, e.ServedBy}
	r := t.rows[key]
	if r == nil {
		r = &row{}
		t.rows[key] = r
	}
	t.requests++
	r.count++
	r.took.add(e.Took)
	switch {
	case e.Err != nil:
		t.errors++
		r.errors++
		t.example("error: %s: %v", e.Endpoint, e.Err)
	case e.Refusal != "":
		t.refused++
		r.refused++
	}
}

func (t *tally) wrote() {
	t.done++
}

func (t *tally) miss(format string, args ...any) {
	t.missed++
	t.example("missed: "+format, args...)
}

func (t *tally) back(format string, args ...any) {
	t.backwards++
	t.example("back in time: "+format, args...)
}

func (t *tally) example(format string, args ...any) {
	if len(t.examples) < maxExamples {
		t.examples = append(t.examples, fmt.Sprintf(format, args...))
	}
}

func (t *tally) totals() Totals {
	out := Totals{Requests: t.requests, Errors: t.errors, Refused: t.refused, Done: t.done, Missed: t.missed, Back: t.backwards, Examples: slices.Clone(t.examples)}
	for key, r := range t.rows {
		took := r.took
		sum := Row{Endpoint: key[0], ServedBy: key[1], Count: r.count, Errors: r.errors, Refused: r.refused, took: &took}
		sum.quantiles()
		out.Rows = append(out.Rows, sum)
	}
	slices.SortFunc(out.Rows, func(a, b Row) int {
		return cmp.Or(cmp.Compare(a.Endpoint, b.Endpoint), cmp.Compare(a.ServedBy, b.ServedBy))
	})
	return out
}

// latencies is a histogram whose buckets grow by 5 %, from 10 µs to more than a minute.
type latencies struct {
	buckets [330]int
	n       int
}

const (
	smallest = 10 * time.Microsecond
	growth   = 1.05
)

func (l *latencies) add(d time.Duration) {
	i := 0
	if d > smallest {
		i = int(math.Ceil(math.Log(float64(d)/float64(smallest)) / math.Log(growth)))
	}
	l.buckets[min(i, len(l.buckets)-1)]++
	l.n++
}

func (l *latencies) merge(o *latencies) {
	for i, n := range o.buckets {
		l.buckets[i] += n
	}
	l.n += o.n
}

// quantile is the upper bound of the bucket that holds it, 0 without data.
func (l *latencies) quantile(q float64) time.Duration {
	want, seen := int(math.Ceil(q*float64(l.n))), 0
	for i, n := range l.buckets {
		seen += n
		if n > 0 && seen >= want {
			return time.Duration(float64(smallest) * math.Pow(growth, float64(i)))
		}
	}
	return 0
}
