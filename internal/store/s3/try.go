package s3

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/minio/minio-go/v7"

	"freshet/internal/pause"
	"freshet/internal/store/bucket"
)

// timeFor is how long an attempt may take that transfers size bytes.
func (o *Objects) timeFor(size int64) time.Duration {
	return o.timeout + time.Duration(size/slowest)*time.Second
}

// try calls attempt until it succeeds, fails for good, or has failed too often. Size
// is what it transfers; negative when that goes on afterwards, and ctx alone bounds
// it.
func (o *Objects) try(ctx context.Context, op, key string, size int64, attempt func(context.Context) error) error {
	for n := 1; ; n++ {
		err := o.once(ctx, size, attempt)
		if err == nil {
			return nil
		}
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		failure := classify(op, key, err)
		var e *bucket.Error
		if !errors.As(failure, &e) || e.Reason != bucket.Away || n >= o.attempts {
			return failure
		}
		longest := min(minPause<<n, maxPause)
		if !pause.For(ctx, longest/2+rand.N(longest/2)) {
			return context.Cause(ctx)
		}
	}
}

func (o *Objects) once(ctx context.Context, size int64, attempt func(context.Context) error) error {
	if size < 0 {
		return attempt(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, o.timeFor(size))
	defer cancel()
	return attempt(ctx)
}

// classify says what an answer means.
func classify(op, key string, err error) error {
	answer := minio.ToErrorResponse(err)
	e := &bucket.Error{Op: op, Key: key, Reason: bucket.Refused, Err: err}
	switch status := answer.StatusCode; {
	case answer.Code == minio.NoSuchKey:
		return &fs.PathError{Op: op, Path: key, Err: fs.ErrNotExist}
	case status == http.StatusPreconditionFailed:
		e.Reason = bucket.Conflict
	case status == http.StatusConflict && answer.Code == "ConditionalRequestConflict":
		e.Reason = bucket.Away // somebody writes it just now: to be tried again
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		e.Reason = bucket.Denied
	case status == 0 && errors.Is(err, fs.ErrClosed), errors.Is(err, fs.ErrNotExist):
		// the file that is sent
	case status == 0, status == http.StatusRequestTimeout, status == http.StatusTooManyRequests,
		status >= http.StatusInternalServerError && status != http.StatusNotImplemented:
		e.Reason = bucket.Away
	}
	return e
}

// body is an answer of which the reader is not waited for forever.
type body struct {
	io.ReadCloser

	key   string
	timer *time.Timer
}

func newBody(r io.ReadCloser, key string, most time.Duration) *body {
	return &body{ReadCloser: r, key: key, timer: time.AfterFunc(most, func() { _ = r.Close() })}
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = &bucket.Error{Op: "get", Key: b.key, Reason: bucket.Away, Err: err}
	}
	return n, err
}

// Close implements io.Closer.
func (b *body) Close() error {
	b.timer.Stop()
	return b.ReadCloser.Close()
}

// equalContent tells whether two readers have the same content, up to the end of both.
// What breaks off has no end, and is an error.
func equalContent(a, b io.Reader) (bool, error) {
	x, y := make([]byte, 32<<10), make([]byte, 32<<10)
	for {
		n, errA := fill(a, x)
		m, errB := fill(b, y)
		if err := errors.Join(errA, errB); err != nil {
			return false, err
		}
		if !bytes.Equal(x[:n], y[:m]) {
			return false, nil
		}
		if n < len(x) {
			return true, nil
		}
	}
}

// fill reads until p is full or the reader ends. It is not io.ReadFull, which tells of
// the end of a file as readers tell of one that breaks off.
func fill(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var more int
		more, err = r.Read(p[n:])
		n += more
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}
