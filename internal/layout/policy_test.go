package layout

import (
	"strings"
	"testing"
	"time"
)

func TestPolicyOf(t *testing.T) {
	t.Parallel()
	var (
		h62  = strings.Repeat("0a", 31)
		h64  = strings.Repeat("0a", 32)
		h128 = strings.Repeat("0a", 64)
		d    = 24 * time.Hour
		y    = 365 * d
	)
	type want struct {
		eco       Ecosystem
		class     Class
		immutable bool
		fresh     time.Duration
		swr, sie  time.Duration
		negative  time.Duration
		set       Set
		digest    string
	}
	forever := Forever
	unruled := want{negative: 5 * time.Second} // HTTP decides
	for _, c := range []struct {
		path string
		want want
	}{
		// OSTree
		{"/objects/0a/" + h62 + ".commit", want{EcoOSTree, Payload, true, y, 0, forever, 2 * time.Second, Set{}, h64}},
		{"/repo/stable/objects/0a/" + h62 + ".dirtree", want{EcoOSTree, Payload, true, y, 0, forever, 2 * time.Second, Set{}, h64}},
		{"/repo/objects/0a/" + h62 + ".dirmeta", want{EcoOSTree, Payload, true, y, 0, forever, 2 * time.Second, Set{}, h64}},
		{"/repo/objects/0a/" + h62 + ".filez", want{EcoOSTree, Payload, true, y, 0, forever, 2 * time.Second, Set{}, ""}},
		{"/repo/objects/0a/" + h62 + ".commitmeta", want{EcoOSTree, Pointer, false, 5 * time.Minute, time.Minute, d, time.Minute, Set{}, ""}},
		{"/repo/summary", want{EcoOSTree, Pointer, false, time.Minute, time.Minute, d, 2 * time.Second, Set{"summary", "/repo/"}, ""}},
		{"/summary.sig", want{EcoOSTree, Pointer, false, time.Minute, time.Minute, d, 2 * time.Second, Set{"summary", "/"}, ""}},
		{"/repo/summary.idx", want{EcoOSTree, Pointer, false, time.Minute, time.Minute, d, 2 * time.Second, Set{"summary-index", "/repo/"}, ""}},
		{"/repo/summaries/" + h64 + ".gz", want{EcoOSTree, Index, true, y, 0, forever, 2 * time.Second, Set{}, h64}},
		{"/repo/summaries/" + h64 + ".idx.sig", want{EcoOSTree, Index, true, y, 0, forever, 2 * time.Second, Set{}, ""}},
		{"/repo/summaries/" + h64 + "-" + h64 + ".delta", want{EcoOSTree, Index, true, y, 0, forever, 2 * time.Second, Set{}, ""}},
		{"/repo/deltas/aB/cd_Ef-gH1234/superblock", want{EcoOSTree, Payload, true, 30 * d, 0, forever, 5 * time.Second, Set{}, ""}},
		{"/repo/deltas/aB/cd_Ef-gH1234/12", want{EcoOSTree, Payload, true, 30 * d, 0, forever, 5 * time.Second, Set{}, ""}},
		{"/repo/delta-indexes/aB/cd.index", want{EcoOSTree, Pointer, false, time.Minute, time.Minute, d, 2 * time.Second, Set{}, ""}},
		{"/repo/refs/heads/app/org.x/x86_64/stable", want{EcoOSTree, Pointer, false, time.Minute, time.Minute, d, 2 * time.Second, Set{}, ""}},
		{"/repo/config", want{EcoOSTree, Pointer, false, time.Hour, time.Minute, d, 2 * time.Second, Set{}, ""}},
		// rpm-md
		{"/tree/os/repodata/repomd.xml", want{EcoRPM, Pointer, false, 2 * time.Minute, time.Minute, d, 2 * time.Second, Set{"repomd", "/tree/os/"}, ""}},
		{"/repodata/repomd.xml.asc", want{EcoRPM, Pointer, false, 2 * time.Minute, time.Minute, d, 2 * time.Second, Set{"repomd", "/"}, ""}},
		{"/os/repodata/" + h64 + "-primary.xml.gz", want{EcoRPM, Index, true, y, 0, forever, 2 * time.Second, Set{}, h64}},
		{"/os/repodata/" + h128 + "-primary.xml.zst", want{EcoRPM, Index, true, y, 0, forever, 2 * time.Second, Set{}, h128}},
		{"/os/repodata/" + h64[:40] + "-primary.xml.gz", want{EcoRPM, Index, true, y, 0, forever, 2 * time.Second, Set{}, ""}},
		{"/os/repodata/primary.xml.gz", want{EcoRPM, Index, false, 2 * time.Minute, time.Minute, d, 2 * time.Second, Set{"repomd", "/os/"}, ""}},
		{"/os/Packages/b/bash-5.rpm", want{EcoRPM, Payload, true, 7 * d, 0, forever, 5 * time.Second, Set{}, ""}},
		// apt
		{"/debian/dists/bookworm/InRelease", want{EcoApt, Pointer, false, time.Minute, time.Minute, d, 2 * time.Second, Set{"release", "/debian/dists/bookworm/"}, ""}},
		{"/dists/bookworm/main/binary-amd64/Packages.xz", want{EcoApt, Index, false, time.Minute, time.Minute, d, 2 * time.Second, Set{"release", "/dists/bookworm/"}, ""}},
		{"/dists/bookworm/main/binary-amd64/by-hash/SHA256/" + h64, want{EcoApt, Index, true, y, 0, forever, 2 * time.Second, Set{}, h64}},
		{"/dists/bookworm/main/by-hash/MD5Sum/" + h64[:32], want{EcoApt, Index, true, y, 0, forever, 2 * time.Second, Set{}, ""}},
		{"/debian/pool/main/b/bash/bash_5.deb", want{EcoApt, Payload, true, 30 * d, 0, forever, 5 * time.Second, Set{}, ""}},
		{"/flat/Release.gpg", want{EcoApt, Pointer, false, time.Minute, time.Minute, d, 2 * time.Second, Set{"release", "/flat/"}, ""}},
		// pacman
		{"/core/os/x86_64/core.db", want{EcoPacman, Pointer, false, time.Minute, time.Minute, d, 2 * time.Second, Set{"pacman", "/core/os/x86_64/core.db"}, ""}},
		{"/core/os/x86_64/core.db.sig", want{EcoPacman, Pointer, false, time.Minute, time.Minute, d, 5 * time.Minute, Set{"pacman", "/core/os/x86_64/core.db"}, ""}},
		{"/core/os/x86_64/core.db.tar.gz", want{EcoPacman, Pointer, false, time.Minute, time.Minute, d, 2 * time.Second, Set{"pacman", "/core/os/x86_64/core.db"}, ""}},
		{"/core/os/x86_64/core.files.sig", want{EcoPacman, Pointer, false, time.Minute, time.Minute, d, 5 * time.Minute, Set{"pacman", "/core/os/x86_64/core.files"}, ""}},
		{"/core/os/x86_64/bash-5-1-x86_64.pkg.tar.zst", want{EcoPacman, Payload, true, 7 * d, 0, forever, 5 * time.Second, Set{}, ""}},
		{"/core/os/x86_64/bash-5-1-x86_64.pkg.tar.zst.sig", want{EcoPacman, Payload, true, 7 * d, 0, forever, 5 * time.Minute, Set{}, ""}},
		{"/debian/project/trace/master", want{EcoMedia, Pointer, false, 30 * time.Second, 0, time.Hour, 2 * time.Second, Set{}, ""}},
		{"/lastsync", want{EcoMedia, Pointer, false, 30 * time.Second, 0, time.Hour, 2 * time.Second, Set{}, ""}},
		// apk and media
		{"/v3/main/x86_64/APKINDEX.tar.gz", want{EcoApk, Pointer, false, time.Minute, time.Minute, d, 2 * time.Second, Set{"apkindex", "/v3/main/x86_64/"}, ""}},
		{"/iso/fedora-42.iso", want{EcoMedia, Payload, true, 30 * d, 0, forever, 5 * time.Second, Set{}, ""}},
		{"/os/images/pxeboot/initrd.img", unruled},
		{"/os/images/install.img", unruled},
		{"/os/images/boot.iso", unruled},
		{"/iso/Fedora-Current.iso", want{EcoMedia, Pointer, false, time.Minute, time.Minute, d, 2 * time.Second, Set{}, ""}},
		{"/kali/current.iso", want{EcoMedia, Pointer, false, time.Minute, time.Minute, d, 2 * time.Second, Set{}, ""}},
		{"/archlinux/iso/latest/archlinux-x86_64.iso", want{EcoMedia, Pointer, false, time.Minute, time.Minute, d, 2 * time.Second, Set{}, ""}},
		{"/debian-12-generic-amd64-daily.qcow2", want{EcoMedia, Pointer, false, time.Minute, time.Minute, d, 2 * time.Second, Set{}, ""}},
		{"/cd/weekly-builds/amd64/debian-testing-amd64-netinst-1.iso", want{EcoMedia, Pointer, false, time.Minute, time.Minute, d, 2 * time.Second, Set{}, ""}},
		{"/iso/concurrent-1.iso", want{EcoMedia, Payload, true, 30 * d, 0, forever, 5 * time.Second, Set{}, ""}},
	} {
		p := PolicyOf(c.path)
		got := want{p.Ecosystem, p.Class, p.Immutable, p.Fresh, p.Revalidate, p.OnError, p.Negative, p.Set, p.Digest.Value()}
		if got != c.want {
			t.Errorf("%s:\n got %+v\nwant %+v", c.path, got, c.want)
		}
	}
}

func TestPolicyOfLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	for _, path := range []string{
		"", "/", "/index.html", "/objects/", "/objects/0a/short.commit", "/objects/0a/" + strings.Repeat("Z", 62) + ".commit",
		"/objects/0a/" + strings.Repeat("0a", 31) + ".php", "/summaries/x.gz", "/deltas/superblock", "/api/v1/events",
		"/summary.php", "/core.dbx", "/.db", "/refs/other/x", "/dists", "summary",
	} {
		if p := PolicyOf(path); p.Ruled() || p.Fresh != 0 || p.Immutable || p.Negative != 5*time.Second {
			t.Errorf("%q has a rule: %+v", path, p)
		}
	}
}

func TestPolicyOfOptionalFiles(t *testing.T) {
	t.Parallel()
	object := "/objects/0a/" + strings.Repeat("0a", 31)
	for path, want := range map[string]bool{
		object + ".commitmeta": true, object + ".commit": false, object + ".filez": false,
		"/deltas/ab/" + strings.Repeat("c", 41) + "/superblock": true, "/deltas/ab/" + strings.Repeat("c", 41) + "/0": false,
		"/delta-indexes/ab/" + strings.Repeat("c", 41) + ".index": true,
		"/summary": false, "/summary.sig": true, "/summary.idx": true, "/refs/heads/x": false,
		"/repodata/repomd.xml": false, "/repodata/repomd.xml.asc": true, "/a.rpm": false,
		"/dists/sid/InRelease": true, "/dists/sid/Release": false, "/core.db": false, "/core.db.sig": true,
		"/index.html.asc": false,
	} {
		if got := PolicyOf(path).AbsentOnError > 0; got != want {
			t.Errorf("%s: absence told while the origin is away: %v, want %v", path, got, want)
		}
	}
}

func TestPolicyPassesPerClientAnswers(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/metalink", "/x/mirrorlist", "/mirrorlist.txt"} {
		if p := PolicyOf(path); !p.Pass {
			t.Errorf("%s: %+v is shared", path, p)
		}
	}
}

func TestClientCacheControl(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"/summary": "public, max-age=30",
		"/objects/0a/" + strings.Repeat("0a", 31) + ".filez": "public, max-age=31536000, immutable",
		"/a.rpm":      "public, max-age=86400",
		"/index.html": "",
	} {
		if got := PolicyOf(path).ClientCacheControl(); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}

// A policy must be a pure function of the path that panics on nothing, and
// what it returns must be consistent in itself.
func FuzzPolicyOf(f *testing.F) {
	for _, s := range []string{
		"/summary", "/objects/0a/" + strings.Repeat("0a", 31) + ".commit", "/dists//InRelease", "/dists/x", "//", "/a/refs/heads/x",
		"/repodata/" + strings.Repeat("a", 64) + "-x", "/x.db.sig", "/deltas/aa/b/superblock", "/superblock", "/aa/0", "/0/0",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		p := PolicyOf(path)
		if p.Set != (Set{}) && !strings.HasPrefix(path, p.Set.Root) {
			t.Errorf("%q: set root %q is not a prefix", path, p.Set.Root)
		}
		if p.Ruled() && !p.Pass && p.Fresh <= 0 {
			t.Errorf("%q: ruled without lifetime: %+v", path, p)
		}
		if p.Digest.Kind != NoDigest && (!p.Immutable || len(p.Digest.Value()) < 64) {
			t.Errorf("%q: %+v", path, p)
		}
		if p != PolicyOf("/any/prefix"+path) && p.Set == (Set{}) && strings.HasPrefix(path, "/") &&
			p.Ruled() && !strings.Contains(path, "//") {
			t.Errorf("%q: a prefix changes the policy: %+v, %+v", path, p, PolicyOf("/any/prefix"+path))
		}
	})
}

func TestPolicyOfDoesNotAllocate(t *testing.T) {
	path := "/repo/stable/objects/0a/" + strings.Repeat("0a", 31) + ".commit"
	if n := testing.AllocsPerRun(100, func() { _ = PolicyOf(path) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestPolicyOfLongPaths(t *testing.T) {
	const file = "/repodata/repomd.xml"
	for length, ruled := range map[int]bool{MaxPath: true, MaxPath + 1: false} {
		if p := PolicyOf("/" + strings.Repeat("x", length-len(file)-1) + file); p.Ruled() != ruled {
			t.Errorf("of %d bytes: %+v", length, p)
		}
	}
}
