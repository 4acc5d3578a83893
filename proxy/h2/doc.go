// Package h2 is the server's side of HTTP/2 (RFC 9113): the frames of a connection, and each request as a Stream.
//
// It promises: a Stream's Head is the head of an HTTP/1.1 request, made so that one strict parser judges the requests
// of both protocols; what cannot be told in such a head unambiguously is refused before one is made. A body arrives as
// it was announced, or not to its end. Answers come in as HTTP/1.1 heads and plain bytes, and leave as frames. A stream
// that is not read, or whose client does not read, stalls itself alone. What a connection holds is bounded: bodies by
// the two receive windows, answers by queueMax, header blocks by Config.MaxHead, streams by Config.MaxStreams. Clients
// that cost more than they ask for (resets, empty frames, settings, pings, refused streams) are told to calm down and
// lose the connection.
//
// It leaves to others: TLS, what a head means, who may connect, the handler's goroutine beyond starting it.
//
// It fails: by RST_STREAM for what is wrong with one request, by GOAWAY for what is wrong with a connection. Bytes from
// outside never panic.
//
// Not built: server push, priorities (they are read and have no effect), extended CONNECT (RFC 8441), and indexing what
// answers repeat.
//
// Not obvious:
//   - Three parties touch a connection: the reader (Serve), the handlers, and a writer that lives while there is
//     something to write. Nobody but the writer waits for the socket, so a client that reads nothing while it writes
//     cannot stop the reader, which may hold what it waits for.
//   - A stream stays in the table until its handler has returned, reset or not: a client that opens and resets streams
//     is bounded by what it makes handlers do (TestRapidReset).
//   - The connection's receive window is given back when a body is read, not when it arrives: it is the bound of all
//     that a connection can make the proxy hold. What nobody will read is given back at once (TestUnreadBodies).
package h2
