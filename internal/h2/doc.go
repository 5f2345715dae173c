// Package h2 is an HTTP/2 server (RFC 9113) for answers that are at hand, in
// front of an [net/http.Handler], which makes all others.
//
//	reader ─ one goroutine per connection: frames in, answers at hand out
//	   │
//	   ├─ GET or HEAD, at hand? (the Handler of package h1) ─► HEADERS and DATA
//	   │        of all the requests that were read, by one write
//	   ├─ else an exchange: a goroutine that runs the http.Handler
//	   └─ more to send than one write takes: a pump, as long as there is
//
// # Who writes
//
// Frames are queued under the lock of the connection, and written by whoever
// finds that nobody does: the reader, an exchange, or the pump, to which the
// others leave what is more than their share. So the reader does not write
// while much is to be sent, and frames that change what is sent are seen.
// Bodies of answers at hand stay where they are until they are sent; streams
// take turns by frames. Priorities are ignored, and the client is told so.
//
// # Limits
//
//   - 128 requests at once, and as many handlers, also of requests given up.
//   - Headers of 32 kB, 48 kB as sent, in at most 17 frames.
//   - Request bodies: 64 kB of a stream and 256 kB of a connection before they
//     are read.
//   - Requests given up (CVE-2023-44487) and frames that ask for nothing have a
//     budget; what is queued for a client is bounded, and then nothing more is
//     read from it.
//   - Time for a header, between requests, without taking an answer, and a rate
//     at which answers must be taken.
//
// Who breaks one of them is told by GOAWAY or RST_STREAM and counted by reason.
//
// # Promises
//
//   - An idle connection holds no buffer.
//   - A body that cannot be sent whole ends in RST_STREAM: it never looks
//     complete.
//   - When serving ends, clients are told by GOAWAY, requests on their way are
//     answered, and connections end with their last answer.
package h2
