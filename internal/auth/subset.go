package auth

import (
	"errors"
	"math"
	"slices"
	"strings"

	"freshet/api/hubapi"
)

// Subset returns the claims that caller may hand out on request: at most what
// it grants itself, for at most as long.
//
// Prefixes, apps and repositories that the request leaves out are the
// caller's. The name becomes "caller/name"; the id for revocation, both kinds of
// branches and the token type are inherited, so that revoking the caller's token revokes those
// made from it. A [*TokenError] says what would be too much; another error,
// that the request makes no sense.
func (a *Authority) Subset(caller *Claims, request hubapi.TokenSubsetRequest) (Claims, error) {
	now := a.now().Unix()
	if request.Duration <= 0 || request.Duration > math.MaxInt64-now {
		return Claims{}, errors.New("duration is not a positive number of seconds")
	}
	if strings.TrimSpace(request.Name) == "" {
		return Claims{}, errors.New("name is missing")
	}
	subset := Claims{
		Sub:       request.Sub,
		Expires:   now + request.Duration,
		ID:        caller.ID,
		Name:      request.Name,
		Prefixes:  choose(request.Prefixes, caller.Prefixes),
		Apps:      choose(request.Apps, caller.Apps),
		Repos:     choose(request.Repos, caller.Repos),
		Branches:  slices.Clone(caller.Branches),
		TokenType: caller.TokenType,

		PushBranches: slices.Clone(caller.PushBranches),
	}
	if caller.Name != "" {
		subset.Name = caller.Name + "/" + request.Name
	}
	for _, scope := range request.Scope {
		subset.Scope = append(subset.Scope, Scope(scope))
	}
	if err := caller.contains(&subset); err != nil {
		return Claims{}, err
	}
	return subset, nil
}

// contains checks that c grants all that other grants.
func (c *Claims) contains(other *Claims) error {
	if !subCovers(c.Sub, other.Sub) {
		return insufficient("Not matching sub '%s' in token", other.Sub)
	}
	if other.Expires > c.Expires {
		return insufficient("Token would outlive the one it is made from")
	}
	for _, scope := range other.Scope {
		if !c.Has(scope) {
			return insufficient("Not matching scope '%s' in token", scope)
		}
	}
	for _, prefix := range other.prefixes() {
		// An app of c is no prefix, and covers none.
		if !prefixesCover(c.prefixes(), prefix) {
			return insufficient("Prefix '%s' not matching prefix in token", prefix)
		}
	}
	for _, app := range other.Apps {
		if err := c.AllowID(app); err != nil {
			return err
		}
	}
	for _, repo := range other.Repos {
		if err := c.AllowRepo(repo); err != nil {
			return err
		}
	}
	return nil
}

func choose(requested *[]string, inherited []string) []string {
	if requested != nil {
		return slices.Clone(*requested)
	}
	return slices.Clone(inherited)
}
