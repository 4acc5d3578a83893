package project

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"banyan/proxy/event"
	"banyan/proxy/kafka"
	"banyan/shadow/readmodel"
	"banyan/testdata/lab"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
)

// The child of TestKilledAgainAndAgain is this test binary with its place in the environment.
const (
	childBrokers = "BANYAN_TEST_PROJECT_BROKERS"
	childPrefix  = "BANYAN_TEST_PROJECT_PREFIX"
	childURL     = "BANYAN_TEST_PROJECT_URL"
	childRedis   = "BANYAN_TEST_PROJECT_REDIS"
)

func TestMain(m *testing.M) {
	if os.Getenv(childBrokers) != "" {
		child()
	}
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("banyan/testdata/lab.(*Process).launch.func1"),
		goleak.IgnoreAnyFunction("github.com/jackc/pgx/v5/pgxpool.(*Pool).backgroundHealthCheck"))
}

// stage is a broker and a read model.
type stage struct {
	t     testing.TB
	cfg   Config
	cl    *kgo.Client
	b     *bench // its topic is what was published
	redis readmodel.RedisConfig
}

func newStage(t testing.TB, brokers []string, prefix string) *stage {
	t.Helper()
	cfg := withDocuments(config(t))
	cfg.Kafka = kafka.Config{Brokers: brokers, Prefix: prefix, Partitions: 2, Replication: 1}.WithDefaults()
	cfg.Batch, cfg.DedupWindow, cfg.Session = 200, 2000, time.Second
	cl, err := cfg.Kafka.Producer("test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	tp := cfg.Kafka.Topics()
	err = cfg.Kafka.EnsureTopics(t.Context(), cl, kafka.Topic{Name: tp.Events("units", 1), Forever: true}, kafka.Topic{Name: tp.Parked(), Forever: true},
		kafka.Topic{Name: tp.Progress(), Partitions: 1, Compacted: true})
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{t: t, cfg: cfg, cl: cl, b: &bench{t: t, cfg: cfg, url: lab.Postgres(t).Database(t)},
		redis: readmodel.RedisConfig{URL: "redis://" + lab.Redis(t).Addr, Prefix: prefix, Migration: "units", Generation: 1}}
	s.b.pg = s.b.postgres()
	return s
}

func (s *stage) projector() (*Projector, *readmodel.Redis) {
	s.t.Helper()
	r, err := readmodel.OpenRedis(s.redis)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(r.Close)
	p, err := New(s.cfg, s.b.pg, r)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := p.Start(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(p.Stop)
	return p, r
}

// publish sends what was put into the bench's topic since the last time: events to their partition, marks to both.
func (s *stage) publish() {
	s.t.Helper()
	topic := s.cfg.Kafka.Topics().Events("units", 1)
	var rs []*kgo.Record
	for _, r := range s.b.topic {
		to := []int32{event.Partition(event.OrderingKey(r.Key), 2)}
		if r.Kind == event.KindSettledMark {
			to = []int32{0, 1}
		}
		for _, n := range to {
			k := &kgo.Record{Topic: topic, Partition: n, Key: r.Key, Value: r.Value}
			for _, h := range r.Headers {
				k.Headers = append(k.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
			}
			if r.Kind != "" {
				k.Headers = []kgo.RecordHeader{{Key: event.HeaderKind, Value: []byte(r.Kind)}}
			}
			rs = append(rs, k)
		}
	}
	s.b.topic = nil
	if err := s.cl.ProduceSync(s.t.Context(), rs...).FirstErr(); err != nil {
		s.t.Fatal(err)
	}
}

// reached waits for `.progress` to say a position for both partitions.
func (s *stage) reached(pos event.Position) {
	s.t.Helper()
	cl, err := s.cfg.Kafka.Client("test", kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{s.cfg.Kafka.Topics().Progress(): {0: kgo.NewOffset().At(0)}}))
	if err != nil {
		s.t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	at := map[int32]event.Position{}
	for at[0] < pos || at[1] < pos {
		fs := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			s.t.Fatal("progress stays at", at)
		}
		for _, r := range fs.Records() {
			p, err := event.DecodeProgress(r.Value)
			if err != nil {
				s.t.Fatal(err)
			}
			at[p.Partition] = p.Position
		}
	}
}

func TestFromTopicToReadModel(t *testing.T) {
	f, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	for name, brokers := range map[string]func() []string{"kfake": f.ListenAddrs, "kafka": func() []string { return lab.Kafka(t).Brokers }} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, brokers(), strings.ReplaceAll(lab.Prefix(t), "_", "-"))
			s.b.imported(7, 1)
			s.b.imported(8, 2)
			s.b.moved(7, 1, 5, 10)
			s.b.mark(20)
			s.publish()
			p, r := s.projector()
			s.reached(20)
			s.b.want("1: province 5 hp 100 moves 1\n2: province 1 hp 100 moves 0\n")
			if doc, err := r.Get(t.Context(), "unit:1"); err != nil || !strings.Contains(string(doc), `"province" : 5`) {
				t.Fatal(string(doc), err)
			}
			n := event.Partition("match/7", 2)
			if pr, ok := p.Progress(n); !ok || pr.Position != 20 {
				t.Fatal(pr, ok)
			}
			// Held at 30 while 31 stands in the topic already.
			result := make(chan error, 1)
			var held string
			go func() {
				result <- p.Hold(t.Context(), n, func(context.Context) (event.Position, error) {
					s.b.moved(7, 1, 30, 30)
					s.b.moved(7, 1, 31, 31)
					s.b.mark(40)
					s.publish()
					return 30, nil
				}, func(context.Context, event.Progress) error { held = s.b.state(); return nil })
			}()
			if err := <-result; err != nil || !strings.Contains(held, "1: province 30 ") {
				t.Fatal(err, held)
			}
			s.reached(40)
			s.b.want("1: province 31 hp 100 moves 3\n2: province 1 hp 100 moves 0\n")
			p.Stop()
			p.Stop()
		})
	}
}

// A projector is killed again and again in the middle of its work, in which repeats stand too: counters are exact, and
// documents and tables agree.
func TestKilledAgainAndAgain(t *testing.T) {
	const units, moves, kills = 50, 400, 6
	s := newStage(t, lab.Kafka(t).Brokers, strings.ReplaceAll(lab.Prefix(t), "_", "-"))
	if err := s.b.pg.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	for u := range units {
		s.b.imported(u%10, u)
	}
	for i := range moves {
		for u := range units {
			s.b.moved(u%10, u, i)
		}
		if i%20 == 19 { // what a translator repeats after a crash
			s.b.topic = append(s.b.topic, s.b.topic[len(s.b.topic)-units:]...)
			s.b.mark(event.Position(i))
		}
	}
	s.b.mark(1 << 40)
	s.publish()
	total := func() (n int) {
		snap, err := s.b.pg.Snapshot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer snap.Close(context.Background())
		rows, err := snap.Query(t.Context(), "select coalesce(sum(moves), 0)::bigint as n from units")
		if err != nil {
			t.Fatal(err)
		}
		for v := range rows.All() {
			n, _ = strconv.Atoi(fmt.Sprint(v["n"]))
		}
		return n
	}
	for k := range kills {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childBrokers+"="+strings.Join(s.cfg.Kafka.Brokers, ","), childPrefix+"="+s.cfg.Kafka.Prefix, childURL+"="+s.b.url, childRedis+"="+s.redis.URL)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		before, deadline := total(), time.Now().Add(30*time.Second)
		for now := before; now < units*moves && now < before+units*moves/(kills+1); now = total() {
			if time.Now().After(deadline) {
				t.Fatal("the child does nothing")
			}
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		t.Logf("killed %d times, %d moves", k+1, total())
	}
	p, r := s.projector()
	s.reached(1 << 40)
	if n := total(); n != units*moves {
		t.Fatalf("%d moves, want %d", n, units*moves)
	}
	for u := range units {
		doc, err := r.Get(t.Context(), fmt.Sprint("unit:", u))
		if err != nil || !strings.Contains(string(doc), fmt.Sprintf(`"province" : %d, "hp" : 100, "moves" : %d`, moves-1, moves)) {
			t.Fatalf("unit %d: %s, %v", u, doc, err)
		}
	}
	p.Stop()
}

// child projects until it is killed.
func child() {
	fail := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, "child:", err)
			os.Exit(1)
		}
	}
	ctx := context.Background()
	t := &testing.T{} // only for helpers that do not fail
	cfg := withDocuments(config(t))
	cfg.Kafka = kafka.Config{Brokers: strings.Split(os.Getenv(childBrokers), ","), Prefix: os.Getenv(childPrefix), Partitions: 2, Replication: 1}.WithDefaults()
	cfg.Batch, cfg.DedupWindow, cfg.Session = 200, 2000, time.Second
	pg, err := readmodel.OpenPostgres(ctx, readmodel.PostgresConfig{URL: os.Getenv(childURL), Schema: "banyan_units_g1", DDL: unitsDDL})
	fail(err)
	r, err := readmodel.OpenRedis(readmodel.RedisConfig{URL: os.Getenv(childRedis), Prefix: cfg.Kafka.Prefix, Migration: "units", Generation: 1})
	fail(err)
	p, err := New(cfg, pg, r)
	fail(err)
	fail(p.Start(ctx))
	select {}
}
