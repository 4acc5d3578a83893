// Package parked keeps which ordering keys of a partition stand parked, and finds what a released one has missed.
//
// `.parked` is the memory, per partition: a stop, its release by an operator, how far the key has caught up since, and
// that it goes with the others again. [Keys] folds that for one stage of one generation, and takes the same record any
// number of times, in particular its owner's own that come back.
//
// It promises: a release counts for the stop that it names and no other, so it is obeyed once; a key that stopped again
// needs another. What a released key has missed is read back in pieces of bounded size, for all released keys at once,
// so that neither the backlog nor the number of keys decides about memory.
//
// It leaves to the stages (translate, dispatch, project) what they do with a piece, and the order of their records: what
// was done of a key is acknowledged before `.parked` says so.
//
// How it fails: a record in `.parked` that cannot be read is an error with its place; the partition stalls, because the
// key that it stops is not known.
//
// Not obvious:
//
//   - A stop is named by its time, not its offset: a key that is released while its record is still broken stops at the
//     same offset again, and the old release must not free it after a restart. (TestAReleaseFreesOneStopOnly)
//   - An owner's own record of how far it is comes back when it is farther already. (TestOwnRecordsComeBack)
package parked
