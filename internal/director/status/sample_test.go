package status_test

import (
	"fmt"
	"time"

	"freshet/internal/director/status"
)

// now is the moment of the sample.
var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// sample is a network of forty mirrors in twelve places: most current, some behind,
// down, unknown, disabled, and one with names that mean mischief.
func sample() *status.Network {
	n := &status.Network{Made: now, Projects: []status.Project{
		{Name: "fedora", Path: "/fedora/", Files: 250_000, Bytes: 3_200_000_000_000, Known: now.Add(-7 * time.Minute), Repositories: []status.Repository{
			{Path: "40/Everything/x86_64/os/", Kind: "rpm", Version: "7c9fa1340e9b42b1b0dd4b1f21f0e9ac7c9fa1340e9b42b1b0dd4b1f21f0e9ac", Since: now.Add(-3 * time.Hour), Current: 17, Of: 24},
			{Path: "40/Updates/x86_64/", Kind: "rpm", Since: now.Add(-10 * time.Minute), Of: 24},
		}},
		{Name: "flathub", Path: "/flathub/", Files: 9_000_000, Bytes: 929_000_000_000, Known: now.Add(-time.Hour), Problem: "rsync: connection refused"},
		{Name: "new", Path: "/new/"},
	}}
	places := []struct {
		country, continent string
		lat, lon           float64
	}{
		{"DE", "EU", 52.5, 13.4},
		{"DE", "EU", 50.1, 8.7},
		{"FR", "EU", 48.9, 2.4},
		{"GB", "EU", 51.5, -0.1},
		{"US", "NA", 40.7, -74},
		{"US", "NA", 37.4, -122},
		{"BR", "SA", -23.5, -46.6},
		{"ZA", "AF", -33.9, 18.4},
		{"JP", "AS", 35.7, 139.7},
		{"SG", "AS", 1.35, 103.8},
		{"AU", "OC", -33.9, 151.2},
		{"NZ", "OC", -36.8, 174.8},
	}
	for i := range 40 {
		p := places[i%len(places)]
		m := status.Mirror{
			Name: fmt.Sprintf("mirror-%02d.example", i), Site: fmt.Sprintf("site-%d", i), Organisation: "University of Somewhere", URL: "https://example.org/",
			Country: p.country, Continent: p.continent, Latitude: p.lat + float64(i%5)/3, Longitude: p.lon, Located: i != 13, ASN: 64500, Capacity: 100 << (i % 8), Load: -1,
			Carries: []status.Carried{carried("fedora", i), carried("flathub", i+1)}[:1+i%2],
		}
		n.Mirrors = append(n.Mirrors, m)
	}
	n.Mirrors[3].Disabled = true
	n.Mirrors[5].Load, n.Mirrors[5].Rules = 0.42, []string{"for clients in its own country only", "no files of more than 4 GB"}
	n.Mirrors[7].Carries = nil
	n.Mirrors[11].Organisation, n.Mirrors[11].URL = `<script>alert("x")</script>`, "javascript:alert(1)"
	return n
}

// carried is a project on the i-th mirror.
func carried(project string, i int) status.Carried {
	c := status.Carried{Project: project, Holds: 250_000, Known: now.Add(-time.Duration(i) * time.Minute), Way: "rsync"}
	for _, family := range []string{"IPv4", "IPv6"} {
		c.Ways = append(c.Ways, status.Access{
			URL: fmt.Sprintf("https://mirror-%02d.example/%s/", i, project), Family: family, OK: true, Since: now.Add(-24 * time.Hour),
			History: []status.Change{{At: now.Add(-24 * time.Hour), OK: true}, {At: now.Add(-26 * time.Hour), Why: "timeout"}, {At: now.Add(-90 * time.Hour), OK: true}},
		})
	}
	switch i % 10 {
	case 4:
		c.Behind = []status.Behind{{Repository: "40/Everything/x86_64/os/", Since: now.Add(-2 * time.Hour), Why: "31 packages are missing"}}
		c.Holds = 249_969
	case 6:
		c.Unused = "the inventory is 3 days old"
	case 8:
		for w := range c.Ways {
			c.Ways[w].OK, c.Ways[w].Why = false, "answers with a page to log in"
		}
	case 9:
		c.Ways[1].OK, c.Ways[1].Why = false, "no answer within 10 s"
	case 2:
		c.Known, c.Holds = time.Time{}, 0
		for w := range c.Ways {
			c.Ways[w] = status.Access{URL: c.Ways[w].URL, Family: c.Ways[w].Family}
		}
	}
	return c
}
