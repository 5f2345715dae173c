package hub

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/auth"
	"freshet/internal/keyfile"
	"freshet/internal/layout"
)

// serveRepo serves the files of a published repository.
func (s *server) serveRepo(w http.ResponseWriter, r *http.Request) error {
	repo, exists := s.repos[r.PathValue("name")]
	if !exists || !validPath(r.PathValue("path")) {
		return missingFile(w, r)
	}
	if err := s.passGate(w, r, r.PathValue("name")); err != nil {
		return err
	}
	f, err := repo.OpenFile(r.PathValue("path"))
	if errors.Is(err, fs.ErrNotExist) && repo.Quarantined(r.PathValue("path")) {
		return quarantined(w, r)
	}
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
	if !build.PublicDownload && !s.makesDeltas(r, build.Repo, build.ID) {
		if err := s.allowDownload(r, build); err != nil {
			return err
		}
	}
	repo, exists := s.repos[build.Repo]
	if !exists || filesGone(build) || !validPath(r.PathValue("path")) {
		return missingFile(w, r)
	}
	files, err := s.openFiles(r.Context(), repo, build.ID)
	if err != nil {
		return fileError(w, r, err)
	}
	f, err := files.Open(r.Context(), r.PathValue("path"))
	if err != nil {
		return fileError(w, r, err)
	}
	if r.PathValue("path") == "config" {
		return serveConfig(w, r, f)
	}
	return serveOpened(w, r, f)
}

// maxConfig bounds, in bytes, the configuration of a build's repository.
const maxConfig = 64 << 10

// serveConfig serves the configuration of a build's repository without the
// path of its parent, which is the hub's own affair, and closes it.
func serveConfig(w http.ResponseWriter, r *http.Request, f fs.File) error {
	data, err := io.ReadAll(io.LimitReader(f, maxConfig))
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("read config: %w", err)
	}
	config, err := keyfile.Parse(data)
	if err != nil {
		return fmt.Errorf("read config: %w", err)
	}
	config.Delete("core", "parent")
	w.Header().Set("Content-Type", layout.MediaType("config"))
	w.Header().Set("X-Content-Type-Options", "nosniff")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(config.Bytes()))
	return nil
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
