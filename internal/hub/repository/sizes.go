package repository

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"sync"

	"freshet/internal/ostree"
)

const (
	// maxTreeEntries bounds the tree of a commit, counted as a client would check it
	// out: a few folders that name each other can describe more files than atoms.
	maxTreeEntries = 1 << 22

	// maxSymlink is what the object of a symlink takes at most: the header around
	// a path of 4096 bytes.
	maxSymlink = 4096 + 256
)

// downloadSize adds up the stored sizes of files, as xa.download-size has them:
// a file counts as often as it occurs, symlinks not at all.
type downloadSize struct {
	trees *folderReader
	files map[ostree.ObjectName]int64 // sizes that are known already; nil for none
	known map[[2]ostree.Checksum]extent
	read  int // entries of the folders that were read
}

// extent is what a folder comes to with all that is below it.
type extent struct {
	bytes   int64
	entries int
}

// of returns the size of the files in a folder that are not at the same place in
// another one, which is zero for none. What both have is not looked at. A tree
// that nobody could check out is ostree.ErrTooLarge.
func (d *downloadSize) of(ctx context.Context, tree, other ostree.Checksum) (int64, error) {
	all, err := d.folder(ctx, tree, other, 0)
	return all.bytes, err
}

func (d *downloadSize) folder(ctx context.Context, tree, other ostree.Checksum, depth int) (extent, error) {
	if tree == other {
		return extent{}, nil
	}
	pair := [2]ostree.Checksum{tree, other}
	if known, ok := d.known[pair]; ok {
		return known, nil
	}
	if depth > maxTreeDepth {
		return extent{}, fmt.Errorf("%w: folders nest deeper than %d", ostree.ErrTooLarge, maxTreeDepth)
	}
	if err := context.Cause(ctx); err != nil {
		return extent{}, err
	}
	mine, err := d.trees.read(tree)
	if err != nil {
		return extent{}, err
	}
	theirs, err := d.trees.published(other)
	if err != nil {
		return extent{}, err
	}
	if d.read += len(mine.Files) + len(mine.Dirs) + 1; d.read > maxTreeEntries {
		return extent{}, errTreeEntries
	}
	total := extent{entries: 1 + len(mine.Files)}
	for _, file := range mine.Files {
		if same, ok := theirs.File(file.Name); ok && same == file {
			continue
		}
		size, err := d.file(file.File)
		if err != nil {
			return extent{}, err
		}
		if total.bytes, err = add(total.bytes, size); err != nil {
			return extent{}, err
		}
	}
	for _, dir := range mine.Dirs {
		same, _ := theirs.Dir(dir.Name)
		below, err := d.folder(ctx, dir.Tree, same.Tree, depth+1)
		if err != nil {
			return extent{}, err
		}
		if total.entries += below.entries; total.entries > maxTreeEntries {
			return extent{}, errTreeEntries
		}
		if total.bytes, err = add(total.bytes, below.bytes); err != nil {
			return extent{}, err
		}
	}
	if d.known == nil {
		d.known = map[[2]ostree.Checksum]extent{}
	}
	d.known[pair] = total
	return total, nil
}

var errTreeEntries = fmt.Errorf("%w: a tree of more than %d files and folders", ostree.ErrTooLarge, maxTreeEntries)

// add adds sizes; a tree that shares its folders often enough has more bytes
// than a number can hold.
func add(a, b int64) (int64, error) {
	if a > math.MaxInt64-b {
		return 0, fmt.Errorf("%w: a tree of more than %d bytes", ostree.ErrTooLarge, a)
	}
	return a + b, nil
}

// file returns the stored size of a file, zero for a symlink.
func (d *downloadSize) file(sum ostree.Checksum) (int64, error) {
	name := ostree.ObjectName{Checksum: sum, Type: ostree.TypeFile}
	if size, ok := d.files[name]; ok {
		return size, nil
	}
	size, err := d.trees.in.StoredSize(name)
	if err != nil || size > maxSymlink {
		return size, err
	}
	symlink, err := isSymlink(d.trees.in, name)
	if symlink {
		size = 0
	}
	return size, err
}

// isSymlink looks at the mode in the header of a file object, which is found at
// a fixed place: after the length of the header, four zero bytes, the size, the
// user and the group.
func isSymlink(in *ostree.Repo, name ostree.ObjectName) (symlink bool, err error) {
	f, err := in.Open(name)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var head [28]byte
	if _, err := io.ReadFull(f, head[:]); err != nil {
		return false, &ostree.ObjectError{Name: name, Err: err}
	}
	return binary.BigEndian.Uint32(head[24:])&ostree.ModeType == ostree.ModeSymlink, nil
}

// rebased returns the download size of a commit with the tree, given a published
// commit with its own: only what differs is looked at.
func (d *downloadSize) rebased(ctx context.Context, tree ostree.Checksum, base *ostree.Commit) (uint64, error) {
	var before ostree.Checksum
	var known uint64
	if base != nil {
		if size, ok := base.Metadata.Get(keyDownloadSize); ok && size.Is("t") {
			before, known = base.Tree, size.Uint64BE()
		}
	}
	added, err := d.of(ctx, tree, before)
	if err != nil {
		return 0, err
	}
	removed := int64(0)
	if !before.IsZero() {
		removed, err = d.of(ctx, before, tree)
	}
	if errors.Is(err, fs.ErrNotExist) || err == nil && uint64(removed) > known {
		// The base has holes, or never told the truth.
		added, err = d.of(ctx, tree, ostree.Checksum{})
		return uint64(added), err
	}
	return known - uint64(removed) + uint64(added), err
}

// treeSizes are the download sizes of trees that were added up as a whole. It may be
// used by several goroutines.
type treeSizes struct{ known sync.Map } // of int64 by ostree.Checksum

func (s *treeSizes) set(tree ostree.Checksum, size int64) { s.known.Store(tree, size) }

func (s *treeSizes) get(tree ostree.Checksum) (size int64, ok bool) {
	value, ok := s.known.Load(tree)
	if ok {
		size, ok = value.(int64)
	}
	return size, ok
}

// keyDownloadSize is flatpak's key of commit metadata: t, big-endian.
const keyDownloadSize = "xa.download-size"
