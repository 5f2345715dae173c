package repository

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"freshet/internal/hub/quarantine"
	"freshet/internal/layout"
	"freshet/internal/ostree"
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
		return r.store.Mirror(ctx, store.Mirror{Copy: r.opt.Copy, Class: classOf, Skip: IsUncopied, Apart: r.keepsApart, Filling: r.tellFilling()})
	case r.store.IsCopied():
		return store.ErrUnmirrored
	}
	return nil
}

// keepsApart tells whether the payload at a path is in quarantine: it comes back from the
// bucket, too, when a scrub or a check has verified it.
func (r *Repository) keepsApart(path string) bool {
	name, err := ostree.ParseObjectPath(path)
	if err != nil {
		return false
	}
	there, err := quarantine.Has(r.root, name)
	return err == nil && there
}

// fillLines is how often the log says how far a fill is.
const fillLines = 10 * time.Second

// tellFilling returns what tells the log that the repository, or its copy, is filled:
// when that begins, now and then, and when it ends.
func (r *Repository) tellFilling() func(store.Filling) {
	var begun, last time.Time
	return func(f store.Filling) {
		now, what := time.Now(), "directory"
		if f.Copy {
			what = "bucket"
		}
		log := r.log.With(slog.String("what", what), slog.Int64("files", f.Files), slog.Int64("bytes", f.Bytes))
		switch {
		case f.Ended:
			log.Info("filled: the directory and the bucket have the same", slog.Duration("took", now.Sub(begun)))
			begun = time.Time{}
			return
		case begun.IsZero():
			begun = now
			log.Info("begins to fill the one of directory and bucket that lacks something: publishes wait for it")
		case now.Sub(last) < fillLines:
			return
		default:
			log.Info("filling")
		}
		last = now
	}
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
