package hub

import (
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"freshet/api/hubapi"
	"freshet/internal/auth"
	"freshet/internal/hub/catalog"
	"freshet/internal/role"
)

// grant is what a route asks of the token: a sub, in which {id} is the build
// of the path, and one of the scopes.
type grant struct {
	sub    string
	scopes []auth.Scope
}

// handler answers a request or returns why not.
type handler func(w http.ResponseWriter, r *http.Request) error

func (h handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := h(w, r); err != nil {
		fail(w, r, err)
	}
}

// with lets a request through to next when its token has the grant. That is
// decided before anything of the body is read.
func (s *server) with(g grant, next func(w http.ResponseWriter, r *http.Request, claims *auth.Claims) error) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		claims, err := s.authenticate(r)
		if err != nil {
			return err
		}
		// A wrong id is no build's, and is found missing by next.
		sub := strings.ReplaceAll(g.sub, "{id}", r.PathValue("id"))
		if err := allow(claims, sub, g.scopes); err != nil {
			return err
		}
		return next(w, r, claims)
	}
}

// authenticate returns the claims of the request's token.
func (s *server) authenticate(r *http.Request) (*auth.Claims, error) {
	claims, err := s.authority.Authenticate(r.Context(), r.Header.Get("Authorization"))
	if err != nil {
		return nil, tokenProblem(err)
	}
	role.Annotate(r, tokenAttr(claims))
	return claims, nil
}

// tokenAttr names the bearer in the record of the request.
func tokenAttr(claims *auth.Claims) slog.Attr { return slog.String("token", bearer(claims)) }

// allow checks that the claims have one of the scopes on the sub.
func allow(claims *auth.Claims, sub string, scopes []auth.Scope) (err error) {
	for _, scope := range scopes {
		if err = claims.Allow(sub, scope); err == nil {
			return nil
		}
	}
	return tokenProblem(err)
}

// tokenProblem is what the client is told when a token does not do.
func tokenProblem(err error) error {
	e, ok := errors.AsType[*auth.TokenError](err)
	switch {
	case err == nil:
		return nil
	case !ok:
		return err
	case e.Insufficient:
		return problem(hubapi.ErrInsufficient, "%s", e.Message)
	}
	return problem(hubapi.ErrInvalidToken, "%s", e.Message)
}

// bearer is how logs and the audit name who carries a token.
func bearer(claims *auth.Claims) string {
	switch {
	case claims.Name != "" && claims.ID != "":
		return claims.Name + " (" + claims.ID + ")"
	case claims.ID != "":
		return claims.ID
	case claims.Name != "":
		return claims.Name
	}
	return "unnamed"
}

// pathID reads a number from the path of the request.
func pathID(r *http.Request, name, what string) (int64, error) {
	text := r.PathValue(name)
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil || id <= 0 || strconv.FormatInt(id, 10) != text {
		return 0, notFound(what, strconv.Quote(text))
	}
	return id, nil
}

// by is the catalog with the audit written in the name of the token's bearer.
func (s *server) by(claims *auth.Claims) *catalog.Catalog {
	by := s.catalog.By(bearer(claims))
	if claims.Has(auth.ScopeReviewCheck) {
		by = by.AsReviewer()
	}
	return by
}
