// Package ledger keeps what the comparison learned, in PostgreSQL: findings, evidence, sweeps, dark sources, gaps,
// checkpoints, and what the gates say of them. All SQL of the schema banyan_ledger is here.
//
// # What it promises
//
//   - A [Batch] counts once or not at all: counters, findings and the checkpoint from which its reader would start again
//     commit in one transaction, and a reader whose checkpoint was moved by another gets [ErrFenced] and changes nothing.
//   - A finding is fixed only when every place that showed it was compared again and found equal, and reopened when it
//     comes back. An acceptance expires by itself.
//   - Evidence belongs to a fingerprint; another one begins at zero. Findings outlive it.
//   - A gate without data is inconclusive, never passed.
//
// # What it leaves to others
//
// When a comparison is fair and what it found (compare), why (explain), obeying a gate (whoever flips), whether the
// account is balanced and the proxies are marking (given as [Inputs]).
//
// # How it fails
//
// Every error is wrapped with what was being done; nothing is retried here. The schema has a version, brought up to date
// when it is opened; a build refuses a schema that a newer build made unreadable for it, and says so.
//
// # Not obvious
//
//   - Proxies repeat tallies and count since their epoch, so only the newest of (replica, epoch, route) counts, less what
//     it had counted when the fingerprint changed. (TestTalliesCountOnce)
//   - Pairs are evidence by distinct (route, parameters, key, version): a page polled a thousand times while nothing
//     changes is one. (TestDistinctPairs)
//   - A place found different with cause unknown does not open a second finding while a known cause explains it: the
//     history that explained it may merely have aged out. (TestUnknownDoesNotDisplaceAKnownCause)
//   - A finding lists at most Config.MaxKeys places. Beyond, it cannot be fixed by listed places alone: a sweep that began
//     later has to verify the rest. (TestOverflowNeedsASweep)
package ledger
