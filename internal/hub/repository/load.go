package repository

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"freshet/internal/flatpak"
	"freshet/internal/ostree"
)

// load fills the index with what the refs on disk point at, from the cache where
// that knows it, otherwise from the commits. It tells whether the summary on
// disk is damaged.
func (r *Repository) load(ctx context.Context, cache Cache) (damaged bool, err error) {
	heads, err := r.objects.ListRefs()
	if err != nil {
		return false, err
	}
	infos := r.cached(ctx, cache, heads)
	unknown := make(map[string]ostree.Checksum)
	for ref, sum := range heads {
		if _, ok := infos[ref]; !ok {
			unknown[ref] = sum
		}
	}
	if err := r.readInfos(ctx, unknown, infos); err != nil {
		return false, err
	}
	list := make([]flatpak.CommitInfo, 0, len(infos))
	for _, info := range infos {
		list = append(list, info)
	}
	r.index.Update(list, nil)
	if len(unknown) > 0 {
		r.log.InfoContext(ctx, "read commits that were not in the database", slog.Int("refs", len(unknown)))
	}
	return r.loadDeltas(ctx)
}

// cached returns what the cache knows of the heads. A cache that cannot be read
// costs time, no more.
func (r *Repository) cached(ctx context.Context, cache Cache, heads map[string]ostree.Checksum) map[string]flatpak.CommitInfo {
	infos := make(map[string]flatpak.CommitInfo, len(heads))
	if cache == nil {
		return infos
	}
	saved, err := cache.Load(ctx, r.opt.Name)
	if err != nil {
		r.log.WarnContext(ctx, "the database does not tell what it knows of the commits", slog.Any("error", err))
		return infos
	}
	for _, entry := range saved {
		head, ok := heads[entry.Ref]
		if !ok || head.String() != entry.Commit {
			continue
		}
		info, err := flatpak.DecodeCommitInfo(entry.Blob)
		if err != nil || info.Ref != entry.Ref || info.Checksum != head {
			continue
		}
		infos[entry.Ref] = info
	}
	return infos
}

// readInfos reads commits. A ref whose commit is damaged is left out: clients
// could not install it either.
func (r *Repository) readInfos(ctx context.Context, heads map[string]ostree.Checksum, infos map[string]flatpak.CommitInfo) error {
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(2 * runtime.GOMAXPROCS(0))
	for ref, sum := range heads {
		group.Go(func() error {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			info, err := flatpak.ReadCommitInfo(r.objects, ref, sum)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				r.log.ErrorContext(ctx, "a ref cannot be listed, its commit is damaged", slog.String("ref", ref), slog.Any("error", err))
				return nil
			}
			infos[ref] = info
			r.unsaved[ref] = true
			return nil
		})
	}
	return group.Wait()
}

// loadDeltas takes in the static deltas that lead to the heads, and the history
// of the summaries.
func (r *Repository) loadDeltas(ctx context.Context) (damaged bool, err error) {
	fsys := os.DirFS(r.opt.Dir)
	names, err := ostree.ListDeltas(fsys, "deltas")
	if err != nil {
		return false, err
	}
	heads := make(map[ostree.Checksum]bool, r.index.Len())
	for _, sum := range r.index.Refs() {
		heads[sum] = true
	}
	deltas := make(map[ostree.Checksum][]flatpak.Delta)
	listed := make(map[ostree.Checksum]map[ostree.DeltaName]ostree.Checksum)
	stale := make(map[ostree.Checksum]bool) // delta indexes that say too little or too much
	for _, name := range names {
		if !heads[name.To] {
			continue
		}
		known, ok := listed[name.To]
		if !ok {
			known = readDeltaIndex(fsys, name.To)
			listed[name.To] = known
		}
		sum, ok := known[name]
		if !ok {
			stale[name.To] = true
			data, err := fs.ReadFile(fsys, name.SuperblockPath())
			if errors.Is(err, fs.ErrNotExist) {
				continue // on its way, or what is left of one
			}
			if err != nil {
				return false, fmt.Errorf("static delta %s: %w", name, err)
			}
			sum = ostree.ChecksumOf(data)
		}
		deltas[name.To] = append(deltas[name.To], flatpak.Delta{From: name.From, Superblock: sum})
	}
	for to, known := range listed {
		if len(known) > len(deltas[to]) {
			stale[to] = true
		}
	}
	for to, list := range deltas {
		r.index.SetDeltas(to, list)
	}
	if err := r.index.LoadHistory(fsys); err != nil {
		r.log.WarnContext(ctx, "the summary is made anew without a history", slog.Any("error", err))
		damaged = true
	}
	for to := range stale {
		r.index.SetDeltas(to, deltas[to])
	}
	return damaged, nil
}

// readDeltaIndex returns the superblocks that the delta index of a commit lists;
// none when it is absent or damaged.
func readDeltaIndex(fsys fs.FS, to ostree.Checksum) map[ostree.DeltaName]ostree.Checksum {
	data, err := fs.ReadFile(fsys, ostree.DeltaIndexPath(to))
	if err != nil {
		return nil
	}
	index, err := ostree.ParseDeltaIndex(data)
	if err != nil {
		return nil
	}
	known := make(map[ostree.DeltaName]ostree.Checksum, len(index.Deltas))
	for _, delta := range index.Deltas {
		known[delta.Name] = delta.Superblock
	}
	return known
}
