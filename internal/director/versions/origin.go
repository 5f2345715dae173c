package versions

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Origin is where the files of projects are read.
type Origin interface {
	// Get opens a file of a project. If it is the one that tag, from an earlier Get,
	// stands for, there is no body and no error. A file that is not there is
	// fs.ErrNotExist. The caller closes the body.
	Get(ctx context.Context, project, path, tag string) (body io.ReadCloser, newTag string, err error)
}

// HTTPOrigin reads the files of projects from their origins by HTTP: from the first that
// answers. It is safe for concurrent use if its fields are.
type HTTPOrigin struct {
	// Client makes the requests. It must not decompress what it is not asked to.
	Client *http.Client
	// URLs returns where a project's tree is, the one to use first first.
	URLs func(project string) []string
	// Stall is how long an origin may send nothing; 0: 30 s.
	Stall time.Duration
}

var errStalled = errors.New("the origin sends nothing")

// Get implements [Origin].
func (o *HTTPOrigin) Get(ctx context.Context, project, path, tag string) (body io.ReadCloser, newTag string, err error) {
	err = fmt.Errorf("project %s has no origin", project)
	for i, root := range o.URLs(project) {
		target := root + (&url.URL{Path: path}).EscapedPath()
		body, newTag, next := o.get(ctx, target, tag)
		if next == nil || errors.Is(next, fs.ErrNotExist) || ctx.Err() != nil {
			return body, newTag, next
		}
		if i == 0 {
			err = next
		} else {
			err = fmt.Errorf("%w; %w", err, next)
		}
	}
	return nil, "", err
}

// get makes one request. A tag is the URL, the ETag and Last-Modified, which mean
// nothing at another origin.
func (o *HTTPOrigin) get(ctx context.Context, target, tag string) (io.ReadCloser, string, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	stall := o.Stall
	if stall <= 0 {
		stall = 30 * time.Second
	}
	b := &body{ctx: ctx, stall: stall, cancel: cancel, timer: time.AfterFunc(stall, func() { cancel(errStalled) })}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		b.end()
		return nil, "", err
	}
	request.Header.Set("User-Agent", "freshet-director")
	request.Header.Set("Accept-Encoding", "identity")
	if known := strings.Split(tag, "\n"); len(known) == 3 && known[0] == target {
		if known[1] != "" {
			request.Header.Set("If-None-Match", known[1])
		}
		if known[2] != "" {
			request.Header.Set("If-Modified-Since", known[2])
		}
	}
	response, err := o.Client.Do(request) //nolint:bodyclose // by body.Close
	if err != nil {
		err = b.explain(err)
		b.end()
		return nil, "", err
	}
	b.timer.Stop()
	b.ReadCloser = response.Body
	switch response.StatusCode {
	case http.StatusOK:
		return b, tagOf(target, response.Header), nil
	case http.StatusNotModified:
		return nil, tag, b.Close()
	case http.StatusNotFound, http.StatusGone:
		_ = b.Close()
		return nil, "", fmt.Errorf("%s: %w", target, fs.ErrNotExist)
	}
	_ = b.Close()
	return nil, "", fmt.Errorf("%s: the origin answers %s", target, response.Status)
}

// tagOf is that of an answer, "" if it does not tell this content apart from one of the
// next moment (RFC 9110 section 8.8.2.2).
func tagOf(target string, h http.Header) string {
	etag, modified := h.Get("ETag"), h.Get("Last-Modified")
	if modified != "" {
		at, err := http.ParseTime(modified)
		date, err2 := http.ParseTime(h.Get("Date"))
		if err != nil || err2 != nil || date.Sub(at) < time.Minute {
			return ""
		}
	}
	if etag == "" && modified == "" {
		return ""
	}
	return target + "\n" + etag + "\n" + modified
}

// body is one that may not stall.
type body struct {
	io.ReadCloser
	ctx    context.Context //nolint:containedctx // that of the request
	stall  time.Duration
	cancel context.CancelCauseFunc
	timer  *time.Timer
}

func (b *body) Read(p []byte) (int, error) {
	b.timer.Reset(b.stall)
	n, err := b.ReadCloser.Read(p)
	b.timer.Stop()
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.explain(err)
	}
	return n, err
}

// Close implements [io.Closer].
func (b *body) Close() error {
	err := b.ReadCloser.Close()
	b.end()
	return err
}

func (b *body) end() {
	b.timer.Stop()
	b.cancel(nil)
}

// explain says why a request ended, if that was not the network's doing.
func (b *body) explain(err error) error {
	if errors.Is(context.Cause(b.ctx), errStalled) {
		return fmt.Errorf("%w for %v: %w", errStalled, b.stall, err)
	}
	return err
}
