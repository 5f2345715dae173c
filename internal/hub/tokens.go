package hub

import (
	"errors"
	"net/http"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/auth"
)

// maxTokenIDs bounds the tokens asked for or revoked in one request.
const maxTokenIDs = 10_000

// tokenSubset makes a token with a part of the caller's rights. Any token may
// ask; what it gets depends on its own claims.
func (s *server) tokenSubset(w http.ResponseWriter, r *http.Request) error {
	claims, err := s.authenticate(r)
	if err != nil {
		return err
	}
	var request hubapi.TokenSubsetRequest
	if err := readJSON(w, r, &request, jsonBody); err != nil {
		return err
	}
	subset, err := s.authority.Subset(claims, request)
	if _, ok := errors.AsType[*auth.TokenError](err); ok {
		return tokenProblem(err)
	}
	if err != nil {
		return problem(hubapi.ErrGeneric, "%s", err)
	}
	token, err := s.authority.Issue(subset)
	if err != nil {
		return problem(hubapi.ErrGeneric, "%s", err)
	}
	writeJSON(w, http.StatusOK, hubapi.TokenSubsetResponse{Token: token})
	return nil
}

func (s *server) listTokens(w http.ResponseWriter, r *http.Request, _ *auth.Claims) error {
	ids, err := readTokenIDs(w, r)
	if err != nil {
		return err
	}
	tokens, err := s.catalog.Tokens(r.Context(), ids)
	if err != nil {
		return err
	}
	answer := make([]hubapi.TokenInfo, len(tokens))
	for i, t := range tokens {
		answer[i] = hubapi.TokenInfo{
			TokenID: t.ID, Expires: hubapi.Timestamp{Time: t.Expires},
			LastUsed: timestamp(t.LastUsed), RevokedAt: timestamp(t.Revoked),
		}
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

func (s *server) revokeTokens(w http.ResponseWriter, r *http.Request, claims *auth.Claims) error {
	ids, err := readTokenIDs(w, r)
	if err != nil {
		return err
	}
	if err := s.by(claims).RevokeTokens(r.Context(), ids); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func readTokenIDs(w http.ResponseWriter, r *http.Request) ([]string, error) {
	var request hubapi.TokenIDs
	if err := readJSON(w, r, &request, jsonBody); err != nil {
		return nil, err
	}
	if len(request.TokenIDs) > maxTokenIDs {
		return nil, problem(hubapi.ErrTooLarge, "more than %d tokens in one request", maxTokenIDs)
	}
	return request.TokenIDs, nil
}

// timestamp is nil for the zero time.
func timestamp(t time.Time) *hubapi.Timestamp {
	if t.IsZero() {
		return nil
	}
	return &hubapi.Timestamp{Time: t}
}
