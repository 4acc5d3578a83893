// Package h2 is the server's side of HTTP/2 (RFC 9113): the frames of a connection, and each request as a Stream.
//
// It promises: a Stream's Head is the head of an HTTP/1.1 request, made so that one strict parser judges the requests
// of both protocols; what cannot be told in such a head unambiguously is refused before one is made. A body arrives as
// it was announced, or not to its end. Answers come in as HTTP/1.1 heads and plain bytes, and leave as frames. A stream
// that is not read, or whose client does not read, stalls itself alone. What a connection holds is bounded: bodies by
// the two receive windows, of which the connection's is asked of Config.Hold beyond the 65,535 bytes that the protocol
// gives, answers by queueMax, header blocks by Config.MaxHead, streams by Config.MaxStreams. Clients that cost more than
// they ask for (resets, empty frames, settings, pings, refused streams) are told to calm down and lose the connection.
// Every wait for a client has an end, see Slow readers.
//
// It leaves to others: TLS, what a head means, who may connect, the handler's goroutine beyond starting it.
//
// It fails: by RST_STREAM for what is wrong with one request, by GOAWAY for what is wrong with a connection. Bytes from
// outside never panic.
//
// # Slow readers
//
// A client has to take Config.MinRate bytes a second of each answer that waits for it, on average over each
// Config.WriteTimeout of waiting, and something in any case. Time in which there was nothing to send does not count, and
// neither does time in which somebody else was waited for:
//   - A stream that lacks a window of its own is judged by what its client gave it, whatever else the client takes or
//     sends. Below the floor it is reset, and its handler's Send fails with ErrSlow: what the handler holds, an upstream's
//     connection above all, is free then.
//   - Streams that lack the connection's window are judged together, by bytes of bodies: a PING's reply is none. What is
//     below the floor for one of them ends the connection with GOAWAY; what is below it for all ends those that came last,
//     as many as are too many, so that the rest has enough.
//   - A socket that is full is judged by what the client's kernel acknowledges (Linux; elsewhere by what was written in
//     whole queues), likewise, but without a last word, which could not be written. What write(2) says is too coarse: a
//     socket is writable again only when a third of its buffer is free, which of some megabytes takes a slow client longer
//     than any timeout.
//
// The code is ENHANCE_YOUR_CALM: no rule was broken (nginx says PROTOCOL_ERROR), the fault is not ours (INTERNAL_ERROR),
// and the request was processed and must not be sent again as after REFUSED_STREAM.
//
// # Bodies
//
// The window that a connection may fill, and what it has received and nobody has read, is counted by Config.Hold before it
// is granted. When that refuses, the window does not grow: the client waits, nobody fails, and what is read makes room
// again. So the bound of all is what Config.Hold allows and 65,535 bytes for each connection. A connection asks for as
// much as its streams hold unread, so that one which is not read does not stop the others, and for more credit, up to
// connWindow, while bodies are read as fast as they come. Refusing requests instead was not chosen: what streams over
// HTTP/1.1 waits in the kernel, and is never refused for want of memory. Only a body that waits for room as long as
// Config.BodyTimeout ends, with ErrCrowded and not with ErrSlow.
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
//   - The connection's receive window is given back when a body is read, or when there is memory for what was not: it is
//     the bound of all that a connection can make the proxy hold. What nobody will read is given back at once
//     (TestUnreadBodies).
//   - A stream that is called and cannot use its turn, because SETTINGS took its window back or because it was reset,
//     calls the next one; one that finds room uncalled leaves the line. Else those behind wait for a call that was used
//     up (TestTurnInVain, TestTurnTaken).
//   - Bytes count from the beginning of the wait, not from before: else what a fast client took would pay for a pause.
//     They are not counted anew after each byte: else a byte at a time would wait for ever (TestStreamFloor).
//   - Windows of a stream and of the connection are given back together: two writes would cost twice as much.
package h2
