// Package event is the vocabulary of everything that travels: identities, positions, ordering keys, and the records
// of every topic. All roles speak it, so it imports nothing of ours and decides nothing.
//
// What it promises: a record written by version N is read by version N+1 (each carries "v"); decoding foreign bytes
// returns an error that names the record kind and never panics; [Partition] is stable for ever, because topics
// outlive binaries.
//
// What it leaves to others: when a record is written (mirror, changelog, settle, translate), and what it means for a
// reader (settle, project, compare).
//
// The topics, and the [Kind] of record in each (header "banyan-kind"):
//
//	<p>.writes    Write, ReplicaMark       from every proxy, at least once, same identity on a repeat
//	<p>.changes   Change, ReaderMark       from the one change-log reader
//	<p>.settled   Entry, SettledMark       from settle, per ordering key in legacy's commit order
//	<p>.events.M  Event, SettledMark       domain events of migration M; marks follow them through every partition
//	<p>.progress  Progress                 from project, once PostgreSQL and Redis hold it
//
// .writes, .changes, .settled and the event topics have the same number of partitions and the same [Partition], so
// marks pass from a partition to the partition of the same number.
package event
