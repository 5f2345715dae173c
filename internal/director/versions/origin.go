package versions

import (
	"context"
	"io"
)

// Origin is where the files of projects are read.
type Origin interface {
	// Get opens a file of a project. If it is the one that tag, from an earlier Get,
	// stands for, there is no body and no error. A file that is not there is
	// fs.ErrNotExist. The caller closes the body.
	Get(ctx context.Context, project, path, tag string) (body io.ReadCloser, newTag string, err error)
}
