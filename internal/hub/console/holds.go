package console

import (
	"net/http"
	"strconv"
	"strings"

	"freshet/api/hubapi"
	"freshet/internal/auth"
	"freshet/internal/flatpak"
	"freshet/internal/hub/catalog"
	"freshet/internal/page"
)

// holdRow is a hold in a list.
type holdRow struct {
	hubapi.Hold
	State page.Badge
	What  string
}

func holdRowOf(hold hubapi.Hold) holdRow {
	row := holdRow{Hold: hold, What: hold.App, State: page.Badge{Tone: "wait", Text: "held"}}
	if hold.App == "" {
		row.What = "everything"
	}
	if hold.Kind == hubapi.HoldFreeze {
		row.State = page.Badge{Tone: "bad", Text: "frozen"}
	}
	return row
}

// holdsData is what the page of holds shows.
type holdsData struct {
	Rows []holdRow
	// The form; CanAct says that there is one, Problem what was wrong with it.
	CanAct       bool
	Repos, Kinds []page.Option
	App, Reason  string
	Problem      string
	CSRF         string
}

func (c *Console) holds(w http.ResponseWriter, r *http.Request, v *visitor) error {
	return c.showHolds(w, r, v, http.StatusOK, hubapi.Hold{}, "")
}

// showHolds shows the holds, and the form as it was filled in.
func (c *Console) showHolds(w http.ResponseWriter, r *http.Request, v *visitor, status int, form hubapi.Hold, problem string) error {
	claims, err := v.grant("build", auth.ScopeJobs)
	if err != nil {
		return err
	}
	data := holdsData{
		Repos: repoOptions(c.reposOf(claims), form.Repo, false), App: form.App, Reason: form.Reason, Problem: problem, CSRF: v.session.CSRF,
		Kinds: choose(form.Kind, hubapi.HoldWait, "Hold: let publishes wait", hubapi.HoldFreeze, "Freeze: refuse publishes"),
	}
	for _, repo := range c.reposOf(claims) {
		holds, err := c.Catalog.Holds(r.Context(), repo.Name)
		if err != nil {
			return err
		}
		for _, hold := range holds {
			data.Rows = append(data.Rows, holdRowOf(hold))
		}
	}
	_, err = v.holder("")
	data.CanAct = err == nil
	return c.pages.Render(w, status, "holds", c.frame(v, "Holds", "Holds"), data)
}

// holder returns the claims that may hold and release in a repository, "" for any.
func (v *visitor) holder(repo string) (*auth.Claims, error) {
	claims, err := v.grant("build", auth.ScopePublish)
	if err != nil {
		return nil, err
	}
	if !seesAll(claims) || claims.AllowEveryBranch() != nil || repo != "" && claims.AllowRepo(repo) != nil {
		return nil, refuse(hubapi.ErrInsufficient, http.StatusForbidden, "holds take a token for all applications and branches of the repository")
	}
	return claims, nil
}

// as is the catalog with the audit written in the name of the bearer.
func (c *Console) as(claims *auth.Claims) *catalog.Catalog {
	return c.Catalog.By(c.Hub.Bearer(claims) + " (console)")
}

func (c *Console) placeHold(w http.ResponseWriter, r *http.Request, v *visitor) error {
	form := hubapi.Hold{
		Repo: r.PostFormValue("repo"), App: strings.TrimSpace(r.PostFormValue("app")), Kind: r.PostFormValue("kind"), Reason: strings.TrimSpace(r.PostFormValue("reason")),
	}
	claims, err := v.holder(form.Repo)
	if err != nil {
		return err
	}
	problem := ""
	switch {
	case c.Hub.Refs(form.Repo) == nil:
		problem = "There is no such repository."
	case form.Kind != hubapi.HoldWait && form.Kind != hubapi.HoldFreeze:
		problem = "Choose whether to hold or to freeze."
	case form.App != "" && flatpak.CheckID(form.App) != nil:
		problem = sentence(flatpak.CheckID(form.App).Error())
	case form.Reason == "":
		problem = "Say why: those who wait will read it."
	}
	if problem != "" {
		return c.showHolds(w, r, v, http.StatusUnprocessableEntity, form, problem)
	}
	if _, err := c.as(claims).PlaceHold(r.Context(), form); err != nil {
		return err
	}
	http.Redirect(w, r, Base+"/holds", http.StatusSeeOther)
	return nil
}

func (c *Console) releaseHold(w http.ResponseWriter, r *http.Request, v *visitor) error {
	repo := r.PostFormValue("repo")
	claims, err := v.holder(repo)
	if err != nil {
		return err
	}
	id, err := strconv.ParseInt(r.PostFormValue("id"), 10, 64)
	if err != nil {
		return refuse(hubapi.ErrNotFound, http.StatusNotFound, "there is no such hold")
	}
	if err := c.as(claims).ReleaseHold(r.Context(), repo, id); err != nil {
		return err
	}
	http.Redirect(w, r, Base+"/holds", http.StatusSeeOther)
	return nil
}
