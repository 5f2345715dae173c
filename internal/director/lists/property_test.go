package lists_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"freshet/internal/director/lists"
	"freshet/internal/geoip"
	"freshet/internal/metalink"
	"freshet/internal/mirrorlist"
)

// anyNetwork is a network by chance, and what is true of it.
func anyNetwork(t *testing.T, rng *rand.Rand, opt lists.Options) (*lists.Data, map[string]host) {
	t.Helper()
	n := &network{Builder: mirrorlist.NewBuilder()}
	countries := []string{"DE", "AT", "CH", "US", "CA", "JP"}
	continents, err := geoip.ParseContinents(strings.NewReader("DE,EU\nAT,EU\nCH,EU\nUS,NA\nCA,NA\n"))
	if err != nil {
		t.Fatal(err)
	}
	n.sources.Continents = continents
	byName := make(map[string]host)
	var have []int64
	for id := range int64(1 + rng.IntN(30)) {
		h := host{id: id * 7, country: countries[rng.IntN(len(countries))], private: rng.IntN(3) == 0, bandwidth: rng.Int64N(4) * 1000}
		for _, scheme := range []string{"http", "https", "rsync", "ftp"} {
			if rng.IntN(2) == 0 {
				h.urls = append(h.urls, fmt.Sprintf("%s://h%d.example/p", scheme, h.id))
			}
		}
		if len(h.urls) == 0 {
			h.urls = []string{fmt.Sprintf("https://h%d.example", h.id)}
		}
		n.hosts = append(n.hosts, h)
		byName[fmt.Sprintf("h%d.example", h.id)] = h
		if rng.IntN(3) > 0 {
			have = append(have, h.id)
		}
		switch rng.IntN(6) {
		case 0:
			n.AddNetblock(fmt.Sprintf("10.0.0.0/%d", 8+rng.IntN(20)), []int64{h.id})
		case 1:
			n.AddAllowedCountries(h.id, []string{countries[rng.IntN(len(countries))]})
		}
	}
	n.AddASN(64500, []int64{0, 7, 21})
	n.AddNetblockCountry("10.0.0.0/24", countries[rng.IntN(len(countries))])
	n.AddRepository("some+x86_64", "top/some")
	n.directories(have, "top/some", "top/some/repodata")
	n.AddFile("top/some/repodata", "repomd.xml", []mirrorlist.Version{{Size: 1}})
	n.sources.Netblocks, err = geoip.ParseNetblocks(strings.NewReader("10.0.0.0/16 64500\n"))
	if err != nil {
		t.Fatal(err)
	}
	d := n.data(t, opt)
	for name, h := range byName {
		if !slices.Contains(have, h.id) {
			delete(byName, name)
		}
	}
	return d, byName
}

// What holds of every answer of every network: the same twice; each mirror once, and
// only mirrors that have the directory; private ones to those alone who are near by
// netblock or system; preferences that fall.
func TestProperties(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 2))
	params := []string{"", "&country=de", "&country=us,global", "&country=zz", "&netblock=0", "&protocol=https", "&protocol=rsync,http", "&time=1"}
	for round := range 3000 {
		opt := lists.Options{Minimum: rng.IntN(12), PreferHTTPS: rng.IntN(2) == 0, Strict: rng.IntN(2) == 0}
		d, have := anyNetwork(t, rng, opt)
		query := "?repo=some&arch=x86_64" + params[rng.IntN(len(params))]
		near := !strings.Contains(query, "country") && !strings.Contains(query, "netblock")
		r := lists.Request{Target: "/metalink" + query, Peer: netip.AddrFrom4([4]byte{10, 0, byte(rng.IntN(2)), byte(rng.IntN(256))}), Seed: rng.Uint64()}
		a := asked(d, &r)
		if a.Status != 200 {
			if len(have) > 0 {
				t.Fatalf("round %d: %d %s", round, a.Status, a.Body)
			}
			continue
		}
		files, err := metalink.Parse(bytes.NewReader(a.Body))
		if err != nil || len(files) != 1 {
			t.Fatalf("round %d: %v\n%s", round, err, a.Body)
		}
		seen, last := make(map[string]int), 0
		for _, u := range files[0].URLs {
			_, rest, _ := strings.Cut(u.Base, "://")
			name, path, _ := strings.Cut(rest, "/")
			h, ok := have[name]
			switch {
			case !ok:
				t.Errorf("round %d: %s does not have the directory", round, name)
			case h.private != u.Private, h.country != u.Location:
				t.Errorf("round %d: %s is told to be %+v, and is %+v", round, name, u, h)
			case h.private && !near:
				t.Errorf("round %d: %s is private", round, name)
			case !strings.HasSuffix(path, "some/repodata/repomd.xml"):
				t.Errorf("round %d: %s", round, u.Base)
			case u.Priority < last:
				t.Errorf("round %d: preferences do not fall", round)
			case seen[name] != 0 && seen[name] != u.Priority:
				t.Errorf("round %d: %s is there twice", round, name)
			}
			seen[name], last = u.Priority, u.Priority
		}
		if again := asked(d, &r); !bytes.Equal(again.Body, a.Body) {
			t.Errorf("round %d: another answer to the same request", round)
		}
		if strings.Contains(query, "protocol") || strings.Contains(query, "country") {
			continue
		}
		// A list has the same mirrors in the same order: their first URLs of a fit kind.
		r.Target = "/mirrorlist" + query
		_, urls := told(asked(d, &r))
		for _, u := range urls {
			_, rest, _ := strings.Cut(u, "://")
			name, _, _ := strings.Cut(rest, "/")
			if seen[name] == 0 && !strings.HasPrefix(u, "#") {
				t.Errorf("round %d: %s is in the list alone", round, name)
			}
		}
		public := 0
		for _, h := range have {
			if !h.private {
				public++
			}
		}
		if !opt.Strict {
			continue
		}
		if len(seen) < min(opt.Minimum, public) && !restricted(d, have) {
			t.Errorf("round %d: %d mirrors of %d, want %d", round, len(seen), public, opt.Minimum)
		}
	}
}

// restricted reports whether a mirror is for some countries only.
func restricted(d *lists.Data, have map[string]host) bool {
	for _, h := range have {
		if n, ok := d.Snapshot.HostByID(h.id); ok && d.Snapshot.AllowedCountries(n) != nil {
			return true
		}
	}
	return false
}

// Whatever is asked, by whatever is said of the client, there is one whole answer: of a
// status that the protocol has, without a line of the asker's in it.
func FuzzRequest(f *testing.F) {
	f.Add("/mirrorlist?repo=r-1&arch=x86_64&country=at,de,global&protocol=http,https&time", "198.51.100.1, 10.1.2.3", uint64(1))
	f.Add("/metalink?path=pub/r/%0aa&ip=10.0.0.1", "", uint64(2))
	f.Add("/a/metalink?repo=--%3E&arch=&redirect", "x", uint64(3))
	f.Add("/mirrorlist?path=//pub//r/a.iso/&redirect&protocol=,,,&country=,%2c", "::1", uint64(4))
	n := world()
	n.AddFile("pub/r", "a.iso", []mirrorlist.Version{{Timestamp: 2, Size: 20, SHA256: "bb"}})
	var all []*lists.Data
	snapshot := n.data(f, lists.Options{Minimum: 2})
	for _, opt := range []lists.Options{{}, {Minimum: 5, Strict: true}, {Minimum: 3, PreferHTTPS: true}} {
		all = append(all, lists.NewData(snapshot.Sources, opt))
	}
	known := make(map[string]bool)
	for _, h := range n.hosts {
		for _, u := range h.urls {
			known[u] = true
		}
	}
	statuses := []int{200, 302, 404, 500}
	f.Fuzz(func(t *testing.T, target, forwarded string, seed uint64) {
		for _, d := range all {
			a := asked(d, &lists.Request{Target: target, Forwarded: forwarded, HasForwarded: forwarded != "", Peer: inDE, Seed: seed})
			if !slices.Contains(statuses, a.Status) || a.Status == 302 != (len(a.Location) > 0) {
				t.Errorf("%d, to %q", a.Status, a.Location)
			}
			if bytes.ContainsFunc(a.Location, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
				t.Errorf("to %q", a.Location)
			}
			switch {
			case a.Type == metalink.TypeV3:
				if _, err := metalink.Parse(bytes.NewReader(a.Body)); err != nil && a.Reason == "" {
					t.Errorf("%v\n%s", err, a.Body)
				}
			case a.Type == "text/plain" && a.Status == 200:
				for line := range strings.Lines(string(a.Body)) {
					base, _, _ := strings.Cut(strings.TrimPrefix(line, "http://"), "/")
					if !strings.HasPrefix(line, "#") && !known["http://"+base] {
						t.Errorf("%q is no mirror", line)
					}
				}
			}
			if a.Counted && strings.Count(string(a.AppendLine(nil, made)), "\n") != 1+strings.Count(a.Repo+a.Arch, "\n") {
				t.Error("more than one line")
			}
		}
	})
}
