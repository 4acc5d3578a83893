// Package proxy is the request path: a server that takes requests over HTTP/1.1 and HTTP/2, hands each to a Handler as an Exchange, and
// forwards it to an upstream and the answer back.
//
// It promises: what is malformed or ambiguous is answered with an error and never forwarded (package wire has the
// rules). A request that is forwarded reaches the upstream with the bytes that the client sent, and an answer reaches
// the client with the bytes that the upstream sent, fields that belong to one connection aside; section "What changes"
// is the whole list. A request is sent once, see ForwardOptions.Repeatable. Nothing is buffered beyond what a handler
// asks for, everything is flushed as it comes, and memory does not grow with a body's size. All waits, sizes and
// numbers of connections are bounded by Config.
//
// A connection is HTTP/2 when TLS agreed on it, or when a client in clear starts with its preface. Package h2 has its
// rules and bounds; its requests pass the same parser, and all that is said here holds for them. A stream's exchange runs
// on a goroutine of its own.
//
// A peer that Config.ProxyProtocol lists is a balancer whose connections begin with a PROXY header: the client that it
// names stands for the peer in all that is said here. What comes otherwise is closed without an answer, and counted.
//
// A client has to take its answer. Over HTTP/1.1 each write of up to 64 KiB has to be taken within Config.WriteTimeout;
// over HTTP/2 streams share a connection, and each is held to Config.MinBodyRate, see h2. What the client has sent of a
// body and nobody has read lies in the kernel over HTTP/1.1. Over HTTP/2 it lies here and is counted in
// Config.MaxBuffered, half of which it may take; beyond that the client gets no window and waits.
//
// It leaves to others: which upstream a request goes to (Handler), paths, sessions, TLS (give Serve a TLS listener;
// package certs makes its configuration), what HTTP/2 is as frames (h2).
//
// It fails towards the client with 400, 408, 413, 417, 431, 501 and 505 for the client's faults, with 502, 503 and 504
// for the upstream's, with a short plain body, or by closing the connection when an answer had begun: a cut answer must
// look cut. Over HTTP/2 the stream is reset instead, and a request that breaks a rule of HTTP/2 is reset without an
// answer. A panic in a handler is logged and ends that connection, or stream, only.
//
// # Switching protocols
//
// A request of HTTP/1.1 without a body may switch the connection (RFC 9110 7.8; WebSocket is RFC 6455) to the protocols that
// ForwardOptions.Upgrade names. Of its Upgrade field those pass on, as they are spelt, with Connection: Upgrade; if there are
// none, or the field is malformed, or a body comes with it, it is a plain request. Names are compared whole and without
// regard to case. Only a 101 of HTTP/1.1 that names one or more of those, and no other, is a switch; any other 101 is a 502.
// After any other status both connections go on as HTTP: what the client has sent behind its head is its next request,
// and is held to all rules. A handshake is never sent twice.
//
// After a 101 the bytes of both sides pass as they are, those that came with the heads first. A side that ends its half
// leaves the other open. One that breaks ends both; the client gets what legacy had said before. Silence on both sides
// for Config.UpgradeTimeout ends both, and so does a receiver that takes nothing for as long.
// Until then the connection is an exchange under way: it counts in Config.MaxConns and in the upstream's connections. An
// Observer hears of it at its end, with the time to the 101 apart from the time that followed.
//
// Shutdown leaves it open until its context ends, and then closes both sides. Nothing is said in the protocol that was
// switched to, which the proxy does not speak: a WebSocket client sees the end without a close frame, code 1006, and
// should connect again, after a random while, because all of them see it at once.
//
// # What changes
//
// Requests: fields of the connection (Connection and what it lists, Keep-Alive, Proxy-Connection, TE, Trailer, Upgrade,
// Proxy-Authorization, HTTP2-Settings) are dropped, likewise Expect (the proxy itself says 100 Continue), trailers,
// Proxy, Banyan-… and X-Banyan-…, and names that hold '_' or '.', which PHP would fold into others. X-Forwarded-For,
// -Proto and -Host are set; from trusted peers they are extended. From others every X-Forwarded-…, Forwarded, X-Real-IP,
// Client-IP, X-Original-URL and X-Rewrite-URL is dropped. The version is HTTP/1.1; of an absolute target the authority,
// which equals Host, is left out; an HTTP/1.0 request without Host gets an empty one. An upstream.Front, which learns
// the client's address otherwise, gets a trusted peer's X-Forwarded fields as they came and none of the proxy's.
//
// Answers: fields of the connection and trailers are dropped; a body is chunked anew, or ended by closing towards an
// HTTP/1.0 client; Connection: close is added when the connection ends, Connection: Upgrade and Upgrade to a 101. The version is HTTP/1.1. Content-Length is left
// out of a 204.
//
// Over HTTP/2, requests: names are lower-case, Host is :authority and stands first, Cookie is one line, a body without
// Content-Length is chunked. Answers: names become lower-case; no reason, no chunks, no Connection: close. There is no
// upgrade: extended CONNECT (RFC 8441) is not offered.
package proxy
