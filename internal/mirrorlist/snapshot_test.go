package mirrorlist_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"freshet/internal/mirrorlist"
)

// small is the network that docs/formats/mirrorlist-snapshot.md tells of: two public
// hosts and a private one, and two directories.
func small(tb testing.TB) *mirrorlist.Snapshot {
	tb.Helper()
	s, err := smallBuilder().Snapshot()
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func smallBuilder() *mirrorlist.Builder {
	b := mirrorlist.NewBuilder()
	b.SetTime(1700000000)
	for id, base := range []string{"http://a.de/pub", "https://a.de/pub", "rsync://a.de/pub", "https://b.at/p", "http://c.lan/p"} {
		b.AddURL(int64(id+10), base)
	}
	for id, country := range []string{"DE", "AT", "DE"} {
		b.AddHostCountry(int64(id+1), country)
		b.AddBandwidth(int64(id+1), int64(100*(id+1)))
		b.AddMaxConnections(int64(id+1), 1)
	}
	b.AddAllowedCountries(2, []string{"AT", "CH"})
	b.AddASN(3320, []int64{1, 3})
	b.AddNetblock("10.0.0.0/8", []int64{3})
	b.AddNetblock("10.1.2.77/16", []int64{1})
	b.AddNetblock("10.1.2.3", []int64{2})
	b.AddNetblock("2001:db8::/32", []int64{2})
	b.AddNetblockCountry("192.0.2.0/24", "CH")
	b.AddNetblockCountry("192.0.2.128/25", "AT")
	b.AddRepository("r-1+x86_64", "pub/r")
	b.AddRedirect("r", "r-1")
	b.AddDisabled("old", true)
	b.AddContinent("IL", "EU")
	set := b.Mirrors(mirrorlist.Mirrors{
		Global:    []int64{1, 2},
		ByCountry: []mirrorlist.CountryHosts{{Code: "DE", Hosts: []int64{1}}, {Code: "AT", Hosts: []int64{2}}},
		Internet2: []mirrorlist.CountryHosts{{Code: "DE", Hosts: []int64{3}}},
		URLs:      []mirrorlist.HostURLs{{Host: 3, URLs: []int64{14}}, {Host: 1, URLs: []int64{10, 11, 12}}, {Host: 2, URLs: []int64{13}}},
	})
	b.AddDirectory("pub/r/repodata", "r/repodata", set)
	b.AddDirectory("pub/r", "r", set)
	b.AddDirectory("pub", "", b.Mirrors(mirrorlist.Mirrors{Global: []int64{2}, URLs: []mirrorlist.HostURLs{{Host: 2, URLs: []int64{13}}}}))
	b.AddFile("pub/r/repodata", "repomd.xml", []mirrorlist.Version{
		{Timestamp: 1699999000, Size: 2046, SHA256: strings.Repeat("ab", 32), SHA512: strings.Repeat("cd", 64)},
		{Timestamp: 1699990000, Size: 2040, MD5: strings.Repeat("0", 32), SHA1: strings.Repeat("1", 40)},
	})
	return b
}

// ids turns hosts into their ids, sorted.
func ids(s *mirrorlist.Snapshot, hosts []mirrorlist.Host) []int64 {
	var ids []int64
	for _, h := range hosts {
		ids = append(ids, s.HostID(h))
	}
	slices.Sort(ids)
	return ids
}

func TestDirectory(t *testing.T) {
	s := small(t)
	d, ok := s.Directory("pub/r")
	if !ok {
		t.Fatal("pub/r is not found")
	}
	if d.Name() != "pub/r" || d.Subpath() != "r" {
		t.Errorf("name %q, subpath %q", d.Name(), d.Subpath())
	}
	if diff := cmp.Diff([]int64{1, 2}, ids(s, d.Global())); diff != "" {
		t.Errorf("global: %s", diff)
	}
	for code, want := range map[string][]int64{"DE": {1}, "AT": {2}} {
		c, ok := s.Country(code)
		if !ok || s.CountryCode(c) != code {
			t.Fatalf("country %s: %v", code, ok)
		}
		if diff := cmp.Diff(want, ids(s, d.Country(c))); diff != "" {
			t.Errorf("%s: %s", code, diff)
		}
	}
	if _, ok := s.Country("CH"); ok {
		t.Error("a country without mirrors is found")
	}
	for id, want := range map[int64]string{1: "http://a.de/pub https://a.de/pub rsync://a.de/pub", 2: "https://b.at/p", 3: "http://c.lan/p"} {
		h, _ := s.HostByID(id)
		urls, ok := d.URLs(h)
		var bases []string
		for _, u := range urls {
			bases = append(bases, s.URL(u))
		}
		if got := strings.Join(bases, " "); !ok || got != want {
			t.Errorf("host %d: %q, want %q", id, got, want)
		}
		if d.IsGlobal(h) != (id != 3) {
			t.Errorf("host %d: global is %v", id, d.IsGlobal(h))
		}
	}
	repodata, _ := s.Directory("pub/r/repodata")
	if repodata.Mirrors() != d.Mirrors() || s.NumMirrorSets() != 2 {
		t.Errorf("two directories on the same mirrors have sets %d and %d of %d", repodata.Mirrors(), d.Mirrors(), s.NumMirrorSets())
	}
	top, _ := s.Directory("pub")
	for _, id := range []int64{1, 3} {
		h, _ := s.HostByID(id)
		if _, ok := top.URLs(h); ok || top.Subpath() != "" {
			t.Errorf("host %d has the top directory", id)
		}
	}
	if _, ok := s.Directory("pub/x"); ok {
		t.Error("an unknown directory is found")
	}
}

// A set of mirrors is one, whatever the order of its hosts; that of their URLs matters.
func TestMirrorSets(t *testing.T) {
	b := mirrorlist.NewBuilder()
	urls := []mirrorlist.HostURLs{{Host: 1, URLs: []int64{10, 11}}, {Host: 2, URLs: []int64{12}}}
	first := b.Mirrors(mirrorlist.Mirrors{Global: []int64{1, 2}, URLs: urls})
	if again := b.Mirrors(mirrorlist.Mirrors{Global: []int64{2, 1}, URLs: []mirrorlist.HostURLs{urls[1], urls[0]}}); again != first {
		t.Errorf("in another order set %d is %d", first, again)
	}
	others := []mirrorlist.Mirrors{
		{Global: []int64{1}, URLs: urls},
		{Global: []int64{1, 2}, URLs: urls[:1]},
		{Global: []int64{1, 2}, URLs: []mirrorlist.HostURLs{{Host: 1, URLs: []int64{11, 10}}, urls[1]}},
		{Global: []int64{1, 2}, URLs: urls, ByCountry: []mirrorlist.CountryHosts{{Code: "DE", Hosts: []int64{1, 2}}}},
		{Global: []int64{1, 2}, URLs: urls, Internet2: []mirrorlist.CountryHosts{{Code: "DE", Hosts: []int64{1, 2}}}},
	}
	for i, m := range others {
		if set := b.Mirrors(m); set != first+1+mirrorlist.MirrorSet(i) {
			t.Errorf("%+v is set %d", m, set)
		}
	}
}

func TestHostsAndRepositories(t *testing.T) {
	s := small(t)
	h, _ := s.HostByID(2)
	if s.HostCountry(h) != "AT" || s.Bandwidth(h) != 200 || !s.Allows(h, "CH") || s.Allows(h, "DE") {
		t.Errorf("host 2: %s, %d, allows %q", s.HostCountry(h), s.Bandwidth(h), s.AllowedCountries(h))
	}
	if h, _ := s.HostByID(1); !s.Allows(h, "ZZ") {
		t.Error("host 1 has no list of countries and refuses one")
	}
	if _, ok := s.HostByID(4); ok {
		t.Error("host 4 is found")
	}
	if diff := cmp.Diff([]int64{1, 3}, ids(s, s.ASNHosts(3320))); diff != "" || s.ASNHosts(1) != nil {
		t.Errorf("hosts of an AS: %s", diff)
	}
	if dir, ok := s.RepositoryDirectory("r-1", "x86_64"); dir != "pub/r" || !ok {
		t.Errorf("directory of r-1: %q", dir)
	}
	if _, ok := s.RepositoryDirectory("r-1", strings.Repeat("x", 200)); ok {
		t.Error("found the directory of an unknown architecture")
	}
	if to, _ := s.Redirect("r"); to != "r-1" || !s.Disabled("old") || s.Disabled("r-1") {
		t.Errorf("r is %q; old disabled: %v", to, s.Disabled("old"))
	}
	versions := s.Versions("pub/r/repodata", "repomd.xml")
	if len(versions) != 2 || versions[0].Timestamp != 1699999000 || versions[1].SHA1 == "" {
		t.Errorf("versions: %+v", versions)
	}
	if s.Versions("pub/r/repodata", "other") != nil || s.Versions("pub", "repomd.xml") != nil {
		t.Error("unknown files have versions")
	}
}

func TestNetblocks(t *testing.T) {
	s := small(t)
	tests := map[string]string{
		"10.1.2.3":        "10.1.2.3/32[2] 10.1.0.0/16[1] 10.0.0.0/8[3]",
		"10.1.9.9":        "10.1.0.0/16[1] 10.0.0.0/8[3]",
		"11.0.0.1":        "",
		"2001:db8::1":     "2001:db8::/32[2]",
		"::ffff:10.1.2.3": "", // not an IPv4 address
	}
	for addr, want := range tests {
		var got []string
		for prefix, hosts := range s.Netblocks(netip.MustParseAddr(addr)) {
			got = append(got, fmt.Sprintf("%v%v", prefix, ids(s, hosts)))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %q", addr, got, want)
		}
	}
	for addr, want := range map[string]string{"192.0.2.1": "CH", "192.0.2.129": "AT", "192.0.3.1": "", "::ffff:192.0.2.1": ""} {
		if got, ok := s.NetblockCountry(netip.MustParseAddr(addr)); got != want || ok != (want != "") {
			t.Errorf("%s is in %q, want %q", addr, got, want)
		}
	}
}

// The zero value and an empty snapshot answer every question with nothing.
func TestEmpty(t *testing.T) {
	s, err := mirrorlist.NewBuilder().Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*mirrorlist.Snapshot{s, new(mirrorlist.Snapshot)} {
		if _, ok := s.Directory(""); ok || s.Versions("", "") != nil || s.NumHosts() != 0 {
			t.Error("an empty snapshot has something")
		}
		for range s.Netblocks(netip.MustParseAddr("10.0.0.1")) {
			t.Error("an empty snapshot has netblocks")
		}
	}
}

// Look-ups are made for every request, and leave no garbage.
func TestLookupsDoNotAllocate(t *testing.T) {
	s := small(t)
	addr := netip.MustParseAddr("10.1.2.3")
	found := 0
	allocs := testing.AllocsPerRun(100, func() {
		name, _ := s.RepositoryDirectory("r-1", "x86_64")
		d, _ := s.Directory(name)
		c, _ := s.Country("DE")
		for _, h := range d.Country(c) {
			urls, _ := d.URLs(h)
			found += len(urls)
		}
		for _, hosts := range s.Netblocks(addr) {
			found += len(hosts)
		}
		found += len(s.Versions("pub/r/repodata", "repomd.xml"))
	})
	if allocs != 0 {
		t.Errorf("%v allocations per request", allocs)
	}
	if found == 0 {
		t.Error("nothing was found")
	}
}
