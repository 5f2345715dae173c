package edge

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"freshet/internal/accesslog"
	"freshet/internal/edge/turns"
	"freshet/internal/edge/upstream"
	"freshet/internal/h1"
)

// asking is how long a request to an origin took, for the log and the metrics.
type asking struct {
	trace     upstream.Trace
	begun     time.Time
	firstByte time.Duration // to the header of the answer, connecting and all tries included; 0: none came
	total     atomic.Int64  // to the end of the body, or the failure; 0: not yet
	line      *turns.Line   // where it has its turn until then; nil if it has none
	source    netip.Prefix
}

// ask asks the site's origin on behalf of a call, as soon as there is room for
// it in one of the site's lines, and notes in a, which is for one request, how
// long that takes. Whatever becomes of it, the caller closes the body of the
// response.
func (e *Edge) ask(ctx context.Context, line *turns.Line, c *call, req upstream.Request, a *asking) (*http.Response, error) {
	*a = asking{}
	if err := line.Take(ctx, c.source()); err != nil {
		return nil, noTurn(err)
	}
	return e.askNow(ctx, line, c, req, a)
}

// askNow is ask for one who has his turn. It gives it back when there is no
// response; else the body does.
func (e *Edge) askNow(ctx context.Context, line *turns.Line, c *call, req upstream.Request, a *asking) (resp *http.Response, err error) {
	*a = asking{begun: time.Now(), line: line, source: c.source()}
	defer func() {
		if resp == nil { // also when asking panics
			e.ended(a)
		}
	}()
	req.Trace, req.Trailing = &a.trace, !c.site.ruled // what is announced is all, says HTTP alone (RFC 9112 §6.3)
	if resp, err = c.site.origin.Do(ctx, req); err != nil {
		return nil, err
	}
	a.firstByte = max(time.Since(a.begun), 1)
	resp.Body = &askedBody{ReadCloser: resp.Body, e: e, a: a}
	return resp, nil
}

// move exchanges the turn for one in another line, since from now on the body
// comes as slowly as somebody takes it. Nobody else uses a, or the body,
// meanwhile. After an error there is no turn, and the body is only closed.
func (a *asking) move(ctx context.Context, to *turns.Line) error {
	if a.line == nil || a.line == to || a.total.Load() != 0 {
		return nil
	}
	a.line.Give(a.source)
	a.line = nil
	if err := to.Take(ctx, a.source); err != nil {
		return noTurn(err)
	}
	a.line = to
	return nil
}

// tryMove is move where nobody may wait: without room there, the turn is kept.
func (a *asking) tryMove(to *turns.Line) {
	if a.line == nil || a.line == to || a.total.Load() != 0 || !to.TryTake(a.source) {
		return
	}
	a.line.Give(a.source)
	a.line = to
}

// source is what the fetches for a call are counted by.
func (c *call) source() netip.Prefix {
	from, err := netip.ParseAddrPort(c.from)
	if err != nil {
		return netip.Prefix{}
	}
	return h1.Source(from.Addr())
}

// noTurn is why a request is not made.
func noTurn(err error) error {
	if _, ok := errors.AsType[*upstream.Error](err); ok {
		return err
	}
	if errors.Is(err, turns.ErrFull) || errors.Is(err, turns.ErrLate) {
		return &upstream.Error{Reason: upstream.FetchLimit, Err: err}
	}
	return &upstream.Error{Reason: upstream.ClientGone, Err: err}
}

// ended counts the request to the origin, once, and gives its turn to another.
func (e *Edge) ended(a *asking) {
	if a.total.CompareAndSwap(0, max(int64(time.Since(a.begun)), 1)) {
		if a.line != nil {
			a.line.Give(a.source)
		}
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
