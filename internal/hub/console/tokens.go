package console

import (
	"net/http"
	"strconv"
	"strings"

	"freshet/api/hubapi"
	"freshet/internal/auth"
	"freshet/internal/hub/catalog"
	"freshet/internal/page"
)

// tokenRow is a token in a list.
type tokenRow struct {
	catalog.SeenToken
	State page.Badge
	// Good says that it can be revoked, Own that it is one of the session's.
	Good, Own bool
}

// tokensData is what the list of tokens shows.
type tokensData struct {
	Rows  []tokenRow
	Pager page.Pager
	CSRF  string
}

func (c *Console) tokens(w http.ResponseWriter, r *http.Request, v *visitor) error {
	if _, err := v.grant("", auth.ScopeTokenManagement); err != nil {
		return err
	}
	var from *catalog.TokenKey
	if text := r.URL.Query().Get("before"); text != "" {
		micros, id, found := strings.Cut(text, " ")
		at, err := strconv.ParseInt(micros, 10, 64)
		if err != nil || !found {
			return refuse(hubapi.ErrGeneric, http.StatusBadRequest, "%.40q is no place in this list", text)
		}
		from = &catalog.TokenKey{Micros: at, ID: id}
	}
	list, err := c.Catalog.TokenPage(r.Context(), from, perPage+1)
	if err != nil {
		return err
	}
	data := tokensData{CSRF: v.session.CSRF}
	next := ""
	if len(list) > perPage {
		list = list[:perPage]
		key := list[perPage-1].Key()
		next = strconv.FormatInt(key.Micros, 10) + " " + key.ID
	}
	for _, token := range list {
		row := tokenRow{SeenToken: token, State: page.Badge{Tone: "good", Text: "good"}, Good: true}
		switch {
		case !token.Revoked.IsZero():
			row.State, row.Good = page.Badge{Tone: "bad", Text: "revoked"}, false
		case token.Expires.Before(c.Now()):
			row.State, row.Good = page.Badge{Text: "expired"}, false
		}
		for _, claims := range v.claims {
			row.Own = row.Own || claims.ID == token.ID
		}
		data.Rows = append(data.Rows, row)
	}
	data.Pager = pagerOf(r, "before", next)
	return c.show(w, v, "tokens", "Tokens", "Tokens", data)
}

// revokeToken revokes the token of the form, after it was asked whether that is
// meant.
func (c *Console) revokeToken(w http.ResponseWriter, r *http.Request, v *visitor) error {
	claims, err := v.grant("", auth.ScopeTokenManagement)
	if err != nil {
		return err
	}
	id := strings.TrimSpace(r.PostFormValue("id"))
	if id == "" {
		return refuse(hubapi.ErrGeneric, http.StatusBadRequest, "no token was named")
	}
	if r.PostFormValue("sure") == "" {
		return c.show(w, v, "revoke", "Tokens", "Revoke a token", struct{ ID, CSRF string }{id, v.session.CSRF})
	}
	if err := c.as(claims).RevokeTokens(r.Context(), []string{id}); err != nil {
		return err
	}
	http.Redirect(w, r, Base+"/tokens", http.StatusSeeOther)
	return nil
}

// auditData is what the audit log shows.
type auditData struct {
	Rows  []auditRow
	Pager page.Pager
}

type auditRow struct {
	catalog.AuditEntry
	On page.Link
}

func (c *Console) audit(w http.ResponseWriter, r *http.Request, v *visitor) error {
	if _, err := v.grant("", auth.ScopeTokenManagement); err != nil {
		return err
	}
	from, err := before(r)
	if err != nil {
		return err
	}
	entries, err := c.Catalog.Audit(r.Context(), from, perPage+1)
	if err != nil {
		return err
	}
	data := auditData{}
	next := int64(0)
	if len(entries) > perPage {
		entries = entries[:perPage]
		next = entries[perPage-1].ID
	}
	_, err = v.grant("build", auth.ScopeBuild)
	linked := err == nil
	for _, entry := range entries {
		data.Rows = append(data.Rows, auditRow{entry, objectLink(entry.Object, linked)})
	}
	data.Pager = pagerOf(r, "before", keyOf(next))
	return c.show(w, v, "audit", "Audit", "Audit log", data)
}

// objectLink leads to what an entry is about.
func objectLink(object string, linked bool) page.Link {
	link := page.Link{Text: object}
	kind, id, _ := strings.Cut(object, "/")
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil || !linked {
		return link
	}
	switch kind {
	case "build":
		link.Href = buildHref(n)
	case "job":
		link.Href = jobHref(n)
	}
	return link
}
