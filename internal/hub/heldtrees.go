package hub

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	"freshet/api/hubapi"
	"freshet/internal/auth"
	"freshet/internal/hub/catalog"
)

// withHoldable is withRepo for what can be held: trees too.
func (s *server) withHoldable(g grant, next func(w http.ResponseWriter, r *http.Request, claims *auth.Claims, name string) error) handler {
	inner := s.with(g, func(w http.ResponseWriter, r *http.Request, claims *auth.Claims) error {
		name := r.PathValue("repo")
		if err := claims.AllowRepo(name); err != nil {
			return tokenProblem(err)
		}
		if _, exists := s.repos[name]; !exists {
			if !namePattern.MatchString(name) {
				return notFound("repository or tree", strconv.Quote(name))
			}
			if _, err := s.trees.Load().Info(name); err != nil {
				return err
			}
		}
		return next(w, r, claims, name)
	})
	ofTree := s.ledOnly(s.fleet.treesOpen.Load, inner)
	return func(w http.ResponseWriter, r *http.Request) error {
		if _, exists := s.repos[r.PathValue("repo")]; exists {
			return inner(w, r)
		}
		ofTree.ServeHTTP(w, r)
		return nil
	}
}

// heldTree returns what stops changes of a tree: a [*catalog.FrozenError]. Nobody
// waits in a queue for a tree, so that a hold refuses as a freeze does; what was
// pushed stays, and can be published when the hold is released.
func (s *server) heldTree(ctx context.Context, name string) error {
	hold, err := s.heldWhole(ctx, name)
	if err != nil || hold == nil {
		return err
	}
	return fmt.Errorf("tree %s: %w", name, &catalog.FrozenError{Hold: *hold})
}

// heldWhole returns the hold on all of a repository or tree: a freeze, else the
// oldest; nil for none.
func (s *server) heldWhole(ctx context.Context, name string) (*hubapi.Hold, error) {
	holds, err := s.catalog.Holds(ctx, name)
	if err != nil {
		return nil, err
	}
	var found *hubapi.Hold
	for i, hold := range holds {
		if hold.App == "" && (found == nil || found.Kind != hubapi.HoldFreeze && hold.Kind == hubapi.HoldFreeze) {
			found = &holds[i]
		}
	}
	return found, nil
}

// heldHow is the kind of the hold on all of a repository or tree, "" for none.
func (s *server) heldHow(ctx context.Context, name string) (string, error) {
	hold, err := s.heldWhole(ctx, name)
	if err != nil || hold == nil {
		return "", err
	}
	return hold.Kind, nil
}
