package hub

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"freshet/api/hubapi"
	"freshet/internal/auth"
	"freshet/internal/flatpak"
	"freshet/internal/hub/catalog"
	"freshet/internal/hub/repository"
)

// republishContents says what a republish job does: with those refs of the
// application that were published when it was asked for, then at these commits. What
// they point at when its turn comes is published anew. Refs that are gone by then are
// left out, and those that came since are not touched: nobody has looked whether the
// token grants them.
type republishContents struct {
	hubapi.RepublishRequest
	Refs map[string]string `json:"refs"` // absent in jobs of older hubs: all there are
}

// republish queues a new publish of what an application has published already.
func (s *server) republish(w http.ResponseWriter, r *http.Request, claims *auth.Claims, repo string) error {
	var request hubapi.RepublishRequest
	if err := readJSON(w, r, &request, jsonBody); err != nil {
		return err
	}
	if err := claims.AllowID(request.App); err != nil {
		return tokenProblem(err)
	}
	if err := flatpak.CheckID(request.App); err != nil {
		return problem(hubapi.ErrGeneric, "app: %s", err)
	}
	if id := deref(request.EndOfLifeRebase); id != "" {
		if err := claims.AllowID(id); err != nil {
			return tokenProblem(err)
		}
	}
	refs, err := s.repos[repo].AppRefs(request.App)
	if err != nil {
		return err
	}
	for _, ref := range refs {
		if err := allowBranch(claims, ref); err != nil {
			return err
		}
	}
	if err := s.mayMove(r, claims, repo, refs); err != nil {
		return err
	}
	job, err := s.by(claims).EnqueueJob(r.Context(), catalog.NewJob{Kind: hubapi.JobRepublish, Repo: repo, Contents: s.republishOf(repo, request, refs)})
	if err != nil {
		return err
	}
	return s.answerJob(w, r, hubapi.JobPath(job.ID), job.ID)
}

// republishOf is what a job is to do that is asked for now.
func (s *server) republishOf(repo string, request hubapi.RepublishRequest, refs []string) republishContents {
	contents := republishContents{request, make(map[string]string, len(refs))}
	published := s.repos[repo].Snapshot()
	for _, ref := range refs {
		info, _ := published.Get(ref)
		contents.Refs[ref] = hexOf(info.Checksum)
	}
	return contents
}

// republishRequest is what the repository is asked for a republish job. A build
// of the request is the job's alone.
func (p *publish) republishRequest(ctx context.Context, repo *repository.Repository, job *catalog.Job) (request repository.PublishRequest, err error) {
	request = repository.PublishRequest{Key: publishKey(job.ID), Refs: make(map[string]string)}
	var contents republishContents
	if err := json.Unmarshal([]byte(job.Contents), &contents); err != nil {
		return request, fmt.Errorf("contents of job %d: %w", job.ID, err)
	}
	refs, err := repo.AppRefs(contents.App)
	if err != nil {
		return request, err
	}
	if contents.Refs != nil {
		refs = slices.DeleteFunc(refs, func(ref string) bool { _, asked := contents.Refs[ref]; return !asked })
		for _, ref := range slices.Sorted(maps.Keys(contents.Refs)) {
			if !slices.Contains(refs, ref) {
				_, _ = fmt.Fprintf(p.log, "%s is not published any more, and is left out\n", ref)
			}
		}
	}
	if len(refs) == 0 {
		return request, fmt.Errorf("%s has no ref app/%s of those that were there when it was asked for", p.repo, contents.App)
	}
	request.AppID = contents.App
	request.EndOfLife, request.EndOfLifeRebase = deref(contents.EndOfLife), deref(contents.EndOfLifeRebase)
	if len(p.cfg.Repos[p.repo].Hooks.Publish) == 0 {
		for _, ref := range refs {
			request.Refs[ref] = ""
		}
		return request, nil
	}
	if request.Build, err = repo.Borrow(ctx, borrowedID(job.ID), refs); err != nil {
		return request, err
	}
	request.Refs, err = p.runHook(ctx, request.Build, job, envRepublish+"=true")
	return request, err
}

// borrowedID is the number of the build in which a republish job works. Those of
// builds are positive.
func borrowedID(job int64) int64 { return -job }

// runHook lets the publish hook of the repository, if it has one, edit a build,
// and returns the commits that the build's refs then have; nil without a hook.
// Its output goes to the log of the job.
func (p *publish) runHook(ctx context.Context, build *repository.Build, job *catalog.Job, env ...string) (map[string]string, error) {
	args := p.cfg.Repos[p.repo].Hooks.Publish
	if len(args) == 0 {
		return nil, nil
	}
	p.log.pass(ctx) // what was said before comes before
	log := &jobLog{catalog: p.catalog, log: p.server.log, jobs: []int64{job.ID}}
	defer log.pass(ctx)
	_, _ = fmt.Fprintln(log, "Running publish hook")
	return build.Edit(ctx, func(dir string) error {
		command := p.command(p.repo, args, append(env, envNumber(envPublish, job.ID), envNumber(envAttempt, job.Attempt))...)
		command.Dir, command.Writable = dir, []string{dir}
		return command.Run(ctx, log)
	})
}
