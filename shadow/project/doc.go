// Package project is the runtime of projections: it applies domain events to a squad's PostgreSQL tables in batches, keeps
// the Redis documents that hang on them fresh, and tells how far the read model is.
//
// It promises:
//
//   - Exactly once from the topic: events, offset and progress of a batch commit in one transaction, and a stale owner's
//     transaction commits nothing. An event that stands twice in the topic is applied once, if both stand within
//     DedupWindow records: the topic itself is the memory, that many records are read back when a partition is opened.
//   - Order per subject, and per ordering key for types with scope key.
//   - Progress says the truth: when it says Position, everything up to there is in PostgreSQL and Redis, except keys that
//     it lists as held or parked; and nothing beyond Applied is.
//   - Nothing is skipped silently. A poison event parks its key: undecodable, of an unknown type or version, against its
//     contract, or refused by PostgreSQL for its data (class 22 or 23). Later events of the key stay in the topic and are
//     counted; other keys go on. All else that fails is tried again for ever. A rebuild does exactly the same.
//   - A released key catches up from where it stopped, in order and exactly once, in transactions that move its stop in
//     banyan_parked; progress lists it as parked until the last. If it fails again it stops there. Other keys go on.
//
// It leaves to others: what legacy did (settle), what it means (translate, dispatch), and whether the tables are right
// (compare).
//
// # Statements
//
// An event type's statement gets a batch of events as $1, a JSON array of their data, each with _subject, _key, _position,
// _time and _seq added. No subject stands twice in one batch. An import writes the whole row, and an event for an entity that
// is not imported yet changes nothing, so it is an UPDATE:
//
//	-- game.unit.imported@1
//	insert into units (id, match_id, province) select id, match_id, province_id
//	  from jsonb_to_recordset($1) as e(id bigint, match_id bigint, province_id bigint)
//	on conflict (id) do update set match_id = excluded.match_id, province = excluded.province
//
//	-- game.unit.moved@2
//	update units u set province = e."to" from jsonb_to_recordset($1) as e(unit bigint, "to" bigint) where u.id = e.unit
//
// A document's statement gets the keys to render as $1, a JSON array of objects with the names of its key template, as
// text, and returns those names in the order of the template, then the document as json; no row means no document:
//
//	select k.match, json_agg(u order by u.id)
//	  from jsonb_to_recordset($1) as k(match bigint) join units u on u.match_id = k.match group by k.match
//
// # How a batch is applied
//
// Events are grouped into waves (see waves), each wave is one statement. When PostgreSQL refuses the data, the batch is
// halved until the event is found: what stands before it is committed, its key parked, the rest applied. After the
// commit, the documents that the batch touched are rendered from the tables and written with a version that grows with
// every batch, while PostgreSQL takes the next one. A crash in between leaves documents of at most two batches old; the
// next owner reads those events back and renders their documents again before it goes on. Then progress goes to Redis
// and to <p>.progress.
//
// # Not obvious
//
//   - A commit whose answer was lost is recognised by owner and batch number, else it would look like a fence and its
//     events like new ones. TestLostAnswerOfACommitIsNotARepeat.
//   - In Redis, Applied is raised before documents are written and Position after, else a reader could see more than the
//     progress it read on both sides of its document admits. TestReadersOfRedisNeverSeeMoreThanApplied.
//   - A hold applies events behind the ones it defers; their offsets commit too, or a crash would repeat them.
//     TestCrashInAHoldRepeatsNothing.
//   - A released key's repeats are of the time when it stopped: its ids are read back from before its stop, and after it
//     has caught up the window is made anew. TestAReleasedKeyCatchesUp, TestARepeatBehindACatchUpIsKnown.
//   - The envelope's fields come last in $1, so that data cannot overwrite _subject. TestRowsAddTheEnvelopeLast.
package project
