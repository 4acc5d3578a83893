// Package balance makes one upstream of several instances, of which some may be slow, dead or on their way out, while
// each holds sessions that no other has.
//
// It promises: a session stays at one instance for as long as that instance serves; a request waits for a bounded time
// in a bounded queue and is served in the order of coming; an instance that fails is left alone for a growing, bounded
// time; as long as one instance might answer, some instance is asked; and nothing is written to a second instance
// unless nothing was written to the first. What moves a session is counted, and logged once for each time that an
// instance goes.
//
// It leaves to others: bytes and connections (an instance is any upstream.Upstream), whether to send again
// (package proxy), what to do without this backend ([Balancer.Allow] is the question).
//
// It fails with *upstream.Error, always Unsent: Busy when the queue is full, the wait was in vain or the client left;
// else what the last instance said.
//
// # Which instance
//
// A session that is bound goes to its instance; it waits for it if it is busy. Bindings are made by the instance's own
// Set-Cookie (a login that changes the id takes the new id along) and by serving a request with an id, because legacy
// keeps sessions in one instance's memory: where it was last served is where it is. Package session bounds them.
//
// An id that is not bound is placed by rendezvous hashing: each instance's name is hashed with the id, the highest
// value wins. Compared with a ring it needs no virtual nodes to be even, and with a new n-th instance exactly the ids
// that it wins move, one n-th. The hash is the same in all processes, so proxies agree without talking as long as they
// spell the instances alike. An instance that has more than 1.25 times the average of requests under way is passed over
// for its next in rank (consistent hashing with bounded loads, Mirrokni, Thorup and Zadimoghaddam 2016; 1.25 is the
// factor of their and HAProxy's examples: smaller ones move more ids, larger ones let one instance run hot). The bound
// is never below 8 requests: with few under way the average says little, and proxies would disagree for nothing.
//
// What bindings do not do: they are one process's, and its restart forgets them. A session that began at a request
// without an id is where there was least to do, not where its id's hash says; so a proxy that did not see it begin looks
// for it at the wrong instance, n-1 times of n. Sticky.Remember mends that with a cookie of ours, which counts where no
// binding does. Without it Stats.Placed tells how often an id came that the proxy did not know.
//
// A request without an id goes to the instance with the fewest requests under way, in turn among equals. That is exact
// here, and looking at all instances costs nanoseconds; choosing the better of two random ones is for balancers that
// cannot see them all. What is seen is this proxy's own load.
//
// # States of an instance
//
//	up         takes everything
//	draining   an operator said so: bound sessions stay until they end (Sticky.Idle after their last request)
//	ejected    failed several times in a row: takes nothing until its time is over, then one failure ejects it again
//	unhealthy  failed its checks: takes nothing until it passes them
//
// If no instance is up, the draining ones take new sessions; if all are ejected or unhealthy, all are taken to be up:
// checks that fail everywhere are wrong, or nothing is lost by asking.
//
// # Not obvious
//
//   - A refused connection is not yet a reason to lose a session: a bound request asks its instance again, after a
//     pause, until the instance is ejected. A request without a session goes on at once. (TestRestartLosesNoSession)
//   - A session that was moved stays where it went when its first instance comes back: the state that it has there is
//     older, and going back and forth would lose both. (TestDeadInstance)
//   - The last instance is never ejected: the check is made with the one that is about to go counted as gone. Envoy's
//     max_ejection_percent was compared before, and let all go. (TestChooserModel)
//   - Update knows instances by name, in slots whose numbers do not change while a request is under way or a session bound:
//     a login that began before an update binds its session after it. (TestUpdateKeepsSessions)
//   - A queued request for an instance that is ejected meanwhile is placed anew, and keeps its turn. (TestQueueMovesOn)
//   - A connection that has switched protocols is a request under way until it ends, and its session is used for as long:
//     a drained instance holds it. That the instance answered counts when it did. (TestTunnelHoldsItsInstance)
//   - Half-closing clients look gone. That is believed only of those that wait in the queue. (TestGoneClient)
package balance
