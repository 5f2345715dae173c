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

	"freshet/internal/watchdog"
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
	stall := o.Stall
	if stall <= 0 {
		stall = 30 * time.Second
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
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
	response, err := watchdog.Do(o.Client, request, stall, stall)
	if err != nil {
		return nil, "", err
	}
	switch response.StatusCode {
	case http.StatusOK:
		return response.Body, tagOf(target, response.Header), nil
	case http.StatusNotModified:
		return nil, tag, response.Body.Close()
	case http.StatusNotFound, http.StatusGone:
		err = fs.ErrNotExist
	default:
		err = fmt.Errorf("the origin answers %s", response.Status)
	}
	_ = response.Body.Close() // it is not wanted
	return nil, "", fmt.Errorf("%s: %w", target, err)
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
