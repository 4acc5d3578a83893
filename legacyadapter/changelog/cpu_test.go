package changelog_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"banyan/legacyadapter/changelog"
	"banyan/testdata/lab"
)

func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkIdle is what a publisher costs while legacy does nothing: fences and marks to 24 partitions.
func BenchmarkIdle(b *testing.B) {
	l := onMariaDB(b)
	cfg := topicsN(b, lab.Kafka(b).Brokers, 24)
	start(b, changelog.Config{Kafka: cfg, Mappings: unitsOnly()}, l.src(b))
	awaitMarks(b, cfg)
	began, at := cpu(), time.Now()
	for b.Loop() {
		time.Sleep(100 * time.Millisecond) // what is measured is the time beside it
	}
	b.ReportMetric(100*float64(cpu()-began)/float64(time.Since(at)), "%core")
}

// BenchmarkPublish is the CPU per row from the binary log to Kafka, server and broker apart.
func BenchmarkPublish(b *testing.B) {
	for _, perTxn := range []int{1, 100} {
		b.Run(fmt.Sprintf("%d-rows-per-transaction", perTxn), func(b *testing.B) {
			const rows = 40_000
			l := onMariaDB(b)
			cfg := topicsN(b, lab.Kafka(b).Brokers, 24)
			src := l.src(b)
			r := start(b, changelog.Config{Kafka: cfg, Mappings: unitsOnly()}, src)
			awaitMarks(b, cfg)
			r.stop()
			fill(b, l.db, 5000)
			for n := 0; n < rows; {
				tx, err := l.db.Begin()
				if err != nil {
					b.Fatal(err)
				}
				res, err := tx.Exec(fmt.Sprintf("UPDATE units SET v = v + 1 WHERE id >= %d AND id < %d", n%5000, n%5000+perTxn))
				if err != nil || tx.Commit() != nil {
					b.Fatal(err)
				}
				k, _ := res.RowsAffected()
				n += int(k)
			}
			to := head(b, src)
			b.ResetTimer()
			began, at := cpu(), time.Now()
			p := start(b, changelog.Config{Kafka: cfg, Mappings: unitsOnly()}, src)
			for p.Stats().Position < to {
				time.Sleep(time.Millisecond) // a benchmark of CPU: asking more often would be measured too
			}
			used, took := cpu()-began, time.Since(at)
			n := p.Stats().Rows
			b.ReportMetric(float64(used.Microseconds())/float64(n), "cpu-us/row")
			b.ReportMetric(float64(n)/took.Seconds(), "rows/s")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkSnapshot is rows per second of streaming a table of 300,000 rows.
func BenchmarkSnapshot(b *testing.B) {
	for name, open := range map[string]func(testing.TB) legacy{"MariaDB": onMariaDB, "PostgreSQL": onPostgres} {
		b.Run(name, func(b *testing.B) {
			l := open(b)
			const rows = 200_000
			fill(b, l.db, 1000)
			for i := 1; i < rows/1000; i++ {
				mustExec(b, l.db, fmt.Sprintf("INSERT INTO units (id, match_id, v, name) SELECT id + %d, match_id, v, name FROM units WHERE id < 1000", i*1000))
			}
			src := l.src(b)
			began, n := time.Duration(0), 0
			for b.Loop() {
				s, err := src.Snapshot(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				c := cpu()
				r, err := s.Query(b.Context(), "SELECT * FROM units ORDER BY id")
				if err != nil {
					b.Fatal(err)
				}
				for r.Next() {
					n++
				}
				began += cpu() - c
				if r.Err() != nil {
					b.Fatal(r.Err())
				}
				r.Close()
				s.Close()
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "rows/s")
			b.ReportMetric(float64(began.Nanoseconds())/1000/float64(n), "cpu-us/row")
		})
	}
}
