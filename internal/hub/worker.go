package hub

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/hub/catalog"
	"freshet/internal/hub/repository"
)

const (
	// idlePoll is how often a worker looks for a job without having been told.
	idlePoll = 10 * time.Second
	// heartbeat is how often a worker shows that it lives.
	heartbeat = catalog.Lease / 4
	// maxMerged bounds the publishes that are merged into one.
	maxMerged = 64
	// recordPause is the time between attempts to record a publish.
	recordPause = time.Second
)

// work does the jobs of the filter, one after the other, until stop ends. The
// job under way then goes on as long as ctx allows.
func (s *server) work(ctx, stop context.Context, filter catalog.JobFilter, run func(context.Context, *catalog.Job) error) {
	for stop.Err() == nil {
		changed := s.catalog.JobsChanged()
		job, err := s.catalog.NextJob(stop, filter)
		if err == nil && job != nil {
			s.guard(ctx, job, run)
			continue
		}
		if err != nil && stop.Err() == nil {
			s.log.ErrorContext(ctx, "cannot look for jobs", slog.Any("error", err))
			changed = nil // not again at once
		}
		timer := time.NewTimer(idlePoll)
		select {
		case <-stop.Done():
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
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

// settle ends a job that did not go well: it is given back when the hub stops,
// dropped when it is somebody else's by now, and broken otherwise.
func (s *server) settle(ctx context.Context, job *catalog.Job, cause error) {
	stopped := ctx.Err() != nil
	ctx = context.WithoutCancel(ctx)
	attrs := []any{slog.Int64("job", job.ID), slog.String("kind", job.Kind.String()), slog.Int64("build", job.Build), slog.Any("error", cause)}
	var err error
	switch {
	case errors.Is(cause, catalog.ErrClaimLost):
		s.log.WarnContext(ctx, "job lost to somebody else", attrs...)
		return
	case stopped:
		s.log.InfoContext(ctx, "job interrupted; it goes on at the next start", attrs...)
		err = s.catalog.ReleaseJob(ctx, job.Claim(), time.Time{})
	default:
		s.log.WarnContext(ctx, "job broken", attrs...)
		_ = s.catalog.AppendLog(ctx, job.ID, "Failed: "+reason(cause)+"\n") // the results have it too
		err = s.catalog.FailJob(ctx, job.Claim(), reason(cause))
	}
	if err != nil && !errors.Is(err, catalog.ErrClaimLost) {
		// It stays started, and is taken up at the next start.
		s.log.ErrorContext(ctx, "cannot end job", slog.Int64("job", job.ID), slog.Any("error", err))
	}
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
	l := &jobLog{write: s.catalog.AppendLog, log: s.log}
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
		ended(statusOfJob(err))
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
	return s.catalog.FinishCommit(context.WithoutCancel(ctx), job.Claim(), commits)
}

// runPublish publishes a build, and with it those that wait for the same
// repository.
func (s *server) runPublish(ctx context.Context, first *catalog.Job) error {
	more, err := s.catalog.ClaimAlike(ctx, first, maxMerged-1)
	if err != nil {
		return err
	}
	jobs := append([]*catalog.Job{first}, more...)
	p := publish{server: s, repo: first.Repo, jobs: make(map[string]*catalog.Job, len(jobs)), log: s.logOf(jobs...)}
	ended := make(map[int64]func(hubapi.JobStatus), len(jobs))
	for _, job := range jobs {
		p.jobs[publishKey(job.ID)] = job
		ended[job.ID] = s.metrics.begin(job.Kind, job.Repo)
	}
	defer s.alive(ctx, jobs...)()
	defer p.log.end(ctx)

	failed := p.run(ctx, jobs)
	for _, job := range jobs {
		if cause := failed[job.ID]; cause != nil {
			s.settle(ctx, job, cause)
		}
		ended[job.ID](statusOfJob(failed[job.ID]))
	}
	return nil
}

// publish is one publish of one or several builds.
type publish struct {
	*server
	repo string
	jobs map[string]*catalog.Job // by publishKey
	log  *jobLog
	// starting is set while the hub starts: an error then ends it.
	starting bool
}

// run returns what came in the way of each job that was not published.
func (p *publish) run(ctx context.Context, jobs []*catalog.Job) (failed map[int64]error) {
	failed = make(map[int64]error)
	defer func() {
		if cause := recover(); cause != nil {
			p.server.log.ErrorContext(ctx, "publish panicked", slog.String("repo", p.repo), slog.Any("panic", cause), slog.String("stack", string(debug.Stack())))
			for _, job := range jobs {
				failed[job.ID] = fmt.Errorf("internal error: %v", cause)
			}
		}
	}()
	begin := time.Now()
	repo, exists := p.repos[p.repo]
	var requests []repository.PublishRequest
	for _, job := range jobs {
		request, err := p.request(ctx, repo, job)
		if !exists {
			err = fmt.Errorf("there is no repository %q any more", p.repo)
		}
		if err != nil {
			failed[job.ID] = err
			continue
		}
		requests = append(requests, request)
	}
	if len(requests) == 0 {
		return failed
	}
	if len(requests) > 1 {
		_, _ = fmt.Fprintf(p.log, "Publishing %d builds together\n", len(requests))
	}
	result, err := repo.Publish(ctx, requests, p.log, func(result repository.Result) error {
		for key, cause := range result.Failed {
			_, _ = fmt.Fprintf(p.log, "%s: %v\n", key, cause)
		}
		p.log.end(ctx)
		return p.record(context.WithoutCancel(ctx), result, true)
	})
	for key, job := range p.jobs {
		switch cause := result.Failed[key]; {
		case failed[job.ID] != nil:
		case cause != nil:
			failed[job.ID] = cause
		case err != nil:
			failed[job.ID] = err
		}
	}
	if err == nil {
		p.metrics.publish.WithLabelValues(p.repo).Observe(time.Since(begin).Seconds())
		for _, request := range requests {
			if job := p.jobs[request.Key]; failed[job.ID] == nil {
				p.discard(ctx, job.Build)
			}
		}
	}
	return failed
}

// request is what the repository is asked for a job.
func (p *publish) request(ctx context.Context, repo *repository.Repository, job *catalog.Job) (repository.PublishRequest, error) {
	request := repository.PublishRequest{Key: publishKey(job.ID)}
	build, err := p.catalog.Build(ctx, job.Build)
	if err != nil {
		return request, err
	}
	if build.CommitJobID == nil || repo == nil {
		return request, errors.New("the build is not committed")
	}
	commit, err := p.catalog.Job(ctx, *build.CommitJobID)
	if err != nil {
		return request, err
	}
	if request.Refs, err = commitsOf(commit); err != nil {
		return request, err
	}
	if collection := p.cfg.Repos[p.repo].CollectionID; collection != "" {
		for _, id := range build.ExtraIDs {
			request.ExtraCollections = append(request.ExtraCollections, collection+"."+id)
		}
	}
	request.Build, err = repo.Build(build.ID)
	return request, err
}

// record writes down what a publish did. The files are changed already, so it
// does not give up before the hub stops: until it is through, nobody is told,
// and the next start begins with it. claimed says that the jobs are those of
// this run.
func (p *publish) record(ctx context.Context, result repository.Result, claimed bool) error {
	jobs := p.jobs
	for {
		err := p.recordOnce(ctx, result, jobs, claimed)
		if err == nil {
			return nil
		}
		if errors.Is(err, catalog.ErrClaimLost) || errors.Is(err, catalog.ErrNotFound) {
			// The files are published, whoever has the jobs by now.
			p.server.log.WarnContext(ctx, "published for a job that is lost", slog.String("repo", p.repo), slog.Any("error", err))
			if remaining := p.unfinished(ctx, jobs); claimed || len(remaining) < len(jobs) {
				jobs, claimed = remaining, false
				continue
			}
		}
		if p.starting {
			return err
		}
		p.server.log.ErrorContext(ctx, "cannot record a publish", slog.String("repo", p.repo), slog.Any("error", err))
		timer := time.NewTimer(recordPause)
		select {
		case <-timer.C:
		case <-p.stopping.Done():
			timer.Stop()
			return err
		}
	}
}

// unfinished returns those of the jobs that can still be ended.
func (p *publish) unfinished(ctx context.Context, jobs map[string]*catalog.Job) map[string]*catalog.Job {
	remaining := make(map[string]*catalog.Job)
	for key, job := range jobs {
		now, err := p.catalog.Job(ctx, job.ID)
		if err == nil && now.Status != hubapi.JobEnded || err != nil && !errors.Is(err, catalog.ErrNotFound) {
			remaining[key] = job
		}
	}
	return remaining
}

func (p *publish) recordOnce(ctx context.Context, result repository.Result, jobs map[string]*catalog.Job, claimed bool) error {
	key := strings.Join(result.Keys, "+")
	if key == "" {
		// Nobody asked: the repository was brought up to date when it was
		// opened. To tell of that twice after a crash does no harm.
		key = rand.Text()
	}
	done := catalog.Publish{
		Key:  p.repo + ":" + key,
		Repo: p.repo, Base: hubapi.RepoPath(p.repo),
		Removed: result.Removed, Changed: result.Changed,
		Infos: make([]catalog.RefInfo, len(result.Infos)),
		Refs:  make(map[string]string),
	}
	for i, info := range result.Infos {
		done.Infos[i] = catalog.RefInfo{Ref: info.Ref, Commit: info.Commit, Info: info.Blob}
	}
	for _, key := range result.Keys {
		job := jobs[key]
		if job == nil {
			maps.Copy(done.Refs, result.Refs[key])
			continue
		}
		claim := job.Claim()
		if !claimed {
			claim.Attempt = 0
		}
		done.Jobs = append(done.Jobs, catalog.PublishedJob{Claim: claim, Refs: result.Refs[key]})
	}
	event, err := p.catalog.FinishPublish(ctx, done)
	if err != nil {
		return err
	}
	if event.Serial > 0 {
		p.metrics.eventHead.Set(float64(event.Serial))
	}
	p.server.log.InfoContext(ctx, "published", slog.String("repo", p.repo), slog.Int("builds", len(done.Jobs)),
		slog.Int64("serial", event.Serial), slog.Int("objects", result.Stats.NewObjects), slog.Int64("bytes", result.Stats.Bytes))
	return nil
}

// resume records a publish that an earlier run of the hub did not get to
// record.
func (s *server) resume(ctx context.Context, repo string, pending repository.Pending) error {
	p := publish{server: s, repo: repo, jobs: make(map[string]*catalog.Job), log: s.logOf(), starting: true}
	for _, key := range pending.Keys {
		id, err := strconv.ParseInt(strings.TrimPrefix(key, publishKeyPrefix), 10, 64)
		if err != nil {
			continue
		}
		job, err := s.catalog.Job(ctx, id)
		switch {
		case err == nil:
			p.jobs[key] = job
		case !errors.Is(err, catalog.ErrNotFound):
			return err
		}
	}
	if err := p.record(ctx, pending.Result, false); err != nil {
		return err
	}
	return pending.Confirm()
}

// publishKeyPrefix stands before the job's number in the keys of publish
// requests.
const publishKeyPrefix = "job-"

func publishKey(job int64) string { return publishKeyPrefix + strconv.FormatInt(job, 10) }

func statusOfJob(err error) hubapi.JobStatus {
	if err != nil {
		return hubapi.JobBroken
	}
	return hubapi.JobEnded
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
