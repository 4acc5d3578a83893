// Package role wires the packages into what one process does: proxy, shadow, or both. It is plain constructor calls,
// top to bottom; every decision is in the packages.
//
// It promises: the request path starts first and needs nothing but legacy: Kafka, databases and caches that are down
// are waited for in the background, said once, while legacy keeps serving; a stop drains in the order that loses
// nothing (clients, journal, mirror); a shadow process feeds exactly the generations that the control log names (package
// generation has the states), and any of them moves readers and retires what none reads any more. It leaves reading the file to config, and commands to cli. It fails with an error
// only for what cannot work without somebody acting: a port that is taken, a journal that cannot be opened.
//
// # Reload
//
// Process.Reload serves by the file as it is now: all of it, or nothing. What can fail is done first and aside (upstreams
// are opened, the table is compiled), then the table is swapped. Not obvious:
//
//   - A field that nobody has thought of cannot be taken over: swaps is a list of what can. (TestWhatARunningProcessTakesOver)
//   - An upstream's connections end with the last exchange of the last table that works with them, not with the reload
//     that leaves them out: who is under way may not have asked for one yet. (TestAGoneUpstreamEndsWithItsLastRequest)
//   - A balancer that stays is given its new config in place, not replaced: a login that is under way binds its session
//     after the reload. (TestUpdateKeepsSessions in package balance)
//   - Consumers are built on the file: with the shadow role in the process, what moves the fingerprint of evidence is
//     refused. In a proxy alone it is taken over, pairs and tallies carry it, and the shadow role judges them undecided
//     until it has been started with that file, too. (TestAMigrationIsReloaded)
package role
