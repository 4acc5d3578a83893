package changelog_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"banyan/legacyadapter/changelog"
	"banyan/legacyadapter/mysql"
	"banyan/legacyadapter/postgres"
	"banyan/proxy/event"
	"banyan/proxy/kafka"
	"banyan/testdata/lab"
)

// A test binary started with this set is a publisher: kind, address, slot, brokers, prefix.
const asPublisher = "BANYAN_TEST_PUBLISHER"

func TestMain(m *testing.M) {
	if v := os.Getenv(asPublisher); v != "" {
		if err := publishFor(strings.Split(v, "|")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func publishFor(arg []string) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	var src changelog.Source
	var err error
	if arg[0] == "mysql" {
		src, err = mysql.New(mysql.Config{DSN: arg[1], Tables: []string{"units"}}, log)
	} else {
		src, err = postgres.New(postgres.Config{URL: arg[1], Slot: arg[2], Tables: []string{"units"}}, log)
	}
	if err != nil {
		return err
	}
	cfg := kafka.Config{Brokers: strings.Split(arg[3], ","), Prefix: arg[4], Partitions: partitions, Replication: 1}
	p, err := changelog.New(changelog.Config{Kafka: cfg, Mappings: unitsOnly()}, src, log, nil)
	if err != nil {
		return err
	}
	return p.Run(context.Background())
}

// Killed at random moments under load, the publisher loses nothing, repeats nothing in a partition, and no mark lies.
func TestKilledPublisher(t *testing.T) {
	both(t, func(t *testing.T, l legacy) {
		cfg := broker(t)
		fill(t, l.db, 200)
		src := l.src(t)
		r := start(t, changelog.Config{Kafka: cfg, Mappings: unitsOnly()}, src)
		awaitMarks(t, cfg)
		r.stop()
		src.(interface{ Close() error }).Close()
		before, _ := tableNow(t, src)
		stop := make(chan struct{})
		wg := play(t, l.db, 3, 220, stop)
		for range 10 {
			cmd := exec.Command(os.Args[0], "-test.run=^$")
			cmd.Env = append(os.Environ(), asPublisher+"="+strings.Join([]string{l.kind, l.address, l.slot, strings.Join(cfg.Brokers, ","), cfg.Prefix}, "|"))
			if testing.Verbose() {
				cmd.Stderr = os.Stderr
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Duration(100+rand.IntN(500)) * time.Millisecond) // the moment is the point
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
		close(stop)
		wg.Wait()
		start(t, changelog.Config{Kafka: cfg, Mappings: unitsOnly()}, src)
		want, high := tableNow(t, src)
		f := &fold{t: t, rows: before, complete: true}
		f.all(until(t, cfg, high))
		f.equals(want)
	})
}

// The server is shut down, killed and its log files are changed under load; the stream goes on as if nothing was.
func TestRestartedMariaDB(t *testing.T) {
	server := lab.NewMariaDB(t)
	l := mariaDBOn(t, server)
	cfg := broker(t)
	fill(t, l.db, 200)
	src := l.src(t)
	var lost atomic.Int64
	p, err := changelog.New(changelog.Config{Kafka: cfg, Mappings: unitsOnly()}, src, logger(t), func(s changelog.State, err error) {
		if s == changelog.Connecting && err != nil {
			lost.Add(1)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	run(t, p)
	awaitMarks(t, cfg)
	before, _ := tableNow(t, src)
	stop := make(chan struct{})
	wg := play(t, l.db, 3, 220, stop)
	for i := range 3 {
		for range 3 {
			mustExec(t, l.db, "FLUSH LOGS")
			time.Sleep(50 * time.Millisecond) // let some transactions into each file
		}
		if i%2 == 0 {
			err = server.Crash()
		} else {
			err = server.Stop()
		}
		if err == nil {
			err = server.Start(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	wg.Wait()
	want, high := tableNow(t, src)
	f := &fold{t: t, rows: before, complete: true}
	f.all(until(t, cfg, high))
	f.equals(want)
	if lost.Load() == 0 {
		t.Error("nobody was told that the reader lost its server")
	}
	if high.File() < 12 {
		t.Errorf("at %s: the log files were not changed", high)
	}
	t.Logf("%+v", p.Stats())
}

// What only a person can mend stops the reader and says how.
func TestStops(t *testing.T) {
	server := lab.NewMariaDB(t)
	l := mariaDBOn(t, server)
	cfg := broker(t)
	src := l.src(t)
	config := changelog.Config{Kafka: cfg, Mappings: unitsOnly()}
	r := start(t, config, src)
	awaitMarks(t, cfg)
	r.stop()
	expect := func(what, hint string) {
		t.Helper()
		p, err := changelog.New(config, src, logger(t), nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err = p.Run(ctx); !changelog.IsStop(err) || !strings.Contains(err.Error(), hint) || p.Stats().State != changelog.Stopped {
			t.Errorf("%s: %v, state %s; want an error that names %q", what, err, p.Stats().State, hint)
		}
		t.Log(err)
	}
	mustExec(t, l.db, "INSERT INTO units (id, match_id, v) VALUES (1, 1, 1); FLUSH LOGS; FLUSH LOGS")
	for first := ""; ; time.Sleep(10 * time.Millisecond) { // a file is not purged while the ended reader's thread lives
		var size string
		mustExec(t, l.db, "PURGE BINARY LOGS TO '"+fmt.Sprintf("binlog.%06d", head(t, src).File())+"'")
		if err := l.db.QueryRow("SHOW BINARY LOGS").Scan(&first, &size); err != nil {
			t.Fatal(err)
		}
		if first == fmt.Sprintf("binlog.%06d", head(t, src).File()) {
			break
		}
	}
	expect("a purged log", "start_at_head")
	config.StartAtHead = true
	r = start(t, config, src)
	until(t, cfg, head(t, src))
	r.stop()
	config.StartAtHead = false
	config.Kafka.Partitions = partitions + 1
	expect("another number of partitions", fmt.Sprintf("set kafka.partitions to %d", partitions))
	config.Kafka.Partitions = partitions
	mustExec(t, l.db, "ALTER TABLE units MODIFY name LONGTEXT; INSERT INTO units (id, match_id, v, name) VALUES (2, 1, 1, REPEAT('x', 1100000))")
	expect("a row that no record holds", "large columns")
}

// A broker that is away stops nothing but time.
func TestKafkaAway(t *testing.T) {
	l := onMariaDB(t)
	k := lab.NewKafka(t)
	cfg := topics(t, k.Brokers)
	src := l.src(t)
	p := start(t, changelog.Config{Kafka: cfg, Mappings: unitsOnly()}, src)
	awaitMarks(t, cfg)
	before, _ := tableNow(t, src)
	stop := make(chan struct{})
	wg := play(t, l.db, 2, 50, stop)
	if err := k.Crash(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(500 * time.Millisecond) // legacy goes on meanwhile
	if err := k.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	close(stop)
	wg.Wait()
	want, high := tableNow(t, src)
	f := &fold{t: t, rows: before, complete: true}
	f.all(until(t, cfg, high))
	f.equals(want)
	t.Logf("%+v", p.Stats())
}

func run(t testing.TB, p *changelog.Publisher) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = p.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

// behind is a source whose snapshots show less than was read already, as when a commit is in the log before it is seen.
type behind struct {
	changelog.Source
	stale atomic.Int64 // how many snapshots lag
	asked atomic.Int64
	old   func(ctx context.Context) (changelog.Snapshot, error)
}

func (b *behind) Snapshot(ctx context.Context) (changelog.Snapshot, error) {
	b.asked.Add(1)
	if b.stale.Add(-1) >= 0 {
		return b.old(ctx)
	}
	return b.Source.Snapshot(ctx)
}

// A snapshot older than what the reader had passed when it began to watch is thrown away: its rows may be stale, and
// nobody saw what changed them.
func TestBackfillSnapshotBehindReader(t *testing.T) {
	l := onMariaDB(t)
	cfg := broker(t)
	fill(t, l.db, 20)
	src := &behind{Source: l.src(t)}
	old, err := src.Source.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	src.old = func(context.Context) (changelog.Snapshot, error) { return old, nil }
	src.stale.Store(1)
	p := start(t, changelog.Config{Kafka: cfg, Mappings: unitsOnly(), Checkpoints: &memory{}}, src)
	awaitMarks(t, cfg)
	mustExec(t, l.db, "UPDATE units SET v = 77 WHERE id = 3")
	until(t, cfg, head(t, src)) // the reader has passed it
	if err := p.Backfill(t.Context(), changelog.BackfillRequest{Migration: "units", Table: "units"}, nil); err != nil {
		t.Fatal(err)
	}
	want, high := tableNow(t, src)
	f := &fold{t: t, rows: map[string]event.Values{}}
	f.all(until(t, cfg, high))
	f.equals(want)
	if src.asked.Load() < 2 {
		t.Error("the old snapshot was taken")
	}
}
