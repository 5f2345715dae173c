package console

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/auth"
	"freshet/internal/hub/catalog"
	"freshet/internal/hub/rights"
	"freshet/internal/page"
)

const (
	// logShown is how much of the end of a log a page shows.
	logShown = 64 << 10
	// follows is after how many seconds a page that follows a job loads anew.
	follows = 3
	// queued bounds the jobs of the queue that are shown.
	queued = 200
)

// jobRow is a job in a list.
type jobRow struct {
	*catalog.Job
	Link  page.Link
	Kind  string
	State page.Badge
	About page.Link
	// Took is how long it ran; zero until it has ended.
	Took  time.Duration
	Waits string
}

func jobRowOf(job *catalog.Job, waits string) jobRow {
	row := jobRow{
		Job: job, Link: page.Link{Href: jobHref(job.ID), Text: fmt.Sprintf("Job %d", job.ID)},
		Kind: kindWords(job.Kind), State: jobBadge(job.Status, waits), Waits: waits,
	}
	if job.Build > 0 {
		row.About = page.Link{Href: buildHref(job.Build), Text: fmt.Sprintf("Build %d", job.Build)}
	}
	if !job.Ended.IsZero() && !job.Started.IsZero() {
		row.Took = job.Ended.Sub(job.Started)
	}
	return row
}

// kindWords says what a job does.
func kindWords(kind hubapi.JobKind) string {
	switch kind {
	case hubapi.JobCommit:
		return "Commit"
	case hubapi.JobPublish:
		return "Publish"
	case hubapi.JobUpdateRepo:
		return "Update of the summary"
	case hubapi.JobRepublish:
		return "Republish"
	case hubapi.JobCheck:
		return "Check"
	case hubapi.JobPrune:
		return "Prune"
	case hubapi.JobRollback:
		return "Rollback"
	case hubapi.JobUnpublish:
		return "Unpublish"
	case hubapi.JobDeltas:
		return "Static deltas"
	case hubapi.JobBuildDeltas:
		return "Deltas before the publish"
	}
	return kind.String()
}

// queueData is what the queue's page shows.
type queueData struct {
	Commits string // what they wait for
	Repos   []queueRepo
	Jobs    []jobRow
	// More says that there are more than shown, Hidden how many are of others.
	More   bool
	Hidden int
}

type queueRepo struct {
	Repo
	Waits           string
	Running, Queued int64
}

func (c *Console) queue(w http.ResponseWriter, r *http.Request, v *visitor) error {
	claims, err := v.grant("build", auth.ScopeJobs)
	if err != nil {
		return err
	}
	data := queueData{Commits: c.Hub.CommitsWait()}
	if data.Repos, err = c.queueRepos(r.Context(), claims); err != nil {
		return err
	}
	if data.Jobs, data.Hidden, data.More, err = c.queuedJobs(r.Context(), claims, queued); err != nil {
		return err
	}
	if r.URL.Query().Get("follow") != "" {
		v.refresh = follows
	}
	return c.show(w, v, "queue", "Queue", "Queue", data)
}

func (c *Console) queueRepos(ctx context.Context, claims *auth.Claims) ([]queueRepo, error) {
	counts, err := c.Catalog.JobCounts(ctx)
	if err != nil {
		return nil, err
	}
	var all []queueRepo
	for _, repo := range c.reposOf(claims) {
		q := queueRepo{Repo: repo, Waits: c.Hub.Waiting(repo.Name)}
		for _, n := range counts {
			switch {
			case n.Repo != repo.Name:
			case n.Status == hubapi.JobStarted:
				q.Running += n.Count
			default:
				q.Queued += n.Count
			}
		}
		all = append(all, q)
	}
	return all, nil
}

// queuedJobs are the jobs under way and queued that the claims grant, those under
// way first and then the newest, and how many were left out.
func (c *Console) queuedJobs(ctx context.Context, claims *auth.Claims, most int) (rows []jobRow, hidden int, more bool, err error) {
	for _, status := range [...]hubapi.JobStatus{hubapi.JobStarted, hubapi.JobNew} {
		jobs, next, err := c.Catalog.JobPage(ctx, catalog.JobListing{Statuses: []hubapi.JobStatus{status}}, 0, most-len(rows))
		if err != nil {
			return nil, 0, false, err
		}
		more = more || next != 0
		for _, job := range jobs {
			if err := c.Hub.AllowJob(ctx, claims, job); rights.Refused(err) {
				hidden++
				continue
			} else if err != nil {
				return nil, 0, false, err
			}
			waits := ""
			if status == hubapi.JobNew {
				shown, err := c.Hub.Job(ctx, job.ID)
				if err != nil {
					return nil, 0, false, err
				}
				waits = shown.WaitsFor
			}
			rows = append(rows, jobRowOf(job, waits))
		}
	}
	return rows, hidden, more, nil
}

// jobsData is what the list of all jobs shows.
type jobsData struct {
	Repos, Kinds, Statuses []page.Option
	Filtered               bool
	Rows                   []jobRow
	Pager                  page.Pager
}

func (c *Console) jobs(w http.ResponseWriter, r *http.Request, v *visitor) error {
	claims, err := v.grant("build", auth.ScopeJobs)
	if err != nil {
		return err
	}
	from, err := before(r)
	if err != nil {
		return err
	}
	query := r.URL.Query()
	repo, kind, status := query.Get("repo"), query.Get("kind"), query.Get("status")
	listing := catalog.JobListing{Repo: repo}
	data := jobsData{Repos: repoOptions(c.reposOf(claims), repo, true), Filtered: repo+kind+status != ""}
	data.Kinds, data.Statuses = []page.Option{{Text: "All"}}, choose(status, "", "All", "started", "Running", "new", "Queued", "ended", "Done", "broken", "Failed")
	for k := hubapi.JobCommit; k <= hubapi.JobBuildDeltas; k++ {
		data.Kinds = append(data.Kinds, page.Option{Value: k.String(), Text: kindWords(k), Chosen: k.String() == kind})
		if k.String() == kind {
			listing.Kinds = []hubapi.JobKind{k}
		}
	}
	for s := hubapi.JobNew; s <= hubapi.JobBroken; s++ {
		if s.String() == status {
			listing.Statuses = []hubapi.JobStatus{s}
		}
	}
	jobs, next, err := c.Catalog.JobPage(r.Context(), listing, from, perPage)
	if err != nil {
		return err
	}
	for _, job := range jobs {
		if err := c.Hub.AllowJob(r.Context(), claims, job); rights.Refused(err) {
			continue
		} else if err != nil {
			return err
		}
		data.Rows = append(data.Rows, jobRowOf(job, ""))
	}
	data.Pager = pagerOf(r, "before", keyOf(next))
	return c.show(w, v, "jobs", "Queue", "All jobs", data)
}

// jobData is what a job's page shows.
type jobData struct {
	jobRow
	Results string
	Failure string
	Log     logData
	// Follow turns loading anew on or off; empty for a job that has ended.
	Follow    page.Link
	Attempts  int64
	Published page.Link
}

func (c *Console) job(w http.ResponseWriter, r *http.Request, v *visitor) error {
	job, err := c.jobOf(r, v)
	if err != nil {
		return err
	}
	shown, err := c.Hub.Job(r.Context(), job.ID)
	if err != nil {
		return err
	}
	data := jobData{jobRow: jobRowOf(job, shown.WaitsFor), Attempts: job.Attempt}
	data.Results, data.Failure = results(job)
	data.Log = endOfLog(job.ID, shown.Log, job.Status)
	if data.Log.Ongoing {
		data.Follow = page.Link{Href: jobHref(job.ID) + "?follow=1", Text: "Follow: load this page every few seconds"}
		if r.URL.Query().Get("follow") != "" {
			v.refresh = follows
			data.Follow = page.Link{Href: jobHref(job.ID), Text: "Stop following"}
		}
	}
	return c.show(w, v, "job", "Queue", fmt.Sprintf("Job %d", job.ID), data)
}

// jobOf returns the job of the path, which the visitor may see.
func (c *Console) jobOf(r *http.Request, v *visitor) (*catalog.Job, error) {
	id, err := number(r, "id", "job")
	if err != nil {
		return nil, err
	}
	claims, err := v.grant("build", auth.ScopeJobs)
	if err != nil {
		return nil, err
	}
	job, err := c.Catalog.Job(r.Context(), id)
	if err != nil {
		return nil, err
	}
	return job, c.Hub.AllowJob(r.Context(), claims, job)
}

// jobLog answers with the whole log as plain text.
func (c *Console) jobLog(w http.ResponseWriter, r *http.Request, v *visitor) error {
	job, err := c.jobOf(r, v)
	if err != nil {
		return err
	}
	shown, err := c.Hub.Job(r.Context(), job.ID)
	if err != nil {
		return err
	}
	page.Protect(w.Header())
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write([]byte(shown.Log))
	return nil
}

// logOf is the end of a job's log.
func (c *Console) logOf(ctx context.Context, id int64) (logData, error) {
	job, err := c.Hub.Job(ctx, id)
	if err != nil {
		return logData{}, err
	}
	return endOfLog(id, job.Log, job.Status), nil
}

func endOfLog(id int64, log string, status hubapi.JobStatus) logData {
	data := logData{
		Job:  page.Link{Href: jobHref(id), Text: "job " + strconv.FormatInt(id, 10)},
		Text: strings.TrimRight(log, "\n"), Ongoing: status == hubapi.JobNew || status == hubapi.JobStarted,
	}
	if len(log) > logShown {
		data.Whole = jobHref(id) + "/log"
		data.Text = data.Text[len(data.Text)-min(logShown, len(data.Text)):]
		if _, rest, found := strings.Cut(data.Text, "\n"); found {
			data.Text = rest // whole lines
		}
		data.Text = strings.ToValidUTF8(data.Text, "")
	}
	return data
}

// results are those of a job as they are shown: indented, or the reason why it
// failed.
func results(job *catalog.Job) (text, failure string) {
	if job.Results == "" {
		return "", ""
	}
	var failed hubapi.FailureResults
	if job.Status == hubapi.JobBroken && json.Unmarshal([]byte(job.Results), &failed) == nil && failed.ErrorMessage != "" {
		return "", failed.ErrorMessage
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, []byte(job.Results), "", "  "); err != nil {
		return job.Results, ""
	}
	const most = 64 << 10
	if indented.Len() > most {
		return indented.String()[:most] + "\n…", ""
	}
	return indented.String(), ""
}
