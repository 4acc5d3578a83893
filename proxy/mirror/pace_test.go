package mirror

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestBatchesKeepDistance: the next batch waits by how full the last one was, counted from when that was sent.
func TestBatchesKeepDistance(t *testing.T) {
	for _, c := range []struct {
		pace    time.Duration
		carried int
		ago     time.Duration
		want    time.Duration
	}{
		{16 * time.Second, 0, 0, 0}, // the first
		{16 * time.Second, 1, 0, time.Second},
		{16 * time.Second, 8, 3 * time.Second, 5 * time.Second},
		{16 * time.Second, 16, 0, 16 * time.Second},
		{16 * time.Second, 2000, 0, 16 * time.Second},
		{16 * time.Second, 2000, time.Minute, 0},
		{-1, 2000, 0, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			m := Mirror{cfg: Config{Pace: c.pace}, carried: c.carried, began: time.Now().Add(-c.ago)}
			start := time.Now()
			if err := m.rest(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := time.Since(start); got != c.want {
				t.Errorf("pace %s, %d records %s ago: waits %s, want %s", c.pace, c.carried, c.ago, got, c.want)
			}
		})
	}
}

// TestStopEndsTheRest: who stops a mirror does not wait for its pace.
func TestStopEndsTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		m := Mirror{cfg: Config{Pace: time.Hour}, carried: companions, began: time.Now()}
		time.AfterFunc(time.Second, cancel)
		start := time.Now()
		if err := m.rest(ctx); !errors.Is(err, context.Canceled) || time.Since(start) != time.Second {
			t.Errorf("rest ends with %v after %s, want a cancelled context after 1s", err, time.Since(start))
		}
	})
}

// TestWritesShareABatch: what comes while a batch keeps its distance is shipped together.
func TestWritesShareABatch(t *testing.T) {
	j := openJournal(t, t.TempDir())
	shipped := make(chan int, 64)
	startMirror(t, j, fake(t, "pace"), func(c *Config) {
		c.Pace = 48 * time.Second // 3 s after a batch of one
		c.Hooks.Shipped = func(n int, _ time.Duration) { shipped <- n }
	})
	write(t, j, "match/1", "first")
	if n := <-shipped; n != 1 {
		t.Fatalf("the first batch has %d writes", n)
	}
	for range 10 {
		write(t, j, "match/1", "x")
	}
	if n := <-shipped; n != 10 {
		t.Errorf("ten writes right after it are shipped in pieces, the first of %d", n)
	}
}
