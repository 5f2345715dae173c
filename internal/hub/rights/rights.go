// Package rights says what of a hub's work the claims of a token let their bearer see
// and do, besides what package auth says of scopes and names.
package rights

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"freshet/api/hubapi"
	"freshet/internal/auth"
	"freshet/internal/flatpak"
	"freshet/internal/hub/catalog"
)

// Everything checks that no ref is outside of what the claims grant. The error is an
// [*auth.TokenError].
func Everything(claims *auth.Claims) error {
	return cmp.Or(claims.AllowEveryID(), claims.AllowEveryBranch())
}

// Refs checks that the claims grant the ids and the branches of refs. The error is an
// [*auth.TokenError], or one about a name that is no ref.
func Refs(claims *auth.Claims, refs ...string) error {
	for _, ref := range refs {
		parsed, err := flatpak.ParseRef(ref)
		if err != nil {
			return err
		}
		if err := cmp.Or(claims.AllowBranch(parsed.Branch), claims.AllowID(parsed.ID)); err != nil {
			return err
		}
	}
	return nil
}

// Job checks that the claims let their bearer see a job that is about no build. One
// that moves refs is seen by those who may move them. All others, such as prunes and
// the making of static deltas, name whatever is in the repository, and are seen by
// those who may see all of it. The error is an [*auth.TokenError].
func Job(claims *auth.Claims, job *catalog.Job) error {
	if err := claims.AllowRepo(job.Repo); err != nil {
		return err
	}
	everything := Everything(claims)
	if everything == nil {
		return nil
	}
	refs, app := about(job)
	if len(refs) == 0 && app == "" {
		return everything
	}
	err := Refs(claims, refs...)
	if err == nil && app != "" {
		err = claims.AllowID(app)
	}
	if _, told := errors.AsType[*auth.TokenError](err); err != nil && !told {
		return everything // it is about something without a name that could be granted
	}
	return err
}

// about returns the refs and the application that a job is about; nothing when it is
// about the repository.
func about(job *catalog.Job) (refs []string, app string) {
	switch job.Kind {
	case hubapi.JobRollback, hubapi.JobUnpublish:
		var contents struct {
			Refs map[string]json.RawMessage `json:"refs"`
		}
		if json.Unmarshal([]byte(job.Contents), &contents) == nil {
			return slices.Collect(maps.Keys(contents.Refs)), ""
		}
	case hubapi.JobRepublish:
		var contents struct {
			App string `json:"app"`
		}
		if json.Unmarshal([]byte(job.Contents), &contents) == nil {
			return nil, contents.App
		}
	case hubapi.JobCommit, hubapi.JobPublish, hubapi.JobUpdateRepo, hubapi.JobCheck, hubapi.JobPrune, hubapi.JobDeltas, hubapi.JobBuildDeltas:
	}
	return nil, ""
}

// SeenJobs returns those of the jobs of a publish which allow grants; its other errors
// than that the token lacks something are returned. Jobs that are not remembered any
// more are seen by those who may see everything.
func SeenJobs(ctx context.Context, c *catalog.Catalog, claims *auth.Claims, jobs []hubapi.PublishJob, allow func(context.Context, *auth.Claims, *catalog.Job) error) ([]hubapi.PublishJob, error) {
	if len(jobs) == 0 || Everything(claims) == nil {
		return jobs, nil
	}
	ids := make([]int64, len(jobs))
	for i, job := range jobs {
		ids[i] = job.ID
	}
	known, err := c.JobsByID(ctx, ids)
	if err != nil {
		return nil, err
	}
	seen := []hubapi.PublishJob{}
	for _, job := range jobs {
		if known[job.ID] == nil {
			continue
		}
		switch err := allow(ctx, claims, known[job.ID]); {
		case err == nil:
			seen = append(seen, job)
		case !Refused(err):
			return nil, fmt.Errorf("job %d: %w", job.ID, err)
		}
	}
	return seen, nil
}

// Refused tells whether an error says that a token does not grant something, in the
// words of package auth or in those of the API.
func Refused(err error) bool {
	if e, ok := errors.AsType[*auth.TokenError](err); ok {
		return e.Insufficient
	}
	e, ok := errors.AsType[*hubapi.Error](err)
	return ok && e.Kind == hubapi.ErrInsufficient
}
