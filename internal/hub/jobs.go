package hub

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/auth"
	"freshet/internal/hub/catalog"
	"freshet/internal/hub/rights"
)

// What a job is about, as its contents; the names are flat-manager's.
type (
	commitContents struct {
		Build int64 `json:"build"`
		hubapi.CommitRequest
	}
	publishContents struct {
		Build int64 `json:"build"`
	}
)

// commitBuild ends the upload of a build and queues its commit.
func (s *server) commitBuild(w http.ResponseWriter, r *http.Request, claims *auth.Claims, build hubapi.Build) error {
	var request hubapi.CommitRequest
	if err := readJSON(w, r, &request, jsonBody); err != nil {
		return err
	}
	if id := deref(request.EndOfLifeRebase); id != "" {
		// Users of the old id are sent there.
		if err := claims.AllowID(id); err != nil {
			return tokenProblem(err)
		}
	}
	job, err := s.by(claims).StartCommit(r.Context(), build.ID, commitContents{build.ID, request})
	if err != nil {
		return err
	}
	return s.answerJob(w, r, hubapi.BuildPath(build.ID, "commit"), job.ID)
}

// publishBuild queues the publish of a build. One that failed may be asked for
// again.
func (s *server) publishBuild(w http.ResponseWriter, r *http.Request, claims *auth.Claims, build hubapi.Build) error {
	// Nothing in the body matters, but what it is has to be JSON.
	if err := readJSON(w, r, &struct{}{}, jsonBody); err != nil {
		return err
	}
	if _, exists := s.repos[build.Repo]; !exists {
		return notFound("repository", strconv.Quote(build.Repo))
	}
	first, err := s.deltasFirst(r.Context(), build)
	if err != nil {
		return err
	}
	job, err := s.by(claims).StartPublish(r.Context(), build.ID, publishContents{build.ID}, first...)
	if err != nil {
		return err
	}
	return s.answerJob(w, r, hubapi.BuildPath(build.ID, "publish"), job.ID)
}

func (s *server) answerJob(w http.ResponseWriter, r *http.Request, path string, id int64) error {
	job, err := s.jobFrom(r.Context(), id, 0)
	if err != nil {
		return err
	}
	s.answerAt(w, path, job)
	return nil
}

// jobFrom returns a job as clients see it, with its log from an offset on.
func (s *server) jobFrom(ctx context.Context, id, offset int64) (hubapi.Job, error) {
	job, err := s.catalog.JobWithLog(ctx, id, offset)
	switch {
	case err != nil:
	case job.Status == hubapi.JobStarted:
		if why, ok := s.unrecorded.Load(id); ok {
			job.WaitsFor, _ = why.(string)
		}
	case job.Status == hubapi.JobNew && job.Kind == hubapi.JobCommit:
		job.WaitsFor = s.commits.waiting()
	case job.Status == hubapi.JobNew && job.Kind == hubapi.JobPrune:
		job.WaitsFor = s.prunes.waiting()
	}
	if err == nil && job.Status == hubapi.JobNew && job.Repo != nil && catalog.Serial(job.Kind) {
		job.WaitsFor = s.waiting(*job.Repo)
		hold, err := s.catalog.HeldBy(ctx, id)
		if err != nil {
			return job, err
		}
		if earlier, err := s.catalog.WaitsFor(ctx, id); err != nil {
			return job, err
		} else if earlier != nil {
			job.WaitsFor = fmt.Sprintf("job %d (%s)", earlier.ID, earlier.Kind)
		}
		if hold != nil {
			job.WaitsFor = fmt.Sprintf("hold %d by %s: %s", hold.ID, hold.Actor, hold.Reason)
		}
	}
	return job, err
}

func (s *server) getCommitJob(w http.ResponseWriter, r *http.Request, _ *auth.Claims, build hubapi.Build) error {
	if build.CommitJobID == nil {
		return notFound("commit job of build", build.ID)
	}
	return s.showJob(w, r, *build.CommitJobID)
}

func (s *server) getPublishJob(w http.ResponseWriter, r *http.Request, _ *auth.Claims, build hubapi.Build) error {
	if build.PublishJobID == nil {
		return notFound("publish job of build", build.ID)
	}
	return s.showJob(w, r, *build.PublishJobID)
}

// getJob shows a job to those who may see jobs, and a prune to those who may ask
// for one, too.
func (s *server) getJob(w http.ResponseWriter, r *http.Request) error {
	claims, err := s.authenticate(r)
	if err != nil {
		return err
	}
	denied := allow(claims, "build", []auth.Scope{auth.ScopeJobs})
	if denied != nil && !claims.Has(auth.ScopeTokenManagement) {
		return denied
	}
	id, err := pathID(r, "id", "job")
	if err != nil {
		return err
	}
	job, err := s.catalog.Job(r.Context(), id)
	if err != nil {
		return err
	}
	if job.Kind != hubapi.JobPrune || mayPrune(claims, job.Repo) != nil {
		if err := cmp.Or(denied, s.allowJob(r.Context(), claims, job)); err != nil {
			return err
		}
	}
	return s.showJob(w, r, id)
}

// allowJob checks that the claims let their bearer see a job: one of a build as the
// build, any other as [rights.Job] says.
func (s *server) allowJob(ctx context.Context, claims *auth.Claims, job *catalog.Job) error {
	if job.Build == 0 {
		return tokenProblem(rights.Job(claims, job))
	}
	build, err := s.catalog.Build(ctx, job.Build)
	if err != nil {
		return err
	}
	return s.allowBuild(ctx, claims, build)
}

// showJob answers with a job, its log from the offset on that the body asks
// for, if there is one. When the client wants to wait, that is when there is
// something of the log, or the job has ended.
func (s *server) showJob(w http.ResponseWriter, r *http.Request, id int64) error {
	var request hubapi.JobRequest
	if err := readJSON(w, r, &request, jsonBody); err != nil {
		return err
	}
	wait, err := jobWait(request)
	if err != nil {
		return err
	}
	var job hubapi.Job
	if err := s.longPoll(w, r, wait, s.catalog.JobsChanged, func(ctx context.Context) (done bool, err error) {
		job, err = s.jobFrom(ctx, id, request.LogOffset)
		return job.Log != "" || job.Status == hubapi.JobEnded || job.Status == hubapi.JobBroken, err
	}); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, job)
	return nil
}

// jobWait is how long a client wants to wait.
func jobWait(request hubapi.JobRequest) (time.Duration, error) {
	if request.Wait == "" {
		return 0, nil
	}
	wait, err := time.ParseDuration(request.Wait)
	if err != nil || wait < 0 {
		return 0, problem(hubapi.ErrGeneric, "wait: %.40q makes no sense", request.Wait)
	}
	return min(wait, maxWait), nil
}

// purgeBuild deletes the files of a build.
func (s *server) purgeBuild(w http.ResponseWriter, r *http.Request, claims *auth.Claims, build hubapi.Build) error {
	if err := readJSON(w, r, &struct{}{}, jsonBody); err != nil {
		return err
	}
	purged, err := s.purge(r.Context(), s.by(claims), build.ID)
	if err != nil {
		return err
	}
	s.answerAt(w, hubapi.BuildPath(build.ID), purged)
	return nil
}

// commitsOf returns the commits that the commit job of a build made, by ref.
func commitsOf(commit *catalog.Job) (map[string]string, error) {
	if commit.Status != hubapi.JobEnded {
		return nil, errors.New("the build is not committed")
	}
	var results hubapi.CommitResults
	if err := json.Unmarshal([]byte(commit.Results), &results); err != nil {
		return nil, fmt.Errorf("results of job %d: %w", commit.ID, err)
	}
	return results.Refs, nil
}
