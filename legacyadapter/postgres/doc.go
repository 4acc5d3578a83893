// Package postgres reads a legacy that lives in PostgreSQL (14 or later): its logical replication as a
// [changelog.Source], its tables in snapshots.
//
// Positions are LSNs: of a transaction, the end of its commit record; of the server, the end of what was inserted into
// the log. A commit record is in the log before its transaction can be seen, by Config.MaxCommitDelay at most; that is
// why a fence says it was answered that much later, and a snapshot's Low is a head that much older.
//
// It promises: transactions come in commit order, rolled back ones never; a row from the log equals the same row from
// a query in a snapshot; the slot is advanced only to what Acknowledge said. It leaves to others what rows mean, and
// where they go. It fails with an error that ends Stream; the caller starts again at the last position it was given.
// What nobody but a person can mend is marked so (changelog.IsStop).
//
// Writes annotate with SELECT pg_logical_emit_message(true, 'banyan', '<write id>'); it counts for the rows that follow
// in the same transaction, up to the next one.
//
// Values, as in the docs of event.Values:
//
//	smallint, integer, bigint, oid, numeric   number with the server's digits; NaN and infinities are text
//	real, double precision                    number, the shortest digits that give the same 32 or 64 bits
//	boolean                                   bool
//	bytea                                     base64
//	timestamp, timestamptz                    text, the latter in UTC, both without a zone: 2006-01-02 15:04:05[.ffffff]
//	domains                                   as their base type
//	NULL                                      nil
//	all others                                text as the server writes it (ISO dates, enum labels, json, arrays, …)
//
// Generated columns are left out, also by Page: the log does not hold them.
//
// Not obvious:
//   - A head can point behind a page header where no record ends; the reader would wait for it for ever (pageStart).
//   - The server sends a domain's own type in the log and its base type in a query (TestValues).
//   - A large column that did not change is sent only as part of the old row, so REPLICA IDENTITY FULL is needed for more
//     than before images (TestUnchangedLargeColumn).
package postgres
