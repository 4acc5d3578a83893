// Package lab runs real servers for tests and for the demo on real parts:
// MariaDB, PostgreSQL, Kafka, Redis, php-fpm, nginx, Apache and PHP's own web server.
//
// It promises that each server has its own free ports outside the range from
// which the system picks client ports, its own directory, and settings fit for
// tests; that a server listens on loopback only; that a started server answers;
// and that nothing is left behind. Processes are ended by id, never by name.
// When the program that started them is killed, a watchdog ends them and removes
// their directories; when the watchdog died too, the next program that uses this
// package does it.
//
// There are three ways to a server:
//
//   - MariaDB(t), Postgres(t), Kafka(t), Redis(t): one server shared by all tests
//     of a process, or by all processes when the command `with` started it and
//     named it in the environment. Each test takes its own database, topics
//     or key prefix (Database, Prefix).
//   - NewMariaDB(t), NewPostgres(t), NewKafka(t), NewRedis(t), PHPFPM(t), Nginx(t),
//     Apache(t), PHPServer(t): a server of the test's own, which it may Crash, Pause and Start
//     again on the same data and address.
//   - StartMariaDB(ctx, Options) and so on: without a test.
//
// A server whose software is not installed skips the test and says how to get
// it; with BANYAN_REQUIRE=all the test fails instead. Data is not synced to disk:
// a killed server comes back with all its data, a machine that loses power
// does not.
//
// It is left to others to create tables, topics and accounts, and to keep apart
// what tests write to a shared server.
package lab
