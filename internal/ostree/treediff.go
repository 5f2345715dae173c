package ostree

import (
	"cmp"
	"fmt"
	"strings"
)

const (
	// maxDiffEntries bounds the entries of two trees that are compared; a few
	// dirtrees that name each other can describe more files than atoms.
	maxDiffEntries = 1 << 22

	// maxDiffDepth bounds how deep directories nest; a path of more is longer than
	// any system takes.
	maxDiffDepth = 1024
)

// Change is a path at which two trees differ.
type Change struct {
	Path string // relative, with slashes; "." is the root

	// Old and New are what the path names in either tree; the zero PathEntry, whose
	// Name is empty, stands for nothing.
	Old, New PathEntry
}

// Added tells whether there was nothing at the path.
func (c *Change) Added() bool { return c.Old.Name == "" }

// Removed tells whether there is nothing at the path any more.
func (c *Change) Removed() bool { return c.New.Name == "" }

// DiffTrees compares the trees of two roots and calls yield for each path at
// which they differ, in the order of names, a directory before what is in it.
// All that is in a directory that was added or removed is a change of its own. A
// directory on both sides is one only when its metadata differ; one that became
// a file, or the other way round, is one change of the path and one for each path
// below. With the zero root of a side, all of the other was added or removed.
//
// Directories with the same checksum are not read. An error of yield ends the
// comparison and is returned. Trees with more entries, or deeper ones, than
// anybody can check out are [ErrTooLarge].
func DiffTrees(src treeReader, before, after TreeDir, yield func(Change) error) error {
	d := treeDiff{src: src, yield: yield, left: maxDiffEntries}
	return d.dirs(".", rootEntry(before), rootEntry(after), 0)
}

// Root returns the root directory of the commit's tree, for [DiffTrees].
func (c *Commit) Root() TreeDir { return TreeDir{Name: ".", Tree: c.Tree, Meta: c.TreeMeta} }

func rootEntry(d TreeDir) PathEntry {
	if d.Tree.IsZero() {
		return PathEntry{}
	}
	return PathEntry{Name: ".", IsDir: true, Tree: d.Tree, Meta: d.Meta}
}

type treeDiff struct {
	src   treeReader
	yield func(Change) error
	left  int // entries that may still come
}

// dirs compares what the path names on both sides.
func (d *treeDiff) dirs(path string, before, after PathEntry, depth int) error {
	if before == after {
		return nil
	}
	if depth > maxDiffDepth {
		return fmt.Errorf("%w: directories nest deeper than %d", ErrTooLarge, maxDiffDepth)
	}
	if !before.IsDir || !after.IsDir || before.Meta != after.Meta {
		if err := d.yield(Change{Path: path, Old: before, New: after}); err != nil {
			return err
		}
	}
	if !before.IsDir && !after.IsDir || before.Tree == after.Tree {
		return nil
	}
	a, err := d.entries(before)
	if err != nil {
		return err
	}
	b, err := d.entries(after)
	if err != nil {
		return err
	}
	for len(a)+len(b) > 0 {
		var x, y PathEntry
		var order int
		switch {
		case len(a) == 0:
			order = 1
		case len(b) == 0:
			order = -1
		default:
			order = strings.Compare(a[0].Name, b[0].Name)
		}
		if order <= 0 {
			x, a = a[0], a[1:]
		}
		if order >= 0 {
			y, b = b[0], b[1:]
		}
		name := cmp.Or(x.Name, y.Name)
		if path != "." {
			name = path + "/" + name
		}
		if err := d.dirs(name, x, y, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// entries returns what is in a directory, by name; nothing for files.
func (d *treeDiff) entries(e PathEntry) ([]PathEntry, error) {
	if !e.IsDir {
		return nil, nil
	}
	tree, err := d.src.DirTree(e.Tree)
	if err != nil {
		return nil, err
	}
	files, dirs := tree.Files, tree.Dirs
	if d.left -= len(files) + len(dirs); d.left < 0 {
		return nil, fmt.Errorf("%w: trees of more than %d entries", ErrTooLarge, maxDiffEntries)
	}
	all := make([]PathEntry, 0, len(files)+len(dirs))
	for len(files)+len(dirs) > 0 {
		if len(dirs) == 0 || len(files) > 0 && files[0].Name < dirs[0].Name {
			all = append(all, PathEntry{Name: files[0].Name, File: files[0].File})
			files = files[1:]
			continue
		}
		all = append(all, PathEntry{Name: dirs[0].Name, IsDir: true, Tree: dirs[0].Tree, Meta: dirs[0].Meta})
		dirs = dirs[1:]
	}
	return all, nil
}
