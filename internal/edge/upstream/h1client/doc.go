// Package h1client is an HTTP/1.1 client for one origin: few allocations, no
// goroutine for an idle connection, and a strict reader, because a cache that
// misunderstands an answer hands the error to everybody.
//
//	Client.Do ─ idle connection, checked ─┐
//	     └──── dial, shake hands ─────────┤
//	                                      ▼
//	            request written ─ head read ─ http.Response
//	                                            │ body read to its end
//	                                            ▼
//	                                      idle again, or closed
//
// # What is refused
//
// Bare LF, folded lines, control characters, a space before the colon, heads
// over 64 KiB, Content-Length together with Transfer-Encoding or differing from
// itself, any known transfer coding but chunked, chunk sizes that are no plain hex
// number, an upgrade nobody asked for (RFC 9112 §2.2, §5, §6, §7). Bytes that
// come before they were asked for, or after the end of an answer, end the
// connection before its next use.
//
// # What is retried
//
// A GET or HEAD without a body is sent once more, on a new connection, if it
// was sent on a used one that ended without a byte of an answer: the origin was
// closing it just then (RFC 9112 §9.3.1). Nothing else is.
package h1client
