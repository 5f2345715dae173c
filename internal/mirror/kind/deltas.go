package kind

import (
	"fmt"
	"slices"

	"freshet/internal/closure"
	"freshet/internal/layout"
	"freshet/internal/ostree"
)

// deltas finds the static deltas that lead to the commits of refs: those in the summary,
// and those in the index of each commit.
func (w *treeWalk) deltas(s *summaries, refs []ref) (map[ostree.Checksum][]ostree.IndexedDelta, error) {
	found := make(map[ostree.Checksum][]ostree.IndexedDelta)
	var indexes []File
	for _, r := range refs {
		if _, ok := found[r.commit]; !ok {
			found[r.commit] = nil
			indexes = append(indexes, w.file(ostree.DeltaIndexPath(r.commit), closure.Sum{}, true))
		}
	}
	if !s.indexed {
		indexes = nil // there are none, and asking for each commit takes long
	}
	for list := range slices.Chunk(indexes, batch) {
		if err := w.ahead(list); err != nil {
			return nil, err
		}
		for _, f := range list {
			if err := w.deltaIndex(s, f.Path); err != nil {
				return nil, err
			}
		}
	}
	for name, superblock := range s.deltas {
		if list, ok := found[name.To]; ok {
			found[name.To] = append(list, ostree.IndexedDelta{Name: name, Superblock: superblock})
		}
	}
	for _, list := range found {
		sortDeltas(list)
	}
	return found, nil
}

// deltaIndex takes in the index of the deltas to one commit, if there are any.
func (w *treeWalk) deltaIndex(s *summaries, name string) error {
	f, ok, err := companion(w.ctx, w.tree.Open, name)
	if err != nil || !ok {
		return err
	}
	data, err := readAll(w.ctx, w.tree.Open, name, ostree.MaxMetadataSize)
	if err != nil {
		return err
	}
	index, err := ostree.ParseDeltaIndex(data)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for _, d := range index.Deltas {
		s.deltas[d.Name] = d.Superblock
	}
	f.Class = layout.Index
	s.indexes = append(s.indexes, f)
	return nil
}

// prefetchSuperblocks tells of the superblocks of deltas that will be read next.
func (w *treeWalk) prefetchSuperblocks(list []ostree.IndexedDelta) error {
	for some := range slices.Chunk(list, batch) {
		files := make([]File, len(some))
		for i, d := range some {
			files[i] = w.file(d.Name.SuperblockPath(), sha256Of(d.Superblock), false)
		}
		if err := w.ahead(files); err != nil {
			return err
		}
	}
	return nil
}

// delta yields a static delta, and returns its size and the objects that clients fetch
// besides.
func (w *treeWalk) delta(d ostree.IndexedDelta) (size int64, besides []ostree.ObjectName, err error) {
	data, err := w.named(d.Name.SuperblockPath(), d.Superblock)
	if err != nil {
		return 0, nil, err
	}
	s, err := ostree.ParseSuperblock(data)
	if err != nil {
		return 0, nil, fmt.Errorf("%s: %w", d.Name.SuperblockPath(), err)
	}
	for i, p := range s.Parts {
		if p.Size > maxSize {
			return 0, nil, fmt.Errorf("%w: %s has %d bytes", ostree.ErrTooLarge, d.Name.PartPath(i), p.Size)
		}
		size += int64(p.Size)
		// Parts may be in the superblock itself, and then there is no file.
		if s.Inline(i) {
			continue
		}
		if err := w.emit(d.Name.PartPath(i), int64(p.Size), sha256Of(p.Checksum), false); err != nil {
			return 0, nil, err
		}
	}
	for _, f := range s.Fallbacks {
		size += int64(min(f.Size, maxSize))
		besides = append(besides, f.Object)
	}
	return size + int64(len(data)), besides, w.emit(d.Name.SuperblockPath(), int64(len(data)), sha256Of(d.Superblock), false)
}

func sortDeltas(list []ostree.IndexedDelta) {
	slices.SortFunc(list, func(a, b ostree.IndexedDelta) int { return a.Name.Compare(b.Name) })
}
