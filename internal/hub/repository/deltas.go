package repository

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"freshet/internal/flatpak"
	"freshet/internal/gvariant"
	"freshet/internal/hub/deltas"
	"freshet/internal/ostree"
)

// verifyTime bounds how long the static deltas that came with a build are verified.
const verifyTime = 15 * time.Minute

// errVerifyTime says that verifying has taken too long.
var errVerifyTime = fmt.Errorf("verifying the static deltas of the build takes more than %s", verifyTime)

// deltas carries the static deltas that were uploaded over to the new commits: a
// superblock names the commit and is written anew, the parts hold what the
// tree consists of and stay. Each delta is carried out as a client would, and what it
// makes is hashed. One that is not what it should be is left out, because clients do
// without.
func (c *committing) deltas(index *flatpak.Index) error {
	names, err := ostree.ListDeltas(os.DirFS(filepath.Join(c.b.dir, uploadsDir)), ".")
	if err != nil || len(names) == 0 {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(c.ctx, verifyTime, errVerifyTime)
	defer cancel()
	carried := map[ostree.Checksum][]flatpak.Delta{}
	for _, name := range names {
		if len(c.from[name.To]) == 0 {
			c.log.printf("  static delta to %s dropped: no ref of the build has that commit", short(name.To.String()))
			continue
		}
		block, err := c.prove(ctx, name)
		if err := context.Cause(c.ctx); err != nil {
			return err
		}
		for _, made := range c.from[name.To] {
			var delta flatpak.Delta
			if err == nil {
				delta, err = c.carry(block, made)
			}
			if err != nil {
				c.log.printf("  static delta of %s dropped: %v", made.ref, err)
				continue
			}
			carried[made.sum] = append(carried[made.sum], delta)
			c.log.printf("  static delta of %s verified", made.ref)
		}
	}
	for to, all := range carried {
		index.SetDeltas(to, all)
	}
	c.log.lap("static deltas")
	return nil
}

// prove verifies that a static delta makes exactly the objects of its commit, and
// returns its superblock.
func (c *committing) prove(ctx context.Context, name ostree.DeltaName) (*ostree.Superblock, error) {
	if !name.FromScratch() {
		has, err := c.b.repo.objects.Has(commitName(name.From))
		if err != nil {
			return nil, err
		}
		if !has {
			return nil, fmt.Errorf("it begins at %s, which is not published", short(name.From.String()))
		}
	}
	if turns := c.b.repo.opt.Verifiers; turns != nil {
		if err := turns.Acquire(ctx, 1); err != nil {
			return nil, context.Cause(ctx)
		}
		defer turns.Release(1)
	}
	dir := filepath.Join(c.b.dir, uploadedDelta(name))
	_, err := deltas.Accept(ctx, c.b.objects, name, dir)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, err
	}
	data, err := readBounded(filepath.Join(dir, path.Base(name.SuperblockPath())), ostree.MaxMetadataSize)
	if err != nil {
		return nil, err
	}
	return ostree.ParseSuperblock(data)
}

// carry links the parts of an uploaded delta to the name that it has with the
// new commit, and writes the superblock last.
func (c *committing) carry(block *ostree.Superblock, made madeCommit) (flatpak.Delta, error) {
	led, err := lead(block, made, c.b.objects)
	if err != nil {
		return flatpak.Delta{}, err
	}
	for part := range block.Parts {
		if block.Metadata.Has(block.Name.PartPath(part)) {
			continue // inline
		}
		from := filepath.Join(c.b.dir, uploadedDelta(block.Name), filepath.Base(block.Name.PartPath(part)))
		target := filepath.Join(c.b.dir, filepath.FromSlash(led.Name.PartPath(part)))
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return flatpak.Delta{}, err
		}
		if err := os.Link(from, target); err != nil {
			return flatpak.Delta{}, err
		}
	}
	data := led.Encode()
	if err := c.place(led.Name.SuperblockPath(), data); err != nil {
		return flatpak.Delta{}, err
	}
	return flatpak.Delta{From: block.Name.From, Superblock: ostree.ChecksumOf(data)}, nil
}

// lead returns the superblock of the same delta that leads to another commit of
// the same tree. Objects that a client fetches singly have the size that they
// have in the repository.
func lead(block *ostree.Superblock, made madeCommit, in *ostree.Repo) (*ostree.Superblock, error) {
	if len(block.Recursion) > 0 {
		return nil, fmt.Errorf("%w: it builds on other deltas", ostree.ErrUnsupported)
	}
	if block.Commit.Tree != made.commit.Tree || block.Commit.TreeMeta != made.commit.TreeMeta {
		return nil, fmt.Errorf("%w: it leads to another tree", ostree.ErrMalformed)
	}
	led := *block
	led.Name.To = made.sum
	led.Commit = made.commit
	led.Metadata = gvariant.Dict{}
	// Parts may be inline, under the path that they would have as a file.
	for key, value := range block.Metadata.All() {
		file, err := ostree.ParseDeltaPath(key)
		switch {
		case err == nil && file.Delta == block.Name:
			file.Delta = led.Name
			led.Metadata.Set(file.Path(), value)
		case key != block.Name.Dir()+"/commitmeta":
			led.Metadata.Set(key, value)
		}
	}
	if made.detached != nil {
		detached, err := gvariant.Parse("a{sv}", made.detached)
		if err != nil {
			return nil, err
		}
		led.Metadata.Set(led.Name.Dir()+"/commitmeta", detached)
	}
	led.Fallbacks = slices.Clone(block.Fallbacks)
	for i := range led.Fallbacks {
		size, err := in.StoredSize(led.Fallbacks[i].Object)
		if err != nil {
			return nil, err
		}
		led.Fallbacks[i].Size = uint64(size)
	}
	return &led, nil
}

// uploadedDelta is the folder of a delta as uploaded.
func uploadedDelta(name ostree.DeltaName) string {
	s := name.String()
	return filepath.Join(uploadsDir, s[:2], s[2:])
}

// readBounded reads a small file.
func readBounded(path string, limit int64) (data []byte, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("%s: %w: %d bytes", filepath.Base(path), ostree.ErrTooLarge, info.Size())
	}
	return os.ReadFile(path)
}
