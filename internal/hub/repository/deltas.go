package repository

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"freshet/internal/flatpak"
	"freshet/internal/gvariant"
	"freshet/internal/ostree"
)

// deltas carries the static deltas that were uploaded over to the new commits: a
// superblock names the commit and is written anew, the parts hold what the
// tree consists of and stay. A delta that is not what it should be is left
// out, because clients do without; and so are all where they are not trusted.
func (c *committing) deltas(index *flatpak.Index) error {
	names, err := ostree.ListDeltas(os.DirFS(filepath.Join(c.b.dir, uploadsDir)), ".")
	if err != nil {
		return err
	}
	if len(names) > 0 && !c.b.repo.opt.TrustUploadedDeltas {
		c.log.printf("  %s dropped: uploaded deltas are not trusted here, clients fetch the objects instead", count(len(names), "static delta"))
		return nil
	}
	carried := map[ostree.Checksum][]flatpak.Delta{}
	for _, name := range names {
		if len(c.from[name.To]) == 0 {
			c.log.printf("  static delta to %s dropped: no ref of the build has that commit", short(name.To.String()))
		}
		for _, made := range c.from[name.To] {
			delta, err := c.carry(name, made)
			if err != nil {
				c.log.printf("  static delta of %s dropped: %v", made.ref, err)
				continue
			}
			carried[made.sum] = append(carried[made.sum], delta)
			c.log.printf("  static delta of %s kept", made.ref)
		}
	}
	for to, deltas := range carried {
		index.SetDeltas(to, deltas)
	}
	return nil
}

// carry links the parts of an uploaded delta to the name that it has with the
// new commit, and writes the superblock last.
func (c *committing) carry(name ostree.DeltaName, made madeCommit) (flatpak.Delta, error) {
	if !name.FromScratch() {
		has, err := c.b.repo.objects.Has(commitName(name.From))
		if err != nil {
			return flatpak.Delta{}, err
		}
		if !has {
			return flatpak.Delta{}, fmt.Errorf("it begins at %s, which is not published", short(name.From.String()))
		}
	}
	uploaded := filepath.Join(c.b.dir, uploadedDelta(name))
	data, err := readBounded(filepath.Join(uploaded, "superblock"), ostree.MaxMetadataSize)
	if err != nil {
		return flatpak.Delta{}, err
	}
	block, err := ostree.ParseSuperblock(data)
	if err != nil {
		return flatpak.Delta{}, err
	}
	if block.Name != name {
		return flatpak.Delta{}, fmt.Errorf("%w: the superblock is that of another delta", ostree.ErrMalformed)
	}
	led, err := lead(block, made, c.b.objects)
	if err != nil {
		return flatpak.Delta{}, err
	}
	for part := range block.Parts {
		if block.Metadata.Has(name.PartPath(part)) {
			continue // inline
		}
		from := filepath.Join(uploaded, filepath.Base(name.PartPath(part)))
		if err := c.carryPart(block, part, from, led.Name.PartPath(part)); err != nil {
			return flatpak.Delta{}, err
		}
	}
	data = led.Encode()
	if err := c.place(led.Name.SuperblockPath(), data); err != nil {
		return flatpak.Delta{}, err
	}
	return flatpak.Delta{From: name.From, Superblock: ostree.ChecksumOf(data)}, nil
}

func (c *committing) carryPart(block *ostree.Superblock, part int, from, to string) error {
	f, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("part %d: %w", part, err)
	}
	if err := errors.Join(block.VerifyPart(part, f), f.Close()); err != nil {
		return err
	}
	target := filepath.Join(c.b.dir, filepath.FromSlash(to))
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	return os.Link(from, target)
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
