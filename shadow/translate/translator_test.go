package translate

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"banyan/proxy/event"
	"banyan/proxy/kafka"
	"banyan/shadow/stream"
	"banyan/testdata/lab"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// The shared server lives until the process ends.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("banyan/testdata/lab.(*Process).launch.func1"))
}

// settled is a broker with the topics of one migration.
type settled struct {
	t   *testing.T
	cfg kafka.Config
	cl  *kgo.Client
}

func eachBroker(t *testing.T, story func(s *settled)) {
	t.Run("kfake", func(t *testing.T) {
		f, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(100*time.Millisecond))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(f.Close)
		story(newSettled(t, f.ListenAddrs(), "t"))
	})
	t.Run("kafka", func(t *testing.T) {
		story(newSettled(t, lab.Kafka(t).Brokers, strings.ReplaceAll(lab.Prefix(t), "_", "-")))
	})
}

func newSettled(t *testing.T, brokers []string, prefix string) *settled {
	cfg := kafka.Config{Brokers: brokers, Prefix: prefix, Partitions: 2, Replication: 1}.WithDefaults()
	cl, err := cfg.Producer("test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	tp := cfg.Topics()
	if err := cfg.EnsureTopics(t.Context(), cl, kafka.Topic{Name: tp.Settled(), Forever: true}, kafka.Topic{Name: tp.Parked(), Forever: true},
		kafka.Topic{Name: tp.Events("units", 1), Forever: true}); err != nil {
		t.Fatal(err)
	}
	return &settled{t, cfg, cl}
}

// put publishes entries to their partitions and marks to both.
func (s *settled) put(what ...any) {
	s.t.Helper()
	for _, x := range what {
		var rs []*kgo.Record
		switch x := x.(type) {
		case *event.Entry:
			rs = []*kgo.Record{kafka.Record(s.cfg.Topics().Settled(), event.Partition(x.Key, 2), event.KindEntry, string(x.Key), event.Encode(x))}
		case *event.SettledMark:
			for n := range int32(2) {
				rs = append(rs, kafka.Record(s.cfg.Topics().Settled(), n, event.KindSettledMark, "", event.Encode(x)))
			}
		}
		if err := s.cl.ProduceSync(s.t.Context(), rs...).FirstErr(); err != nil {
			s.t.Fatal(err)
		}
	}
}

// until reads a partition of the events until a mark of the position, and gives what stood there, one line each.
func (s *settled) until(n int32, pos event.Position) (lines string, last *event.SettledMark) {
	s.t.Helper()
	topic := s.cfg.Topics().Events("units", 1)
	cl, err := s.cfg.Client("test", kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {n: kgo.NewOffset().At(0)}}))
	if err != nil {
		s.t.Fatal(err)
	}
	defer cl.Close()
	for {
		fs := cl.PollFetches(s.t.Context())
		if err := fs.Err(); err != nil {
			s.t.Fatal(err)
		}
		for _, r := range fs.Records() {
			if kafka.KindOf(r) == event.KindSettledMark {
				if last, err = event.DecodeSettledMark(r.Value); err != nil {
					s.t.Fatal(err)
				}
				if last.Position >= pos {
					return lines, last
				}
				continue
			}
			e, err := event.ParseEvent(kafka.Headers(r), r.Value)
			if err != nil {
				s.t.Fatal(err)
			}
			lines += fmt.Sprintf("%s %s %s\n", e.Key, e.Type, e.Data)
		}
	}
}

// committed waits until a translator will not read the entries of a partition again. A mark is seen before that: one that
// is stopped in between repeats its last batch, and what it parked may not be in Kafka yet. A mark at the end may be open.
func (s *settled) committed(tr *Translator, n int32) {
	s.t.Helper()
	topic := s.cfg.Topics().Settled()
	_, end, err := stream.Bounds(s.t.Context(), s.cfg, topic, n)
	if err != nil {
		s.t.Fatal(err)
	}
	for adm := kadm.NewClient(s.cl); ; { // each round waits for the broker
		all, err := adm.FetchOffsets(s.t.Context(), tr.Group())
		if err != nil {
			s.t.Fatal(err)
		}
		if o, ok := all.Lookup(topic, n); ok && o.At >= end-1 {
			return
		}
	}
}

func keyed(key event.OrderingKey, c event.SettledChange, ws ...event.SettledWrite) *event.Entry {
	return &event.Entry{V: 1, Migration: "units", Key: key, From: c.Position, To: c.Position, Changes: []event.SettledChange{c}, Writes: ws}
}

func mark(pos int) *event.SettledMark {
	return &event.SettledMark{V: 1, Position: event.Position(pos), Held: []event.Held{{Migration: "units", Key: "match/99", From: 3}}}
}

func (s *settled) start(r *Rules) *Translator {
	s.t.Helper()
	tr := New(r, s.cfg, nil)
	if err := tr.Start(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(tr.Stop)
	return tr
}

func TestAKeyThatCannotBeTranslatedStopsAlone(t *testing.T) {
	eachBroker(t, func(s *settled) {
		// Two keys of one partition.
		good, bad := event.OrderingKey("match/7"), event.OrderingKey("")
		n := event.Partition(good, 2)
		for i := 8; bad == ""; i++ {
			if k := event.OrderingKey(fmt.Sprint("match/", i)); event.Partition(k, 2) == n {
				bad = k
			}
		}
		damage := func(pos, hp int) event.SettledChange {
			return changed(pos, none, unit(42, 1, hp+1, "a"), unit(42, 1, hp, "a"))
		}
		broken := damage(6, 40)
		broken.Rows[0].After = event.Values{"id": num(42)} // legacy's table has lost a column
		other := keyed(good, damage(5, 77))
		other.Migration = "economy"
		s.put(keyed(good, damage(4, 50)), keyed(bad, damage(5, 50)), other, keyed(bad, broken), keyed(bad, damage(7, 30)), keyed(good, damage(8, 20)), mark(9))
		tr := s.start(rules(s.t))
		lines, m := s.until(n, 9)
		want(s.t, lines, `match/7 unit.damaged {"hp":50}`, string(bad)+` unit.damaged {"hp":50}`, `match/7 unit.damaged {"hp":20}`)
		if len(m.Held) != 2 || m.Held[0].Key != "match/99" || m.Held[1] != (event.Held{Migration: "units", Key: bad, From: 6}) {
			s.t.Fatal(m.Held)
		}
		if st := tr.Stats(); st.Parked.Load() != 1 || st.Waiting.Load() != 1 {
			s.t.Fatal("parked", st.Parked.Load(), "waiting", st.Waiting.Load())
		}
		s.committed(tr, n)
		tr.Stop()

		// Another process: the key is still parked, nothing is told twice.
		s.put(keyed(bad, damage(10, 10)), keyed(good, damage(11, 5)), mark(12))
		s.start(rules(s.t))
		lines, m = s.until(n, 12)
		want(s.t, lines, `match/7 unit.damaged {"hp":50}`, string(bad)+` unit.damaged {"hp":50}`, `match/7 unit.damaged {"hp":20}`, `match/7 unit.damaged {"hp":5}`)
		if len(m.Held) != 2 {
			s.t.Fatal(m.Held)
		}
		var parked []*event.Parked
		for r, err := range stream.ReadTo(s.t.Context(), s.cfg, s.cfg.Topics().Parked(), n, stream.Earliest) {
			if err != nil {
				s.t.Fatal(err)
			}
			p, err := event.DecodeParked(r.Value)
			if err != nil {
				s.t.Fatal(err)
			}
			parked = append(parked, p)
		}
		if len(parked) != 1 || parked[0].Key != bad || !strings.Contains(parked[0].Reason, "row.hp") || parked[0].Position != 6 {
			s.t.Fatalf("%+v", parked)
		}
	})
}

func TestMarksReachEveryPartition(t *testing.T) {
	eachBroker(t, func(s *settled) {
		s.put(mark(5))
		s.start(rules(s.t))
		for n := range int32(2) {
			if lines, m := s.until(n, 5); lines != "" || m.Position != 5 {
				s.t.Fatal(n, lines, m)
			}
		}
	})
}
