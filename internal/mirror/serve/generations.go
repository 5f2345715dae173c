package serve

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"time"

	"freshet/api/mirrorapi"
	"freshet/internal/layout"
	"freshet/internal/mirror/generation"
	"freshet/internal/role"
)

// maxWaiting is how many answers are held back at once; others come at once, and who asks
// then waits a little himself.
const maxWaiting = 1024

// generations answers mirrors downstream, who follow a project and fetch whole generations
// of it: name is "PROJECT", or "PROJECT/GENERATION/" and "manifest", "delta/GENERATION" or
// "tree/PATH".
func (s *Site) generations(w http.ResponseWriter, r *http.Request, name string) {
	project, rest, _ := strings.Cut(name, "/")
	p := (*s.projects.Load())[project]
	switch {
	case p == nil:
		s.fail(w, r, http.StatusNotFound, NoProject, "This mirror has no project of that name.")
		return
	case p.Current() == nil:
		s.empty(w, r, p)
		return
	}
	if rec := role.RecordOf(r); rec != nil {
		rec.Site = project
	}
	if rest == "" {
		s.head(w, r, p)
		return
	}
	named, what, _ := strings.Cut(rest, "/")
	all := p.Generations()
	g := oneNamed(all, named)
	if g == nil {
		s.gone(w, r)
		return
	}
	if path, ok := strings.CutPrefix(what, "tree/"); ok {
		s.pinned(w, r, g, path)
		return
	}
	if base, ok := strings.CutPrefix(what, "delta/"); ok {
		s.delta(w, r, oneNamed(all, base), g)
		return
	}
	if what == "manifest" {
		s.manifest(w, r, g)
		return
	}
	s.fail(w, r, http.StatusNotFound, NotFound, "There is nothing here.")
}

// oneNamed is the generation of that name; nil: there is none.
func oneNamed(all []*generation.Generation, name string) *generation.Generation {
	i := slices.IndexFunc(all, func(g *generation.Generation) bool { return g.Info().Name() == name })
	if i < 0 {
		return nil
	}
	return all[i]
}

func (s *Site) gone(w http.ResponseWriter, r *http.Request) {
	s.fail(w, r, http.StatusGone, GenerationGone, "This mirror has that generation not any more.")
}

// head answers with the generation that is served, perhaps when it is another one than
// the client knows.
func (s *Site) head(w http.ResponseWriter, r *http.Request, p *generation.Project) {
	query := r.URL.Query()
	wait, _ := time.ParseDuration(query.Get("wait")) // or at once
	if wait = min(wait, mirrorapi.MaxHeadWait); wait > 0 {
		s.await(r, p, query.Get("after"), wait)
	}
	g := p.Current()
	if g == nil { // it was taken off the disk meanwhile
		s.empty(w, r, p)
		return
	}
	info := g.Info()
	body, err := json.Marshal(mirrorapi.Head{
		Project: p.Name(), Generation: info.Name(), Manifest: info.Manifest, Switched: info.Switched,
		Files: info.Files, Links: info.Links, Bytes: info.Bytes, Stamps: info.Stamps,
	})
	if err != nil {
		s.failOpen(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(append(body, '\n')) // the client has left, or has it
}

// await waits until the generation that is served is another one than that named after.
func (s *Site) await(r *http.Request, p *generation.Project, after string, wait time.Duration) {
	select {
	case s.waiting <- struct{}{}:
		defer func() { <-s.waiting }()
	default:
		return
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		changed := p.Changed()
		if g := p.Current(); g == nil || g.Info().Name() != after {
			return
		}
		select {
		case <-changed:
		case <-timer.C:
			return
		case <-r.Context().Done():
			return
		case <-s.closing:
			return
		}
	}
}

// forever is for what is named by the generation that it is of.
const forever = "public, max-age=31536000, immutable"

func (s *Site) manifest(w http.ResponseWriter, r *http.Request, g *generation.Generation) {
	f, err := g.OpenManifest()
	if err != nil {
		s.gone(w, r) // it ended meanwhile
		return
	}
	defer f.Close() //nolint:errcheck // opened for reading
	h := w.Header()
	h.Set("Content-Type", "application/zstd")
	h.Set("Etag", `"`+g.Info().Manifest+`"`)
	h.Set("Cache-Control", forever)
	http.ServeContent(w, r, "", time.Time{}, f)
}

// pinned answers with a file of one generation.
func (s *Site) pinned(w http.ResponseWriter, r *http.Request, g *generation.Generation, path string) {
	f, err := g.Open(path)
	if errors.Is(err, fs.ErrClosed) {
		s.gone(w, r) // it ended meanwhile
		return
	}
	if err != nil {
		s.failOpen(w, r, err)
		return
	}
	defer f.Close() //nolint:errcheck // opened for reading
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		s.failOpen(w, r, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", layout.MediaType("/"+path))
	h.Set("Last-Modified", info.ModTime().UTC().Format(http.TimeFormat))
	h.Set("Etag", tagOf(info.Size(), info.ModTime()))
	h.Set("X-Content-Type-Options", "nosniff")
	if slices.Contains(g.Info().Stamps, path) {
		h.Set("Cache-Control", "no-cache")
	} else {
		h.Set("Cache-Control", forever)
	}
	http.ServeContent(w, r, "", info.ModTime(), f)
}
