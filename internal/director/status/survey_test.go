package status_test

import (
	"iter"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"freshet/api/directorapi"
	"freshet/internal/director/probe"
	"freshet/internal/director/status"
	"freshet/internal/director/versions"
	"freshet/internal/inventory"
)

// health is one that a test writes down.
type health map[string]probe.Health

func (h health) Health(w probe.Way) (probe.Health, bool) {
	found, ok := h[w.String()]
	return found, ok
}

func (h health) Load(mirror string) float64 { return map[string]float64{"near": 0.25}[mirror] }

func files(paths ...string) iter.Seq2[inventory.Entry, error] {
	return func(yield func(inventory.Entry, error) bool) {
		for _, p := range paths {
			if !yield(inventory.Entry{Path: p, Size: 10}, nil) {
				return
			}
		}
	}
}

// What is known from everywhere comes together.
func TestSurvey(t *testing.T) {
	inv := new(inventory.Inventory)
	tree := inv.Project("distro")
	for holder, paths := range map[string][]string{"": {"a/1", "a/2", "b/3"}, "near": {"a/1", "a/2", "b/3", "own"}, "far": {"a/1"}} {
		h := inventory.Origin
		if holder != "" {
			var err error
			if h, err = inv.Holder(holder); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := tree.Replace(h, inventory.Listing{At: now.Add(-time.Minute), Entries: files(paths...)}); err != nil {
			t.Fatal(err)
		}
	}
	from := &status.Sources{
		Catalogue: &directorapi.Catalogue{
			Projects: []directorapi.Project{
				{Name: "distro", Path: "/distro/", Repositories: []directorapi.Repository{{Path: "os/", Kind: directorapi.KindRPM}}},
				{Name: "old", Path: "/old/", Disabled: true},
			},
			Sites: []directorapi.Site{{Name: "uni", Organisation: "University", Country: "DE", Latitude: 52.5, Longitude: 13.4, ASN: 64500}},
			Mirrors: []directorapi.Mirror{
				{Name: "far", Site: "uni", Carries: []directorapi.Carried{{Project: "distro", HTTP: "http://far.example/"}, {Project: "old"}}},
				{
					Name: "near", Site: "uni", Capacity: 500, Carries: []directorapi.Carried{{Project: "distro", HTTPS: "https://near.example/", Inventory: directorapi.Source{How: directorapi.HowRsync}}},
					Rules: directorapi.Rules{CountryOnly: true, Netblocks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")}, MaxFileSize: 4e9},
				},
			},
		},
		Inventory: inv,
		Health: health{
			"near distro https ipv4": {Works: true, Since: now.Add(-time.Hour), Expires: now.Add(240 * time.Hour)},
			"near distro https ipv6": {Why: probe.NoAddress, Looked: now},
			"far distro http ipv4":   {Why: probe.WrongLength, Looked: now},
		},
		History: func(w probe.Way) []probe.Change {
			if w.Mirror != "near" {
				return nil
			}
			return []probe.Change{{At: now.Add(-2 * time.Hour), Why: probe.Frozen}, {At: now.Add(-time.Hour), Works: true}}
		},
		Current: func(project, repository string) ([32]byte, bool) {
			return [32]byte{0xab}, project == "distro" && repository == "os/repodata/repomd.xml"
		},
		Behind: func(mirror, _, _ string) (versions.Reason, time.Time) {
			if mirror == "near" {
				return versions.Current, time.Time{}
			}
			return versions.Older, now.Add(-time.Hour)
		},
		Scan: func(mirror, _ string) (directorapi.ScanStatus, bool) {
			if mirror == "" {
				return directorapi.ScanStatus{Failures: 2, Cause: "refused", Error: "open /srv/secret: no such file"}, true
			}
			return directorapi.ScanStatus{Used: mirror == "near"}, true
		},
	}
	want := &status.Network{
		Made: now,
		Projects: []status.Project{{
			Name: "distro", Path: "/distro/", Files: 3, Bytes: 30, Known: now.Add(-time.Minute), Problem: "refused",
			Repositories: []status.Repository{{Path: "os/", Kind: "rpm", Version: "ab00000000000000000000000000000000000000000000000000000000000000", Current: 1, Of: 2}},
		}},
		Mirrors: []status.Mirror{
			{
				Name: "far", Site: "uni", Organisation: "University", Country: "DE", Continent: "EU", Latitude: 52.5, Longitude: 13.4, Located: true, ASN: 64500, Capacity: 1000,
				Carries: []status.Carried{{
					Project: "distro", Holds: 1, Known: now.Add(-time.Minute), Unused: "nothing newer is known for too long",
					Behind: []status.Behind{{Repository: "os/", Since: now.Add(-time.Hour), Why: "older"}},
					Ways:   []status.Access{{URL: "http://far.example/", Family: "IPv4", Why: "length", Since: now}, {URL: "http://far.example/", Family: "IPv6"}},
				}},
			},
			{
				Name: "near", Site: "uni", Organisation: "University", Country: "DE", Continent: "EU", Latitude: 52.5, Longitude: 13.4, Located: true, ASN: 64500, Capacity: 500, Load: 0.25,
				Rules: []string{"clients in its country only", "nearest to 192.0.2.0/24, 2001:db8::/32", "no files of more than 4.0 GB"},
				Carries: []status.Carried{{
					Project: "distro", Holds: 3, Known: now.Add(-time.Minute), Way: "rsync",
					Ways: []status.Access{{
						URL: "https://near.example/", Family: "IPv4", OK: true, Since: now.Add(-time.Hour), Expires: now.Add(240 * time.Hour),
						History: []status.Change{{At: now.Add(-time.Hour), OK: true}, {At: now.Add(-2 * time.Hour), Why: "frozen"}},
					}},
				}},
			},
		},
	}
	var s status.Surveyor
	for range 2 { // counted, and remembered
		if diff := cmp.Diff(want, s.Survey(from, now)); diff != "" {
			t.Fatal(diff)
		}
	}
	tree.Drop(mustHolder(t, inv, "near"))
	if n := s.Survey(from, now); n.Mirrors[1].Carries[0].Holds != 0 {
		t.Errorf("who holds nothing any more holds %d", n.Mirrors[1].Carries[0].Holds)
	}
}

func mustHolder(t *testing.T, inv *inventory.Inventory, name string) inventory.Holder {
	t.Helper()
	h, ok := inv.Lookup(name)
	if !ok {
		t.Fatalf("%s is not known", name)
	}
	return h
}
