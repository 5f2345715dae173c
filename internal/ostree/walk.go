package ostree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// PathEntry is what a path in a commit's tree names.
type PathEntry struct {
	Name  string
	IsDir bool
	File  Checksum // of a file or symlink
	Tree  Checksum // dirtree of a directory
	Meta  Checksum // dirmeta of a directory
}

// Lookup finds a path in the tree of a commit. The path is relative, with
// slashes; "." is the root. When there is nothing, or a file stands where a
// directory should, the error wraps [fs.ErrNotExist]. Symlinks are not
// followed.
func (r *Repo) Lookup(commit Checksum, path string) (PathEntry, error) {
	c, err := r.Commit(commit)
	if err != nil {
		return PathEntry{}, err
	}
	e, err := lookup(r, PathEntry{Name: ".", IsDir: true, Tree: c.Tree, Meta: c.TreeMeta}, path)
	if err != nil {
		return PathEntry{}, fmt.Errorf("commit %s: %w", commit, err)
	}
	return e, nil
}

func lookup(r treeReader, e PathEntry, path string) (PathEntry, error) {
	if !fs.ValidPath(path) {
		return PathEntry{}, &fs.PathError{Op: "lookup", Path: path, Err: fs.ErrInvalid}
	}
	if path == "." {
		return e, nil
	}
	for name := range strings.SplitSeq(path, "/") {
		if !e.IsDir {
			return PathEntry{}, &fs.PathError{Op: "lookup", Path: path, Err: fs.ErrNotExist}
		}
		tree, err := r.DirTree(e.Tree)
		if err != nil {
			return PathEntry{}, err
		}
		if d, ok := tree.Dir(name); ok {
			e = PathEntry{Name: name, IsDir: true, Tree: d.Tree, Meta: d.Meta}
		} else if f, ok := tree.File(name); ok {
			e = PathEntry{Name: name, File: f.File}
		} else {
			return PathEntry{}, &fs.PathError{Op: "lookup", Path: path, Err: fs.ErrNotExist}
		}
	}
	return e, nil
}

// ReadPath returns the content of a file in the tree of a commit, of which
// there may be at most limit bytes. A directory or symlink gives an error that
// wraps [fs.ErrInvalid].
func (r *Repo) ReadPath(commit Checksum, path string, limit int64) (content []byte, err error) {
	e, err := r.Lookup(commit, path)
	if err != nil {
		return nil, err
	}
	if e.IsDir {
		return nil, &fs.PathError{Op: "read", Path: path, Err: fs.ErrInvalid}
	}
	f, err := r.OpenFile(e.File)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if f.Header().IsSymlink() {
		return nil, &fs.PathError{Op: "read", Path: path, Err: fs.ErrInvalid}
	}
	content, err = readBounded(f, limit)
	if err != nil {
		return nil, &ObjectError{Name: ObjectName{e.File, TypeFile}, Err: err}
	}
	return content, nil
}

// Walk visits the commit and every object of its tree once: the commit first,
// a dirtree before what is in it. The parent is not followed. Commits,
// dirtrees and dirmetas are read and verified before they are visited; files
// are only named, and need not be there.
//
// When visit returns [fs.SkipDir] for a dirtree or the commit, what is below
// it is left out, unless something else leads there; [fs.SkipAll] ends the
// walk without an error; any other error ends it and is returned.
//
// Memory grows with the number of different objects visited, by some 40 bytes
// each.
func (r *Repo) Walk(ctx context.Context, commit Checksum, visit func(ObjectName) error) error {
	err := r.walk(ctx, commit, visit)
	if errors.Is(err, fs.SkipAll) {
		return nil
	}
	return err
}

func (r *Repo) walk(ctx context.Context, commit Checksum, visit func(ObjectName) error) error {
	c, err := r.Commit(commit)
	if err != nil {
		return err
	}
	if err := visit(ObjectName{commit, TypeCommit}); err != nil {
		if errors.Is(err, fs.SkipDir) {
			return nil
		}
		return err
	}
	seen := map[ObjectName]struct{}{}
	first := func(n ObjectName) bool {
		if _, ok := seen[n]; ok {
			return false
		}
		seen[n] = struct{}{}
		return true
	}
	visitMeta := func(sum Checksum) error {
		n := ObjectName{sum, TypeDirMeta}
		if !first(n) {
			return nil
		}
		if _, err := r.DirMeta(sum); err != nil {
			return err
		}
		return visit(n)
	}
	if err := visitMeta(c.TreeMeta); err != nil {
		return err
	}
	for pending := []Checksum{c.Tree}; len(pending) > 0; {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("walk commit %s: %w", commit, err)
		}
		sum := pending[len(pending)-1]
		pending = pending[:len(pending)-1]
		n := ObjectName{sum, TypeDirTree}
		if !first(n) {
			continue
		}
		tree, err := r.DirTree(sum)
		if err != nil {
			return err
		}
		if err := visit(n); err != nil {
			if errors.Is(err, fs.SkipDir) {
				continue
			}
			return err
		}
		for _, f := range tree.Files {
			if n := (ObjectName{f.File, TypeFile}); first(n) {
				if err := visit(n); err != nil {
					return err
				}
			}
		}
		for _, d := range tree.Dirs {
			if err := visitMeta(d.Meta); err != nil {
				return err
			}
			if _, ok := seen[ObjectName{d.Tree, TypeDirTree}]; !ok {
				pending = append(pending, d.Tree)
			}
		}
	}
	return nil
}
