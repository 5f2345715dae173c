package hub

import (
	"html/template"
	"maps"
	"net/http"
	"slices"
	"strings"

	"freshet/internal/hub/catalog"
)

// statusInfo is what /status tells to everybody. Queued and running jobs are
// no secret; what they work on is.
type statusInfo struct {
	Repos []repoStatus `json:"repos"`
	Trees []treeStatus `json:"trees"`
	Head  int64        `json:"head"` // newest event
	Jobs  []jobStatus  `json:"jobs"`
	// CommitsWaitFor is what all commits wait for, see [hubapi.Job].
	CommitsWaitFor string `json:"commits_wait_for,omitempty"`
	// WaitsFor is what the whole hub waits for: the database.
	WaitsFor string `json:"waits_for,omitempty"`
	// Hub is the name of this hub among those that share the directory, and
	// Publishing that of the one that publishes, "" while one takes over.
	Hub        string `json:"hub,omitempty"`
	Publishing string `json:"publishing,omitempty"`
}

type repoStatus struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	URL   string `json:"url"`
	Refs  int    `json:"refs"`
	// WaitsFor is what its publishes wait for, see [hubapi.Job].
	WaitsFor string `json:"waits_for,omitempty"`
	// Held is "hold" or "freeze" while nothing of it is published.
	Held string `json:"held,omitempty"`
}

type treeStatus struct {
	Name       string `json:"name"`
	Generation int64  `json:"generation"`
	Held       string `json:"held,omitempty"` // as in repoStatus
}

type jobStatus struct {
	Kind   string `json:"kind"`
	Repo   string `json:"repo"`
	Status string `json:"status"`
	Count  int64  `json:"count"`
}

// statusPage is /status for people.
var statusPage = template.Must(template.New("status").Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Freshet hub</title>
<style>body{font-family:sans-serif;margin:2em auto;max-width:50em}td,th{text-align:left;padding:.2em 1em .2em 0}</style></head><body>
<h1>Freshet hub</h1>
<h2>Repositories</h2>
<table><tr><th>Name<th>Title<th>Refs<th>Add with<th>Waits for<th>Held</tr>
{{range .Repos}}<tr><td>{{.Name}}<td>{{.Title}}<td>{{.Refs}}<td><a href="{{.URL}}{{.Name}}.flatpakrepo">{{.Name}}.flatpakrepo</a><td>{{.WaitsFor}}<td>{{.Held}}</tr>
{{end}}</table>
{{with .Trees}}<h2>Trees</h2>
<table><tr><th>Name<th>Generation<th>Held</tr>
{{range .}}<tr><td>{{.Name}}<td>{{.Generation}}<td>{{.Held}}</tr>
{{end}}</table>
{{end}}<h2>Jobs</h2>
{{if .Jobs}}<table><tr><th>Kind<th>Repository<th>Status<th>Count</tr>
{{range .Jobs}}<tr><td>{{.Kind}}<td>{{.Repo}}<td>{{.Status}}<td>{{.Count}}</tr>
{{end}}</table>{{else}}<p>Nothing to do.</p>{{end}}
{{with .CommitsWaitFor}}<p>Commits wait for {{.}}</p>
{{end}}{{with .WaitsFor}}<p>The hub waits for {{.}}</p>
{{end}}{{if .Hub}}<p>This is hub {{.Hub}}; {{with .Publishing}}hub {{.}} publishes{{else}}none publishes now{{end}}.</p>
{{end}}<p>Newest event: {{.Head}}</p>
</body></html>
`))

// status shows the hub at a glance, as JSON or as a page.
func (s *server) status(w http.ResponseWriter, r *http.Request) error {
	info, err := s.statusInfo(r)
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Vary", "Accept")
	if strings.Contains(r.Header.Get("Accept"), "application/json") {
		writeJSON(w, http.StatusOK, info)
		return nil
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	return statusPage.Execute(w, info)
}

// statusInfo shows what is known, also while the database is away.
func (s *server) statusInfo(r *http.Request) (statusInfo, error) {
	info, err := s.readStatus(r)
	if catalog.Away(err) {
		info.WaitsFor, err = waitsForDatabase+": "+reason(err), nil
	}
	return info, err
}

func (s *server) readStatus(r *http.Request) (statusInfo, error) {
	info := statusInfo{Repos: []repoStatus{}, Trees: []treeStatus{}, Jobs: []jobStatus{}, CommitsWaitFor: s.commits.waiting()}
	if s.cfg.isShared() {
		info.Hub = s.cfg.Shared.Instance
		if now := s.fleet.leader.Load(); now != nil {
			info.Publishing = now.name
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.repos)) {
		held, err := s.heldHow(r.Context(), name)
		if err != nil {
			return info, err
		}
		info.Repos = append(info.Repos, repoStatus{
			Name: name, Title: s.cfg.Repos[name].Title, URL: s.repoURL(name), Refs: s.repos[name].Heads(), WaitsFor: s.waiting(name), Held: held,
		})
	}
	var names []string
	trees := s.treesNow()
	if trees != nil {
		names = trees.Names()
	}
	for _, name := range names {
		held, err := s.heldHow(r.Context(), name)
		if err != nil {
			return info, err
		}
		tree, err := trees.Info(name)
		if err != nil {
			return info, err
		}
		info.Trees = append(info.Trees, treeStatus{name, tree.Current, held})
	}
	var err error
	if info.Head, err = s.catalog.Head(r.Context()); err != nil {
		return info, err
	}
	var counts []catalog.JobCount
	if counts, err = s.catalog.JobCounts(r.Context()); err != nil {
		return info, err
	}
	for _, c := range counts {
		info.Jobs = append(info.Jobs, jobStatus{c.Kind.String(), c.Repo, c.Status.String(), c.Count})
	}
	return info, nil
}
