package journal

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkGroupCommit measures a write (intent and outcome, 2 KiB and 300 bytes) with 64 concurrent writers, wall
// and CPU, and in the same run a log that syncs each intent by itself.
func BenchmarkGroupCommit(b *testing.B) {
	body, answer := make([]byte, 2048), make([]byte, 300)
	var naive, grouped float64
	b.Run("each", func(b *testing.B) {
		f, err := osFS{}.Create(b.TempDir() + "/naive")
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		if err := f.Allocate(64 << 20); err != nil {
			b.Fatal(err)
		}
		var mu sync.Mutex
		var at int64
		var buf []byte
		write := func(p []byte, sync bool) {
			mu.Lock()
			defer mu.Unlock()
			r := record{kind: kindIntent, payload: p}
			r.checksum(1)
			buf = appendRecord(buf[:0], 1, &r)
			if _, err := f.WriteAt(buf, at%(60<<20)); err != nil {
				b.Error(err)
			}
			at += int64(len(buf))
			if sync {
				if err := f.Sync(); err != nil {
					b.Error(err)
				}
			}
		}
		naive = run(b, func() { write(body, true); write(answer, false) })
	})
	for _, c := range []struct {
		name string
		ack  Ack
		ship bool // the files go round
	}{{"journal", AckJournal, false}, {"shipped", AckJournal, true}, {"memory", AckMemory, false}} {
		b.Run(c.name, func(b *testing.B) {
			j := mustOpen(b, Config{Dir: b.TempDir(), Log: slog.New(slog.DiscardHandler)})
			if c.ship {
				defer ship(b, j)()
			}
			rate := run(b, func() {
				seq, err := j.AppendIntent(Intent{Payload: body, Ack: c.ack})
				if err == nil {
					_, err = j.AppendOutcome(seq, Outcome{Payload: answer})
				}
				if err != nil {
					b.Error(err)
				}
			})
			if c.name == "journal" {
				grouped = rate
			}
		})
	}
	if naive > 0 {
		b.Logf("group commit: %.1f times the writes of one sync each", grouped/naive)
	}
}

// ship reads and acknowledges whatever comes until what it gives is called.
func ship(b *testing.B, j *Journal) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		var it Item
		for n := 1; j.Cursor().Next(ctx, &it) == nil; n++ {
			if n%256 == 0 {
				if err := j.Cursor().Ack(it.Ship); err != nil {
					b.Error(err)
				}
			}
		}
	})
	return func() { cancel(); wg.Wait() }
}

// run has 64 writers do b.N operations, and reports CPU per operation and writes per second.
func run(b *testing.B, op func()) (rate float64) {
	b.ReportAllocs()
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	start, used := time.Now(), cpu()
	b.ResetTimer()
	for range 64 {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				op()
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64((cpu()-used).Nanoseconds())/float64(b.N)/1000, "cpu-µs/op")
	rate = float64(b.N) / time.Since(start).Seconds()
	b.ReportMetric(rate, "writes/s")
	return rate
}

// BenchmarkCursor measures reading for shipping.
func BenchmarkCursor(b *testing.B) {
	j := mustOpen(b, Config{Dir: b.TempDir(), Log: slog.New(slog.DiscardHandler)})
	body := make([]byte, 2048)
	for range b.N {
		seq, err := j.AppendIntent(Intent{Payload: body, Ack: AckMemory})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := j.AppendOutcome(seq, Outcome{Payload: body[:300]}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	var it Item
	for range b.N {
		if err := j.Cursor().Next(context.Background(), &it); err != nil {
			b.Fatal(err)
		}
		if it.Ship%256 == 0 {
			if err := j.Cursor().Ack(it.Ship); err != nil {
				b.Fatal(err)
			}
		}
	}
}
