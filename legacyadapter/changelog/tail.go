package changelog

import (
	"context"
	"fmt"

	"banyan/proxy/event"
	"banyan/proxy/kafka"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// headerSent stands in a mark's record: no change above that position stands before the mark. It can be above the
// mark's own position, which is what was acknowledged by then.
const headerSent = "banyan-sent"

// tail is how far one partition of .changes is: complete up to the last mark, and what stands after it.
type tail struct {
	marked bool
	mark   event.Position
	after  map[identity]struct{} // parts above the mark
	top    event.Position        // highest change
	below  event.Position        // nothing above it stands before what was read; valid if known
	known  bool
	end    int64 // offset after the last record
	start  int64 // offset of the first record that is kept
}

// identity names a part of a transaction whatever the numbering of parts: a mapping may have been added since.
type identity struct {
	position  event.Position
	migration event.Migration
	key       event.OrderingKey
	first     int
}

// readTails reads each partition backwards until its last mark and all changes above that are known. Marks come every
// 50 ms, so that is not far.
func readTails(ctx context.Context, cfg kafka.Config) ([]tail, error) {
	cl, err := cfg.Client("banyan-changelog-tail")
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	topic := cfg.Topics().Changes()
	adm := kadm.NewClient(cl)
	starts, err := adm.ListStartOffsets(ctx, topic)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("first offsets of %s: %w", topic, err)
	}
	ends, err := adm.ListEndOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("last offsets of %s: %w", topic, err)
	}
	tails := make([]tail, len(ends[topic]))
	var open []int32
	for p := range tails {
		e, ok := ends.Lookup(topic, int32(p))
		s, ok2 := starts.Lookup(topic, int32(p))
		if !ok || !ok2 {
			return nil, fmt.Errorf("topic %s: partition %d is missing", topic, p)
		}
		tails[p].end, tails[p].start = e.Offset, s.Offset
		if s.Offset < e.Offset {
			open = append(open, int32(p))
		}
	}
	for back := int64(32); len(open) > 0; back *= 8 {
		if err := readBack(ctx, cfg, tails, open, back); err != nil {
			return nil, err
		}
		var again []int32
		for _, p := range open {
			if t := &tails[p]; !t.complete() && t.end-back > t.start {
				again = append(again, p)
			}
		}
		open = again
	}
	return tails, nil
}

// readBack reads the last records of some partitions.
func readBack(ctx context.Context, cfg kafka.Config, tails []tail, partitions []int32, back int64) error {
	topic := cfg.Topics().Changes()
	offsets := map[int32]kgo.Offset{}
	for _, p := range partitions {
		offsets[p] = kgo.NewOffset().At(max(tails[p].start, tails[p].end-back))
		tails[p] = tail{end: tails[p].end, start: tails[p].start, after: map[identity]struct{}{}}
	}
	cl, err := cfg.Client("banyan-changelog-tail", kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: offsets}))
	if err != nil {
		return err
	}
	defer cl.Close()
	for left := len(partitions); left > 0; {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("read the end of %s: %w", topic, err)
		}
		for _, r := range fetches.Records() {
			t := &tails[r.Partition]
			if r.Offset >= t.end {
				continue
			}
			if err := t.add(r); err != nil {
				return fmt.Errorf("%s, partition %d, offset %d: %w", topic, r.Partition, r.Offset, err)
			}
			if r.Offset == t.end-1 {
				left--
			}
		}
	}
	return nil
}

// complete says that nothing above the mark can stand before what was read.
func (t *tail) complete() bool { return t.marked && t.known && t.below <= t.mark }

// bound notes a position above which nothing stands before the record: the first one read tells most.
func (t *tail) bound(p event.Position) {
	if !t.known || p < t.below {
		t.known, t.below = true, p
	}
}

func (t *tail) add(r *kgo.Record) error {
	switch kafka.KindOf(r) {
	case event.KindReaderMark:
		m, err := event.DecodeReaderMark(r.Value)
		if err != nil {
			return err
		}
		for _, h := range r.Headers {
			if h.Key == headerSent {
				sent, err := event.ParsePosition(string(h.Value))
				if err != nil {
					return err
				}
				t.bound(sent)
				t.top = max(t.top, sent)
			}
		}
		t.marked, t.mark = true, max(t.mark, m.Position)
		for id := range t.after {
			if id.position <= t.mark {
				delete(t.after, id)
			}
		}
	case event.KindChange:
		c, err := event.DecodeChange(r.Value)
		if err != nil {
			return err
		}
		t.top = max(t.top, c.Position)
		if len(c.Rows) == 0 || c.Rows[0].Op == event.Import {
			return nil
		}
		t.bound(c.Position)
		if c.Position > t.mark {
			t.after[identity{c.Position, c.Migration, c.Key, c.Rows[0].N}] = struct{}{}
		}
	}
	return nil
}

// resumeAt is the lowest position that every partition has reached; false if there is none.
func resumeAt(tails []tail) (event.Position, bool) {
	var low event.Position
	found := false
	for i := range tails {
		if t := &tails[i]; t.marked && (!found || t.mark < low) {
			low, found = t.mark, true
		}
	}
	return low, found
}
