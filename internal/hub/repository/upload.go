package repository

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"strings"

	"freshet/internal/hub/quarantine"
	"freshet/internal/hub/repolock"
	"freshet/internal/hub/stamps"
	"freshet/internal/ostree"
)

// Missing returns those of the objects that have to be uploaded: neither the
// build nor the repository has them, or what they have is seen to be damaged. The
// order stays. What the repository has stays until the build is removed, whatever is
// pruned.
func (b *Build) Missing(ctx context.Context, wanted []ostree.ObjectName) ([]ostree.ObjectName, error) {
	done, err := b.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	var published, absent []ostree.ObjectName
	lacks := make(map[ostree.ObjectName]bool)
	for _, name := range wanted {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		_, own, err := b.look(name)
		switch {
		case err != nil:
			lacks[name] = true
			if errors.Is(err, fs.ErrNotExist) {
				absent = append(absent, name)
			} else {
				b.repo.log.WarnContext(ctx, "an object is damaged", slog.String("object", name.String()), slog.Any("error", err))
			}
		case !own:
			published = append(published, name)
		}
	}
	b.await(absent)
	gone, err := b.rely(ctx, published)
	if err != nil {
		return nil, err
	}
	for _, name := range gone {
		lacks[name] = true
	}
	missing := make([]ostree.ObjectName, 0, len(lacks))
	for _, name := range wanted {
		if lacks[name] {
			missing = append(missing, name)
		}
	}
	return missing, nil
}

// await remembers which objects are nowhere, so that they need not be looked for when
// they come. One in quarantine is somewhere: what comes takes its place.
func (b *Build) await(names []ostree.ObjectName) {
	some := quarantine.Some(b.repo.root)
	more := 0
	for _, name := range names {
		if !some || !b.repo.apart(name) {
			more += b.stamps.Await(name)
		}
	}
	b.remember(more)
}

// rely sees to it that published objects stay while the build does, and returns those
// for which that was too late.
func (b *Build) rely(ctx context.Context, names []ostree.ObjectName) (gone []ostree.ObjectName, err error) {
	if len(names) == 0 {
		return nil, nil
	}
	if err := b.relied.Add(names...); err != nil {
		return nil, fmt.Errorf("build %d: keep published objects: %w", b.id, err)
	}
	// Who deletes now may have begun before.
	lock, err := repolock.Shared(ctx, b.repo.root)
	if err != nil {
		return nil, err
	}
	if err := lock.Release(); err != nil {
		return nil, err
	}
	for _, name := range names {
		there, err := b.objects.Has(name)
		if err != nil {
			return nil, err
		}
		if !there {
			gone = append(gone, name)
		}
	}
	return gone, nil
}

// PutObject stores an object and returns its stored size. It hashes what it
// reads; content that does not belong to the name leaves nothing behind and
// gives an *ostree.MismatchError or *ostree.ObjectError. An object that is there
// already and whole is left alone, and r is not read; a damaged one is replaced,
// in the repository too. When Commit or Remove begins before
// r has ended, the error is ErrLateUpload.
func (b *Build) PutObject(ctx context.Context, name ostree.ObjectName, r io.Reader) (stored int64, err error) {
	epoch, done, err := b.admit(ctx)
	if err != nil {
		return 0, err
	}
	size, damaged, err := b.has(ctx, name)
	done()
	if err == nil {
		return size, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("store object %s: %w", name, err)
	}
	symlink := false
	place := func(t *temp) error {
		err := b.settle(t, name.Path())
		if err == nil {
			b.note(name, t.stamp, stamps.Same, symlink)
		}
		return err
	}
	if damaged {
		place = func(t *temp) error {
			// It is the repository's from then on: a prune is to leave it.
			if err := b.relied.Add(name); err != nil {
				return fmt.Errorf("keep it: %w", err)
			}
			return b.repo.replace(ctx, name, t.path)
		}
	}
	return b.receive(ctx, epoch, name.Path(), r, place, func(r io.Reader) error {
		info, err := ostree.VerifyObject(name, r)
		symlink = isLink(info)
		return err
	})
}

// PutDelta stores a file of a static delta. It is checked by Commit. Errors of
// lateness are those of PutObject.
func (b *Build) PutDelta(ctx context.Context, name ostree.DeltaFile, r io.Reader) (stored int64, err error) {
	epoch, done, err := b.admit(ctx)
	if err != nil {
		return 0, err
	}
	done()
	path := uploadsDir + "/" + strings.TrimPrefix(name.Path(), "deltas/")
	return b.receive(ctx, epoch, path, r, func(t *temp) error { return b.settle(t, path) }, readAll)
}

// receive stores a file that comes over the network, as slowly as that may be:
// the build is held at the beginning and at the end only. When check is content,
// place gives the file its name.
func (b *Build) receive(ctx context.Context, epoch int64, path string, r io.Reader, place func(*temp) error, check func(io.Reader) error) (int64, error) {
	done, err := b.readmit(ctx, epoch)
	if err != nil {
		return 0, err
	}
	t, err := b.createTemp()
	done()
	if err != nil {
		return 0, fmt.Errorf("store %s: %w", path, err)
	}
	stored, err := t.write(&timely{ctx: ctx, gate: b.gate, epoch: epoch, r: r}, check)
	if err == nil {
		if done, err = b.readmit(ctx, epoch); err == nil {
			err = place(t)
			done()
		}
	}
	if err != nil {
		return 0, fmt.Errorf("store %s: %w", path, errors.Join(err, t.discard()))
	}
	return stored, nil
}

// timely ends a body when nobody waits for it any more.
type timely struct {
	ctx   context.Context //nolint:containedctx // lives as long as the call
	gate  *gate
	epoch int64
	r     io.Reader
}

// Read implements io.Reader.
func (t *timely) Read(p []byte) (int, error) {
	if err := context.Cause(t.ctx); err != nil {
		return 0, err
	}
	if err := t.gate.inTime(t.epoch); err != nil {
		return 0, err
	}
	return t.r.Read(p)
}

// put writes a file of the build as check reads it, and gives it its name
// when check is content. The caller holds the build.
func (b *Build) put(ctx context.Context, path string, r io.Reader, check func(io.Reader) error) (stored int64, err error) {
	if err := context.Cause(ctx); err != nil {
		return 0, err
	}
	t, err := b.createTemp()
	if err != nil {
		return 0, fmt.Errorf("store %s: %w", path, err)
	}
	if stored, err = t.write(r, check); err == nil {
		err = b.settle(t, path)
	}
	if err != nil {
		return 0, fmt.Errorf("store %s: %w", path, errors.Join(err, t.discard()))
	}
	return stored, nil
}
