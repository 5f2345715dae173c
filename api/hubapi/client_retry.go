package hubapi

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync"
	"time"
)

// Retryable reports whether the same call may succeed later: the hub answered
// with a passing server error, or could not be reached, or the connection was
// cut. Everything else is final.
func Retryable(err error) bool {
	var r interface{ Retryable() bool }
	return errors.As(err, &r) && r.Retryable()
}

// Retryable reports whether the same request may succeed later. A full disk
// (507) is final: it needs a person.
func (e *Error) Retryable() bool {
	switch e.Status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests:
		return true
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported, http.StatusInsufficientStorage:
		return false
	}
	return e.Status >= 500
}

// ConnError says that no complete answer was received.
type ConnError struct {
	// Hub is the client's Base, without a password.
	Hub string
	// Method and Path of the request.
	Method, Path string
	// Answered is set when an answer had begun.
	Answered bool
	// Err is the reason, without the URL.
	Err error
}

func (c *Client) connError(request call, err error, answered bool) *ConnError {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err
	}
	hub := c.Base
	if base, err := url.Parse(hub); err == nil {
		hub = base.Redacted()
	}
	return &ConnError{Hub: hub, Method: request.method, Path: request.path, Answered: answered, Err: err}
}

func (e *ConnError) Error() string { return fmt.Sprintf("hub %s: %v", e.Hub, e.Err) }

// Unwrap returns Err.
func (e *ConnError) Unwrap() error { return e.Err }

// Retryable reports false for what will not heal by itself: refused redirects,
// a server whose certificate is not trusted or that does not speak TLS, and a
// host that does not exist.
func (e *ConnError) Retryable() bool {
	if errors.Is(e.Err, http.ErrSchemeMismatch) {
		return false
	}
	if dns, ok := errors.AsType[*net.DNSError](e.Err); ok && dns.IsNotFound {
		return false
	}
	if _, ok := errors.AsType[finalError](e.Err); ok {
		return false
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](e.Err); ok {
		return false
	}
	if _, ok := errors.AsType[x509.HostnameError](e.Err); ok {
		return false
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](e.Err); ok {
		return false // plain HTTP behind an https URL
	}
	return true
}

// finalError is a reason that no repetition helps against.
type finalError string

func (e finalError) Error() string { return string(e) }

// patience is how long a call goes on.
type patience struct {
	retryFor  time.Duration
	connectBy time.Time // the hub must have answered by then; zero: whenever
	giveUp    time.Time // zero before the first failure
}

func (p *patience) begin(c *Client) {
	p.retryFor = c.RetryFor
	if p.retryFor == 0 {
		p.retryFor = defaultRetryFor
	}
	if c.ConnectFor > 0 {
		p.connectBy = time.Now().Add(c.ConnectFor)
	}
}

// left returns the time that is left after an attempt failed.
func (p *patience) left(err error) time.Duration {
	now := time.Now()
	if p.giveUp.IsZero() {
		p.giveUp = now.Add(p.retryFor)
	}
	if broken, ok := errors.AsType[*ConnError](err); !ok || broken.Answered {
		p.connectBy = time.Time{}
	}
	if !p.connectBy.IsZero() && p.connectBy.Before(p.giveUp) {
		return p.connectBy.Sub(now)
	}
	return p.giveUp.Sub(now)
}

// lastConnect is the least time in which an attempt may connect.
const lastConnect = 2 * time.Second

// limitConnecting calls late when a request of the returned context has no
// connection by the given time, unless connected was called before.
func limitConnecting(ctx context.Context, by time.Time, late func()) (limited context.Context, connected func()) {
	if by.IsZero() {
		return ctx, func() {}
	}
	timer := time.AfterFunc(max(time.Until(by), lastConnect), late)
	connected = func() { timer.Stop() }
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected() }}
	return httptrace.WithClientTrace(ctx, trace), connected
}

const (
	firstPause = 250 * time.Millisecond
	maxPause   = 30 * time.Second
)

// backoff is the pause after the failed attempt with the given number, from 0:
// doubling, bounded, and random in its upper half so that many clients do not
// return together.
func backoff(attempt int) time.Duration {
	pause := maxPause
	if attempt < 16 {
		pause = min(firstPause<<attempt, maxPause)
	}
	return pause/2 + rand.N(pause/2)
}

// sleep waits and reports whether the whole time passed before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// bodySource remembers an error of the request's own content, which the
// transport would report like any failure of the connection.
type bodySource struct {
	mu    sync.Mutex
	first error // guarded by mu
}

func (s *bodySource) err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.first
}

func (s *bodySource) set(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.first == nil {
		s.first = err
	}
}

// watchedBody tells moved about every piece that was read, and source about
// an error that is the content's own.
type watchedBody struct {
	io.ReadCloser
	moved  func()
	source *bodySource
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.moved()
	}
	if err != nil && b.source != nil {
		if part, ok := errors.AsType[*PartError](err); ok {
			b.source.set(part)
		}
	}
	return n, err
}
