package hubapi

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
)

// missingChunk is the number of names in one request for missing objects;
// flat-manager's clients use the same.
const missingChunk = 2000

// missingAtOnce is how many such requests are under way at the same time.
const missingAtOnce = 4

// CreateBuild begins a build.
func (c *Client) CreateBuild(ctx context.Context, req CreateBuildRequest) (Build, error) {
	var b Build
	if err := c.send(ctx, http.MethodPost, Prefix+"/build", req, &b); err != nil {
		return Build{}, fmt.Errorf("create build for %s: %w", req.Repo, err)
	}
	return b, nil
}

// Builds lists the builds of an application that were not purged; with an
// empty appID those created without one.
func (c *Client) Builds(ctx context.Context, appID string) ([]Build, error) {
	request := call{method: http.MethodGet, path: Prefix + "/build"}
	if appID != "" {
		request.query = url.Values{"app-id": {appID}}
	}
	var list []Build
	if err := c.do(ctx, request, &list); err != nil {
		return nil, fmt.Errorf("list builds: %w", err)
	}
	return list, nil
}

// Build reads a build.
func (c *Client) Build(ctx context.Context, id int64) (Build, error) {
	var b Build
	return b, buildErr("read", id, c.send(ctx, http.MethodGet, BuildPath(id), nil, &b))
}

// Extended reads a build with its refs and checks.
func (c *Client) Extended(ctx context.Context, id int64) (BuildExtended, error) {
	var b BuildExtended
	return b, buildErr("read", id, c.send(ctx, http.MethodGet, BuildPath(id, "extended"), nil, &b))
}

// MissingObjects returns those of the named objects ("<64 hex>.<type>") that
// must be uploaded into the build, in the order of names. Long lists are asked
// for in several requests, some at a time.
func (c *Client) MissingObjects(ctx context.Context, id int64, names []string) ([]string, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	chunks := slices.Collect(slices.Chunk(names, missingChunk))
	missing := make([][]string, len(chunks))
	turns := make(chan struct{}, missingAtOnce)
	var group sync.WaitGroup
	for i, chunk := range chunks {
		turns <- struct{}{}
		group.Go(func() {
			defer func() { <-turns }()
			var err error
			if missing[i], err = c.missingObjects(ctx, id, chunk); err != nil {
				cancel(err)
			}
		})
	}
	group.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, buildErr("ask for missing objects of", id, err)
	}
	return slices.Concat(missing...), nil
}

func (c *Client) missingObjects(ctx context.Context, id int64, names []string) ([]string, error) {
	// A GET with a body, as the protocol has it.
	request, err := jsonCall(http.MethodGet, BuildPath(id, "missing_objects"), MissingObjectsRequest{Wanted: names}, true)
	if err != nil {
		return nil, err
	}
	var answer MissingObjectsResponse
	err = c.do(ctx, request, &answer)
	return answer.Missing, err
}

// CreateBuildRef sets the commit that a ref of the build points to. Repeating
// it, also with another commit, is allowed while the build is uploading.
func (c *Client) CreateBuildRef(ctx context.Context, id int64, req CreateBuildRefRequest) (BuildRef, error) {
	var r BuildRef
	if err := c.send(ctx, http.MethodPost, BuildPath(id, "build_ref"), req, &r); err != nil {
		return BuildRef{}, fmt.Errorf("set ref %s of build %d: %w", req.Ref, id, err)
	}
	return r, nil
}

// BuildRef reads a ref of a build by its id.
func (c *Client) BuildRef(ctx context.Context, id, refID int64) (BuildRef, error) {
	var r BuildRef
	path := BuildPath(id, "build_ref", fmt.Sprint(refID))
	return r, buildErr("read ref of", id, c.send(ctx, http.MethodGet, path, nil, &r))
}

// AddExtraIDs adds application ids that the build may publish besides its own.
func (c *Client) AddExtraIDs(ctx context.Context, id int64, ids []string) (Build, error) {
	var b Build
	path := BuildPath(id, "add_extra_ids")
	return b, buildErr("add extra ids to", id, c.send(ctx, http.MethodPost, path, AddExtraIDsRequest{IDs: ids}, &b))
}

// Commit ends the upload and starts the job that verifies and commits the
// build. On a build that was committed before, the error is an [*Error] of
// kind [ErrWrongRepoState].
func (c *Client) Commit(ctx context.Context, id int64, req CommitRequest) (Job, error) {
	var j Job
	return j, buildErr("commit", id, c.send(ctx, http.MethodPost, BuildPath(id, "commit"), req, &j))
}

// CommitJob reads the commit job of a build.
func (c *Client) CommitJob(ctx context.Context, id int64, req JobRequest) (Job, error) {
	var j Job
	path := BuildPath(id, "commit")
	return j, buildErr("read commit job of", id, c.send(ctx, http.MethodGet, path, req, &j))
}

// Publish starts the job that publishes a committed build. On a build that was
// published before, the error is an [*Error] of kind [ErrWrongPublishedState].
func (c *Client) Publish(ctx context.Context, id int64) (Job, error) {
	var j Job
	return j, buildErr("publish", id, c.send(ctx, http.MethodPost, BuildPath(id, "publish"), struct{}{}, &j))
}

// PublishJob reads the publish job of a build.
func (c *Client) PublishJob(ctx context.Context, id int64, req JobRequest) (Job, error) {
	var j Job
	path := BuildPath(id, "publish")
	return j, buildErr("read publish job of", id, c.send(ctx, http.MethodGet, path, req, &j))
}

// Purge deletes a build's content. It is refused while a job works on it.
func (c *Client) Purge(ctx context.Context, id int64) (Build, error) {
	var b Build
	return b, buildErr("purge", id, c.send(ctx, http.MethodPost, BuildPath(id, "purge"), struct{}{}, &b))
}

// Job reads any job. It needs the scope jobs.
func (c *Client) Job(ctx context.Context, id int64, req JobRequest) (Job, error) {
	var j Job
	if err := c.send(ctx, http.MethodGet, JobPath(id), req, &j); err != nil {
		return Job{}, fmt.Errorf("read job %d: %w", id, err)
	}
	return j, nil
}

// TokenSubset asks for a token with a part of the rights of the client's own.
func (c *Client) TokenSubset(ctx context.Context, req TokenSubsetRequest) (string, error) {
	var t TokenSubsetResponse
	if err := c.send(ctx, http.MethodPost, Prefix+"/token_subset", req, &t); err != nil {
		return "", fmt.Errorf("ask for token %s: %w", req.Name, err)
	}
	return t.Token, nil
}

func buildErr(op string, id int64, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s build %d: %w", op, id, err)
}
