package upkeep

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strings"

	"freshet/internal/hub/repolock"
	"freshet/internal/layout"
	"freshet/internal/ostree"
	"freshet/internal/store"
	"freshet/internal/store/bucket"
)

// Copied is the copy of a repository in a bucket. It is compared beside the hub that
// publishes into both: what looks different is looked at again under the lock of the
// repository, while nobody publishes.
type Copied struct {
	// Copy is a client of the copy that nothing else uses.
	Copy *bucket.Copy
	// Skip tells the files of the directory that are not in the copy.
	Skip func(path string) bool
	// Repair writes to the bucket what it lacks, or has otherwise, of what the check has
	// verified in the directory. Each file is written over what was seen there, or where
	// nothing was. Nothing is removed.
	Repair bool
}

// CopySource is the copy of a repository in a bucket, to repair the directory from.
type CopySource struct{ Copy *bucket.Copy }

// Open implements [Source].
func (s CopySource) Open(ctx context.Context, path string) (io.ReadCloser, error) {
	return s.Copy.Open(ctx, path)
}

// suspects is how many files of payload are looked at again at once: a publish waits for
// no more than them.
const suspects = 500

// copyCheck is the comparison with a copy in progress.
type copyCheck struct {
	*checker
	Copied

	// What looks different: payload, and all else, which is decided by changes.
	payload, decided []string
}

// checkCopy compares the copy, if there is one.
func (c *checker) checkCopy(ctx context.Context) error {
	if c.opt.Copied == nil {
		return nil
	}
	k := copyCheck{checker: c, Copied: *c.opt.Copied}
	if err := k.belongs(ctx); err != nil {
		return err
	}
	if err := k.compare(ctx); err != nil {
		return err
	}
	if err := k.settle(ctx, k.payload); err != nil {
		return err
	}
	return k.settleDecided(ctx)
}

// belongs refuses a bucket that has another repository.
func (k *copyCheck) belongs(ctx context.Context) error {
	here, _, err := store.Copied(k.dir.Root)
	if err != nil {
		return err
	}
	there, _, err := k.Copy.Decided(ctx)
	switch {
	case err != nil:
		return err
	case here == "":
		return errors.New("the directory has no copy in a bucket, or is being filled: start the hub")
	case there != here:
		return fmt.Errorf("the directory belongs to copy %s, and the bucket has %q: is it the configuration of this hub?", here, there)
	}
	return nil
}

// compare walks through the directory and the list of the bucket side by side.
func (k *copyCheck) compare(ctx context.Context) error {
	next, stop := iter.Pull2(bucket.Files(k.dir.Root.FS(), ".", k.Skip))
	defer stop()
	file, err, more := next()
	unlisted := func(before string) error {
		for more && err == nil && (before == "" || file.Path < before) {
			if err := k.suspect(ctx, file.Path); err != nil {
				return err
			}
			file, err, more = next()
		}
		return err
	}
	listErr := k.Copy.List(ctx, func(path string, there bucket.Object) error {
		if k.Skip(path) {
			return nil
		}
		if err := unlisted(path); err != nil {
			return err
		}
		if !more || file.Path != path {
			k.report.CopyExtra++
			if strings.HasPrefix(path, "refs/") {
				k.decided = append(k.decided, path)
			}
			return nil
		}
		k.report.CopyFiles++
		if k.report.CopyFiles%1000 == 0 {
			k.progress("bucket", k.report.CopyFiles, k.report.CopyFiles)
		}
		same, sameErr := k.seemsSame(file, there)
		if sameErr == nil && !same {
			sameErr = k.suspect(ctx, path)
		}
		if sameErr == nil {
			file, err, more = next()
		}
		return cmp.Or(sameErr, err)
	})
	if listErr != nil {
		return listErr
	}
	return unlisted("")
}

// seemsSame compares a file with what the list says.
func (k *copyCheck) seemsSame(file bucket.Here, there bucket.Object) (bool, error) {
	if file.Size != there.Size || isPayload(file.Path) {
		return file.Size == there.Size, nil
	}
	f, err := k.dir.Root.Open(file.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // it is being removed
	}
	if err != nil {
		return false, err
	}
	etag, err := bucket.ETag(io.NewSectionReader(f, 0, file.Size))
	return etag == there.Version, errors.Join(err, f.Close())
}

// suspect notes a file that looks different.
func (k *copyCheck) suspect(ctx context.Context, path string) error {
	if !isPayload(path) {
		k.decided = append(k.decided, path)
		return nil
	}
	if k.payload = append(k.payload, path); len(k.payload) < suspects {
		return nil
	}
	err := k.settle(ctx, k.payload)
	k.payload = k.payload[:0]
	return err
}

// isPayload tells whether the name of a file tells its content.
func isPayload(path string) bool { return layout.OSTree(path).Class == layout.Payload }

// settle looks at files again while nobody publishes.
func (k *copyCheck) settle(ctx context.Context, paths []string) (err error) {
	if len(paths) == 0 {
		return nil
	}
	lock, err := repolock.Exclusive(ctx, k.dir.Root)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	return k.look(ctx, paths)
}

// settleDecided does that with what changes decide, if both have the same.
func (k *copyCheck) settleDecided(ctx context.Context) (err error) {
	lock, err := repolock.Exclusive(ctx, k.dir.Root)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	_, here, err := store.Copied(k.dir.Root)
	if err != nil {
		return err
	}
	_, there, err := k.Copy.Decided(ctx)
	if err != nil {
		return err
	}
	if here != there {
		k.found(Problem{
			Kind: KindCopy, Path: store.CopiedFile,
			Error: fmt.Sprintf("the directory has change %d, and the bucket %d: start the hub, which makes them the same", here, there),
		})
		return nil
	}
	return k.look(ctx, k.decided)
}

func (k *copyCheck) look(ctx context.Context, paths []string) error {
	for _, path := range paths {
		if err := k.lookAt(ctx, path); err != nil {
			return err
		}
	}
	return nil
}

// lookAt compares a file, and tells and repairs it. The caller has the lock.
func (k *copyCheck) lookAt(ctx context.Context, path string) (err error) {
	f, err := k.dir.Root.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return k.lookAtExtra(ctx, path)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	differs, err := k.Copy.Compare(ctx, path, f, !isPayload(path))
	if err != nil || differs == "" {
		return err
	}
	p := Problem{Kind: KindCopy, Path: path, Error: differs}
	if k.Repair && !k.opt.DryRun {
		failure := k.trusted(path)
		if failure == nil {
			failure = k.Copy.Overwrite(ctx, path, f)
		}
		if p.Repaired = failure == nil; !p.Repaired {
			p.Failure = failure.Error()
		}
	}
	k.found(p)
	return context.Cause(ctx)
}

// lookAtExtra tells a ref that is in the bucket alone.
func (k *copyCheck) lookAtExtra(ctx context.Context, path string) error {
	if isPayload(path) {
		return nil // it was removed meanwhile
	}
	there, err := k.Copy.Has(ctx, path)
	if err == nil && there {
		k.found(Problem{Kind: KindCopy, Path: path, Error: "it is in the bucket, and is not published: remove it there"})
	}
	return err
}

// trusted tells whether a file of the directory may be written to the bucket.
func (k *copyCheck) trusted(path string) error {
	if k.wrong[path] {
		return errors.New("it is wrong in the directory, too")
	}
	if name, err := ostree.ParseObjectPath(path); err == nil && name.Type != ostree.TypeCommitMeta && !k.sound.Has(name) {
		return k.verify(name)
	}
	if file, err := ostree.ParseDeltaPath(path); err == nil {
		if _, verified := k.seen.deltas[file.Delta]; !verified {
			return errors.New("this check has not verified the static delta: check again")
		}
	}
	return nil
}
