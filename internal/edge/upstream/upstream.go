package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"sync/atomic"
	"time"
)

// Origin is a server to ask. Base and HTTP must be set. It is safe for
// concurrent use.
type Origin struct {
	// Base is put before each path; its own path may be empty.
	Base *url.URL
	// HTTP makes the connections and limits the time that takes. It must not
	// unpack bodies.
	HTTP http.RoundTripper
	// FirstByte is how long the header may take once there is a connection,
	// Idle how long each read of the body may. Zero: no limit.
	FirstByte, Idle time.Duration
}

// connectGrace is added to FirstByte for connecting; the transport's own,
// tighter limits (3 s, and 5 s for TLS) tell which phase it was.
const connectGrace = 10 * time.Second

var (
	errFirstByte = &Error{FirstByteTimeout, errors.New("no answer in time")}
	errIdle      = &Error{IdleTimeout, errors.New("answer paused too long")}
	errConnect   = &Error{ConnectTimeout, errors.New("no connection in time")}
)

// Do sends the request and returns the response as soon as its header is
// there. Redirects are not followed. The error is an [*Error]; so are those of
// the body, whose end is known to be the true one unless [Delimited] says
// otherwise. Closing the body early cuts the connection.
func (o *Origin) Do(ctx context.Context, r Request) (*http.Response, error) {
	u := *o.Base
	uri, err := url.ParseRequestURI(r.URI)
	if err != nil {
		return nil, &Error{BadMessage, err}
	}
	u.Path, u.RawPath = join(o.Base.Path, uri.Path), join(o.Base.EscapedPath(), uri.EscapedPath())
	u.RawQuery, u.ForceQuery = uri.RawQuery, uri.ForceQuery

	ctx, cancel := context.WithCancelCause(ctx)
	var connected atomic.Bool
	timer := time.AfterFunc(o.FirstByte+connectGrace, func() {
		if connected.Load() {
			cancel(errFirstByte)
		} else {
			cancel(errConnect)
		}
	})
	if o.FirstByte == 0 {
		timer.Stop()
	}
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) {
		// Called again when the request is sent anew on another connection.
		connected.Store(true)
		if o.FirstByte > 0 {
			timer.Reset(o.FirstByte)
		}
	}}
	if r.Interim != nil {
		trace.Got1xxResponse = func(status int, h textproto.MIMEHeader) error {
			r.Interim(status, http.Header(h))
			return nil
		}
	}
	req := (&http.Request{
		Method: r.Method, URL: &u, Host: o.Base.Host, Header: r.Header, Body: r.Body, ContentLength: r.ContentLength,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(httptrace.WithClientTrace(ctx, trace))
	resp, err := o.HTTP.RoundTrip(req)
	timer.Stop()
	if err != nil {
		err = classify(ctx, err, false)
		cancel(nil)
		return nil, fmt.Errorf("%s %s: %w", r.Method, u.Redacted(), err)
	}
	resp.Body = &body{ReadCloser: resp.Body, ctx: ctx, cancel: cancel, idle: o.Idle}
	return resp, nil
}

// Delimited reports whether the end of the response's body can be told from a
// broken connection.
func Delimited(resp *http.Response) bool {
	if resp.ContentLength >= 0 || resp.ProtoMajor >= 2 {
		return true
	}
	n := len(resp.TransferEncoding)
	return n > 0 && resp.TransferEncoding[n-1] == "chunked"
}

func join(base, path string) string {
	if n := len(base); n > 0 && base[n-1] == '/' {
		base = base[:n-1]
	}
	return base + path
}

// body classifies errors and bounds each read.
type body struct {
	io.ReadCloser
	ctx    context.Context //nolint:containedctx // the request's, which the body ends
	cancel context.CancelCauseFunc
	idle   time.Duration
	timer  *time.Timer
}

func (b *body) Read(p []byte) (int, error) {
	if b.idle > 0 {
		if b.timer == nil {
			b.timer = time.AfterFunc(b.idle, func() { b.cancel(errIdle) })
		} else {
			b.timer.Reset(b.idle)
		}
	}
	n, err := b.ReadCloser.Read(p)
	if b.timer != nil {
		b.timer.Stop()
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = classify(b.ctx, err, true)
	}
	return n, err
}

func (b *body) Close() error {
	if b.timer != nil {
		b.timer.Stop()
	}
	err := b.ReadCloser.Close()
	b.cancel(nil)
	return err
}
