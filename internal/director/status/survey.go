package status

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"freshet/api/directorapi"
	"freshet/internal/director/choice"
	"freshet/internal/director/probe"
	"freshet/internal/director/versions"
	"freshet/internal/inventory"
	"freshet/internal/page"
)

// Health is that of a [probe.State].
type Health interface {
	Health(w probe.Way) (h probe.Health, known bool)
	Load(mirror string) float64
}

// Sources are what a network is made of. Catalogue and Inventory are needed; of the
// others nil knows nothing.
type Sources struct {
	Catalogue *directorapi.Catalogue
	Inventory *inventory.Inventory
	Health    Health
	// History is what changed on a way, oldest first.
	History func(probe.Way) []probe.Change
	// Current is the sum of a repository's pointer at the origin, and Behind why a
	// mirror is not offered for it, [versions.Current] if it is, and since when.
	Current func(project, repository string) (sum [32]byte, known bool)
	Behind  func(mirror, project, repository string) (versions.Reason, time.Time)
	// Scan is how the last scan went; the mirror "" is the origin.
	Scan func(mirror, project string) (directorapi.ScanStatus, bool)
}

// Surveyor makes networks. It remembers what it counted, so that an inventory that has
// not changed is not counted again. It is for one goroutine.
type Surveyor struct {
	counted map[string]count // by project
}

// count is what was counted of a project.
type count struct {
	serial uint64
	inventory.Tally
}

// Survey makes a network of what is known now.
func (s *Surveyor) Survey(from *Sources, now time.Time) *Network {
	n := &Network{Made: now, Projects: []Project{}, Mirrors: []Mirror{}}
	sites := make(map[string]*directorapi.Site)
	for i := range from.Catalogue.Sites {
		sites[from.Catalogue.Sites[i].Name] = &from.Catalogue.Sites[i]
	}
	counted := make(map[string]count)
	for i := range from.Catalogue.Projects {
		p := &from.Catalogue.Projects[i]
		if p.Disabled {
			continue
		}
		counted[p.Name] = s.count(from.Inventory, p.Name)
		n.Projects = append(n.Projects, from.project(p, counted[p.Name]))
	}
	s.counted = counted
	for i := range from.Catalogue.Mirrors {
		m := &from.Catalogue.Mirrors[i]
		site := cmp.Or(sites[m.Site], &directorapi.Site{Name: m.Site})
		shown := mirrorOf(m, site)
		if from.Health != nil {
			shown.Load = from.Health.Load(m.Name)
		}
		for k := range m.Carries {
			if c, ok := counted[m.Carries[k].Project]; ok {
				shown.Carries = append(shown.Carries, from.carried(m.Name, &m.Carries[k], c))
			}
		}
		n.Mirrors = append(n.Mirrors, shown)
	}
	n.tally()
	return n
}

// count counts the origin's files, and how many of them each mirror has.
func (s *Surveyor) count(inv *inventory.Inventory, project string) count {
	view := inv.Project(project).View()
	if c, ok := s.counted[project]; ok && c.serial == view.Serial() {
		return c
	}
	return count{view.Serial(), view.Tally()}
}

func (from *Sources) project(p *directorapi.Project, c count) Project {
	shown := Project{Name: p.Name, Path: p.Path, Files: c.Files, Bytes: c.Bytes}
	shown.Known = from.Inventory.Project(p.Name).View().Standing(inventory.Origin).Updated
	if from.Scan != nil {
		if st, ok := from.Scan("", p.Name); ok && st.Failures > 0 {
			shown.Problem = st.Cause // the page is public, and the error may name what is not
		}
	}
	for i := range p.Repositories {
		r := &p.Repositories[i]
		repo := Repository{Path: r.Path, Kind: string(r.Kind)}
		if from.Current != nil {
			if sum, ok := from.Current(p.Name, r.PointerPath()); ok {
				repo.Version = hex.EncodeToString(sum[:])
			}
		}
		shown.Repositories = append(shown.Repositories, repo)
	}
	return shown
}

// mirrorOf is what operators say of a mirror.
func mirrorOf(m *directorapi.Mirror, site *directorapi.Site) Mirror {
	place := choice.PlaceOf(site)
	return Mirror{
		Name: m.Name, Site: site.Name, Organisation: site.Organisation, URL: site.URL,
		Country: site.Country, Continent: place.Continent,
		Latitude: place.Point.Latitude, Longitude: place.Point.Longitude, Located: place.Radius > 0,
		ASN: site.ASN, Capacity: cmp.Or(m.Capacity, choice.DefaultCapacity), Load: -1, Disabled: m.Disabled, Rules: sentences(&m.Rules),
	}
}

func (from *Sources) carried(mirror string, c *directorapi.Carried, counts count) Carried {
	shown := Carried{Project: c.Project, Way: method(c.Inventory.How)}
	if h, ok := from.Inventory.Lookup(mirror); ok {
		shown.Known, shown.Holds = from.Inventory.Project(c.Project).View().Standing(h).Updated, counts.Held[h]
	}
	if from.Scan != nil {
		if st, ok := from.Scan(mirror, c.Project); ok && !st.Used && !shown.Known.IsZero() {
			shown.Unused = cmp.Or(st.Cause, "nothing newer is known for too long")
		}
	}
	for i := range from.Catalogue.Projects {
		p := &from.Catalogue.Projects[i]
		if p.Name == c.Project && from.Behind != nil {
			shown.Behind = from.behind(mirror, p)
		}
	}
	for _, way := range []struct {
		url    string
		scheme probe.Scheme
	}{{c.HTTPS, probe.HTTPS}, {c.HTTP, probe.HTTP}} {
		for _, family := range []probe.Family{probe.IPv4, probe.IPv6} {
			if way.url != "" && from.Health != nil {
				shown.Ways = from.access(shown.Ways, way.url, probe.Way{Mirror: mirror, Project: c.Project, Scheme: way.scheme, Family: family})
			}
		}
	}
	return shown
}

// behind are the repositories of a project that are not offered on a mirror.
func (from *Sources) behind(mirror string, p *directorapi.Project) (behind []Behind) {
	for i := range p.Repositories {
		r := &p.Repositories[i]
		switch why, since := from.Behind(mirror, p.Name, r.PointerPath()); why {
		case versions.Current, versions.Settling: // the latter is no fault of the mirror's
		default:
			behind = append(behind, Behind{Repository: r.Path, Since: since, Why: string(why)})
		}
	}
	return behind
}

// access appends how one way is. A family in which the server has no address is no way.
func (from *Sources) access(ways []Access, url string, w probe.Way) []Access {
	h, known := from.Health.Health(w)
	if known && h.Why == probe.NoAddress {
		return ways
	}
	family := map[probe.Family]string{probe.IPv4: "IPv4", probe.IPv6: "IPv6"}
	a := Access{URL: url, Family: family[w.Family], OK: h.Works, Why: strings.ReplaceAll(string(h.Why), "_", " "), Since: h.Since}
	if a.Since.IsZero() {
		a.Since = h.Looked // it never worked
	}
	if h.Works && !h.Expires.IsZero() {
		a.Expires = h.Expires
	}
	if from.History != nil {
		for _, h := range slices.Backward(from.History(w)) {
			a.History = append(a.History, Change{At: h.At, OK: h.Works, Why: string(h.Why)})
		}
	}
	return append(ways, a)
}

// tally counts the mirrors that are current in each repository.
func (n *Network) tally() {
	for i := range n.Projects {
		p := &n.Projects[i]
		for k := range n.Mirrors {
			c := n.Mirrors[k].carried(p.Name)
			if c == nil || n.Mirrors[k].Disabled {
				continue
			}
			for r := range p.Repositories {
				p.Repositories[r].Of++
				if c.State().works() && !c.isBehind(p.Repositories[r].Path) {
					p.Repositories[r].Current++
				}
			}
		}
	}
}

func (c *Carried) isBehind(repository string) bool {
	for i := range c.Behind {
		if c.Behind[i].Repository == repository {
			return true
		}
	}
	return false
}

// sentences say whom a mirror is for.
func sentences(r *directorapi.Rules) (all []string) {
	say := func(applies bool, format string, args ...any) {
		if applies {
			all = append(all, fmt.Sprintf(format, args...))
		}
	}
	list := func(of any) string { return strings.Join(strings.Fields(strings.Trim(fmt.Sprint(of), "[]")), ", ") }
	say(r.Global, "near everybody")
	say(r.RegionShare > 0 && r.RegionShare < 1, "at most %.0f %% of a continent's requests", 100*r.RegionShare)
	say(r.CountryOnly, "clients in its country only")
	say(r.ASNOnly, "clients in its autonomous system only")
	say(r.NetblocksOnly, "clients in its netblocks only")
	say(len(r.Netblocks) > 0, "nearest to %s", list(r.Netblocks))
	say(r.Exclusive, "clients there are given no other mirror")
	say(len(r.Countries) > 0, "also for %s", list(r.Countries))
	say(len(r.NotCountries) > 0, "not for %s", list(r.NotCountries))
	say(len(r.NotASNs) > 0, "not for the autonomous systems %s", list(r.NotASNs))
	say(len(r.NotNetblocks) > 0, "not for %s", list(r.NotNetblocks))
	say(len(r.NotPaths) > 0, "not for %s", list(r.NotPaths))
	say(r.MaxFileSize > 0, "no files of more than %s", page.Bytes(uint64(max(r.MaxFileSize, 0))))
	return all
}

// method says how an inventory is made.
func method(how directorapi.How) string {
	switch how {
	case directorapi.HowManifest:
		return "its own manifests"
	case directorapi.HowHTTP:
		return "the listings of folders"
	case directorapi.HowFileList:
		return "a list of all files"
	case directorapi.HowFolder:
		return "the folder itself"
	case directorapi.HowRsync:
		return "rsync"
	case directorapi.HowNone:
	}
	return ""
}
