// Package readmodel is where banyan meets a squad's read model: it writes event batches, offsets and progress into
// PostgreSQL, documents into Redis, and reads rows together with the progress that belongs to them.
//
// It promises: events, offset, progress and parked keys of a batch commit in one transaction, or nothing does; a
// transaction of an owner that has lost its partition changes nothing ([IsFenced]); rows and progress of a [Snapshot] are
// of one moment; an older document never replaces a newer one. It leaves to others what a batch is (project) and when two
// values are equal (compare).
//
// How it fails: [IsData] tells errors that are about the data (a parked key) from all others (try again).
//
// # PostgreSQL
//
// One schema per migration and generation, banyan_<migration>_g<N>. The squad's DDL is applied once, when the schema is
// created, with search_path set to it; names in DDL and SQL need no schema. banyan's own tables stand beside:
//
//	banyan_partition  per partition: owner, next offset, number of batches, offsets applied ahead of it, progress
//	banyan_parked     per parked key: reason, first and last offset, number of events that wait
//	banyan_meta       version of these tables, digest of the DDL
//
// # Redis
//
// Every value is a hash of two fields: d, the JSON, and v, its version "generation.position.sequence" in hexadecimal of
// fixed width, which sorts as text. A document that is gone keeps v and has no d.
//
//	<prefix>:<migration>:g<N>:doc:<key>               HGET … d
//	<prefix>:<migration>:g<N>:progress:<partition>    HGET … d, the JSON of event.Progress
//	<prefix>:<migration>:generation                   HGET … d, the current N; v is a version of the control log
//
// # Which generation to read
//
// A service that reads finds the current generation in either of two places, which banyan keeps alike ([Pointer]):
//
//	PostgreSQL   select generation from banyan.generation where migration = 'units'
//	Redis        HGET <prefix>:<migration>:generation d
//
// Neither the table, nor the row, nor the key being there means 1. The number changes while the service runs. It must look
// at it again and again, and must not answer from what it read longer ago than [ReaderBound]: from then on banyan takes
// the older generation for unread, and stops feeding it. [Follow] does that in Go. The answer says in the field
// Banyan-Generation which one it was made from.
//
// A query service that answers with Banyan-Position reads the progress of its key's partition before and after the
// document. Applied in it is written before the documents of a batch, Position after them: a reader never sees more than
// Applied nor less than Position.
package readmodel
