package serve

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"

	"freshet/internal/mirror/generation"
)

// Holding is what the mirror has of a project, for the first page and for programs.
type Holding struct {
	Project string `json:"project"`
	// Generation is the name of the current generation; empty: nothing is here yet.
	Generation string    `json:"generation,omitempty"`
	Switched   time.Time `json:"switched,omitzero"`
	Files      int64     `json:"files"`
	Bytes      int64     `json:"bytes"`
	// Repositories are the versions of the repositories in it.
	Repositories []generation.Repository `json:"repositories,omitempty"`
}

// Href leads to the project.
func (h Holding) Href() string { return "./" + url.PathEscape(h.Project) + "/" }

// Holdings are what the mirror has, by name.
func (s *Site) Holdings() []Holding {
	projects := *s.projects.Load()
	list := []Holding{}
	for _, name := range slices.Sorted(maps.Keys(projects)) {
		h := Holding{Project: name}
		if g := projects[name].Current(); g != nil {
			info := g.Info()
			h.Generation, h.Switched, h.Files, h.Bytes = info.Name(), info.Switched, info.Files, info.Bytes
			h.Repositories = info.Repositories
		}
		list = append(list, h)
	}
	return list
}

// home answers with the list of the projects.
func (s *Site) home(w http.ResponseWriter, r *http.Request, status string) {
	w.Header().Set("Cache-Control", "no-cache")
	if s.told() == nil {
		status = ""
	}
	s.render(w, r, "home", "Mirror", struct {
		Holdings []Holding
		Status   string
	}{s.Holdings(), status})
}
