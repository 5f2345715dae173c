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
	"strings"
	"sync/atomic"
	"time"

	"freshet/internal/edge/upstream/h1client"
	"freshet/internal/role"
)

// Role is what an origin is to a group.
type Role uint8

const (
	// Ordinary origins have the content.
	Ordinary Role = iota
	// Shield is a cache of ours in front of the origins. It is not asked on
	// behalf of another cache of ours.
	Shield
	// LastResort is asked when no other is well.
	LastResort
)

// Origin is a server to ask. Base, and Client or HTTP, must be set; the fields
// are not changed after the first use. It is safe for concurrent use.
type Origin struct {
	// Base is put before each path; its own path may be empty.
	Base *url.URL
	// Client makes the requests. If it is nil, HTTP does; that must not unpack
	// bodies.
	Client *h1client.Client
	HTTP   http.RoundTripper
	// FirstByte is how long the response's header may take, connecting
	// included, Idle how long each read of the body may. Zero: no limit.
	FirstByte, Idle time.Duration
	// Weight is its share of the keys. Zero: 1.
	Weight int
	Role   Role
	// Metrics may be zero.
	Metrics OriginMetrics

	health   health
	inFlight atomic.Int64
	times    window
}

var (
	errFirstByte = &Error{FirstByteTimeout, errors.New("no answer in time")}
	errIdle      = &Error{IdleTimeout, errors.New("answer paused too long")}
	errConnect   = &Error{ConnectTimeout, errors.New("no connection in time")}
)

// Name is the origin in [Trace], [Request.Avoid], metrics and logs.
func (o *Origin) Name() string { return o.Base.Host + strings.TrimSuffix(o.Base.EscapedPath(), "/") }

// InFlight returns how many requests it has not answered to the end.
func (o *Origin) InFlight() int { return int(o.inFlight.Load()) }

// Healthy reports whether it is asked like any other.
func (o *Origin) Healthy() bool { return !o.health.ejected() }

// Do sends the request and returns the response as soon as its header is
// there. Redirects are not followed. The error is an [*Error]; so are those of
// the body, whose end is known to be the true one unless [Delimited] says
// otherwise. Closing the body early cuts the connection.
func (o *Origin) Do(ctx context.Context, r Request) (*http.Response, error) {
	return o.do(ctx, &r, o.headBy(time.Now()), nil)
}

// headBy is when there must be the header of an answer to what is asked now, zero
// if there is no limit.
func (o *Origin) headBy(now time.Time) time.Time {
	if o.FirstByte <= 0 {
		return time.Time{}
	}
	return now.Add(o.FirstByte)
}

// do asks with the header due by a given time. cancel, if not nil, is called
// when the response is over, or with an error.
func (o *Origin) do(ctx context.Context, r *Request, by time.Time, cancel context.CancelCauseFunc) (*http.Response, error) {
	if r.Trace == nil {
		r.Trace = new(Trace)
	}
	tr := r.Trace
	tr.Origin = o.Name()
	tr.Tries++
	tr.Reused, tr.Connect, tr.TLS = false, 0, 0
	o.inFlight.Add(1)
	begun := time.Now()
	var resp *http.Response
	var err error
	if o.Client != nil {
		resp, err = o.byClient(ctx, r, by)
	} else {
		resp, err = o.byTransport(ctx, r, by)
	}
	tr.FirstByte = time.Since(begun)
	o.Metrics.observe(tr)
	if err != nil {
		e := classify(ctx, err, false)
		o.over(r, begun, e.Reason, 0)
		if cancel != nil {
			cancel(nil)
		}
		return nil, fmt.Errorf("%s %s%s: %w", r.Method, tr.Origin, withoutQuery(r.URI), e)
	}
	o.times.add(tr.FirstByte)
	if Withholds(resp) {
		o.Metrics.failed(Quarantined)
	}
	b := &body{ReadCloser: resp.Body, o: o, r: r, begun: begun, status: resp.StatusCode, ctx: ctx, cancel: cancel}
	resp.Body = b
	return resp, nil
}

// over notes the end of a request; reason is "" if all went well, status that
// of the answer, if there was one.
func (o *Origin) over(r *Request, begun time.Time, reason Reason, status int) {
	o.inFlight.Add(-1)
	if reason == "" && (sick(status) || r.probe && status != http.StatusOK) {
		reason = Status5xx
	}
	switch reason {
	case "":
		o.health.succeeded(time.Now(), begun)
	case ClientGone, Stopping:
		o.health.released()
	default:
		o.Metrics.failed(reason)
		o.health.failed(time.Now(), begun, failureOf(r, reason, status))
	}
}

// sick reports whether a status tells of an origin that cannot answer, rather
// than of a request that cannot be answered.
func sick(status int) bool {
	switch status {
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return false
	}
	return status >= http.StatusInternalServerError
}

// Withholds reports whether a hub answers that it has the file and does not serve
// it, because its copy is damaged. That is nothing to remember about the file,
// and nothing to blame all of the origin for.
func Withholds(resp *http.Response) bool {
	return resp.StatusCode == http.StatusNotFound && resp.Header.Get(role.ReasonHeader) == string(Quarantined)
}

// useless reports whether another origin might have a better answer.
func useless(resp *http.Response) bool { return sick(resp.StatusCode) || Withholds(resp) }

func (o *Origin) byClient(ctx context.Context, r *Request, by time.Time) (*http.Response, error) {
	if !strings.HasPrefix(r.URI, "/") {
		return nil, &Error{BadMessage, fmt.Errorf("path %q", r.URI)}
	}
	req := h1client.Request{
		Method: r.Method, Target: strings.TrimSuffix(o.Base.EscapedPath(), "/") + r.URI, Host: o.Base.Host, Header: r.Header, Body: r.Body, ContentLength: r.ContentLength,
		Interim: r.Interim, Deadline: by, FirstByte: o.FirstByte, Idle: o.Idle, Trailing: r.Trailing,
	}
	resp, err := o.Client.Do(ctx, &req)
	r.Trace.Reused, r.Trace.Connect, r.Trace.TLS = req.Timing.Reused, req.Timing.Connect, req.Timing.TLS
	return resp, err
}

// byTransport asks by net/http, which speaks HTTP/2 too.
func (o *Origin) byTransport(ctx context.Context, r *Request, by time.Time) (*http.Response, error) {
	u := *o.Base
	uri, err := url.ParseRequestURI(r.URI)
	if err != nil {
		return nil, &Error{BadMessage, err}
	}
	u.Path, u.RawPath = join(o.Base.Path, uri.Path), join(o.Base.EscapedPath(), uri.EscapedPath())
	u.RawQuery, u.ForceQuery = uri.RawQuery, uri.ForceQuery

	ctx, cancel := context.WithCancelCause(ctx)
	var connected atomic.Bool
	stop := func() bool { return true }
	if !by.IsZero() {
		stop = time.AfterFunc(time.Until(by), func() {
			if connected.Load() {
				cancel(errFirstByte)
			} else {
				cancel(errConnect)
			}
		}).Stop
	}
	tr := r.Trace
	trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		connected.Store(true)
		tr.Reused = info.Reused
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
	stop()
	if err != nil {
		err = classify(ctx, err, false)
		cancel(nil)
		return nil, err
	}
	resp.Body = &timedBody{ReadCloser: resp.Body, ctx: ctx, cancel: cancel, idle: o.Idle}
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

// AtHand reports whether the next n bytes of a body can be read without waiting
// for the origin. False may mean that it is not known.
func AtHand(b io.Reader, n int64) bool {
	known, ok := b.(interface{ AtHand(n int64) bool })
	return ok && n >= 0 && known.AtHand(n)
}

func withoutQuery(uri string) string {
	path, _, _ := strings.Cut(uri, "?")
	return path
}

func join(base, path string) string {
	if n := len(base); n > 0 && base[n-1] == '/' {
		base = base[:n-1]
	}
	return base + path
}

// body classifies errors and tells the origin of its end.
type body struct {
	io.ReadCloser
	o      *Origin
	r      *Request
	begun  time.Time
	status int
	ctx    context.Context //nolint:containedctx // the request's, which the body ends
	cancel context.CancelCauseFunc
	ended  atomic.Bool
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		b.end("")
	default:
		e := classify(b.ctx, err, true)
		b.end(e.Reason)
		err = e
	}
	return n, err
}

// AtHand is for the function of this name.
func (b *body) AtHand(n int64) bool { return AtHand(b.ReadCloser, n) }

func (b *body) end(reason Reason) {
	if b.ended.Swap(true) {
		return
	}
	b.o.over(b.r, b.begun, reason, b.status)
}

// Close implements [io.Closer].
func (b *body) Close() error {
	err := b.ReadCloser.Close()
	b.end("")
	if b.cancel != nil {
		b.cancel(nil)
	}
	return err
}

// timedBody bounds each read of a body of net/http.
type timedBody struct {
	io.ReadCloser
	ctx    context.Context //nolint:containedctx // the request's, which the body ends
	cancel context.CancelCauseFunc
	idle   time.Duration
	timer  *time.Timer
}

func (b *timedBody) Read(p []byte) (int, error) {
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

func (b *timedBody) Close() error {
	if b.timer != nil {
		b.timer.Stop()
	}
	err := b.ReadCloser.Close()
	b.cancel(nil)
	return err
}
