package upkeep

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"freshet/internal/ostree"
)

// checkDeltas checks that static deltas are whole, and that delta indexes name
// those that are there. What the parts of a delta make is not looked at.
func (c *checker) checkDeltas(ctx context.Context) error {
	names, err := ostree.ListDeltas(c.repo.FS(), "deltas")
	if err != nil {
		return err
	}
	for i, name := range names {
		if err := c.checkDelta(ctx, name); err != nil {
			return err
		}
		c.progress("deltas", int64(i+1), int64(len(names)))
	}
	return c.checkDeltaIndexes(ctx)
}

// eachIn calls fn with the paths root/XX/YYY.
func eachIn(fsys fs.FS, root string, fn func(path string)) error {
	folders, err := fs.ReadDir(fsys, root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list %s: %w", root, err)
	}
	for _, folder := range folders {
		if !folder.IsDir() || len(folder.Name()) != 2 {
			continue
		}
		entries, err := fs.ReadDir(fsys, root+"/"+folder.Name())
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("list %s: %w", root, err)
		}
		for _, entry := range entries {
			fn(root + "/" + folder.Name() + "/" + entry.Name())
		}
	}
	return nil
}

func (c *checker) checkDelta(ctx context.Context, name ostree.DeltaName) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	data, err := readFile(c.dir.Root, name.SuperblockPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil // on its way, or what is left of one
	}
	block, sum, err := c.superblock(ctx, name, data, err)
	if err != nil {
		return nil //nolint:nilerr // told
	}
	if c.report.Incremental && c.before.deltas[name] == sum {
		c.seen.addDelta(name, sum)
		return nil
	}
	for part := range block.Parts {
		path := name.PartPath(part)
		if block.Metadata.Has(path) {
			continue // inline
		}
		if err := c.checkPart(ctx, block, part, path); err != nil {
			return err
		}
	}
	c.seen.addDelta(name, sum)
	c.report.Deltas++
	return nil
}

// superblock reads a superblock, which the delta index of its commit knows by its
// checksum; damaged ones are told and repaired by that.
func (c *checker) superblock(ctx context.Context, name ostree.DeltaName, data []byte, cause error) (*ostree.Superblock, ostree.Checksum, error) {
	want, known := c.indexed(name)
	check := func(data []byte) (*ostree.Superblock, error) {
		if sum := ostree.ChecksumOf(data); known && sum != want {
			return nil, fmt.Errorf("the superblock has checksum %s, its delta index says %s", sum, want)
		}
		block, err := ostree.ParseSuperblock(data)
		if err == nil && block.Name != name {
			err = fmt.Errorf("the superblock is that of delta %s", block.Name.Hex())
		}
		return block, err
	}
	var block *ostree.Superblock
	if cause == nil {
		if block, cause = check(data); cause == nil {
			return block, ostree.ChecksumOf(data), nil
		}
	}
	repaired := c.badFile(ctx, name.SuperblockPath(), cause, func(r io.Reader) error {
		if !known {
			return errUnnamed
		}
		fetched, err := readBounded(r)
		if err != nil {
			return err
		}
		block, err = check(fetched)
		return err
	})
	if !repaired {
		return nil, want, cause
	}
	return block, want, nil
}

// indexed is the checksum of a superblock that the delta index has.
func (c *checker) indexed(name ostree.DeltaName) (ostree.Checksum, bool) {
	data, err := readFile(c.dir.Root, ostree.DeltaIndexPath(name.To))
	if err != nil {
		return ostree.Checksum{}, false
	}
	index, err := ostree.ParseDeltaIndex(data)
	if err != nil {
		return ostree.Checksum{}, false
	}
	for _, delta := range index.Deltas {
		if delta.Name == name {
			return delta.Superblock, true
		}
	}
	return ostree.Checksum{}, false
}

func (c *checker) checkPart(ctx context.Context, block *ostree.Superblock, part int, path string) error {
	f, err := c.dir.Root.Open(path)
	if err == nil {
		err = errors.Join(block.VerifyPart(part, f), f.Close())
	}
	if err == nil {
		return nil
	}
	if _, gone := c.dir.Root.Stat(block.Name.SuperblockPath()); errors.Is(gone, fs.ErrNotExist) {
		return nil // the delta is being removed
	}
	c.badFile(ctx, path, err, func(r io.Reader) error { return block.VerifyPart(part, r) })
	return context.Cause(ctx)
}

// badFile is bad for a file of a static delta.
func (c *checker) badFile(ctx context.Context, path string, cause error, verify func(io.Reader) error) bool {
	p := Problem{Kind: KindDelta, Path: path, Error: cause.Error()}
	if err := c.fix.file(ctx, path, verify); err == nil {
		p.Repaired = true
	} else if !errors.Is(err, errNoRepair) {
		p.Failure = err.Error()
	}
	c.found(p)
	return p.Repaired
}

// checkDeltaIndexes checks that each delta that clients find is there.
func (c *checker) checkDeltaIndexes(ctx context.Context) error {
	return eachIn(c.repo.FS(), "delta-indexes", func(path string) {
		to, err := ostree.ParseDeltaIndexPath(path)
		if err != nil || context.Cause(ctx) != nil {
			return
		}
		data, err := readFile(c.dir.Root, path)
		if errors.Is(err, fs.ErrNotExist) {
			return
		}
		var index *ostree.DeltaIndex
		if err == nil {
			index, err = ostree.ParseDeltaIndex(data)
		}
		if err != nil {
			c.found(Problem{Kind: KindDelta, Path: path, Error: err.Error()})
			return
		}
		for _, delta := range index.Deltas {
			if delta.Name.To != to {
				c.found(Problem{Kind: KindDelta, Path: path, Error: "it lists delta " + delta.Name.Hex() + ", which leads to another commit"})
				continue
			}
			if _, err := c.dir.Root.Stat(delta.Name.SuperblockPath()); err == nil {
				continue
			}
			if listed, ok := c.indexed(delta.Name); !ok || listed != delta.Superblock {
				continue // it was retired meanwhile
			}
			c.missingSuperblock(ctx, delta)
		}
	})
}

func (c *checker) missingSuperblock(ctx context.Context, delta ostree.IndexedDelta) {
	block, _, err := c.superblock(ctx, delta.Name, nil, errors.New("a delta index lists it, and it is not there"))
	if err != nil {
		return // told
	}
	for part := range block.Parts {
		if path := delta.Name.PartPath(part); !block.Metadata.Has(path) {
			_ = c.checkPart(ctx, block, part, path) // it only tells that ctx has ended
		}
	}
}
