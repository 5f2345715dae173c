package repository

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"freshet/internal/ostree"
)

// Objects reads the build's objects and those of its repository.
func (b *Build) Objects() *ostree.Repo { return b.objects }

// HasDelta tells whether the build has a static delta to be published with it.
func (b *Build) HasDelta(name ostree.DeltaName) bool {
	_, err := os.Stat(filepath.Join(b.dir, filepath.FromSlash(name.SuperblockPath())))
	return err == nil
}

// AddDelta takes a static delta to a commit of the build out of its folder, which must
// be on the build's file system. It is published with the commit, as a delta to the
// commit that is made of it; that its parts make the objects, the caller knows.
func (b *Build) AddDelta(ctx context.Context, delta NewDelta) error {
	done, err := b.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	target := filepath.Join(b.dir, filepath.FromSlash(delta.Name.Dir()))
	err = os.RemoveAll(target)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(target), 0o755)
	}
	if err == nil {
		// Readers see all of it or nothing.
		err = os.Rename(delta.Dir, target)
	}
	if err == nil {
		err = b.sync()
	}
	if err != nil {
		return fmt.Errorf("static delta %s of build %d: %w", delta.Name.Hex(), b.id, errors.Join(err, ignoreMissing(os.RemoveAll(delta.Dir))))
	}
	return nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
