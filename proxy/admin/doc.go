// Package admin is the listener for operators: health, readiness, metrics, and a JSON API under /api/v1.
//
// It promises: nothing but health is told to who has no token, wherever they come from, loopback included; tokens are
// compared in constant time; the viewer's token changes nothing. A change needs a JSON content type and no cookie is
// ever looked at, so that no page in a browser can make one. Bodies, heads and waits are bounded. What a build does not
// serve here is answered with 501 and a sentence that says which role does.
//
// It leaves everything behind the API to the interfaces [Stages], [Flipper], [Ledger], [Backfiller], [Retranslator], [Parker] and [Part], which
// whoever wires the roles implements. It fails with a status and {"error": …} that an operator can act on.
//
// # The API
//
//	GET  /healthz                             200 while the process serves
//	GET  /readyz                              200, or 503 with the reasons
//	GET  /metrics                             Prometheus; the viewer's token will do
//	GET  /api/v1/stages                       {"stages": [StageInfo]}
//	GET  /api/v1/stages/{migration}/history   {"entries": [stage.Entry]}
//	POST /api/v1/stages/{migration}/flip      FlipRequest -> Outcome; 409 with the same shape if the answer is no
//	GET  /api/v1/findings?migration=&state=   {"findings": [Finding]}
//	GET  /api/v1/findings/{id}                Finding
//	POST /api/v1/findings/{id}/accept         Acceptance -> Finding
//	GET  /api/v1/backfill                     {"backfills": [BackfillStatus]}
//	POST /api/v1/backfill                     BackfillRequest -> 202 BackfillStatus
//	GET  /api/v1/retranslate                  {"retranslations": [RetranslateStatus]}
//	POST /api/v1/retranslate                  RetranslateRequest -> 202 RetranslateStatus
//	GET  /api/v1/parked?migration=            {"parked": [Parked]}
//	POST /api/v1/parked/release               ReleaseRequest -> {"released": [Parked]}; 409 if one is not parked
//	GET  /api/v1/status                       an object with a member for each part
//
// # Not obvious
//
//   - A flip is decided on the version that its evidence was shown for: FlipRequest.Expect turns "somebody else flipped
//     in between" into a 409 instead of a surprise. (TestFlip)
//   - A token file that others may read is refused, not repaired: who has read it keeps what they read. (TestTokens)
package admin
