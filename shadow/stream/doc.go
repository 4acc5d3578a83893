// Package stream turns a consumer group into ordered work: one [Worker] per partition number, which gets the records
// of that partition of every topic, per topic in offset order, and decides itself from where it reads.
//
// It promises:
//   - One goroutine per partition calls its worker; nothing is called after Close.
//   - The same member has the same partition number of all topics: range assignment over topics with equal numbers of
//     partitions, verified at Start and at every assignment. A partition that came without its siblings is not worked.
//   - Nothing is skipped. An error of Open, of Handle or of Kafka stalls that partition alone: its worker is closed,
//     opened again after a pause, and reads again from where Open says. Records that Kafka has deleted already stall
//     it too, for good, because leaving them out silently would be a loss; the state says which offset is missing.
//   - Memory is bounded: a partition that is not worked off stops being fetched.
//   - On a rebalance and at Stop, workers are closed before the partition is given away.
//
// It leaves to its users: making repeats harmless. A member that lost its session without noticing may work on for a
// moment beside its successor, and a re-opened worker sees records again; both are told apart by positions and
// fences of the users, not by Kafka. Committed group offsets are a hint for monitoring and for workers that keep no
// offsets of their own.
//
// Why two clients: the group client only holds the membership and commits; the fetching client is told exactly where
// each partition starts, at the moment when its worker is open. With one client, records fetched before the worker
// named its start would have to be taken back.
//
// Not obvious:
//   - Only the polling goroutine adds and removes partitions, between two polls. Otherwise records polled for a
//     worker that is gone could reach its successor, ahead of where that one starts (TestReopenStartsWhereTheWorkerSays).
//
// [ReadTo], [Tail] and [Last] read what stands in one partition now, without a group.
package stream
