// Package settle joins what players asked (write records and marks of the proxies) with what legacy did (changes and
// marks of the change-log reader) into one stream that can be trusted: per ordering key in legacy's commit order, each
// change with its cause, each write with what became of it.
//
// [Core] is the join of one partition: no Kafka, no goroutine, no clock of its own. [Service] runs one core for each
// partition that its consumer group has, reads <p>.writes and <p>.changes and appends to the partition of the same
// number of <p>.settled.
//
// # What it promises
//
//   - Every change is published exactly once, per key in commit order; every write settles exactly once per address.
//   - An effect without annotation is one that only this write can have made: the only write, of all that every live
//     proxy knows of, whose interval meets the span of the commit. Otherwise the change is unattributed, with its
//     candidates. Dark is said only when every live replica's mark is past it or says that the replica records nothing,
//     and never while a replica is silent.
//   - One key that waits stops neither its partition nor its migration (but see changes without a key), and no change
//     waits longer than attribute_wait plus max_clock_error.
//   - A settled mark is true: entries with all changes up to its position stand before it, but for the keys that it
//     lists as held; all writes up to Reached are settled, but for those that it lists.
//   - A successor continues where its predecessor was killed: it reads back what was published, which stays decided,
//     and publishes nothing twice. A predecessor that is still alive, because it has not noticed that it lost the
//     partition, can append repeats; readers drop them as event.Entry says.
//
// # The rule, and where it is simpler than it could be
//
// A change was committed between the sending of the last fence below its position and its arrival at the reader. The
// head of a key goes
//
//   - if it is annotated, when its write is complete: the outcome is known, and the log was read past a fence sent
//     after the write's end, so that all its effects are known;
//   - if it is not, when every live replica's mark is past its arrival, nothing that may have made it is in flight, and
//     every write that can have made it is complete;
//   - at the latest when it has waited for attribute_wait + max_clock_error.
//
// A replica whose last mark says that it records nothing (all is off) is not waited for longer than half of
// attribute_wait: its marks are far apart, and all that could be in the next one is that it has begun to record. That
// is sent before the first write is, and half of attribute_wait is time to arrive. If it comes later, a change of the
// flip's first moments is called dark too soon; the write takes it back.
//
// Waiting for complete writes, not only for outcomes, is what makes entries closed: when the head goes, all effects of
// its write are in the queue, so the run of changes up to the last of them is one entry, together with the write. An
// online algorithm that attributes first and closes later would need entries that are taken back. The price is one
// fence, 20 ms. The clock error is added to the wait because no mark can be past a change by the clock error sooner.
//
// Entries of several changes are bounded in rows and bytes; what is cut off follows in the next, and the write is Late.
// A write without effects, or with all of them in earlier entries, is an entry of its own. Its position is the
// reader's, or just below the key's first waiting change: so it can equal the last entry's To. Readers that drop
// repeats by To keep, at that position, the ids of writes and the rows as well (parts of one large transaction and
// import chunks taken while legacy is idle share positions, too).
//
// A dark or unattributed change that only one write can have made after all (its record came late, or its outcome was
// unknown or long in coming) is not published again: the position stands among the effects of that write, which is
// Late. So dark is withdrawn by a later write that names the position.
//
// A change without a key goes when all earlier changes of its migration in its partition went, and later ones wait for
// it. Unless it is annotated it is unattributed: the write that made it may be another partition's.
//
// While the worker reads a backlog, changes would come long before the writes that made them, and all waits would run
// out. As long as marks of a live replica arrive that are far behind the clock and the change, heads wait on, up to
// replica_wait.
//
// # What it leaves to others
//
// Removing what an alive predecessor repeats; a record that comes again more than 30 s after it settled, of a proxy that
// died before a mark covered it, when the partition has changed hands in between (it settles again, without effects); what a change means (translate); telling a slow replica from a dead one:
// it is silent, then forgotten; topics.
//
// # How it fails
//
// A record that cannot be decoded stalls its partition and names its offset: leaving it out would break the promise. An
// append that fails closes the worker; the next one reads back what arrived. Offsets are kept in the settled mark
// itself; the group's committed offsets are for monitoring only.
//
// # Not obvious
//
//   - A settled write is never a candidate for a waiting change: it settles only when no waiting change below its fence
//     can be its own, and changes above that fence were committed after its end (TestOnlyWritesThatTouchTheSpanAreCandidates).
//   - A record at or below a replica's mark that the mark does not list is a repeat, however old: the mark says that it
//     came before. That is what makes dropping repeats exact with bounded memory, also after a restart
//     (TestRepeatsAreDropped, TestRestartsPublishNothingTwice).
//   - What a successor has to read back of .settled is told by offset, not by position: two import chunks can stand at
//     one position, one of them published.
package settle
