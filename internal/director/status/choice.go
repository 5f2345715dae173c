package status

import (
	"fmt"
	"net/http"
	"strconv"

	"freshet/api/directorapi"
	"freshet/internal/page"
)

// choicePage is what is shown of where a client is sent.
type choicePage struct {
	*directorapi.Why
	Title    string
	Size     string
	Metalink string // "" if there is none
	Chosen   []choiceRow
	Excluded []choiceRow
}

// choiceRow is a mirror.
type choiceRow struct {
	directorapi.WhyMirror
	Where page.Link
	Far   string
	Share string
}

// Choice shows where a client is sent, and why not elsewhere.
func (s *Site) Choice(w http.ResponseWriter, r *http.Request, why *directorapi.Why) {
	p := choicePage{Why: why, Title: why.Path}
	if why.File != nil {
		p.Metalink = r.URL.EscapedPath() + ".meta4"
		if why.File.Size >= 0 {
			p.Size = strconv.FormatInt(why.File.Size, 10) + " bytes"
		}
	}
	for _, m := range why.Mirrors {
		row := choiceRow{WhyMirror: m, Where: page.Link{Href: mirrorHref(m.Mirror), Text: m.Mirror}}
		if m.Distance >= 0 {
			row.Far = fmt.Sprintf("%.0f km", m.Distance)
		}
		if m.Excluded != "" {
			p.Excluded = append(p.Excluded, row)
			continue
		}
		row.Share = fmt.Sprintf("%.1f %%", 100*m.Score)
		p.Chosen = append(p.Chosen, row)
	}
	s.render(w, r, s.shown.Load(), http.StatusOK, "choice", why.Path, p)
}
