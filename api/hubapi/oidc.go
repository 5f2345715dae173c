package hubapi

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// ExchangeRequest exchanges an ID token (OpenID Connect), such as that of a CI's job,
// for a token of the hub.
type ExchangeRequest struct {
	// Token is the ID token. Most can be exchanged once.
	Token string `json:"token"`
	// Repo is the repository or tree that the token is for; it opens no other then.
	// Optional.
	Repo string `json:"repo,omitempty"`
	// Publisher chooses among the trusted publishers that match. Optional.
	Publisher string `json:"publisher,omitempty"`
}

// ExchangedToken is a token of the hub, and what it grants.
type ExchangedToken struct {
	Token   string    `json:"token"`
	TokenID string    `json:"token_id"` // its jti
	Expires time.Time `json:"expires"`
	// Publisher is the trusted publisher by which it was given.
	Publisher string   `json:"publisher"`
	Scope     []string `json:"scope"`
	Repos     []string `json:"repos"` // and trees
	Prefixes  []string `json:"prefixes,omitempty"`
	Apps      []string `json:"apps,omitempty"`
	// PushBranches are patterns; nil is no limit.
	PushBranches []string `json:"push_branches,omitempty"`
}

// ExchangeToken exchanges an ID token. The client's own token is not needed. As the
// hub takes most ID tokens once, it is not tried again.
func (c *Client) ExchangeToken(ctx context.Context, request ExchangeRequest) (ExchangedToken, error) {
	once := *c
	once.RetryFor = -1
	var answer ExchangedToken
	if err := once.send(ctx, http.MethodPost, Prefix+"/token/oidc", request, &answer); err != nil {
		return answer, fmt.Errorf("exchange ID token: %w", err)
	}
	return answer, nil
}
