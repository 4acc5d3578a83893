package control

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"banyan/proxy/event"
	"banyan/proxy/kafka"
	"banyan/proxy/stage"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func cluster(t *testing.T) (kafka.Config, *kfake.Cluster) {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	cfg := kafka.Config{Brokers: c.ListenAddrs(), Partitions: 2, Replication: 1}.WithDefaults()
	cl, err := cfg.Client("test")
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cfg.EnsureTopics(t.Context(), cl, cfg.Base()...); err != nil {
		t.Fatal(err)
	}
	return cfg, c
}

func follow(t *testing.T, c FollowerConfig) *Follower {
	t.Helper()
	c.Log = slog.New(slog.DiscardHandler)
	f, err := Follow(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Stop)
	<-f.Ready()
	return f
}

func to(s stage.Stage) stage.State { return stage.State{Stage: s} }

func TestFlipIsObeyedByEverybody(t *testing.T) {
	cfg, _ := cluster(t)
	obeyed := make(chan stage.State, 10)
	follow(t, FollowerConfig{Kafka: cfg, Obey: func(m map[event.Migration]stage.State) {
		if s, ok := m["units"]; ok {
			obeyed <- s
		}
	}})
	mine := follow(t, FollowerConfig{Kafka: cfg})
	p, err := NewFlipper(cfg, mine)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	e, err := p.Flip(t.Context(), stage.Flip{Migration: "units", From: mine.State("units"), To: to(stage.DualWrite), Who: "test", Reason: "start", At: time.Now()})
	if err != nil || e.To.Version != 1 {
		t.Fatal(e, err)
	}
	if s := <-obeyed; s.Stage != stage.DualWrite || s.Version != 1 {
		t.Fatal(s)
	}
	if h := mine.History("units"); len(h) != 1 || h[0].Reason != "start" {
		t.Fatal(h)
	}
	late := follow(t, FollowerConfig{Kafka: cfg})
	if s := late.State("units"); s.Stage != stage.DualWrite {
		t.Fatal("a proxy that starts later reads the log to its end before it is ready:", s)
	}
}

func TestConcurrentFlipsCannotBothWin(t *testing.T) {
	cfg, _ := cluster(t)
	f := follow(t, FollowerConfig{Kafka: cfg})
	var won, lost int
	var mu sync.Mutex
	var wg sync.WaitGroup
	from := f.State("units")
	for range 8 {
		p, err := NewFlipper(cfg, f)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		wg.Go(func() {
			_, err := p.Flip(t.Context(), stage.Flip{Migration: "units", From: from, To: to(stage.DualWrite), Reason: "race"})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				won++
			case errors.Is(err, ErrLost):
				lost++
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won != 1 || lost != 7 {
		t.Fatalf("%d won, %d lost; want 1 and 7", won, lost)
	}
}

func TestFlipNeedsAReason(t *testing.T) {
	cfg, _ := cluster(t)
	f := follow(t, FollowerConfig{Kafka: cfg})
	p, err := NewFlipper(cfg, f)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, err := p.Flip(t.Context(), stage.Flip{Migration: "units", From: f.State("units"), To: to(stage.DualWrite)}); err == nil || !strings.Contains(err.Error(), "reason") {
		t.Fatal(err)
	}
	if h := f.History(""); len(h) != 0 {
		t.Fatal("what cannot count was appended", h)
	}
}

func TestRestartWithoutKafkaKeepsTheLastStage(t *testing.T) {
	cfg, c := cluster(t)
	file := filepath.Join(t.TempDir(), "stages.json")
	f := follow(t, FollowerConfig{Kafka: cfg, File: file})
	p, err := NewFlipper(cfg, f)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, err := p.Flip(t.Context(), stage.Flip{Migration: "units", From: f.State("units"), To: to(stage.DualWrite), Reason: "r"}); err != nil {
		t.Fatal(err)
	}
	f.Stop()
	c.Close()
	again, err := Follow(t.Context(), FollowerConfig{Kafka: cfg, File: file, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Stop()
	if s := again.State("units"); s.Stage != stage.DualWrite || s.Version != 1 {
		t.Fatal(s)
	}
	select {
	case <-again.Ready():
		t.Fatal("ready without having read the log")
	default:
	}
}

func beacon(t *testing.T, cfg kafka.Config, name event.Replica, states func() map[event.Migration]stage.State) *Beacon {
	t.Helper()
	b, err := NewBeacon(cfg, slog.New(slog.DiscardHandler), name, 1, "", states)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestFlipIsDoneOnlyWhenObeyed(t *testing.T) {
	cfg, _ := cluster(t)
	var mu sync.Mutex
	version := uint64(1)
	states := func() map[event.Migration]stage.State {
		mu.Lock()
		defer mu.Unlock()
		return map[event.Migration]stage.State{"units": {Version: version}}
	}
	a := beacon(t, cfg, "a", states)
	a.Start(t.Context())
	defer a.Stop()
	w, err := WatchReplicas(t.Context(), cfg, slog.New(slog.DiscardHandler), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	if live, err := w.Await(t.Context(), "units", 0); err != nil {
		t.Fatal(live, err)
	}
	for len(w.Live()) == 0 { // the first heartbeat is under way
		w.mu.Lock()
		next := w.changed
		w.mu.Unlock()
		if len(w.Live()) == 0 {
			<-next
		}
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := w.Await(short, "units", 2); err == nil || !strings.Contains(err.Error(), "waiting for a") {
		t.Fatal("done before the proxy obeyed:", err)
	}
	mu.Lock()
	version = 2
	mu.Unlock()
	a.Wake()
	if live, err := w.Await(t.Context(), "units", 2); err != nil || len(live) != 1 || live[0].Obeys["units"] != 2 {
		t.Fatal(live, err)
	}
}

func TestAProxyThatSaidGoodbyeIsNotWaitedFor(t *testing.T) {
	cfg, _ := cluster(t)
	b := beacon(t, cfg, "a", func() map[event.Migration]stage.State { return nil })
	b.Start(t.Context())
	b.Stop()
	w, err := WatchReplicas(t.Context(), cfg, slog.New(slog.DiscardHandler), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	<-w.Ready()
	if live, err := w.Await(t.Context(), "units", 5); err != nil || len(live) != 0 {
		t.Fatal(live, err)
	}
}

func TestAnExpiredLeaseIsNotWaitedFor(t *testing.T) {
	now := time.Unix(1000, 0)
	w := &Watch{now: func() time.Time { return now }, margin: time.Second, changed: make(chan struct{}),
		beats: map[event.Replica]*Heartbeat{"a": {Replica: "a", Until: time.Unix(999, 0)}}}
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	now = time.Unix(999, 999e6)
	if _, err := w.Await(short, "units", 1); err == nil {
		t.Fatal("its clock may be late by the margin: it may still obey the old stage")
	}
	now = time.Unix(1000, 1)
	if _, err := w.Await(t.Context(), "units", 1); err != nil {
		t.Fatal(err)
	}
}

func TestLeaseCountsFromBeforeTheSend(t *testing.T) {
	cfg, _ := cluster(t)
	b := beacon(t, cfg, "a", func() map[event.Migration]stage.State { return nil })
	defer b.cl.Close()
	clock := time.Unix(1000, 0)
	b.now = func() time.Time { return clock }
	if b.Leased() {
		t.Fatal("leased before any heartbeat was acknowledged")
	}
	b.states = func() map[event.Migration]stage.State { // runs between reading the clock and the acknowledgement
		clock = clock.Add(Lease)
		return nil
	}
	if err := b.beat(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if b.Leased() {
		t.Fatal("the lease counts from the acknowledgement: a flip could be done while this proxy still obeys the old stage")
	}
}

// A broker that goes silent with a heartbeat in its hands keeps no process from ending.
func TestABeaconEndsThoughKafkaIsSilent(t *testing.T) {
	cfg, c := cluster(t)
	silent, asked := make(chan struct{}), make(chan struct{}, 1)
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		select {
		case asked <- struct{}{}:
		default:
		}
		<-silent
		return nil, nil, false
	})
	b, err := NewBeacon(cfg, slog.New(slog.DiscardHandler), "a", 1, "", func() map[event.Migration]stage.State { return nil })
	if err != nil {
		t.Fatal(err)
	}
	b.Start(t.Context())
	<-asked
	ended := make(chan struct{})
	go func() { b.Stop(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Error("it waits for the broker")
	}
	close(silent)
	<-ended
	b.Stop() // again
}
