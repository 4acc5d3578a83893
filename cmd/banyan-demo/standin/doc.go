// Package standin is a second implementation of the legacy game of testdata/game, in Go
// on PostgreSQL, for machines without PHP and MariaDB.
//
// It promises the contract in testdata/game/README.md and the habits listed there, and
// is held to the PHP original by its tests, which play the same requests against both
// and compare answers and rows: parameters as PHP reads them, loose JSON, refusals with
// status 200, GETs that write, one session's requests in a row, read-modify-write
// without locks, each statement a transaction of its own, stocks read with six digits,
// serialized PHP in columns, cron. The same world is seeded, row by row. It costs what
// it costs: the same queries one after the other, nothing cached, no pause.
//
// Tables and columns have the names of schema.sql. What differs is in schema.sql of this
// package: zero dates are NULL there (and zero dates in every answer), INT UNSIGNED is
// bigint, ENUMs are enums, a column is text as long as MariaDB's, and latin1 is UTF-8 that
// holds nothing but what latin1 can. An UPDATE that changes nothing writes nothing, as in
// MariaDB; a trigger sees to that. BanyanYAML makes the original's banyan.yaml
// into one for this database.
//
// With Config.Annotate a transaction that writes begins with
// pg_logical_emit_message(true, 'banyan', id) if the request has the field Banyan-Write.
//
// It leaves to others: serving the handler, calling Cron every few seconds, and the
// replication slot. Sessions live in memory and are gone with the process; players log
// in again. When the database fails, a script ends like PHP's: status 200, the error
// "database" after what it had printed, and what it had written stays.
//
// Not obvious:
//   - A REAL read as text has six digits only because of extra_float_digits = 0 and of
//     queries that ask for text (TestProduction).
//   - The write id and the statement are one string in one message, and so one
//     transaction (TestTheLogsTellTheSame).
//   - The order of the seeder's draws is that of seed.php (TestSeedsAreEqualRowByRow).
package standin
