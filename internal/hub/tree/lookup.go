package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"freshet/internal/layout"
)

// File is an open file of a tree. The caller closes it.
type File struct {
	*os.File
	// Info describes it. Its ModTime is right for Last-Modified: it changes
	// whenever the content at a mutable path does.
	Info fs.FileInfo
	// SHA256 is that of the content, in lower-case hex, at mutable paths of the
	// current generation, where size and time alone would not tell two
	// contents apart for sure. Elsewhere it is empty.
	SHA256 string
	// Generation is the one it was found in.
	Generation int64
}

// Lookup opens a file for reading. A path that is not in the current generation
// is looked for in the older ones that are still readable, unless it is a
// pointer, because an old pointer next to new files is a lie. Folders are not
// found, nor is anything outside the tree.
func (t *Trees) Lookup(tree, name string) (*File, error) {
	if !fs.ValidPath(name) || strings.ContainsRune(name, 0) {
		return nil, fmt.Errorf("%.200q: %w", name, ErrNotFound)
	}
	s := t.lookup(tree)
	if s == nil {
		return nil, fmt.Errorf("tree %.64q: %w", tree, ErrNotFound)
	}
	// Held while the file is opened: the folder cannot be retired before.
	s.mu.RLock()
	defer s.mu.RUnlock()
	kind := layout.Tree(name)
	for i, g := range slices.Backward(s.generations) {
		current := i == len(s.generations)-1
		if !current {
			if kind.Class == layout.Pointer {
				break
			}
			if !g.Retires.After(time.Now()) {
				continue
			}
		}
		f, err := g.open(name)
		if absent(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("tree %s: %w", tree, err)
		}
		if current && kind.Mutable() {
			sums, err := g.sums()
			if err != nil {
				return nil, errors.Join(err, f.Close())
			}
			f.SHA256 = sums[name]
		}
		return f, nil
	}
	return nil, fmt.Errorf("tree %s: %q: %w", tree, name, ErrNotFound)
}

// absent reports whether err says that a path leads to nothing, however odd the
// path is.
func absent(err error) bool {
	for _, target := range []error{fs.ErrNotExist, syscall.ENOTDIR, syscall.ELOOP, syscall.ENAMETOOLONG} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

func (g *generation) open(name string) (*File, error) {
	// Links lead nowhere outside root; O_NONBLOCK is for what is no file.
	f, err := g.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &File{File: f, Info: info, Generation: g.ID}, nil
}
