package h1client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
)

// Kind is what went wrong, by phase.
type Kind uint8

// The kinds.
const (
	Canceled         Kind = iota + 1 // the context ended; its cause is wrapped
	DNS                              // the name was not resolved
	Connect                          // no connection
	ConnectTimeout                   // none in time
	TLS                              // handshake or certificate
	TLSTimeout                       // no handshake in time
	FirstByteTimeout                 // no head in time
	IdleTimeout                      // a pause within the body, or of a reader of ours
	Broken                           // the connection ended or failed
	Short                            // it ended within the body
	Long                             // it goes on behind its announced length
	Malformed                        // not valid HTTP
	BadRequest                       // the request cannot be sent as it is
)

func (k Kind) String() string {
	names := [...]string{
		"", "canceled", "name not resolved", "no connection", "no connection in time", "tls", "no handshake in time",
		"no answer in time", "answer paused too long", "connection broke", "body cut short", "body too long", "malformed answer", "request not sendable",
	}
	if int(k) < len(names) {
		return names[k]
	}
	return "unknown"
}

// Error is why there is no response, or no more of its body.
type Error struct {
	Kind Kind
	Err  error
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %v", e.Kind, e.Err) }

func (e *Error) Unwrap() error { return e.Err }

func malformed(format string, args ...any) error {
	return &Error{Malformed, fmt.Errorf(format, args...)}
}

// asError gives err, of the network, the kind that it has in this phase:
// onTimeout if a deadline passed, else onEnd.
func asError(ctx context.Context, err error, onTimeout, onEnd Kind) error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if ctx.Err() != nil {
		return &Error{Canceled, context.Cause(ctx)}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &Error{onTimeout, err}
	}
	return &Error{onEnd, err}
}

// ended reports whether the other side had closed the connection, or did so
// while the request was on its way.
func ended(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Kind == Broken
}

// dialError gives the kind of an error of dialling; ours is the context with
// the limit, ctx that of the caller.
func dialError(ctx, ours context.Context, err error) error {
	if ctx.Err() != nil {
		return &Error{Canceled, context.Cause(ctx)}
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return &Error{DNS, err}
	}
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() || ours.Err() != nil {
		return &Error{ConnectTimeout, err}
	}
	return &Error{Connect, err}
}

func tlsError(ctx, ours context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return &Error{Canceled, context.Cause(ctx)}
	case ours.Err() != nil:
		return &Error{TLSTimeout, err}
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	return &Error{TLS, err}
}
