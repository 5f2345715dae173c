package hub

import (
	"context"
	"crypto/rand"
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
	// maxMerged bounds the publishes that are merged into one.
	maxMerged = 64
	// recordPause is the time between attempts to record what became of a job.
	recordPause = time.Second
)

// runPublish publishes a build, and with it those that wait for the same
// repository, or what an application has published already.
func (s *server) runPublish(ctx context.Context, first *catalog.Job) error {
	jobs := []*catalog.Job{first}
	if first.Kind != hubapi.JobRepublish { // of two, the later would not see the earlier
		more, err := s.catalog.ClaimAlike(ctx, first, maxMerged-1)
		if err != nil {
			return err
		}
		jobs = append(jobs, more...)
	}
	p := publish{server: s, repo: first.Repo, jobs: make(map[string]*catalog.Job, len(jobs)), log: s.logOf(jobs...)}
	ended := make(map[int64]func(hubapi.JobStatus), len(jobs))
	for _, job := range jobs {
		p.jobs[publishKey(job.ID)] = job
		ended[job.ID] = s.metrics.begin(job.Kind, job.Repo)
	}
	defer s.alive(ctx, jobs...)()
	defer p.log.end(ctx)

	failed := p.run(ctx, jobs)
	p.log.end(ctx) // whoever sees a failure sees what came before it
	if len(failed) < len(jobs) {
		s.queues[first.Repo].resume()
	}
	for _, job := range jobs {
		if cause := failed[job.ID]; cause != nil {
			s.settle(ctx, job, cause)
		}
		ended[job.ID](s.statusOfJob(job, failed[job.ID]))
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
		if request.Build != nil && job.Build == 0 {
			defer p.giveBack(ctx, request.Build)
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
		_, _ = fmt.Fprintf(p.log, "Doing %d %s jobs together\n", len(requests), jobs[0].Kind)
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
		p.tellers[p.repo].published()
		p.makers[p.repo].wantDeltas(context.WithoutCancel(ctx))
		p.metrics.publish.WithLabelValues(p.repo).Observe(time.Since(begin).Seconds())
		for _, request := range requests {
			if job := p.jobs[request.Key]; failed[job.ID] == nil && job.Build != 0 {
				p.discard(ctx, job.Build)
			}
		}
	}
	return failed
}

// request is what the repository is asked for a job.
func (p *publish) request(ctx context.Context, repo *repository.Repository, job *catalog.Job) (repository.PublishRequest, error) {
	if repo != nil && job.Kind == hubapi.JobRepublish {
		return p.republishRequest(ctx, repo, job)
	}
	request := repository.PublishRequest{Key: publishKey(job.ID)}
	if job.Kind == hubapi.JobRollback || job.Kind == hubapi.JobUnpublish {
		err := moveRequest(job, &request)
		return request, err
	}
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
	request.AppID = deref(build.AppID)
	if request.Build, err = repo.Build(build.ID); err != nil {
		return request, err
	}
	edited, err := p.runHook(ctx, request.Build, job, envRepublish+"=false", envNumber(envBuild, build.ID))
	if edited != nil {
		request.Refs = edited
	}
	return request, err
}

// giveBack removes a build that was made for a job.
func (p *publish) giveBack(ctx context.Context, build *repository.Build) {
	if err := build.Remove(context.WithoutCancel(ctx)); err != nil {
		p.server.log.WarnContext(ctx, "files of a republish remain", slog.String("repo", p.repo), slog.Any("error", err))
	}
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
		if !p.pause(recordPause) {
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
		Number: int64(result.Serial), Before: result.Before,
		Infos: make([]catalog.RefInfo, len(result.Infos)),
		Refs:  make(map[string]string),
	}
	for i, info := range result.Infos {
		done.Infos[i] = catalog.RefInfo{Ref: info.Ref, Commit: info.Commit, Info: info.Blob}
	}
	for _, d := range result.Deltas {
		done.Deltas = append(done.Deltas, catalog.CarriedDelta{Source: d.Source, MadeDelta: hubapi.MadeDelta{
			Ref: d.Ref, From: d.From, To: d.To, Size: d.Size, Instead: d.Instead, Parts: d.Parts, Singly: d.Singly,
		}})
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
	if result.Summary > 0 {
		p.metrics.summary.WithLabelValues(p.repo).Set(float64(result.Summary))
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
