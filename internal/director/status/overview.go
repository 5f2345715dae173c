package status

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"

	"freshet/internal/geoip"
	"freshet/internal/page"
)

// overviewPage is what the first page shows.
type overviewPage struct {
	Empty     bool
	Mirrors   int
	Working   int
	Current   int
	Countries int
	Capacity  string
	Dots      []dot
	Projects  []projectRow
	Rows      []countryRow
}

// projectRow is a project among others.
type projectRow struct {
	page.Link
	*Project
	Working, Current, Of int
	Share                page.Share
}

// countryRow is a country with the mirrors that are there.
type countryRow struct {
	Code, Name string
	Mirrors    []mirrorLink
	Capacity   string
}

// mirrorLink is a mirror in a row with others.
type mirrorLink struct {
	page.Link
	State page.Badge
}

func (s *Site) overview(w http.ResponseWriter, r *http.Request) {
	n := s.shown.Load()
	p := overviewPage{Empty: len(n.Mirrors) == 0, Dots: dots(n.Mirrors)}
	capacity := 0
	for i := range n.Mirrors {
		m := &n.Mirrors[i]
		if m.Disabled {
			continue
		}
		state := m.State()
		p.Mirrors++
		if state.works() {
			p.Working++
			capacity += m.Capacity
		}
		if state == StateCurrent {
			p.Current++
		}
	}
	p.Capacity = rate(capacity)
	for i := range n.Projects {
		p.Projects = append(p.Projects, n.row(&n.Projects[i]))
	}
	p.Rows = byCountry(n.Mirrors)
	p.Countries = len(p.Rows)
	s.render(w, r, n, http.StatusOK, "overview", "Network", p)
}

// row counts the mirrors of a project.
func (n *Network) row(p *Project) projectRow {
	row := projectRow{Link: page.Link{Href: projectHref(p.Name), Text: p.Name}, Project: p}
	for i := range n.Mirrors {
		c := n.Mirrors[i].carried(p.Name)
		if c == nil || n.Mirrors[i].Disabled {
			continue
		}
		row.Of++
		state := c.State()
		if state.works() {
			row.Working++
		}
		if state == StateCurrent {
			row.Current++
		}
	}
	words := page.Plural(row.Of, "mirror", "mirrors") + ", " + strconv.Itoa(row.Current) + " current"
	row.Share = page.NewShare(uint64(row.Current), uint64(row.Of), uint64(max(row.Of, 1)), words)
	return row
}

// byCountry sorts mirrors into countries by name.
func byCountry(mirrors []Mirror) []countryRow {
	var rows []countryRow
	capacity := make(map[string]int)
	for i := range mirrors {
		m := &mirrors[i]
		if m.Disabled {
			continue
		}
		at := slices.IndexFunc(rows, func(r countryRow) bool { return r.Code == m.Country })
		if at < 0 {
			at = len(rows)
			rows = append(rows, countryRow{Code: m.Country, Name: cmp.Or(geoip.CountryName(m.Country), "Unknown")})
		}
		rows[at].Mirrors = append(rows[at].Mirrors, mirrorLink{page.Link{Href: mirrorHref(m.Name), Text: m.Name}, badge(m.State())})
		capacity[m.Country] += m.Capacity
	}
	for i := range rows {
		rows[i].Capacity = rate(capacity[rows[i].Code])
	}
	slices.SortFunc(rows, func(a, b countryRow) int { return cmp.Compare(a.Name, b.Name) })
	return rows
}
