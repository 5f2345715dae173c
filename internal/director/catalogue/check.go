package catalogue

import (
	"fmt"
	"math"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"freshet/api/directorapi"
	"freshet/internal/control"
	"freshet/internal/geoip"
)

// Check returns everything that is wrong with a catalogue, in its order.
func Check(c *directorapi.Catalogue) []directorapi.Problem {
	k := &checker{}
	k.names(directorapi.Projects, c)
	k.names(directorapi.Sites, c)
	k.names(directorapi.Mirrors, c)
	for i := range c.Projects {
		k.at("projects."+c.Projects[i].Name, func() { k.project(c, &c.Projects[i]) })
	}
	sites := make(map[string]*directorapi.Site, len(c.Sites))
	for i := range c.Sites {
		site := &c.Sites[i]
		sites[site.Name] = site
		k.at("sites."+site.Name, func() { k.site(site) })
	}
	projects := make(map[string]bool, len(c.Projects))
	for i := range c.Projects {
		projects[c.Projects[i].Name] = true
	}
	tokens := make(map[string]string)
	for i := range c.Mirrors {
		mirror := &c.Mirrors[i]
		k.at("mirrors."+mirror.Name, func() {
			site := sites[mirror.Site]
			if site == nil {
				k.problem("site", "there is no site %q", mirror.Site)
			}
			k.mirror(mirror, projects)
			k.rules(&mirror.Rules, site)
			if other := tokens[mirror.Token]; mirror.Token != "" && other != "" {
				k.problem("token", "is that of mirror %q", other)
			}
			tokens[mirror.Token] = mirror.Name
		})
	}
	return k.problems
}

// checker collects problems.
type checker struct {
	problems []directorapi.Problem
	where    string
}

// at does something about what stands there.
func (k *checker) at(where string, check func()) {
	outer := k.where
	k.where = where
	if outer != "" {
		k.where = outer + "." + where
	}
	check()
	k.where = outer
}

func (k *checker) problem(key, format string, args ...any) {
	where := k.where
	if where != "" && key != "" {
		where += "."
	}
	k.problems = append(k.problems, directorapi.Problem{Where: where + key, Message: fmt.Sprintf(format, args...)})
}

// names checks that all of a list have a name, each its own.
func (k *checker) names(items directorapi.Items, c *directorapi.Catalogue) {
	list, _ := kindOf(items)
	seen := make(map[string]bool)
	list.all(c, func(name string, _ any) {
		switch {
		case !validName(name):
			k.problem(string(items), `%.80q is no name: want a lower-case letter or digit, then up to 63 of these and ".", "-" and "_"`, name)
		case seen[name]:
			k.problem(string(items)+"."+name, "is there twice")
		}
		seen[name] = true
	})
}

// validName reports whether a project, site or mirror can be called so.
func validName(name string) bool {
	for i := range len(name) {
		switch b := name[i]; {
		case 'a' <= b && b <= 'z', '0' <= b && b <= '9':
		case i > 0 && (b == '.' || b == '-' || b == '_'):
		default:
			return false
		}
	}
	return name != "" && len(name) <= 64
}

func (k *checker) project(c *directorapi.Catalogue, p *directorapi.Project) {
	if p.Path == "" || p.Path[0] != '/' || p.Path != "/" && !folder(p.Path[1:]) {
		k.problem("path", `want a path like "/fedora/", got %q`, p.Path)
	}
	for i := range c.Projects {
		other := &c.Projects[i]
		if other != p && strings.HasPrefix(p.Path, other.Path) && (other.Path != p.Path || other.Name < p.Name) {
			k.problem("path", "%s is within %s of project %q", p.Path, other.Path, other.Name)
		}
	}
	if len(p.Origins) == 0 {
		k.problem("origins", "is required: the URL of the whole tree")
	}
	for i, origin := range p.Origins {
		k.url(fmt.Sprintf("origins[%d]", i), origin, true, "http", "https")
	}
	if p.Hub != "" {
		k.url("hub", p.Hub, true, "http", "https")
	}
	k.at("inventory", func() {
		k.source(&p.Inventory)
		switch from := p.Inventory; {
		case from.How == directorapi.HowFolder && !path.IsAbs(from.URL):
			k.problem("url", "want the path of a local folder, from its root, got %q", from.URL)
		case from.How == directorapi.HowRsync && from.URL == "":
			k.problem("url", "is required: where the origin can be listed, rsync://host/module/path/")
		}
	})
	seen := make(map[string]bool)
	for i := range p.Repositories {
		repo := &p.Repositories[i]
		k.at("repositories."+repo.Path, func() { k.repository(repo) })
		if key := repo.Path + "\n" + repo.Pointer; seen[key] {
			k.problem("repositories."+repo.Path, "is there twice")
		} else {
			seen[key] = true
		}
	}
	if p.Canary != "" && !file(p.Canary) {
		k.problem("canary", "want a path in the project, got %q", p.Canary)
	}
}

func (k *checker) repository(r *directorapi.Repository) {
	if r.Path != "" && !folder(r.Path) {
		k.problem("path", `want a folder in the project, "40/x86_64/os/", got %q`, r.Path)
	}
	if r.Pointer != "" && !file(r.Pointer) {
		k.problem("pointer", "want a path in the repository, got %q", r.Pointer)
	}
	switch r.Kind {
	case directorapi.KindRPM, directorapi.KindAlpine, directorapi.KindOSTree:
	case directorapi.KindDeb:
		if r.Pointer == "" {
			k.problem("pointer", `is required for deb: "dists/SUITE/InRelease"`)
		}
	case directorapi.KindArch:
		if r.Pointer == "" {
			k.problem("pointer", `is required for arch: "NAME.db"`)
		}
	default:
		k.problem("kind", `want "rpm", "deb", "arch", "alpine" or "ostree", got %q`, r.Kind)
	}
}

func (k *checker) site(s *directorapi.Site) {
	k.line("organisation", s.Organisation)
	k.line("contact", s.Contact)
	if s.URL != "" {
		k.url("url", s.URL, false, "http", "https")
	}
	k.country("country", s.Country)
	if !(math.Abs(s.Latitude) <= 90) {
		k.problem("latitude", "want degrees from -90 to 90, got %v", s.Latitude)
	}
	if !(math.Abs(s.Longitude) <= 180) {
		k.problem("longitude", "want degrees from -180 to 180, got %v", s.Longitude)
	}
}

// maxCapacity is more than any mirror has: 10 Tbit/s.
const maxCapacity = 10_000_000

func (k *checker) mirror(m *directorapi.Mirror, projects map[string]bool) {
	k.line("comment", m.Comment)
	if m.Capacity < 0 || m.Capacity > maxCapacity {
		k.problem("capacity", "want Mbit/s, at most %d, got %d", maxCapacity, m.Capacity)
	}
	if m.Token != "" {
		if _, err := control.ParseHash(m.Token); err != nil {
			k.problem("token", "%v", err)
		}
	}
	seen := make(map[string]bool)
	for i := range m.Carries {
		carried := &m.Carries[i]
		k.at("carries."+carried.Project, func() {
			switch {
			case !projects[carried.Project]:
				k.problem("project", "there is no project %q", carried.Project)
			case seen[carried.Project]:
				k.problem("project", "%q is there twice", carried.Project)
			}
			seen[carried.Project] = true
			k.carried(carried)
		})
	}
}

func (k *checker) carried(c *directorapi.Carried) {
	if c.HTTP == "" && c.HTTPS == "" {
		k.problem("", "needs http or https, where clients get the files")
	}
	k.given("http", c.HTTP, "http")
	k.given("https", c.HTTPS, "https")
	k.given("rsync", c.RSYNC, "rsync")
	k.at("inventory", func() {
		k.source(&c.Inventory)
		switch {
		case c.Inventory.How == directorapi.HowFolder:
			k.problem("how", "a local folder is for origins only")
		case c.Inventory.How == directorapi.HowRsync && c.RSYNC == "" && c.Inventory.URL == "":
			k.problem("how", "needs rsync, or url: where it can be listed")
		}
	})
}

// given checks a URL of a folder that may be empty.
func (k *checker) given(key, text, scheme string) {
	if text != "" {
		k.url(key, text, true, scheme)
	}
}

// url checks a URL, of a folder or not, with one of the schemes.
func (k *checker) url(key, text string, tree bool, schemes ...string) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "" || u.Opaque != "" || !slices.Contains(schemes, u.Scheme):
		k.problem(key, "want a URL with %s://, got %q", strings.Join(schemes, ":// or "), text)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.ContainsAny(text, "?#"):
		k.problem(key, "want a URL without user, query and fragment, got %q", u.Redacted())
	case tree && !strings.HasSuffix(u.Path, "/"):
		k.problem(key, "want the URL of a folder, with a slash at its end, got %q", text)
	}
}

// Bounds of how often an inventory is looked at.
const (
	minEvery = time.Minute
	maxEvery = 30 * 24 * time.Hour
)

func (k *checker) source(s *directorapi.Source) {
	every := time.Duration(s.Every)
	if every != 0 && (every < minEvery || every > maxEvery) {
		k.problem("every", "want from %v to %v, got %v", minEvery, maxEvery, every)
	}
	switch s.How {
	case directorapi.HowNone, directorapi.HowManifest:
		if s.URL != "" {
			k.problem("url", "is of no use: nothing is read")
		}
	case directorapi.HowRsync:
		k.given("url", s.URL, "rsync")
	case directorapi.HowHTTP:
		if s.URL != "" {
			k.url("url", s.URL, true, "http", "https")
		}
	case directorapi.HowFileList:
		if s.URL != "" {
			k.url("url", s.URL, false, "http", "https")
		}
	case directorapi.HowFolder:
	default:
		k.problem("how", `want "manifest", "rsync", "http", "filelist", "folder" or "", got %q`, s.How)
	}
}

func (k *checker) rules(r *directorapi.Rules, site *directorapi.Site) {
	k.at("rules", func() {
		switch {
		case !(r.RegionShare >= 0 && r.RegionShare <= 1):
			k.problem("region_share", "want a part of 1, got %v", r.RegionShare)
		case r.RegionShare > 0 && !r.Global:
			k.problem("region_share", "is for global mirrors only")
		}
		if r.ASNOnly && site != nil && site.ASN == 0 {
			k.problem("asn_only", "site %q has no asn", site.Name)
		}
		if len(r.Netblocks) == 0 && r.NetblocksOnly {
			k.problem("netblocks_only", "needs netblocks")
		}
		if len(r.Netblocks) == 0 && r.Exclusive {
			k.problem("exclusive", "needs netblocks")
		}
		if r.MaxFileSize < 0 {
			k.problem("max_file_size", "want bytes, got %d", r.MaxFileSize)
		}
		k.prefixes("netblocks", r.Netblocks)
		k.prefixes("not_netblocks", r.NotNetblocks)
		for i, code := range r.Countries {
			k.country(fmt.Sprintf("countries[%d]", i), code)
			if slices.Contains(r.NotCountries, code) {
				k.problem(fmt.Sprintf("countries[%d]", i), "%s is in not_countries, too", code)
			}
		}
		for i, code := range r.NotCountries {
			k.country(fmt.Sprintf("not_countries[%d]", i), code)
		}
		for i, pattern := range r.NotPaths {
			if !strings.HasPrefix(pattern, "/") && !strings.HasPrefix(pattern, "*") {
				k.problem(fmt.Sprintf("not_paths[%d]", i), `begins with neither "/" nor "*": %q`, pattern)
			}
		}
	})
}

func (k *checker) prefixes(key string, list []netip.Prefix) {
	for i, p := range list {
		switch {
		case !p.IsValid():
			k.problem(fmt.Sprintf("%s[%d]", key, i), "is no prefix")
		case p != p.Masked() || p.Addr().Is4In6():
			k.problem(fmt.Sprintf("%s[%d]", key, i), "%v is not the first address of its prefix: %v", p, p.Masked())
		}
	}
}

func (k *checker) country(key, code string) {
	if geoip.CountryName(code) == code {
		k.problem(key, "%.20q is no country of ISO 3166-1: two upper-case letters", code)
	}
}

func (k *checker) line(key, text string) {
	const limit = 1000
	if err := checkLine(key, text, limit); err != nil {
		k.problem("", "%v", err)
	}
}

// folder reports whether text is the path of a folder below another, with a slash at its
// end.
func folder(text string) bool {
	name, ok := strings.CutSuffix(text, "/")
	return ok && file(name)
}

// file reports whether text is the path of something below a folder.
func file(text string) bool {
	return text != "" && text != "." && path.Clean(text) == text && !path.IsAbs(text) &&
		!strings.HasPrefix(text, "../") && text != ".." && checkLine("", text, 4096) == nil
}
