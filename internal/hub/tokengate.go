package hub

import (
	"net/http"
	"slices"
	"sync"

	"freshet/internal/hub/repository"
	"freshet/internal/role"
)

// tokenGate lets only those begin the download of a commit who may, in a
// repository where some commits need a token. Without the commit, or the
// superblock that brings it, its objects are of no use: which they are is not
// known.
type tokenGate struct {
	needs func(path string) (need repository.TokenNeed, found bool, err error)
	// without is the type of applications and runtimes that name none, and types are those that need
	// a token.
	without int32
	types   []int32

	mu    sync.Mutex
	known map[string]repository.TokenNeed // by path; what a commit says never changes
}

// maxKnownNeeds bounds how many commits a gate remembers.
const maxKnownNeeds = 50_000

// need returns the ids of which the token has to grant one, and whether one is
// needed at all.
func (g *tokenGate) need(path string) (ids []string, needed bool, err error) {
	g.mu.Lock()
	need, known := g.known[path]
	g.mu.Unlock()
	if !known {
		var found bool
		if need, found, err = g.needs(path); err != nil || !found {
			return nil, false, err
		}
		g.mu.Lock()
		if g.known == nil || len(g.known) >= maxKnownNeeds {
			g.known = make(map[string]repository.TokenNeed)
		}
		g.known[path] = need
		g.mu.Unlock()
	}
	if need.Catalogue {
		return nil, false, nil
	}
	kind := g.without
	if need.HasType {
		kind = need.Type
	}
	return need.IDs, slices.Contains(g.types, kind), nil
}

// passGate checks the token of a request for a file of a repository, where one is
// needed. What needs one is kept by no cache, whoever asked for it.
func (s *server) passGate(w http.ResponseWriter, r *http.Request, repo string) error {
	gate := s.gates[repo]
	if gate == nil {
		return nil
	}
	ids, needed, err := gate.need(r.PathValue("path"))
	if err != nil {
		return fileError(w, r, err)
	}
	if !needed {
		return nil
	}
	w.Header().Set("Cache-Control", "no-store")
	if s.makesDeltas(r, repo, 0) {
		return nil
	}
	claims, err := s.downloads.Authenticate(r.Context(), r.Header.Get("Authorization"))
	if err != nil {
		return tokenProblem(err)
	}
	role.Annotate(r, tokenAttr(claims))
	err = claims.AllowEveryID()
	for _, id := range ids {
		if err = claims.AllowID(id); err == nil {
			break
		}
	}
	return tokenProblem(err)
}
