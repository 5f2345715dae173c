package hubapi

import (
	"context"
	"fmt"
	"net/http"
)

// TokenInfo says what is known of a token that was used or revoked.
type TokenInfo struct {
	// TokenID is its jti.
	TokenID   string     `json:"token_id"`
	Expires   Timestamp  `json:"expires"`
	LastUsed  *Timestamp `json:"last_used"`
	RevokedAt *Timestamp `json:"revoked_at"`
}

// TokenIDs is the body of requests about tokens.
type TokenIDs struct {
	TokenIDs []string `json:"token_ids"`
}

// PruneRequest removes from a repository what it does not need any more.
type PruneRequest struct {
	Repo string `json:"repo"`
	// DryRun only says what would be removed, in the log and results of the job.
	DryRun bool `json:"dry_run,omitempty"`
	// Full looks at every object for ones that nothing ever needed.
	Full bool `json:"full,omitempty"`
}

// Prune queues the job that removes from a repository what it does not need.
func (c *Client) Prune(ctx context.Context, request PruneRequest) (Job, error) {
	var job Job
	if err := c.send(ctx, http.MethodPost, Prefix+"/prune", request, &job); err != nil {
		return job, fmt.Errorf("prune %s: %w", request.Repo, err)
	}
	return job, nil
}

// Tokens tells of those of the tokens that were used or revoked.
func (c *Client) Tokens(ctx context.Context, ids []string) ([]TokenInfo, error) {
	var list []TokenInfo
	if err := c.send(ctx, http.MethodPost, Prefix+"/tokens/get_list", TokenIDs{ids}, &list); err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	return list, nil
}

// RevokeTokens takes tokens back, and those made from them: from now on they open
// nothing.
func (c *Client) RevokeTokens(ctx context.Context, ids []string) error {
	if err := c.send(ctx, http.MethodPost, Prefix+"/tokens/revoke", TokenIDs{ids}, nil); err != nil {
		return fmt.Errorf("revoke tokens: %w", err)
	}
	return nil
}
