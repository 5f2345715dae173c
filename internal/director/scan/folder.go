package scan

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"os"
	"slices"
	"strings"

	"freshet/internal/autoindex"
	"freshet/internal/inventory"
)

// listFolder walks a local folder. Hashes that are known of files that have not changed
// remain; others are made afterwards, see hasher.
func (s *Scanner) listFolder(ctx context.Context, t target, m *memo) iter.Seq2[inventory.Entry, error] {
	return func(yield func(inventory.Entry, error) bool) {
		root, err := os.OpenRoot(t.source)
		if err != nil {
			yield(inventory.Entry{}, fail(Setup, err))
			return
		}
		defer func() { _ = root.Close() }() // it was only read
		w := walk{root: root, gather: newGather(m.links, yield)}
		if err = w.all(ctx); err == nil && !w.gather.stopped {
			m.links, err = w.gather.end()
		}
		m.remark = w.remark
		if err != nil {
			yield(inventory.Entry{}, err)
		}
	}
}

// walk goes through a local folder.
type walk struct {
	root   *os.Root
	gather *gather
	remark string
}

// all goes through all folders, each after the one that it is in.
func (w *walk) all(ctx context.Context) error {
	waiting := []string{"."}
	for len(waiting) > 0 && !w.gather.stopped {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		folder := waiting[len(waiting)-1]
		waiting = waiting[:len(waiting)-1]
		below, err := w.folder(folder)
		switch {
		case errors.Is(err, fs.ErrNotExist) && folder != ".":
		case errors.Is(err, fs.ErrPermission) && folder != ".":
			if w.remark == "" {
				w.remark = err.Error()
			}
		case err != nil:
			return fail(BadListing, err)
		}
		waiting = append(waiting, below...)
	}
	return nil
}

// folder hands on what lies in a folder, and returns the folders in it, the last first.
func (w *walk) folder(path string) (below []string, err error) {
	names, err := w.names(path)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if path != "." {
			name = path + "/" + name
		}
		info, err := w.root.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it went away
		}
		if err != nil {
			return nil, err
		}
		switch mode := info.Mode(); {
		case mode.IsDir():
			if mode.Perm()&0o5 == 0o5 {
				below = append(below, name)
			}
		case mode.Type() == fs.ModeSymlink:
			if to, err := w.root.Readlink(name); err == nil {
				w.gather.link(name, to)
			}
		case mode.IsRegular() && mode.Perm()&0o4 != 0:
			if !w.gather.file(inventory.Entry{Path: name, Size: info.Size(), ModTime: info.ModTime()}) {
				return nil, nil
			}
		}
	}
	slices.Reverse(below)
	return below, nil
}

// names are those in a folder, sorted.
func (w *walk) names(path string) ([]string, error) {
	f, err := w.root.Open(path)
	if err != nil {
		return nil, err
	}
	names, err := f.Readdirnames(-1)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(name string) bool { return autoindex.IsAside(name) || strings.Contains(name, "\n") })
	slices.Sort(names)
	return names, nil
}
