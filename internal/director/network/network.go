// Package network puts together what is known of mirrors and files, for the answers of
// package redirect:
//
//	catalogue ─► who there is, and where            ┐
//	probe     ─► which ways to them work, their load├─ New ─► Network, until one changes
//	geoip     ─► where clients are                  ┘            │
//	inventory ─► who has a file                   ┐              ▼
//	versions  ─► who has all of a current version ┴─ File, Choose
//
// Inventory and versions are asked for each request, since they change all the time and
// answer from memory.
package network

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"strings"
	"sync"
	"time"

	"freshet/api/directorapi"
	"freshet/internal/director/choice"
	"freshet/internal/director/probe"
	"freshet/internal/director/redirect"
	"freshet/internal/geoip"
	"freshet/internal/inventory"
	"freshet/internal/layout"
)

// Versions knows which mirrors have all of the current version of a repository; see
// package versions.
type Versions interface {
	// Find returns what is known of a mutable name, and who may be used for it; false
	// for all other names.
	Find(project, path string) (f inventory.File, mutable bool)
	// Behind tells why a mirror is not to be used for a repository.
	Behind(mirror, project, repository string) (why string, since time.Time)
}

// Sources are what a Network is made of. They must not be changed any more.
type Sources struct {
	Catalogue *directorapi.Catalogue
	Inventory *inventory.Inventory
	Versions  Versions
	// Health is what probes have found out. Nil: nobody looks, and all is taken to
	// work.
	Health *probe.State
	// Shed is the part of its share that a mirror is not given because of its load.
	// Nil: none of any.
	Shed    func(mirror string) float64
	Locator *geoip.Locator
	// Count returns what is counted for a mirror. Nil: nothing is.
	Count func(mirror string) *redirect.Count
}

// Network is one state of catalogue, health and load. It implements [redirect.Network].
type Network struct {
	sources  Sources
	projects []project
	pool     sync.Pool // of *errand
}

// project is a tree, and the mirrors that carry it.
type project struct {
	name, path   string
	salt         uint64
	tree         *inventory.Tree
	repositories []string // pointers
	chooser      *choice.Chooser
	mirrors      []redirect.Mirror  // by their index in the chooser
	holders      []inventory.Holder // the same
	paths        bool               // some have rules about paths
	covers       covers
	unlisted     bool // nobody lists the origin, so nobody lists mirrors either
}

// errand is what one choice needs. It is used again.
type errand struct {
	request choice.Request
	files   held
	picks   []choice.Pick
}

// held tells which mirrors may be used for a file or a folder.
type held struct {
	holders []inventory.Holder
	view    inventory.View
	set     inventory.Set
	lacking choice.Reason // of those that are not in the set
}

// Holds implements [choice.Files].
func (f *held) Holds(mirror int) choice.Reason {
	h := f.holders[mirror]
	switch {
	case f.set.Has(h):
		return choice.None
	case f.view.Standing(h).Updated.IsZero():
		return choice.Doubtful // nobody knows what it has
	}
	return f.lacking
}

// New puts sources together, and returns the projects with it, for [redirect.NewData].
// Mirrors that an inventory has no room for are left out.
func New(s Sources) (*Network, []redirect.Project) {
	n := &Network{sources: s}
	sites := make(map[string]*directorapi.Site, len(s.Catalogue.Sites))
	for i := range s.Catalogue.Sites {
		sites[s.Catalogue.Sites[i].Name] = &s.Catalogue.Sites[i]
	}
	var told []redirect.Project
	for i := range s.Catalogue.Projects {
		p := &s.Catalogue.Projects[i]
		if p.Disabled {
			continue
		}
		n.projects = append(n.projects, project{
			name: p.Name, path: p.Path, tree: s.Inventory.Project(p.Name), salt: saltOf(p.Name),
			unlisted: p.Inventory.How == directorapi.HowNone,
		})
		n.projects[len(n.projects)-1].fill(&s, p, sites)
		told = append(told, redirect.Project{Name: p.Name, Path: p.Path, Origins: origins(s.Health, p)})
	}
	return n, told
}

// fill finds the mirrors of a project.
func (to *project) fill(s *Sources, p *directorapi.Project, sites map[string]*directorapi.Site) {
	for _, r := range p.Repositories {
		if pointer := r.PointerPath(); pointer != "" {
			to.repositories = append(to.repositories, pointer)
		}
	}
	var mirrors []choice.Mirror
	for i := range s.Catalogue.Mirrors {
		m := &s.Catalogue.Mirrors[i]
		holder, err := s.Inventory.Holder(m.Name)
		if err != nil {
			continue // there are more mirrors than an inventory takes, which it tells itself
		}
		site := cmp.Or(sites[m.Site], new(directorapi.Site))
		for j := range m.Carries {
			c := &m.Carries[j]
			if c.Project != p.Name {
				continue
			}
			to.holders = append(to.holders, holder)
			to.mirrors = append(to.mirrors, s.told(m, site))
			mirrors = append(mirrors, s.candidate(m, site, c))
			to.paths = to.paths || len(m.Rules.NotPaths) > 0
		}
	}
	to.chooser = choice.New(mirrors)
}

// told is what answers say of a mirror.
func (s *Sources) told(m *directorapi.Mirror, site *directorapi.Site) redirect.Mirror {
	r := redirect.Mirror{Name: m.Name, Site: m.Site, Country: site.Country}
	if s.Count != nil {
		r.Count = s.Count(m.Name)
	}
	return r
}

// candidate is what the choice has to know of a mirror.
func (s *Sources) candidate(m *directorapi.Mirror, site *directorapi.Site, c *directorapi.Carried) choice.Mirror {
	k := choice.Mirror{
		Name: m.Name, Place: choice.PlaceOf(site), ASN: site.ASN, Capacity: m.Capacity, Rules: m.Rules, Disabled: m.Disabled,
	}
	if s.Shed != nil {
		k.Shed = s.Shed(m.Name)
	}
	for _, w := range [...]struct {
		url    string
		scheme probe.Scheme
		family probe.Family
	}{{c.HTTP, probe.HTTP, probe.IPv4}, {c.HTTP, probe.HTTP, probe.IPv6}, {c.HTTPS, probe.HTTPS, probe.IPv4}, {c.HTTPS, probe.HTTPS, probe.IPv6}} {
		state := &k.Ways[choice.WayOf(w.scheme == probe.HTTPS, w.family == probe.IPv6)]
		if state.URL = w.url; w.url == "" || s.Health == nil {
			continue
		}
		if ok, why, since := s.Health.Usable(m.Name, c.Project, w.scheme, w.family); !ok {
			state.Fault, state.Since = cmp.Or(string(why), "down"), since
		}
	}
	return k
}

// origins are the URLs of a project's tree, those that work first.
func origins(health *probe.State, p *directorapi.Project) []string {
	var working, others []string
	for i, root := range p.Origins {
		if health == nil || reachable(health, p, i, root) {
			working = append(working, root)
		} else {
			others = append(others, root)
		}
	}
	return append(working, others...)
}

func reachable(health *probe.State, p *directorapi.Project, i int, root string) bool {
	scheme := probe.HTTP
	if strings.HasPrefix(root, "https:") {
		scheme = probe.HTTPS
	}
	for _, family := range [...]probe.Family{probe.IPv4, probe.IPv6} {
		if ok, _, _ := health.Usable(probe.Origin(i), p.Name, scheme, family); ok {
			return true
		}
	}
	return false
}

// File implements [redirect.Network].
func (n *Network) File(number int, path string) (redirect.File, bool) {
	p := &n.projects[number]
	f, found := p.tree.Find(path)
	v, mutable := n.sources.Versions.Find(p.name, path)
	if mutable {
		// The listing of the origin may be of the version before.
		return redirect.File{Size: v.Size, SHA256: v.SHA256, HasSHA256: v.HasSHA256(), Mutable: true}, found || v.Size >= 0
	}
	return redirect.File{
		Size: f.Size, ModTime: f.ModTime, SHA256: f.SHA256, HasSHA256: f.HasSHA256(), Mutable: layout.Tree(path).Mutable(),
	}, found
}

// Choose implements [redirect.Network].
func (n *Network) Choose(q *redirect.Query) {
	p := &n.projects[q.Project]
	e, ok := n.pool.Get().(*errand)
	if !ok {
		e = new(errand)
	}
	defer n.pool.Put(e)
	size := n.hold(p, q, &e.files)
	at := n.sources.Locator.Locate(q.Client)
	q.Country, q.ASN = at.Country.Code(), at.ASN
	now := q.Now
	if e.files.lacking == choice.NotCurrent {
		// A mirror may be ahead of what is known of the origin. Who has found the newer
		// version there is not sent to others because some minutes are over.
		now = time.Time{}
	}
	e.request = choice.Request{
		Client: at, IPv6: q.Client.Is6() && !q.Client.Is4In6(), Scheme: choice.PreferHTTP, Size: size, Files: &e.files,
		Seed: choice.Seed(q.Client, p.salt, now), Explain: q.Explain, Most: q.Most,
	}
	switch {
	case q.HTTPS:
		e.request.Scheme = choice.OnlyHTTPS
	case q.HTTP:
		e.request.Scheme = choice.OnlyHTTP
	}
	if p.paths {
		e.request.Path = p.path + q.Path
	}
	e.picks = p.chooser.Choose(e.picks[:0], &e.request)
	for i := range e.picks {
		q.Picks = append(q.Picks, n.pick(p, q, &e.request, &e.picks[i]))
	}
}

// hold finds out who may be used for the path of a query, and how long the file is; -1:
// not known.
func (n *Network) hold(p *project, q *redirect.Query, files *held) (size int64) {
	*files = held{holders: p.holders, view: p.tree.View(), lacking: choice.NoFile}
	if q.IsFolder() {
		var repository bool
		if files.set, repository = n.folder(p, files.view, q.Path); repository {
			files.lacking = choice.NotCurrent
		}
		return -1
	}
	if f, mutable := n.sources.Versions.Find(p.name, q.Path); mutable {
		files.set, files.lacking = f.Holders, choice.NotCurrent
		return f.Size
	}
	f, ok := files.view.Find(q.Path)
	if !ok {
		return -1
	}
	files.set = f.Holders
	return f.Size
}

// folder finds who has all that is in a folder: of each repository in it the current
// version or, if there are none, the current version of each file.
func (n *Network) folder(p *project, view inventory.View, folder string) (set inventory.Set, repository bool) {
	for _, pointer := range p.repositories {
		if !strings.HasPrefix(pointer, folder) {
			continue
		}
		f, _ := n.sources.Versions.Find(p.name, pointer)
		if repository {
			set = set.And(f.Holders)
		} else {
			set, repository = f.Holders, true
		}
	}
	if repository {
		return set, true
	}
	return p.covers.of(view, folder, func(path string) bool {
		_, mutable := n.sources.Versions.Find(p.name, path)
		return !mutable
	}), false
}

// pick tells what came out for a mirror.
func (n *Network) pick(p *project, q *redirect.Query, r *choice.Request, k *choice.Pick) redirect.Pick {
	told := redirect.Pick{
		Mirror: &p.mirrors[k.Mirror], Root: p.chooser.Mirror(k.Mirror).Ways[k.Way].URL,
		Tier: k.Tier.String(), Score: k.Chance, Kilometres: k.Distance, Excluded: k.Out.String(),
	}
	if !q.Explain {
		return told
	}
	told.Detail, told.Since = p.chooser.Why(k, r), p.chooser.Since(k)
	if k.Out != choice.None {
		told.Tier = ""
	}
	if k.Out == choice.Doubtful && p.unlisted {
		told.Detail = "It is not known which files it has: the catalogue does not say how the files of the project's origin are found out (inventory.how), and without them those of mirrors tell nothing."
	}
	if k.Out == choice.NotCurrent {
		var why string
		if why, told.Since = n.behind(p, q.Path, told.Mirror.Name); why != "" {
			told.Detail = strings.TrimSuffix(told.Detail, ".") + " (" + why + ")."
		}
	}
	return told
}

// behind tells why a mirror has not all of the repository of a path.
func (n *Network) behind(p *project, path, mirror string) (why string, since time.Time) {
	best := ""
	for _, pointer := range p.repositories {
		if inFolder(pointer, path) && len(pointer) > len(best) {
			best = pointer
		}
	}
	if best == "" {
		return "", time.Time{}
	}
	return n.sources.Versions.Behind(mirror, p.name, best)
}

// inFolder reports whether a path is in the folder of a pointer, or a folder around it.
func inFolder(pointer, path string) bool {
	folder := pointer[:strings.LastIndexByte(pointer, '/')+1]
	return strings.HasPrefix(path, folder) || strings.HasPrefix(pointer, path)
}

// saltOf makes a number of the name of a project that is the same in all directors.
func saltOf(name string) uint64 {
	sum := sha256.Sum256([]byte(name))
	return binary.LittleEndian.Uint64(sum[:])
}
