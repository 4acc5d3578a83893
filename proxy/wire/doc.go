// Package wire is HTTP/1.1 as bytes: the heads and bodies of RFC 9110 and RFC 9112, for both sides of a proxy.
//
// It promises that a Request or a Response that parsed has exactly one reading: one method, one target, one authority,
// one framing. What two honest parsers might read in two ways is an *Error, never a guess. The head's bytes stay as
// they came (order, case, duplicates, spacing); fields are spans into them with a Kind, so that a proxy can copy a head
// line by line without building a map.
//
// It leaves to others: sockets, time and limits on bytes (a caller hands it a buffer and decides how far that may
// grow), and policy (which fields a proxy drops, adds or trusts). It does not interpret paths.
//
// It fails with *Error values that carry the status to answer with; foreign bytes never cause a panic.
//
// Not obvious:
//   - A head is parsed line by line as it arrives, so a bare LF is refused when it is seen, not when a time limit ends
//     (TestRequestRefusedEarly).
//   - A name that Connection lists is hop-by-hop, except for names on which routing and framing stand: `Connection:
//     Host` must not remove the Host (TestConnectionCannotRemove).
//   - A response's field name may be followed by space, which is removed, as RFC 9112 5.1 asks of a proxy; a request's
//     may not (TestResponseSpaceBeforeColon).
package wire
