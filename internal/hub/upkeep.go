package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/hub/catalog"
)

const (
	// upkeepPause is the time between rounds of upkeep.
	upkeepPause = time.Hour
	// historyKept is how long job logs and the audit log are kept.
	historyKept = 90 * 24 * time.Hour
)

// upkeep does what nobody asks for: it purges builds that were forgotten,
// removes what a crash left behind, and forgets old history. It runs until stop
// ends.
func (s *server) upkeep(stop context.Context) {
	ticker := time.NewTicker(upkeepPause)
	defer ticker.Stop()
	for {
		for _, step := range []struct {
			what string
			do   func(context.Context) error
		}{
			{"end jobs of repositories that are gone", s.endOrphans},
			{"purge old builds", s.purgeStale},
			{"sweep files of builds", s.sweepBuilds},
			{"tell of repairs", s.tellAllRepairs},
			{"retire tree generations", s.retireTrees},
			{"remove retired static deltas", s.sweepDeltas},
			{"expire history", func(ctx context.Context) error { return s.catalog.Expire(ctx, time.Now().Add(-historyKept)) }},
		} {
			if err := step.do(stop); err != nil && stop.Err() == nil {
				s.log.ErrorContext(stop, "upkeep", slog.String("step", step.what), slog.Any("error", err))
			}
		}
		select {
		case <-stop.Done():
			return
		case <-ticker.C:
		}
	}
}

// endOrphans breaks the publishes and republishes queued for repositories that are no longer
// configured: nobody would ever take them up, and their builds could not even
// be purged.
func (s *server) endOrphans(ctx context.Context) error {
	counts, err := s.catalog.JobCounts(ctx)
	if err != nil {
		return err
	}
	for _, count := range counts {
		if _, exists := s.repos[count.Repo]; exists || !catalog.Serial(count.Kind) || count.Status != hubapi.JobNew {
			continue
		}
		for {
			job, err := s.catalog.NextJob(ctx, catalog.JobFilter{Kinds: []hubapi.JobKind{count.Kind}, Repo: count.Repo})
			if err != nil {
				return err
			}
			if job == nil {
				break
			}
			s.settle(ctx, job, fmt.Errorf("there is no repository %q any more", count.Repo))
		}
	}
	return nil
}

// purge deletes the files of a build for good.
func (s *server) purge(ctx context.Context, as *catalog.Catalog, id int64) (hubapi.Build, error) {
	build, err := as.StartPurge(ctx, id)
	if err != nil {
		return build, err
	}
	// What was begun is ended, whether the client waits for it or not.
	return s.finishPurge(context.WithoutCancel(ctx), build)
}

// purgeAll ends purges that were interrupted.
func (s *server) purgeAll(ctx context.Context, recovery catalog.Recovery) {
	for _, build := range recovery.Purging {
		if _, err := s.finishPurge(ctx, build); err != nil {
			s.log.WarnContext(ctx, "cannot end a purge", slog.Int64("build", build.ID), slog.Any("error", err))
		}
	}
}

func (s *server) finishPurge(ctx context.Context, build hubapi.Build) (hubapi.Build, error) {
	failure := ""
	removed := s.removeBuild(ctx, build)
	if removed != nil {
		failure = reason(removed)
	}
	purged, err := s.catalog.FinishPurge(ctx, build.ID, failure)
	return purged, errors.Join(removed, err)
}

// removeBuild deletes the files of a build that nobody needs any more.
func (s *server) removeBuild(ctx context.Context, build hubapi.Build) error {
	repo, exists := s.repos[build.Repo]
	if !exists {
		// Its repository is no longer configured.
		return os.RemoveAll(s.buildDir(build.ID))
	}
	files, err := repo.Build(build.ID)
	if err != nil {
		// A removal that was cut short has left a folder that is no build.
		return os.RemoveAll(s.buildDir(build.ID))
	}
	return files.Remove(ctx)
}

// discard deletes the files of a build that was published. If that does not
// succeed now, it will be tried again.
func (s *server) discard(ctx context.Context, id int64) {
	build, err := s.catalog.Build(ctx, id)
	if err == nil {
		err = s.removeBuild(ctx, build)
	}
	if err != nil {
		s.log.WarnContext(ctx, "files of a published build remain", slog.Int64("build", id), slog.Any("error", err))
	}
}

func (s *server) purgeStale(ctx context.Context) error {
	stale, err := s.catalog.StaleBuilds(ctx, time.Now().Add(-s.cfg.BuildRetention))
	if err != nil {
		return err
	}
	for _, build := range stale {
		if _, purgeErr := s.purge(ctx, s.catalog, build.ID); purgeErr != nil && !errors.Is(purgeErr, catalog.ErrInUse) {
			err = errors.Join(err, purgeErr)
		}
	}
	return err
}

// sweepBuilds removes the files of builds that are published or purged, or that
// the catalog does not know.
func (s *server) sweepBuilds(ctx context.Context) error {
	entries, err := os.ReadDir(s.buildsDir())
	if err != nil {
		return err
	}
	for _, entry := range entries {
		id, parseErr := strconv.ParseInt(entry.Name(), 10, 64)
		if parseErr != nil {
			continue
		}
		if id < 0 {
			err = errors.Join(err, s.sweepBorrowed(ctx, -id))
			continue
		}
		build, buildErr := s.catalog.Build(ctx, id)
		switch {
		case errors.Is(buildErr, catalog.ErrNotFound):
			// Not ours to judge: the catalog may have been restored from a copy.
			s.log.WarnContext(ctx, "files of an unknown build", slog.Int64("build", id))
		case buildErr != nil:
			return buildErr
		case build.PublishedState == hubapi.Published, build.RepoState == hubapi.RepoPurged:
			if removeErr := s.removeBuild(ctx, build); removeErr != nil {
				err = errors.Join(err, fmt.Errorf("remove files of build %d: %w", id, removeErr))
			}
		}
	}
	return err
}

// sweepBorrowed removes the files that a republish job left behind.
func (s *server) sweepBorrowed(ctx context.Context, id int64) error {
	job, err := s.catalog.Job(ctx, id)
	if errors.Is(err, catalog.ErrNotFound) || err == nil && (job.Status == hubapi.JobEnded || job.Status == hubapi.JobBroken) {
		return os.RemoveAll(s.buildDir(borrowedID(id)))
	}
	return err
}
