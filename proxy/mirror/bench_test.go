package mirror

import (
	"fmt"
	"strings"
	"testing"

	"banyan/proxy/journal"
)

// BenchmarkShip measures the way from the journal to the acknowledgement of an in-process Kafka, whose work is in the
// figure, for writes of 1 KiB.
func BenchmarkShip(b *testing.B) {
	k := fake(b, "bench")
	j := openJournal(b, b.TempDir())
	body := strings.Repeat("unit=42&to=9&why=be+cause&", 80)[:1024]
	for i := range b.N {
		seq, err := j.AppendIntent(journal.Intent{Payload: intentOf(fmt.Sprintf("match/%d", i%50), body), Ack: journal.AckMemory})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := j.AppendOutcome(seq, journal.Outcome{Payload: resultOf("applied")}); err != nil {
			b.Fatal(err)
		}
	}
	if err := j.Seal(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	m := startMirror(b, j, k)
	if err := m.Drain(b.Context()); err != nil {
		b.Fatal(err)
	}
}
