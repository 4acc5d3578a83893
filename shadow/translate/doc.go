// Package translate turns the settled stream of a migration into domain events.
//
// It promises: each change of a mapped column yields exactly one event, at that change's position in legacy's commit
// order, with values from what legacy wrote. Which mapping makes it:
//
//   - `events:` of the write's route, if the write is applied, attributed, wholly in this entry, and claims the column for
//     the event's subject; the event stands at its last claimed change;
//   - `rows:` of the table otherwise: dark, unattributed, unknown and rejected changes, rows of other entities than the
//     subject, and all claimed changes of a write when somebody else touched the same columns in between.
//
// Ids are derived from the cause, so a repeat has the same. The partition of an event is the partition of its entry;
// settled marks follow the events through every partition of every migration served. Delivery is at least once.
//
// It leaves to others: attribution (settle), removing repeats and applying (project).
//
// How it fails: an expression that cannot be computed, a row without subject or a breach of contract parks the ordering
// key. Nothing of that entry and nothing later of that key is published; a record in `.parked` says why and where; marks
// list the key as held from the position at which it stopped; other keys go on. A release in `.parked` (package parked)
// lets it go on from there: what it has missed is read back in pieces, and marks list it as held until it has caught up.
//
// Not obvious:
//
//   - A claimed value is read from the effects of the subject's row, never from the request: legacy may have decided
//     otherwise. TestValuesComeFromLegacyNotFromTheRequest.
//   - A foreign change between two claimed ones sends both to `rows:`, else the event would carry the earlier value past
//     the later one. TestForeignChangeBetween.
//   - A late write, some of whose changes went out before, makes no event. TestLateWriteIsNotToldTwice.
package translate
