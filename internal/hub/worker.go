package hub

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/hub/catalog"
	"freshet/internal/hub/repository"
	"freshet/internal/pause"
)

const (
	// idlePoll is how often a worker looks for a job without having been told.
	idlePoll = 10 * time.Second
	// heartbeat is how often a worker shows that it lives.
	heartbeat = catalog.Lease / 4
)

// work does the jobs of the filter, one after the other, until stop ends, and
// begins none while their queue waits. The job under way then goes on as long
// as ctx allows.
func (s *server) work(ctx, stop context.Context, filter catalog.JobFilter, q *queue, run func(context.Context, *catalog.Job) error) {
	for stop.Err() == nil {
		changed, poll := s.catalog.JobsChanged(), idlePoll
		if q.gate(stop) != nil {
			changed, poll = nil, gatePoll
		} else if job, err := s.catalog.NextJob(stop, filter); err == nil && job != nil {
			s.guard(ctx, job, run)
			continue
		} else if err != nil && stop.Err() == nil {
			s.log.ErrorContext(ctx, "cannot look for jobs", slog.Any("error", err))
			q.hold(cmp.Or(waitReason(err), waitsForDatabase), err)
			changed, poll = nil, gatePoll
		} else {
			q.resume()
		}
		pause.Until(stop, changed, poll)
	}
}

// runSerial does a job of a repository's queue.
func (s *server) runSerial(ctx context.Context, job *catalog.Job) error {
	switch job.Kind {
	case hubapi.JobPublish, hubapi.JobRepublish, hubapi.JobRollback, hubapi.JobUnpublish:
		return s.runPublish(ctx, job)
	case hubapi.JobCommit, hubapi.JobUpdateRepo, hubapi.JobCheck, hubapi.JobPrune, hubapi.JobDeltas, hubapi.JobBuildDeltas:
	}
	return fmt.Errorf("this hub does no %s jobs", job.Kind)
}

// guard runs a job so that neither an error nor a panic takes the worker down.
func (s *server) guard(ctx context.Context, job *catalog.Job, run func(context.Context, *catalog.Job) error) {
	defer func() {
		if p := recover(); p != nil {
			s.log.ErrorContext(ctx, "job panicked", slog.Int64("job", job.ID), slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			s.settle(ctx, job, fmt.Errorf("internal error: %v", p))
		}
	}()
	if err := run(ctx, job); err != nil {
		s.settle(ctx, job, err)
	}
}

// settle ends a job that did not go well: it is given back when the hub stops
// or something is missing that will be there again, dropped when it is somebody
// else's by now, and broken otherwise. A job of a repository's queue keeps its
// place there, and the queue waits.
func (s *server) settle(ctx context.Context, job *catalog.Job, cause error) {
	stopped := ctx.Err() != nil
	ctx = context.WithoutCancel(ctx)
	attrs := []any{slog.Int64("job", job.ID), slog.String("kind", job.Kind.String()), slog.Int64("build", job.Build), slog.Any("error", cause)}
	switch {
	case errors.Is(cause, catalog.ErrClaimLost):
		s.log.WarnContext(ctx, "job lost to somebody else", attrs...)
	case stopped:
		s.log.InfoContext(ctx, "job interrupted; it goes on at the next start", attrs...)
		s.conclude(ctx, job, "", func() error { return s.catalog.ReleaseJob(ctx, job.Claim(), time.Time{}) })
	case errors.Is(cause, repository.ErrNotLeading):
		s.log.WarnContext(ctx, "another hub publishes; the job is left to it", attrs...)
		s.conclude(ctx, job, "", func() error { return s.catalog.ReleaseJob(ctx, job.Claim(), time.Time{}) })
	case waitReason(cause) != "" && s.queueOf(job, cause) != nil:
		s.log.WarnContext(ctx, "queue waits", append(attrs, slog.String("repo", job.Repo))...)
		line := ""
		if news := s.queueOf(job, cause).hold(waitReason(cause), cause); news || job.Attempt == 1 {
			line = fmt.Sprintf("Waiting for %s: %s\n", waitReason(cause), reason(cause))
		}
		s.conclude(ctx, job, line, func() error { return s.catalog.ReleaseJob(ctx, job.Claim(), time.Time{}) })
	case retriesForSpace(job, cause):
		pause := spacePause(job.Attempt)
		s.log.WarnContext(ctx, "disk full; job will be tried again", append(attrs, slog.Duration("after", pause))...)
		line := fmt.Sprintf("The hub's disk is full; trying again in %v: %s\n", pause, reason(cause))
		s.conclude(ctx, job, line, func() error { return s.catalog.ReleaseJob(ctx, job.Claim(), time.Now().Add(pause)) })
	default:
		s.log.WarnContext(ctx, "job broken", attrs...)
		s.conclude(ctx, job, "Failed: "+reason(cause)+"\n", func() error { return s.catalog.FailJob(ctx, job.Claim(), reason(cause)) })
	}
}

// conclude appends the last line to a job's log, if there is one, and ends it,
// both as [server.insist] does.
func (s *server) conclude(ctx context.Context, job *catalog.Job, line string, end func() error) {
	if line != "" {
		// Without the log it would work too: the results have the reason.
		_ = s.insist(ctx, job, func() error { return s.catalog.AppendLog(ctx, job.ID, line) })
	}
	err := s.insist(ctx, job, end)
	if err != nil && !errors.Is(err, catalog.ErrClaimLost) {
		// It stays started, and is taken up at the next start.
		s.log.ErrorContext(ctx, "cannot end job", slog.Int64("job", job.ID), slog.Any("error", err))
	}
}

// insist repeats a write about a job until it succeeds, because a job that is
// not ended holds up all that wait for it. It gives up when no repetition can
// help, and when the hub stops: the next start takes up what is left.
func (s *server) insist(ctx context.Context, job *catalog.Job, write func() error) error {
	defer s.unrecorded.Delete(job.ID)
	for {
		err := write()
		if _, wrong := errors.AsType[*catalog.WrongStateError](err); err == nil || wrong ||
			errors.Is(err, catalog.ErrClaimLost) || errors.Is(err, catalog.ErrNotFound) {
			return err
		}
		s.log.ErrorContext(ctx, "cannot record what became of a job; trying again", slog.Int64("job", job.ID), slog.Any("error", err))
		s.unrecorded.Store(job.ID, cmp.Or(waitReason(err), waitsForDatabase)+": "+reason(err))
		if !s.pause(recordPause) {
			return err
		}
	}
}

// pause waits, and reports whether the hub goes on.
func (s *server) pause(d time.Duration) bool { return pause.For(s.stopping, d) }

const (
	// maxSpaceAttempts bounds how often a commit is begun while the disk is
	// full: for about an hour. It can be asked for again.
	maxSpaceAttempts = 18
	// minSpacePause is the time between the first two of these attempts; it
	// doubles each time up to maxSpacePause.
	minSpacePause = 10 * time.Second
	maxSpacePause = 5 * time.Minute
)

// queueOf returns the queue that waits because of what came in the way of a job;
// nil for jobs that may overtake one another, which try again alone. But where
// no commit can be signed, no other is begun.
func (s *server) queueOf(job *catalog.Job, cause error) *queue {
	switch {
	case catalog.Serial(job.Kind):
		return s.queues[job.Repo]
	case job.Kind == hubapi.JobCommit && waitReason(cause) == waitsForKey:
		return s.commits
	}
	return nil
}

// retriesForSpace reports whether a job is to be tried again alone when there
// may be room: one that disturbs nobody while it waits.
func retriesForSpace(job *catalog.Job, cause error) bool {
	switch job.Kind {
	case hubapi.JobCommit:
		return job.Attempt < maxSpaceAttempts && noSpace(cause)
	case hubapi.JobPrune, hubapi.JobDeltas:
		return noSpace(cause) // nobody would ask again
	default:
		return false
	}
}

// spacePause is the time before the attempt that follows the given one.
func spacePause(attempt int64) time.Duration {
	pause := minSpacePause
	for ; attempt > 1 && pause < maxSpacePause; attempt-- {
		pause *= 2
	}
	return min(pause, maxSpacePause)
}

// reason is the text by which people are told why a job failed.
func reason(err error) string {
	const most = 4000
	text := err.Error()
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

// alive keeps the claims on the jobs while work goes on, until done is called.
func (s *server) alive(ctx context.Context, jobs ...*catalog.Job) (done func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(heartbeat)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			for _, job := range jobs {
				if err := s.catalog.Extend(ctx, job.Claim()); err != nil && ctx.Err() == nil {
					s.log.WarnContext(ctx, "cannot extend claim on job", slog.Int64("job", job.ID), slog.Any("error", err))
				}
			}
		}
	}()
	return func() { cancel(); <-ended }
}

// logOf is the log of jobs that are done together.
func (s *server) logOf(jobs ...*catalog.Job) *jobLog {
	l := &jobLog{catalog: s.catalog, log: s.log}
	for _, job := range jobs {
		l.jobs = append(l.jobs, job.ID)
		if job.Attempt > 1 {
			_, _ = fmt.Fprintf(l, "Attempt %d\n", job.Attempt)
		}
	}
	return l
}

// runCommit commits a build.
func (s *server) runCommit(ctx context.Context, job *catalog.Job) (err error) {
	ended := s.metrics.begin(job.Kind, job.Repo)
	log := s.logOf(job)
	defer s.alive(ctx, job)()
	defer func() {
		log.end(ctx)
		ended(s.statusOfJob(job, err))
	}()

	build, err := s.catalog.Build(ctx, job.Build)
	if err != nil {
		return err
	}
	refs, err := s.catalog.BuildRefs(ctx, job.Build)
	if err != nil {
		return err
	}
	if len(refs) == 0 {
		return errors.New("the build has no refs")
	}
	var contents commitContents
	if err := json.Unmarshal([]byte(job.Contents), &contents); err != nil {
		return fmt.Errorf("contents of job %d: %w", job.ID, err)
	}
	repo, exists := s.repos[build.Repo]
	if !exists {
		return fmt.Errorf("there is no repository %q any more", build.Repo)
	}
	files, err := repo.Build(build.ID)
	if err != nil {
		return err
	}
	request := repository.CommitRequest{
		Refs:            make(map[string]string, len(refs)),
		EndOfLife:       deref(contents.EndOfLife),
		EndOfLifeRebase: deref(contents.EndOfLifeRebase),
		AppID:           deref(build.AppID),
		TokenType:       contents.TokenType,
	}
	for _, ref := range refs {
		request.Refs[ref.RefName] = ref.Commit
	}
	commits, err := files.Commit(ctx, request, log)
	if err != nil {
		return err
	}
	log.end(ctx) // whoever sees the end sees the whole log
	ctx = context.WithoutCancel(ctx)
	return s.insist(ctx, job, func() error { return s.catalog.FinishCommit(ctx, job.Claim(), commits, s.checksOf(build)...) })
}

// statusOfJob is what becomes of a job; [hubapi.JobNew] where it goes back to its
// queue.
func (s *server) statusOfJob(job *catalog.Job, err error) hubapi.JobStatus {
	switch {
	case err == nil:
		return hubapi.JobEnded
	case waitReason(err) != "" && s.queueOf(job, err) != nil, errors.Is(err, repository.ErrNotLeading), retriesForSpace(job, err):
		return hubapi.JobNew
	}
	return hubapi.JobBroken
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
