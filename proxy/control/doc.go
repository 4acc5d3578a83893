// Package control is the control log: the one place where stages and shares change, and how every proxy obeys.
//
// It promises: of two flips decided on the same version one counts, for every reader the same; a flip whose answer
// was lost can be recognised in the log by its id; a flip is reported done only when every live proxy has said that
// it obeys and the lease of every other one has run out; a proxy whose lease ran out knows it ([Follower.Leased]).
// It leaves gates (may we flip?) to the ledger and what a stage means to the proxy's handler. It fails by waiting:
// without Kafka nothing flips, proxies keep the last stage they obeyed (it is on disk) and answer reads from legacy
// once their lease has run out.
//
// # How
//
// Flips are records of one topic with one partition, never compacted or deleted. Everybody folds it from offset 0
// ([stage.Log]). Proxies publish heartbeats to a compacted topic: their replica, the clock and which versions they
// obey; a heartbeat goes out at once when a flip is obeyed, and every third of a lease otherwise.
//
// # Not obvious
//
//   - A lease counts from before the heartbeat was sent, not from when Kafka acknowledged it: the reader's view of
//     the lease must never end before the proxy's own. (TestLeaseCountsFromBeforeTheSend)
//   - A proxy obeys first and acknowledges then: the other way round a flip could be reported done while a request
//     is still routed by the old stage. (TestFlipIsDoneOnlyWhenObeyed)
package control
