package hubapi

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Client speaks with one hub. Only Base must be set. A Client may be copied
// and used by several goroutines at once, as long as nobody changes its fields.
//
// Every method tries again on its own after server errors, cut connections and
// connections that could not be made (see [Retryable]), with growing random
// pauses or the pause the server asks for by Retry-After, until RetryFor is
// over. A request whose answer got lost may therefore reach the hub twice; all
// requests of the API can bear that, except that [Client.CreateBuild] may leave
// an unused build behind.
//
// The token is sent to the host of Base only. A redirect to another host is
// followed without it; one from https to http, and one that would lose the
// request's body, is not followed at all.
type Client struct {
	// Base is the hub's URL, "https://hub.example.org", without [Prefix].
	Base string
	// Token is sent as a bearer token with every request, unless it is empty.
	Token string
	// HTTP makes the requests; nil stands for http.DefaultClient. Its
	// CheckRedirect is asked after the client's own rules. Its Timeout, if set,
	// limits long polls and uploads too.
	HTTP *http.Client
	// RetryFor is how long, from its first failure on, a call is tried again:
	// 5 minutes if zero, not at all if negative.
	RetryFor time.Duration
	// ConnectFor, if set, is the shorter time that a call is tried, from its
	// begin on, as long as the hub has given no answer at all: it is for the
	// first call, whose hub may be a mistyped one.
	ConnectFor time.Duration
	// Retrying, if not nil, is told about each failed attempt that is going to
	// be repeated. It may be called by several goroutines at once.
	Retrying func(Retry)
}

// Retry tells of a failed attempt that is going to be repeated.
type Retry struct {
	// Err is why it failed: an [*Error] or a [*ConnError].
	Err error
	// Pause is the time until the next attempt, Left that until the call gives
	// up.
	Pause, Left time.Duration
}

const (
	// defaultRetryFor is the patience of a Client with RetryFor zero: that of
	// flat-manager's own clients.
	defaultRetryFor = 5 * time.Minute
	// stallAfter ends an attempt during which no byte moved for so long.
	stallAfter = 5 * time.Minute
	// maxAnswer bounds what is read of an ordinary answer, maxError of an
	// error, in bytes.
	maxAnswer = 64 << 20
	maxError  = 4 << 20
)

// call is one request of the API, independent of how often it is tried.
type call struct {
	method string
	path   string
	query  url.Values
	header http.Header
	// body makes the request's body anew for every attempt; nil means none.
	body func() io.ReadCloser
	size int64
	// stall replaces stallAfter unless zero.
	stall time.Duration
	// maxAnswer replaces the constant unless zero.
	maxAnswer int64
}

// jsonCall is a call with v as its body; gzipped if compress is set, which is for long
// lists of checksums: digits of hex that never repeat themselves, so that looking for
// what repeats would take ten times as long and find nothing.
func jsonCall(method, path string, v any, compress bool) (call, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return call{}, fmt.Errorf("encode %T: %w", v, err)
	}
	header := http.Header{"Content-Type": {"application/json"}}
	if compress {
		var buf bytes.Buffer
		zw, err := gzip.NewWriterLevel(&buf, gzip.HuffmanOnly)
		if err == nil {
			_, err = zw.Write(b)
			err = errors.Join(err, zw.Close())
		}
		if err != nil {
			return call{}, fmt.Errorf("compress %T: %w", v, err)
		}
		b = buf.Bytes()
		header.Set("Content-Encoding", "gzip")
	}
	return call{
		method: method, path: path, header: header, size: int64(len(b)),
		body: func() io.ReadCloser { return io.NopCloser(bytes.NewReader(b)) },
	}, nil
}

// send marshals in (unless nil) as the body, calls, and decodes the answer
// into out (unless nil).
func (c *Client) send(ctx context.Context, method, path string, in, out any) error {
	request := call{method: method, path: path}
	if in != nil {
		var err error
		if request, err = jsonCall(method, path, in, false); err != nil {
			return err
		}
	}
	return c.do(ctx, request, out)
}

// do makes the call, again if need be, and decodes the answer into out.
func (c *Client) do(ctx context.Context, request call, out any) error {
	var p patience
	p.begin(c)
	for attempt := 0; ; attempt++ {
		retryAfter, err := c.try(ctx, request, out, p.connectBy)
		if err == nil {
			return nil
		}
		if !Retryable(err) || c.RetryFor < 0 {
			return err
		}
		if ctx.Err() != nil {
			return ended(ctx, err)
		}
		left := p.left(err)
		if left <= 0 || retryAfter > left {
			if attempt > 0 {
				err = fmt.Errorf("given up after %d attempts: %w", attempt+1, err)
			}
			return err
		}
		pause := min(max(backoff(attempt), retryAfter), left)
		if c.Retrying != nil {
			c.Retrying(Retry{Err: err, Pause: pause, Left: left})
		}
		if !sleep(ctx, pause) {
			return ended(ctx, err)
		}
	}
}

// ended is the error of a call that is not repeated because ctx has ended.
func ended(ctx context.Context, err error) error {
	return fmt.Errorf("%w (last answer: %w)", context.Cause(ctx), err)
}

var (
	// errStalled ends an attempt during which nothing moved.
	errStalled = errors.New("connection stalled")
	// errNoConnection ends an attempt that has not got a connection in time.
	errNoConnection = errors.New("no connection in time")
)

// try makes the call once, and has a connection by the given time unless that
// is zero. The returned pause is what the server asked for by Retry-After.
func (c *Client) try(ctx context.Context, request call, out any, connectBy time.Time) (retryAfter time.Duration, err error) {
	target, err := c.url(request.path, request.query)
	if err != nil {
		return 0, err
	}
	attempt, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stall := request.stall
	if stall == 0 {
		stall = stallAfter
	}
	watchdog := time.AfterFunc(stall, func() { cancel(errStalled) })
	defer watchdog.Stop()
	moved := func() { watchdog.Reset(stall) }
	connecting, connected := limitConnecting(attempt, connectBy, func() { cancel(errNoConnection) })
	defer connected()

	req, err := http.NewRequestWithContext(connecting, request.method, target.String(), nil)
	if err != nil {
		return 0, fmt.Errorf("%s %s: %w", request.method, request.path, err)
	}
	if request.header != nil {
		req.Header = request.header.Clone()
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "freshet")
	if token := strings.TrimSpace(c.Token); token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	var source bodySource
	if request.body != nil {
		req.GetBody = func() (io.ReadCloser, error) {
			return &watchedBody{ReadCloser: request.body(), moved: moved, source: &source}, nil
		}
		req.Body, _ = req.GetBody()
		req.ContentLength = request.size
	}

	failed := func(err error, answered bool) error {
		if reason := source.err(); reason != nil {
			return reason // our own file could not be read: nothing the hub can help
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s %s: %w", request.method, request.path, context.Cause(ctx))
		}
		if cause := context.Cause(attempt); cause != nil {
			err = cause
		}
		return c.connError(request, err, answered)
	}
	res, err := c.client(target).Do(req)
	if err != nil {
		return 0, failed(err, false)
	}
	defer func() { _ = res.Body.Close() }()
	moved()
	body := &watchedBody{ReadCloser: res.Body, moved: moved}
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return parseRetryAfter(res.Header.Get("Retry-After")), readError(res, body)
	}
	limit := request.maxAnswer
	if limit == 0 {
		limit = maxAnswer
	}
	if out == nil || res.StatusCode == http.StatusNoContent {
		_, _ = io.Copy(io.Discard, io.LimitReader(body, maxError)) // keeps the connection usable
		return 0, nil
	}
	data, err := io.ReadAll(io.LimitReader(body, limit+1))
	if err != nil {
		return 0, failed(err, true)
	}
	if int64(len(data)) > limit {
		return 0, fmt.Errorf("%s %s: answer exceeds %d bytes", request.method, request.path, limit)
	}
	if err := json.Unmarshal(data, out); err != nil {
		return 0, fmt.Errorf("%s %s: answer is not the hub's: %w", request.method, request.path, err)
	}
	return 0, nil
}

// url is the absolute URL of an API path.
func (c *Client) url(path string, query url.Values) (*url.URL, error) {
	base, err := url.Parse(c.Base)
	if err != nil {
		return nil, fmt.Errorf("hub URL: %w", err)
	}
	if base.Scheme != "http" && base.Scheme != "https" || base.Host == "" {
		return nil, fmt.Errorf("hub URL %q: want http:// or https:// and a host", base.Redacted())
	}
	base.Path = strings.TrimRight(base.Path, "/") + path
	base.RawPath = ""
	base.RawQuery = query.Encode()
	base.Fragment = ""
	return base, nil
}

// client is the caller's HTTP client with the rules for redirects of requests
// that began at origin.
func (c *Client) client(origin *url.URL) *http.Client {
	var hc http.Client
	if c.HTTP != nil {
		hc = *c.HTTP
	} else {
		hc = *http.DefaultClient
	}
	next := hc.CheckRedirect
	hc.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		switch first := via[0]; {
		case len(via) >= 10:
			return finalError("stopped after 10 redirects")
		case origin.Scheme == "https" && req.URL.Scheme != "https":
			return finalError("redirect from https to " + req.URL.Scheme + " refused")
		case req.URL.Scheme != "http" && req.URL.Scheme != "https":
			return finalError("redirect to " + req.URL.Scheme + " refused")
		case req.Method != first.Method || first.GetBody != nil && req.Body == nil:
			return finalError("redirect to " + req.URL.Redacted() + " would lose the request's content")
		case !sameHost(origin, req.URL):
			req.Header.Del("Authorization")
		}
		if next != nil {
			return next(req, via)
		}
		return nil
	}
	return &hc
}

// sameHost tells whether a token meant for a may be sent to b: the same host
// and port, or the same host by https instead of http on the usual ports.
func sameHost(a, b *url.URL) bool {
	if !strings.EqualFold(a.Hostname(), b.Hostname()) {
		return false
	}
	pa, pb := port(a), port(b)
	return pa == pb && a.Scheme == b.Scheme || a.Scheme == "http" && b.Scheme == "https" && pa == "80" && pb == "443"
}

func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	if u.Scheme == "https" {
		return "443"
	}
	return "80"
}

// ForeignError says that an answer did not come from a hub, as its body tells:
// from a proxy before it, or from another server. Err is what its status means
// to a client.
type ForeignError struct{ Err *Error }

func (e *ForeignError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *ForeignError) Unwrap() error { return e.Err }

// readError turns an answer that is not a success into an *Error, or a
// *ForeignError of one.
func readError(res *http.Response, body io.Reader) error {
	data, _ := io.ReadAll(io.LimitReader(body, maxError))
	var e Error
	if mediaType, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type")); mediaType == "application/json" &&
		json.Unmarshal(data, &e) == nil && e.Kind != "" {
		e.Status = res.StatusCode
		return &e
	}
	// Something between us and the hub, or another server: its words are of
	// little use, its status is.
	return &ForeignError{&Error{
		Status:  res.StatusCode,
		Kind:    kindOf(res.StatusCode),
		Message: "no hub answered, but a proxy or an edge before it, or another server: " + res.Status,
	}}
}

func kindOf(status int) ErrorKind {
	switch status {
	case http.StatusUnauthorized:
		return ErrInvalidToken
	case http.StatusForbidden:
		return ErrInsufficient
	case http.StatusNotFound:
		return ErrNotFound
	case http.StatusConflict:
		return ErrConflict
	case http.StatusRequestEntityTooLarge:
		return ErrTooLarge
	case http.StatusInsufficientStorage:
		return ErrNoSpace
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout, http.StatusTooManyRequests:
		return ErrUnavailable
	}
	if status >= 500 {
		return ErrInternal
	}
	return ErrGeneric
}

// checkName refuses what cannot be one element of a URL path as it stands.
func checkName(what, name string) error {
	for i := range len(name) {
		switch b := name[i]; {
		case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z', '0' <= b && b <= '9',
			b == '-', b == '_', b == '.', b == '+', b == '~':
		default:
			return fmt.Errorf("%s %q: %q is not allowed in it", what, name, b)
		}
	}
	if name == "" || name == "." || name == ".." {
		return fmt.Errorf("%q is no name of a %s", name, what)
	}
	return nil
}

// parseRetryAfter reads the value of Retry-After in either form (RFC 9110,
// section 10.2.3), bounded to an hour.
func parseRetryAfter(v string) time.Duration {
	if v == "" {
		return 0
	}
	var d time.Duration
	if n, err := strconv.ParseUint(v, 10, 31); err == nil {
		d = time.Duration(n) * time.Second
	} else if t, err := http.ParseTime(v); err == nil {
		d = time.Until(t)
	}
	return min(max(d, 0), time.Hour)
}
