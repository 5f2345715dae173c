package console

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"freshet/internal/auth"
	"freshet/internal/flatpak"
	"freshet/internal/hub/catalog"
	"freshet/internal/ostree"
	"freshet/internal/page"
)

// listedDelta is a static delta that clients find.
type listedDelta struct {
	ref      string
	from, to ostree.Checksum
}

// key is its place in the list.
func (d listedDelta) key() string { return d.ref + " " + hexOf(d.from) }

// deltaRow is a static delta in a list.
type deltaRow struct {
	Ref     page.Link
	From    string
	Size    uint64
	Instead uint64
	Saved   string
	Share   page.Share
	Parts   int
	Singly  int
	Made    time.Time
	Took    time.Duration
	Known   bool
}

// deltasData is what the list of static deltas shows.
type deltasData struct {
	Repo   Repo
	Repos  []page.Option
	Totals catalog.DeltaTotals
	Saved  string
	Search string
	Rows   []deltaRow
	Pager  page.Pager
}

func (c *Console) deltas(w http.ResponseWriter, r *http.Request, v *visitor) error {
	claims, err := v.grant("build", auth.ScopeJobs)
	if err != nil {
		return err
	}
	repo, repos, err := c.repo(r, claims)
	if err != nil {
		return err
	}
	data := deltasData{Repo: repo, Repos: repoOptions(repos, repo.Name, false), Search: strings.TrimSpace(r.URL.Query().Get("q"))}
	if seesAll(claims) {
		if data.Totals, err = c.Catalog.DeltaTotals(r.Context(), repo.Name); err != nil {
			return err
		}
		data.Saved = saved(uint64(data.Totals.Size), uint64(data.Totals.Instead))
	}
	listed := c.listedDeltas(claims, repo.Name, data.Search, r.URL.Query().Get("after"))
	next := ""
	if len(listed) > perPage {
		listed, next = listed[:perPage], listed[perPage-1].key()
	}
	if data.Rows, err = c.deltaRows(r.Context(), repo.Name, listed); err != nil {
		return err
	}
	data.Pager = forward(pagerOf(r, "after", next))
	return c.show(w, v, "deltas", "Deltas", "Static deltas of "+repo.Name, data)
}

// listedDeltas are the deltas after a key that clients find, at most one more than
// fits on a page.
func (c *Console) listedDeltas(claims *auth.Claims, repo, search, after string) (listed []listedDelta) {
	refs := c.Hub.Refs(repo)
	ref, _, _ := strings.Cut(after, " ")
	add := func(info flatpak.CommitInfo) bool {
		if !allowRef(claims, info.Ref) {
			return true
		}
		for _, d := range refs.Deltas(info.Checksum) {
			if one := (listedDelta{info.Ref, d.From, info.Checksum}); one.key() > after {
				listed = append(listed, one)
			}
		}
		return len(listed) <= perPage
	}
	if at, there := refs.Get(ref); after != "" && there && !add(at) {
		return listed
	}
	for info := range matching(refs, search, ref) {
		if !add(info) {
			break
		}
	}
	return listed
}

// deltaRows makes rows of deltas, with what is known of them.
func (c *Console) deltaRows(ctx context.Context, repo string, listed []listedDelta) ([]deltaRow, error) {
	keys := make([]catalog.DeltaKey, len(listed))
	for i, d := range listed {
		keys[i] = catalog.DeltaKey{From: hexOf(d.from), To: d.to.String()}
	}
	known, err := c.Catalog.Deltas(ctx, repo, keys)
	if err != nil {
		return nil, err
	}
	rows := make([]deltaRow, len(listed))
	var most uint64
	for _, made := range known {
		most = max(most, made.Size, made.Instead)
	}
	for i, d := range listed {
		row := deltaRow{Ref: page.Link{Href: refHref(repo, d.ref), Text: d.ref}, From: keys[i].From}
		if made, ok := known[keys[i]]; ok {
			row.fill(made, most)
		}
		rows[i] = row
	}
	return rows, nil
}

// fill adds what a delta costs; most is the longest bar.
func (row *deltaRow) fill(made catalog.MadeDelta, most uint64) {
	row.Known, row.Size, row.Instead, row.Parts, row.Singly, row.Made = true, made.Size, made.Instead, made.Parts, made.Singly, made.Time
	row.Took = time.Duration(made.Seconds * float64(time.Second))
	row.Saved = saved(made.Size, made.Instead)
	words := page.Bytes(made.Size)
	if made.Instead > 0 {
		words = fmt.Sprintf("%s instead of %s", words, page.Bytes(made.Instead))
	}
	row.Share = page.NewShare(made.Size, max(made.Instead, made.Size), most, words)
}

// saved is how much less something is, in percent; "" for not known.
func saved(size, instead uint64) string {
	if instead == 0 || size == 0 {
		return ""
	}
	return fmt.Sprintf("%.0f %%", 100-100*float64(size)/float64(instead))
}
