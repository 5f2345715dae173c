package delta

import (
	"errors"
	"path"

	"freshet/internal/ostree"
)

// candidates finds, for a new file, the file of the earlier commit that it most
// probably came from: the one at the same path, else one of the same name,
// else one whose name differs by numbers only. Among several, the nearest in
// size is taken.
type candidates struct {
	repo   Repo
	byPath map[string]ostree.Checksum
	byName map[string][]treeFile // by base name, and by stem
	sizes  map[ostree.Checksum]uint64
}

const maxCandidates = 16 // files of which the size is looked up

func newCandidates(repo Repo, from *tree) *candidates {
	c := &candidates{
		repo: repo, byPath: make(map[string]ostree.Checksum, len(from.files)),
		byName: make(map[string][]treeFile, len(from.files)), sizes: map[ostree.Checksum]uint64{},
	}
	for _, f := range from.files {
		c.byPath[f.path] = f.sum
		base := path.Base(f.path)
		c.add(base, f)
		if s := stem(base); s != base {
			c.add(s, f)
		}
	}
	return c
}

func (c *candidates) add(key string, f treeFile) {
	if list := c.byName[key]; len(list) < maxCandidates {
		c.byName[key] = append(list, f)
	}
}

// of returns the file that o came from, with its size; false when there is
// none worth a comparison.
func (c *candidates) of(o *object) (ostree.Checksum, uint64, bool, error) {
	if o.size == 0 || o.header.IsSymlink() {
		return ostree.Checksum{}, 0, false, nil
	}
	if sum, ok := c.byPath[o.path]; ok {
		size, err := c.size(sum)
		if err != nil || size > 0 {
			return sum, size, err == nil, err
		}
	}
	base := path.Base(o.path)
	for _, key := range []string{base, stem(base)} {
		var best ostree.Checksum
		var bestSize, bestGap uint64
		for _, f := range c.byName[key] {
			size, err := c.size(f.sum)
			if err != nil {
				return ostree.Checksum{}, 0, false, err
			}
			gap := max(size, o.size) - min(size, o.size)
			if size > 0 && gap <= max(size, o.size)/2 && (bestSize == 0 || gap < bestGap) {
				best, bestSize, bestGap = f.sum, size, gap
			}
		}
		if bestSize > 0 {
			return best, bestSize, true, nil
		}
	}
	return ostree.Checksum{}, 0, false, nil
}

// size returns the size of a regular file, and 0 for a symlink.
func (c *candidates) size(sum ostree.Checksum) (size uint64, err error) {
	if size, ok := c.sizes[sum]; ok {
		return size, nil
	}
	name := ostree.ObjectName{Checksum: sum, Type: ostree.TypeFile}
	stored, err := c.repo.Open(name)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, stored.Close()) }()
	z, err := ostree.NewFilezReader(stored)
	if err != nil {
		return 0, &ostree.ObjectError{Name: name, Err: err}
	}
	c.sizes[sum] = z.Size()
	return z.Size(), z.Close()
}
