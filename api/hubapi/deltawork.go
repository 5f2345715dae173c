package hubapi

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Paths of those who make static deltas for a hub. Their tokens have the sub
// "delta" and the scope "generate", and name the repositories.
const (
	// DeltaLeasePath gives out a delta to make, by POST; see [DeltaLeasePathOf].
	DeltaLeasePath = Prefix + "/delta/lease"
	// DeltaQueuePath lists the deltas to make.
	DeltaQueuePath = Prefix + "/delta/queue"
)

// DeltaLeasePathOf is the path of a lease: POST extends it, DELETE gives it back.
// Below it are "upload" and "finish".
func DeltaLeasePathOf(lease string, below ...string) string {
	return strings.Join(append([]string{DeltaLeasePath, lease}, below...), "/")
}

// DeltaLeaseRequest asks for a delta to make.
type DeltaLeaseRequest struct {
	// Worker names the one who asks, for people.
	Worker string `json:"worker"`
	// ID is that of the worker's folder, which one process uses at a time, and Run that
	// of the process: when a new one asks, leases of the former are over at once.
	// Both may be "".
	ID  string `json:"id,omitempty"`
	Run string `json:"run,omitempty"`
	// Engines are those that it has, "native" and "flatpak"; none means "native".
	Engines []string `json:"engines,omitempty"`
	// Wait is how many seconds to wait when there is none to make; at most 60.
	Wait int `json:"wait,omitempty"`
}

// DeltaLease is a delta to make, and the right to be the only one who does.
type DeltaLease struct {
	// Lease names the lease. It is not to be guessed, and not to be told.
	Lease string `json:"lease"`
	// Expires is in how many seconds the lease is over unless it is extended.
	Expires int    `json:"expires"`
	Repo    string `json:"repo"`
	Ref     string `json:"ref"`
	// From and To are the commits, in hex; From is "" for a delta from nothing.
	From string `json:"from,omitempty"`
	To   string `json:"to"`
	// Engine is the one that is to make it.
	Engine string `json:"engine"`
	// Path is where the hub has the repository with both commits: "/repo/stable/".
	Path string `json:"path"`
	// Attempt counts, from 1, how often the delta was given to somebody.
	Attempt int `json:"attempt"`
}

// DeltaProgress says what is done with a lease, in a few words for people.
type DeltaProgress struct {
	Step string `json:"step,omitempty"`
}

// DeltaExtended is the answer to an extension.
type DeltaExtended struct {
	// Expires is in how many seconds the lease is over now.
	Expires int `json:"expires"`
}

// DeltaGivenBack says why a lease is given back.
type DeltaGivenBack struct {
	// Error is what came in the way; "" when the worker ends, which counts for
	// nothing.
	Error string `json:"error,omitempty"`
}

// DeltaFinished says that all files of a delta are uploaded.
type DeltaFinished struct {
	// Seconds is how long it took to make.
	Seconds float64 `json:"seconds"`
}

// DeltaQueue lists the deltas that are being made, and then those that wait, in the
// order in which they will be made.
type DeltaQueue struct {
	Deltas []QueuedDelta `json:"deltas"`
}

// QueuedDelta is a delta to make.
type QueuedDelta struct {
	Repo string `json:"repo"`
	Ref  string `json:"ref"`
	From string `json:"from,omitempty"`
	To   string `json:"to"`
	// Build is the build whose publish waits for it; 0 for none.
	Build int64 `json:"build,omitempty"`
	// Making says that somebody makes it: Worker ("" is the hub itself), since Since,
	// who does Step now.
	Making bool      `json:"making"`
	Worker string    `json:"worker,omitempty"`
	Since  time.Time `json:"since,omitzero"`
	Step   string    `json:"step,omitempty"`
	// Attempt counts how often it was given to somebody.
	Attempt int `json:"attempt"`
}

// LeaseDelta asks for a delta to make. It returns nil when there was none in the time
// that the request says to wait.
func (c *Client) LeaseDelta(ctx context.Context, request DeltaLeaseRequest) (*DeltaLease, error) {
	var lease DeltaLease
	if err := c.send(ctx, http.MethodPost, DeltaLeasePath, request, &lease); err != nil {
		return nil, fmt.Errorf("lease a delta: %w", err)
	}
	if lease.Lease == "" {
		return nil, nil //nolint:nilnil // documented
	}
	if err := checkName("lease", lease.Lease); err != nil {
		return nil, err
	}
	return &lease, nil
}

// ExtendDelta extends a lease. An error that is not found says that it is over.
func (c *Client) ExtendDelta(ctx context.Context, lease string, progress DeltaProgress) (DeltaExtended, error) {
	var answer DeltaExtended
	err := c.send(ctx, http.MethodPost, DeltaLeasePathOf(lease), progress, &answer)
	if err != nil {
		err = fmt.Errorf("extend the lease of a delta: %w", err)
	}
	return answer, err
}

// UploadDelta sends files of a delta, named "<delta>.superblock.delta" and
// "<delta>.<part>.delta".
func (c *Client) UploadDelta(ctx context.Context, lease string, parts []Part) error {
	if _, err := c.upload(ctx, DeltaLeasePathOf(lease, "upload"), parts); err != nil {
		return fmt.Errorf("upload a delta: %w", err)
	}
	return nil
}

// FinishDelta says that all files are uploaded. The hub verifies the delta before it
// answers, and refuses it with an error. It can be asked again.
func (c *Client) FinishDelta(ctx context.Context, lease string, finished DeltaFinished) error {
	if err := c.send(ctx, http.MethodPost, DeltaLeasePathOf(lease, "finish"), finished, nil); err != nil {
		return fmt.Errorf("hand in a delta: %w", err)
	}
	return nil
}

// GiveBackDelta ends a lease without a delta.
func (c *Client) GiveBackDelta(ctx context.Context, lease string, why DeltaGivenBack) error {
	if err := c.send(ctx, http.MethodDelete, DeltaLeasePathOf(lease), why, nil); err != nil {
		return fmt.Errorf("give back a delta: %w", err)
	}
	return nil
}

// DeltaQueue lists the first deltas that are to be made, at most limit.
func (c *Client) DeltaQueue(ctx context.Context, limit int) (DeltaQueue, error) {
	var list DeltaQueue
	query := url.Values{"limit": {strconv.Itoa(limit)}}
	if err := c.do(ctx, call{method: http.MethodGet, path: DeltaQueuePath, query: query}, &list); err != nil {
		return list, fmt.Errorf("list deltas to make: %w", err)
	}
	return list, nil
}
