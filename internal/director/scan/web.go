package scan

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"freshet/internal/pause"
	"freshet/internal/watchdog"
)

const (
	userAgent = "freshet-director"
	silence   = time.Minute // without a byte
	attempts  = 3           // for what fails at the server, or on the way
	maxWait   = time.Minute // that a server may ask for
)

// web asks one web server, by so many requests a second. It follows no redirect: what is
// elsewhere is not on the mirror. It may be used by several goroutines.
type web struct {
	client *http.Client
	pace   pace
}

func newWeb(transport http.RoundTripper, rate int) *web {
	return &web{
		client: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		pace: pace{every: time.Second / time.Duration(rate)},
	}
}

// answer is what a server answered with 200, or with 304 if it was asked so. Its body is
// to be closed.
type answer struct{ *http.Response }

// ask asks for a URL. What is not there, or elsewhere, is an error with a reason; what
// fails is tried again a few times.
func (w *web) ask(ctx context.Context, method string, u *url.URL, header http.Header) (*answer, error) {
	wait := time.Second
	for attempt := 1; ; attempt++ {
		if !w.pace.wait(ctx) {
			return nil, context.Cause(ctx)
		}
		a, after, err := w.try(ctx, method, u, header)
		if err == nil {
			return a, nil
		}
		if after < 0 || attempt == attempts || ctx.Err() != nil {
			return nil, err
		}
		if !pause.For(ctx, max(wait, after)) {
			return nil, context.Cause(ctx)
		}
		wait *= 4
	}
}

// try asks once. Of an error after says how long to wait at least before the next
// attempt; -1: there is no use in one.
func (w *web) try(ctx context.Context, method string, u *url.URL, header http.Header) (_ *answer, after time.Duration, _ error) {
	res, err := w.send(ctx, method, u, header) //nolint:bodyclose // the answer closes it
	if errors.Is(err, watchdog.ErrSilent) {
		return nil, 0, fail(Silent, err)
	}
	if err != nil {
		return nil, 0, fail(Unreachable, err)
	}
	a := &answer{res}
	if res.StatusCode == http.StatusOK || res.StatusCode == http.StatusNotModified && header.Get("If-None-Match")+header.Get("If-Modified-Since") != "" {
		return a, 0, nil
	}
	a.close()
	after, err = refusal(u, res)
	return nil, after, err
}

func (w *web) send(ctx context.Context, method string, u *url.URL, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return nil, err
	}
	maps.Copy(req.Header, header)
	req.Header.Set("User-Agent", userAgent)
	req.Header.Set("Accept-Encoding", "identity")
	return watchdog.Do(w.client, req, silence, silence)
}

// Read reads the body, which must not stop flowing.
func (a *answer) Read(p []byte) (int, error) {
	n, err := a.Body.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fail(Silent, err)
	}
	return n, err
}

func (a *answer) close() { _ = a.Body.Close() } // it was only read

// refusal is the error of an answer that is no success, and how long to wait before the
// next attempt.
func refusal(u *url.URL, res *http.Response) (after time.Duration, err error) {
	switch code := res.StatusCode; {
	case code >= 300 && code < 400:
		return -1, fail(Moved, fmt.Errorf("%s redirects to %q: give the mirror's own URL", u.Redacted(), res.Header.Get("Location")))
	case code == http.StatusTooManyRequests, code >= 500:
		return retryAfter(res.Header), fail(Refused, fmt.Errorf("%s answers %s", u.Redacted(), res.Status))
	default:
		return -1, fail(Refused, &statusError{u.Redacted(), code})
	}
}

// statusError is an answer of a server that will not change by asking again.
type statusError struct {
	url  string
	code int
}

func (e *statusError) Error() string {
	return fmt.Sprintf("%s answers %d %s", e.url, e.code, http.StatusText(e.code))
}

// isAbsent reports whether an error means that there is nothing at a URL, for everybody.
func isAbsent(err error) bool {
	e, ok := errors.AsType[*statusError](err)
	return ok && (e.code == http.StatusNotFound || e.code == http.StatusGone || e.code == http.StatusForbidden || e.code == http.StatusUnauthorized)
}

// isMoved reports whether an error means that what was asked for is elsewhere.
func isMoved(err error) bool { return err != nil && reasonOf(err) == Moved }

// retryAfter is how long a server asks to wait, within limits (RFC 9110 §10.2.3).
func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.Atoi(strings.TrimSpace(h.Get("Retry-After")))
	if err != nil {
		return 0 // a date, or nothing
	}
	return min(max(0, time.Duration(seconds)*time.Second), maxWait)
}

// pace spaces requests evenly.
type pace struct {
	every time.Duration
	mu    sync.Mutex
	next  time.Time
}

// wait waits for the time of the next request. It is false if ctx ends before.
func (p *pace) wait(ctx context.Context) bool {
	p.mu.Lock()
	now := time.Now()
	at := p.next
	if at.Before(now) {
		at = now
	}
	p.next = at.Add(p.every)
	p.mu.Unlock()
	if at.Equal(now) {
		return ctx.Err() == nil
	}
	return pause.For(ctx, at.Sub(now))
}

// below is the URL of a path of a tree, whose names are bytes.
func below(root *url.URL, path string) *url.URL {
	u := *root
	names := strings.Split(path, "/")
	for i, name := range names {
		names[i] = url.PathEscape(name)
	}
	u.RawPath = root.EscapedPath() + strings.Join(names, "/")
	u.Path = root.Path + path
	return &u
}

// parseRoot parses the URL of a tree.
func parseRoot(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, fail(Setup, err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" {
		return nil, fail(Setup, fmt.Errorf("%q: want http://host/path/ or https://host/path/", text))
	}
	return u, nil
}
