package repository

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"freshet/internal/ostree"
)

// maxTreeDepth bounds how deep folders nest; a path of more is longer than any
// system takes.
const maxTreeDepth = 1024

// A reach walks over what a commit needs, and finds that it is there.
type reach struct {
	ref string
	in  *ostree.Repo // has the objects, of the base too

	// look is called once for each object that the base does not have at the same
	// place. It tells whether the object is whole, with the errors of [probe].
	look func(ostree.ObjectName) (object, error)

	seen  map[ostree.ObjectName]int64 // with the download sizes of files
	trees folderReader
	files int // different files and symlinks seen
}

// maxKeptEntries is how many entries of folders a [folderReader] keeps: some 10 MB.
const maxKeptEntries = 1 << 17

// A folderReader reads folders, and keeps them while they are not too many.
type folderReader struct {
	in      *ostree.Repo
	known   map[ostree.Checksum]*ostree.DirTree
	entries int // of the known
}

// read reads a folder.
func (f *folderReader) read(sum ostree.Checksum) (*ostree.DirTree, error) {
	if tree, ok := f.known[sum]; ok {
		return tree, nil
	}
	tree, err := f.in.DirTree(sum)
	if err != nil {
		return nil, err
	}
	if f.known == nil {
		f.known = map[ostree.Checksum]*ostree.DirTree{}
	}
	if more := len(tree.Files) + len(tree.Dirs) + 1; f.entries+more <= maxKeptEntries {
		f.entries += more
		f.known[sum] = tree
	}
	return tree, nil
}

// published reads a folder of what is published. One that is missing there helps
// nobody, but does not forbid that it is repaired by a new publish.
func (f *folderReader) published(sum ostree.Checksum) (*ostree.DirTree, error) {
	if sum.IsZero() {
		return &ostree.DirTree{}, nil
	}
	tree, err := f.read(sum)
	if errors.Is(err, fs.ErrNotExist) {
		return &ostree.DirTree{}, nil
	}
	return tree, err
}

// commit walks over a commit. What is the same in base, which is published and
// thereby whole, is left out; nil for none.
func (r *reach) commit(ctx context.Context, sum ostree.Checksum, base *ostree.Commit) (*ostree.Commit, error) {
	r.seen = map[ostree.ObjectName]int64{}
	r.trees = folderReader{in: r.in}
	if err := r.need(commitName(sum), ""); err != nil {
		return nil, err
	}
	commit, err := r.in.Commit(sum)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.ref, err)
	}
	var before ostree.Checksum
	if base != nil {
		before = base.Tree
	}
	if base == nil || base.TreeMeta != commit.TreeMeta {
		if err := r.need(ostree.ObjectName{Checksum: commit.TreeMeta, Type: ostree.TypeDirMeta}, "/"); err != nil {
			return nil, err
		}
	}
	return commit, r.tree(ctx, commit.Tree, before, "", 0)
}

// need notes that an object is needed at a path.
func (r *reach) need(name ostree.ObjectName, path string) error {
	if _, ok := r.seen[name]; ok {
		return nil
	}
	found, err := r.look(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &MissingError{Ref: r.ref, Path: path, Name: name}
	case err != nil:
		return &DamagedError{Ref: r.ref, Path: path, Name: name, Err: err}
	}
	r.seen[name] = found.download()
	if name.Type == ostree.TypeFile {
		r.files++
	}
	return nil
}

// tree walks over a folder.
func (r *reach) tree(ctx context.Context, sum, before ostree.Checksum, path string, depth int) error {
	name := ostree.ObjectName{Checksum: sum, Type: ostree.TypeDirTree}
	if _, ok := r.seen[name]; ok || sum == before {
		return nil
	}
	if depth > maxTreeDepth {
		return fmt.Errorf("%s: folders nest deeper than %d", r.ref, maxTreeDepth)
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if err := r.need(name, path+"/"); err != nil {
		return err
	}
	tree, err := r.trees.read(sum)
	if err != nil {
		return fmt.Errorf("%s: %s/: %w", r.ref, path, err)
	}
	base, err := r.trees.published(before)
	if err != nil {
		return fmt.Errorf("%s: %s/: %w", r.ref, path, err)
	}
	return r.entries(ctx, tree, base, path, depth)
}

func (r *reach) entries(ctx context.Context, tree, base *ostree.DirTree, path string, depth int) error {
	for _, file := range tree.Files {
		if before, ok := base.File(file.Name); ok && before == file {
			continue
		}
		name := ostree.ObjectName{Checksum: file.File, Type: ostree.TypeFile}
		if err := r.need(name, path+"/"+file.Name); err != nil {
			return err
		}
	}
	for _, dir := range tree.Dirs {
		before, ok := base.Dir(dir.Name)
		below := path + "/" + dir.Name
		if !ok || before.Meta != dir.Meta {
			name := ostree.ObjectName{Checksum: dir.Meta, Type: ostree.TypeDirMeta}
			if err := r.need(name, below+"/"); err != nil {
				return err
			}
		}
		if err := r.tree(ctx, dir.Tree, before.Tree, below, depth+1); err != nil {
			return err
		}
	}
	return nil
}
