package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"banyan/proxy/event"
	"banyan/proxy/kafka"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Record is a Kafka record without a Kafka library in the signature. Its bytes must not be changed.
type Record struct {
	Topic      string
	Partition  int32
	Offset     int64
	Kind       event.Kind // "" for a domain event or a foreign record
	Headers    []event.Header
	Key, Value []byte
	Time       time.Time
}

func record(r *kgo.Record) Record {
	return Record{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Kind: kafka.KindOf(r), Headers: kafka.Headers(r),
		Key: r.Key, Value: r.Value, Time: r.Timestamp}
}

// Worker does the work of one partition number.
type Worker interface {
	// Handle gets the next records, of any of the topics, per topic in offset order, at most Config.MaxBatch; or none,
	// when nothing came for Config.Tick. It is called from one goroutine. After an error the worker is closed and
	// opened again, and reads again from where it then says.
	Handle(ctx context.Context, batch []Record) error
	// Close is called once: the partition was lost, the consumer stops, or Handle failed. Nothing is called after it.
	Close(ctx context.Context)
}

// Opener opens the worker of a partition. start says the next offset to read per topic, or [Earliest]; a topic that is
// absent starts at the group's committed offset, else at Config.Begin.
type Opener func(ctx context.Context, partition int32) (w Worker, start map[string]int64, err error)

// Phase is where a partition stands.
type Phase string

// The phases.
const (
	Opening Phase = "opening"
	Running Phase = "running"
	Stalled Phase = "stalled" // Err says why; tried again after a pause
	Closed  Phase = "closed"  // not ours any more
)

// State is told to Config.State at each change of phase.
type State struct {
	Partition int32
	Phase     Phase
	Err       error // of Stalled
	Failures  int   // in a row
}

// Config of a [Consumer].
type Config struct {
	Kafka  kafka.Config
	Group  string   // of the consumer group; one per role and generation
	Topics []string // at least one, all with the same number of partitions
	// Begin is where a partition of a topic starts, by number, when neither the worker says it nor the group has committed
	// an offset. Topics and partitions that are absent: the earliest record.
	Begin map[string][]int64
	// Tick is how long a worker waits for records before it is called without any. Default 50ms, 1ms to 1m.
	Tick time.Duration
	// MaxBatch bounds the records of one call of Handle. Default 5000, 1 to 100000.
	MaxBatch int
	// Session is how long a silent member keeps its partitions: after a crash, a partition rests that long.
	// Default 10s, 1s to 5m; the broker has bounds of its own.
	Session time.Duration
	// RetryMax bounds the pause before a stalled partition is opened again, which doubles from 50ms. Default 5s.
	RetryMax time.Duration
	// State is called at each change of a partition's phase, from the goroutine of that partition; nil: not told.
	State func(State)
	Log   *slog.Logger // nil: no log
	// Options for the Kafka clients, for hooks of telemetry.
	Options []kgo.Opt
}

func (c Config) withDefaults() Config {
	if c.Tick == 0 {
		c.Tick = 50 * time.Millisecond
	}
	if c.MaxBatch == 0 {
		c.MaxBatch = 5000
	}
	if c.Session == 0 {
		c.Session = 10 * time.Second
	}
	if c.RetryMax == 0 {
		c.RetryMax = 5 * time.Second
	}
	if c.State == nil {
		c.State = func(State) {}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Validate names the field, the value and the bound of everything that is wrong; zero means the default.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	if c.Group == "" {
		bad("group: empty")
	}
	if len(c.Topics) == 0 {
		bad("topics: none; want at least one")
	}
	if c.Tick != 0 && (c.Tick < time.Millisecond || c.Tick > time.Minute) {
		bad("tick: %s; want 1ms to 1m", c.Tick)
	}
	if c.MaxBatch < 0 || c.MaxBatch > 100000 {
		bad("max_batch: %d; want 1 to 100000", c.MaxBatch)
	}
	if c.Session != 0 && (c.Session < time.Second || c.Session > 5*time.Minute) {
		bad("session: %s; want 1s to 5m", c.Session)
	}
	if c.RetryMax < 0 {
		bad("retry_max: %s; want more than 0", c.RetryMax)
	}
	return errors.Join(errs...)
}
