package upstream

import (
	"io"
	"net/http"
	"time"
)

// Request is a request to an origin.
type Request struct {
	Method string
	// URI is path and query as they are sent, "/a%20b?c"; the path begins with
	// a slash.
	URI    string
	Header http.Header
	// Body may be nil. ContentLength is its length, -1 if unknown.
	Body          io.ReadCloser
	ContentLength int64
	// Interim, if not nil, is told of 1xx responses.
	Interim func(status int, h http.Header)

	// Key chooses among several origins: requests with the same key go to the
	// same one while it is well. All parts of one file should have the same.
	// Zero: the URI is the key.
	Key [16]byte
	// Avoid names origins that are asked only if there is no other, as in
	// [Trace.Origin]: what they sent for this key was wrong.
	Avoid []string
	// Hedge allows a second request to another origin when the first is slow to
	// answer. It is for requests that anyone may repeat.
	Hedge bool
	// Steady asks the key's origin also when it has more than its share to do:
	// what belongs together is to come from one.
	Steady bool
	// Direct asks no shield if there is an origin: the request came from
	// another cache of ours.
	Direct bool
	// Trailing allows bytes behind the announced end of a body of HTTP/1.1: they
	// are dropped with the connection (RFC 9112 §6.3). Otherwise the body fails
	// with [LongBody].
	Trailing bool
	// Trace, if not nil, is filled in before the response or the error is
	// returned.
	Trace *Trace

	probe bool // made to see how the origin is: anything but 200 is a failure
}

// Trace is how a request to an origin went.
type Trace struct {
	// Origin names who answered, or failed last: host, port and path of its
	// URL. It is empty if nobody was asked.
	Origin string
	// Tries is how many requests were sent, hedges included.
	Tries int
	// Reused says that the connection had been used before. Connect and TLS are
	// zero then.
	Reused bool
	// Connect, TLS and FirstByte are how long it took to connect, to shake
	// hands, and from the begin of the last try to the response's header.
	Connect, TLS, FirstByte time.Duration

	asked []string // others that were asked
}
