package catalogue_test

import (
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"freshet/api/directorapi"
	"freshet/internal/control"
	"freshet/internal/director/catalogue"
)

// Each rule has its words.
func TestCheck(t *testing.T) {
	_, hash := control.NewToken("")
	for want, change := range map[string]func(c *directorapi.Catalogue){
		"":                              func(*directorapi.Catalogue) {},
		`projects: "Fedora" is no name`: func(c *directorapi.Catalogue) { c.Projects[0].Name, c.Mirrors = "Fedora", nil },
		`projects.fedora: is there twice`: func(c *directorapi.Catalogue) {
			c.Projects = append(c.Projects, directorapi.Project{Name: "fedora", Path: "/b/", Origins: []string{"https://a/"}})
		},
		`projects.fedora.path: want a path like "/fedora/", got "/a/../b/"`: func(c *directorapi.Catalogue) { c.Projects[0].Path = "/a/../b/" },
		`projects.part.path: /fedora/40/ is within /fedora/ of project "fedora"`: func(c *directorapi.Catalogue) {
			c.Projects = append(c.Projects, directorapi.Project{Name: "part", Path: "/fedora/40/", Origins: []string{"https://a/"}})
		},
		`projects.fedora.hub: want the URL of a folder`:                    func(c *directorapi.Catalogue) { c.Projects[0].Hub = "https://hub.example/repo" },
		`projects.fedora.origins: is required`:                             func(c *directorapi.Catalogue) { c.Projects[0].Origins = nil },
		`projects.fedora.origins[0]: want a URL with http:// or https://`:  func(c *directorapi.Catalogue) { c.Projects[0].Origins = []string{"ftp://a/"} },
		`projects.fedora.origins[0]: want a URL without user`:              func(c *directorapi.Catalogue) { c.Projects[0].Origins = []string{"https://a:b@c/"} },
		`projects.fedora.inventory.url: want the path of a local folder`:   func(c *directorapi.Catalogue) { c.Projects[0].Inventory.How = "folder" },
		`projects.fedora.inventory.every: want from 1m0s`:                  func(c *directorapi.Catalogue) { c.Projects[0].Inventory.Every = directorapi.Duration(time.Second) },
		`projects.fedora.repositories.40/os/.kind: want "rpm"`:             func(c *directorapi.Catalogue) { c.Projects[0].Repositories[0].Kind = "yum" },
		`projects.fedora.repositories.40/os/.pointer: is required for deb`: func(c *directorapi.Catalogue) { c.Projects[0].Repositories[0].Kind = "deb" },
		`projects.fedora.repositories.40/os.path: want a folder`:           func(c *directorapi.Catalogue) { c.Projects[0].Repositories[0].Path = "40/os" },
		`projects.fedora.canary: want a path`:                              func(c *directorapi.Catalogue) { c.Projects[0].Canary = "/a" },
		`sites.uni.country: "UK" is no country`:                            func(c *directorapi.Catalogue) { c.Sites[0].Country = "UK" },
		`sites.uni.latitude: want degrees`:                                 func(c *directorapi.Catalogue) { c.Sites[0].Latitude = 91 },
		`sites.uni.longitude: want degrees`:                                func(c *directorapi.Catalogue) { c.Sites[0].Longitude = math.NaN() },
		`sites.uni: contact: "a\nb" is not one line`:                       func(c *directorapi.Catalogue) { c.Sites[0].Contact = "a\nb" },
		`mirrors.uni.site: there is no site "x"`:                           func(c *directorapi.Catalogue) { c.Mirrors[0].Site = "x" },
		`mirrors.uni.capacity: want Mbit/s`:                                func(c *directorapi.Catalogue) { c.Mirrors[0].Capacity = -1 },
		`mirrors.uni.token: want "sha256:" and 64`:                         func(c *directorapi.Catalogue) { c.Mirrors[0].Token = "secret" },
		`mirrors.uni2.token: is that of mirror "uni"`: func(c *directorapi.Catalogue) {
			c.Mirrors[0].Token = hash
			c.Mirrors = append(c.Mirrors, directorapi.Mirror{Name: "uni2", Site: "uni", Token: hash})
		},
		`mirrors.uni.carries.fedora: needs http or https`:          func(c *directorapi.Catalogue) { c.Mirrors[0].Carries[0].HTTPS = "" },
		`mirrors.uni.carries.fedora.http: want a URL with http://`: func(c *directorapi.Catalogue) { c.Mirrors[0].Carries[0].HTTP = "https://a/" },
		`mirrors.uni.carries.fedora.project: "fedora" is there twice`: func(c *directorapi.Catalogue) {
			c.Mirrors[0].Carries = append(c.Mirrors[0].Carries, c.Mirrors[0].Carries[0])
		},
		`mirrors.uni.carries.fedora.inventory.how: needs rsync`:                   func(c *directorapi.Catalogue) { c.Mirrors[0].Carries[0].RSYNC = "" },
		`mirrors.uni.carries.fedora.inventory.how: a local folder is for origins`: func(c *directorapi.Catalogue) { c.Mirrors[0].Carries[0].Inventory.How = "folder" },
		`mirrors.uni.carries.fedora.inventory.url: is of no use`: func(c *directorapi.Catalogue) {
			c.Mirrors[0].Carries[0].Inventory = directorapi.Source{URL: "http://a/"}
		},
		`mirrors.uni.rules.region_share: is for global mirrors`: func(c *directorapi.Catalogue) { c.Mirrors[0].Rules.RegionShare = 0.5 },
		`mirrors.uni.rules.asn_only: site "uni" has no asn`:     func(c *directorapi.Catalogue) { c.Sites[0].ASN, c.Mirrors[0].Rules.ASNOnly = 0, true },
		`mirrors.uni.rules.netblocks_only: needs netblocks`:     func(c *directorapi.Catalogue) { c.Mirrors[0].Rules.NetblocksOnly = true },
		`mirrors.uni.rules.exclusive: needs netblocks`:          func(c *directorapi.Catalogue) { c.Mirrors[0].Rules.Exclusive = true },
		`mirrors.uni.rules.netblocks[0]: 10.1.2.3/8 is not the first address of its`: func(c *directorapi.Catalogue) {
			c.Mirrors[0].Rules.Netblocks = []netip.Prefix{netip.MustParsePrefix("10.1.2.3/8")}
		},
		`mirrors.uni.rules.not_countries[0]: "de" is no country`: func(c *directorapi.Catalogue) { c.Mirrors[0].Rules.NotCountries = []string{"de"} },
		`mirrors.uni.rules.countries[0]: AT is in not_countries`: func(c *directorapi.Catalogue) {
			c.Mirrors[0].Rules.Countries, c.Mirrors[0].Rules.NotCountries = []string{"AT"}, []string{"AT"}
		},
		`mirrors.uni.rules.not_paths[0]: begins with neither`: func(c *directorapi.Catalogue) { c.Mirrors[0].Rules.NotPaths = []string{"iso/*"} },
		`mirrors.uni.rules.max_file_size: want bytes`:         func(c *directorapi.Catalogue) { c.Mirrors[0].Rules.MaxFileSize = -1 },
	} {
		c := sample()
		change(&c)
		problems := catalogue.Check(&c)
		if want == "" && len(problems) == 0 {
			continue
		}
		if len(problems) != 1 || !strings.HasPrefix(problems[0].String(), want) || want == "" {
			t.Errorf("want %q, got %q", want, problems)
		}
	}
}

// An import leaves alone what it knows nothing of.
func TestMerge(t *testing.T) {
	into := sample()
	into.Mirrors[0].Token = "kept"
	into.Mirrors[0].Carries = append(into.Mirrors[0].Carries, directorapi.Carried{Project: "other"})
	into.Mirrors = append(into.Mirrors, directorapi.Mirror{Name: "mine"})
	catalogue.Merge(&into, &directorapi.Catalogue{
		Projects: []directorapi.Project{{Name: "fedora", Path: "/elsewhere/"}, {Name: "epel"}},
		Sites:    []directorapi.Site{{Name: "uni", Country: "AT"}},
		Mirrors:  []directorapi.Mirror{{Name: "uni", Capacity: 7, Carries: []directorapi.Carried{{Project: "fedora", HTTP: "http://new/"}}}, {Name: "new"}},
	})
	uni := into.Mirror("uni")
	if len(into.Projects) != 2 || into.Project("fedora").Path != "/fedora/" || into.Site("uni").Country != "AT" || len(into.Mirrors) != 3 ||
		uni.Token != "kept" || uni.Capacity != 7 || len(uni.Carries) != 2 || uni.Carries[0].HTTP != "http://new/" || uni.Carries[1].Project != "other" {
		t.Errorf("%+v", into)
	}
}
