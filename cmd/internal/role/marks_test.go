package role

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"banyan/proxy/control"
	"banyan/proxy/event"
	"banyan/proxy/kafka"
	"banyan/proxy/stage"
)

// A proxy that records nothing says so in its marks, which are then far apart; one that obeys a flip to dualwrite takes
// it back before the next of them is due.
func TestMarksFollowTheStage(t *testing.T) {
	k, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	f := parse(t, strings.NewReplacer("127.0.0.1:1\"], prefix: g", k.ListenAddrs()[0]+"\"], prefix: g, partitions: 1, replication: 1",
		"http: \"http://127.0.0.1:1\"", "http: \"http://127.0.0.1:1\", max_execution: 10ms", "/j", t.TempDir()).Replace(migrated))
	if err := ensureTopics(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	cl, err := f.Kafka.Client("test", kgo.ConsumeTopics(f.Kafka.Topics().Writes()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	p, err := StartProxy(t.Context(), f, Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := p.Stop(ctx); err != nil {
			t.Error(err)
		}
	}()
	<-p.Follower.Ready()
	flipper, err := control.NewFlipper(f.Kafka, p.Follower)
	if err != nil {
		t.Fatal(err)
	}
	defer flipper.Close()
	flip := func(to stage.Stage) {
		_, err := flipper.Flip(t.Context(), stage.Flip{Migration: "units", From: p.Follower.State("units"), To: stage.State{Stage: to}, Who: "test", Reason: "test", At: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var last *event.ReplicaMark
	until := func(idle bool) (before, m *event.ReplicaMark) {
		for {
			var found bool
			cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
				if kafka.KindOf(r) != event.KindReplicaMark || found {
					return
				}
				m, err := event.DecodeReplicaMark(r.Value)
				if err != nil {
					t.Fatal(err)
				}
				if found = m.Idle == idle; found {
					before = last
				}
				last = m
			})
			if found {
				return before, last
			}
			if ctx.Err() != nil {
				t.Fatalf("no mark that says idle: %t", idle)
			}
		}
	}
	for range 10 { // a busy machine may be slow to flip
		until(true)
		flip(stage.DualWrite)
		before, m := until(false)
		if m.Clock.Sub(before.Clock) < idleMarks(f) {
			return
		}
		flip(stage.Off)
	}
	t.Error("a flip does not wake the mirror: ten times, the mark that says it came when it was due anyway")
}
