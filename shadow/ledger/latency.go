package ledger

import (
	"context"
	"math"
	"slices"
	"time"

	"banyan/proxy/capture"
)

// Latency adds one measurement of a side's answer.
type Latency struct {
	Comparison Comparison
	Side       capture.Side
	Took       time.Duration
}

// Histogram has an upper bound in microseconds per bucket but the last, which has none.
type Histogram struct {
	Bounds  []int64  `json:"bounds"`
	Buckets []uint64 `json:"buckets"`
}

// bounds of the histograms that are made here: 100 µs to some 60 s, a fifth more each time.
var bounds = func() []int64 {
	var b []int64
	for x := 100.0; x < 60e6; x *= 1.2 {
		b = append(b, int64(math.Round(x)))
	}
	return b
}()

// N is how many it holds.
func (h Histogram) N() uint64 {
	n := uint64(0)
	for _, b := range h.Buckets {
		n += b
	}
	return n
}

// Quantile interpolates within its bucket. ok is false for an empty histogram, one that is none, and a quantile that lies
// in the bucket without a bound.
func (h Histogram) Quantile(q float64) (d time.Duration, ok bool) {
	n := h.N()
	if n == 0 || len(h.Buckets) != len(h.Bounds)+1 {
		return 0, false
	}
	rank, below := q*float64(n), 0.0
	for i, c := range h.Buckets {
		if below+float64(c) < rank || c == 0 {
			below += float64(c)
			continue
		}
		if i == len(h.Bounds) {
			return 0, false
		}
		low := int64(0)
		if i > 0 {
			low = h.Bounds[i-1]
		}
		us := float64(low) + (rank-below)/float64(c)*float64(h.Bounds[i]-low)
		return time.Duration(us * float64(time.Microsecond)), true
	}
	return 0, false
}

func (c *commit) latency(ctx context.Context) error {
	type key struct {
		comparison Comparison
		side       capture.Side
	}
	sum := map[key][]int64{}
	for _, l := range c.b.Latency {
		k := key{l.Comparison, l.Side}
		if sum[k] == nil {
			sum[k] = make([]int64, len(bounds)+1)
		}
		i, _ := slices.BinarySearch(bounds, l.Took.Microseconds())
		sum[k][i]++
	}
	for k, buckets := range sum {
		if _, err := c.tx.Exec(ctx, `insert into latency values ($1, $2, $3, $4, $5)
			on conflict (migration, comparison, fingerprint, side) do update
			set buckets = (select array_agg(coalesce(a, 0) + coalesce(b, 0) order by i) from unnest(latency.buckets, excluded.buckets) with ordinality u(a, b, i))`,
			c.b.Migration, k.comparison, c.b.Fingerprint, k.side, buckets); err != nil {
			return err
		}
	}
	return nil
}
