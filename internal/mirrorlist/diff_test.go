package mirrorlist_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"freshet/internal/mirrorlist"
)

func TestDiff(t *testing.T) {
	old := small(t)
	if changes := slices.Collect(mirrorlist.Diff(old, read(t, encode(t, old)))); len(changes) > 0 {
		t.Errorf("a snapshot differs from itself: %+v", changes)
	}
	b := smallBuilder()
	b.SetTime(1800000000)
	b.AddURL(99, "https://new.example")
	b.AddBandwidth(77, 10)
	b.AddRedirect("s", "r-1")
	b.AddFile("pub/x", "f", []mirrorlist.Version{{Timestamp: 1, Size: 2, MD5: "m"}, {SHA256: "s"}})
	b.AddDirectory("pub/new", "new", b.Mirrors(mirrorlist.Mirrors{URLs: []mirrorlist.HostURLs{{Host: 1, URLs: []int64{10}}}}))
	s, err := b.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	want := []mirrorlist.Change{
		{Table: "HCUrlCache", Key: "99", InNew: true, New: "https://new.example"},
		{Table: "FileDetailsCache", Key: "pub/x/f", InNew: true, New: "time 1 size 2 md5 m, then time 0 size 0 sha256 s"},
		{Table: "RepositoryRedirectCache", Key: "s", InNew: true, New: "r-1"},
		{Table: "HostBandwidthCache", Key: "77", InNew: true, New: "10"},
		{Table: "MirrorListCache", Key: "pub/new", InNew: true, New: "host 1 = 10"},
	}
	if diff := cmp.Diff(want, slices.Collect(mirrorlist.Diff(old, s))); diff != "" {
		t.Error(diff)
	}
	for i := range want {
		want[i].InOld, want[i].InNew, want[i].Old, want[i].New = want[i].InNew, want[i].InOld, want[i].New, want[i].Old
	}
	if diff := cmp.Diff(want, slices.Collect(mirrorlist.Diff(s, old))); diff != "" {
		t.Error(diff)
	}
}

// Of a directory that has other mirrors, Diff tells which.
func TestDiffDirectory(t *testing.T) {
	snapshot := func(subpath string, m mirrorlist.Mirrors) *mirrorlist.Snapshot {
		b := mirrorlist.NewBuilder()
		b.AddDirectory("d/e", subpath, b.Mirrors(m))
		s, err := b.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	old := snapshot("e", mirrorlist.Mirrors{
		Global:    []int64{1, 2},
		ByCountry: []mirrorlist.CountryHosts{{Code: "DE", Hosts: []int64{1, 2}}},
		URLs:      []mirrorlist.HostURLs{{Host: 1, URLs: []int64{10, 11}}, {Host: 2, URLs: []int64{12}}},
	})
	other := snapshot("x", mirrorlist.Mirrors{
		Global:    []int64{1, 3},
		ByCountry: []mirrorlist.CountryHosts{{Code: "DE", Hosts: []int64{1}}, {Code: "AT", Hosts: []int64{3}}},
		Internet2: []mirrorlist.CountryHosts{{Code: "AT", Hosts: []int64{3}}},
		URLs:      []mirrorlist.HostURLs{{Host: 1, URLs: []int64{11, 10}}, {Host: 3, URLs: []int64{13}}},
	})
	want := []mirrorlist.Change{{
		Table: "MirrorListCache", Key: "d/e", InOld: true, InNew: true,
		Old: "DE 2, global 2, host 1 = 10 11, host 2 = 12 subpath e",
		New: "AT 3, global 3, host 1 = 11 10, host 3 = 13, internet2 AT 3 subpath x",
	}}
	if diff := cmp.Diff(want, slices.Collect(mirrorlist.Diff(old, other))); diff != "" {
		t.Error(diff)
	}
	for range mirrorlist.Diff(small(t), old) {
		break // after the first one
	}
}

func TestStat(t *testing.T) {
	b := smallBuilder()
	b.AddRepository("lost+x86_64", "nowhere")
	b.AddNetblock("x/y", nil)
	b.AddDirectory("pub/empty", "empty", b.Mirrors(mirrorlist.Mirrors{}))
	s, err := b.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	want := mirrorlist.Stat{
		Time: 1700000000, Hosts: 3, PublicHosts: 2, PrivateHosts: 1, Countries: 2,
		URLs: 5, Schemes: map[string]int{"http": 2, "https": 2, "rsync": 1},
		Directories: 4, MirrorSets: 3, Without: 1, Fewest: 1, Median: 3, Most: 3,
		Files: 1, Versions: 2, Repositories: 2, Lost: 1, Disabled: 1, Redirects: 1, ASNs: 1, Netblocks: 5, Problems: 1,
	}
	if diff := cmp.Diff(want, s.Stat()); diff != "" {
		t.Error(diff)
	}
}
