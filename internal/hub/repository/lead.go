package repository

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"freshet/internal/flatpak"
	"freshet/internal/keyfile"
	"freshet/internal/ostree"
	"freshet/internal/store"
)

// ErrNotLeading says that another process publishes into the repository.
var ErrNotLeading = store.ErrNotLeading

// Lead makes this process the one of several ([Options.Instance]) that publishes
// into the repository, in the place of whoever led it before with a lower fencing
// number ([store.Store.Lead]), and does what Open does for a process alone. after
// is as [Options.AfterSerial]. When somebody leads with a higher number the error
// is [ErrNotLeading].
func (r *Repository) Lead(ctx context.Context, fence int64, after uint64, cache Cache) ([]Pending, error) {
	pending, err := r.lead(ctx, fence, after, cache)
	if err != nil {
		return nil, fmt.Errorf("lead repository %s: %w", r.opt.Name, err)
	}
	return pending, nil
}

func (r *Repository) lead(ctx context.Context, fence int64, after uint64, cache Cache) (_ []Pending, err error) {
	release, err := r.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := r.store.Lead(ctx, fence); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			r.store.Resign()
		}
	}()
	reconfigured, err := makeArchive(r.opt.Dir, r.opt.configure, r.writeConfig(ctx))
	if err != nil {
		return nil, err
	}
	r.index, r.unsaved, r.owed, r.after = flatpak.Index{}, map[string]bool{}, nil, after
	return r.begun(ctx, cache, reconfigured)
}

// follow takes in what is on the disk, for who may not change it.
func (r *Repository) follow(ctx context.Context, cache Cache) (err error) {
	for range 5 {
		// A ref may be removed between the listing and the reading.
		if _, err = r.load(ctx, cache); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	r.known.Store(r.index.Snapshot())
	return err
}

// begun takes in what is on the disk, for who may change it.
func (r *Repository) begun(ctx context.Context, cache Cache, reconfigured bool) ([]Pending, error) {
	damaged, err := r.load(ctx, cache)
	if err != nil {
		return nil, err
	}
	r.stale.Store(&staleness{reconfigured, damaged})
	if r.opt.RefreshLater {
		r.log.DebugContext(ctx, "the repository is brought up to date later")
	} else if _, err := r.refresh(ctx); err != nil {
		// What is published stays as it is, and so it can be served.
		r.log.ErrorContext(ctx, "the summaries could not be brought up to date", slog.Any("error", err))
	}
	r.known.Store(r.index.Snapshot())
	return r.pending()
}

// Resign ends what Lead began, after the publish that is running. Whoever leads
// next has what is not confirmed as Pending.
func (r *Repository) Resign() {
	r.publishing <- struct{}{}
	defer func() { <-r.publishing }()
	r.store.Resign()
	r.stale.Store(nil)
}

// Overtaken tells whether another process leads the repository in the place of
// this one.
func (r *Repository) Overtaken() bool { return r.store.Overtaken() }

// Fence returns the highest fencing number that ever led the repository, here or in
// its copy.
func (r *Repository) Fence(ctx context.Context) (int64, error) {
	here, err := r.store.Fence()
	if err != nil {
		return 0, err
	}
	there, err := r.store.MirrorFence(ctx)
	return max(here, there), err
}

// Learn takes in what the process that leads has published: what is remembered of
// refs that have new commits, and refs that were removed. Whoever leads knows it.
func (r *Repository) Learn(ctx context.Context, infos []RefInfo, removed []string) error {
	release, err := r.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	if r.store.Leads() && !r.store.Overtaken() {
		return nil
	}
	list := make([]flatpak.CommitInfo, 0, len(infos))
	for _, entry := range infos {
		info, err := flatpak.DecodeCommitInfo(entry.Blob)
		if err != nil || info.Ref != entry.Ref {
			sum, parseErr := ostree.ParseChecksum(entry.Commit)
			if parseErr != nil {
				return parseErr
			}
			if info, err = flatpak.ReadCommitInfo(r.objects, entry.Ref, sum); err != nil {
				return fmt.Errorf("%s: %w", entry.Ref, err)
			}
		}
		list = append(list, info)
	}
	r.index.Update(list, removed)
	r.known.Store(r.index.Snapshot())
	return nil
}

// openFiles opens the files of the repository: for this process alone, or beside
// others. It is an archive repository then.
func (r *Repository) openFiles(ctx context.Context) (reconfigured bool, err error) {
	if r.opt.Instance == "" {
		if r.store, err = store.Open(r.opt.Dir); err != nil {
			return false, err
		}
	} else if r.store, err = store.OpenShared(r.opt.Dir); err != nil {
		return false, err
	}
	if r.root, err = os.OpenRoot(r.opt.Dir); err != nil {
		return false, err
	}
	if err := r.openCopy(ctx); err != nil {
		return false, err
	}
	if err := r.opt.checkCollection(); err != nil {
		return false, err
	}
	if r.opt.Instance == "" {
		return makeArchive(r.opt.Dir, r.opt.configure, r.writeConfig(ctx))
	}
	if _, err := os.Stat(filepath.Join(r.opt.Dir, configFile)); !errors.Is(err, fs.ErrNotExist) {
		return false, err // who leads keeps it up to date
	}
	return makeArchive(r.opt.Dir, func(*keyfile.File) error { return nil }, nil)
}
