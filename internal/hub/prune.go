package hub

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"freshet/api/hubapi"
	"freshet/internal/auth"
	"freshet/internal/hub/catalog"
)

// prune queues the removal of what a repository does not need any more. As with
// flat-manager the token needs no sub and no repository, and the answer has no
// Location.
func (s *server) prune(w http.ResponseWriter, r *http.Request) error {
	claims, err := s.authenticate(r)
	if err != nil {
		return err
	}
	if !claims.Has(auth.ScopeTokenManagement) {
		return problem(hubapi.ErrInsufficient, "Not enough permissions: Not matching scope '%s' in token", auth.ScopeTokenManagement)
	}
	var request hubapi.PruneRequest
	if err := readJSON(w, r, &request, jsonBody); err != nil {
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
func (s *server) runPrune(context.Context, *catalog.Job) error { return errNoPrune }

// errNoPrune ends prune jobs for as long as the hub keeps everything.
var errNoPrune = errors.New("this hub keeps all that was published, and prunes nothing yet")
