// Package changelog publishes legacy's change log: every committed row change of the mapped tables, per migration and
// ordering key, in commit order, with marks that say up to where nothing is missing.
//
// It declares [Source], which the packages mysql and postgres implement, and [Publisher], which reads one source for an
// installation and writes <p>.changes.
//
// # What it promises
//
//   - In each partition changes stand in commit order, without loss and without repeats, over restarts and crashes of
//     the publisher, the database and Kafka.
//   - A [event.ReaderMark] with position P in a partition: every change up to P that belongs there stands before it. Its
//     fences have positions up to P.
//   - An import of a backfill stands at the position that the reader had just passed and holds the row as it is there,
//     so it never overwrites something newer. Live changes do not wait for it.
//   - A row from the log and the same row from a [Snapshot] have equal values.
//
// # What it leaves to others
//
// What a change means and who made it (settle); topics (kafka.EnsureTopics); where checkpoints are kept; when to back
// fill. A change of a row's ordering key is published under both keys, the one it leaves and the one it comes to. A row
// without a key is published to every partition with the key "".
//
// # How it fails
//
// Errors of the database and of Kafka end the session: producer, stream and fences together. The next session asks
// Kafka where each partition stands and goes on there, at the lowest of them; what a partition already has is not
// repeated. What only a person can mend ends Run with an error for which [IsStop] is true and that says what to do: the
// server no longer keeps the log, a transaction or a row is too large, the log lacks column names.
//
// # Not obvious
//
//   - A mark promises only what Kafka had acknowledged before the mark was sent. Order in one idempotent producer is not
//     enough: a record that is refused for good does not stop those after it (TestMarkWaitsForAcknowledgement).
//   - The source may forget (Acknowledge) only what acknowledged marks cover: a successor goes on at a mark, not at the
//     last record (TestAcknowledgeOnlyMarked).
//   - A part's identity is position, migration, key and first row, not k of n: after a new mapping the numbering differs.
//   - The lock is taken before the partitions are asked, so nobody appends in between.
//   - A commit can be read from the log before a snapshot shows it; a snapshot older than what is watched is thrown away
//     (TestBackfillSnapshotBehindReader).
//   - Imports take their row number from the primary key: two chunks can stand at the same position while legacy is idle,
//     and ids of events are derived from position and number.
package changelog
