// Package dispatch delivers the settled writes of a migration to the squad's own service, which computes its events
// itself: what it makes of a write is then compared with what legacy made of it.
//
// It promises:
//
//   - Each settled write of an ordering key is delivered by HTTP POST as a [Command], in legacy's order, one at a time per
//     key. The next step of the key is taken when the answer was 2xx, which says that the write's events are acknowledged
//     by Kafka.
//   - What no command tells (dark, unattributed and imported changes, and the effects of writes that are not applied)
//     becomes events by the migration's `rows:`, published into the same partition, before or after each command as
//     legacy's positions say.
//   - A settled mark is passed on when everything before it is acknowledged; the group's offset is committed after it.
//   - Delivery is at least once, with the same idempotency key and the same event ids. Exactly once is not claimed: a
//     service that makes other events out of a repeat breaks its read model.
//
// Which of the two tells a change is decided once per write: a write is the service's if it is applied and all its effects
// stand in one entry. If some of them were told by rows (the write came late, or was one of several that could have made a
// change), all of them are, and the write is not delivered: its news would be told twice. A service that does not know yet
// what a command speaks of may ask for rows, too ([Reply]). Stats counts these.
//
// It leaves to others: what a command means (the service), removing repeats and applying events (project), and which
// keys are parked and released (package parked).
//
// How it fails: 408, 429, 5xx, a redirect, a timeout or no connection is tried again for ever, with a growing pause; that
// partition waits, others go on, and no read model claims progress that it has not got. Any other 4xx, or a row that the
// mapping cannot tell, parks the key: a record in `.parked` says why and where, nothing later of that key is delivered or
// published, marks list it as held from there, other keys go on. A
// released key goes on from the entry that was refused, its first step included. A record that cannot be decoded stalls its partition.
//
// Not obvious:
//
//   - A command carries the offset up to which the service must have read its own topic. Else it would decide before it
//     has seen the dark change that legacy decided upon. TestTheServiceKnowsHowFarToRead.
//   - A mark is a barrier although keys run side by side. TestMarksComeAfterAllKeys.
package dispatch
