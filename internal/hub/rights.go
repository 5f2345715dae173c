package hub

import (
	"context"
	"slices"
	"strings"

	"freshet/api/hubapi"
	"freshet/internal/auth"
	"freshet/internal/flatpak"
	"freshet/internal/hub/rights"
)

// allowBuild checks that the claims grant a build: its repository, its
// application, the branch of every ref in it and the id of everything. The refs
// that belong to the build's application need no grant of their id. What is not of any
// application and still empty belongs to the token that created it.
func (s *server) allowBuild(ctx context.Context, claims *auth.Claims, build hubapi.Build) error {
	if err := allowApp(claims, build); err != nil || rights.Everything(claims) == nil {
		return err
	}
	ids, err := s.idsOf(ctx, claims, build)
	if err != nil || claims.AllowEveryID() == nil {
		return err
	}
	if len(ids) == 0 && build.AppID == nil {
		return s.allowCreator(ctx, claims, build)
	}
	for _, id := range ids {
		if build.AppID != nil && (id == *build.AppID || strings.HasPrefix(id, *build.AppID+".")) {
			continue
		}
		if err := claims.AllowID(id); err != nil {
			return tokenProblem(err)
		}
	}
	return nil
}

// allowUpload is allowBuild for what adds to a build and cannot bring it any
// further: that may also be done with a token made from that of its creator,
// whatever others have put into the build.
func (s *server) allowUpload(ctx context.Context, claims *auth.Claims, build hubapi.Build) error {
	if err := allowApp(claims, build); err != nil || build.AppID != nil {
		return err
	}
	err := s.allowBuild(ctx, claims, build)
	if err != nil && s.allowCreator(ctx, claims, build) == nil {
		return nil
	}
	return err
}

// allowApp checks what is known of a build without its content.
func allowApp(claims *auth.Claims, build hubapi.Build) error {
	if err := claims.AllowRepo(build.Repo); err != nil {
		return tokenProblem(err)
	}
	if build.AppID == nil {
		return nil
	}
	return tokenProblem(claims.AllowID(*build.AppID))
}

// idsOf returns the ids that the refs of a build belong to, and its extra ones.
// Screenshots belong to the applications beside them. A ref of a branch that the
// claims do not grant is an error.
func (s *server) idsOf(ctx context.Context, claims *auth.Claims, build hubapi.Build) ([]string, error) {
	refs, err := s.catalog.BuildRefs(ctx, build.ID)
	if err != nil {
		return nil, err
	}
	ids := slices.Clone(build.ExtraIDs)
	for _, ref := range refs {
		if err := allowBranch(claims, ref.RefName); err != nil {
			return nil, err
		}
		if parsed, err := flatpak.ParseRef(ref.RefName); err == nil {
			ids = append(ids, parsed.ID)
		}
	}
	return ids, nil
}

// allowBranch checks that the claims grant the branch of a ref. Screenshots have
// none.
func allowBranch(claims *auth.Claims, ref string) error {
	parsed, err := flatpak.ParseRef(ref)
	if err != nil {
		return nil //nolint:nilerr // documented: it has no branch
	}
	return tokenProblem(claims.AllowBranch(parsed.Branch))
}

// allowCreator checks that the token is the one that created the build, or was
// made from it: such tokens have the same id, and a name that begins with its
// name. A creator that had neither cannot be told from others.
func (s *server) allowCreator(ctx context.Context, claims *auth.Claims, build hubapi.Build) error {
	id, err := s.catalog.BuildToken(ctx, build.ID)
	if err != nil {
		return err
	}
	name := ""
	if build.TokenName != nil {
		name = *build.TokenName
	}
	sameName := claims.Name == name || strings.HasPrefix(claims.Name, name+"/")
	if claims.ID == id && (id != "" || name != "" && sameName) {
		return nil
	}
	return problem(hubapi.ErrInsufficient, "build %d names no application yet; it belongs to the token that created it, by its id or name", build.ID)
}
