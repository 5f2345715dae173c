// Package upstream asks origins: one request, each phase with its own time
// limit, and for each failure one word of a fixed vocabulary.
//
// A response's body fails with an [*Error] too, so that whoever reads it knows
// whether the origin cut it short, fell silent or was cut off by us.
package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"

	"freshet/internal/edge/upstream/h1client"
)

// Reason is why something could not be had from the origin. The same word
// stands in the Proxy-Status field, the access record and the metrics.
type Reason string

// The reasons.
const (
	DNS              Reason = "dns"                // the name was not resolved
	Refused          Reason = "refused"            // nobody listens, or no route
	ConnectTimeout   Reason = "connect_timeout"    // no connection in time
	TLS              Reason = "tls"                // handshake or certificate
	TLSTimeout       Reason = "tls_timeout"        // no handshake in time
	FirstByteTimeout Reason = "first_byte_timeout" // no header in time
	IdleTimeout      Reason = "idle_timeout"       // silence within a body
	Reset            Reason = "reset"              // connection broke
	ShortBody        Reason = "short_body"         // body ended before its end
	LongBody         Reason = "long_body"          // body goes on behind its announced end
	BadMessage       Reason = "bad_message"        // not valid HTTP
	Status5xx        Reason = "status_5xx"         // the origin answered 5xx
	VerifyMismatch   Reason = "verify_mismatch"    // content is not what its name says
	// The files of a set do not belong together, or are older than those held.
	GenerationConflict Reason = "generation_conflict"
	Changed            Reason = "changed"     // the file changed while it was fetched in parts
	StoreFull          Reason = "store_full"  // no room, or the disk failed
	ClientGone         Reason = "client_gone" // nobody waits any more
	Stopping           Reason = "stopping"    // the edge is told to end
	FetchLimit         Reason = "fetch_limit" // too many requests to the origin are under way
	Loop               Reason = "loop"        // the request came back to its sender
	Quarantined        Reason = "quarantined" // the origin has the file, and keeps its copy apart because it is damaged
)

// Status is the status a client is answered with when nothing better is at
// hand. It is never 404: a client takes that as the truth about the file.
func (r Reason) Status() int {
	switch r {
	case ConnectTimeout, TLSTimeout, FirstByteTimeout, IdleTimeout:
		return http.StatusGatewayTimeout
	case Loop:
		return http.StatusLoopDetected
	case Stopping, FetchLimit:
		return http.StatusServiceUnavailable
	case DNS, Refused, TLS, Reset, ShortBody, LongBody, BadMessage, Status5xx, VerifyMismatch, GenerationConflict, Changed, StoreFull, ClientGone, Quarantined:
	}
	return http.StatusBadGateway
}

// ProxyError is the registered error type of RFC 9209 §2.3 for the reason.
func (r Reason) ProxyError() string {
	switch r {
	case DNS:
		return "dns_error"
	case Refused:
		return "connection_refused"
	case ConnectTimeout, TLSTimeout:
		return "connection_timeout"
	case TLS:
		return "tls_protocol_error"
	case FirstByteTimeout:
		return "http_response_timeout"
	case IdleTimeout:
		return "connection_read_timeout"
	case Reset:
		return "connection_terminated"
	case ShortBody:
		return "http_response_incomplete"
	case LongBody, BadMessage:
		return "http_protocol_error"
	case Status5xx, Quarantined:
		return "" // the origin's answer is passed on
	case Loop:
		return "proxy_loop_detected"
	case FetchLimit:
		return "connection_limit_reached"
	case VerifyMismatch, GenerationConflict, Changed, StoreFull, ClientGone, Stopping:
	}
	return "proxy_internal_error"
}

// Error is a failure with its reason.
type Error struct {
	Reason Reason
	Err    error
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %v", e.Reason, e.Err) }

func (e *Error) Unwrap() error { return e.Err }

// ReasonOf returns the reason that err carries; [Reset] if it carries none.
func ReasonOf(err error) Reason {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Reason
	}
	return Reset
}

// classify finds the reason of an error of the HTTP client. inBody says that
// the header had arrived.
func classify(ctx context.Context, err error, inBody bool) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if ctx.Err() != nil {
		if e, ok := errors.AsType[*Error](context.Cause(ctx)); ok {
			return e
		}
		return &Error{ClientGone, err}
	}
	if e, ok := errors.AsType[*h1client.Error](err); ok {
		return &Error{reasonOf(e, inBody), err}
	}
	if reason, ok := dialReason(err); ok && !inBody {
		return &Error{reason, err}
	}
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF) && inBody:
		return &Error{ShortBody, err}
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &Error{Reset, err}
	}
	if strings.Contains(err.Error(), "more than declared Content-Length") { // of HTTP/2
		return &Error{LongBody, err}
	}
	if msg := err.Error(); strings.Contains(msg, "malformed") || strings.Contains(msg, "invalid") || strings.Contains(msg, "too large") ||
		strings.Contains(msg, "exceeded") || strings.Contains(msg, "unsupported") {
		return &Error{BadMessage, err} // net/http has no types for these
	}
	return &Error{Reset, err}
}

// reasonOf gives an error of our own client its reason.
func reasonOf(e *h1client.Error, inBody bool) Reason {
	switch e.Kind {
	case h1client.DNS:
		return DNS
	case h1client.Connect:
		return Refused
	case h1client.ConnectTimeout:
		return ConnectTimeout
	case h1client.TLS:
		return TLS
	case h1client.TLSTimeout:
		return TLSTimeout
	case h1client.FirstByteTimeout:
		return FirstByteTimeout
	case h1client.IdleTimeout:
		return IdleTimeout
	case h1client.Short:
		return ShortBody
	case h1client.Long:
		return LongBody
	case h1client.Malformed, h1client.BadRequest:
		return BadMessage
	case h1client.Canceled:
		return ClientGone
	case h1client.Broken:
		if inBody && errors.Is(e, io.EOF) {
			return ShortBody
		}
	}
	return Reset
}

// dialReason recognises what goes wrong before a connection is ready.
func dialReason(err error) (Reason, bool) {
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return DNS, true
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		if op.Timeout() {
			return ConnectTimeout, true
		}
		return Refused, true
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return Refused, true
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return TLS, true
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return TLS, true
	}
	if _, ok := errors.AsType[tls.AlertError](err); ok {
		return TLS, true
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return TLS, true
	}
	msg := err.Error()
	switch {
	case strings.Contains(msg, "TLS handshake") || strings.Contains(msg, "tls:"):
		return TLS, true
	case strings.Contains(msg, "connection refused"): // in-memory networks
		return Refused, true
	}
	return "", false
}
