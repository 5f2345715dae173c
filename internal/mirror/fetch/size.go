package fetch

import (
	"context"
	"errors"
	"fmt"
	"net/http"
)

// Sizer is a [Source] that tells the size of a file without sending it.
type Sizer interface {
	Source
	// Size is the size of a file in bytes. The errors are those of Read, and [ErrNoSize].
	Size(ctx context.Context, path string) (int64, error)
}

// ErrNoSize says that a server does not tell the size of a file.
var ErrNoSize = errors.New("the server does not tell its size")

// Size asks for the header of a file.
func (s *webSource) Size(ctx context.Context, path string) (int64, error) {
	a, err := s.ask(ctx, http.MethodHead, s.below(path), make(http.Header))
	if err != nil {
		return 0, err
	}
	defer a.close()
	switch {
	case a.StatusCode != http.StatusOK:
		return 0, a.unexpected()
	case a.ContentLength < 0:
		return 0, fmt.Errorf("%s: %w", a.url, ErrNoSize)
	}
	return a.ContentLength, nil
}
