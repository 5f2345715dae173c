package hub

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/hub/catalog"
	"freshet/internal/pause"
)

// pruneLook is how long at least until it is looked again whether a prune is due.
const pruneLook = time.Minute

// pruneEvery queues a prune of a repository whenever the last one was queued that
// long ago, until stop ends. The jobs are the memory of it: neither a restart nor
// another hub makes one more.
func (s *server) pruneEvery(stop context.Context, repo string, every time.Duration) {
	for {
		wait, err := s.nextPrune(stop, repo, every)
		if err == nil && wait <= 0 {
			_, err = s.catalog.EnqueueJob(stop, catalog.NewJob{
				Kind: hubapi.JobPrune, Repo: repo, Contents: hubapi.PruneRequest{Repo: repo}, Detail: "every " + every.String(),
			})
		}
		if err != nil && stop.Err() == nil {
			s.log.WarnContext(stop, "cannot queue a prune", slog.String("repo", repo), slog.Any("error", err))
		}
		if !pause.For(stop, max(wait, pruneLook)) {
			return
		}
	}
}

// nextPrune is how long it is until a prune of a repository is due.
func (s *server) nextPrune(ctx context.Context, repo string, every time.Duration) (time.Duration, error) {
	listing := catalog.JobListing{Kinds: []hubapi.JobKind{hubapi.JobPrune}, Repo: repo}
	for before := int64(0); ; {
		jobs, next, err := s.catalog.JobPage(ctx, listing, before, 10)
		if err != nil {
			return 0, err
		}
		for _, job := range jobs {
			if !isDryRun(job) {
				return pruneDue(job, time.Now(), every), nil
			}
		}
		if before = next; before == 0 {
			return 0, nil
		}
	}
}

// pruneDue is how long after now a prune is due, of which job was the last. One
// that has not ended is waited for. A job of the future is one of a clock that was
// set back.
func pruneDue(job *catalog.Job, now time.Time, every time.Duration) time.Duration {
	due := max(0, min(every, job.Created.Add(every).Sub(now)))
	if job.Ended.IsZero() {
		due = max(due, pruneLook)
	}
	return due
}

// isDryRun tells whether a prune job removes nothing.
func isDryRun(job *catalog.Job) bool {
	var request hubapi.PruneRequest
	return json.Unmarshal([]byte(job.Contents), &request) == nil && request.DryRun
}
