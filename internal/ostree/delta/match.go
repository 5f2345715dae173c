package delta

import (
	"errors"
	"hash/maphash"
	"path"
	"slices"
	"strings"

	"freshet/internal/ostree"
)

// candidates finds, for a new file, the file of the earlier commit that it most
// probably came from: the one at the same path; else one whose path differs by
// numbers only; else one of the same directory whose name begins alike; else
// one of the same name, or a name that differs by numbers, anywhere. Among
// several of the same rank, the nearest in size is taken.
type candidates struct {
	repo   Repo
	from   []treeFile
	byPath map[string]int32   // index in from
	byKey  map[uint64][]int32 // by the hash of a key
	seed   maphash.Seed
	sizes  map[ostree.Checksum]uint64
}

const maxCandidates = 16 // files of which the size is looked up

func newCandidates(repo Repo, from *tree) *candidates {
	c := &candidates{
		repo: repo, from: from.files, byPath: make(map[string]int32, len(from.files)),
		byKey: map[uint64][]int32{}, seed: maphash.MakeSeed(), sizes: map[ostree.Checksum]uint64{},
	}
	for i, f := range from.files {
		c.byPath[f.path] = int32(i)
		for _, key := range keys(f.path) {
			hash := maphash.String(c.seed, key)
			list := c.byKey[hash]
			known := slices.ContainsFunc(list, func(j int32) bool { return from.files[j].sum == f.sum })
			if len(list) < maxCandidates && !known {
				c.byKey[hash] = append(list, int32(i))
			}
		}
	}
	return c
}

// keys is what related files have in common, the strongest first.
func keys(p string) []string {
	dir, base := path.Split(p)
	begin, _, _ := strings.Cut(base, ".")
	return []string{"path " + stem(p), "dir " + stem(dir) + begin, "name " + base, "stem " + stem(base)}
}

// of returns the file that o came from, with its size; false when there is
// none worth a comparison.
func (c *candidates) of(o *object) (ostree.Checksum, uint64, bool, error) {
	if o.size == 0 || o.header.IsSymlink() {
		return ostree.Checksum{}, 0, false, nil
	}
	if i, ok := c.byPath[o.path]; ok {
		sum := c.from[i].sum
		size, err := c.size(sum)
		if err != nil || size > 0 {
			return sum, size, err == nil, err
		}
	}
	for _, key := range keys(o.path) {
		var best ostree.Checksum
		var bestSize, bestGap uint64
		for _, i := range c.byKey[maphash.String(c.seed, key)] {
			sum := c.from[i].sum
			size, err := c.size(sum)
			if err != nil {
				return ostree.Checksum{}, 0, false, err
			}
			gap := max(size, o.size) - min(size, o.size)
			if size > 0 && gap <= max(size, o.size)*2/3 && (bestSize == 0 || gap < bestGap) {
				best, bestSize, bestGap = sum, size, gap
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
