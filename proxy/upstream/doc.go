// Package upstream holds the connections to one backend: legacy, a candidate, or any service that routes name.
//
// It promises: a request handed to a Conn is written at most once, and an error says whether any of its bytes may have
// left (Unsent) and whether an answer had begun. A kept-alive connection that the backend closed, or on which it said
// something unasked, is noticed before the request is written to it; bytes behind an answer are never taken for the
// next one. Idle connections, connections in all and every wait are bounded.
//
// It leaves to others: the decision to send a request again (Error has the facts), what a head says, health checks.
//
// It fails with *Error: Dial, Busy, Timeout, Cut, Malformed.
//
// Upstream and Conn are the seam for other transports: Pool speaks HTTP/1.1; whatever else carries a request (FastCGI)
// takes the same head bytes and decoded body, and gives a parsed head and a decoded body back. Message.Origin has the
// facts that such a transport needs beside the head; Links are connections, kept and bounded, of whatever protocol.
// Router is the seam for several of them behind one name (package balance).
package upstream
