package network_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"freshet/api/directorapi"
	"freshet/internal/director/network"
	"freshet/internal/director/redirect"
	"freshet/internal/inventory"
)

// current are versions that one mirror has, of the repository in "os/".
type current struct{ set inventory.Set }

const pointer = "os/repodata/repomd.xml"

func (c *current) Find(_, path string) (inventory.File, bool) {
	if path == pointer {
		return inventory.File{Size: 7, SHA256: [32]byte{1}, Holders: c.set}, true
	}
	return inventory.File{}, false
}

func (c *current) Behind(mirror, _, repository string) (string, time.Time) {
	return mirror + " is behind with " + repository, time.Unix(1, 0)
}

// world is a network of mirrors m0, m1…, of which all have all files but m0, which has none
// in "iso/", and the last one, of which nothing is known. Only m1 has the current version.
func world(t testing.TB, mirrors, files int) *redirect.Data {
	t.Helper()
	var known inventory.Inventory
	tree := known.Project("pub")
	list := func(h inventory.Holder, skip string) {
		_, err := tree.Replace(h, inventory.Listing{At: time.Now(), Entries: func(yield func(inventory.Entry, error) bool) {
			for _, path := range []string{"iso/a.iso", "iso/b.iso", "os/Packages/p-1-1.x86_64.rpm", pointer} {
				if (skip == "" || !strings.HasPrefix(path, skip)) && !yield(inventory.Entry{Path: path, Size: 9}, nil) {
					return
				}
			}
			for i := range files {
				if !yield(inventory.Entry{Path: fmt.Sprintf("many/%03d/%d.rpm", i%997, i), Size: int64(i)}, nil) {
					return
				}
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	list(inventory.Origin, "")
	c := &directorapi.Catalogue{
		Sites: []directorapi.Site{{Name: "s", Country: "DE"}},
		Projects: []directorapi.Project{
			{Name: "off", Path: "/off/", Disabled: true},
			{
				Name: "pub", Path: "/pub/", Origins: []string{"http://origin.example/"},
				Repositories: []directorapi.Repository{{Path: "os/", Kind: directorapi.KindRPM}},
			},
		},
	}
	v := new(current)
	for i := range mirrors {
		name := fmt.Sprintf("m%d", i)
		h, err := known.Holder(name)
		if err != nil {
			t.Fatal(err)
		}
		switch i {
		case 0:
			list(h, "iso/")
		case mirrors - 1: // nobody knows
		default:
			list(h, "")
		}
		if i == 1 {
			v.set = inventory.SetOf(h)
		}
		c.Mirrors = append(c.Mirrors, directorapi.Mirror{Name: name, Site: "s", Carries: []directorapi.Carried{{Project: "pub", HTTP: "http://" + name + ".example/"}}})
	}
	n, projects := network.New(network.Sources{Catalogue: c, Inventory: &known, Versions: v})
	return redirect.NewData(projects, n)
}

func ask(target string) *redirect.Request {
	return &redirect.Request{Target: target, Client: netip.MustParseAddr("192.0.2.7"), Now: time.Unix(1_800_000_000, 0)}
}

// Mirrors are used for what they have, and for nothing else.
func TestWhoIsUsed(t *testing.T) {
	d := world(t, 4, 0)
	var a redirect.Answer
	for target, want := range map[string]string{
		"/pub/iso/a.iso":                    "m1 m2 | m0 no_file, m3 doubtful",
		"/pub/os/Packages/p-1-1.x86_64.rpm": "m0 m1 m2 | m3 doubtful",
		"/pub/os/repodata/repomd.xml":       "m1 | m0 not_current, m2 not_current, m3 doubtful",
		"/pub/none":                         " | m0 no_file, m1 no_file, m2 no_file, m3 doubtful",
		"/pub/iso/":                         "m1 m2 | m0 no_file, m3 doubtful",
		"/pub/os/":                          "m1 | m0 not_current, m2 not_current, m3 doubtful",
		"/pub/":                             "m1 | m0 not_current, m2 not_current, m3 doubtful",
		"/pub/os/Packages/":                 "m0 m1 m2 | m3 doubtful",
	} {
		a.Make(d, ask(target+"?why=html"))
		if a.Page == nil {
			t.Fatalf("%s: %d %s", target, a.Status, a.Reason)
		}
		used := map[string]bool{}
		var not []string
		for _, m := range a.Page.Mirrors {
			if m.Excluded == "" {
				used[m.Mirror] = true
				continue
			}
			not = append(not, m.Mirror+" "+m.Excluded)
			if m.Excluded == "not_current" && (!strings.Contains(m.Detail, "is behind with "+pointer) || m.Since.IsZero()) {
				t.Errorf("%s: %+v", target, m)
			}
		}
		var names []string
		for i := range 4 {
			if name := fmt.Sprintf("m%d", i); used[name] {
				names = append(names, name)
			}
		}
		if got := strings.Join(names, " ") + " | " + strings.Join(not, ", "); got != want {
			t.Errorf("%s: %s, want %s", target, got, want)
		}
	}
	if a.Make(d, ask("/off/x")); a.Reason != redirect.UnknownProject {
		t.Errorf("a project that is disabled: %d %s", a.Status, a.Reason)
	}
}

func TestRedirectMakesNoGarbage(t *testing.T) {
	d := world(t, 60, 0)
	var a redirect.Answer
	r := ask("/pub/iso/a.iso")
	if n := testing.AllocsPerRun(1000, func() { a.Make(d, r) }); n >= 1 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkRedirect sends clients to one of 60 mirrors with 100,000 files.
func BenchmarkRedirect(b *testing.B) {
	d := world(b, 60, 100_000)
	var a redirect.Answer
	r := ask("/pub/many/500/500.rpm")
	for i := 0; b.Loop(); i++ {
		r.Client = netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		if a.Make(d, r); a.Outcome != redirect.ToMirror {
			b.Fatal(a.Outcome)
		}
	}
}
