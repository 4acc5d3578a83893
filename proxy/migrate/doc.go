// Package migrate is the handler of the request path: it applies routes, stages and shares to each exchange.
//
// It promises: what no route names goes to legacy byte for byte; a write of a migration that records writes is in the
// journal before legacy sees it, and its outcome is before the answer's last byte is released; a read is answered by
// the candidate only at stage live, in the share, under a lease, when the read model holds the session's own writes and
// what legacy has shown to it before, and the key is not parked, and by legacy otherwise; trouble of the candidate, of Kafka or of the journal is
// never the client's while legacy answers (but for fail_closed, which asks for that). Connections switch protocols (WebSocket)
// on plain routes that say so, and nowhere else: what goes through them can be neither recorded nor compared. It leaves bytes to package proxy,
// durability to journal, order to settle, and comparing to the consumers of pairs. It fails towards legacy, counted.
//
// # Not obvious
//
//   - The stages are read once for a request: a flip in its middle does not split it. (TestFlipDoesNotSplitARequest)
//   - So is the whole config: what Swap replaces serves those who began with it, and tells when they have ended.
//     (TestAGoneUpstreamEndsWithItsLastRequest in package role)
//   - A write that could not be sent (no connection, no byte written) is rejected, not unknown: legacy cannot have seen
//     it. Anything else without a whole answer is unknown. (TestOutcomes)
//   - A gap is opened durably before the first unrecorded write, and closed by the next write that is recorded.
//     (TestFullJournalFailsOpen)
//   - What legacy shows is noted when the head of its answer is there, in a cookie beside that of the own writes: it reads
//     before it answers, mostly, and answers that cross each other overwrite cookies. (TestReadsDoNotGoBack)
//   - A read that fell back because of what was seen shows something newer, and moves the mark on. Such reads form a row
//     that ends after pending.SeenFor, or the read model's lag would keep a polling session at legacy for as long as it
//     lasts. (TestASessionDoesNotStickToLegacy)
//   - A write's memory is another one's next, and its intent and result are views of the exchange's: they are encoded at
//     once. What outlives the exchange is copied, which are the addresses in the journal's marks, and pairs.
//     (TestWritesAreApart, TestWhatIsKeptStays)
//   - A rule that looks at the status alone is evaluated once for each status. (TestRulesLookAtEachAnswer)
//   - The own-writes cookie never reaches legacy or the candidate, and legacy's own Set-Cookie fields stay as they are.
//     (TestOwnWritesCookie)
package migrate
