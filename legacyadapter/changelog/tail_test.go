package changelog

import (
	"context"
	"testing"
	"time"

	"banyan/proxy/event"
	"banyan/proxy/kafka"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// A mark can stand behind changes that it does not promise yet, further back than one look. All of them are found, and
// nothing at or below the mark; imports are not part of it.
func TestTailFindsEverythingAboveTheMark(t *testing.T) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cfg := kafka.Config{Brokers: c.ListenAddrs(), Prefix: "p", Partitions: 3, Replication: 1}.WithDefaults()
	cl, err := cfg.Producer("test")
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	topic := cfg.Topics().Changes()
	if err := cfg.EnsureTopics(ctx, cl, kafka.Topic{Name: topic}); err != nil {
		t.Fatal(err)
	}
	var rs []*kgo.Record
	change := func(n int32, p event.Position, op event.Op) {
		x := event.Change{V: 1, Migration: "units", Key: "k", Position: p, Rows: []event.RowChange{{Table: "u", Op: op}}}
		rs = append(rs, kafka.Record(topic, n, event.KindChange, "k", event.Encode(&x)))
	}
	mark := func(n int32, p, sent event.Position) {
		r := kafka.Record(topic, n, event.KindReaderMark, "", event.Encode(&event.ReaderMark{V: 1, Position: p}))
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: headerSent, Value: []byte(sent.String())})
		rs = append(rs, r)
	}
	for p := range event.Position(500) {
		change(0, p+1, event.Insert)
	}
	mark(0, 100, 500) // 400 changes before it are not promised
	change(0, 501, event.Insert)
	change(0, 501, event.Import)
	for p := range event.Position(500) { // many marks, few changes: not all of it is read
		change(1, 2*p+1, event.Insert)
		mark(1, 2*p+2, 2*p+1)
	}
	change(1, 2000, event.Insert)
	if err := cl.ProduceSync(ctx, rs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	tails, err := readTails(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if got := tails[0]; got.mark != 100 || len(got.after) != 401 || got.top != 501 {
		t.Errorf("partition 0: mark %s, %d above, top %s; want 100, 401, 501", got.mark, len(got.after), got.top)
	}
	if got := tails[1]; got.mark != 1000 || len(got.after) != 1 || got.top != 2000 {
		t.Errorf("partition 1: mark %s, %d above, top %s", got.mark, len(got.after), got.top)
	}
	if got := tails[2]; got.marked || got.end != 0 {
		t.Errorf("an empty partition: %+v", got)
	}
	if p, ok := resumeAt(tails); !ok || p != 100 {
		t.Errorf("resume at %s, %v", p, ok)
	}
}
