package journal

import (
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Epoch counts the starts of one root directory. It only grows.
type Epoch uint64

// Seq counts the intents of one epoch, 1 is the first.
type Seq uint64

// ShipSeq counts what a cursor yields, per epoch and without holes: outcomes, gap marks and the epoch's end.
type ShipSeq uint64

// The answers of appends. Full, failed and busy are for the caller's when_full policy to decide.
var (
	// ErrFull: no room on the disk or in the quota for another segment. Gap marks and outcomes still fit.
	ErrFull = errors.New("journal is full: ship what it holds (is Kafka up?), raise journal.quota, or free the disk")
	// ErrFailed: the disk refused a flush and a fresh segment too. The journal tries again by itself.
	ErrFailed = errors.New("journal has failed: check the disk under journal.dir; it resumes by itself once a new segment can be written and synced")
	// ErrBusy: Config.MaxInFlight intents have no outcome yet.
	ErrBusy = errors.New("journal: too many writes in flight")
	// ErrTooLarge: the payload is larger than Config.MaxRecord.
	ErrTooLarge = errors.New("journal: record too large")
	// ErrSealed: Seal or Close was called.
	ErrSealed = errors.New("journal is sealed")
	// ErrNotInFlight: an outcome for a sequence that has one already, or never was.
	ErrNotInFlight = errors.New("journal: no such write in flight")
	// ErrTooManyGaps: Config.MaxGaps gaps are open.
	ErrTooManyGaps = errors.New("journal: too many open gaps")
	// ErrOwned: another process owns the generation.
	ErrOwned = errors.New("journal generation is owned by a running process")
)

// Ack is how durable an intent is when AppendIntent returns.
type Ack uint8

const (
	// AckJournal waits until the intent is on the disk.
	AckJournal Ack = iota
	// AckMemory waits until the operating system has it: a power cut may lose it.
	AckMemory
)

// Config of a journal. The zero value of each field but Dir means its default.
type Config struct {
	// Dir is the root directory; made if missing. Several processes may share it, each owns its generation.
	Dir string
	// Quota bounds the bytes of all segments below Dir that this process owns. Default 20 GiB. At least two segments.
	Quota int64
	// SegmentSize is the size of a segment file, allocated as a whole. Default 64 MiB. It must hold the largest record,
	// the bytes not yet synced (Unsynced) and the reserve for outcomes and gap marks.
	SegmentSize int64
	// MaxRecord bounds the payload of one record. Default 2 MiB.
	MaxRecord int
	// MaxInFlight bounds the intents without outcome; more get ErrBusy. Default 8192.
	MaxInFlight int
	// MaxGaps bounds the gaps that are open at a time (at most one per migration). Default 64.
	MaxGaps int
	// Unsynced bounds the bytes kept in memory because they are not known to be on the disk; appenders wait. Default 8 MiB.
	Unsynced int64
	// LazySync is how long bytes for whose durability nobody waits (outcomes, AckMemory) may stay unsynced, and so
	// unshipped. Intents never wait for it. Default 2ms.
	LazySync time.Duration
	// Pace is the shortest time from the start of one sync to that of the next while 16 or more writes are in flight, and
	// proportionally less with fewer, so that more of them share a sync. A sync never waits when all of them wait for
	// it. Default 1ms; negative: none.
	Pace time.Duration
	// RetryAfter is the pause between attempts to leave the states full and failed. Default 1s.
	RetryAfter time.Duration
	// Log gets decisions: recovery, full, failed, healed. Default slog.Default().
	Log *slog.Logger
	// Synced, if set, is told how long each flush took. It is called by the syncer and must not block.
	Synced func(time.Duration)
	// Now is the wall clock. Default time.Now.
	Now func() time.Time

	fs fsys
}

func (c Config) withDefaults() Config {
	def := func(p *int64, v int64) {
		if *p == 0 {
			*p = v
		}
	}
	defInt := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	def(&c.Quota, 20<<30)
	def(&c.SegmentSize, 64<<20)
	def(&c.Unsynced, 8<<20)
	defInt(&c.MaxRecord, 2<<20)
	defInt(&c.MaxInFlight, 8192)
	defInt(&c.MaxGaps, 64)
	if c.LazySync == 0 {
		c.LazySync = 2 * time.Millisecond
	}
	if c.Pace == 0 {
		c.Pace = time.Millisecond
	}
	if c.RetryAfter == 0 {
		c.RetryAfter = time.Second
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.fs == nil {
		c.fs = osFS{}
	}
	return c
}

// Validate names the field, its value and the bound. Zero values have been replaced by the defaults.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	bound := func(ok bool, format string, a ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, a...))
		}
	}
	bound(c.Dir != "", "journal.dir: empty: want a directory on a local disk")
	bound(c.MaxRecord >= 1 && c.MaxRecord <= 64<<20, "journal.max_record: %d: want 1 to %d", c.MaxRecord, 64<<20)
	bound(c.MaxInFlight >= 1 && c.MaxInFlight <= 1<<20, "journal.max_in_flight: %d: want 1 to %d", c.MaxInFlight, 1<<20)
	bound(c.MaxGaps >= 1 && c.MaxGaps <= 4096, "journal.max_gaps: %d: want 1 to 4096", c.MaxGaps)
	bound(c.Unsynced >= 4096, "journal.unsynced: %d: want at least 4096", c.Unsynced)
	bound(c.LazySync > 0 && c.RetryAfter > 0, "journal.lazy_sync, journal.retry_after: %s, %s: want more than 0", c.LazySync, c.RetryAfter)
	least := c.leastSegment()
	bound(c.SegmentSize >= least && c.SegmentSize <= 4<<30,
		"journal.segment_size: %d: want %d (largest record + unsynced + reserve for outcomes and gap marks) to %d", c.SegmentSize, least, int64(4)<<30)
	bound(c.Quota >= 2*c.SegmentSize, "journal.quota: %d: want at least two segments, %d", c.Quota, 2*c.SegmentSize)
	return errors.Join(errs...)
}

// leastSegment is the size below which a fresh segment could not take over what a failed one leaves.
func (c Config) leastSegment() int64 {
	return headerSize + c.Unsynced + 2*frameSize(c.MaxRecord) + c.reserve()
}

// reserve is the room at the end of a segment that intents and outcomes with payload may not use.
func (c Config) reserve() int64 {
	return c.bareReserve() + int64(c.MaxGaps)*gapRecords*frameSize(maxGapPayload)
}

// bareReserve is the part of it that gap marks may not use either: a bare outcome for each in flight, and the end.
func (c Config) bareReserve() int64 { return int64(c.MaxInFlight+1) * frameSize(0) }
