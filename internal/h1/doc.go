// Package h1 is an HTTP/1.1 server loop for plain requests, in front of net/http,
// which does everything else.
//
//	accept ─ one goroutine per connection
//	   │
//	   ├─ a plain GET or HEAD? ── no, or not understood ─► net/http, for good,
//	   │      │                                            with every byte read
//	   │      └─ Handler.Answer ── not at hand ──────────► the http.Handler, called
//	   │             │                                     here, in this goroutine
//	   └──◄── head and body in one write, or sendfile ◄────┘
//
// # What is understood
//
// HTTP/1.1 GET and HEAD without a body, with a target in origin-form, one Host
// field, and field lines as RFC 9112 writes them: CRLF, no folding, no space
// before the colon, visible ASCII. Whatever this package accepts, net/http
// accepts with the same method, target, host and fields; the fuzz tests hold it
// to that. Everything else goes to net/http.
//
// # What is refused
//
// net/http forgives more than a cache can: what is ambiguous to the next server
// must not pass. So a referee reads along what net/http gets, and follows each
// message to its end: lines end in CR LF, fields are neither folded nor have
// space before the colon, there is one Content-Length or one "Transfer-Encoding:
// chunked" and never both, and chunks are as long as they say. What is not so is
// answered 400 with the reason, counted and told of ([Server.Refused]), and the
// connection is closed; what is behind it is not read as a request. In a body it
// is the handler that answers ([BodyFault]).
//
// # Promises
//
//   - Answers come in the order of the requests, also when these are pipelined.
//   - An idle connection holds no buffer, and without TLS a new stack, the
//     smallest there is, whatever its last answer took.
//   - A client that leaves between two requests is seen to leave at once, or
//     within two seconds if that came in one piece with its last request, and
//     requests had followed one another within a tenth of a second.
//   - What the http.Handler writes reaches the client as net/http would send it,
//     but for the sizes of chunks, and what it sees of a request is the same. It
//     may not hijack the connection or set deadlines. When it takes long, a
//     client that leaves cancels the context of the request.
//   - The limits are those of the [net/http.Server] behind: time for a header,
//     time between requests. What waits in the socket when the time is over, since
//     nobody could look, is read once. A client that takes no byte for
//     [Server.Stall], or sends none of a body for as long, is cut.
//   - When serving ends, requests in flight are answered, and their answers say
//     "Connection: close"; idle connections are closed.
//   - A body that cannot be sent whole ends the connection: it never looks
//     complete.
package h1
