package console

import (
	"net/http"
	"slices"

	"freshet/api/hubapi"
	"freshet/internal/auth"
	"freshet/internal/hub/catalog"
	"freshet/internal/hub/quarantine"
	"freshet/internal/page"
)

// few is how many of each thing the overview shows.
const few = 6

// overviewData is what the first page shows.
type overviewData struct {
	// Sees says that the token is for builds, Jobs that it may see the queue.
	Sees, Jobs bool
	Repos      []overviewRepo
	Apart      []overviewApart
	MoreApart  int
	Working    []jobRow
	MoreJobs   bool
	Failed     []buildRow
	Nodes      []overviewNode
	Commits    string
}

type overviewRepo struct {
	Repo
	Refs    int
	State   page.Badge
	Waits   string
	Holds   int
	Last    *publishRow
	RefsURL string
}

// overviewApart is a damaged object that is kept apart.
type overviewApart struct {
	quarantine.Item
	Repo string
	Path string
	// Refs are some that need it, for who may see all; Needed is how many do.
	Refs   []page.Link
	Needed int
}

type overviewNode struct {
	catalog.NodeReach
	Name   string
	State  page.Badge
	Behind int64
}

func (c *Console) overview(w http.ResponseWriter, r *http.Request, v *visitor) error {
	data := overviewData{}
	if claims, err := v.grant("build", auth.ScopeJobs); err == nil {
		data.Sees, data.Jobs = true, true
		if err := c.addRepos(r, claims, &data); err != nil {
			return err
		}
		data.Commits = c.Hub.CommitsWait()
		if data.Working, _, data.MoreJobs, err = c.queuedJobs(r.Context(), claims, few); err != nil {
			return err
		}
		if err := c.addEdges(r, &data); err != nil {
			return err
		}
	}
	if claims, err := v.grant("build", auth.ScopeBuild, auth.ScopeDownload); err == nil {
		data.Sees = true
		filter, err := c.filterOf(claims, "", string(catalog.StageFailed), "")
		if err != nil {
			return err
		}
		failed, err := c.Catalog.BuildPage(r.Context(), filter, 0, few)
		if err != nil {
			return err
		}
		if data.Failed, err = c.allowed(r.Context(), claims, failed.Builds); err != nil {
			return err
		}
	}
	return c.show(w, v, "overview", "Overview", "Overview", data)
}

func (c *Console) addRepos(r *http.Request, claims *auth.Claims, data *overviewData) error {
	for _, repo := range c.reposOf(claims) {
		row := overviewRepo{
			Repo: repo, Refs: c.Hub.Refs(repo.Name).Len(), Waits: c.Hub.Waiting(repo.Name), RefsURL: listHref("/refs", "repo", repo.Name),
		}
		holds, err := c.Catalog.Holds(r.Context(), repo.Name)
		if err != nil {
			return err
		}
		row.Holds, row.State = len(holds), openness(row.Waits, holds)
		last, err := c.Catalog.PublishPage(r.Context(), repo.Name, "", 0, 1)
		if err != nil {
			return err
		}
		if len(last) == 1 {
			p := publishRowOf(last[0])
			if !seesAll(claims) {
				p.Link.Href = ""
			}
			row.Last = &p
		}
		data.Repos = append(data.Repos, row)
		if err := c.addApart(claims, repo.Name, data); err != nil {
			return err
		}
	}
	return nil
}

// addApart adds what is in quarantine.
func (c *Console) addApart(claims *auth.Claims, repo string, data *overviewData) error {
	items, err := c.Hub.Quarantined(repo)
	if err != nil {
		return err
	}
	for _, item := range items {
		if len(data.Apart) == few {
			data.MoreApart++
			continue
		}
		row := overviewApart{Item: item, Repo: repo, Path: item.Name.Path(), Needed: len(item.Refs) + item.More}
		if seesAll(claims) {
			for _, ref := range item.Refs[:min(len(item.Refs), few)] {
				row.Refs = append(row.Refs, page.Link{Href: refHref(repo, ref), Text: ref})
			}
		}
		data.Apart = append(data.Apart, row)
	}
	return nil
}

// openness says whether a repository takes publishes.
func openness(waits string, holds []hubapi.Hold) page.Badge {
	whole := func(kind string) bool {
		return slices.ContainsFunc(holds, func(h hubapi.Hold) bool { return h.App == "" && h.Kind == kind })
	}
	switch {
	case whole(hubapi.HoldFreeze):
		return page.Badge{Tone: "wait", Text: "frozen"}
	case whole(hubapi.HoldWait):
		return page.Badge{Tone: "wait", Text: "held"}
	case waits != "":
		return page.Badge{Tone: "busy", Text: "waiting"}
	case len(holds) > 0:
		return page.Badge{Tone: "good", Text: "open, with holds"}
	}
	return page.Badge{Tone: "good", Text: "publishing is open"}
}

// addEdges adds how far each edge is behind the newest event.
func (c *Console) addEdges(r *http.Request, data *overviewData) error {
	head, err := c.Catalog.Head(r.Context())
	if err != nil {
		return err
	}
	nodes, err := c.Catalog.Reach(r.Context(), head, nodesShown)
	if err != nil {
		return err
	}
	for _, node := range nodes {
		row := overviewNode{NodeReach: node, Name: nodeName(node), State: page.Badge{Tone: "good", Text: "up to date"}}
		switch {
		case node.Away:
			row.State = page.Badge{Tone: "bad", Text: "away"}
		case node.Log != c.Catalog.Log():
			row.State = page.Badge{Tone: "busy", Text: "starts anew"}
		case !node.Past:
			row.Behind = head - node.Serial
			row.State = page.Badge{Tone: "busy", Text: page.Plural(row.Behind, "event behind", "events behind")}
		}
		data.Nodes = append(data.Nodes, row)
	}
	return nil
}
