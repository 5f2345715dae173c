package hub

import (
	"net/http"
	"strconv"

	"freshet/api/hubapi"
	"freshet/internal/auth"
)

// serveRepo serves the files of a published repository.
func (s *server) serveRepo(w http.ResponseWriter, r *http.Request) error {
	repo, exists := s.repos[r.PathValue("name")]
	if !exists || !validPath(r.PathValue("path")) {
		return missingFile(w, r)
	}
	f, err := repo.OpenFile(r.PathValue("path"))
	if err != nil {
		return fileError(w, r, err)
	}
	return serveOpened(w, r, f)
}

// serveBuildRepo serves the repository of a build for testing: to everybody if
// the build is public, else to tokens that may download it. What is in it may
// change until the build is published, so no cache keeps it.
func (s *server) serveBuildRepo(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Cache-Control", "no-store")
	build, err := s.buildOf(r)
	if err != nil {
		return err
	}
	if !build.PublicDownload {
		if err := s.allowDownload(r, build); err != nil {
			return err
		}
	}
	repo, exists := s.repos[build.Repo]
	if !exists || build.RepoState == hubapi.RepoPurging || build.RepoState == hubapi.RepoPurged ||
		build.PublishedState == hubapi.Published || !validPath(r.PathValue("path")) {
		return missingFile(w, r)
	}
	files, err := repo.Build(build.ID)
	if err != nil {
		return err
	}
	f, err := files.Open(r.PathValue("path"))
	if err != nil {
		return fileError(w, r, err)
	}
	return serveOpened(w, r, f)
}

func (s *server) allowDownload(r *http.Request, build hubapi.Build) error {
	claims, err := s.authenticate(r)
	if err != nil {
		return err
	}
	if err := allow(claims, "build/"+strconv.FormatInt(build.ID, 10), []auth.Scope{auth.ScopeDownload}); err != nil {
		return err
	}
	return s.allowBuild(r.Context(), claims, build)
}
