package hub

import (
	"html/template"
	"net/http"
	"strings"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/auth"
	"freshet/internal/hub/catalog"
)

// jobInfo is what /status/{id} tells of a job. The log and what came of it are
// there when the build is public, or the token may see the job.
type jobInfo struct {
	ID       int64      `json:"id"`
	Kind     string     `json:"kind"`
	Status   string     `json:"status"`
	Repo     string     `json:"repo"`
	Created  time.Time  `json:"created"`
	Started  *time.Time `json:"started,omitempty"`
	Ended    *time.Time `json:"ended,omitempty"`
	WaitsFor string     `json:"waits_for,omitempty"`
	Results  string     `json:"results,omitempty"`
	Log      string     `json:"log,omitempty"`
}

// jobPage is /status/{id} for people.
var jobPage = template.Must(template.New("job").Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Job {{.ID}}</title>
<style>body{font-family:sans-serif;margin:2em auto;max-width:70em}td,th{text-align:left;padding:.2em 1em .2em 0}pre{white-space:pre-wrap}</style></head><body>
<h1>Job {{.ID}}: {{.Kind}}</h1>
<table><tr><th>Repository<td>{{.Repo}}</tr><tr><th>Status<td>{{.Status}}{{with .WaitsFor}}, waits for {{.}}{{end}}</tr>
<tr><th>Created<td>{{.Created.Format "2006-01-02 15:04:05 UTC"}}</tr>
{{with .Started}}<tr><th>Started<td>{{.Format "2006-01-02 15:04:05 UTC"}}</tr>{{end}}
{{with .Ended}}<tr><th>Ended<td>{{.Format "2006-01-02 15:04:05 UTC"}}</tr>{{end}}</table>
{{with .Results}}<h2>Results</h2><pre>{{.}}</pre>{{end}}
{{with .Log}}<h2>Log</h2><pre>{{.}}</pre>{{end}}
<p><a href="/status">All jobs</a></p>
</body></html>
`))

// statusJob shows a job, as JSON or as a page.
func (s *server) statusJob(w http.ResponseWriter, r *http.Request) error {
	id, err := pathID(r, "id", "job")
	if err != nil {
		return err
	}
	job, err := s.catalog.Job(r.Context(), id)
	if err != nil {
		return err
	}
	info := jobInfo{
		ID: job.ID, Kind: job.Kind.String(), Status: job.Status.String(), Repo: job.Repo,
		Created: job.Created, Started: whenSet(job.Started), Ended: whenSet(job.Ended),
	}
	shown, err := s.jobFrom(r.Context(), id, 0)
	if err != nil {
		return err
	}
	info.WaitsFor = shown.WaitsFor
	open, err := s.isOpen(r, job)
	if err != nil {
		return err
	}
	if open {
		info.Log, info.Results = shown.Log, job.Results
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Vary", "Accept, Authorization")
	if strings.Contains(r.Header.Get("Accept"), "application/json") {
		writeJSON(w, http.StatusOK, info)
		return nil
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	return jobPage.Execute(w, info)
}

// isOpen reports whether the one who asks may see what a job says.
func (s *server) isOpen(r *http.Request, job *catalog.Job) (bool, error) {
	if r.Header.Get("Authorization") != "" {
		claims, err := s.authenticate(r)
		if err == nil {
			err = allow(claims, "build", []auth.Scope{auth.ScopeJobs})
		}
		if err == nil {
			err = s.allowJob(r.Context(), claims, job)
		}
		return err == nil, err
	}
	if job.Build == 0 {
		return false, nil
	}
	build, err := s.catalog.Build(r.Context(), job.Build)
	return build.PublicDownload && build.RepoState != hubapi.RepoPurged, err
}

// whenSet is nil for the zero time.
func whenSet(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
