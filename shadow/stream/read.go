package stream

import (
	"context"
	"fmt"
	"iter"
	"time"

	"banyan/proxy/event"
	"banyan/proxy/kafka"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Earliest stands for the first record that is there.
const Earliest int64 = -1

// ReadTo gives the records of one partition from an offset to the end as it is when reading begins. A from below the
// first record is an error: what was deleted is not left out silently; [Earliest] takes what there is.
// The sequence ends after its first error.
func ReadTo(ctx context.Context, cfg kafka.Config, topic string, partition int32, from int64) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		r, err := newReader(ctx, cfg, topic, partition)
		if err != nil {
			yield(Record{}, err)
			return
		}
		defer r.close()
		switch {
		case from == Earliest:
			from = r.first
		case from < r.first:
			yield(Record{}, deleted(topic, partition, from, r.first))
			return
		}
		r.window(ctx, from, r.end, yield)
	}
}

// Bounds gives the offset of the first record of one partition, and the one after the last, as they are now.
func Bounds(ctx context.Context, cfg kafka.Config, topic string, partition int32) (first, end int64, err error) {
	r, err := newReader(ctx, cfg, topic, partition)
	if err != nil {
		return 0, 0, err
	}
	r.close()
	return r.first, r.end, nil
}

// Tail gives the last k records of one partition, or as many as there are, oldest first.
func Tail(ctx context.Context, cfg kafka.Config, topic string, partition int32, k int) ([]Record, error) {
	r, err := newReader(ctx, cfg, topic, partition)
	if err != nil {
		return nil, err
	}
	defer r.close()
	for step := int64(k); ; step *= 2 {
		lo := max(r.first, r.end-step)
		var out []Record
		for rec, err := range r.all(ctx, lo, r.end) {
			if err != nil {
				return nil, err
			}
			out = append(out, rec)
		}
		if len(out) >= k || lo == r.first {
			return out[max(0, len(out)-k):], nil
		}
	}
}

// Last scans one partition backwards for its last record of a kind. ok is false if there is none.
func Last(ctx context.Context, cfg kafka.Config, topic string, partition int32, kind event.Kind) (rec Record, ok bool, err error) {
	r, err := newReader(ctx, cfg, topic, partition)
	if err != nil {
		return Record{}, false, err
	}
	defer r.close()
	for hi, step := r.end, int64(256); hi > r.first; step = min(2*step, 1<<16) {
		lo := max(r.first, hi-step)
		for x, err := range r.all(ctx, lo, hi) {
			if err != nil {
				return Record{}, false, err
			}
			if x.Kind == kind {
				rec, ok = x, true
			}
		}
		if ok {
			return rec, true, nil
		}
		hi = lo
	}
	return Record{}, false, nil
}

// quickStart lets a partition be fetched as soon as it is added: the client first asks who leads it, and may not ask
// again sooner than this.
func quickStart() kgo.Opt { return kgo.MetadataMinAge(10 * time.Millisecond) }

// reader reads windows of one partition.
type reader struct {
	cl         *kgo.Client
	topic      string
	partition  int32
	first, end int64
}

func newReader(ctx context.Context, cfg kafka.Config, topic string, partition int32) (*reader, error) {
	cl, err := cfg.Client("banyan-reader", kgo.ConsumeResetOffset(kgo.NoResetOffset()), kgo.KeepControlRecords(),
		kgo.FetchMaxBytes(8<<20), kgo.FetchMaxPartitionBytes(4<<20), quickStart())
	if err != nil {
		return nil, err
	}
	r := &reader{cl: cl, topic: topic, partition: partition}
	adm := kadm.NewClient(cl)
	for _, x := range []struct {
		list func(context.Context, ...string) (kadm.ListedOffsets, error)
		to   *int64
	}{{adm.ListStartOffsets, &r.first}, {adm.ListEndOffsets, &r.end}} {
		listed, err := x.list(ctx, topic)
		o, ok := listed.Lookup(topic, partition)
		if err == nil {
			err = o.Err
		}
		if err == nil && !ok {
			err = fmt.Errorf("no such partition")
		}
		if err != nil {
			cl.Close()
			return nil, fmt.Errorf("read %s/%d: offsets: %w", topic, partition, err)
		}
		*x.to = o.Offset
	}
	return r, nil
}

func (r *reader) close() { r.cl.Close() }

func (r *reader) all(ctx context.Context, lo, hi int64) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) { r.window(ctx, lo, hi, yield) }
}

// window gives the records of [lo, hi). Records at hi and above are fetched but not given.
func (r *reader) window(ctx context.Context, lo, hi int64, yield func(Record, error) bool) {
	if lo >= hi {
		return
	}
	r.cl.AddConsumePartitions(map[string]map[int32]kgo.Offset{r.topic: {r.partition: kgo.NewOffset().At(lo)}})
	defer r.cl.RemoveConsumePartitions(map[string][]int32{r.topic: {r.partition}})
	for next := lo; next < hi; {
		fs := r.cl.PollRecords(ctx, 10000)
		if errs := fs.Errors(); len(errs) > 0 {
			yield(Record{}, fmt.Errorf("read %s/%d from offset %d: %w", r.topic, r.partition, next, errs[0].Err))
			return
		}
		for it := fs.RecordIter(); !it.Done(); {
			k := it.Next()
			if k.Offset < next {
				continue
			}
			next = k.Offset + 1
			if k.Offset >= hi {
				return
			}
			if k.Attrs.IsControl() {
				continue
			}
			if !yield(record(k), nil) {
				return
			}
		}
	}
}
