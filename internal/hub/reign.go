package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"freshet/internal/hub/catalog"
	"freshet/internal/hub/repository"
	"freshet/internal/pause"
)

// reign is the time in which this hub publishes for those that share its directory.
type reign struct {
	*server
	fence  int64
	cancel context.CancelCauseFunc
	ended  chan struct{}
	failed atomic.Bool // it ended by itself
}

var errResigned = errors.New("another hub publishes")

// begin begins a reign that lasts until stop ends, or it is resigned.
func (s *server) begin(jobs, stop context.Context, fence int64) *reign {
	jobs, cancel := context.WithCancelCause(jobs)
	r := &reign{server: s, fence: fence, cancel: cancel, ended: make(chan struct{})}
	stop, end := context.WithCancel(stop)
	lost := context.AfterFunc(jobs, end)
	go func() {
		defer close(r.ended)
		defer cancel(nil)
		defer lost()
		defer end()
		r.run(jobs, stop)
	}()
	return r
}

// resign ends the reign at once, or waits for its end where the hub stops.
func (r *reign) resign() {
	if r.stopping.Err() == nil {
		r.cancel(errResigned)
	}
	<-r.ended
}

// over tells whether the reign has ended, or is to end because another hub does
// what it was for.
func (r *reign) over() bool {
	if r.failed.Load() {
		return true
	}
	for _, repo := range r.repos {
		if repo.Overtaken() {
			return true
		}
	}
	return false
}

func (r *reign) run(jobs, stop context.Context) {
	defer func() {
		for _, repo := range r.repos {
			repo.Resign()
		}
	}()
	for _, name := range slices.Sorted(maps.Keys(r.repos)) {
		if err := r.lead(stop, name); err != nil {
			if stop.Err() == nil {
				r.log.ErrorContext(stop, "cannot publish", slog.String("repo", name), slog.Any("error", err))
			}
			r.giveUp(stop)
			return
		}
	}
	if err := r.clearDeltas(); err != nil {
		r.log.ErrorContext(stop, "what was left of static deltas stays", slog.Any("error", err))
	}
	r.finishPurges(stop)
	r.fleet.leader.Store(&leader{name: r.catalog.Instance(), self: true})
	r.fleet.metrics.leads.Set(1)
	defer r.fleet.metrics.leads.Set(0)
	var group errgroup.Group
	group.Go(func() error { r.holdTrees(stop); return nil })
	r.startPublishing(jobs, stop, &group)
	_ = group.Wait() // its functions return no errors
	r.fleet.leader.Store(nil)
	r.resumeQueues()
}

// giveUp lets others try, or this hub once more.
func (r *reign) giveUp(ctx context.Context) {
	ctx, done := context.WithTimeout(context.WithoutCancel(ctx), beatTimeout)
	defer done()
	if err := r.catalog.DropLead(ctx, leadName, r.fence); err != nil {
		r.log.WarnContext(ctx, "cannot let other hubs publish", slog.Any("error", err))
	}
	r.failed.Store(true)
}

// lead takes one repository over, and records what its files say already.
func (r *reign) lead(ctx context.Context, name string) error {
	last, err := r.catalog.LastPublish(ctx, name)
	if err != nil {
		return err
	}
	pending, err := r.repos[name].Lead(ctx, r.fence, uint64(last), refCache{r.catalog})
	if err != nil {
		return err
	}
	return r.resumeAll(ctx, name, pending)
}

// resumeAll records the publishes that nobody recorded.
func (s *server) resumeAll(ctx context.Context, name string, pending []repository.Pending) error {
	for _, p := range pending {
		s.log.InfoContext(ctx, "recording what the repository's files say already", slog.String("repo", name), slog.Any("requests", p.Keys))
		if err := s.resume(ctx, name, p); err != nil {
			return fmt.Errorf("resume publish: %w", err)
		}
	}
	return nil
}

// finishPurges ends the purges that a hub began that is gone.
func (s *server) finishPurges(ctx context.Context) {
	recovery, err := s.catalog.Recover(ctx)
	if err != nil {
		s.log.WarnContext(ctx, "cannot look for purges that were interrupted", slog.Any("error", err))
	}
	s.purgeAll(ctx, recovery)
}

// holdTrees has the trees open while this hub leads. Another one that is stopped,
// and not dead, may still have them.
func (r *reign) holdTrees(stop context.Context) {
	var open closers
	for told := false; ; told = true {
		err := r.openTrees(stop, &open)
		if err == nil {
			break
		}
		if stop.Err() != nil {
			return
		}
		if !told {
			r.log.ErrorContext(stop, "trees have to wait", slog.Any("error", err))
		}
		_ = open.close() // what was opened before the error
		open = nil
		if !pause.For(stop, time.Second) {
			return
		}
	}
	r.fleet.treesOpen.Store(true)
	<-stop.Done()
	r.fleet.treesOpen.Store(false)
	if err := open.close(); err != nil {
		r.log.WarnContext(stop, "close trees", slog.Any("error", err))
	}
}

// toInfos is what a repository is told of refs that the catalog remembers.
func toInfos(refs []catalog.RefInfo) []repository.RefInfo {
	infos := make([]repository.RefInfo, len(refs))
	for i, ref := range refs {
		infos[i] = repository.RefInfo{Ref: ref.Ref, Commit: ref.Commit, Blob: ref.Info}
	}
	return infos
}
