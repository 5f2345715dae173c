package hubapi

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Publish is one change of a repository: the refs that got another commit
// together.
type Publish struct {
	Repo string `json:"repo"`
	// Number counts the changes of the repository. It stands in the metadata of
	// its summaries ("freshet.serial") and in the event. Numbers grow, with
	// gaps: changes that move no ref have one too and are not listed.
	Number int64 `json:"number"`
	// Event is the serial of the event that told of it.
	Event int64        `json:"event"`
	Time  time.Time    `json:"time"`
	Jobs  []PublishJob `json:"jobs"`
	// Refs are the refs that moved.
	Refs map[string]RefMove `json:"refs"`
}

// PublishJob is a job that a publish did; several that waited are done together.
type PublishJob struct {
	ID int64 `json:"id"`
	// Kind is the name of a [JobKind].
	Kind string `json:"kind"`
	// Build is the build that was published, if one was.
	Build int64 `json:"build,omitempty"`
	// Actor is who asked for it: the name in the token.
	Actor string `json:"actor"`
}

// RefMove is what a ref pointed at before and after; "" is nothing.
type RefMove struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// PublishList is a part of a repository's history, newest first.
type PublishList struct {
	Publishes []Publish `json:"publishes"`
	// Next is the before of the next request; 0 at the end.
	Next int64 `json:"next,omitempty"`
}

// RollbackRequest asks to put refs back. Exactly one of Refs, Undo and To is set.
// What comes back is a new commit of the old tree, because clients refuse a
// commit that is older than theirs.
type RollbackRequest struct {
	// Refs are the commits to go back to, by ref; "" is the one before the last
	// publish of the ref. A commit must have been published as that ref, and still
	// be there.
	Refs map[string]string `json:"refs,omitempty"`
	// Undo is the number of a publish whose refs go back to what they were before.
	// It is refused when one of them has moved again since.
	Undo int64 `json:"undo,omitempty"`
	// To is the number of a publish to which the whole repository goes back: every
	// ref that moved later.
	To int64 `json:"to,omitempty"`
	// Reason is for the audit log.
	Reason string `json:"reason,omitempty"`
}

// UnpublishRequest asks to take refs out of a repository: those of Refs, or all of
// the application or runtime App and of what belongs to it (App.Locale and the
// like).
type UnpublishRequest struct {
	Refs   []string `json:"refs,omitempty"`
	App    string   `json:"app,omitempty"`
	Reason string   `json:"reason,omitempty"`
}

// The kinds of [Hold].
const (
	// HoldWait lets publishes be asked for; they wait until the hold is released,
	// and others go first.
	HoldWait = "hold"
	// HoldFreeze refuses them, and lets those wait that were asked for before.
	HoldFreeze = "freeze"
)

// Hold stops publishes and republishes of an application, or of all of a
// repository. Rollbacks and unpublishes by who may do everything go on.
type Hold struct {
	ID   int64  `json:"id"`
	Repo string `json:"repo"`
	// App is the id that is held, with all ids below it; "" is everything.
	App string `json:"app"`
	// Kind is HoldWait or HoldFreeze.
	Kind   string    `json:"kind"`
	Reason string    `json:"reason"`
	Actor  string    `json:"actor"`
	Time   time.Time `json:"time"`
}

// HoldList are the holds of a repository, oldest first.
type HoldList struct {
	Holds []Hold `json:"holds"`
}

// AuditEntry says who did what, when.
type AuditEntry struct {
	ID    int64     `json:"id"`
	Time  time.Time `json:"time"`
	Actor string    `json:"actor"`
	// Action is a verb, "build.publish"; Object what it was done to, "build/7".
	Action string `json:"action"`
	Object string `json:"object"`
	Detail string `json:"detail,omitempty"`
}

// AuditList is a part of the audit log, newest first.
type AuditList struct {
	Entries []AuditEntry `json:"entries"`
	// Next is the before of the next request; 0 at the end.
	Next int64 `json:"next,omitempty"`
}

// AuditPath is where the audit log is read.
const AuditPath = Prefix + "/audit"

// RepoAPIPath is the path of what can be done with a repository.
func RepoAPIPath(repo string, elem ...string) string {
	return Prefix + "/repo/" + url.PathEscape(repo) + join(elem)
}

// Publishes lists the publishes of a repository with a number below before (0: from
// the newest on), at most limit (0: as many as the hub likes); with a ref only
// those that moved it.
func (c *Client) Publishes(ctx context.Context, repo, ref string, before int64, limit int) (PublishList, error) {
	query := page(before, limit)
	if ref != "" {
		query.Set("ref", ref)
	}
	var list PublishList
	if err := c.do(ctx, call{method: http.MethodGet, path: RepoAPIPath(repo, "publishes"), query: query}, &list); err != nil {
		return list, fmt.Errorf("list publishes of %s: %w", repo, err)
	}
	return list, nil
}

// Rollback queues the job that puts refs back.
func (c *Client) Rollback(ctx context.Context, repo string, req RollbackRequest) (Job, error) {
	var job Job
	if err := c.send(ctx, http.MethodPost, RepoAPIPath(repo, "rollback"), req, &job); err != nil {
		return job, fmt.Errorf("roll back in %s: %w", repo, err)
	}
	return job, nil
}

// Unpublish queues the job that takes refs out of the repository.
func (c *Client) Unpublish(ctx context.Context, repo string, req UnpublishRequest) (Job, error) {
	var job Job
	if err := c.send(ctx, http.MethodPost, RepoAPIPath(repo, "unpublish"), req, &job); err != nil {
		return job, fmt.Errorf("unpublish from %s: %w", repo, err)
	}
	return job, nil
}

// Hold stops publishes. Of hold, App, Kind and Reason count.
func (c *Client) Hold(ctx context.Context, repo string, hold Hold) (Hold, error) {
	var placed Hold
	if err := c.send(ctx, http.MethodPost, RepoAPIPath(repo, "holds"), hold, &placed); err != nil {
		return placed, fmt.Errorf("hold in %s: %w", repo, err)
	}
	return placed, nil
}

// Holds lists the holds of a repository.
func (c *Client) Holds(ctx context.Context, repo string) (HoldList, error) {
	var list HoldList
	if err := c.send(ctx, http.MethodGet, RepoAPIPath(repo, "holds"), nil, &list); err != nil {
		return list, fmt.Errorf("list holds of %s: %w", repo, err)
	}
	return list, nil
}

// Release ends a hold.
func (c *Client) Release(ctx context.Context, repo string, id int64) error {
	path := RepoAPIPath(repo, "holds", strconv.FormatInt(id, 10))
	if err := c.send(ctx, http.MethodDelete, path, nil, nil); err != nil {
		return fmt.Errorf("release hold %d of %s: %w", id, repo, err)
	}
	return nil
}

// Audit reads entries of the audit log with an id below before (0: from the newest
// on), at most limit (0: as many as the hub likes).
func (c *Client) Audit(ctx context.Context, before int64, limit int) (AuditList, error) {
	var list AuditList
	if err := c.do(ctx, call{method: http.MethodGet, path: AuditPath, query: page(before, limit)}, &list); err != nil {
		return list, fmt.Errorf("read the audit log: %w", err)
	}
	return list, nil
}

// page is the query of a part of a list.
func page(before int64, limit int) url.Values {
	query := url.Values{}
	if before > 0 {
		query.Set("before", strconv.FormatInt(before, 10))
	}
	if limit > 0 {
		query.Set("limit", strconv.Itoa(limit))
	}
	return query
}
