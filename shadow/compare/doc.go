// Package compare decides when two sides can be compared fairly, and what the comparison says.
//
// # What it promises
//
//   - Lag is never a finding, and a race is never excused as lag: values are judged by positions of legacy's change log,
//     never by wall clocks. Clocks only choose fences, widened by their error.
//   - Everything that came is in exactly one of judged, undecided (with a reason) and dropped (with the bound), and counts
//     once, also over restarts and rebalances.
//   - A place that differed is verified only by a comparison that was fair for that place and found it equal; what a rule
//     mutes verifies nothing.
//   - A sweep is complete only if every key was compared for good; those that never were are listed.
//   - Memory is bounded: by time and bytes in the [Index], by number in the queues.
//
// # What it leaves to others
//
// Why sides differ (explain), equality itself (diff), keeping it all (ledger), asking over HTTP ([Asker]), reading
// databases ([LegacyReader], [ModelReader]), holding a projector ([Holder]). HTML is undecided unless its bytes are equal.
//
// # How it fails
//
// A worker whose ledger is away stalls its partition, and goes on where it was. What cannot be known any more is undecided:
// "too old to judge". Records that do not decode stall the partition and name the offset.
//
// # A pair of answers
//
// Legacy's read ran in [s, e]; Ls is the position of the last fence answered before s less the clock error, He that of the
// first fence sent after e plus it. The candidate reports its progress before and after its read, Pb and Pa. Both sides
// show the state at one position, but for what changed in (min(Ls, Pb), max(He, Pa)]:
//
//	nothing relevant changed              all is judged
//	an entity that a rule names changed   its values are undecided, the rest is judged
//	anything else of the key changed      values without an entity are undecided, too; if the route's rules name no such
//	                                      entity at all, every difference is
//	something changed in (Pb, Ls]         the candidate lags: it is asked again, MaxTries in all
//
// Relevant are changes of the route's tables. An entity: rule says that what stands there shows that entity and nothing
// else. A pair waits until the settled stream was read past the upper end and the key is not held; a difference also
// until the events were read as far, for the sake of its explanation.
//
// # Rows
//
// Legacy's rows are read in a snapshot that has everything up to L and nothing above H. Once every partition's progress is
// at H, the model's rows and progress P are read in one snapshot. Rows whose entity changed in (L, P], and of held or
// parked keys, are looked at again later; the others are compared for good. A row that stays busy is compared while its
// partition's projector is held at H. Queued entities go first; the sweep takes chunks in the order of ids, merged from
// two sorted sequences.
//
// # Not obvious
//
//   - The candidate's own position can be below or above legacy's window; both ends count. (TestSimulatedPairs)
//   - In a list that is compared by place, an entity that went shifts its neighbours: if any of its kind changed, none of
//     them is judged. (TestAListByPlaceIsUndecidedWhenOneOfItsEntitiesChanged)
//   - A change can move a row from one entity to another: both images are touched. (TestAMovedRowTouchesBoth)
//   - Dark is taken back when a late write names the position. (TestDarkSourcesAreCountedOnceAndWithdrawn)
//   - Identical rows of an entity that changed in between are not verified: they may be equal by chance and for a moment.
//     (TestIdenticalRowsThatMovedAreNotVerified)
package compare
