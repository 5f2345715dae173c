// Package h1 is an HTTP/1.1 server loop for answers that are at hand, in front
// of net/http, which does everything else.
//
//	accept ─ one goroutine per connection
//	   │
//	   ├─ a plain GET or HEAD? ── no, or not understood ─► net/http, for good,
//	   │      │                                            with every byte read
//	   │      └─ Handler.Answer ── not at hand ──────────► net/http, on loan:
//	   │             │                                     one request, then
//	   │             │                                     the connection is back
//	   └──◄── head and body in one write, or sendfile
//
// # What is understood
//
// HTTP/1.1 GET and HEAD without a body, with a target in origin-form, one Host
// field, and field lines as RFC 9112 writes them: CRLF, no folding, no space
// before the colon, visible ASCII. Whatever this package accepts, net/http
// accepts with the same method, target, host and fields; the fuzz tests hold it
// to that. Everything else is net/http's to answer or to refuse: nothing is
// rejected here, so that there is one place that decides.
//
// # Promises
//
//   - Answers come in the order of the requests, also when these are pipelined.
//   - An idle connection holds no buffer.
//   - The limits are those of the [net/http.Server] behind: time for a header,
//     time between requests. A client that takes no byte for [Server.Stall] is
//     cut.
//   - When serving ends, requests in flight are answered, and their answers say
//     "Connection: close"; idle connections are closed.
//   - A body that cannot be sent whole ends the connection: it never looks
//     complete.
package h1
