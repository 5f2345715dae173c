package console

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/auth"
	"freshet/internal/flatpak"
	"freshet/internal/hub/catalog"
	"freshet/internal/hub/rights"
	"freshet/internal/page"
)

// buildRow is a build in a list.
type buildRow struct {
	hubapi.Build
	Link page.Link
	App  string
	// Brings are the ids in a build that names no application.
	Brings string
	Stage  page.Badge
	By     string
}

func rowOf(b hubapi.Build) buildRow {
	return buildRow{
		Build: b, Link: page.Link{Href: buildHref(b.ID), Text: fmt.Sprintf("Build %d", b.ID)}, App: deref(b.AppID),
		Stage: stageBadge(catalog.StageOf(b.RepoState, b.PublishedState)), By: deref(b.TokenName),
	}
}

// buildsData is what the list of builds shows.
type buildsData struct {
	Repos, Stages []page.Option
	App           string
	Filtered      bool
	Rows          []buildRow
	Pager         page.Pager
	// Limited says that the token is for some applications only.
	Limited bool
}

func (c *Console) builds(w http.ResponseWriter, r *http.Request, v *visitor) error {
	claims, err := v.grant("build", auth.ScopeBuild, auth.ScopeDownload)
	if err != nil {
		return err
	}
	from, err := before(r)
	if err != nil {
		return err
	}
	query := r.URL.Query()
	repo, stage, app := query.Get("repo"), query.Get("stage"), strings.TrimSpace(query.Get("app"))
	filter, err := c.filterOf(claims, repo, stage, app)
	if err != nil {
		return err
	}
	list, err := c.Catalog.BuildPage(r.Context(), filter, from, perPage)
	if err != nil {
		return err
	}
	data := buildsData{
		Repos: repoOptions(c.reposOf(claims), repo, true), App: app, Filtered: repo+stage+app != "", Limited: !seesAll(claims),
		Stages: choose(stage, "", "All", "open", "On their way", "failed", "Failed", "published", "Published", "purged", "Purged"),
		Pager:  pagerOf(r, "before", keyOf(list.Next)),
	}
	if data.Rows, err = c.allowed(r.Context(), claims, list.Builds); err != nil {
		return err
	}
	return c.show(w, v, "builds", "Builds", "Builds", data)
}

// allowed makes rows of the builds that the claims grant.
func (c *Console) allowed(ctx context.Context, claims *auth.Claims, builds []hubapi.Build) ([]buildRow, error) {
	var rows []buildRow
	var unnamed []int64
	for _, b := range builds {
		err := c.Hub.AllowBuild(ctx, claims, b)
		if err != nil && !rights.Refused(err) {
			return nil, err
		}
		if err == nil {
			rows = append(rows, rowOf(b))
			if b.AppID == nil {
				unnamed = append(unnamed, b.ID)
			}
		}
	}
	refs, err := c.Catalog.RefNames(ctx, unnamed)
	if err != nil {
		return nil, err
	}
	for i := range rows {
		rows[i].Brings = brings(refs[rows[i].ID])
	}
	return rows, nil
}

// brings says what a build has, by its refs: its application, or the first of
// several. An id that is below another of them goes with it.
func brings(refs []string) string {
	ids := map[flatpak.Kind][]string{}
	for _, ref := range refs {
		if parsed, err := flatpak.ParseRef(ref); err == nil && parsed.ID != "" {
			ids[parsed.Kind] = append(ids[parsed.Kind], parsed.ID)
		}
	}
	main := ids[flatpak.App]
	if len(main) == 0 {
		main = ids[flatpak.Runtime]
	}
	main = outermost(main, func(kept, id string) bool {
		rest, begins := strings.CutPrefix(id, kept)
		return begins && (rest == "" || rest[0] == '.')
	})
	switch len(main) {
	case 0:
		return ""
	case 1:
		return main[0]
	}
	return fmt.Sprintf("%s and %d more", main[0], len(main)-1)
}

// filterOf is the filter of what the claims grant and the form asks for.
func (c *Console) filterOf(claims *auth.Claims, repo, stage, app string) (f catalog.BuildFilter, err error) {
	switch {
	case repo != "":
		if claims.AllowRepo(repo) != nil {
			return f, refuse(hubapi.ErrInsufficient, http.StatusForbidden, "your token is not for the repository %q", repo)
		}
		f.Repos = []string{repo}
	case !slices.Contains(claims.Repos, ""):
		if f.Repos = claims.Repos; len(f.Repos) == 0 {
			return f, refuse(hubapi.ErrInsufficient, http.StatusForbidden, "your token is for no repository")
		}
	}
	switch stage {
	case "":
	case "open":
		f.Stages = catalog.OpenStages()
	default:
		f.Stages = []catalog.Stage{catalog.Stage(stage)}
		if !slices.Contains([]catalog.Stage{catalog.StageFailed, catalog.StagePublished, catalog.StagePurged}, f.Stages[0]) {
			return f, refuse(hubapi.ErrGeneric, http.StatusBadRequest, "%.40q is no state of builds", stage)
		}
	}
	f.Bring = app != ""
	switch {
	case !seesAll(claims):
		f.IDs = idsOf(claims, app)
		if app == "" {
			f.Token = claims.ID
		}
	case app != "":
		f.IDs = &catalog.IDs{Prefixes: []string{app}}
	}
	return f, nil
}

// idsOf are the ids that limited claims grant, as far as they begin with prefix.
func idsOf(claims *auth.Claims, prefix string) *catalog.IDs {
	ids := &catalog.IDs{}
	for _, app := range claims.Apps {
		if strings.HasPrefix(app, prefix) {
			ids.Apps = append(ids.Apps, app)
		}
	}
	for _, granted := range claims.Prefixes {
		switch {
		case strings.HasPrefix(granted, prefix):
			ids.Below = append(ids.Below, granted)
		case strings.HasPrefix(prefix, granted+"."):
			ids.Prefixes = append(ids.Prefixes, prefix)
		}
	}
	return ids
}

// buildData is what a build's page shows.
type buildData struct {
	buildRow
	Reason   string
	Refs     []refRow
	Checks   []checkRow
	Jobs     []jobRow
	Timeline *page.Timeline
	Log      logData
	Audit    []catalog.AuditEntry
	CanSee   bool // the jobs
}

type refRow struct {
	Link        page.Link
	Commit      string
	BuildLogURL string
}

type checkRow struct {
	hubapi.Check
	Badge   page.Badge
	Reason  string
	Results string
	Job     page.Link
}

// logData is the end of a job's log.
type logData struct {
	Job     page.Link
	Whole   string // where all of it is; "" when Text is all
	Text    string
	Ongoing bool
}

func (c *Console) build(w http.ResponseWriter, r *http.Request, v *visitor) error {
	id, err := number(r, "id", "build")
	if err != nil {
		return err
	}
	claims, err := v.grant(fmt.Sprintf("build/%d", id), auth.ScopeBuild, auth.ScopeUpload)
	if err != nil {
		return err
	}
	ctx := r.Context()
	all, err := c.Catalog.ExtendedBuild(ctx, id)
	if err != nil {
		return err
	}
	if err := c.Hub.AllowBuild(ctx, claims, all.Build); err != nil {
		return err
	}
	data := buildData{buildRow: rowOf(all.Build), Reason: deref(all.Build.RepoStateReason)}
	if data.Reason == "" {
		data.Reason = deref(all.Build.PublishedStateReason)
	}
	if data.App == "" {
		names := make([]string, len(all.BuildRefs))
		for i, ref := range all.BuildRefs {
			names[i] = ref.RefName
		}
		data.Brings = brings(names)
	}
	published := c.Hub.Refs(all.Build.Repo)
	for _, ref := range all.BuildRefs {
		row := refRow{Link: page.Link{Text: ref.RefName}, Commit: ref.Commit, BuildLogURL: webURL(deref(ref.BuildLogURL))}
		if published != nil {
			if _, there := published.Get(ref.RefName); there {
				row.Link.Href = refHref(all.Build.Repo, ref.RefName)
			}
		}
		data.Refs = append(data.Refs, row)
	}
	for _, check := range all.Checks {
		data.Checks = append(data.Checks, checkRow{
			Check: check, Badge: checkBadge(check.Status), Reason: deref(check.StatusReason), Results: deref(check.Results),
			Job: page.Link{Href: jobHref(check.JobID), Text: fmt.Sprintf("Job %d", check.JobID)},
		})
	}
	if _, err := v.grant("build", auth.ScopeJobs); err == nil {
		data.CanSee = true
		if err := c.buildJobs(ctx, &data); err != nil {
			return err
		}
	}
	if _, err := v.grant("", auth.ScopeTokenManagement); err == nil {
		if data.Audit, err = c.Catalog.AuditOf(ctx, fmt.Sprintf("build/%d", id), perPage); err != nil {
			return err
		}
	}
	return c.show(w, v, "build", "Builds", data.Link.Text, data)
}

// buildJobs adds the jobs of a build, and what they tell.
func (c *Console) buildJobs(ctx context.Context, data *buildData) error {
	jobs, _, err := c.Catalog.JobPage(ctx, catalog.JobListing{Build: data.ID}, 0, perPage)
	if err != nil {
		return err
	}
	for _, job := range jobs {
		data.Jobs = append(data.Jobs, jobRowOf(job, ""))
	}
	if len(jobs) == 0 {
		return nil
	}
	slices.Reverse(jobs) // now the oldest first
	line := page.NewTimeline(buildEvents(data.Build, jobs, c.Now()), c.Now())
	data.Timeline = &line
	newest := jobs[len(jobs)-1]
	if data.Log, err = c.logOf(ctx, newest.ID); err != nil {
		return err
	}
	return nil
}

// buildEvents are the steps of a build for a timeline; the jobs are its own, the
// oldest first.
func buildEvents(b hubapi.Build, jobs []*catalog.Job, now time.Time) []page.Event {
	uploaded := page.Phase{Tone: page.ToneWork, From: b.Created.Time}
	i := slices.IndexFunc(jobs, func(job *catalog.Job) bool { return job.Kind == hubapi.JobCommit })
	if i >= 0 {
		uploaded.To = jobs[i].Created
	}
	events := []page.Event{{
		Label: page.Link{Text: "Upload"}, Text: spanWords(uploaded.From, uploaded.To, now), Phases: []page.Phase{uploaded},
	}}
	if i < 0 && b.RepoState != hubapi.RepoUploading {
		events = nil // it was purged, or imported without its jobs
	}
	for _, job := range jobs {
		events = append(events, jobEvent(job, now))
	}
	return events
}

// jobEvent is a job in a timeline: it waited, then it ran.
func jobEvent(job *catalog.Job, now time.Time) page.Event {
	label := page.Link{Href: jobHref(job.ID), Text: kindWords(job.Kind)}
	tone := page.ToneWork
	if job.Status == hubapi.JobBroken {
		tone = page.ToneBad
	}
	began := job.Started
	if job.Status == hubapi.JobNew {
		began = time.Time{} // it was given back to the queue
	}
	phases := []page.Phase{{Tone: page.ToneWait, From: job.Created, To: began}}
	text := "waiting for " + page.Took(now.Sub(job.Created))
	if job.Status == hubapi.JobBroken && began.IsZero() {
		phases[0].To = job.Ended
	}
	if !began.IsZero() {
		phases = append(phases, page.Phase{Tone: tone, From: began, To: job.Ended})
		text = spanWords(began, job.Ended, now)
		if waited := began.Sub(job.Created); waited > time.Second {
			text += ", waited " + page.Took(waited)
		}
	}
	return page.Event{Label: label, Text: text, Phases: phases}
}

// spanWords says how long something took, or takes already.
func spanWords(from, to, now time.Time) string {
	if to.IsZero() {
		return page.Took(now.Sub(from)) + " so far"
	}
	return page.Took(to.Sub(from))
}

// webURL is a URL that may stand in a link: one of the web, or "".
func webURL(s string) string {
	if strings.HasPrefix(s, "https://") || strings.HasPrefix(s, "http://") {
		return s
	}
	return ""
}
