package console

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/auth"
	"freshet/internal/flatpak"
	"freshet/internal/hub/catalog"
	"freshet/internal/hub/rights"
	"freshet/internal/ostree"
	"freshet/internal/page"
)

// publishedRef is a ref in a list.
type publishedRef struct {
	Link                page.Link
	Commit              string
	Time                time.Time
	Download, Installed uint64
	Deltas              int
	EndOfLife           string
}

func refOf(repo string, refs *flatpak.Snapshot, info flatpak.CommitInfo) publishedRef {
	p := publishedRef{
		Link: page.Link{Href: refHref(repo, info.Ref), Text: info.Ref}, Commit: info.Checksum.String(), Time: time.Unix(int64(info.Timestamp), 0),
		Download: info.DownloadSize, Installed: info.InstalledSize, Deltas: len(refs.Deltas(info.Checksum)), EndOfLife: info.EndOfLife,
	}
	if p.EndOfLife == "" && info.EndOfLifeRebase != "" {
		p.EndOfLife = "replaced by " + info.EndOfLifeRebase
	}
	return p
}

// allowRef tells whether the claims grant the id of a ref. Refs that belong to no
// application, those of catalogues, are for everybody.
func allowRef(claims *auth.Claims, ref string) bool {
	parsed, err := flatpak.ParseRef(ref)
	return err != nil || parsed.ID == "" || claims.AllowID(parsed.ID) == nil
}

// refsData is what the list of refs shows.
type refsData struct {
	Repo   Repo
	Repos  []page.Option
	Search string
	Total  int
	Rows   []publishedRef
	Pager  page.Pager
}

func (c *Console) refs(w http.ResponseWriter, r *http.Request, v *visitor) error {
	claims, err := v.grant("build", auth.ScopeJobs, auth.ScopeDownload)
	if err != nil {
		return err
	}
	repo, repos, err := c.repo(r, claims)
	if err != nil {
		return err
	}
	refs := c.Hub.Refs(repo.Name)
	query := r.URL.Query()
	data := refsData{Repo: repo, Repos: repoOptions(repos, repo.Name, false), Search: strings.TrimSpace(query.Get("q")), Total: refs.Len()}
	next := ""
	for info := range matching(refs, data.Search, query.Get("after")) {
		if !allowRef(claims, info.Ref) {
			continue
		}
		if len(data.Rows) == perPage {
			next = data.Rows[perPage-1].Link.Text
			break
		}
		data.Rows = append(data.Rows, refOf(repo.Name, refs, info))
	}
	data.Pager = forward(pagerOf(r, "after", next))
	return c.show(w, v, "refs", "Refs", "Refs of "+repo.Name, data)
}

// matching walks over the refs after a name that begin with prefix, or whose id
// does.
func matching(refs *flatpak.Snapshot, prefix, after string) func(yield func(flatpak.CommitInfo) bool) {
	prefixes := []string{prefix}
	if kind, _, has := strings.Cut(prefix, "/"); prefix != "" && (!has || kind != "app" && kind != "runtime") {
		prefixes = []string{prefix, "app/" + prefix, "runtime/" + prefix}
		prefixes = outermost(prefixes, func(kept, prefix string) bool { return strings.HasPrefix(prefix, kept) })
	}
	return func(yield func(flatpak.CommitInfo) bool) {
		for _, prefix := range prefixes {
			for info := range refs.From(max(prefix, after)) {
				if !strings.HasPrefix(info.Ref, prefix) {
					break
				}
				if info.Ref != after && !yield(info) {
					return
				}
			}
		}
	}
}

// outermost sorts names and leaves out those that belong to one that stays, which
// sorts before them.
func outermost(names []string, belongs func(kept, name string) bool) []string {
	slices.Sort(names)
	kept := names[:0]
	for _, name := range names {
		if !slices.ContainsFunc(kept, func(outer string) bool { return belongs(outer, name) }) {
			kept = append(kept, name)
		}
	}
	return kept
}

// refData is what a ref's page shows.
type refData struct {
	publishedRef
	Repo      Repo
	Gone      bool
	Info      flatpak.CommitInfo
	TokenType *int32
	Subsets   string
	Deltas    []deltaRow
	History   []refMove
	Pager     page.Pager
	Install   string
}

// refMove is a publish that moved a ref.
type refMove struct {
	Publish  page.Link
	Time     time.Time
	From, To string
	What     string
	By       string
}

func (c *Console) ref(w http.ResponseWriter, r *http.Request, v *visitor) error {
	claims, err := v.grant("build", auth.ScopeJobs)
	if err != nil {
		return err
	}
	name, ref := r.PathValue("repo"), r.PathValue("ref")
	refs := c.Hub.Refs(name)
	if refs == nil || claims.AllowRepo(name) != nil {
		return refuse(hubapi.ErrNotFound, http.StatusNotFound, "there is no repository %q that you may see", name)
	}
	if !allowRef(claims, ref) {
		return refuse(hubapi.ErrInsufficient, http.StatusForbidden, "your token is not for %s", ref)
	}
	from, err := before(r)
	if err != nil {
		return err
	}
	moves, err := c.Catalog.PublishPage(r.Context(), name, ref, from, perPage+1)
	if err != nil {
		return err
	}
	info, there := refs.Get(ref)
	if !there && len(moves) == 0 {
		return refuse(hubapi.ErrNotFound, http.StatusNotFound, "%s was never published in %s", ref, name)
	}
	data := refData{publishedRef: publishedRef{Link: page.Link{Text: ref}}, Repo: c.named(name), Gone: !there, Info: info}
	if there {
		if err := c.addHead(r, &data, refs, info); err != nil {
			return err
		}
	}
	next := int64(0)
	if len(moves) > perPage {
		moves, next = moves[:perPage], moves[perPage-1].Number
	}
	for _, publish := range moves {
		move := moveOf(publish, ref)
		seen, err := rights.SeenJobs(r.Context(), c.Catalog, claims, publish.Jobs, c.Hub.AllowJob)
		if err != nil {
			return err
		}
		move.By = actors(seen)
		data.History = append(data.History, move)
	}
	data.Pager = pagerOf(r, "before", keyOf(next))
	return c.show(w, v, "ref", "Refs", ref, data)
}

// addHead adds what a ref is now.
func (c *Console) addHead(r *http.Request, data *refData, refs *flatpak.Snapshot, info flatpak.CommitInfo) (err error) {
	data.publishedRef = refOf(data.Repo.Name, refs, info)
	if info.HasTokenType {
		data.TokenType = &info.TokenType
	}
	data.Subsets = strings.Join(info.Subsets, ", ")
	if parsed, err := flatpak.ParseRef(info.Ref); err == nil && parsed.Kind == flatpak.App {
		data.Install = "flatpak install " + data.Repo.Remote + " " + parsed.ID
	}
	var listed []listedDelta
	for _, d := range refs.Deltas(info.Checksum) {
		listed = append(listed, listedDelta{info.Ref, d.From, info.Checksum})
	}
	data.Deltas, err = c.deltaRows(r.Context(), data.Repo.Name, listed)
	return err
}

// named is a repository by its name.
func (c *Console) named(name string) Repo {
	for _, repo := range c.Hub.Repos() {
		if repo.Name == name {
			return repo
		}
	}
	return Repo{Name: name, Title: name}
}

func moveOf(publish catalog.PublishSummary, ref string) refMove {
	move := publish.Refs[ref]
	m := refMove{
		Publish: page.Link{Href: publishHref(publish.Repo, publish.Number), Text: "Publish " + keyOf(publish.Number)},
		Time:    publish.Time, From: move.From, To: move.To, What: "updated",
	}
	switch {
	case move.From == "":
		m.What = "new"
	case move.To == "":
		m.What = "taken away"
	}
	for _, job := range publish.Jobs {
		if job.Kind == hubapi.JobRollback.String() {
			m.What = "rolled back"
		}
	}
	return m
}

// actors are those who asked for jobs.
func actors(jobs []hubapi.PublishJob) string {
	var names []string
	for _, job := range jobs {
		if job.Actor != "" && !slices.Contains(names, job.Actor) {
			names = append(names, job.Actor)
		}
	}
	return strings.Join(names, ", ")
}

// hexOf is a checksum, and "" for none.
func hexOf(c ostree.Checksum) string {
	if c.IsZero() {
		return ""
	}
	return c.String()
}
