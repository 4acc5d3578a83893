// Package journal is the proxy's durable local log: bytes only, it knows nothing of HTTP or Kafka.
//
// # What it promises
//
// A write is two records: an intent, appended before legacy is asked, and an outcome, appended after. When
// [Journal.AppendIntent] with [AckJournal] returns, the intent is on the disk (fdatasync); with [AckMemory] it has been
// given to the operating system, so the end of the process cannot lose it but a power cut may. An intent that is found
// without an outcome after a crash gets the outcome "unknown" from the next process: a write is never forgotten, and
// never called failed.
//
// Identity is (epoch, sequence). The epoch grows durably at each start, sequences are given once. Outcomes and gap
// marks get a shipping sequence without holes in the order in which they are appended, and a [Cursor] yields them in
// that order, only after they are on the disk: what has been shipped can not come back different after a power cut.
//
// A gap (writes that will not be recorded) is made durable by [Journal.OpenGap] before the first of them, in space
// that is allocated beforehand, so also when the disk is full. Closing a gap makes its count exact, a crash inside
// makes it "at least n".
//
// # States
//
//	open ──► full    no room for another segment: intents get ErrFull, outcomes and gap marks still fit
//	open ──► failed  a flush failed, and so did a new segment: all appends get ErrFailed until a new segment works
//	open ──► sealed  Seal: no more intents, ends when nothing is in flight
//
// full ends when a whole new segment could be allocated, failed when everything that was not known to be on the
// disk could be written again to a fresh file. A flush that failed is never tried again on the same descriptor: the
// kernel may have dropped the pages and would report success.
//
// # Layout
//
//	ROOT/epoch, ROOT/lock         the last epoch given
//	ROOT/<epoch>/lock             held (flock) by the process that owns this generation
//	ROOT/<epoch>/<n>.seg          segments, preallocated, of bounded size
//	ROOT/<epoch>/spare            the file of a shipped segment, for the next one
//	ROOT/<epoch>/acked            how far the generation has been shipped
//
// A segment's header holds the seed that enters every checksum, a random number in a generation's first. Payloads are
// chosen by clients; without it, bytes in a payload that look like a record could be taken for one after damage. The
// header also says where the segment before it ends, so that a flush that failed leaves no doubt about what of its file
// counts.
//
// # Not obvious
//
//   - An outcome need not be synced before its answer is released. What must be durable is the intent: an outcome that
//     a power cut takes becomes unknown, which is true. The end of the process takes nothing, because the bytes are in
//     the page cache when [Journal.AppendOutcome] returns. [Outcome.Sync] is there for callers who want fewer unknowns
//     after power cuts, at the price of one more group commit per write. (TestKillLosesNothing, TestTornTail)
//   - Appenders do not write to the file one by one: they copy to a buffer, and whoever writes takes all of it. Syncs
//     overlap with the filling of the next buffer. (BenchmarkGroupCommit)
//   - While many writes are in flight an outcome lets the others go first before it is written, once: on a busy processor
//     several are about to be appended, and one call writes them all. Who finds that his was written returns. One alone
//     does not wait. (TestOutcomesShareAWrite, TestOutcomeReturnsWhenItIsWritten)
//   - A disk may be so fast that each write would have a sync of its own, which costs as much CPU as one for fifty. So while
//     many writes are in flight syncs keep a distance, [Config.Pace]; none waits when every write in flight waits for it,
//     as those of few clients do. (TestSyncsKeepDistance, TestWritesShareASync)
//   - Every intent in flight holds back room for a bare outcome. When the disk is full an outcome is kept without its
//     payload (flag Bare), and is shipped as unknown; it is not lost. (TestFullKeepsOutcomes)
//   - Bytes that were written since the last flush stay in memory until a flush succeeds, at most
//     [Config.Unsynced] of them; then appenders wait. (TestFailedSyncMovesToFreshSegment)
//   - A new segment repeats which gaps are open, and a segment with the latest record of an open gap stays until that
//     is on the disk: otherwise recovery would not know that the gap was open. (TestModel)
//   - Segments are removed only from the front, after the acknowledged shipping sequence is on the disk.
//   - The file of a segment that was filled and shipped within minutes is used again, as PostgreSQL does with those of its
//     log. Where bytes were written before, a sync need not tell the file system that they are, and a write finds their
//     pages in memory: that saves 0.4 of a sync's time, and half of its CPU and of a write's. What the file held stays behind
//     the new records until they have come so far; its checksums start from another seed. (TestOldRecordsDoNotCount,
//     TestFilesAreUsedAgain)
//   - An intent whose caller was told ErrFailed may be on the disk after all. It gets the outcome unknown when the
//     journal works again, or from the next process. (TestFailedThenHealed)
//   - The epoch is at least the Unix time in seconds: a replica that lost its volume does not repeat identities that
//     consumers have already seen and would drop as duplicates. (TestEpochGrowsWithoutItsFile)
//
// # What it leaves to others
//
// What the payloads mean, what is done when it is full or failed (the migration's when_full), where records are
// shipped, and how long an unknown write counts as in flight.
package journal
