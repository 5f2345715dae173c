package bucket

import (
	"cmp"
	"errors"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strings"

	"freshet/internal/durable"
)

// Here is a file of a directory that has a copy.
type Here struct {
	Path string
	Size int64
}

// Files yields the files below a folder in the order in which [Copy.List] lists them,
// that of the bytes of their paths; but for those that skip tells, and for temporary
// ones.
func Files(fsys fs.FS, folder string, skip func(path string) bool) iter.Seq2[Here, error] {
	return func(yield func(Here, error) bool) { files(fsys, folder, skip, yield) }
}

// files yields the files below a folder, and reports whether more are wanted.
func files(fsys fs.FS, folder string, skip func(path string) bool, yield func(Here, error) bool) bool {
	entries, err := fs.ReadDir(fsys, folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return yield(Here{}, err)
	}
	key := func(e fs.DirEntry) string {
		if e.IsDir() {
			return e.Name() + "/"
		}
		return e.Name()
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return cmp.Compare(key(a), key(b)) })
	for _, entry := range entries {
		name := path.Join(folder, entry.Name())
		if skip(name) || strings.HasPrefix(entry.Name(), durable.TempPrefix) {
			continue
		}
		if entry.IsDir() {
			if !files(fsys, name, skip, yield) {
				return false
			}
			continue
		}
		info, err := entry.Info()
		switch {
		case errors.Is(err, fs.ErrNotExist), err == nil && !info.Mode().IsRegular():
			continue
		case err != nil:
			return yield(Here{}, err)
		}
		if !yield(Here{name, info.Size()}, nil) {
			return false
		}
	}
	return true
}
