package console

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/auth"
	"freshet/internal/hub/catalog"
	"freshet/internal/hub/rights"
	"freshet/internal/page"
)

const (
	// refsShown bounds the refs of a publish that its page lists, and nodesShown
	// the nodes.
	refsShown  = 500
	nodesShown = 100
	// buildsDrawn bounds the builds whose steps a publish's timeline has.
	buildsDrawn = 4
)

// publishRow is a publish in a list.
type publishRow struct {
	catalog.PublishSummary
	Link page.Link
	Refs []page.Link
	More int
	By   string
	// Took is from when it was asked for to when it was public, Spread from there
	// to the last edge; zero for not known.
	Took, Spread time.Duration
}

func publishRowOf(s catalog.PublishSummary) publishRow {
	row := publishRow{
		PublishSummary: s, By: actors(s.Jobs),
		Link: page.Link{Href: publishHref(s.Repo, s.Number), Text: fmt.Sprintf("Publish %d", s.Number)},
	}
	for _, ref := range slices.Sorted(maps.Keys(s.Refs)) {
		row.Refs = append(row.Refs, page.Link{Href: refHref(s.Repo, ref), Text: ref})
	}
	row.More = s.Moved - len(row.Refs)
	if !s.Asked.IsZero() {
		row.Took = s.Time.Sub(s.Asked)
	}
	if !s.Everywhere.IsZero() {
		row.Spread = s.Everywhere.Sub(s.Time)
	}
	return row
}

// publishesData is what the list of publishes shows.
type publishesData struct {
	Repo  Repo
	Repos []page.Option
	Rows  []publishRow
	Plot  *page.Columns
	Pager page.Pager
}

func (c *Console) publishes(w http.ResponseWriter, r *http.Request, v *visitor) error {
	claims, err := v.grant("build", auth.ScopeJobs)
	if err != nil {
		return err
	}
	if !seesAll(claims) {
		return refuse(hubapi.ErrInsufficient, http.StatusForbidden,
			"your token is for some applications only, and this list has all: the history of each of your refs is on the page of the ref")
	}
	repo, repos, err := c.repo(r, claims)
	if err != nil {
		return err
	}
	from, err := before(r)
	if err != nil {
		return err
	}
	list, err := c.Catalog.PublishPage(r.Context(), repo.Name, "", from, perPage+1)
	if err != nil {
		return err
	}
	data := publishesData{Repo: repo, Repos: repoOptions(repos, repo.Name, false)}
	next := int64(0)
	if len(list) > perPage {
		list, next = list[:perPage], list[perPage-1].Number
	}
	for _, s := range list {
		if s.Jobs, err = rights.SeenJobs(r.Context(), c.Catalog, claims, s.Jobs, c.Hub.AllowJob); err != nil {
			return err
		}
		data.Rows = append(data.Rows, publishRowOf(s))
	}
	data.Plot = plotOf(data.Rows)
	data.Pager = pagerOf(r, "before", keyOf(next))
	return c.show(w, v, "publishes", "Publishes", "Publishes of "+repo.Name, data)
}

// plotOf draws how long publishes took; nil for too few of them.
func plotOf(rows []publishRow) *page.Columns {
	var bars []page.Bar
	for _, row := range slices.Backward(rows) {
		if row.Asked.IsZero() || row.Began.IsZero() {
			continue
		}
		words := fmt.Sprintf("Publish %d: %s until it was public", row.Number, page.Took(row.Took))
		if row.Spread > 0 {
			words += ", " + page.Took(row.Spread) + " more until all edges had it"
		}
		bars = append(bars, page.Bar{Words: words, Parts: []page.BarPart{
			{Tone: page.ToneWait, Took: row.Began.Sub(row.Asked)},
			{Tone: page.ToneWork, Took: row.Time.Sub(row.Began)},
			{Tone: page.ToneDone, Took: row.Spread},
		}})
	}
	if len(bars) < 2 {
		return nil
	}
	plot := page.NewColumns(fmt.Sprintf("How long the last %d took", len(bars)), bars, perPage,
		page.Key{Tone: page.ToneWait, Text: "waited in the queue"}, page.Key{Tone: page.ToneWork, Text: "published"},
		page.Key{Tone: page.ToneDone, Text: "until all edges had it"})
	return &plot
}

// publishData is what a publish's page shows.
type publishData struct {
	publishRow
	Title     string
	Moves     []moveRow
	MoreRefs  int
	Builds    []page.Link
	Jobs      []page.Link
	Until     *page.Timeline
	Nodes     []nodeRow
	Spreading *page.Timeline
	Behind    int
	State     page.Badge
}

type moveRow struct {
	Link     page.Link
	From, To string
}

// nodeRow is an edge with how far it is.
type nodeRow struct {
	catalog.NodeReach
	Name  string
	State page.Badge
}

func (c *Console) publish(w http.ResponseWriter, r *http.Request, v *visitor) error {
	claims, err := v.grant("build", auth.ScopeJobs)
	if err != nil {
		return err
	}
	repo := r.PathValue("repo")
	if c.Hub.Refs(repo) == nil || claims.AllowRepo(repo) != nil {
		return refuse(hubapi.ErrNotFound, http.StatusNotFound, "there is no repository %q that you may see", repo)
	}
	n, err := number(r, "number", "publish")
	if err != nil {
		return err
	}
	summary, err := c.Catalog.PublishSummaryOf(r.Context(), repo, n)
	if err != nil {
		return err
	}
	maps.DeleteFunc(summary.Refs, func(ref string, _ hubapi.RefMove) bool { return !allowRef(claims, ref) })
	if len(summary.Refs) == 0 && summary.Moved > 0 {
		return refuse(hubapi.ErrInsufficient, http.StatusForbidden, "your token is for none of the refs of this publish")
	}
	if summary.Jobs, err = rights.SeenJobs(r.Context(), c.Catalog, claims, summary.Jobs, c.Hub.AllowJob); err != nil {
		return err
	}
	data := publishData{publishRow: publishRowOf(summary), Title: fmt.Sprintf("Publish %d of %s", n, repo)}
	data.addMoves()
	if err := c.addSteps(r.Context(), &data); err != nil {
		return err
	}
	if err := c.addNodes(r.Context(), &data); err != nil {
		return err
	}
	return c.show(w, v, "publish", "Publishes", data.Title, data)
}

func (d *publishData) addMoves() {
	refs := slices.Sorted(maps.Keys(d.PublishSummary.Refs))
	d.MoreRefs = max(len(refs)-refsShown, 0)
	for _, ref := range refs[:min(len(refs), refsShown)] {
		move := d.PublishSummary.Refs[ref]
		d.Moves = append(d.Moves, moveRow{page.Link{Href: refHref(d.Repo, ref), Text: ref}, move.From, move.To})
	}
}

// addSteps adds what happened before a publish was public: uploads, commits and
// checks of its builds, and its own jobs.
func (c *Console) addSteps(ctx context.Context, d *publishData) error {
	var events []page.Event
	now := c.Now()
	for _, done := range d.PublishSummary.Jobs {
		d.Jobs = append(d.Jobs, page.Link{Href: jobHref(done.ID), Text: fmt.Sprintf("Job %d", done.ID)})
		if done.Build == 0 {
			continue
		}
		d.Builds = append(d.Builds, page.Link{Href: buildHref(done.Build), Text: fmt.Sprintf("Build %d", done.Build)})
		if len(d.Builds) > buildsDrawn {
			continue
		}
		build, err := c.Catalog.Build(ctx, done.Build)
		if isNotFound(err) {
			continue
		}
		if err != nil {
			return err
		}
		steps, err := c.stepsOf(ctx, build, done.ID, now)
		if err != nil {
			return err
		}
		if len(d.PublishSummary.Jobs) > 1 {
			for i := range steps {
				steps[i].Label.Text = fmt.Sprintf("%s, build %d", steps[i].Label.Text, build.ID)
			}
		}
		events = append(events, steps...)
	}
	var ids []int64
	for _, done := range d.PublishSummary.Jobs[:min(len(d.PublishSummary.Jobs), 2*buildsDrawn)] {
		ids = append(ids, done.ID)
	}
	jobs, err := c.Catalog.JobsByID(ctx, ids)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if job := jobs[id]; job != nil {
			event := jobEvent(job, now)
			if len(ids) > 1 && job.Build > 0 {
				event.Label.Text += fmt.Sprintf(", build %d", job.Build)
			}
			events = append(events, event)
		}
	}
	if len(events) > 0 {
		line := page.NewTimeline(events, now)
		d.Until = &line
	}
	return nil
}

// stepsOf are the steps of a build until its publish job.
func (c *Console) stepsOf(ctx context.Context, build hubapi.Build, publish int64, now time.Time) ([]page.Event, error) {
	jobs, _, err := c.Catalog.JobPage(ctx, catalog.JobListing{
		Build: build.ID, Kinds: []hubapi.JobKind{hubapi.JobCommit, hubapi.JobCheck, hubapi.JobBuildDeltas},
	}, publish, perPage)
	if err != nil {
		return nil, err
	}
	slices.Reverse(jobs)
	return buildEvents(build, jobs, now), nil
}

// addNodes adds how a publish spreads.
func (c *Console) addNodes(ctx context.Context, d *publishData) error {
	reach, err := c.Catalog.Reach(ctx, d.Event, nodesShown)
	if err != nil {
		return err
	}
	// What is still on its way is drawn a little longer than what has arrived, or
	// that could not be seen any more.
	var slowest time.Duration
	for _, node := range reach {
		slowest = max(slowest, node.Passed.Sub(d.Time))
	}
	end := c.Now()
	if late := d.Time.Add(slowest * 3 / 2); slowest > 0 && late.Before(end) {
		end = late
	}
	var events []page.Event
	for _, node := range reach {
		row := nodeRow{NodeReach: node, Name: nodeName(node), State: nodeBadge(node)}
		d.Nodes = append(d.Nodes, row)
		if !node.Past && !node.Away {
			d.Behind++
		}
		switch {
		case !node.Passed.IsZero():
			events = append(events, page.Event{
				Label: page.Link{Text: row.Name}, Text: "after " + page.Took(max(node.Passed.Sub(d.Time), time.Millisecond)),
				Phases: []page.Phase{{Tone: page.ToneWait, From: d.Time, To: node.Passed}, {Tone: page.ToneDone, From: node.Passed, To: node.Passed}},
			})
		case !node.Past && !node.Away:
			events = append(events, page.Event{
				Label: page.Link{Text: row.Name}, Text: "not yet",
				Phases: []page.Phase{{Tone: page.ToneWait, From: d.Time, To: end}},
			})
		}
	}
	if len(events) > 0 {
		line := page.NewTimeline(events, c.Now())
		d.Spreading = &line
	}
	switch {
	case !d.Everywhere.IsZero():
		d.State = page.Badge{Tone: "good", Text: "on all edges"}
	case d.Behind > 0:
		d.State = page.Badge{Tone: "busy", Text: "on its way"}
	default:
		d.State = page.Badge{Tone: "good", Text: "public"}
	}
	return nil
}

func nodeName(node catalog.NodeReach) string {
	if node.Site == "" || node.Site == "default" {
		return node.Name
	}
	return node.Name + ", " + node.Site
}

func nodeBadge(node catalog.NodeReach) page.Badge {
	switch {
	case node.Past:
		return page.Badge{Tone: "good", Text: "has it"}
	case node.Away:
		return page.Badge{Tone: "bad", Text: "away"}
	}
	return page.Badge{Tone: "busy", Text: "not yet"}
}
