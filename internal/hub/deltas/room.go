package deltas

import (
	"fmt"
	"sync"

	"freshet/internal/ostree"
)

// Room is what the files of a delta take that a worker hands in. Its zero value is
// empty. Its methods may be called concurrently: what is on its way counts as if it
// were there.
type Room struct {
	mu    sync.Mutex
	bytes int64
	files int
}

// Take reserves room for more, unless there would then be more than so many bytes or
// files. The error wraps [ostree.ErrTooLarge]; nothing is reserved then. Negative
// numbers give room back.
func (r *Room) Take(bytes int64, files int, mostBytes int64, mostFiles int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case bytes > 0 && r.bytes+bytes > mostBytes:
		return fmt.Errorf("%w: the delta has more than %d bytes", ostree.ErrTooLarge, mostBytes)
	case files > 0 && r.files+files > mostFiles:
		return fmt.Errorf("%w: the delta has more than %d files", ostree.ErrTooLarge, mostFiles)
	}
	r.bytes += bytes
	r.files += files
	return nil
}
