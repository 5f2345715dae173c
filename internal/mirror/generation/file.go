package generation

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// File is a file of a generation: a regular one, or a symbolic link.
type File struct {
	// Path is relative to the tree and clean; see [CheckPath].
	Path string
	// Size is that of the content in bytes; 0 of a link.
	Size int64
	// ModTime is in whole seconds, UTC, as the upstream tells it; zero of a link.
	ModTime time.Time
	// SHA256 is that of the content. All regular files of a generation have it.
	SHA256 [32]byte
	// Link is the target of a symbolic link, as it is written in it; empty for a
	// regular file. It may dangle, or lead out of the tree: then it is not followed.
	Link string
}

// IsLink says whether this is a symbolic link.
func (f File) IsLink() bool { return f.Link != "" }

// The bounds of paths. A path is shorter than PATH_MAX, so that all programs can
// name it.
const (
	maxPath  = 4000
	maxName  = 255
	maxDepth = 128
)

// ErrPath is wrapped by the errors of [CheckPath].
var ErrPath = errors.New("not a path of a mirrored file")

// CheckPath returns an error unless the path is one that a file of a tree can have:
// relative, without empty, "." and ".." elements and without a zero byte, up to
// 4,000 bytes, 255 of them between two slashes, and 128 elements. All other bytes
// are welcome, line feeds and what is no UTF-8 too.
func CheckPath(path string) error {
	if path == "" || len(path) > maxPath || strings.IndexByte(path, 0) >= 0 {
		return fmt.Errorf("%.80q: %w", path, ErrPath)
	}
	depth := 0
	for name := range strings.SplitSeq(path, "/") {
		if depth++; depth > maxDepth || name == "" || name == "." || name == ".." || len(name) > maxName {
			return fmt.Errorf("%.80q: %w", path, ErrPath)
		}
	}
	return nil
}

// check says what is wrong with a file that is to be part of a generation.
func (f File) check() error {
	if err := CheckPath(f.Path); err != nil {
		return err
	}
	switch {
	case f.Size < 0:
		return fmt.Errorf("%.80q: a length of %d bytes", f.Path, f.Size)
	case len(f.Link) > maxPath || strings.IndexByte(f.Link, 0) >= 0:
		return fmt.Errorf("%.80q: the target %.80q is none of a symbolic link", f.Path, f.Link)
	}
	return nil
}

// whole is the time in whole seconds.
func whole(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return time.Unix(t.Unix(), 0).UTC()
}

// split parts a path into its folder ("" for the root of the tree) and its name.
func split(path string) (dir, name string) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return "", path
}
