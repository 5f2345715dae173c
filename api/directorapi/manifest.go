package directorapi

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// PushManifest tells the director what a mirror has of a project, or with
// [ManifestOrigin] the origin: write writes the manifest (docs/formats/manifest.md), which
// is compressed and sent as it is written. An error of write is returned as it is, and
// the director takes nothing of what was written before it.
func (c *Client) PushManifest(ctx context.Context, mirror, project string, write func(io.Writer) error) error {
	from, to := io.Pipe()
	written := make(chan error, 1)
	go func() {
		packed, _ := gzip.NewWriterLevel(to, gzip.BestSpeed) // the level is a sound one
		err := write(packed)
		if err == nil {
			err = packed.Close()
		}
		_ = to.CloseWithError(err) // never fails
		written <- err
	}()
	err := c.put(ctx, ManifestPath(url.PathEscape(mirror), url.PathEscape(project)), from)
	_ = from.CloseWithError(errAnswered)                          // never fails; the writer ends, also when it was not read
	if wrote := <-written; wrote != nil && wrote != errAnswered { //nolint:errorlint // it is what Write of a pipe returns
		return wrote
	}
	return err
}

var errAnswered = fmt.Errorf("answered before all was read: %w", io.ErrClosedPipe)

// put sends a body that is made meanwhile.
func (c *Client) put(ctx context.Context, path string, body io.Reader) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, strings.TrimSuffix(c.Base, "/")+path, io.NopCloser(body))
	if err != nil {
		return fmt.Errorf("director %q: %w", c.Base, err)
	}
	req.Header.Set("Content-Type", "text/x-freshet-manifest")
	_, err = c.do(req, nil)
	return err
}
