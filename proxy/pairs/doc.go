// Package pairs asks the other side for reads that were answered to a client, off the client's path, and publishes what
// differs for compare to judge.
//
// It promises: nothing here delays a client: the queue is bounded in number and bytes, and a full one drops and counts;
// every read that was to be compared is in a tally: asked = equal + sent + dropped, by reason, published every second;
// equal bytes are counted at once and not published; legacy is asked only for routes declared repeatable. It leaves
// judging (whether a difference is lag, a race or a defect) to compare. It fails by dropping, counted.
//
// # Not obvious
//
//   - The candidate is asked once its read model has passed a fence sent after legacy's answer ended, or after a bounded
//     wait: asked at once it would mostly lag, and the pair be undecided. (TestTheCandidateIsAskedOnceItHasCaughtUp)
//   - Reads wait beside the workers: else a read model that is seconds behind would let each worker do one pair in that
//     time, and the queue drop the rest. (TestReadsThatWaitKeepNoWorker)
//   - A tally is cumulative for its epoch and numbered: a lost record changes nothing, and a reader that restarts does
//     not count twice. (TestTalliesAddUp)
//   - A read belongs to the config that it was served by, and each config has its tallies: after a reload and back, what
//     was counted between is not the first one's. (TestReadsBelongToTheirConfig)
package pairs
