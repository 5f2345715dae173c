package hub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"regexp"
	"strconv"

	"freshet/api/hubapi"
	"freshet/internal/auth"
	"freshet/internal/flatpak"
	"freshet/internal/hub/catalog"
	"freshet/internal/hub/repository"
	"freshet/internal/ostree"
)

// buildHandler answers a request about one build.
type buildHandler func(w http.ResponseWriter, r *http.Request, claims *auth.Claims, build hubapi.Build) error

// withBuild is [server.with] for the routes below a build. Beyond the grant,
// the token must allow the build as [server.allowBuild] says. flat-manager
// looks at ids for some of these routes only, and so lets a token for one
// application publish or purge the builds of another.
func (s *server) withBuild(g grant, next buildHandler) handler {
	return s.withAllowed(g, s.allowBuild, next)
}

// withUpload is withBuild for the routes by which content comes into a build.
func (s *server) withUpload(g grant, next buildHandler) handler {
	return s.withAllowed(g, s.allowUpload, next)
}

func (s *server) withAllowed(g grant, allow func(context.Context, *auth.Claims, hubapi.Build) error, next buildHandler) handler {
	return s.with(g, func(w http.ResponseWriter, r *http.Request, claims *auth.Claims) error {
		build, err := s.buildOf(r)
		if err != nil {
			return err
		}
		if err := allow(r.Context(), claims, build); err != nil {
			return err
		}
		return next(w, r, claims, build)
	})
}

// buildOf reads the build named by the path.
func (s *server) buildOf(r *http.Request) (hubapi.Build, error) {
	id, err := pathID(r, "id", "build")
	if err != nil {
		return hubapi.Build{}, err
	}
	return s.catalog.Build(r.Context(), id)
}

func (s *server) createBuild(w http.ResponseWriter, r *http.Request, claims *auth.Claims) error {
	var request hubapi.CreateBuildRequest
	if err := readJSON(w, r, &request, jsonBody); err != nil {
		return err
	}
	if err := claims.AllowRepo(request.Repo); err != nil {
		return tokenProblem(err)
	}
	if request.AppID != nil {
		if err := claims.AllowID(*request.AppID); err != nil {
			return tokenProblem(err)
		}
		if err := flatpak.CheckID(*request.AppID); err != nil {
			return problem(hubapi.ErrGeneric, "app-id: %s", err)
		}
	}
	if _, exists := s.repos[request.Repo]; !exists {
		return notFound("repository", strconv.Quote(request.Repo))
	}
	// flat-manager's default: builds of a known application are private.
	public := request.AppID == nil
	if request.PublicDownload != nil {
		public = *request.PublicDownload
	}
	build, err := s.by(claims).CreateBuild(r.Context(), catalog.NewBuild{
		Repo:           request.Repo,
		AppID:          request.AppID,
		PublicDownload: public,
		BuildLogURL:    request.BuildLogURL,
		TokenName:      nonEmpty(claims.Name),
		TokenID:        claims.ID,
	})
	if err != nil {
		return err
	}
	s.answerAt(w, hubapi.BuildPath(build.ID), build)
	return nil
}

// listBuilds lists the builds of an application, or those of none.
func (s *server) listBuilds(w http.ResponseWriter, r *http.Request, claims *auth.Claims) error {
	var appID *string
	if query := r.URL.Query(); query.Has("app-id") {
		id := query.Get("app-id")
		if err := claims.AllowID(id); err != nil {
			return tokenProblem(err)
		}
		appID = &id
	}
	all, err := s.catalog.Builds(r.Context(), appID)
	if err != nil {
		return err
	}
	allowed := []hubapi.Build{}
	for _, build := range all {
		err := s.allowBuild(r.Context(), claims, build)
		if e, refused := errors.AsType[*hubapi.Error](err); refused && e.Kind == hubapi.ErrInsufficient {
			continue
		}
		if err != nil {
			return err
		}
		allowed = append(allowed, build)
	}
	writeJSON(w, http.StatusOK, allowed)
	return nil
}

func (s *server) getBuild(w http.ResponseWriter, _ *http.Request, _ *auth.Claims, build hubapi.Build) error {
	writeJSON(w, http.StatusOK, build)
	return nil
}

func (s *server) getExtended(w http.ResponseWriter, r *http.Request, _ *auth.Claims, build hubapi.Build) error {
	extended, err := s.catalog.ExtendedBuild(r.Context(), build.ID)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, extended)
	return nil
}

func (s *server) createBuildRef(w http.ResponseWriter, r *http.Request, claims *auth.Claims, build hubapi.Build) error {
	var request hubapi.CreateBuildRefRequest
	if err := readJSON(w, r, &request, jsonBody); err != nil {
		return err
	}
	ref, err := flatpak.ParseUploadRef(request.Ref)
	if err != nil {
		return problem(hubapi.ErrGeneric, "%s", err)
	}
	if _, err := ostree.ParseChecksum(request.Commit); err != nil {
		return problem(hubapi.ErrGeneric, "commit: %s", err)
	}
	if err := s.allowRef(r.Context(), claims, build, ref); err != nil {
		return err
	}
	created, err := s.by(claims).AddBuildRef(r.Context(), build.ID, request)
	if err != nil {
		return err
	}
	s.answerAt(w, hubapi.BuildPath(build.ID, "build_ref", strconv.FormatInt(created.ID, 10)), created)
	return nil
}

// allowRef checks that the claims grant the branch of a ref and the id that it
// belongs to.
// Screenshots have none in their ref; they belong to the build's application,
// or to the one application of the same architecture that the build already
// has.
func (s *server) allowRef(ctx context.Context, claims *auth.Claims, build hubapi.Build, ref flatpak.Ref) error {
	if ref.Kind != flatpak.Screenshots {
		return tokenProblem(cmp.Or(claims.AllowBranch(ref.Branch), claims.AllowID(ref.ID)))
	}
	if build.AppID != nil {
		return tokenProblem(claims.AllowID(*build.AppID))
	}
	refs, err := s.catalog.BuildRefs(ctx, build.ID)
	if err != nil {
		return err
	}
	var apps []string
	for _, other := range refs {
		if parsed, err := flatpak.ParseRef(other.RefName); err == nil && parsed.Kind == flatpak.App && parsed.Arch == ref.Arch {
			apps = append(apps, parsed.ID)
		}
	}
	if len(apps) == 1 {
		return tokenProblem(claims.AllowID(apps[0]))
	}
	return tokenProblem(claims.AllowEveryID())
}

func (s *server) getBuildRef(w http.ResponseWriter, r *http.Request, _ *auth.Claims, build hubapi.Build) error {
	id, err := pathID(r, "ref", "ref")
	if err != nil {
		return err
	}
	ref, err := s.catalog.BuildRef(r.Context(), build.ID, id)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, ref)
	return nil
}

// maxExtraIDs bounds the ids of one build.
const maxExtraIDs = 1000

// extraIDPattern is the form of the ids that add_extra_ids takes. They become
// the last part of collection ids.
var extraIDPattern = regexp.MustCompile(`^[A-Za-z0-9_]{1,100}(\.[A-Za-z0-9_]{1,100}){0,9}$`)

func (s *server) addExtraIDs(w http.ResponseWriter, r *http.Request, claims *auth.Claims, build hubapi.Build) error {
	var request hubapi.AddExtraIDsRequest
	if err := readJSON(w, r, &request, jsonBody); err != nil {
		return err
	}
	if len(request.IDs)+len(build.ExtraIDs) > maxExtraIDs {
		return problem(hubapi.ErrTooLarge, "a build has at most %d extra ids", maxExtraIDs)
	}
	for _, id := range request.IDs {
		if !extraIDPattern.MatchString(id) {
			return problem(hubapi.ErrGeneric, "%q is no id: want letters, digits and dots", id)
		}
		if err := claims.AllowID(id); err != nil {
			return tokenProblem(err)
		}
	}
	changed, err := s.by(claims).AddExtraIDs(r.Context(), build.ID, request.IDs)
	if err != nil {
		return err
	}
	s.answerAt(w, hubapi.BuildPath(build.ID), changed)
	return nil
}

// missingObjects tells which objects must be uploaded.
func (s *server) missingObjects(w http.ResponseWriter, r *http.Request, _ *auth.Claims, build hubapi.Build) error {
	var request hubapi.MissingObjectsRequest
	if err := readJSON(w, r, &request, int64(s.cfg.Limits.JSONBody)); err != nil {
		return err
	}
	wanted := make([]ostree.ObjectName, len(request.Wanted))
	for i, text := range request.Wanted {
		name, err := ostree.ParseObjectName(text)
		if err != nil {
			return problem(hubapi.ErrGeneric, "%s", err)
		}
		wanted[i] = name
	}
	files, err := s.openBuild(r.Context(), build)
	if err != nil {
		return err
	}
	names, err := files.Missing(r.Context(), wanted)
	if err != nil {
		return s.explain(r.Context(), build, err)
	}
	missing := make([]string, len(names))
	for i, name := range names {
		missing[i] = name.String()
	}
	writeJSON(w, http.StatusOK, hubapi.MissingObjectsResponse{Missing: missing})
	return nil
}

// uploadObjects takes objects and static deltas into a build.
func (s *server) uploadObjects(w http.ResponseWriter, r *http.Request, _ *auth.Claims, build hubapi.Build) error {
	files, err := s.openBuild(r.Context(), build)
	if err != nil {
		return err
	}
	sizes, err := s.receive(w, r, putObject(files))
	if err != nil {
		return s.explain(r.Context(), build, err)
	}
	writeJSON(w, http.StatusOK, sizes)
	return nil
}

// openBuild opens the files of a build that takes uploads.
func (s *server) openBuild(ctx context.Context, build hubapi.Build) (*repository.Build, error) {
	if err := s.catalog.RequireUploading(ctx, build.ID); err != nil {
		return nil, err
	}
	repo, exists := s.repos[build.Repo]
	if !exists {
		return nil, notFound("repository", strconv.Quote(build.Repo))
	}
	files, err := s.openFiles(ctx, repo, build.ID)
	if err != nil {
		return nil, s.explain(ctx, build, err)
	}
	return files, nil
}

// openFiles opens the folder of a build, unless its files are not needed any
// more: then the error is that of a file that does not exist. Since opening
// makes the folder anew when it is gone, what became of the build is looked at
// afterwards, when whoever removes it either finds the new folder or was here
// before.
func (s *server) openFiles(ctx context.Context, repo *repository.Repository, id int64) (*repository.Build, error) {
	files, err := repo.Build(id)
	if err != nil {
		return nil, err
	}
	now, err := s.catalog.Build(ctx, id)
	if err != nil {
		return nil, err
	}
	if filesGone(now) {
		return nil, errors.Join(fmt.Errorf("files of build %d: %w", id, fs.ErrNotExist), s.removeBuild(ctx, now))
	}
	return files, nil
}

// filesGone reports whether the files of a build are, or soon will be, gone.
func filesGone(build hubapi.Build) bool {
	return build.RepoState == hubapi.RepoPurging || build.RepoState == hubapi.RepoPurged || build.PublishedState == hubapi.Published
}

// explain turns the error of a build whose files went away meanwhile into what
// became of the build.
func (s *server) explain(ctx context.Context, build hubapi.Build, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, repository.ErrLateUpload) {
		return errors.Join(s.catalog.RequireUploading(ctx, build.ID), err)
	}
	return err
}

// answerAt is a success that names where its object is.
func (s *server) answerAt(w http.ResponseWriter, path string, v any) {
	w.Header().Set("Location", s.base+path)
	writeJSON(w, http.StatusOK, v)
}

// putObject stores the parts of an upload into a build.
func putObject(files *repository.Build) put {
	return func(ctx context.Context, name string, content *partContent) (int64, error) {
		upload, err := ostree.ParseUploadName(name)
		if err != nil {
			return 0, refuse("%s", err)
		}
		var stored int64
		if upload.Delta != nil {
			stored, err = files.PutDelta(ctx, *upload.Delta, content)
		} else {
			stored, err = files.PutObject(ctx, upload.Object, content)
		}
		if badObject(err) {
			return 0, refuse("%s", ostree.Reason(err))
		}
		return stored, err
	}
}

// badObject reports whether the bytes of an object are at fault.
func badObject(err error) bool {
	_, mismatch := errors.AsType[*ostree.MismatchError](err)
	return mismatch || errors.Is(err, ostree.ErrMalformed) || errors.Is(err, ostree.ErrTooLarge) || errors.Is(err, ostree.ErrName) || errors.Is(err, ostree.ErrUnsupported)
}

func nonEmpty(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
