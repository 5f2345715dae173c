package repository

import (
	"context"
	"errors"

	"freshet/internal/layout"
	"freshet/internal/store"
	"freshet/internal/store/bucket"
)

// CopyHeaders are what a bucket tells of the files of a repository.
func CopyHeaders(path string) bucket.Headers {
	return bucket.Headers{CacheControl: layout.PolicyOf("/" + path).ClientCacheControl()}
}

// openCopy makes the repository and its copy in a bucket the same, if there is to be
// one.
func (r *Repository) openCopy(ctx context.Context) error {
	switch {
	case r.opt.Copy != nil:
		return r.store.Mirror(ctx, store.Mirror{Copy: r.opt.Copy, Class: classOf, Skip: IsUncopied})
	case r.store.IsCopied():
		return store.ErrUnmirrored
	}
	return nil
}

// IsUncopied tells the files that are about a directory, and are not part of the
// repository in it: they are not in a copy.
func IsUncopied(path string) bool {
	switch path {
	case formerFile, checkoutFile:
		return false
	}
	return hidden(path)
}

// writeConfig is how the config is written where it goes to the copy too; nil
// elsewhere.
func (r *Repository) writeConfig(ctx context.Context) func([]byte) error {
	if r.opt.Copy == nil {
		return nil
	}
	return func(config []byte) error {
		tx := r.store.Begin()
		err := tx.PutBytes(layout.OSTree(configFile).Class, configFile, config)
		if err == nil {
			err = tx.Commit(ctx, nil)
		}
		if err != nil {
			return errors.Join(err, tx.Abort())
		}
		return tx.Done()
	}
}

// Forget removes files from the copy of the repository that were removed from it by
// others than this package. The caller has the repository's lock, alone.
func (r *Repository) Forget(ctx context.Context, paths []string) error {
	return r.store.Forget(ctx, paths)
}
