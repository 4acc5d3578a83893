// Package mysql reads legacy's MariaDB: its binary log as a [changelog.Source], its tables in snapshots whose position in
// that log is known exactly.
//
// Positions are (log file number, end offset of the commit) of the one server that PHP writes to. A snapshot's position
// is what the server itself says of it (binlog_snapshot_file and _position).
//
// It promises: transactions come in commit order, rolled back ones never; a row from the log equals the same row from a
// SELECT in [Snapshot.Query]; a statement whose rows the log does not hold is logged as an error. It leaves to others
// what rows mean, and where they go. It fails with an error that ends Stream; the caller starts again at the last
// position it was given. What nobody but a person can mend is marked so (changelog.IsStop).
//
// Values, as in the docs of event.Values:
//
//	integers, YEAR, BIT       number; tinyint(1) too
//	DECIMAL                   number with the column's scale, without ZEROFILL's zeros
//	FLOAT, DOUBLE             number, the shortest digits that give the same 32 or 64 bits
//	CHAR, VARCHAR, TEXT       text, converted to UTF-8; invalid bytes: U+FFFD "base64:" and the bytes, so they are seen
//	ENUM, SET                 label; labels with commas between
//	JSON                      text as stored
//	BINARY, VARBINARY, BLOB   base64; BINARY with the zeros that fill it
//	geometry                  base64 of the server's form
//	DATE, DATETIME, TIME      text as stored, with as many digits of a second as declared; zero dates too
//	TIMESTAMP                 the same, in UTC
//	NULL                      nil
//
// UUID, INET4, INET6 and the multi-byte character sets other
// than UTF-8, UTF-16 and UTF-32 are named by Check, because the log holds them in another form than a query.
//
// Not obvious:
//   - BINARY(n) stands in the log without trailing zeros (TestValues).
//   - A prepared statement is needed for a SELECT to give FLOAT exactly (TestValues).
//   - A comment in a player's text is not an annotation (TestAnnotation in changelog).
package mysql
