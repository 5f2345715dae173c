package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"

	"freshet/api/hubapi"
	"freshet/internal/auth"
	"freshet/internal/hub/catalog"
	"freshet/internal/hub/hook"
)

// checkContents is what a check job is about; the names are flat-manager's.
type checkContents struct {
	Build int64  `json:"build"`
	Name  string `json:"name"`
}

// checksOf returns the checks that a build of a repository has to pass.
func (s *server) checksOf(build hubapi.Build) []catalog.NewCheck {
	names := slices.Sorted(maps.Keys(s.cfg.Repos[build.Repo].Hooks.Checks))
	checks := make([]catalog.NewCheck, len(names))
	for i, name := range names {
		checks[i] = catalog.NewCheck{Name: name, Contents: checkContents{build.ID, name}}
	}
	return checks
}

// runCheck runs the command of a check.
func (s *server) runCheck(ctx context.Context, job *catalog.Job) (err error) {
	ended := s.metrics.begin(job.Kind, job.Repo)
	log := s.logOf(job)
	defer s.alive(ctx, job)()
	defer func() {
		log.end(ctx)
		ended(s.statusOfJob(job, err))
	}()

	var contents checkContents
	if err := json.Unmarshal([]byte(job.Contents), &contents); err != nil {
		return fmt.Errorf("contents of job %d: %w", job.ID, err)
	}
	repo, exists := s.repos[job.Repo]
	if !exists {
		return fmt.Errorf("there is no repository %q any more", job.Repo)
	}
	check, exists := s.cfg.Repos[job.Repo].Hooks.Checks[contents.Name]
	if !exists {
		return fmt.Errorf("the repository has no check %q any more", contents.Name)
	}
	files, err := repo.Build(job.Build)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(log, "Running check %s\n", contents.Name)
	err = files.Inspect(ctx, func(dir string) error {
		command := s.command(job.Repo, check.Command, envNumber(envBuild, job.Build), envNumber(envJob, job.ID))
		command.Dir = dir
		command.Shown = append(command.Shown, dir)
		return command.Run(ctx, log)
	})
	verdict := hubapi.CheckVerdict{Status: hubapi.CheckPassed}
	exit, ran := errors.AsType[*hook.ExitError](err)
	switch {
	case err != nil && !ran:
		return err
	case ran && check.Reviewable:
		verdict = hubapi.CheckVerdict{Status: hubapi.CheckReviewRequired, Reason: exit.Error()}
	case ran:
		verdict = hubapi.CheckVerdict{Status: hubapi.CheckFailed, Reason: exit.Error()}
	}
	if ran {
		_, _ = fmt.Fprintf(log, "%v\n", exit)
	}
	log.end(ctx)
	ctx = context.WithoutCancel(ctx)
	return s.insist(ctx, job, func() error { return s.catalog.FinishCheck(ctx, job.Claim(), verdict) })
}

func (s *server) getCheckJob(w http.ResponseWriter, r *http.Request, _ *auth.Claims, build hubapi.Build) error {
	extended, err := s.catalog.ExtendedBuild(r.Context(), build.ID)
	if err != nil {
		return err
	}
	name := r.PathValue("name")
	for _, check := range extended.Checks {
		if check.CheckName == name {
			return s.showJob(w, r, check.JobID)
		}
	}
	return notFound(fmt.Sprintf("check of build %d:", build.ID), strconv.Quote(name))
}

// retryCheck runs a check once more.
func (s *server) retryCheck(w http.ResponseWriter, r *http.Request, claims *auth.Claims, build hubapi.Build) error {
	if err := readJSON(w, r, &struct{}{}, jsonBody); err != nil {
		return err
	}
	name := r.PathValue("name")
	job, err := s.by(claims).RetryCheck(r.Context(), build.ID, name)
	if err != nil {
		return err
	}
	return s.answerJob(w, r, hubapi.BuildPath(build.ID, "check", name, "job"), job.ID)
}

// reviewCheck sets the outcome of a check: for people, and for commands that know
// more than their exit status says.
func (s *server) reviewCheck(w http.ResponseWriter, r *http.Request, claims *auth.Claims) error {
	id, err := pathID(r, "id", "job")
	if err != nil {
		return err
	}
	check, err := s.catalog.CheckOfJob(r.Context(), id)
	if err != nil {
		return err
	}
	build, err := s.catalog.Build(r.Context(), check.BuildID)
	if err != nil {
		return err
	}
	if err := s.allowBuild(r.Context(), claims, build); err != nil {
		return err
	}
	var request hubapi.ReviewCheckRequest
	if err := readJSON(w, r, &request, jsonBody); err != nil {
		return err
	}
	if request.NewStatus == nil {
		return problem(hubapi.ErrGeneric, "new-status is missing")
	}
	if err := s.by(claims).ReviewCheck(r.Context(), id, *request.NewStatus, request.NewResults); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
