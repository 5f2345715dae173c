package status

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"time"

	"freshet/internal/geoip"
	"freshet/internal/page"
)

// projectPage shows a project.
type projectPage struct {
	projectRow
	Mirrors []carrierRow
}

// carrierRow is a mirror that carries the project.
type carrierRow struct {
	page.Link
	Country  string
	State    page.Badge
	Why      string
	URLs     []page.Link
	Capacity string
	Holds    page.Share
	Counted  string
	Known    time.Time
}

func (s *Site) project(w http.ResponseWriter, r *http.Request) {
	n := s.shown.Load()
	at := slices.IndexFunc(n.Projects, func(p Project) bool { return p.Name == r.PathValue("name") })
	if at < 0 {
		s.missing(w, r)
		return
	}
	p := projectPage{projectRow: n.row(&n.Projects[at])}
	for i := range n.Mirrors {
		m := &n.Mirrors[i]
		c := m.carried(p.Name)
		if c == nil || m.Disabled {
			continue
		}
		row := carrierRow{
			Link: page.Link{Href: mirrorHref(m.Name), Text: m.Name}, Country: cmp.Or(geoip.CountryName(m.Country), "Unknown"),
			State: badge(c.State()), Why: c.why(), URLs: c.urls(), Capacity: rate(m.Capacity), Known: c.Known,
		}
		if !c.Known.IsZero() {
			row.Counted = percent(c.Holds, p.Files)
			words := row.Counted + " of the files"
			row.Holds = page.NewShare(uint64(max(c.Holds, 0)), uint64(max(p.Files, 0)), uint64(max(p.Files, 1)), words)
		}
		p.Mirrors = append(p.Mirrors, row)
	}
	slices.SortStableFunc(p.Mirrors, func(a, b carrierRow) int {
		return cmp.Or(cmp.Compare(a.Country, b.Country), cmp.Compare(a.Text, b.Text))
	})
	s.render(w, r, n, http.StatusOK, "project", p.Name, p)
}

// why says in one line why a project on a mirror is not current; "" if it is.
func (c *Carried) why() string {
	state := c.State()
	switch {
	case state == StateBehind && c.Unused != "":
		return c.Unused
	case state == StateBehind && len(c.Behind) == 1:
		return cmp.Or(c.Behind[0].Repository, "the repository") + " is not the current version"
	case state == StateBehind:
		return strconv.Itoa(len(c.Behind)) + " repositories are not the current version"
	case state == StateDown:
		for _, a := range c.Ways {
			if a.Why != "" {
				return a.Why
			}
		}
	}
	return ""
}

// urls are its URLs, each once, under their schemes.
func (c *Carried) urls() []page.Link {
	var links []page.Link
	for _, a := range c.Ways {
		if !slices.ContainsFunc(links, func(l page.Link) bool { return l.Href == a.URL }) {
			links = append(links, page.Link{Href: a.URL, Text: a.scheme()})
		}
	}
	return links
}

// percent never says that all is there, or nothing, if that is not so.
func percent(part, whole int) string {
	switch {
	case whole <= 0 || part >= whole:
		return "100 %"
	case part <= 0:
		return "0 %"
	}
	return strconv.FormatFloat(min(max(100*float64(part)/float64(whole), 0.1), 99.9), 'f', 1, 64) + " %"
}

// mirrorPage shows a mirror.
type mirrorPage struct {
	*Mirror
	Country  string
	State    page.Badge
	Capacity string
	Load     string
	Carries  []carriedPart
}

// carriedPart is a project on the mirror.
type carriedPart struct {
	*Carried
	Project page.Link
	State   page.Badge
	Holds   string
	History page.Timeline
}

func (s *Site) mirror(w http.ResponseWriter, r *http.Request) {
	n := s.shown.Load()
	at := slices.IndexFunc(n.Mirrors, func(m Mirror) bool { return m.Name == r.PathValue("name") })
	if at < 0 {
		s.missing(w, r)
		return
	}
	m := &n.Mirrors[at]
	p := mirrorPage{Mirror: m, Country: cmp.Or(geoip.CountryName(m.Country), "Unknown"), State: badge(m.State()), Capacity: rate(m.Capacity)}
	if m.Load >= 0 {
		p.Load = strconv.Itoa(int(100*m.Load+0.5)) + " %"
	}
	for i := range m.Carries {
		c := &m.Carries[i]
		part := carriedPart{Carried: c, Project: page.Link{Text: c.Project}, State: badge(c.State()), History: c.history(n.Made)}
		if at := slices.IndexFunc(n.Projects, func(p Project) bool { return p.Name == c.Project }); at >= 0 {
			part.Project.Href = projectHref(c.Project)
			if !c.Known.IsZero() {
				part.Holds = percent(c.Holds, n.Projects[at].Files)
			}
		}
		p.Carries = append(p.Carries, part)
	}
	s.render(w, r, n, http.StatusOK, "mirror", m.Name, p)
}

// history draws when each way worked.
func (c *Carried) history(now time.Time) page.Timeline {
	var events []page.Event
	for _, a := range c.Ways {
		e := page.Event{Label: page.Link{Text: a.scheme() + ", " + a.Family}, Text: "not probed yet"}
		if !a.Since.IsZero() {
			e.Text = "works since "
			if !a.OK {
				e.Text = "down since "
			}
			e.Text += page.Ago(a.Since, now)
		}
		until := now
		for _, h := range a.History {
			e.Phases = append(e.Phases, page.Phase{Tone: toneOf(h.OK), From: h.At, To: until})
			until = h.At
		}
		slices.Reverse(e.Phases)
		events = append(events, e)
	}
	return page.NewTimeline(events, now)
}

func toneOf(ok bool) string {
	if ok {
		return page.ToneDone
	}
	return page.ToneBad
}

// scheme is that of the URL.
func (a *Access) scheme() string {
	if len(a.URL) > 5 && a.URL[:6] == "https:" {
		return "https"
	}
	return "http"
}
