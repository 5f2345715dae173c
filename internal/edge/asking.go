package edge

import (
	"context"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"freshet/internal/accesslog"
	"freshet/internal/edge/upstream"
)

// asking is how long a request to an origin took, for the log and the metrics.
type asking struct {
	trace     upstream.Trace
	begun     time.Time
	firstByte time.Duration // to the header of the answer, connecting and all tries included; 0: none came
	total     atomic.Int64  // to the end of the body, or the failure; 0: not yet
}

// ask asks the site's origin and notes in a, which is for one request, how long
// that takes.
func (e *Edge) ask(ctx context.Context, s *site, req upstream.Request, a *asking) (*http.Response, error) {
	*a = asking{begun: time.Now()}
	req.Trace = &a.trace
	resp, err := s.origin.Do(ctx, req)
	if err != nil {
		e.ended(a)
		return nil, err
	}
	a.firstByte = max(time.Since(a.begun), 1)
	resp.Body = &askedBody{ReadCloser: resp.Body, e: e, a: a}
	return resp, nil
}

// ended counts the request to the origin, once.
func (e *Edge) ended(a *asking) {
	if a.total.CompareAndSwap(0, max(int64(time.Since(a.begun)), 1)) {
		e.metrics.asked(a)
	}
}

// record is what the access record has of it.
func (a *asking) record() accesslog.Upstream {
	if a == nil {
		return accesslog.Upstream{}
	}
	return accesslog.Upstream{
		Origin: a.trace.Origin, Connect: a.trace.Connect, TLS: a.trace.TLS,
		FirstByte: a.firstByte, Total: time.Duration(a.total.Load()),
	}
}

// askedBody notes when a body ends.
type askedBody struct {
	io.ReadCloser
	e *Edge
	a *asking
}

// Read implements [io.Reader].
func (b *askedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.e.ended(b.a)
	}
	return n, err
}

// AtHand is for [upstream.AtHand].
func (b *askedBody) AtHand(n int64) bool { return upstream.AtHand(b.ReadCloser, n) }

// Close implements [io.Closer].
func (b *askedBody) Close() error {
	defer b.e.ended(b.a)
	return b.ReadCloser.Close()
}
