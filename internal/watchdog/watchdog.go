// Package watchdog ends requests of which nothing comes. A limit for all of a request
// would end long downloads that are well, and a limit of a connection does not know of
// requests: what tells a server that hangs is that it says nothing for a time.
package watchdog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// ErrSilent is among the errors of requests that a watchdog has ended.
var ErrSilent = errors.New("the server was silent for too long")

// silentError says for how long.
type silentError struct{ limit time.Duration }

func (e *silentError) Error() string {
	return fmt.Sprintf("%v: nothing came for %v", ErrSilent, e.limit)
}
func (e *silentError) Is(target error) bool { return target == ErrSilent }

// Do makes a request. Its answer must begin within a time, redirects and all, and a
// read of the body must not take longer than the time silence; what the caller does between two
// reads does not count. The error of Do or of a read is [ErrSilent] then. Where the
// context of the request has ended, errors have its cause. The caller closes the body.
//
// It is safe for concurrent use; a body is read and closed by one goroutine at a time.
func Do(client *http.Client, req *http.Request, answer, silence time.Duration) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	b := &body{ctx: ctx, cancel: cancel}
	b.limit.Store(int64(answer))
	b.timer = time.AfterFunc(answer, b.bark)
	res, err := client.Do(req.WithContext(ctx))
	b.timer.Stop()
	if err != nil {
		err = b.explain(err)
		cancel(nil)
		return nil, err
	}
	b.limit.Store(int64(silence))
	b.from, res.Body = res.Body, b
	return res, nil
}

// body is that of an answer.
type body struct {
	from   io.ReadCloser
	ctx    context.Context //nolint:containedctx // that of the request, which ends with its body
	cancel context.CancelCauseFunc
	timer  *time.Timer  // runs while somebody waits for the server
	limit  atomic.Int64 // how long that may be
}

// bark ends the request.
func (b *body) bark() { b.cancel(&silentError{time.Duration(b.limit.Load())}) }

// Read implements [io.Reader].
func (b *body) Read(p []byte) (int, error) {
	b.timer.Reset(time.Duration(b.limit.Load()))
	n, err := b.from.Read(p)
	b.timer.Stop()
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.explain(err)
	}
	return n, err
}

// Close implements [io.Closer].
func (b *body) Close() error {
	err := b.from.Close()
	b.cancel(nil)
	return err
}

// explain adds why the request ended, if that was not the network's doing.
func (b *body) explain(err error) error {
	cause := context.Cause(b.ctx)
	if cause == nil || errors.Is(err, cause) {
		return err
	}
	return fmt.Errorf("%w: %w", cause, err)
}
