package hub

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"freshet/api/hubapi"
	"freshet/internal/auth"
	"freshet/internal/hub/catalog"
	"freshet/internal/hub/upkeep"
	"freshet/internal/ostree"
)

// mayPrune checks that the claims let their bearer prune a repository, and see it
// done. As with flat-manager the token needs no sub and no repository; but one that
// names repositories is for those.
func mayPrune(claims *auth.Claims, repo string) error {
	if !claims.Has(auth.ScopeTokenManagement) {
		return problem(hubapi.ErrInsufficient, "Not enough permissions: Not matching scope '%s' in token", auth.ScopeTokenManagement)
	}
	if len(claims.Repos) == 0 {
		return nil
	}
	return tokenProblem(claims.AllowRepo(repo))
}

// prune queues the removal of what a repository does not need any more. As with
// flat-manager the answer has no Location.
func (s *server) prune(w http.ResponseWriter, r *http.Request) error {
	claims, err := s.authenticate(r)
	if err != nil {
		return err
	}
	var request hubapi.PruneRequest
	if err := readJSON(w, r, &request, jsonBody); err != nil {
		return err
	}
	if err := mayPrune(claims, request.Repo); err != nil {
		return err
	}
	if _, exists := s.repos[request.Repo]; !exists {
		return notFound("repository", strconv.Quote(request.Repo))
	}
	job, err := s.by(claims).EnqueueJob(r.Context(), catalog.NewJob{Kind: hubapi.JobPrune, Repo: request.Repo, Contents: request})
	if err != nil {
		return err
	}
	shown, err := s.jobFrom(r.Context(), job.ID, 0)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, shown)
	return nil
}

// runPrune does a prune job, beside the publishes of its repository.
func (s *server) runPrune(ctx context.Context, job *catalog.Job) (err error) {
	ended := s.metrics.begin(job.Kind, job.Repo)
	log := s.logOf(job)
	defer s.alive(ctx, job)()
	defer func() {
		log.end(context.WithoutCancel(ctx))
		ended(s.statusOfJob(job, err))
	}()
	repo, exists := s.repos[job.Repo]
	if !exists {
		return fmt.Errorf("there is no repository %q any more", job.Repo)
	}
	var request hubapi.PruneRequest
	if err := json.Unmarshal([]byte(job.Contents), &request); err != nil {
		return fmt.Errorf("contents of job %d: %w", job.ID, err)
	}
	cfg := s.cfg.Repos[job.Repo].Prune
	pruned, err := upkeep.Prune(ctx, s.repoDir(job.Repo), upkeep.PruneOptions{
		Rules: cfg.rules(), Grace: cfg.WithDefaults().Grace, Builds: s.buildsDir(),
		Keep: func() []ostree.Checksum { return s.deltas.Commits(job.Repo) }, Full: request.Full, DryRun: request.DryRun,
		Removed: repo.Forget, Log: log,
	})
	if err != nil {
		return err
	}
	log.end(ctx)
	ctx = context.WithoutCancel(ctx)
	return s.insist(ctx, job, func() error { return s.catalog.FinishJob(ctx, job.Claim(), pruned) })
}
